"""Bins with exact edges, and the null of the calibration error."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.evaluation.arrays import softmax
from wardround.evaluation.errors import InvalidPredictionsError
from wardround.evaluation.reliability import bin_index, bin_sums, calibration_error, null_bound, reliability_bins


def slow_bin(p: float, n_bins: int) -> int:
    return min(int(Fraction(p) * n_bins), n_bins - 1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(1, 40))
@settings(max_examples=200, deadline=None)
def test_bins_equal_exact_fractions(values: list[float], n_bins: int) -> None:
    assert bin_index(np.array(values), n_bins).tolist() == [slow_bin(p, n_bins) for p in values]


@pytest.mark.parametrize("n_bins", [2, 3, 7, 10, 15, 49])
def test_values_on_and_beside_every_edge(n_bins: int) -> None:
    near = [i / n_bins for i in range(n_bins + 1)]
    values = np.clip(np.r_[near, np.nextafter(near, 2), np.nextafter(near, -1)], 0, 1)
    assert bin_index(values, n_bins).tolist() == [slow_bin(float(p), n_bins) for p in values]


def test_one_is_in_the_last_bin_and_three_tenths_as_stored_is_below_its_edge() -> None:
    assert bin_index(np.array([1.0, 0.5, 0.3, 0.1, 0.0])).tolist() == [9, 5, 2, 1, 0]


def test_a_rounding_above_one_is_kept_and_more_is_refused() -> None:
    assert bin_index(np.array([1.0 + 2e-16])).tolist() == [9]
    for bad in ([1.1], [-0.1], [float("nan")]):
        with pytest.raises(InvalidPredictionsError):
            bin_index(np.array(bad))


def test_bins_hold_counts_bars_and_none_where_empty() -> None:
    bins = reliability_bins(np.array([0.92, 0.94, 0.96, 0.31]), np.array([1.0, 1.0, 0.0, 1.0]))
    assert [b.n for b in bins] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 3]
    assert (bins[0].accuracy, bins[0].mean_confidence, bins[0].accuracy_low) == (None, None, None)
    last = bins[9]
    assert (last.correct, last.accuracy, last.mean_confidence) == (2, pytest.approx(2 / 3), pytest.approx(0.94))
    assert last.accuracy_low is not None
    assert last.accuracy_high is not None
    assert last.accuracy_low < 2 / 3 < last.accuracy_high


def test_bars_of_several_images_a_patient_are_wider() -> None:
    p, hit = np.repeat([0.62, 0.64, 0.66, 0.95] * 5, 6), np.repeat([1.0, 0.0, 1.0, 1.0] * 5, 6)
    patients = np.repeat(np.arange(20), 6)
    plain, alone = reliability_bins(p, hit), reliability_bins(p, hit, groups=np.arange(120))
    assert plain == alone
    grouped = reliability_bins(p, hit, groups=patients)
    assert [(b.n, b.correct, b.accuracy) for b in grouped] == [(b.n, b.correct, b.accuracy) for b in plain]
    sixes, nines = (grouped[6], plain[6]), (grouped[9], plain[9])
    for wide, narrow in (sixes, nines):
        assert wide.accuracy_low is not None
        assert narrow.accuracy_low is not None
        assert wide.accuracy_low < narrow.accuracy_low - 0.1
    assert grouped[0].accuracy_low is None


def test_no_images() -> None:
    assert calibration_error(np.zeros(0), np.zeros(0)) is None
    assert all(b.n == 0 for b in reliability_bins(np.zeros(0), np.zeros(0)))
    assert null_bound(np.zeros(0), np.zeros(0), [], np.random.default_rng(0)) is None


def test_one_image() -> None:
    assert calibration_error(np.array([0.8]), np.array([1.0])) == pytest.approx(0.2)
    bound = null_bound(np.array([0.8]), np.array([1.0]), ["a"], np.random.default_rng(0))
    assert bound is not None
    assert bound.effective_n == 1
    assert bound.bound == pytest.approx(0.8)


def test_sums_of_sites_add_up_to_the_pooled_sums() -> None:
    generator = np.random.default_rng(5)
    p, hit = generator.random(300), (generator.random(300) < 0.6).astype(float)
    parts = [bin_sums(p[i::3], hit[i::3]) for i in range(3)]
    for pooled, split in zip(bin_sums(p, hit), zip(*parts, strict=True), strict=True):
        assert np.allclose(pooled, sum(split))


def calibrated(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    p = softmax(generator.normal(size=(n, 4)) * 1.5)
    labels = np.array([generator.choice(4, p=row) for row in p])
    return p.max(axis=1), (p.argmax(axis=1) == labels).astype(float)


def test_null_is_exceeded_in_about_one_of_twenty_calibrated_studies() -> None:
    exceeded = 0
    for seed in range(120):
        confidence, correct = calibrated(80, seed)
        bound = null_bound(confidence, correct, list(range(80)), np.random.default_rng(seed))
        assert bound is not None
        exceeded += bound.exceeded
    assert exceeded <= 14  # binomial(120, .05) passes 14 with probability below .002


def test_null_stays_honest_with_ten_identical_images_per_patient() -> None:
    exceeded = naive = 0
    for seed in range(60):
        confidence, correct = (np.repeat(part, 10) for part in calibrated(30, seed))
        patients = np.repeat(np.arange(30), 10).tolist()
        grouped = null_bound(confidence, correct, patients, np.random.default_rng(seed), draws=5)
        single = null_bound(confidence, correct, list(range(300)), np.random.default_rng(seed))
        assert grouped is not None
        assert single is not None
        assert grouped.effective_n == 30
        exceeded += grouped.exceeded
        naive += single.exceeded
    assert exceeded <= 9
    assert naive >= 30


def test_overconfident_model_exceeds_its_null_and_the_stream_is_reproducible() -> None:
    confidence = np.full(200, 0.97)
    correct = (np.arange(200) % 2).astype(float)
    first, second = (null_bound(confidence, correct, list(range(200)), np.random.default_rng(3)) for _ in range(2))
    assert first is not None
    assert first.exceeded
    assert first == second


@pytest.mark.parametrize("per_group", [1, 3])
def test_normal_limit_of_many_groups_gives_the_bound_of_the_exact_simulation(
    monkeypatch: pytest.MonkeyPatch, per_group: int
) -> None:
    confidence, correct = (np.repeat(part, per_group) for part in calibrated(3000, 4))
    patients = np.repeat(np.arange(3000), per_group).tolist()
    exact = null_bound(confidence, correct, patients, np.random.default_rng(1), draws=2, simulations=3000)
    monkeypatch.setattr("wardround.evaluation.reliability.MANY_GROUPS", 100)
    normal = null_bound(confidence, correct, patients, np.random.default_rng(2), draws=2, simulations=3000)
    assert exact is not None
    assert normal is not None
    assert normal.bound == pytest.approx(exact.bound, rel=0.03)  # 3000 simulations leave about 1 % of noise in each
    # The images of a group are the same here, so whichever is chosen, the error is one.
    assert normal.observed == pytest.approx(exact.observed, abs=1e-12)
    assert (normal.effective_n, normal.exceeded) == (3000, exact.exceeded)
