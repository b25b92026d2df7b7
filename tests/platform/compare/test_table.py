"""Aggregation against a slow oracle, and who is tested against whom."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from wardround.evaluation.comparison import FIGURES, Comparison, Mean, Row
from wardround.evaluation.paired import PairedPart, paired_difference
from wardround.medical_datasets.brain_mri import BRAIN_MRI
from wardround.platform.compare.cells import CellRecord, Failure
from wardround.platform.compare.grid import PlannedCell, Request, plan_grid
from wardround.platform.compare.page import csv_of
from wardround.platform.compare.table import STREAM, comparison_of, over_seeds

Records = dict[str, CellRecord]


def compared(
    request: Request, cells: Sequence[PlannedCell], records: Records, failures: dict[str, Failure] | None = None
) -> Comparison:
    return comparison_of(request, cells, records, failures or {}, BRAIN_MRI, ("embedded", "ab" * 32))


def row_of(comparison: Comparison, method: str, variant: str = "") -> Row:
    return next(row for row in comparison.rows if (row.method, row.variant) == (method, variant))


def slow(values: dict[int, list[float]]) -> tuple[float, float]:
    """Seed by seed: the mean of its cells; then mean and spread of these."""
    means = [sum(own) / len(own) for own in values.values()]
    mean = sum(means) / len(means)
    return mean, (sum((m - mean) ** 2 for m in means) / (len(means) - 1)) ** 0.5


@pytest.fixture(scope="module")
def whole(
    request_of: Callable[..., Request], record_of: Callable[..., CellRecord]
) -> tuple[Request, tuple[PlannedCell, ...], Records, Comparison]:
    """Three methods, three seeds, every site left out in turn; some figures are not known."""
    request = request_of("zero-shot", "local-only", "facmic", seeds=3, leave_one_out=True)
    cells = plan_grid(request)
    skill = {"zero-shot": 0.5, "local-only": 0.55, "facmic": 0.95}
    records = {cell.key.identifier: record_of(cell, skill[cell.key.method]) for cell in cells}
    for record in records.values():
        record.result.sites.get("site-2", {})["balanced_accuracy"] = None
    return request, cells, records, compared(request, cells, records)


def test_means_are_over_sites_then_folds_then_seeds(whole: Any) -> None:
    _, cells, records, comparison = whole
    for method in ("zero-shot", "local-only", "facmic"):
        row = row_of(comparison, method)
        assert (row.cells, row.finished, row.seeds, row.folds) == (12, 12, 3, 4)
        for figure in FIGURES:
            own: dict[int, list[float]] = {}
            away: dict[int, list[float]] = {}
            for cell in cells:
                if cell.key.method == method:
                    result = records[cell.key.identifier].result
                    known = [site[figure] for site in result.sites.values() if site[figure] is not None]
                    own.setdefault(cell.key.seed, []).append(sum(known) / len(known))
                    away.setdefault(cell.key.seed, []).append(result.unseen[cell.key.fold][figure])
            for values, given in ((own, row.personalisation), (away, row.generalisation)):
                mean = getattr(given, figure)
                assert (mean.mean, mean.sd) == pytest.approx(slow(values))
                assert mean.seeds == 3
            assert getattr(row.transductive, figure) == Mean()


def test_what_one_seed_cannot_know_is_none() -> None:
    assert over_seeds([]) == Mean()
    assert over_seeds([(0, None)]) == Mean()
    assert over_seeds([(0, 0.5), (0, 0.7)]) == Mean(pytest.approx(0.6), None, 1)
    assert over_seeds([(0, 0.5), (0, None), (1, 0.7)]).seeds == 2


def test_traffic_time_and_curves(whole: Any) -> None:
    _, cells, records, comparison = whole
    row = row_of(comparison, "facmic")
    assert row.bytes_per_site_round == pytest.approx(1001.0)  # 1000 + seed
    assert row.bytes_ratio is None  # FedAvg is not in the grid
    assert row.seconds == pytest.approx(3.0)
    assert row.parameters == {"adapter": 250}
    assert [point.round for point in row.curve] == [1, 2, 3]
    per_seed: dict[int, list[float]] = {}
    for cell in cells:
        if cell.key.method == "facmic":
            value = records[cell.key.identifier].result.curve[1].balanced_accuracy
            per_seed.setdefault(cell.key.seed, []).append(value)
    point = row.curve[1]
    assert (point.balanced_accuracy.mean, point.balanced_accuracy.sd) == pytest.approx(slow(per_seed))
    assert (point.loss.mean, point.loss.sd) == (0.5, 0.0)
    zero = row_of(comparison, "zero-shot")
    assert (zero.bytes_per_site_round, zero.bytes_ratio, zero.rounds, zero.curve) == (0.0, None, 0, ())


def test_bytes_are_compared_with_fedavg(
    request_of: Callable[..., Request], record_of: Callable[..., CellRecord]
) -> None:
    request = request_of("fedavg", "pooled", "fedclip", seeds=2, changes={"compare": {"pixel_images": 7}})
    cells = plan_grid(request)
    records = {cell.key.identifier: record_of(cell) for cell in cells}
    whole = records["fedavg__seed-0__out-unseen"].result.traffic
    records["fedavg__seed-0__out-unseen"] = record_of(
        cells[0],
        traffic={"bytes_up": 1, "bytes_down": 0, "up_per_site_round": 50_000.0, "parameters": whole.parameters},
    )
    comparison = compared(request, cells, records)
    assert row_of(comparison, "fedavg").bytes_ratio == 1.0
    assert row_of(comparison, "fedclip").bytes_ratio == pytest.approx(50_000 / 1000.5)
    assert row_of(comparison, "pooled").bytes_ratio is None
    assert row_of(comparison, "pooled").bytes_per_site_round is None
    limits = row_of(comparison, "fedavg").limits
    assert limits is not None
    assert (limits.rounds, limits.images, limits.seeds, limits.folds) == (3, 7, 1, True)
    assert row_of(comparison, "fedclip").limits is None


def test_the_test_is_the_paired_bootstrap_of_the_same_images(whole: Any) -> None:
    _, cells, records, comparison = whole
    for score in ("personalisation", "generalisation"):
        test = next(t for t in comparison.tests if (t.method, t.score) == ("facmic", score))
        parts = []
        for cell in cells:
            if cell.key.method == "facmic":
                rival = records[cell.key.identifier.replace("facmic", test.rival)].result.answers
                own = records[cell.key.identifier].result.answers
                pairs = (own.sites, rival.sites) if score == "personalisation" else (own.unseen, rival.unseen)
                for site, answer in pairs[0].items():
                    parts.append(
                        PairedPart(
                            f"{cell.key.seed} {site}", answer.labels, answer.groups, answer.correct,
                            pairs[1][site].correct,
                        )
                    )  # fmt: skip
        found = paired_difference(parts, np.random.default_rng([0, STREAM]))
        assert (test.difference, test.low, test.high, test.p) == (found.difference, found.low, found.high, found.p)
        assert (test.n_groups, test.n_images, test.parts) == (found.n_groups, found.n_images, len(parts))
        family = [t for t in comparison.tests if t.score == score]
        assert {t.method for t in family} | {t.rival for t in family} == {"zero-shot", "local-only", "facmic"}
        assert test.p_holm == pytest.approx(min(1.0, 2 * (test.p or 0)))


def test_the_rival_is_the_best_baseline_and_never_pooled_or_an_adapter(
    request_of: Callable[..., Request], record_of: Callable[..., CellRecord]
) -> None:
    request = request_of("zero-shot", "pooled", "fedclip", "facmic", "prompt-fl", "lora", seeds=2)
    cells = plan_grid(request)
    value = {"zero-shot": 0.5, "pooled": 0.9, "fedclip": 0.8, "facmic": 0.7, "prompt-fl": 0.6, "lora": 0.65}
    records = {}
    for cell in cells:
        record = record_of(cell)
        for figures in (*record.result.sites.values(), *record.result.unseen.values()):
            figures["balanced_accuracy"] = value[cell.key.method]
        records[cell.key.identifier] = record
    comparison = compared(request, cells, records)
    rivals = {t.method: t.rival for t in comparison.tests if t.score == "generalisation"}
    # LoRA has one seed of two, so the others are not tested against it; in its own cells it is the best itself.
    assert rivals == dict.fromkeys(("zero-shot", "pooled", "fedclip", "facmic"), "prompt-fl")


def test_a_transductive_cell_has_a_column_of_its_own(
    request_of: Callable[..., Request], record_of: Callable[..., CellRecord]
) -> None:
    request = request_of("zero-shot", "facmic")
    cells = plan_grid(request)
    records = {cell.key.identifier: record_of(cell, transductive=cell.key.method == "facmic") for cell in cells}
    comparison = compared(request, cells, records)
    row = row_of(comparison, "facmic")
    assert comparison.scores == ("personalisation", "generalisation", "transductive")
    assert row.generalisation.accuracy.mean is None
    assert row.transductive.accuracy.mean == records[cells[1].key.identifier].result.unseen["unseen"]["accuracy"]
    assert {(t.method, t.score) for t in comparison.tests} == {
        ("facmic", "personalisation"),
        ("facmic", "transductive"),
    }
    strict = compared(request, cells, {cell.key.identifier: record_of(cell) for cell in cells})
    assert strict.scores == ("personalisation", "generalisation")


def test_variants_are_tested_against_the_first_where_images_are_the_same(
    request_of: Callable[..., Request], record_of: Callable[..., CellRecord]
) -> None:
    request = request_of("facmic", ablation="depth")
    cells = plan_grid(request)
    records = {cell.key.identifier: record_of(cell) for cell in cells}
    comparison = compared(request, cells, records)
    assert [(t.variant, t.rival_variant, t.against, t.score) for t in comparison.tests] == [
        ("8", "5", "variant", "personalisation"),
        ("8", "5", "variant", "generalisation"),
    ]
    assert (comparison.ablation, comparison.option) == ("depth", "depth of the adapter")
    # One site that is split differently, and there is no test of the participating sites.
    answers = records[cells[1].key.identifier].result.answers
    moved = replace_answer(answers, "site-1")
    other = record_of(cells[1], answers=moved)
    comparison = compared(request, cells, {**records, cells[1].key.identifier: other})
    assert [t.score for t in comparison.tests] == ["generalisation"]


def replace_answer(answers: Any, site: str) -> dict[str, Any]:
    import msgspec

    given = msgspec.to_builtins(answers)
    given["sites"][site]["groups"] = [f"x{name}" for name in given["sites"][site]["groups"]]
    return given


def test_failed_cells_are_missing_and_said(
    request_of: Callable[..., Request], record_of: Callable[..., CellRecord]
) -> None:
    request = request_of("zero-shot", "facmic", seeds=2)
    cells = plan_grid(request)
    gone = cells[-1].key.identifier
    records = {cell.key.identifier: record_of(cell) for cell in cells if cell.key.identifier != gone}
    comparison = compared(request, cells, records, {gone: Failure("the loss is not finite", "", "")})
    row = row_of(comparison, "facmic")
    assert (row.finished, row.cells, row.seeds) == (1, 2, 1)
    assert row.personalisation.accuracy.sd is None
    assert [(cell.identifier, cell.reason) for cell in comparison.failed] == [(gone, "the loss is not finite")]
    nothing = compared(request, cells, {})
    assert {cell.reason for cell in nothing.cells} == {"not run"}
    assert row_of(nothing, "zero-shot").bytes_per_site_round is None
    assert nothing.scores == ()


def test_the_table_as_csv(whole: Any) -> None:
    comparison = whole[3]
    lines = list(csv.DictReader(io.StringIO(csv_of(comparison))))
    assert [(line["method"], line["score"]) for line in lines] == [
        (method, score)
        for method in ("zero-shot", "local-only", "facmic")
        for score in ("personalisation", "generalisation")
    ]
    row = row_of(comparison, "facmic")
    last = lines[-1]
    assert float(last["balanced_accuracy_mean"]) == row.generalisation.balanced_accuracy.mean
    assert float(last["brier_sd"]) == row.generalisation.brier.sd
    assert (last["bytes_ratio"], last["pixel_rounds"], last["cells"]) == ("", "", "12")
    test = next(t for t in comparison.tests if (t.method, t.score) == ("facmic", "generalisation"))
    assert (last["rival"], float(last["p_holm"])) == (test.rival, test.p_holm)
    one = replace(comparison, rows=(replace(row, seconds=None),), tests=())
    assert "None" not in csv_of(one)
