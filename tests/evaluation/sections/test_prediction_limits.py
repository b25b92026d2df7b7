"""Limits of a monitoring plan: they hold the figure of a new sample as often as they say, seeded simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from wardround.evaluation.figures.figure_set import Estimate
from wardround.evaluation.per_class import grouped_rate, rate
from wardround.evaluation.sections.prediction_limits import (
    effective_size,
    new_share_limits,
    same_size_floor,
    same_size_limits,
)

STUDIES = 1500


def test_the_size_behind_wilson_bounds_is_found_again() -> None:
    for hits, n, effective in ((3, 40, None), (0, 25, None), (25, 25, None), (180, 200, 61.5), (90, 200, 33.0)):
        size = effective_size(rate(hits, n, effective))
        assert size == pytest.approx(n if effective is None else effective)
    assert effective_size(rate(0, 0)) is None
    assert same_size_limits(rate(0, 0)) is None


def test_near_the_middle_limits_are_those_of_the_textbook() -> None:
    low, high = new_share_limits(0.4, 5000, 2000)
    half = 1.96 * math.sqrt(0.4 * 0.6 * (1 / 5000 + 1 / 2000))
    assert [low, high] == pytest.approx([0.4 - half, 0.4 + half], abs=5e-4)
    # Each bound is a share that differs from p by just 1.96 standard errors of the joint share.
    for share, n, m in ((0.2, 80, 30), (0.7, 40, 200)):
        for bound in new_share_limits(share, n, m):
            joint = (n * share + m * bound) / (n + m)
            error = math.sqrt(joint * (1 - joint) * (1 / n + 1 / m))
            assert abs(bound - share) == pytest.approx(1.959964 * error, rel=1e-5)
    assert new_share_limits(0.0, 50, 50)[0] == 0.0
    assert 0.05 < new_share_limits(0.0, 50, 50)[1] < 0.1
    assert new_share_limits(1.0, 50, 50)[1] == 1.0
    assert new_share_limits(0.5, 50, 20)[1] > new_share_limits(0.5, 50, 500)[1]  # fewer new images, wider limits


@pytest.mark.parametrize(("share", "n", "m"), [(0.3, 120, 120), (0.1, 150, 60), (0.9, 100, 400)])
def test_new_shares_of_independent_images_lie_within(share: float, n: int, m: int) -> None:
    generator = np.random.default_rng(11)
    first, new = generator.binomial(n, share, STUDIES) / n, generator.binomial(m, share, STUDIES) / m
    within = [low <= q <= high for (low, high), q in zip((new_share_limits(p, n, m) for p in first), new, strict=True)]
    assert 0.935 <= np.mean(within) <= 0.98


def test_new_shares_of_patients_lie_within_and_often_outside_the_interval_of_the_report() -> None:
    generator = np.random.default_rng(12)
    groups = np.repeat(np.arange(60), 4)
    within = inside = 0
    for _ in range(STUDIES):
        first, new = (generator.random(240) < generator.beta(1.5, 3.5, 60)[groups] for _ in range(2))
        found = grouped_rate(first, groups)
        limits = same_size_limits(found)
        assert limits is not None
        assert found.low is not None
        assert found.high is not None
        within += limits[0] <= new.mean() <= limits[1]
        inside += found.low <= new.mean() <= found.high
    assert 0.935 <= within / STUDIES <= 0.98
    assert inside / STUDIES < 0.88


def test_the_floor_of_a_balanced_accuracy() -> None:
    classes = [rate(30, 40), rate(36, 40)]
    floor = same_size_floor(Estimate(0.825, 0.745, 0.9), classes)
    assert floor == pytest.approx(0.825 - math.sqrt(2) * 0.08)
    assert same_size_floor(Estimate(0.1, 0.01, 0.3), classes) == 0.0
    assert same_size_floor(Estimate(None), classes) is None
    # Nothing was wrong, and yet a new sample may well have an error.
    perfect = same_size_floor(Estimate(1.0, 1.0, 1.0), [rate(20, 20), rate(20, 20)])
    assert perfect is not None
    assert 0.8 < perfect < 0.95
    assert perfect < 1 - 0.5 / 20  # one error in one class is no alarm


def test_new_balanced_accuracies_fall_below_the_floor_in_about_one_of_forty() -> None:
    generator = np.random.default_rng(13)
    recalls, n = np.array([0.9, 0.7, 0.8]), 50
    below = 0
    for _ in range(STUDIES):
        first, new = (generator.binomial(n, recalls) / n for _ in range(2))
        error = math.sqrt((first * (1 - first) / n).sum()) / 3
        value = float(first.mean())
        floor = same_size_floor(Estimate(value, value - 1.96 * error, value + 1.96 * error), [])
        assert floor is not None
        below += new.mean() < floor
    assert 0.015 <= below / STUDIES <= 0.04
