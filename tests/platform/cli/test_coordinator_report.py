"""The coordinator's report of a whole run: from sums alone, ranges that hold the exact figures, and no exact count."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wardround.evaluation.calibration.calibrator import Calibrator
from wardround.evaluation.disclosure.publishing import is_safe
from wardround.evaluation.disclosure.twins import deployed_summary, from_json
from wardround.evaluation.report_json import dossier_from_json
from wardround.evaluation.sums.layout import evaluation_layout
from wardround.evaluation.sums.of_site import evaluation_fields
from wardround.evaluation.sums.summed import SummedFigures
from wardround.platform.coordinator_report import check_earlier, earlier_report, facts_of, publish_sums
from wardround.platform.demo_study import demo_study_values
from wardround.platform.errors import RunFolderError, StudyFileError
from wardround.platform.predicting import predict_images
from wardround.platform.run_folder import RunFolder
from wardround.platform.study_file import parse_study

from .conftest import CLASSES

Cli = Callable[..., Any]


@pytest.fixture
def published(finished_run: Path) -> Any:
    return from_json((finished_run / "coordinator" / "report.json").read_bytes())


def table(run: Path) -> dict[tuple[str, str, str], tuple[str, str]]:
    with (run / "coordinator" / "report.csv").open(newline="") as lines:
        return {(r["table"], r["row"], r["column"]): (r["lowest"], r["highest"]) for r in csv.DictReader(lines)}


def test_published_ranges_hold_the_exact_figures_of_the_simulation(finished_run: Path) -> None:
    exact = json.loads((finished_run / "summary.json").read_bytes())["global"]
    names = {
        "images": "n",
        "accuracy": "accuracy",
        "balanced accuracy": "balanced_accuracy",
        "macro F1": "macro_f1",
        "macro AUROC": "macro_auroc",
        "calibration error": "ece",
        "Brier score": "brier",
    }
    found = table(finished_run)
    seen = 0
    for name, key in names.items():
        low, high = found["figures", name, ""]
        if low:
            seen += 1
            assert float(low) - 5e-4 <= exact[key] <= float(high) + 5e-4, name
    assert seen >= 4


def test_what_is_published_is_safe_and_a_deployed_summary_has_no_exact_number(published: Any) -> None:
    assert is_safe(published)
    summary = deployed_summary(published)
    assert summary["n"] is None
    assert summary["nll"] is None
    assert all(value is None or round(value, 2) == value for key, value in summary.items() if key != "temperature")


def test_no_exact_sum_is_left_in_the_run(finished_run: Path) -> None:
    record = json.loads((finished_run / "coordinator" / "held-out.json").read_bytes())
    assert record.keys() == {"adapter", "temperature", "evaluation"}
    assert all("values" not in found for key, found in record.items() if key != "adapter")


def test_the_card_carries_the_federations_calibration_without_counts(finished_run: Path) -> None:
    card = json.loads((finished_run / "model" / "card.json").read_bytes())
    calibrator = Calibrator.from_dict(card["calibration"])
    assert calibrator.temperature == card["temperature"]
    assert calibrator.n is None
    assert calibrator.sets is not None
    assert calibrator.sets.n is None
    assert calibrator.sets.n_by_class is None
    assert card["calibration_settings"]["site"] == "temperature"


def test_predict_applies_the_cards_calibration_and_a_sites_own(finished_run: Path) -> None:
    scan = min((finished_run / "phantoms").rglob("*.png"))
    card = json.loads((finished_run / "model" / "card.json").read_bytes())
    assert predict_images(finished_run, [scan]).calibrator == Calibrator.from_dict(card["calibration"])
    (site, *_) = sorted(path.parent.name for path in finished_run.glob("sites/*/calibration.json"))
    own = predict_images(finished_run, [scan], site=site).calibrator
    report = json.loads((finished_run / "sites" / site / "report.json").read_bytes())
    assert own == Calibrator.from_dict(report["calibrator"])


def test_the_report_is_built_again_alike(finished_run: Path, tmp_path: Path, cli: Cli) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run", ignore=shutil.ignore_patterns("homes", "phantoms")))
    before = {name: (run / "coordinator" / name).read_bytes() for name in ("report.html", "report.csv", "report.json")}
    for name in ("report.html", "report.csv"):
        (run / "coordinator" / name).unlink()
    assert cli("report", "build", run).code == 0
    assert {name: (run / "coordinator" / name).read_bytes() for name in before} == before
    assert "coordinator/report.html" in (run / "index.html").read_text()


def test_a_damaged_report_is_named_and_nothing_is_written(finished_run: Path, tmp_path: Path, cli: Cli) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run", ignore=shutil.ignore_patterns("homes", "phantoms")))
    (run / "coordinator" / "report.json").write_text("{}")
    (run / "index.html").unlink()
    cli("report", "build", run).assert_explains("coordinator's report")
    assert not (run / "index.html").exists()


@pytest.mark.slow
def test_pdfs_are_made_beside_the_pages(finished_run: Path, tmp_path: Path, cli: Cli) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run", ignore=shutil.ignore_patterns("homes", "phantoms")))
    for report in list(run.glob("sites/*/report.html"))[1:]:
        report.unlink()
    from wardround.platform.dossier import build_pdfs

    made = {path.relative_to(run).as_posix() for path in build_pdfs(RunFolder(run))}
    assert {"index.pdf", "coordinator/report.pdf"} < made
    assert all((run / name).read_bytes().startswith(b"%PDF-") for name in made)


def summed(n: int, seed: int = 4) -> SummedFigures:
    """Sums over images of four classes; a larger ``n`` has the images of a smaller one, and more."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 4, 400)
    logits = draw.normal(size=(400, 4)) + 2.5 * np.eye(4)[labels]
    empty = (np.zeros((0, 4)), np.zeros(0, dtype=np.int64), [])
    fields = evaluation_fields(logits[:n], labels[:n], {}, {}, empty, None, (0.5,))
    layout = evaluation_layout(4, {}, 1, 24)
    return SummedFigures.of(layout.unpack(layout.pack(fields)), classes=CLASSES, sites=3, temperature=None, levels={})


@pytest.mark.slow
def test_a_second_report_is_checked_against_the_first(finished_run: Path, tmp_path: Path) -> None:
    dossier = dossier_from_json((finished_run / "dossier.json").read_bytes())
    facts = replace(facts_of(dossier), thresholds=(0.5,))
    runs = [RunFolder(tmp_path / name) for name in ("first", "second")]
    for run in runs:
        run.coordinator.mkdir(parents=True)
    publish_sums(runs[0], summed(300), facts)
    first = earlier_report(runs[0].root)
    second = publish_sums(runs[1], summed(301), facts, first)
    assert second.confusion is None or is_safe(second, first)
    assert second == from_json((runs[1].coordinator / "report.json").read_bytes())


def test_an_earlier_report_must_be_one(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no coordinator's report"):
        earlier_report(tmp_path)
    (tmp_path / "coordinator").mkdir()
    (tmp_path / "coordinator" / "report.json").write_text("{}")
    with pytest.raises(RunFolderError, match="damaged"):
        earlier_report(tmp_path)
    found = earlier_report(finished_run)
    study = parse_study(demo_study_values("brain", method="facmic", sites=3, rounds=6, seed=3), where=tmp_path)
    check_earlier(found, study, CLASSES, found.facts.dataset, finished_run)
    for classes, dataset in ((("a", "b"), found.facts.dataset), (CLASSES, "another")):
        with pytest.raises(StudyFileError, match=r"other (classes|data set)"):
            check_earlier(found, study, classes, dataset, finished_run)
    other = study.model_copy(update={"name": "other"})
    with pytest.raises(StudyFileError, match="other study"):
        check_earlier(found, other, CLASSES, found.facts.dataset, finished_run)


def test_the_command_refuses_an_earlier_run_without_a_report_and_makes_nothing(
    phantom_study: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "out"
    cli("run", phantom_study, "--out", out, "--previous", tmp_path / "none").assert_explains("earlier run")
    assert not out.exists()


def test_there_is_one_smallest_cell() -> None:
    from wardround.evaluation.calibration.fitting import FEWEST_PUBLISHED
    from wardround.evaluation.disclosure.bands import SMALL
    from wardround.platform.class_means import FEWEST
    from wardround.privacy.messages import Limits
    from wardround.privacy.policy_file import default_policy_toml
    from wardround.privacy.study_facts import StudyFacts

    stated = StudyFacts.__dataclass_fields__["minimum_cell"].default
    assert {SMALL + 1, FEWEST, FEWEST_PUBLISHED, stated} == {11}
    values = {"studies": ["a" * 64], "methods": ["facmic"], "minimum_cohort": 3, "purposes": ["update"]}
    text = default_policy_toml("site", limits=Limits(3, 100, 100), coordinators=[], **values)
    assert "minimum_cell = 11" in text
