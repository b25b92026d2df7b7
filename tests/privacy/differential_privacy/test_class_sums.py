"""Noisy sums by class: what a unit can change, and what is released."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from wardround.privacy.differential_privacy.class_sums import GRID, class_sums_release, noisy_class_sums
from wardround.privacy.differential_privacy.randomness import SecretStream
from wardround.privacy.differential_privacy.releases import Release
from wardround.privacy.errors import MechanismError

KEY = bytes(range(32))
STD = 1e-9  # as good as no noise


def released(vectors, labels, owners, units, classes, *, noise_std=STD, **options):
    return noisy_class_sums(
        vectors,
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(owners, dtype=torch.int64),
        units,
        classes,
        noise_std=noise_std,
        stream=SecretStream(KEY),
        **options,
    )


def slow(vectors, labels, owners, classes):
    sums, counts = torch.zeros(classes, vectors.shape[1], dtype=torch.float64), torch.zeros(classes).double()
    for vector, label, owner in zip(vectors, labels, owners, strict=True):
        k = owners.count(owner)
        sums[label] += vector.double() / max(1.0, float(vector.double().norm())) / k
        counts[label] += 1 / k
    return sums, counts


batches = st.integers(0, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 3), min_size=n, max_size=n),
        st.lists(st.integers(0, 4), min_size=n, max_size=n),
        st.floats(0.01, 100.0),
        st.integers(0, 2**20),
    )
)


def vectors_of(count, scale, seed):
    return scale * torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=60, deadline=None)
@given(batches)
def test_sums_and_counts_are_those_of_the_slow_way(batch):
    labels, owners, scale, seed = batch
    vectors = vectors_of(len(labels), scale, seed)
    found = released(vectors, labels, owners, 5, 4)
    sums, counts = slow(vectors, labels, owners, 4)
    torch.testing.assert_close(found.sums, sums, atol=1e-7, rtol=0)
    torch.testing.assert_close(found.counts, counts, atol=1e-7, rtol=0)


@settings(max_examples=60, deadline=None)
@given(batches)
def test_no_unit_changes_more_than_the_sensitivity(batch):
    labels, owners, scale, seed = batch
    vectors = vectors_of(len(labels), scale, seed)
    whole = released(vectors, labels, owners, 5, 4)
    for unit in set(owners):
        rest = [row for row, owner in enumerate(owners) if owner != unit]
        without = released(vectors[rest], [labels[r] for r in rest], [owners[r] for r in rest], 5, 4)
        sums, counts = float((whole.sums - without.sums).norm()), float((whole.counts - without.counts).norm())
        step = 2.0 * GRID  # of rounding, which the noise is enlarged for
        assert sums <= 1.0 + step
        assert counts <= 1.0 + step
        assert math.hypot(sums, counts) <= math.sqrt(2.0) + step


def test_a_unit_of_one_long_row_attains_the_sensitivity():
    with_it = released(torch.tensor([[30.0, 40.0]]), [1], [0], 1, 2)
    without = released(torch.zeros(0, 2), [], [], 1, 2)
    assert float((with_it.sums - without.sums).norm()) == pytest.approx(1.0)
    assert float((with_it.counts - without.counts).norm()) == pytest.approx(1.0)


def test_a_unit_with_rows_in_several_classes_is_shared_among_them():
    found = released(torch.eye(3), [0, 0, 2], [1, 1, 1], 2, 3)
    torch.testing.assert_close(found.counts, torch.tensor([2 / 3, 0.0, 1 / 3]).double(), atol=1e-7, rtol=0)
    torch.testing.assert_close(found.sums[2], torch.tensor([0.0, 0.0, 1 / 3]).double(), atol=1e-7, rtol=0)


def test_rows_that_are_not_finite_give_nothing():
    vectors = torch.tensor([[1.0, 0.0], [float("nan"), 0.0], [float("inf"), 1.0]])
    found = released(vectors, [0, 0, 1], [0, 0, 1], 2, 2)
    torch.testing.assert_close(found.sums, torch.tensor([[0.5, 0.0], [0.0, 0.0]]).double(), atol=1e-7, rtol=0)
    torch.testing.assert_close(found.counts, torch.tensor([0.5, 0.0]).double(), atol=1e-7, rtol=0)


def test_the_noise_is_normal_with_the_standard_deviation_asked_for():
    found = released(torch.zeros(0, 200), [], [], 3, 100, noise_std=5.0)
    values = torch.cat([found.sums.flatten(), found.counts]).numpy() / 5.0
    assert found.sums.dtype == found.counts.dtype == torch.float64
    assert stats.kstest(values, "norm").pvalue > 1e-3
    assert values.std() == pytest.approx(1.0, abs=0.02)
    assert len(set(values)) > 0.99 * len(values)


def test_two_releases_differ():
    def draw():
        return noisy_class_sums(
            torch.zeros(0, 4),
            torch.zeros(0, dtype=torch.int64),
            torch.zeros(0, dtype=torch.int64),
            1,
            2,
            noise_std=1.0,
            stream=SecretStream(),
        ).sums

    assert not bool((draw() == draw()).any())


def test_the_accountant_is_told_of_the_joint_sensitivity():
    both = released(torch.zeros(0, 2), [], [], 1, 2, noise_std=5.0)
    assert both.release("class-sums") == Release("class-sums", 5.0 / math.sqrt(2.0), 1.0, 1)
    alone = released(torch.zeros(0, 2), [], [], 1, 2, noise_std=5.0, counts=False)
    assert alone.counts.shape == (0,)
    assert alone.release("fourier-sums") == Release("fourier-sums", 5.0, 1.0, 1)
    assert class_sums_release("class-sums", 5.0) == both.release("class-sums")


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan, math.inf])
def test_a_standard_deviation_is_a_positive_number(std):
    with pytest.raises(MechanismError, match="noise multiplier"):
        released(torch.eye(2), [0, 1], [0, 1], 2, 2, noise_std=std)


@pytest.mark.parametrize(
    ("vectors", "labels", "owners", "units", "classes"),
    [
        (torch.eye(2), [0, 2], [0, 1], 2, 2),
        (torch.eye(2), [0, -1], [0, 1], 2, 2),
        (torch.eye(2), [0, 1], [0, 2], 2, 2),
        (torch.eye(2), [0, 1], [-1, 1], 2, 2),
        (torch.eye(2), [0], [0, 1], 2, 2),
        (torch.eye(2), [0, 1], [0], 2, 2),
        (torch.ones(2), [0, 1], [0, 1], 2, 2),
        (torch.zeros(0, 2), [], [], 2, 0),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(vectors, labels, owners, units, classes):
    with pytest.raises(MechanismError, match="class sums"):
        released(vectors, labels, owners, units, classes)


def test_the_last_bits_do_not_tell_what_was_added():
    """Every candidate differs from the released number by a multiple of one grid, the right one no more than others."""
    vectors = vectors_of(40, 1.0, 7)
    labels, owners = [i % 4 for i in range(40)], list(range(40))
    found = released(vectors, labels, owners, 40, 4, noise_std=10.0)
    right, _ = slow(vectors, labels, owners, 4)
    wrong, _ = slow(vectors[1:], labels[1:], owners[1:], 4)
    for candidate in (right, wrong):
        steps = (found.sums - torch.round(candidate / GRID) * GRID) / GRID
        assert torch.equal(steps, steps.round())
        float32 = ((found.sums - candidate) / 10.0).float().double() * 10.0 == found.sums - candidate
        assert not bool(float32.any())


def test_noise_has_digits_below_those_of_float32():
    found = noisy_class_sums(
        torch.zeros(0, 512),
        torch.zeros(0, dtype=torch.int64),
        torch.zeros(0, dtype=torch.int64),
        5,
        4,
        noise_std=10.0,
        stream=SecretStream(KEY),
    ).sums
    assert bool((found / GRID == (found / GRID).round()).all())
    odd = float(((found / GRID) % 2 == 1).double().mean())
    assert 0.4 < odd < 0.6  # the finest step is used as often as not
    assert 9.3 < float(found.std()) < 10.7
