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
