"""The training images that a test image is most like, by the frozen encoder."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import FloatArray, IntArray


def nearest(queries: ArrayLike, known: ArrayLike, k: int) -> tuple[IntArray, FloatArray]:
    """The k rows of ``known`` with the largest cosine to each query; of equal ones the first.

    Args:
        queries: (n, D). known: (m, D). Rows need not have norm 1, and none is zero. k: >= 0.

    Returns:
        Indices int64 and cosines float64 in [-1, 1], both (n, min(k, m)), nearest first.
    """
    cosines = similarities(queries, known)
    k = min(k, cosines.shape[1])
    # A stable sort of the negated values: equal cosines stay in the order of the training images.
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return order.astype(np.int64), np.take_along_axis(cosines, order, axis=1)


def similarities(queries: ArrayLike, known: ArrayLike) -> FloatArray:
    """Cosines of all pairs, float64 (n, m) in [-1, 1]."""
    a, b = _unit(queries), _unit(known)
    return np.asarray(np.clip(a @ b.T, -1.0, 1.0), dtype=np.float64)


def _unit(rows: ArrayLike) -> FloatArray:
    values = np.asarray(rows, dtype=np.float64)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), dtype=np.float64)
