"""``wardround privacy``: what was spent, checked, as a table and as JSON; and what an epsilon will need."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.cli.privacy_tables import WIDTH, bar
from wardround.platform.run_folder import RunFolder
from wardround.platform.study_file import dump_study
from wardround.privacy.differential_privacy.accountant import epsilon_of

from ..private_runs import PLANNED, SITES, private_run, private_study

Cli = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return private_run(tmp_path / "run")


# --- show ----------------------------------------------------------------------------------------------------------


def test_show_for_people(cli: Cli, run: RunFolder) -> None:
    ended = cli("privacy", "show", run.root)
    assert ended.code == 0, ended.err
    assert "private: fedclip, 3 rounds planned, complete" in ended.out
    epsilon = epsilon_of([release for _, release in PLANNED], 1e-5)
    rows = [line.split() for line in ended.out.splitlines() if re.match(r" *amber +\d", line)]
    assert len(rows) == 1
    assert rows[0][:2] == ["amber", "40"]
    assert epsilon <= float(rows[0][2]) < epsilon + 0.001  # rounded up
    assert float(rows[0][3]) == 8.0
    assert 8.0 - epsilon - 0.001 < float(rows[0][4]) <= 8.0 - epsilon  # rounded down
    assert rows[0][5] == "1e-05"
    for said in ("class sums", "training, rounds 1 to 3", "2 each", "any one patient", "k sites spends k epsilons"):
        assert said in ended.out
    bars = [line for line in ended.out.splitlines() if re.match(r"\d \|", line)]
    assert [line[0] for line in bars] == ["0", "1", "2", "3"]
    assert [line.count("█") for line in bars] == sorted(line.count("█") for line in bars)
    assert bars[-1].count("█") == int(epsilon / 8 * WIDTH)


def test_show_for_scripts(cli: Cli, run: RunFolder) -> None:
    ended = cli("privacy", "show", run.root, "--json")
    shown = json.loads(ended.out)
    assert ended.code == 0
    assert (shown["private"], shown["study"], shown["unit"]) == (True, "private", "patient")
    assert (shown["rounds"], shown["complete"], list(shown["sites"])) == (3, True, list(SITES))
    site = shown["sites"]["birch"]
    assert site["units"] == 41
    assert site["epsilon"] == epsilon_of([release for _, release in PLANNED], 1e-5)
    assert site["left"] == 8.0 - site["epsilon"]
    assert (site["limit"], site["delta"], site["noise_multiplier"], site["sample_rate"]) == (8.0, 1e-5, 6.0, 1.0)
    assert site["steps"] == 6
    assert [row["key"] for row in site["releases"]] == [key for key, _ in PLANNED]
    assert site["releases"][-1]["epsilon_after"] == site["epsilon"]


def test_show_without_differential_privacy(cli: Cli, tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", private_study(epsilon=0.0))
    ended = cli("privacy", "show", tmp_path / "run")
    assert ended.code == 0
    assert "trained without differential privacy" in ended.out
    scripts = cli("privacy", "show", tmp_path / "run", "--json")
    assert (scripts.code, json.loads(scripts.out)) == (0, {"private": False})


def test_show_while_a_run_is_under_way(cli: Cli, tmp_path: Path) -> None:
    run = private_run(tmp_path / "run", planned=PLANNED[:2], complete=False)
    people, scripts = cli("privacy", "show", run.root), cli("privacy", "show", run.root, "--json")
    assert people.code == scripts.code == 0
    assert "3 rounds planned, not complete" in people.out
    assert "training, round 1 " in people.out
    assert json.loads(scripts.out)["complete"] is False


def test_show_before_anything_was_spent(cli: Cli, tmp_path: Path) -> None:
    run = private_run(tmp_path / "run", planned=(), complete=False)
    ended = cli("privacy", "show", run.root)
    assert ended.code == 0
    assert "0.000" in ended.out
    shutil.rmtree(run.homes)
    cli("privacy", "show", run.root).assert_explains("no site has opened its budget", str(run.root), "--resume")


def test_show_in_a_terminal_of_ascii_alone(cli: Cli, run: RunFolder) -> None:
    sys.stdout.reconfigure(encoding="ascii", errors="strict")  # type: ignore[union-attr]
    try:
        ended = cli("privacy", "show", run.root)
    finally:
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    assert ended.code == 0, ended.err
    assert ended.out.isascii()
    assert "\\u" not in ended.out
    assert "####" in ended.out


def test_show_refuses_a_budget_that_its_ledger_does_not_name(cli: Cli, run: RunFolder) -> None:
    path = run.site("birch") / "budget.json"
    path.write_bytes(path.read_bytes().replace(b'"noise_multiplier":6', b'"noise_multiplier":9'))
    cli("privacy", "show", run.root).assert_explains("privacy budget of 'birch'", str(path), "backup")
    path.unlink()
    cli("privacy", "show", run.root).assert_explains("privacy budget of 'birch' is missing", str(path))


def test_show_of_no_run(cli: Cli, tmp_path: Path) -> None:
    cli("privacy", "show", tmp_path).assert_explains("no run here", str(tmp_path))


@pytest.mark.parametrize("ascii_only", [True, False])
def test_bars(ascii_only: bool) -> None:
    filled = "#" if ascii_only else "█"
    for share, count in ((-1.0, 0), (0.0, 0), (0.5, 10), (1.0, 20), (7.0, 20)):
        drawn = bar(share, 20, ascii_only=ascii_only)
        assert len(drawn) == 20
        assert drawn.count(filled) == count


def test_a_bar_is_drawn_in_eighths_where_the_terminal_has_them() -> None:
    assert bar(3 / 64, 8, ascii_only=False) == "▍       "
    assert bar(3 / 64, 8, ascii_only=True) == "........"


# --- plan ----------------------------------------------------------------------------------------------------------


def test_plan_of_gradients_alone(cli: Cli) -> None:
    words = ("privacy", "plan", "--epsilon", 8, "--epsilon", 2, "--units", 30, "--rounds", 4, "--epochs", 2)
    people, scripts = cli(*words), cli(*words, "--batch", 10, "--delta", 1e-6, "--json")
    assert people.code == scripts.code == 0, people.err
    assert "delta 1e-05, 4 rounds of 2 epochs, batches of 32" in people.out
    assert people.out.index("epsilon 2") < people.out.index("epsilon 8")
    for said in ("more units", "fewer rounds", "larger batches"):
        assert said in people.out
    shown = json.loads(scripts.out)
    assert (shown["study"], shown["rounds"], shown["batch"], shown["epochs"], shown["delta"]) == (None, 4, 10, 2, 1e-6)
    assert shown["beside"] == []
    assert [(cell["epsilon"], cell["units"], cell["steps"]) for cell in shown["cells"]] == [(2, 30, 24), (8, 30, 24)]
    assert shown["cells"][0]["noise_multiplier"] > shown["cells"][1]["noise_multiplier"]
    for cell in shown["cells"]:
        assert cell["noise_to_signal"] == cell["noise_multiplier"] / 10


def test_plan_of_a_study(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(
        'name = "brain"\nrounds = 6\nmethod = "facmic"\n[data]\ndataset = "brain-mri"\nsource = "phantoms"\n'
        '[facmic]\nnormalisation = "layer"\n[privacy]\nepsilon = 4\nalignment = "per-record"\n'
    )
    ended = cli("privacy", "plan", path, "--units", 20, "--epsilon", 0.05, "--epsilon", 4)
    assert ended.code == 0, ended.err
    assert "brain: facmic, epsilon 4" in ended.out
    assert "released beside gradients: class sums, noise 7.071" in ended.out
    assert "released beside gradients: Fourier sums, 2 in rounds 1 to 6" in ended.out
    assert "all of these together" in ended.out
    assert "none: what is released beside gradients leaves nothing of epsilon 0.05" in ended.out


def test_plan_of_a_study_that_is_not_private_yet(cli: Cli, phantom_study: Path) -> None:
    ended = cli("privacy", "plan", phantom_study, "--units", 20, "--epsilon", 8)
    assert ended.code == 0
    assert "facmic, differential privacy off" in ended.out
    assert "note: the study cannot be trained so: facmic.normalisation" in ended.err


def test_plan_asks_for_what_can_be(cli: Cli, tmp_path: Path) -> None:
    for words in (("--epsilon", 0), ("--units", 0), ("--rounds", 0), ("--batch", 0), ("--epochs", 0), ("--delta", 1)):
        ended = cli("privacy", "plan", *words)
        assert ended.code == 2
        assert words[0] in ended.err
    cli("privacy", "plan", tmp_path / "none.toml").assert_explains("no such study file", "none.toml")


def test_plan_refuses_a_study_of_which_nothing_leaves(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    study = private_study(epsilon=0.0).model_copy(update={"method": "pooled"})
    path.write_text(dump_study(study))
    cli("privacy", "plan", path, "--epsilon", 8).assert_explains("nothing leaves a site")
