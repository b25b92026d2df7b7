"""From a report to its figures: which calibration is applied, what baselines get, and the same result every time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from wardround.evaluation.arrays import softmax
from wardround.evaluation.calibration.calibrator import Calibrator
from wardround.evaluation.errors import EvaluationError, InvalidReportError
from wardround.evaluation.figures.twins import from_json
from wardround.evaluation.per_class import grouped_rate
from wardround.evaluation.report_json import figures_to_json, site_report_from_json, to_json
from wardround.evaluation.report_model import SiteReport
from wardround.evaluation.site_facts import SubgroupColumn
from wardround.evaluation.site_figures import SiteFigures, score_of, site_figures
from wardround.evaluation.site_view import site_view


def test_the_calibrator_is_applied_and_not_the_temperature_beside_it(
    rich_report: SiteReport, rich_figures: SiteFigures
) -> None:
    z, _, _ = rich_report.federated.arrays(4)
    assert rich_report.federated.temperature != 2.4
    np.testing.assert_allclose(rich_figures.sample.stated, z / 2.4)
    found = rich_figures.federated
    assert found.after is not None
    assert found.after.label == "temperature 2.4, this site's"
    assert found.risk.chosen is not None
    assert found.risk.chosen.threshold == 0.6
    assert found.risk.wanted_risk == 0.1
    assert [row.name for row in found.sets] == ["all", *(label.clinical_name for label in rich_report.classes)]


def test_without_a_calibrator_the_temperature_is_applied(site_report_input: Callable[..., SiteReport]) -> None:
    report = site_report_input()
    found = site_figures(report, resamples=20)
    z, _, _ = report.federated.arrays(4)
    np.testing.assert_allclose(found.sample.stated, z / report.federated.temperature)
    assert found.federated.sets == ()
    assert found.federated.risk.chosen is None
    zero = found.others["zero_shot"]
    assert zero.after is None  # nothing was fitted for it
    assert zero.before.label == "as trained (temperature 1)"


def test_a_risk_that_was_not_reached_is_not_shown_as_reached(rich_report: SiteReport) -> None:
    assert rich_report.calibrator is not None
    missed = replace(rich_report, calibrator={**rich_report.calibrator, "risk_reached": False})
    found = site_figures(missed, resamples=20)
    assert found.federated.risk.wanted_risk is None
    section = next(part for part in site_view(missed, found).sections if part.key == "abstention")
    assert "No threshold could be shown to reach it" in section.reading[-1]


def test_a_kind_that_gave_way_is_said(rich_report: SiteReport) -> None:
    assert rich_report.calibrator is not None
    gave_way = replace(rich_report, calibrator={**rich_report.calibrator, "wanted": "isotonic"})
    section = site_view(gave_way, site_figures(gave_way, resamples=20)).sections[5]
    assert "asks for the calibration 'isotonic'" in section.reading[0]
    for wanted, said in (("temperature", "No temperature could be fitted"), ("none", "the study asks for none")):
        nothing = Calibrator("none", "none", 4, None, wanted=wanted).to_dict()  # type: ignore[arg-type]
        bare = replace(rich_report, calibrator=nothing)
        section = site_view(bare, site_figures(bare, resamples=20)).sections[5]
        assert said in section.reading[0]


def test_baselines_have_no_subgroups_and_gains_are_paired(rich_figures: SiteFigures) -> None:
    assert rich_figures.federated.subgroups
    assert set(rich_figures.others) == set(rich_figures.gains) == {"local_only", "zero_shot"}
    for key, other in rich_figures.others.items():
        assert other.subgroups == ()
        gain = rich_figures.gains[key]
        mine, its = rich_figures.federated.balanced_accuracy.value, other.balanced_accuracy.value
        assert mine is not None
        assert its is not None
        assert gain.value == pytest.approx(mine - its)
        assert gain.low is not None
        assert gain.low < gain.value


def test_same_report_same_figures_also_out_of_its_file(rich_report: SiteReport, rich_figures: SiteFigures) -> None:
    again = site_figures(site_report_from_json(to_json(rich_report)), resamples=60)
    assert again.sets == rich_figures.sets
    assert again.gains == rich_figures.gains
    twin = figures_to_json(rich_report, again)
    assert twin == figures_to_json(rich_report, rich_figures)
    told = json.loads(twin)
    assert from_json(json.dumps(told["models"][0]).encode()) == rich_figures.federated
    assert "logits" not in told


def test_the_front_page_score_is_the_pages_own(rich_figures: SiteFigures) -> None:
    found, line = rich_figures.federated, score_of(rich_figures.federated)
    assert (line.n, line.balanced_accuracy) == (found.n, found.balanced_accuracy.value)
    assert (line.low, line.high) == (found.balanced_accuracy.low, found.balanced_accuracy.high)
    assert line.ece == found.calibration.ece.value
    assert found.calibration.chance is not None
    assert (line.ece_once, line.ece_bound) == (found.calibration.chance.observed, found.calibration.chance.bound)
    brier = found.calibration.brier
    assert (line.brier, line.brier_low, line.brier_high) == (brier.value, brier.low, brier.high)
    assert line.n_groups == 60


def test_coverage_of_sets_is_by_patient(rich_report: SiteReport, rich_figures: SiteFigures) -> None:
    found, groups = rich_figures.federated, rich_figures.sample.groups
    calibrator = Calibrator.from_dict(rich_report.calibrator or {})
    held = calibrator.in_set(softmax(rich_figures.sample.stated))
    assert held is not None
    labels = rich_figures.sample.labels
    inside = held[np.arange(len(labels)), labels]
    assert found.sets[0].covered == grouped_rate(inside, groups)
    assert found.sets[1].covered == grouped_rate(inside[labels == 0], groups[labels == 0])


def test_what_does_not_fit_the_report_is_refused(rich_report: SiteReport) -> None:
    with pytest.raises(InvalidReportError, match="2 values for 120 test images"):
        replace(rich_report, columns=(SubgroupColumn("sex", ("f",), (0, -1)),))
    with pytest.raises(InvalidReportError, match="outside the column's levels"):
        SubgroupColumn("sex", ("f",), (1,))
    with pytest.raises(InvalidReportError, match="threshold"):
        replace(rich_report, thresholds=(0.0,))
    with pytest.raises(EvaluationError, match="calibration"):
        site_figures(replace(rich_report, calibrator={"kind": "temperature"}))


def test_a_report_from_before_these_fields_still_makes_a_page(rich_report: SiteReport) -> None:
    content = json.loads(to_json(rich_report))
    for key in ("columns", "thresholds", "wanted_risk", "abstain_below", "calibrator", "partition", "collection"):
        del content[key]
    older = site_report_from_json(json.dumps(content).encode())
    view = site_view(older, site_figures(older, resamples=20))
    assert [section.number for section in view.sections] == list(range(1, 14))
