"""Risk and coverage against loops; equal confidences are answered together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.evaluation.figures.bootstrap import NO_IMAGES, group_bootstrap
from wardround.evaluation.figures.risk_coverage import (
    MOST_POINTS,
    area_under_risk,
    best_area,
    risk_coverage,
    risk_point,
)
from wardround.evaluation.intervals import TOO_FEW


def slow_area(confidence: np.ndarray, wrong: np.ndarray) -> float:
    """Every image is charged the risk among all images at least as confident as it."""
    risks = []
    for own in confidence:
        answered = [w for c, w in zip(confidence, wrong, strict=True) if c >= own]
        risks.append(sum(answered) / len(answered))
    return sum(risks) / len(risks)


@given(st.lists(st.tuples(st.integers(0, 15), st.booleans()), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_area_equals_plain_loops_with_ties(pairs: list[tuple[int, bool]]) -> None:
    confidence, wrong = np.array([a / 15 for a, _ in pairs]), np.array([float(b) for _, b in pairs])
    found = area_under_risk(confidence, wrong)
    assert found == pytest.approx(slow_area(confidence, wrong), abs=1e-12)
    assert found is not None
    assert found >= best_area(len(wrong), int(wrong.sum())) - 1e-12


def test_area_without_ties_is_the_mean_risk_over_coverages() -> None:
    # Answered in the order right, wrong, right, wrong: risks 0, 1/2, 1/3, 1/2.
    assert area_under_risk(np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.0, 1, 0, 1])) == pytest.approx(
        (1 / 2 + 1 / 3 + 1 / 2) / 4
    )


def test_best_area_is_that_of_the_best_order() -> None:
    wrong = np.r_[np.zeros(13), np.ones(7)]
    assert best_area(20, 7) == pytest.approx(slow_area(np.linspace(1, 0, 20), wrong))
    assert best_area(5, 0) == 0.0


def test_saturated_confidence_is_one_point_at_full_coverage() -> None:
    bootstrap = group_bootstrap(np.arange(40), np.random.default_rng(0), 50)
    wrong = (np.arange(40) < 10).astype(float)
    found = risk_coverage(np.ones(40), wrong, bootstrap, abstain_below=0.99)
    assert [(point.coverage, point.risk.value) for point in found.points] == [(1.0, 0.25)]
    assert found.aurc.value == pytest.approx(0.25)
    assert found.chosen == risk_point(np.ones(40), wrong, bootstrap.groups, 0.99)
    assert found.excess_aurc == pytest.approx(0.25 - best_area(40, 10))


def test_curve_runs_from_full_coverage_down_in_at_most_a_hundred_points() -> None:
    generator = np.random.default_rng(1)
    confidence, wrong = generator.random(5000), (generator.random(5000) < 0.3).astype(float)
    bootstrap = group_bootstrap(np.arange(5000), np.random.default_rng(0), 20)
    points = risk_coverage(confidence, wrong, bootstrap).points
    assert MOST_POINTS - 5 <= len(points) <= MOST_POINTS
    coverages = [point.coverage for point in points]
    assert coverages == sorted(coverages, reverse=True)
    assert (coverages[0], points[-1].answered) == (1.0, 1)
    for point in points[::20]:
        assert point == risk_point(confidence, wrong, bootstrap.groups, point.threshold)


def test_the_threshold_itself_is_answered_and_nothing_above_all_is_null() -> None:
    confidence, wrong = np.array([0.5, 0.6, 0.7]), np.array([1.0, 0.0, 1.0])
    at = risk_point(confidence, wrong, np.arange(3), 0.6)
    assert (at.answered, at.risk.numerator, at.risk.denominator) == (2, 1, 2)
    none = risk_point(confidence, wrong, np.arange(3), 0.9)
    assert (none.coverage, none.risk.value, none.risk.low) == (0.0, None, None)


def test_several_images_a_patient_widen_every_point_and_the_share_declined() -> None:
    generator = np.random.default_rng(2)
    patients = np.repeat(np.arange(40), 5)
    confidence = np.repeat(np.round(generator.random(40), 3), 5)
    wrong = np.repeat(generator.random(40) < 0.3, 5).astype(float)
    once = risk_coverage(
        confidence, wrong, group_bootstrap(np.arange(200), np.random.default_rng(0), 20), abstain_below=0.4
    )
    found = risk_coverage(confidence, wrong, group_bootstrap(patients, np.random.default_rng(0), 20), abstain_below=0.4)
    assert found.declined is not None
    assert (found.declined.numerator, found.declined.denominator) == (int((confidence < 0.4).sum()), 200)
    assert found.chosen == risk_point(confidence, wrong, patients, 0.4)
    pairs = [
        (found.declined, once.declined),
        *((a.risk, b.risk) for a, b in zip(found.points, once.points, strict=True)),
    ]
    for by_patient, by_image in pairs:
        assert by_image is not None
        assert (by_patient.value, by_patient.numerator) == (by_image.value, by_image.numerator)
        assert by_patient.low is not None
        assert by_image.low is not None
        assert (by_patient.high or 0) - by_patient.low > 1.3 * ((by_image.high or 0) - by_image.low)


def test_under_ten_groups_the_counts_stay_and_the_areas_are_null() -> None:
    generator = np.random.default_rng(3)
    groups = np.arange(45) // 5
    found = risk_coverage(
        generator.random(45), np.ones(45), group_bootstrap(groups, np.random.default_rng(0)), abstain_below=0.5
    )
    assert (found.aurc.value, found.aurc.note, found.excess_aurc) == (None, TOO_FEW, None)
    assert found.points[0].answered == 45


def test_no_images() -> None:
    found = risk_coverage(np.zeros(0), np.zeros(0), group_bootstrap(np.zeros(0, int), np.random.default_rng(0)))
    assert (found.points, found.aurc.value, found.aurc.note, found.excess_aurc) == ((), None, NO_IMAGES, None)
