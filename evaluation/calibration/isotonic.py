"""Isotonic calibration of each class against the rest, then normalised; needs many images, and makes no shape up.

Zadrozny and Elkan (2002), KDD, sections 3.2 and 4: for each class a non-decreasing function of its probability is
fitted to its outcomes by least squares (pool adjacent violators, scikit-learn), and the K values of an image are
divided by their sum. It has as many free levels as the data give it, so it is refused with few images of a class.

A value is never below 1 / (n + 2), n the images of the fit: Laplace's rule of succession for something that never
happened in n images. So no class gets probability 0, the negative log likelihood stays finite, and an image that no
curve believes in (all K values 0) gets even probabilities, which say "not known". It can change which class wins, and
it makes ties.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.isotonic import IsotonicRegression

from ..arrays import FloatArray, check_predictions, softmax
from .checks import exact_keys, items, number, numbers, refuse

FEWEST_PER_CLASS = 30
"""Images of every class, below which there is no fit. Niculescu-Mizil and Caruana (2005) want about 1,000 in all."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A non-decreasing function on [0, 1]: straight between knots, level beyond them.

    Attributes:
        at: probabilities of the knots, strictly ascending in [0, 1]. value: its values there, in [0, 1].
    """

    at: tuple[float, ...]
    value: tuple[float, ...]

    def __post_init__(self) -> None:
        numbers(self.at, "at", 0.0, 1.0)
        numbers(self.value, "value", 0.0, 1.0)
        if not self.at or len(self.at) != len(self.value):
            raise refuse(f"has a curve of {len(self.at)} knots with {len(self.value)} values")
        if any(a >= b for a, b in itertools.pairwise(self.at)) or any(a > b for a, b in itertools.pairwise(self.value)):
            raise refuse("has a curve whose knots do not ascend")


@dataclass(frozen=True, slots=True)
class IsotonicCurves:
    """One curve a class, and the smallest value before normalisation, in (0, 1)."""

    curves: tuple[Curve, ...]
    floor: float

    def __post_init__(self) -> None:
        if len(self.curves) < 2:
            raise refuse(f"has {len(self.curves)} curves")
        if not 0.0 < number(self.floor, "floor", 0.0, 1.0) < 1.0:
            raise refuse(f"has {self.floor!r} as 'floor', not a number between 0 and 1")

    @property
    def classes(self) -> int:
        """K."""
        return len(self.curves)

    def apply(self, logits: FloatArray) -> FloatArray:
        """Logarithms of the calibrated probabilities, float64 (n, K), finite."""
        p = softmax(logits)
        columns = [np.interp(p[:, k], curve.at, curve.value) for k, curve in enumerate(self.curves)]
        values = np.maximum(np.stack(columns, axis=1), self.floor)
        result: FloatArray = np.log(values / values.sum(axis=1, keepdims=True))
        return result

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "curves": [{"at": list(curve.at), "value": list(curve.value)} for curve in self.curves],
            "floor": self.floor,
        }

    @classmethod
    def from_dict(cls, content: Any) -> IsotonicCurves:
        """Out of :meth:`to_dict`; anything else is an :class:`~.checks.InvalidCalibratorError`."""
        values = exact_keys(content, ("curves", "floor"), "parameters")
        curves = [exact_keys(each, ("at", "value"), "curves") for each in items(values["curves"], "curves")]
        return cls(
            tuple(Curve(numbers(each["at"], "at"), numbers(each["value"], "value")) for each in curves),
            number(values["floor"], "floor"),
        )


def fit(logits: ArrayLike, labels: ArrayLike, *, fewest: int = FEWEST_PER_CLASS) -> IsotonicCurves | None:
    """One curve a class from validation logits, or None with fewer than ``fewest`` images of any class.

    Args:
        logits: (n, K). labels: (n,) integers.
    """
    z, y = check_predictions(logits, labels)
    if np.bincount(y, minlength=z.shape[1]).min() < max(1, fewest):
        return None
    p = softmax(z)
    curves = []
    for k in range(z.shape[1]):
        model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(p[:, k], (y == k).astype(float))
        at, value = np.clip(model.X_thresholds_, 0.0, 1.0), np.clip(model.y_thresholds_, 0.0, 1.0)
        # Pooling averages can leave neighbours an ulp out of order.
        curves.append(Curve(tuple(map(float, at)), tuple(map(float, np.maximum.accumulate(value)))))
    return IsotonicCurves(tuple(curves), 1.0 / (len(y) + 2.0))
