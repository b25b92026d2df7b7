"""The pages of a run: written in order, rebuilt to the same bytes, honest about what is synthetic."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from wardround.evaluation.calibration.calibrator import Calibrator
from wardround.evaluation.errors import EvaluationError
from wardround.evaluation.figures.twins import from_json
from wardround.evaluation.report_json import dossier_from_json, site_report_from_json
from wardround.evaluation.report_model import Dossier
from wardround.evaluation.statements import Statement
from wardround.platform import dossier as module
from wardround.platform.assessment import assess_local_only, assess_shared, zero_shot
from wardround.platform.consortium import open_consortium
from wardround.platform.dossier import TWINS, build_pages, build_pdfs, write_results
from wardround.platform.errors import RunFolderError
from wardround.platform.marks import ORACLE, TRANSDUCTIVE
from wardround.platform.report_inputs import round_row, site_report_of
from wardround.platform.results import Results, model_card, summary
from wardround.platform.run_folder import RunFolder

NAMES = ["site-1", "site-2", "site-3", "unseen"]


@pytest.fixture(scope="module")
def toy(toy: Callable[..., Any], BACKBONE: str) -> Callable[..., Any]:
    """Toys whose parties have homes and ledgers, as those of a run have."""

    def make(folder: Path, **changes: Any) -> Any:
        made = toy(folder, **changes)
        with open_consortium(made.study, made.method, made.data, BACKBONE, made.run) as consortium:
            consortium.close_ledgers(made.study.digest())
        return made

    return make


@pytest.fixture(scope="module")
def original(
    toy: Callable[..., Any], toy_results: Callable[..., Results], tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunFolder, Results]:
    made = toy(tmp_path_factory.mktemp("dossier") / "run")
    results = toy_results(made)
    sites = tuple(replace(site, skipped=2) for site in results.data.sites)
    results = replace(results, data=replace(results.data, sites=sites))
    write_results(made.run, results)
    return made.run, results


@pytest.fixture
def written(original: tuple[RunFolder, Results], tmp_path: Path) -> tuple[RunFolder, Results]:
    """A copy that a test may damage."""
    shutil.copytree(original[0].root, tmp_path / "run")
    return RunFolder(tmp_path / "run"), original[1]


def pages(run: RunFolder) -> dict[str, bytes]:
    return {str(path.relative_to(run.root)): path.read_bytes() for path in sorted(run.root.rglob("*.html"))}


def with_figures(run: RunFolder) -> dict[str, bytes]:
    """The pages that hold figures of a model; the auditor's page is about ledgers alone."""
    return {name: page for name, page in pages(run).items() if name != "audit.html"}


def test_every_file_is_there_and_says_the_same(written: tuple[RunFolder, Results]) -> None:
    run, results = written
    assert json.loads(run.summary.read_bytes()) == summary(results)
    assert json.loads(run.card.read_bytes()) == model_card(results)
    assert set(pages(run)) == {"index.html", "audit.html", *(f"sites/{name}/report.html" for name in NAMES)}
    index = dossier_from_json((run.root / "dossier.json").read_bytes())
    assert [row.site for row in index.sites] == NAMES
    assert [row.role for row in index.sites] == ["training"] * 3 + ["unseen"]
    assert [row.bytes_sent for row in index.sites] == [100, 200, 300, 0]
    assert [row.ledger_link is None for row in index.sites] == [False, False, False, True]
    assert len(index.rounds) == 3
    for row, name in zip(index.sites, NAMES, strict=True):
        figures = (
            results.federated.unseen.figures  # type: ignore[union-attr]
            if name == "unseen"
            else results.federated.sites[name].figures
        )
        assert row.federated.balanced_accuracy == figures.balanced_accuracy
        assert (run.root / row.report_link).is_file()


def test_a_sites_report_holds_its_own_predictions_and_what_it_sent(written: tuple[RunFolder, Results]) -> None:
    run, results = written
    for site in results.data.sites:
        report = site_report_from_json((run.site(site.name) / "report.json").read_bytes())
        assert list(report.federated.labels) == site.test.labels.tolist()
        assert report.federated.temperature == results.federated.sites[site.name].temperature
        assert report.local_only is not None
        assert report.privacy.bytes_sent == results.sent[site.name].bytes_sent
        assert report.flow.skipped == 2
        assert [row.train for row in report.flow.rows] == [int((site.train.labels == c).sum()) for c in range(3)]
    away = site_report_from_json((run.site("unseen") / "report.json").read_bytes())
    assert away.role == "unseen"
    assert away.local_only is None  # the mean over the sites' models makes no single prediction


def test_pages_say_that_phantoms_are_synthetic(written: tuple[RunFolder, Results]) -> None:
    assert all(b"synthetic" in page.lower() for page in with_figures(written[0]).values())


def test_rebuilt_pages_have_the_same_bytes(written: tuple[RunFolder, Results]) -> None:
    run, _ = written
    before, annex, twins = pages(run), run.annex.read_bytes(), twin_files(run)
    assert set(twins) == {f"sites/{name}/{twin}" for name in NAMES for twin in TWINS}
    for path in (*run.root.rglob("*.html"), *run.root.rglob("report-figures.*"), run.annex):
        path.unlink()
    built = sorted(str(path.relative_to(run.root)) for path in build_pages(run))
    assert built == sorted([*before, *twins, "dpia-annex.md"])
    assert pages(run) == before
    assert twin_files(run) == twins
    assert run.annex.read_bytes() == annex


def twin_files(run: RunFolder) -> dict[str, bytes]:
    return {str(path.relative_to(run.root)): path.read_bytes() for path in sorted(run.root.rglob("report-figures.*"))}


def test_twins_say_what_the_page_and_the_front_page_say(written: tuple[RunFolder, Results]) -> None:
    run, _ = written
    for row in front(run).sites:
        told = json.loads((run.site(row.site) / TWINS[0]).read_bytes())
        names = ["Federated", "Zero-shot"] if row.role == "unseen" else ["Federated", "Local only", "Zero-shot"]
        assert [model["model"] for model in told["models"]] == names
        found = from_json(json.dumps(told["models"][0]).encode())
        assert found.balanced_accuracy.value == row.federated.balanced_accuracy
        assert (found.balanced_accuracy.low, found.balanced_accuracy.high) == (row.federated.low, row.federated.high)
        assert told["federated_minus"]["zero_shot"]["value"] == row.over_zero_shot.value  # type: ignore[union-attr]
        assert "logits" not in json.dumps(told)
        lines = (run.site(row.site) / TWINS[1]).read_text().splitlines()
        assert {line.split(",")[0] for line in lines[1:]} == set(names)


def test_links_appear_with_what_they_lead_to(written: tuple[RunFolder, Results]) -> None:
    run, _ = written
    assert "cases.html" not in run.index.read_text()
    assert "coordinator/report.html" not in run.index.read_text()
    (run.site("site-1") / "cases.html").write_text("cases")
    (run.coordinator / "report.html").write_text("report")
    build_pages(run)
    index = run.index.read_text()
    assert 'href="sites/site-1/cases.html"' in index
    assert 'href="sites/site-2/cases.html"' not in index
    assert 'href="coordinator/report.html"' in index
    assert 'href="cases.html"' in (run.site("site-1") / "report.html").read_text()
    assert 'href="cases.html"' not in (run.site("site-2") / "report.html").read_text()
    for row in front(run).sites:
        assert row.cases_link is None  # what is in the folder is found when the page is made


def test_statements_of_a_party_are_on_its_page_and_on_the_front_page(
    written: tuple[RunFolder, Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = written
    said = Statement("site-2", "Dr <i>Ek</i>", "reader", "accepted", "fine", "2026-01-02T03:04:05Z", True, "it holds")
    monkeypatch.setattr(module, "statements_of", lambda _: {"site-2": (said,)})
    build_pages(run)
    for name, page in with_figures(run).items():
        text = page.decode()
        assert "<i>Ek" not in text
        assert ("Dr &lt;i&gt;Ek&lt;/i&gt;" in text) == (name == "index.html" or "site-2" in name)


def test_pdfs_lie_beside_the_pages(written: tuple[RunFolder, Results], monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = written
    monkeypatch.setattr(module, "to_pdf", lambda page: f"pdf of {len(page)}".encode())
    made = {str(path.relative_to(run.root)) for path in build_pdfs(run)}
    assert made == {"index.pdf", *(f"sites/{name}/report.pdf" for name in NAMES)}
    assert run.index.with_suffix(".pdf").read_text() == f"pdf of {len(run.index.read_text())}"
    for path in run.root.rglob("*.html"):
        path.unlink()
    with pytest.raises(RunFolderError, match="no pages"):
        build_pdfs(run)


def test_subgroups_partition_and_calibration_reach_the_report(
    toy: Callable[..., Any], toy_results: Callable[..., Results], tmp_path: Path
) -> None:
    made = toy(tmp_path / "run", evaluation={"thresholds": [0.2, 0.4], "abstain_risk": 0.05, "abstain_below": 0.3})
    cohort = made.data.cohort
    ages = ("80+", "20-39", None)
    records = tuple(
        replace(record, subgroups={"age_band": ages[at % 3]} if ages[at % 3] else {}, group=f"similar:{at // 2}")
        for at, record in enumerate(cohort.records)
    )
    groups = {at: record.group for at, record in enumerate(records)}

    def regrouped(site: Any) -> Any:
        parts = {
            name: replace(part, groups=tuple(groups[row] for row in part.rows.tolist()))
            for name, part in (("train", site.train), ("validation", site.validation), ("test", site.test))
        }
        return replace(site, **parts)

    results = toy_results(made)
    data = replace(
        results.data,
        cohort=replace(cohort, records=records, synthetic=False),
        sites=tuple(regrouped(site) for site in results.data.sites),
    )
    results = replace(results, data=data)
    site = data.sites[0]
    report = site_report_of(results, site)
    (column,) = report.columns
    assert column.levels == ("20-39", "80+")
    expected = [records[row].subgroups.get("age_band") for row in site.test.rows.tolist()]
    assert [None if code < 0 else column.levels[code] for code in column.codes] == expected
    assert report.thresholds == (0.2, 0.4)
    assert (report.wanted_risk, report.abstain_below) == (0.05, 0.3)
    calibrator = Calibrator.from_dict(report.calibrator)
    assert calibrator.temperature == results.federated.sites[site.name].temperature
    assert calibrator.abstain_below == 0.3
    facts = report.partition
    assert facts is not None
    assert facts.largest_group == 2
    names = [group for part in (site.train, site.validation, site.test) for group in part.groups]
    pairs = [name for name in set(names) if names.count(name) == 2]
    assert (facts.duplicate_groups, facts.duplicate_images) == (len(pairs), 2 * len(pairs))
    parts = [set(part.groups) for part in (site.train, site.validation, site.test)]
    assert facts.in_two_parts == len(parts[0] & parts[1] | parts[1] & parts[2] | parts[0] & parts[2])
    elsewhere = {
        g for other in data.sites[1:] for part in (other.train, other.validation, other.test) for g in part.groups
    }
    assert facts.at_other_sites == len(set(names) & elsewhere)
    assert report.collection is not None
    assert report.collection.dates is None
    assert report.collection.licence == cohort.dataset.licence


def test_the_summary_comes_last(
    toy: Callable[..., Any], toy_results: Callable[..., Results], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = toy(tmp_path / "run")

    def fails(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(module, "build_pages", fails)
    with pytest.raises(OSError, match="no space"):
        write_results(made.run, toy_results(made))
    assert not made.run.summary.exists()


def test_an_unfinished_run_has_no_pages(toy: Callable[..., Any], tmp_path: Path) -> None:
    run = toy(tmp_path / "run").run
    with pytest.raises(RunFolderError, match="no results") as caught:
        build_pages(run)
    assert "--resume" in caught.value.remedy


def test_a_missing_report_is_named_and_no_page_changes(written: tuple[RunFolder, Results]) -> None:
    run, _ = written
    (run.site("site-2") / "report.json").unlink()
    run.index.write_text("old")
    with pytest.raises(RunFolderError, match="report of site 'site-2' is missing"):
        build_pages(run)
    assert run.index.read_text() == "old"


def test_a_damaged_report_changes_no_page(written: tuple[RunFolder, Results]) -> None:
    run, _ = written
    path = run.site("site-2") / "report.json"
    path.write_bytes(path.read_bytes()[:-40])
    run.index.write_text("old")
    with pytest.raises(EvaluationError):
        build_pages(run)
    assert run.index.read_text() == "old"


def test_without_an_unseen_site(toy: Callable[..., Any], toy_results: Callable[..., Results], tmp_path: Path) -> None:
    made = toy(tmp_path / "run")
    write_results(made.run, toy_results(made, unseen=False))
    assert set(pages(made.run)) == {"index.html", "audit.html", *(f"sites/{name}/report.html" for name in NAMES[:3])}


def front(run: RunFolder) -> Dossier:
    return dossier_from_json((run.root / "dossier.json").read_bytes())


def test_marks_stand_on_the_front_page_and_on_every_report(
    toy: Callable[..., Any], toy_results: Callable[..., Results], tmp_path: Path
) -> None:
    made = toy(
        tmp_path / "run",
        reference={"labels_known": True, "transductive": True},
        facmic={"normalisation": "batch-local"},
        personalisation={"fine_tune_epochs": 1},
    )
    results = toy_results(replace(made, data=replace(made.data, transductive=True)))
    write_results(made.run, replace(results, federated=replace(results.federated, own=("site-1", "site-3"))))
    assert front(made.run).marks[:2] == (TRANSDUCTIVE, ORACLE)
    own = "own model, with its own norms and fine-tuned there for 1 epoch"
    for name, page in with_figures(made.run).items():
        text = html.unescape(page.decode())
        assert f'<p class="banner" role="note">{TRANSDUCTIVE}</p>' in text
        assert ORACLE in text
        assert ("Own models: the federated figures of a training site are of its " + own in text) == (
            name == "index.html"
        )
        assert (
            f"This site's federated figures are of its {own}; the adapter in model/ is the federation's." in text
        ) == ("site-1" in name or "site-3" in name)
        assert ("Site site-2 has no model of its own: the federation's answers for it." in text) == (
            name == "index.html" or "site-2" in name
        )


def test_an_ordinary_run_has_no_marks(written: tuple[RunFolder, Results]) -> None:
    run, _ = written
    assert front(run).marks == ()
    for page in with_figures(run).values():
        assert page.count(b'role="note"') == 1  # that the pictures are phantoms


def test_the_front_page_pools_the_shared_model_and_not_the_sites_own(
    toy: Callable[..., Any], toy_results: Callable[..., Results], tmp_path: Path
) -> None:
    made = toy(tmp_path / "run", personalisation={"fine_tune_epochs": 1})
    results, classes = toy_results(made), made.data.cohort.dataset.class_names

    def flipped(features: Any) -> Any:
        return -zero_shot(made.data.shared)(features)

    def shared(features: Any) -> Any:
        return zero_shot(made.data.shared)(features)

    personal = {site.name: flipped for site in made.data.sites}
    federated = assess_shared(shared, made.data, classes, personal=personal)
    write_results(made.run, replace(results, federated=federated))
    index = front(made.run)
    told = json.loads(made.run.summary.read_bytes())
    assert index.overall is not None
    assert index.overall_local_only is not None
    assert index.overall.balanced_accuracy == told["global"]["balanced_accuracy"]
    assert index.overall.ece == told["global"]["ece"]
    assert index.overall_local_only.ece == told["baselines"]["local_only"]["global"]["ece"]
    assert index.overall.balanced_accuracy == results.zero_shot.together.balanced_accuracy
    for row in index.sites[:3]:
        assert row.federated.balanced_accuracy == told["sites"][row.site]["balanced_accuracy"]
        assert row.zero_shot is not None
        assert row.federated.balanced_accuracy != row.zero_shot.balanced_accuracy


def test_a_temperature_that_the_model_carries_is_not_called_missing(
    toy: Callable[..., Any], toy_results: Callable[..., Results], tmp_path: Path
) -> None:
    made = toy(tmp_path / "run", calibration={"method": "federated-head"})
    results, classes = toy_results(made), made.data.cohort.dataset.class_names
    predict = zero_shot(made.data.shared)
    federated = assess_shared(predict, made.data, classes, calibrated=True)
    local = assess_local_only({s.name: predict for s in made.data.sites}, made.data, classes, calibrated=True)
    write_results(made.run, replace(results, federated=federated, local_only=local))
    for name in NAMES:
        report = site_report_from_json((made.run.site(name) / "report.json").read_bytes())
        assert (report.federated.temperature, report.federated.temperature_source) == (None, "model")
        assert report.local_only is None or report.local_only.temperature_source == "model"
        assert report.zero_shot is not None
        assert report.zero_shot.temperature_source != "model"
        text = (made.run.site(name) / "report.html").read_text()
        assert "carried by the model" in text
        assert "No temperature could be fitted" not in text


def test_a_rounds_row_counts_all_its_tries_and_names_who_dropped_in_each() -> None:
    def line(number: int, released: bool, dropped: list[tuple[str, str, str]], size: int) -> dict[str, Any]:
        return {
            "round": number,
            "released": released,
            "reason": "" if released else "too-few at stage mask: 2 confirmed sites",
            "participants": ["a", "b", "c"] if released else [],
            "dropped": [{"site": site, "stage": stage, "reason": reason} for site, stage, reason in dropped],
            "seconds": {"total": 10.0},
            "waited": 8.0,
            "bytes_up": size,
            "bytes_down": 2 * size,
            "train_loss": 0.5,
            "validation": {"balanced_accuracy": 0.7},
        }

    failed = [
        line(1, False, [("x", "mask", "timeout")], 7),
        line(2, False, [("a", "mask", "timeout"), ("b", "share", "timeout")], 100),
    ]
    row = round_row(line(2, True, [("c", "agree", "timeout")], 1000), failed)
    assert (row.bytes_up, row.bytes_down, row.seconds, row.dropped, row.participants) == (1100, 2200, 4.0, 3, 3)
    assert row.remarks == (
        "a try released nothing, too-few at stage mask (a: timeout at mask, b: timeout at share)",
        "c: timeout at agree",
    )
    assert round_row(line(3, True, [], 5), failed).remarks == ()
