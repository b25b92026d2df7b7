"""What everything here refuses: damaged parameters out of a file, and probabilities that are none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import FloatArray, IntArray
from ..errors import EvaluationError, InvalidPredictionsError

SUM_TOLERANCE = 1e-6


class InvalidCalibratorError(EvaluationError):
    """A calibration's parameters are incomplete, out of range, or contradict one another."""


def refuse(what: str) -> InvalidCalibratorError:
    """The error for damaged parameters."""
    return InvalidCalibratorError(
        f"a calibration {what}", remedy="Restore the file that it came from, or fit it again on validation images"
    )


def exact_keys(content: Any, keys: Sequence[str], name: str) -> Mapping[str, Any]:
    """``content`` as a JSON object with exactly these keys."""
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        raise refuse(f"has no JSON object in '{name}'")
    unknown, missing = sorted(set(content) - set(keys)), sorted(set(keys) - set(content))
    if unknown or missing:
        words = [*(f"unknown key '{key}'" for key in unknown), *(f"no key '{key}'" for key in missing)]
        raise refuse(f"has {', '.join(words)} in '{name}'")
    return content


def number(value: Any, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number in [low, high] as a float; JSON writes 1.0 as 1, so integers count, but true and false do not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise refuse(f"has {value!r} as '{name}', not a number in [{low:g}, {high:g}]")
    # Of an infinite bound: NaN is already refused by the comparison.
    if not math.isfinite(value):
        raise refuse(f"has {value!r} as '{name}', which is not finite")
    return float(value)


def count(value: Any, name: str) -> int:
    """An integer of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise refuse(f"has {value!r} as '{name}', not a count")
    return value


def flag(value: Any, name: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise refuse(f"has {value!r} as '{name}', not true or false")
    return value


def items(value: Any, name: str) -> Sequence[Any]:
    """A JSON array."""
    if not isinstance(value, (list, tuple)):
        raise refuse(f"has no list as '{name}'")
    return value


def numbers(value: Any, name: str, low: float = -math.inf, high: float = math.inf) -> tuple[float, ...]:
    """A JSON array of finite numbers in [low, high]."""
    return tuple(number(each, name, low, high) for each in items(value, name))


def check_probabilities(probabilities: ArrayLike, labels: ArrayLike | None = None) -> tuple[FloatArray, IntArray]:
    """Probabilities as float64 (n, K) in [0, 1] with rows of sum 1, and labels as int64 (n,); without labels, (0,).

    Raises:
        InvalidPredictionsError: on a wrong shape, a value outside [0, 1], a row that does not sum to 1 within 1e-6,
            or a label outside [0, K).
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] < 2:
        raise InvalidPredictionsError(f"probabilities have shape {p.shape}, not (images, at least two classes)")
    sound = (p >= 0.0).all(axis=1) & (np.abs(p.sum(axis=1) - 1.0) <= SUM_TOLERANCE)  # false for NaN as well
    if not sound.all():
        raise InvalidPredictionsError(
            f"{int((~sound).sum())} rows are no probabilities: a value below 0, or a sum that is not 1",
            where=f"record {int(np.flatnonzero(~sound)[0])}",
            remedy="Pass the output of a softmax",
        )
    if labels is None:
        return np.minimum(p, 1.0), np.zeros(0, dtype=np.int64)
    y = np.asarray(labels)
    if y.size == 0:
        y = y.astype(np.int64)
    if y.shape != (len(p),) or not np.issubdtype(y.dtype, np.integer):
        raise InvalidPredictionsError(f"labels have shape {y.shape} and type {y.dtype} for {len(p)} images")
    if y.size and not 0 <= int(y.min()) <= int(y.max()) < p.shape[1]:
        raise InvalidPredictionsError(f"a label lies outside [0, {p.shape[1]})")
    return np.minimum(p, 1.0), y.astype(np.int64)
