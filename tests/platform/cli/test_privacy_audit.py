"""``wardround privacy audit`` as a person calls it, on a small private run."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from wardround.evaluation.report_json import dossier_from_json
from wardround.platform import privacy_audit
from wardround.platform.cli import app as app_module
from wardround.platform.demo_study import demo_study_values
from wardround.platform.run_folder import RunFolder
from wardround.platform.study_file import dump_study, parse_study

Cli = Callable[..., Any]
SMALL = {"canaries": 200, "guesses": 60, "steps": 12, "sample_rate": 0.3}


@pytest.fixture(scope="module")
def private_run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A finished private run of three small phantom sites; tests copy it."""
    folder = tmp_path_factory.mktemp("private")
    values = demo_study_values("brain", method="facmic", sites=3, rounds=2, seed=3, epsilon=8.0)
    values["data"]["images_per_site"] = 40
    file = folder / "study.toml"
    file.write_text(dump_study(parse_study(values, where=file)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WARDROUND_CACHE", str(cache))
        patch.setattr(sys, "argv", ["wardround", "run", str(file), "--out", str(folder / "run")])
        with contextlib.suppress(SystemExit):  # the summary below says whether the run went well
            app_module.main()
    assert json.loads((folder / "run" / "summary.json").read_bytes())["rounds"] == 2
    return folder / "run"


@pytest.fixture
def run(private_run: Path, tmp_path: Path) -> Path:
    """A copy that a test may write into."""
    return Path(shutil.copytree(private_run, tmp_path / "run", ignore=shutil.ignore_patterns("phantoms", "homes")))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer canaries and steps: full size takes half a minute."""
    monkeypatch.setattr(privacy_audit, "audit_run", partial(privacy_audit.audit_run, **SMALL))


def contents(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("quick")
def test_an_audit_for_people_is_recorded_and_shown(cli: Cli, run: Path) -> None:
    before = (run / "index.html").read_text()
    ended = cli("privacy", "audit", run)
    assert ended.code == 0, ended.err
    for words in ("delta 1e-05", "of 60 of 200", "95% sure", "could show", "AUC", "place of 500", "masked", "noised"):
        assert words in ended.out
    assert "not above what the accountant says" in ended.out
    assert str(run / "privacy-audit.json") in ended.out
    recorded = json.loads((run / "privacy-audit.json").read_bytes())
    assert recorded["epsilon"] == pytest.approx(8.0, rel=0.02)
    assert recorded["epsilon"] == recorded["full_epsilon"]
    assert recorded["divisor"] == 1.0
    assert recorded["unmasked"]["rank"] == 1
    audit = dossier_from_json((run / "dossier.json").read_bytes()).audit
    assert audit is not None
    assert (audit.canaries, audit.guesses, audit.gallery) == (200, 60, 500)
    page = (run / "index.html").read_text()
    assert "What attacks measured" in page
    assert "What attacks measured" not in before
    # Building the pages again keeps what was measured.
    assert cli("report", "build", run).code == 0
    assert (run / "index.html").read_text() == page


@pytest.mark.usefixtures("quick")
def test_an_audit_for_scripts_prints_what_it_records(cli: Cli, run: Path) -> None:
    ended = cli("privacy", "audit", run, "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == json.loads((run / "privacy-audit.json").read_bytes())


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("factor", ["8", "inf"])
def test_divided_noise_is_told_and_not_recorded(cli: Cli, run: Path, factor: str) -> None:
    before = contents(run)
    people, scripts = (cli("privacy", "audit", run, "--noise", factor, *more) for more in ((), ("--json",)))
    assert (people.code, scripts.code) == (0, 0), people.err + scripts.err
    assert "with all of the noise" in people.out
    assert "Such a fault is not found" in people.out  # at epsilon 8: so few guesses cannot show as much
    assert "even a perfect attack would have stayed below that" in people.out
    assert "Nothing was recorded" in people.out
    told = json.loads(scripts.out)
    assert told["epsilon"] is None
    assert told["divisor"] == (8.0 if factor == "8" else None)
    assert told["bound"]["lower_bound"] > 1.0
    assert contents(run) == before


def test_a_divisor_below_one_is_refused(cli: Cli, run: Path) -> None:
    cli("privacy", "audit", run, "--noise", "0.5").assert_explains("divided by 0.5", "--noise")


def test_runs_without_a_claim_are_refused(cli: Cli, run: Path, tmp_path: Path) -> None:
    plain = parse_study({"name": "plain", "data": {"dataset": "brain-mri", "path": "x"}}, where=tmp_path / "s.toml")
    folder = RunFolder.create(tmp_path / "plain", plain)
    cli("privacy", "audit", folder.root).assert_explains("without differential privacy", "privacy.epsilon")
    (run / "summary.json").unlink()
    cli("privacy", "audit", run).assert_explains("not complete", "--resume")
    cli("privacy", "audit", tmp_path / "none").assert_explains("no run here")


@pytest.mark.usefixtures("quick")
def test_a_damaged_card_is_refused(cli: Cli, run: Path) -> None:
    (run / "model" / "card.json").write_text("{}")
    cli("privacy", "audit", run).assert_explains("model card", "card.json")


@pytest.mark.slow
def test_the_whole_audit_of_a_run(cli: Cli, run: Path) -> None:
    ended = cli("privacy", "audit", run, "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert (found["bound"]["canaries"], found["bound"]["guesses"]) == (1000, 200)
    assert found["bound"]["lower_bound"] <= found["epsilon"]
