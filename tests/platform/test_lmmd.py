"""LMMD beside a slow float64 implementation, formula by formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from wardround.platform.lmmd import gaussian_kernels, lmmd

from . import slow_methods as slow

Array = NDArray[np.float64]


def fast(source: Array, labels: list[int], reference: Array, probabilities: Array) -> float:
    tensors = [torch.from_numpy(np.asarray(a, dtype=np.float64)) for a in (source, reference, probabilities)]
    return float(lmmd(tensors[0], torch.tensor(labels), tensors[1], tensors[2]))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 6),
    m=st.integers(1, 6),
    classes=st.integers(2, 5),
    spread=st.sampled_from([1e-3, 1.0, 30.0]),
    offset=st.sampled_from([0.0, 1.0, 100.0]),
    repeated=st.booleans(),
)
def test_equals_the_slow_formula(
    seed: int, n: int, m: int, classes: int, spread: float, offset: float, repeated: bool
) -> None:
    generator = np.random.default_rng(seed)
    points = np.round(offset + spread * generator.normal(size=(n + m, 4)), 9)
    if repeated:
        points[-1] = points[0]
    labels = generator.integers(0, classes, size=n).tolist()  # with few rows, classes are missing on either side
    probabilities = generator.dirichlet(np.full(classes, 0.3), size=m) + 1e-12
    expected = slow.lmmd(points[:n], labels, points[n:], probabilities)
    assert fast(points[:n], labels, points[n:], probabilities) == pytest.approx(expected, abs=1e-9)


POINTS = np.random.default_rng(8).normal(size=(9, 3))


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [
        ([0, 0, 1, 1, 0], [[0.1, 0.2, 0.7], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4], [0.0, 0.9, 0.1]]),  # 0 only here, 2 there
        ([2, 2, 2, 2, 2], [[0.1, 0.2, 0.7], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4], [0.0, 0.9, 0.1]]),
        ([0, 1, 2, 0, 1], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]),  # labels known
        ([0, 1, 2, 0, 1], [[1.0, 0.0, 0.0]] * 4),
        ([1, 1, 1, 1, 1], [[0.4, 0.6, 0.0]] * 4),  # every guess is 1, and all of them count for it
    ],
)
def test_classes_missing_on_either_side_and_known_labels(labels: list[int], probabilities: list[list[float]]) -> None:
    guessed = np.array(probabilities)
    expected = slow.lmmd(POINTS[:5], labels, POINTS[5:], guessed)
    assert expected > 0.01
    assert fast(POINTS[:5], labels, POINTS[5:], guessed) == pytest.approx(expected, abs=1e-9)


def test_one_row_on_either_side() -> None:
    guessed = np.array([[0.3, 0.7]])
    distance = float(np.square(POINTS[0] - POINTS[1]).sum())
    # Two points: their distance is the mean one, and the kernel between them the same whatever it is.
    between = sum(np.exp(-4.0 / 2.0**k) for k in range(5))
    assert distance > 0
    assert fast(POINTS[:1], [1], POINTS[1:2], guessed) == pytest.approx(5.0 + 5.0 - 2.0 * between, abs=1e-9)
    assert fast(POINTS[:1], [0], POINTS[1:2], guessed) == 0.0


def test_with_labels_known_the_same_images_have_no_discrepancy() -> None:
    labels = [0, 1, 2, 0]
    known = np.eye(3)[labels]
    assert fast(POINTS[:4], labels, POINTS[:4], known) == pytest.approx(0.0, abs=1e-9)
    assert fast(POINTS[:4], labels, POINTS[4:8], known) > 0.1


def test_no_common_class_gives_zero_with_a_gradient_of_zero() -> None:
    source = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    loss = lmmd(source, torch.tensor([0, 0]), torch.zeros(1, 3, dtype=torch.float64), torch.tensor([[0.1, 0.9]]))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert source.grad is not None
    assert not source.grad.any()


def test_an_empty_reference_gives_zero() -> None:
    assert fast(np.ones((2, 3)), [0, 1], np.zeros((0, 3)), np.zeros((0, 2))) == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 1.0 / 3.0, 1234.567])
def test_identical_points_have_kernel_5_everywhere_and_no_discrepancy(value: float, dtype: torch.dtype) -> None:
    points = torch.full((5, 7), value, dtype=dtype)
    assert torch.equal(gaussian_kernels(points), torch.full((5, 5), 5.0, dtype=dtype))
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=dtype)
    assert float(lmmd(points[:3], torch.tensor([0, 1, 1]), points[3:], probabilities)) == pytest.approx(0.0, abs=1e-5)


def test_kernels_see_distances_that_are_small_beside_the_norm() -> None:
    generator = np.random.default_rng(3)
    near = generator.normal(size=(6, 5))
    expected = slow.kernels(near)
    shifted = gaussian_kernels(torch.from_numpy(near * 1e-4 + 10.0)).numpy()
    np.testing.assert_allclose(shifted, expected, atol=1e-9)


def test_the_gradient_moves_the_source_and_treats_bandwidth_and_probabilities_as_constants() -> None:
    generator = np.random.default_rng(5)
    source, reference = generator.normal(size=(3, 4)), generator.normal(size=(3, 4))
    probabilities = torch.from_numpy(generator.dirichlet(np.ones(2), size=3)).requires_grad_()
    labels = [0, 1, int(probabilities[0].argmax())]
    leaf = torch.from_numpy(source).requires_grad_()
    lmmd(leaf, torch.tensor(labels), torch.from_numpy(reference), probabilities).backward()
    assert probabilities.grad is None
    assert leaf.grad is not None
    points = np.concatenate([source, reference])
    d = np.square(points[:, None] - points[None]).sum(axis=2)
    bandwidth = d.sum() / 30 / 4

    def at(moved: Array) -> float:
        """The slow formula with the bandwidth of the unmoved points."""
        both = np.concatenate([moved, reference])
        d = np.square(both[:, None] - both[None]).sum(axis=2)
        k = sum(np.exp(-d / (bandwidth * 2.0**power)) for power in range(5))
        p = probabilities.detach().numpy()
        guessed = set(p.argmax(axis=1).tolist())
        common = sorted(set(labels) & guessed)
        total = 0.0
        for c in common:
            w = np.concatenate([np.array([x == c for x in labels]) / labels.count(c), -p[:, c] / p[:, c].sum()])
            total += float(w @ k @ w)
        return total / len(common)

    numeric = np.zeros_like(source)
    for index in np.ndindex(*source.shape):
        step = np.zeros_like(source)
        step[index] = 1e-6
        numeric[index] = (at(source + step) - at(source - step)) / 2e-6
    np.testing.assert_allclose(leaf.grad.numpy(), numeric, atol=1e-8)
