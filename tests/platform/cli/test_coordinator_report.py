"""The coordinator's report of a whole run: from sums alone, ranges that hold the exact figures, and no exact count."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wardround.evaluation.calibration.calibrator import Calibrator
from wardround.evaluation.disclosure.publishing import is_safe
from wardround.evaluation.disclosure.twins import deployed_summary, from_json
from wardround.platform.predicting import predict_images

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
    from wardround.platform.run_folder import RunFolder

    made = {path.relative_to(run).as_posix() for path in build_pdfs(RunFolder(run))}
    assert {"index.pdf", "coordinator/report.pdf"} < made
    assert all((run / name).read_bytes().startswith(b"%PDF-") for name in made)
