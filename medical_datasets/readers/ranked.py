"""Values of a large array by their rank, without a copy of it: digit by digit, as a radix sort would."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_CHUNK: Final = 1 << 20  # values that are worked on at a time
_DIGIT: Final = 16  # bits


def values_at(
    values: NDArray[Any], left_out: float | None, ranks_of: Callable[[int], Sequence[int]]
) -> tuple[int, dict[int, float]]:
    """Some values of an array in rising order; equal to those of a sorted copy.

    Args:
        values: integers or floating-point numbers of any shape; what is not finite does not count.
        left_out: a value that does not count either; None: every other one does.
        ranks_of: from how many values count, at least 1, to the ranks wanted, from 0.

    Returns:
        How many values count, and the value of each rank; none if no value counts.
    """
    bits = 8 * values.dtype.itemsize
    shift = max(0, bits - _DIGIT)
    digits = min(bits, _DIGIT)
    first = np.zeros(1 << digits, dtype=np.int64)
    for keys in _keys(values, left_out):
        first += np.bincount((keys >> shift).astype(np.intp), minlength=first.size)
    count = int(first.sum())
    if not count:
        return 0, {}
    # By rank: the leading digits of its value, and its rank among the values that begin with them.
    found = {rank: _step(0, rank, first, digits) for rank in ranks_of(count)}
    while shift:
        shift -= digits
        counts = {begin: np.zeros(1 << digits, dtype=np.int64) for begin, _ in found.values()}
        for keys in _keys(values, left_out):
            leading = keys >> (shift + digits)
            for begin, each in counts.items():
                same = keys[leading == begin]
                each += np.bincount(((same >> shift) & ((1 << digits) - 1)).astype(np.intp), minlength=each.size)
        found = {rank: _step(begin, left, counts[begin], digits) for rank, (begin, left) in found.items()}
    return count, {rank: _value(key, values.dtype) for rank, (key, _) in found.items()}


def _step(begin: int, left: int, counts: NDArray[np.int64], digits: int) -> tuple[int, int]:
    """The digit in which the value of a rank goes on, and its rank among those that go on so."""
    below = np.cumsum(counts)
    digit = int(np.searchsorted(below, left, side="right"))
    return begin << digits | digit, left - (int(below[digit - 1]) if digit else 0)


def _keys(values: NDArray[Any], left_out: float | None) -> Iterator[NDArray[Any]]:
    """Unsigned numbers in the order of the values that count, some at a time; views as far as memory allows."""
    native = values.dtype.newbyteorder("=")
    for chunk in _chunks(values):
        flat = chunk.astype(native, copy=False).ravel(order="K")
        keep = np.isfinite(flat) if native.kind == "f" else None
        if left_out is not None:
            keep = (flat != left_out) if keep is None else keep & (flat != left_out)
        yield _ordered(flat if keep is None else flat[keep])


def _chunks(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Slabs across the axis whose steps in memory are longest, so that each lies together."""
    if values.size <= _CHUNK or values.ndim == 0:
        yield values
        return
    axis = max(range(values.ndim), key=lambda each: (values.shape[each] > 1, abs(values.strides[each])))
    turned = np.moveaxis(values, axis, 0)
    slab = values.size // len(turned)
    step = max(1, _CHUNK // slab)
    for begin in range(0, len(turned), step):
        part = turned[begin : begin + step]
        if slab > _CHUNK and len(turned) > 1:
            yield from _chunks(part[0])
        else:
            yield part


def _ordered(flat: NDArray[Any]) -> NDArray[Any]:
    kind = f"u{flat.dtype.itemsize}"
    if flat.dtype.kind == "u":
        return flat
    keys: NDArray[Any] = flat.view(kind)
    top = keys.dtype.type(1 << (8 * flat.dtype.itemsize - 1))
    if flat.dtype.kind == "i":
        return np.asarray(keys ^ top)
    # IEEE 754: numbers below zero fall as their bits rise.
    return np.asarray(np.where(keys & top, ~keys, keys | top))


def _value(key: int, dtype: np.dtype[Any]) -> float:
    """The value of a key, as :func:`_ordered` makes them."""
    top = 1 << (8 * dtype.itemsize - 1)
    if dtype.kind == "i":
        key ^= top
    elif dtype.kind == "f":
        key = key ^ top if key & top else key ^ (2 * top - 1)
    return float(np.array([key], dtype=f"u{dtype.itemsize}").view(dtype.newbyteorder("="))[0])
