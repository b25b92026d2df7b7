"""Checked predictions, and the few stable functions of logits that everything else is built from.

Everything here works in float64 and in logarithms, because an adapter on CLIP multiplies cosines by about
100: a margin of 40 is ordinary, and there a probability is already exactly 1.0 in float64 while its log-odds
still carry the order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InvalidPredictionsError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LARGEST_LOGIT = 1e12
"""Beyond it a value is a fault upstream, not a logit; it also keeps every difference of two logits finite."""


def check_predictions(logits: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, IntArray]:
    """Logits and labels as float64 (n, K) and int64 (n,), or an error that names the first bad record.

    Args:
        logits: (n, K) finite numbers, K at least 2; n may be 0.
        labels: (n,) integers in [0, K).

    Raises:
        InvalidPredictionsError: on a wrong shape, a non-integer type, a value out of range or not finite.
    """
    z = np.asarray(logits, dtype=np.float64)
    if z.ndim != 2 or z.shape[1] < 2:
        raise InvalidPredictionsError(
            f"logits have shape {z.shape}, not (images, classes) with at least two classes",
            remedy="Pass one row per image and one column per class; for no images pass shape (0, K)",
        )
    return z, _check_labels(z, labels)


def _check_labels(z: FloatArray, labels: ArrayLike) -> IntArray:
    raw = np.asarray(labels)
    if raw.size == 0:
        raw = raw.astype(np.int64)
    if raw.shape != (z.shape[0],) or not np.issubdtype(raw.dtype, np.integer):
        raise InvalidPredictionsError(
            f"labels have shape {raw.shape} and type {raw.dtype}, not {(z.shape[0],)} integers",
            remedy="Pass the class index of every image",
        )
    y = raw.astype(np.int64)
    # The negated comparison also catches NaN, which compares false with everything.
    bad = ~(np.abs(z) <= LARGEST_LOGIT).all(axis=1)
    if bad.any():
        raise InvalidPredictionsError(
            f"{int(bad.sum())} rows of logits hold a value that is not finite or exceeds {LARGEST_LOGIT:g}",
            where=f"record {int(np.flatnonzero(bad)[0])}",
            remedy="Check the features and the adapter for overflow",
        )
    outside = (y < 0) | (y >= z.shape[1])
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        raise InvalidPredictionsError(
            f"label {int(y[first])} is outside [0, {z.shape[1]})",
            where=f"record {first}",
            remedy="Labels are indices into the class list of the study",
        )
    return y


def check_temperature(temperature: float | None) -> float:
    """The divisor of logits: ``temperature``, or 1.0 for None; it must be finite and above 0."""
    if temperature is None:
        return 1.0
    if not (math.isfinite(temperature) and temperature > 0):
        raise InvalidPredictionsError(
            f"temperature {temperature!r} is not a finite number above 0",
            remedy="Pass None for uncalibrated probabilities",
        )
    return float(temperature)


def group_codes(groups: Sequence[str] | Sequence[int] | IntArray, n: int) -> IntArray:
    """Groups numbered 0.. in order of first appearance, int64 (n,)."""
    names = list(groups)
    if len(names) != n:
        raise InvalidPredictionsError(
            f"{len(names)} groups for {n} images", remedy="Pass one patient, lesion or cluster name per image"
        )
    seen: dict[object, int] = {}
    return np.array([seen.setdefault(name, len(seen)) for name in names], dtype=np.int64)


def log_softmax(logits: FloatArray, temperature: float = 1.0) -> FloatArray:
    """log softmax(logits / temperature) along the last axis, without overflow; float64, same shape."""
    shifted = (logits - logits.max(axis=-1, keepdims=True)) / temperature
    result: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def softmax(logits: FloatArray, temperature: float = 1.0) -> FloatArray:
    """softmax(logits / temperature) along the last axis; rows sum to 1 within rounding."""
    shifted = np.exp((logits - logits.max(axis=-1, keepdims=True)) / temperature)
    result: FloatArray = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def log_odds(logits: FloatArray, temperature: float = 1.0) -> FloatArray:
    """log(p / (1 - p)) of every class, (n, K): the order of p without the ties of saturation.

    Two images of probability 1 - 1e-20 and 1 - 1e-30 are both exactly 1.0 in float64; their log-odds differ,
    so a ranking figure such as AUROC keeps what the model said.
    """
    scaled = (logits - logits.max(axis=-1, keepdims=True)) / temperature
    columns = []
    for k in range(logits.shape[1]):
        rest = np.delete(scaled, k, axis=1)
        top = rest.max(axis=1, keepdims=True)
        columns.append(scaled[:, k] - top[:, 0] - np.log(np.exp(rest - top).sum(axis=1)))
    return np.stack(columns, axis=1)
