"""Sensitivity, specificity and predictive values of every class against the rest, with Wilson intervals by group.

Predictive values depend on how common a class is among the images scored: they hold for this site's case mix
only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .arrays import FloatArray, IntArray
from .errors import InvalidPredictionsError
from .intervals import effective_n, wilson


@dataclass(frozen=True, slots=True)
class Rate:
    """A proportion with its counts of images; value and bounds are None when the denominator is 0.

    Bounds are 95 % Wilson, from the effective number of images where several are of one group.
    """

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
        called: predicted / all images.
    """

    name: str
    n: int
    predicted: int
    sensitivity: Rate
    specificity: Rate
    ppv: Rate
    npv: Rate
    called: Rate


def rate(numerator: int, denominator: int, effective: float | None = None) -> Rate:
    """A proportion with its 95 % Wilson interval; ``effective``: images that count as independent, None: all."""
    bounds = wilson(numerator, denominator, effective=effective)
    if bounds is None:
        return Rate(numerator, denominator, None, None, None)
    return Rate(numerator, denominator, numerator / denominator, *bounds)


def grouped_rate(hits: FloatArray | NDArray[np.bool_], groups: IntArray) -> Rate:
    """The share of ``hits`` (n,) with its 95 % Wilson interval by group; ``groups`` (n,) are codes of 0 or more.

    Images of a group are not independent: see :func:`.intervals.effective_n`. With one image a group it is
    :func:`rate`.
    """
    outcomes = hits.astype(np.float64)
    effective = effective_n(outcomes, groups) if len(outcomes) else None
    return rate(round(float(outcomes.sum())), len(outcomes), effective)


def per_class(labels: IntArray, called: IntArray, groups: IntArray, classes: Sequence[str]) -> tuple[ClassRow, ...]:
    """One row per class, in label order.

    Args:
        labels, called: (n,) class indices in [0, K). groups: (n,) codes of 0 or more.
        classes: K names.

    Raises:
        InvalidPredictionsError: the three are not of one length, or an index is outside the classes.
    """
    if not len(labels) == len(called) == len(groups):
        raise InvalidPredictionsError(f"{len(labels)} labels, {len(called)} answers and {len(groups)} groups")
    for indices in (labels, called):
        if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < len(classes):
            raise InvalidPredictionsError(f"a label or an answer is outside the {len(classes)} classes")
    rows = []
    for k, name in enumerate(classes):
        truth, answer = labels == k, called == k
        rows.append(
            ClassRow(
                name=name,
                n=int(truth.sum()),
                predicted=int(answer.sum()),
                sensitivity=grouped_rate(answer[truth], groups[truth]),
                specificity=grouped_rate(~answer[~truth], groups[~truth]),
                ppv=grouped_rate(truth[answer], groups[answer]),
                npv=grouped_rate(~truth[~answer], groups[~answer]),
                called=grouped_rate(answer, groups),
            )
        )
    return tuple(rows)
