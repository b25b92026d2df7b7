"""Calibration errors against plain loops, and where ties, single images and empty bins would mislead."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.evaluation.errors import InvalidPredictionsError
from wardround.evaluation.figures.calibration_errors import (
    debiased_l2_error,
    equal_mass_error,
    equal_mass_index,
    equal_mass_sums,
    largest_gap,
)
from wardround.evaluation.figures.smooth_ece import smooth_calibration_error, smooth_error_at


def slow_bins(p: list[float], n_bins: int) -> list[int]:
    return [n_bins * sum(q < v for q in p) // len(p) for v in p]


def members(where: list[int], i: int) -> list[int]:
    return [j for j, b in enumerate(where) if b == i]


def slow_equal_mass(p: list[float], y: list[float], n_bins: int) -> float:
    where, total = slow_bins(p, n_bins), 0.0
    for i in range(n_bins):
        total += abs(sum(y[j] - p[j] for j in members(where, i)))
    return total / len(p)


def slow_debiased(p: list[float], y: list[float], n_bins: int) -> float | None:
    where, total, known = slow_bins(p, n_bins), 0.0, False
    for i in range(n_bins):
        held = members(where, i)
        if len(held) >= 2:
            known = True
            mean_p, mean_y = sum(p[j] for j in held) / len(held), sum(y[j] for j in held) / len(held)
            total += len(held) / len(p) * ((mean_p - mean_y) ** 2 - mean_y * (1 - mean_y) / (len(held) - 1))
    return math.sqrt(max(0.0, total)) if known else None


tied = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=60)


@given(tied, st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_equal_mass_and_debiased_errors_equal_plain_loops(pairs: list[tuple[int, bool]], n_bins: int) -> None:
    p, y = [a / 20 for a, _ in pairs], [float(b) for _, b in pairs]
    assert equal_mass_index(np.array(p), n_bins).tolist() == slow_bins(p, n_bins)
    assert equal_mass_error(np.array(p), np.array(y), n_bins) == pytest.approx(slow_equal_mass(p, y, n_bins), abs=1e-12)
    expected = slow_debiased(p, y, n_bins)
    found = debiased_l2_error(np.array(p), np.array(y), n_bins)
    # A root next to 0 magnifies a rounding of 1e-17 to 1e-8.
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-7))


def test_equal_values_never_lie_in_two_bins_and_rounded_probabilities_leave_bins_empty() -> None:
    rounded = np.round(np.random.default_rng(0).random(500), 1)
    where = equal_mass_index(rounded)
    for value in np.unique(rounded):
        assert len(set(where[rounded == value].tolist())) == 1
    assert (equal_mass_sums(np.full(50, 0.7), np.ones(50))[0] > 0).sum() == 1


def test_without_ties_bins_differ_by_one_image_at_most() -> None:
    sizes = np.bincount(equal_mass_index(np.random.default_rng(1).random(1007)), minlength=10)
    assert set(sizes.tolist()) <= {100, 101}


def test_largest_gap_tells_the_images_of_its_bin() -> None:
    p = np.array([0.55, 0.95, 0.96, 0.97, 0.98])
    assert largest_gap(p, np.array([0.0, 1, 1, 1, 1])) == (pytest.approx(0.55), 1)
    assert largest_gap(np.array([0.05, 0.85]), np.array([1.0, 1.0])) == (pytest.approx(0.95), 1)
    assert largest_gap(np.zeros(0), np.zeros(0)) is None


def test_of_equal_gaps_the_bin_of_most_images_is_told() -> None:
    assert largest_gap(np.array([0.25, 0.75, 0.75]), np.array([0.0, 1.0, 1.0])) == (0.25, 2)


def test_debiased_error_of_a_calibrated_model_is_nearer_zero_than_the_plug_in() -> None:
    debiased, plain = [], []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        p = generator.random(200)
        y = (generator.random(200) < p).astype(float)
        counts, stated, right = equal_mass_sums(p, y)
        plain.append(math.sqrt(float((np.square((stated - right) / counts) * counts).sum() / 200)))
        debiased.append(debiased_l2_error(p, y) or 0.0)
    assert np.mean(debiased) < 0.5 * np.mean(plain)
    assert min(plain) > 0


def test_n_is_one_and_none() -> None:
    one, hit = np.array([0.8]), np.array([1.0])
    assert equal_mass_error(one, hit) == pytest.approx(0.2)
    assert debiased_l2_error(one, hit) is None
    assert smooth_calibration_error(one, hit) == pytest.approx(0.2, abs=0.02)
    for figure in (equal_mass_error, debiased_l2_error, smooth_calibration_error):
        assert figure(np.zeros(0), np.zeros(0)) is None


def test_faults_are_refused() -> None:
    with pytest.raises(InvalidPredictionsError, match="bins"):
        equal_mass_index(np.array([0.5]), 0)
    with pytest.raises(InvalidPredictionsError, match="finite"):
        equal_mass_index(np.array([0.5, float("nan")]))


def slow_smooth(p: np.ndarray, y: np.ndarray, width: float) -> float:
    """The integral itself: midpoints in t, and the kernel's reflections added one by one."""
    t = (np.arange(6000) + 0.5) / 6000
    total = np.zeros(len(t))
    for stated, happened in zip(p, y, strict=True):
        for fold in range(-3, 4):
            for image in (2 * fold + stated, 2 * fold - stated):
                total += (happened - stated) * np.exp(-0.5 * ((t - image) / width) ** 2)
    return float(np.abs(total).mean() / (len(p) * width * math.sqrt(2 * math.pi)))


@pytest.mark.parametrize("width", [0.01, 0.05, 0.3, 1.0])
def test_smooth_error_equals_direct_integration_with_reflected_kernels(width: float) -> None:
    generator = np.random.default_rng(7)
    p = np.r_[generator.random(36), 0.0, 1.0, 1.0, 0.99999]
    y = (generator.random(40) < p**2).astype(float)
    assert smooth_error_at(p, y, width) == pytest.approx(slow_smooth(p, y, width), abs=3e-6)


def test_smooth_error_is_the_fixed_point() -> None:
    generator = np.random.default_rng(8)
    p = generator.random(60)
    y = (generator.random(60) < p**2).astype(float)
    found = smooth_calibration_error(p, y)
    assert found is not None
    assert slow_smooth(p, y, found) == pytest.approx(found, abs=1e-5)


def test_smooth_error_does_not_depend_on_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(9)
    p = generator.random(3000)
    y = (generator.random(3000) < p).astype(float)
    coarse = smooth_calibration_error(p, y)
    monkeypatch.setattr("wardround.evaluation.figures.smooth_ece.MANY_IMAGES", 1)
    assert smooth_calibration_error(p, y) == pytest.approx(coarse, abs=1e-6)


def test_saturated_confidence_of_exactly_one_is_held_by_every_error() -> None:
    p, y = np.ones(40), np.r_[np.zeros(10), np.ones(30)]
    assert equal_mass_error(p, y) == pytest.approx(0.25)
    assert largest_gap(p, y) == (pytest.approx(0.25), 40)
    assert debiased_l2_error(p, y) == pytest.approx(math.sqrt(0.25**2 - 0.75 * 0.25 / 39))
    assert smooth_calibration_error(p, y) == pytest.approx(0.25, abs=1e-6)
    assert smooth_calibration_error(p, np.ones(40)) == pytest.approx(0.0, abs=1e-6)
