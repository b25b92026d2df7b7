"""The confusion matrix: counts by true class (rows) and predicted class (columns)."""

from __future__ import annotations

import numpy as np

from .arrays import FloatArray, IntArray
from .errors import InvalidPredictionsError


def confusion_matrix(labels: IntArray, predicted: IntArray, n_classes: int) -> IntArray:
    """Counts, int64 (K, K); entry [i, j] counts images of class i that were called j. Adds over sites.

    Raises:
        InvalidPredictionsError: when an index lies outside [0, n_classes) or the lengths differ.
    """
    if labels.shape != predicted.shape:
        raise InvalidPredictionsError(f"{len(labels)} labels for {len(predicted)} predictions")
    for name, values in (("label", labels), ("prediction", predicted)):
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < n_classes:
            raise InvalidPredictionsError(f"a {name} lies outside [0, {n_classes})")
    cells = np.bincount(labels * n_classes + predicted, minlength=n_classes * n_classes)
    return cells.reshape(n_classes, n_classes).astype(np.int64)


def row_shares(matrix: IntArray) -> FloatArray:
    """Each row divided by its sum, float64 (K, K); rows of absent classes are nan."""
    totals = matrix.sum(axis=1, keepdims=True).astype(np.float64)
    shares: FloatArray = np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)
    return shares
