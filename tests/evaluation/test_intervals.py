"""Wilson against its equation; the bootstrap against real resampling of rows; and when there is no interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student
from wardround.evaluation import intervals
from wardround.evaluation.errors import InvalidPredictionsError
from wardround.evaluation.intervals import (
    ONE_CLASS,
    TOO_FEW,
    UNDER_COVERS,
    Z_95,
    accuracy_interval,
    balanced_accuracy_difference,
    balanced_accuracy_interval,
    effective_n,
    wilson,
)


@given(st.integers(1, 400), st.data())
@settings(max_examples=150, deadline=None)
def test_wilson_bounds_solve_the_score_equation(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    bounds = wilson(k, n)
    assert bounds is not None
    low, high = bounds
    assert 0 <= low <= k / n <= high <= 1
    for bound in bounds:
        if 0 < bound < 1:
            assert (k / n - bound) ** 2 == pytest.approx(Z_95**2 * bound * (1 - bound) / n, rel=1e-6, abs=1e-12)


def test_wilson_at_the_ends() -> None:
    assert wilson(0, 0) is None
    assert wilson(0, 10) is not None
    low, high = wilson(0, 10) or (9, 9)
    assert low == 0.0
    assert high == pytest.approx(0.2775, abs=1e-4)
    assert (wilson(10, 10) or (9, 9))[1] == 1.0
    for bad in [(-1, 5), (6, 5)]:
        with pytest.raises(InvalidPredictionsError):
            wilson(*bad)


def slow_effective_n(hits: list[float], groups: list[int]) -> float:
    """Design effect and degrees of freedom, group by group, with scipy.stats in place of the special function."""
    n, names = len(hits), sorted(set(groups))
    share = sum(hits) / n
    if len(names) == 1 or share in (0, 1):
        return n if len(names) == n else len(names)
    total = 0.0
    for name in names:
        own = [hit for hit, group in zip(hits, groups, strict=True) if group == name]
        total += (sum(own) - share * len(own)) ** 2
    by_group = len(names) / (len(names) - 1) * total / n**2
    wider = (student.ppf(0.975, len(names) - 1) / student.ppf(0.975, n - 1)) ** 2
    return float(max(1.0, n / max(1.0, by_group / (share * (1 - share) / (n - 1))) / wider))


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0, 1, 2, 5, 9, 30])), min_size=1, max_size=60))
@settings(max_examples=150, deadline=None)
def test_effective_n_equals_plain_loops_and_never_narrows_an_interval(rows: list[tuple[bool, int]]) -> None:
    hits, groups = [float(hit) for hit, _ in rows], [group for _, group in rows]
    found = effective_n(np.array(hits), np.array(groups))
    assert found == pytest.approx(slow_effective_n(hits, groups), rel=1e-9)
    assert 1.0 <= found <= len(rows)
    by_group, plain = wilson(int(sum(hits)), len(rows), effective=found), wilson(int(sum(hits)), len(rows))
    assert by_group is not None
    assert plain is not None
    assert by_group[0] <= plain[0] + 1e-12
    assert by_group[1] >= plain[1] - 1e-12


def test_effective_n_of_independent_images_alike_images_and_none_to_compare() -> None:
    hits = (np.arange(200) % 3 == 0).astype(float)
    assert effective_n(hits, np.random.default_rng(0).permutation(200)) == 200.0
    assert wilson(67, 200, effective=200.0) == wilson(67, 200)
    alike = np.repeat((np.arange(40) % 4 == 0).astype(float), 5)  # five copies of 40 images say what 40 say
    patients = np.repeat(np.arange(40), 5)
    assert effective_n(alike, patients) == pytest.approx(40, rel=0.1)
    assert effective_n(np.ones(200), patients) == effective_n(np.zeros(200), patients) == 40.0
    assert effective_n(hits, np.full(200, 7)) == 1.0
    assert wilson(5, 5, effective=1.0) == (pytest.approx(1 / (1 + Z_95**2)), 1.0)


def cohort(n_groups: int, per_group: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), per_group)
    labels = generator.integers(0, k, n_groups)[groups]
    shared = generator.normal(size=(n_groups, k))[groups]
    logits = 1.4 * np.eye(k)[labels] + shared + 0.3 * generator.normal(size=(len(groups), k))
    return np.round(logits, 1), labels, groups.tolist()


def slow_balanced(z: np.ndarray, y: np.ndarray, rows: np.ndarray) -> float:
    called = z[rows].argmax(axis=1)
    return float(np.mean([np.mean(called[y[rows] == c] == c) for c in np.unique(y[rows])]))


def test_resamples_equal_scoring_the_repeated_rows() -> None:
    z, y, groups = cohort(12, 3, 3, 4)
    codes = np.array(groups)
    weights = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), size=25).astype(float)
    correct = (z.argmax(axis=1) == y).astype(float)
    fast = intervals._balanced_accuracies(weights, y, correct, codes)
    for i, weight in enumerate(weights):
        rows = np.concatenate([np.tile(np.flatnonzero(codes == g), int(weight[g])) for g in range(12)])
        if len(np.unique(y[rows])) >= 2:
            assert fast[i] == pytest.approx(slow_balanced(z, y, rows), abs=1e-12)
        else:
            assert np.isnan(fast[i])


def test_interval_holds_the_figure_and_repeats_with_its_seed() -> None:
    z, y, groups = cohort(60, 4, 4, 1)
    first, second = (balanced_accuracy_interval(z, y, groups, np.random.default_rng(2)) for _ in range(2))
    assert first == second
    assert first.note == ""
    assert first.low is not None
    assert first.high is not None
    assert first.low < slow_balanced(z, y, np.arange(len(y))) < first.high


def test_accuracy_of_resamples_equals_scoring_the_repeated_rows() -> None:
    z, y, groups = cohort(15, 3, 3, 6)
    codes = np.array(groups)
    found = accuracy_interval(z, y, groups, np.random.default_rng(5), resamples=200)
    weights = intervals.draw_weights(15, 200, np.random.default_rng(5))
    shares = []
    for weight in weights:
        rows = np.concatenate([np.tile(np.flatnonzero(codes == g), int(weight[g])) for g in range(15)])
        shares.append(np.mean(z[rows].argmax(axis=1) == y[rows]))
    low, high = np.quantile(shares, [0.025, 0.975])
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.note == UNDER_COVERS
    assert accuracy_interval(z, y, [0] * len(y), np.random.default_rng(0)).note == TOO_FEW


def test_resampling_patients_is_wider_than_resampling_images() -> None:
    z, y, groups = cohort(20, 10, 2, 3)
    patients = balanced_accuracy_interval(z, y, groups, np.random.default_rng(0))
    images = balanced_accuracy_interval(z, y, list(range(200)), np.random.default_rng(0))
    assert patients.note == UNDER_COVERS
    assert patients.low is not None
    assert patients.high is not None
    assert images.low is not None
    assert images.high is not None
    assert patients.high - patients.low > 1.5 * (images.high - images.low)


@pytest.mark.parametrize(("n_groups", "note"), [(9, TOO_FEW), (10, UNDER_COVERS), (39, UNDER_COVERS), (40, "")])
def test_few_groups_are_said_to_be_few(n_groups: int, note: str) -> None:
    z, y, groups = cohort(n_groups, 5, 2, 8)
    for interval in (
        balanced_accuracy_interval(z, y, groups, np.random.default_rng(0)),
        accuracy_interval(z, y, groups, np.random.default_rng(0)),
        balanced_accuracy_difference(z, -z, y, groups, np.random.default_rng(0)),
    ):
        assert interval.note == note
        assert (interval.low is None) == (note == TOO_FEW)
        assert interval.n_groups == n_groups


def test_one_class_and_no_image_have_no_interval() -> None:
    z = np.random.default_rng(0).normal(size=(30, 3))
    one = balanced_accuracy_interval(z, np.zeros(30, dtype=int), list(range(30)), np.random.default_rng(0))
    assert (one.low, one.note) == (None, ONE_CLASS)
    none = accuracy_interval(z[:0], np.zeros(0, dtype=int), [], np.random.default_rng(0))
    assert (none.low, none.n_groups, none.note) == (None, 0, TOO_FEW)


def test_two_of_four_classes_have_intervals() -> None:
    z, y, groups = cohort(50, 2, 2, 5)
    wide = np.c_[z, np.full((len(z), 2), -3.0)]
    assert balanced_accuracy_interval(wide, y, groups, np.random.default_rng(0)).low is not None


def test_paired_difference_of_a_model_with_itself_is_zero() -> None:
    z, y, groups = cohort(40, 2, 3, 6)
    same = balanced_accuracy_difference(z, 3 * z, y, groups, np.random.default_rng(1))
    assert (same.low, same.high) == (0.0, 0.0)


def test_groups_must_match_the_images() -> None:
    with pytest.raises(InvalidPredictionsError, match="groups"):
        balanced_accuracy_interval(np.zeros((3, 2)), [0, 1, 0], ["a"], np.random.default_rng(0))


def test_width_equals_the_binomial_one_for_independent_images() -> None:
    y = np.repeat([0, 1], 200)
    right = np.tile([True, True, True, True, False], 80)
    z = np.eye(2)[np.where(right, y, 1 - y)]
    interval = balanced_accuracy_interval(z, y, list(range(400)), np.random.default_rng(1), resamples=4000)
    assert interval.low is not None
    assert interval.high is not None
    expected = 2 * Z_95 * np.sqrt(0.25 * 2 * 0.8 * 0.2 / 200)
    assert interval.high - interval.low == pytest.approx(expected, rel=0.08)


def test_above_five_thousand_groups_bundles_of_whole_groups_are_resampled() -> None:
    generator = np.random.default_rng(2)
    patients = np.arange(6000)
    labels = np.repeat(patients % 2, 3)
    right = np.repeat(generator.random(6000) < 0.8, 3)  # one answer a patient, so slices add nothing
    z = np.eye(2)[np.where(right, labels, 1 - labels)]
    dealt = intervals.clusters(np.repeat(patients, 3), np.random.default_rng(0))
    assert np.bincount(dealt).tolist() == [9] * intervals.BUNDLES
    assert (dealt[0::3] == dealt[1::3]).all()
    few = np.arange(5000)
    assert intervals.clusters(few, np.random.default_rng(0)) is few
    found = balanced_accuracy_interval(z, labels, np.repeat(patients, 3).tolist(), np.random.default_rng(3))
    assert found.low is not None
    assert found.high is not None
    assert found.n_groups == 6000
    assert found.high - found.low == pytest.approx(2 * Z_95 * np.sqrt(0.16 / 6000), rel=0.12)
