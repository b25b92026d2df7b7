"""Aggregation against a slow oracle, and who is tested against whom."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from wardround.evaluation.comparison import FIGURES, Comparison, Mean, Row
from wardround.evaluation.comparison_words import pixel_notes
from wardround.evaluation.paired import PairedPart, paired_difference
from wardround.evaluation.report_json import comparison_from_json, to_json
from wardround.medical_datasets.sets.brain_mri import BRAIN_MRI
from wardround.platform.compare.ablations import ABLATIONS
from wardround.platform.compare.cells import CellRecord, Failure
from wardround.platform.compare.grid import PlannedCell, Request, plan_grid
from wardround.platform.compare.page import csv_of
from wardround.platform.compare.rivals import STREAM
from wardround.platform.compare.table import comparison_of, over_seeds

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
        family = {t.method: t for t in comparison.tests if t.score == score}
        assert set(family) | {test.rival} == {"zero-shot", "local-only", "facmic"}
        # One of the baselines is always behind the best of them: that is no test of anything.
        assert test.p_holm == test.p
        assert [t.p_holm for t in family.values() if t.method != "facmic"] == [None]


def test_the_rival_is_the_best_baseline_and_never_pooled_or_an_adapter(
    request_of: Callable[..., Request], record_of: Callable[..., CellRecord]
) -> None:
    request = request_of("zero-shot", "pooled", "fedclip", "facmic", "prompt-fl", "lora", seeds=2)
    cells = plan_grid(request)
    skill = {"zero-shot": 0.2, "pooled": 0.95, "fedclip": 0.9, "facmic": 0.7, "prompt-fl": 0.5, "lora": 0.9}
    records = {}
    for cell in cells:
        record = record_of(cell, skill[cell.key.method])
        for figures in (*record.result.sites.values(), *record.result.unseen.values()):
            figures["balanced_accuracy"] = 0.99 if cell.key.method == "zero-shot" else 0.01  # means of sites say else
        records[cell.key.identifier] = record
    comparison = compared(request, cells, records)
    rivals = {t.method: t.rival for t in comparison.tests if t.score == "generalisation" and t.against == "baseline"}
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


def test_being_behind_a_rival_that_was_chosen_is_no_claim_and_weighs_on_no_other(
    request_of: Callable[..., Request], record_of: Callable[..., CellRecord]
) -> None:
    request = request_of("zero-shot", "local-only", "pooled", "fedclip", "facmic", seeds=3)
    cells = plan_grid(request)
    skill = {"zero-shot": 0.1, "local-only": 0.6, "pooled": 0.05, "fedclip": 0.05, "facmic": 0.95}
    records = {cell.key.identifier: record_of(cell, skill[cell.key.method]) for cell in cells}
    tests = {
        t.method: t
        for t in compared(request, cells, records).tests
        if (t.against, t.score) == ("baseline", "generalisation")
    }
    assert {name: (t.rival, t.p_holm is None) for name, t in tests.items()} == {
        "zero-shot": ("local-only", True),
        "pooled": ("local-only", True),
        "fedclip": ("local-only", True),
        "facmic": ("local-only", False),
    }
    facmic = tests["facmic"]
    assert facmic.p is not None
    assert facmic.p_holm == pytest.approx(3 * facmic.p)  # pooled, fedclip and facmic could have claimed something
    assert facmic.beyond_chance
    assert not tests["fedclip"].beyond_chance
    assert tests["fedclip"].high is not None
    assert tests["fedclip"].high < 0


def test_federated_methods_are_tested_against_fedclip_in_a_family_of_their_own(
    request_of: Callable[..., Request], record_of: Callable[..., CellRecord]
) -> None:
    request = request_of("local-only", "pooled", "fedclip", "facmic", "faa-clip", "prompt-fl", "lora", seeds=3)
    cells = plan_grid(request)
    skill = {"facmic": 0.95, "faa-clip": 0.5, "fedclip": 0.5, "prompt-fl": 0.05}
    records = {cell.key.identifier: record_of(cell, skill.get(cell.key.method, 0.5)) for cell in cells}
    tests = compared(request, cells, records).tests
    for score in ("personalisation", "generalisation"):
        own = {t.method: t for t in tests if (t.against, t.score) == ("fedclip", score)}
        assert set(own) == {"facmic", "faa-clip", "prompt-fl"}  # LoRA has its own family
        assert {t.rival for t in own.values()} == {"fedclip"}
        assert own["facmic"].p_holm == pytest.approx(3 * (own["facmic"].p or 0))
        assert own["prompt-fl"].beyond_chance  # FedCLIP was not chosen by its score: both directions count
        assert not own["faa-clip"].beyond_chance


def test_adapters_are_tested_against_pictures_on_the_cells_that_both_have(
    request_of: Callable[..., Request], record_of: Callable[..., CellRecord]
) -> None:
    request = request_of("zero-shot", "fedavg", "lora", "fedclip", "facmic", seeds=2, leave_one_out=True)
    cells = plan_grid(request)
    records = {cell.key.identifier: record_of(cell) for cell in cells}
    comparison = compared(request, cells, records)
    own = [t for t in comparison.tests if (t.against, t.score) == ("pixels", "generalisation")]
    assert [(t.method, t.rival, t.parts) for t in own] == [
        ("fedclip", "fedavg", 1), ("fedclip", "lora", 1), ("facmic", "fedavg", 1), ("facmic", "lora", 1),
    ]  # fmt: skip
    assert {t.rival for t in comparison.tests if t.against == "baseline" and t.method == "facmic"} == {"zero-shot"}
    line = next(
        line
        for line in csv.DictReader(io.StringIO(csv_of(comparison)))
        if (line["method"], line["score"]) == ("facmic", "personalisation")
    )
    wider = {t.rival: t for t in comparison.tests if (t.against, t.method) == ("pixels", "facmic") and t.parts == 3}
    assert float(line["lora_difference"]) == wider["lora"].difference
    assert float(line["fedavg_p_holm"]) == wider["fedavg"].p_holm


def test_pictures_without_any_unseen_site_have_no_generalisation(
    request_of: Callable[..., Request], record_of: Callable[..., CellRecord]
) -> None:
    request = request_of("fedavg", "facmic", leave_one_out=True, changes={"sites": {"unseen": "", "count": 4}})
    cells = plan_grid(request)
    records = {}
    for cell in cells:
        record = record_of(cell)
        if not cell.key.fold:
            record.result.unseen.clear()
            record.result.answers.unseen.clear()
        records[cell.key.identifier] = record
    comparison = compared(request, cells, records)
    row = row_of(comparison, "fedavg")
    assert row.generalisation.balanced_accuracy == Mean()
    assert row.personalisation.balanced_accuracy.mean is not None
    assert row.limits is not None
    assert (row.limits.folds, row.limits.unseen) == (False, False)
    assert "no site left out" in pixel_notes(comparison)[0]
    assert "unseen site only" not in " ".join(pixel_notes(comparison))
    (line,) = [cell for cell in comparison.cells if cell.method == "fedavg"]
    assert (line.fold, line.generalisation) == ("", None)
    assert all("fedavg" not in (t.method, t.rival) for t in comparison.tests)  # no cell in common


def test_options_step_sizes_and_the_base_study_are_kept(
    request_of: Callable[..., Request], record_of: Callable[..., CellRecord]
) -> None:
    changes = {
        "fedclip": {"lr": 0.003},
        "training": {"lr": 0.001, "logit_adjustment": 0.5},
        "baseline": {"method": "fedclip"},
    }
    request = request_of("zero-shot", "local-only", "fedclip", "facmic", "prompt-fl", changes=changes)
    cells = plan_grid(request)
    records = {cell.key.identifier: record_of(cell) for cell in cells}
    comparison = compared(request, cells, records)
    assert {row.method: (row.lr, row.trains) for row in comparison.rows} == {
        "zero-shot": (None, ""),
        "local-only": (0.003, "fedclip"),
        "fedclip": (0.003, ""),
        "facmic": (0.001, ""),
        "prompt-fl": (0.002, ""),
    }
    assert row_of(comparison, "facmic").options == {"depth": 5}
    assert row_of(comparison, "facmic").logit_adjustment == 0.5
    assert row_of(comparison, "zero-shot").logit_adjustment == 0.0
    assert comparison.base["training"]["logit_adjustment"] == 0.5
    assert comparison.base["facmic"]["depth"] == 5
    assert "path" not in comparison.base["data"]
    assert comparison_from_json(to_json(comparison)) == comparison


def test_an_ablation_that_changes_images_says_so_and_what_it_varies(
    request_of: Callable[..., Request], record_of: Callable[..., CellRecord]
) -> None:
    def run(name: str) -> Comparison:
        request = request_of("facmic", ablation=name)
        cells = plan_grid(request)
        records = {}
        for cell in cells:
            record = record_of(cell)
            if cell.key.variant != cells[0].key.variant and name == "reference":
                moved = record.result.answers
                for site in (*record.result.sites, cell.key.fold):
                    moved = replace_answer(moved, site)
                record = record_of(cell, answers=moved)
            records[cell.key.identifier] = record
        return compared(request, cells, records)

    reference = run("reference")
    assert reference.notes == (ABLATIONS["reference"].unpaired,)
    assert "not paired" in reference.notes[0]
    assert reference.reference.startswith("varied: ")
    assert "class means" in reference.reference
    assert reference.calibrations == ("after",)
    head = run("calibration")
    assert head.calibrations == ("after", "federated-head")
    assert (head.notes, head.reference) == ((), "a public set, taken out before sites are made")


def test_each_kind_of_test_has_columns_of_its_own(
    request_of: Callable[..., Request], record_of: Callable[..., CellRecord]
) -> None:
    request = request_of("local-only", "fedclip", "facmic", ablation="batch-size")
    cells = plan_grid(request)
    comparison = compared(request, cells, {cell.key.identifier: record_of(cell) for cell in cells})
    lines = [line for line in csv.DictReader(io.StringIO(csv_of(comparison))) if line["method"] == "facmic"]
    assert len(lines) == 10
    for line in lines:
        assert line["baseline_rival"] == "local-only"
        assert line["baseline_difference"]
        assert line["fedclip_difference"]
        assert bool(line["variant_difference"]) == (line["variant"] != "4")


def test_the_code_of_every_cell_is_kept(
    request_of: Callable[..., Request], record_of: Callable[..., CellRecord]
) -> None:
    request = request_of("zero-shot", "facmic")
    cells = plan_grid(request)
    first, second = (record_of(cell) for cell in cells)
    records = {
        cells[0].key.identifier: first,
        cells[1].key.identifier: msgspec.structs.replace(second, code="ab" * 32),
    }
    assert [cell.code for cell in compared(request, cells, records).cells] == ["", "ab" * 32]


def replace_answer(answers: Any, site: str) -> dict[str, Any]:
    given: dict[str, Any] = msgspec.to_builtins(answers)
    for answer in [part[site] for part in given.values() if site in part]:
        answer["groups"] = [f"x{name}" for name in answer["groups"]]
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
    assert (last["baseline_rival"], float(last["baseline_p_holm"])) == (test.rival, test.p_holm)
    assert (last["fedclip_difference"], last["variant_p"], last["lora_low"]) == ("", "", "")
    assert (last["options"], last["lr"], last["trains"]) == ("depth: 5", "0.0005", "")
    assert lines[2]["trains"] == "facmic"
    behind = next(line for line in lines if line["method"] != "facmic" and line["baseline_difference"])
    assert (behind["baseline_p"], behind["baseline_p_holm"]) == ("", "")
    one = replace(comparison, rows=(replace(row, seconds=None),), tests=())
    assert "None" not in csv_of(one)
