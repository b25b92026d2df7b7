"""From intensities without a unit to grey levels: one scale for a whole volume, robust to a few bright voxels."""

from __future__ import annotations

import itertools
import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LOW_PERCENTILE: Final = 0.5
HIGH_PERCENTILE: Final = 99.5


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
    # A volume can have a gigabyte: one copy is made of it, and put in order where it lies.
    keep = np.isfinite(values) if values.dtype.kind == "f" else None
    ground = background_value(values)
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
    """Linear percentiles of a flat array, whose order is changed.

    R. J. Hyndman, Y. Fan, Sample Quantiles, 1996, definition 7.
    """
    ranks = [percent / 100 * (values.size - 1) for percent in (LOW_PERCENTILE, HIGH_PERCENTILE)]
    places = sorted({at for rank in ranks for at in (math.floor(rank), math.ceil(rank))})
    values.partition(places)

    def at(rank: float) -> float:
        below, above = float(values[math.floor(rank)]), float(values[math.ceil(rank)])
        share = rank - math.floor(rank)
        return below * (1 - share) + above * share  # in doubles: int8 would overflow in a difference

    return at(ranks[0]), at(ranks[1])
