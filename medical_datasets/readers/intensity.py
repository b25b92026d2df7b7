"""From intensities without a unit to grey levels: one scale for a whole volume, robust to a few bright voxels."""

from __future__ import annotations

import itertools
import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .ranked import values_at

LOW_PERCENTILE: Final = 0.5
HIGH_PERCENTILE: Final = 99.5
_COPIED: Final = 1 << 22  # values of which a copy is put in order, which is quicker; of more none is made


def background_value(values: NDArray[Any]) -> float | None:
    """The value around the body: what more than half of the corners of an array hold exactly, else None.

    It is 0 in skull-stripped MR and the padding value in CT; raw MR has noise there and no such value.
    """
    corners = [
        value
        for at in itertools.product((0, -1), repeat=values.ndim)
        if math.isfinite(value := float(values[at]))  # NaN equals nothing, and is left out anyway
    ]
    for value in set(corners):
        if corners.count(value) > 2**values.ndim // 2:
            return value
    return None


def grey_window(values: NDArray[Any]) -> tuple[float, float] | None:
    """The intensities that become black and white.

    They are the 0.5th and 99.5th percentile of the finite values that are not :func:`background_value`; where these
    are one value, as in a mask, the smallest and the largest finite value.

    Args:
        values: integers or floating-point numbers of any shape, not empty.

    Returns:
        ``(low, high)`` with ``low <= high``, equal if all values are; None when no value is finite.
    """
    ground = background_value(values)
    if values.size > _COPIED:  # a volume can have a gigabyte
        count, at = values_at(values, ground, _whole_ranks)
        if count:
            low, high = (_between(at[below], at[above], rank) for rank, below, above in _ranks(count))
            if low < high:
                return low, high
        count, at = values_at(values, None, lambda count: (0, count - 1))
        return (at[0], at[count - 1]) if count else None
    keep = np.isfinite(values) if values.dtype.kind == "f" else None
    if ground is not None:
        keep = (values != ground) if keep is None else keep & (values != ground)
    shown = values.flatten(order="K") if keep is None else values[keep]
    if shown.size:
        low, high = _percentiles(shown)
        if low < high:
            return low, high
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return (float(finite.min()), float(finite.max())) if finite.size else None


def to_grey(values: NDArray[np.float64], window: tuple[float, float]) -> NDArray[np.uint8]:
    """Intensities as grey levels: linear from 0 at the window's low end to 255 at its high end, clipped.

    Values that are not finite become 0, and so does everything where the window has no extent.
    """
    low, high = window
    if not low < high:
        return np.zeros(values.shape, dtype=np.uint8)
    if not math.isfinite(high - low):  # the largest doubles: a quarter of everything has the same grey levels
        values, low, high = values * 0.25, low * 0.25, high * 0.25
    share = (np.clip(np.where(np.isfinite(values), values, low), low, high) - low) / (high - low)
    return np.rint(share * 255.0).astype(np.uint8)


def three_equal(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey as RGB without copying: a read-only view whose channels are one and the same memory."""
    return np.broadcast_to(grey[:, :, None], (*grey.shape, 3))


def _percentiles(values: NDArray[Any]) -> tuple[float, float]:
    """Linear percentiles of a flat array, whose order is changed."""
    ranks = _ranks(values.size)
    values.partition(_whole_ranks(values.size))
    low, high = (_between(float(values[below]), float(values[above]), rank) for rank, below, above in ranks)
    return low, high


def _ranks(count: int) -> list[tuple[float, int, int]]:
    """The rank of each percentile among ``count`` values, from 0, and the whole ranks below and above it.

    R. J. Hyndman, Y. Fan, Sample Quantiles, 1996, definition 7.
    """
    ranks = [percent / 100 * (count - 1) for percent in (LOW_PERCENTILE, HIGH_PERCENTILE)]
    return [(rank, math.floor(rank), math.ceil(rank)) for rank in ranks]


def _whole_ranks(count: int) -> list[int]:
    return sorted({place for _, *places in _ranks(count) for place in places})


def _between(below: float, above: float, rank: float) -> float:
    share = rank - math.floor(rank)
    return below * (1 - share) + above * share  # in doubles: int8 would overflow in a difference
