"""Nearest training images against a slow search of all pairs."""

from __future__ import annotations

import numpy as np
from wardround.evaluation.cases.nearest import nearest, similarities


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True)) / float(np.linalg.norm(a) * np.linalg.norm(b))


def test_the_nearest_are_those_of_brute_force() -> None:
    generator = np.random.default_rng(0)
    queries, known = generator.normal(size=(9, 5)).astype(np.float32), generator.normal(size=(30, 5))
    found, cosines = nearest(queries, known, 3)
    for at, query in enumerate(queries.astype(np.float64)):
        every = sorted(((-cosine(query, row), k) for k, row in enumerate(known)))[:3]
        assert [k for _, k in every] == found[at].tolist()
        np.testing.assert_allclose(cosines[at], [-value for value, _ in every], atol=1e-12)


def test_equal_ones_come_in_their_order_and_few_are_all() -> None:
    known = np.array([[0.0, 2.0], [3.0, 0.0], [1.0, 0.0]])
    found, cosines = nearest([[1.0, 0.0]], known, 5)
    assert found.tolist() == [[1, 2, 0]]
    assert cosines.tolist() == [[1.0, 1.0, 0.0]]
    assert nearest([[1.0, 0.0]], known[:0], 3)[0].shape == (1, 0)
    assert similarities([[1e-3, 1e-3]], [[-5.0, -5.0]]).item() >= -1.0
