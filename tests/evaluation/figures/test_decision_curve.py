"""Net benefit against its formula image by image, also on edges and in resamples."""

from __future__ import annotations

import numpy as np
import pytest
from wardround.evaluation.errors import InvalidPredictionsError
from wardround.evaluation.figures.bootstrap import NO_IMAGES, group_bootstrap
from wardround.evaluation.figures.decision_curve import (
    GRID,
    NO_SUCH_IMAGE,
    ONLY_THIS_CLASS,
    check_thresholds,
    decision_curve,
    net_benefit,
)
from wardround.evaluation.intervals import TOO_FEW


def slow(p: np.ndarray, y: np.ndarray, t: float) -> float:
    true = sum(1 for a, b in zip(p, y, strict=True) if a >= t and b)
    false = sum(1 for a, b in zip(p, y, strict=True) if a >= t and not b)
    return true / len(p) - false / len(p) * t / (1 - t)


def test_every_point_and_interval_equals_the_formula_also_on_ties_with_thresholds() -> None:
    generator = np.random.default_rng(0)
    p = np.round(generator.random(60), 2)  # many lie exactly on a threshold of the grid
    y = (generator.random(60) < p).astype(float)
    groups = np.arange(60) // 3
    bootstrap = group_bootstrap(groups, np.random.default_rng(1), 40)
    curve = decision_curve("mel", p, y, bootstrap, (0.1, 0.333))
    assert [point.threshold for point in curve.points] == sorted({*GRID, 0.1, 0.333})
    assert [point.threshold for point in curve.points if point.named] == [0.1, 0.333]
    assert curve.prevalence == pytest.approx(y.mean())
    for point in curve.points:
        t = point.threshold
        assert point.model.value == pytest.approx(slow(p, y, t), abs=1e-12)
        assert net_benefit(p, y, t) == pytest.approx(slow(p, y, t), abs=1e-12)
        assert point.treat_all == pytest.approx(slow(np.ones(60), y, t), abs=1e-12)
    for point in curve.points[::12]:
        resampled = []
        for weight in bootstrap.weights:
            rows = np.repeat(np.arange(60), weight[groups].astype(int))
            resampled.append(slow(p[rows], y[rows], point.threshold))
        assert (point.model.low, point.model.high) == pytest.approx(tuple(np.quantile(resampled, [0.025, 0.975])))
    for point in curve.points:
        assert (point.gain is None) == (not point.named)
        if point.gain is None:
            continue
        t = point.threshold
        paired = []
        for weight in bootstrap.weights:
            rows = np.repeat(np.arange(60), weight[groups].astype(int))
            paired.append(slow(p[rows], y[rows], t) - max(slow(np.ones(len(rows)), y[rows], t), 0.0))
        assert point.gain.value == pytest.approx(slow(p, y, t) - max(point.treat_all or 0.0, 0.0), abs=1e-12)
        assert (point.gain.low, point.gain.high) == pytest.approx(tuple(np.quantile(paired, [0.025, 0.975])))


def test_a_model_that_acts_on_everybody_gains_exactly_nothing() -> None:
    generator = np.random.default_rng(3)
    y = (generator.random(90) < 0.6).astype(float)
    bootstrap = group_bootstrap(np.arange(90) // 2, np.random.default_rng(1), 60)
    curve = decision_curve("mel", 0.4 + 0.5 * generator.random(90), y, bootstrap, (0.1, 0.3))
    gains = [point.gain for point in curve.points if point.gain is not None]
    assert [(gain.value, gain.low, gain.high) for gain in gains] == [(0.0, 0.0, 0.0)] * 2


def test_the_paired_interval_is_narrower_than_that_of_the_model_alone() -> None:
    generator = np.random.default_rng(4)
    y = (generator.random(300) < 0.5).astype(float)
    p = np.clip(0.35 * y + 0.6 * generator.random(300), 0.01, 0.99)
    point = next(
        point
        for point in decision_curve(
            "mel", p, y, group_bootstrap(np.arange(300), np.random.default_rng(1)), (0.2,)
        ).points
        if point.named
    )
    assert point.gain is not None
    widths = [(found.high or 0.0) - (found.low or 0.0) for found in (point.gain, point.model)]
    assert 0 < widths[0] < 0.5 * widths[1]


def test_under_ten_groups_there_is_no_curve() -> None:
    bootstrap = group_bootstrap(np.arange(18) // 2, np.random.default_rng(0), 20)
    found = decision_curve("a", np.linspace(0, 1, 18), np.arange(18) % 2.0, bootstrap, (0.5,))
    assert (found.prevalence, found.points, found.note) == (0.5, (), TOO_FEW)


def test_classes_without_images_or_without_others_have_no_curve() -> None:
    bootstrap = group_bootstrap(np.arange(20), np.random.default_rng(0), 20)
    p = np.linspace(0, 1, 20)
    assert decision_curve("a", p, np.zeros(20), bootstrap, ()).note == NO_SUCH_IMAGE
    assert decision_curve("a", p, np.ones(20), bootstrap, ()).note == ONLY_THIS_CLASS
    empty = decision_curve("a", p[:0], p[:0], group_bootstrap(np.zeros(0, int), np.random.default_rng(0)), ())
    assert (empty.prevalence, empty.points, empty.note) == (None, (), NO_IMAGES)


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.1, float("nan")])
def test_thresholds_outside_zero_and_one_are_refused(threshold: float) -> None:
    with pytest.raises(InvalidPredictionsError, match="threshold"):
        check_thresholds((0.5, threshold))
