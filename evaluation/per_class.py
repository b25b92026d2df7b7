"""Sensitivity, specificity and predictive values of every class against the rest, with Wilson intervals.

Predictive values depend on how common a class is among the images scored: they hold for this site's case mix
only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .arrays import IntArray
from .errors import InvalidPredictionsError
from .intervals import wilson


@dataclass(frozen=True, slots=True)
class Rate:
    """A proportion with its counts; value and bounds are None when the denominator is 0."""

    numerator: int
    denominator: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class against all others.

    Attributes:
        name: class name. n: images of this class. predicted: images called this class.
        sensitivity: TP / (TP + FN). specificity: TN / (TN + FP). ppv: TP / (TP + FP). npv: TN / (TN + FN).
    """

    name: str
    n: int
    predicted: int
    sensitivity: Rate
    specificity: Rate
    ppv: Rate
    npv: Rate


def rate(numerator: int, denominator: int) -> Rate:
    """A proportion with its 95 % Wilson interval."""
    bounds = wilson(numerator, denominator)
    if bounds is None:
        return Rate(numerator, denominator, None, None, None)
    return Rate(numerator, denominator, numerator / denominator, *bounds)


def per_class(matrix: IntArray, classes: Sequence[str]) -> tuple[ClassRow, ...]:
    """One row per class, in label order, from a confusion matrix of rows = truth and columns = prediction.

    Args:
        matrix: (K, K) counts.
        classes: K names.
    """
    if matrix.shape != (len(classes), len(classes)):
        raise InvalidPredictionsError(f"a matrix of shape {matrix.shape} for {len(classes)} classes")
    total = int(matrix.sum())
    rows = []
    for k, name in enumerate(classes):
        hit, truth, called = int(matrix[k, k]), int(matrix[k].sum()), int(matrix[:, k].sum())
        true_negative = total - truth - called + hit
        rows.append(
            ClassRow(
                name=name,
                n=truth,
                predicted=called,
                sensitivity=rate(hit, truth),
                specificity=rate(true_negative, total - truth),
                ppv=rate(hit, called),
                npv=rate(true_negative, total - called),
            )
        )
    return tuple(rows)
