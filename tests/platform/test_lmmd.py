"""LMMD beside a slow float64 implementation, formula by formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from wardround.platform.lmmd import gaussian_kernels, lmmd

Array = NDArray[np.float64]


def slow_kernels(points: Array) -> Array:
    """Pair by pair, coordinate by coordinate: sum over k of exp(-d / (mean d / 4 * 2^k)), k = 0..4."""
    n = len(points)
    d = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            d[i, j] = math.fsum((a - b) ** 2 for a, b in zip(points[i], points[j], strict=True))
    mean = math.fsum(d.ravel()) / max(n * n - n, 1)
    k = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if d[i, j] == 0.0:
                k[i, j] = 5.0
            else:
                k[i, j] = math.fsum(math.exp(-d[i, j] / (mean / 4.0 * 2.0**power)) for power in range(5))
    return k


def slow_lmmd(source: Array, labels: list[int], reference: Array, probabilities: Array) -> float:
    """Zhu et al. 2020, equation 7, with the class weights of equation 5, in loops."""
    classes = probabilities.shape[1]
    guessed = {int(np.argmax(row)) for row in probabilities}
    common = [c for c in range(classes) if c in labels and c in guessed]
    if not common:
        return 0.0
    n, m = len(source), len(reference)
    kernel = slow_kernels(np.concatenate([source, reference]))
    total = []
    for c in common:
        ws = [float(label == c) / labels.count(c) for label in labels]
        column = math.fsum(probabilities[:, c])
        wt = [float(p) / column for p in probabilities[:, c]]
        total += [ws[i] * ws[j] * kernel[i, j] for i in range(n) for j in range(n)]
        total += [wt[i] * wt[j] * kernel[n + i, n + j] for i in range(m) for j in range(m)]
        total += [-2.0 * ws[i] * wt[j] * kernel[i, n + j] for i in range(n) for j in range(m)]
    return math.fsum(total) / len(common)


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
    expected = slow_lmmd(points[:n], labels, points[n:], probabilities)
    assert fast(points[:n], labels, points[n:], probabilities) == pytest.approx(expected, abs=1e-9)


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
    expected = slow_kernels(near)
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
