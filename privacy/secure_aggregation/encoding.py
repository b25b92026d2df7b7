"""Float vectors to fixed point and back, block by block.

Blocks of the full ring round to nearest. Packed blocks have few bits, where rounding to nearest would lose every
coordinate below half a step in each site alike; they round up or down by chance, so that the mean is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import EncodingError
from .packing import reduce_signed
from .parameters import RING_BITS, Block, total_size
from .primitives import LABEL_ROUNDING, Words, apply_masks, digest

_HALF_RING = 2 ** (RING_BITS - 1)
_CHUNK = 16_384
"""Coordinates handled at a time: the float64 scratch stays in the processor's second-level cache."""


@dataclass(frozen=True)
class Encoded:
    """One site's vector in the ring.

    Attributes:
        words: array of shape (d,), uint32; negative numbers are two's complement.
        clipped: per block, how many coordinates exceeded the clip and were cut. Stays at the site.
    """

    words: Words
    clipped: Mapping[str, int]


def _encode_block(values: NDArray[np.floating], block: Block, weight: float, out: Words, rounding: bytes | None) -> int:
    """round(weight * clip(x) * 2^f) into ``out``; returns the number of clipped coordinates.

    Half to even in the full ring. In a packed block floor(q + u) with u uniform on [0, 1), so that the expectation is q
    (stochastic rounding; Gupta et al. 2015, section 3), then cut to what the block's bits hold.
    """
    scale = weight * 2.0**block.fraction_bits
    scratch = np.empty(min(_CHUNK, block.size), dtype=np.float64)
    signed = out.view(np.int32)
    up: Words | None = None
    if block.packed:
        if rounding is None:
            raise EncodingError("a packed block needs a rounding key", where=f"block {block.name}")
        up = np.zeros(block.size, dtype="<u4")
        apply_masks(up, [digest(LABEL_ROUNDING, rounding, block.name.encode())], [])
    clipped = 0
    for start in range(0, block.size, _CHUNK):
        chunk = values[start : start + _CHUNK]
        part = scratch[: chunk.size]
        # min and max carry NaN and infinity through, so two passes decide whether anything unusual is in the chunk.
        low, high = float(chunk.min()), float(chunk.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            position = start + int(np.flatnonzero(~np.isfinite(chunk))[0])
            raise EncodingError(
                "a coordinate is not finite",
                where=f"block {block.name}, coordinate {position}",
                remedy="Training diverged; lower the learning rate.",
            )
        part[:] = chunk
        if low < -block.clip or high > block.clip:
            clipped += int(np.count_nonzero(np.abs(part) > block.clip))
            np.clip(part, -block.clip, block.clip, out=part)
        np.multiply(part, scale, out=part)
        if up is None:
            np.rint(part, out=part)
        else:
            part += up[start : start + chunk.size] * 2.0**-32
            np.floor(part, out=part)
            np.clip(part, -block.value_limit, block.value_limit, out=part)
        signed[start : start + chunk.size] = part
    return clipped


def encode(
    parts: Mapping[str, NDArray[np.floating]], blocks: Sequence[Block], weight: float, rounding: bytes | None = None
) -> Encoded:
    """Clip, weight and round a site's blocks.

    Args:
        parts: per block name, an array of shape (block.size,), float32 or float64.
        blocks: the roster's, in order; blocks with ``weighted=False`` are multiplied by 1 instead of ``weight``.
        weight: the site's weight from the roster.
        rounding: 32 bytes that decide which way each coordinate of a packed block is rounded; None without such blocks.
            They are no secret: rounding must not depend on the values, and one update must be encoded alike each time.

    Raises:
        EncodingError: names the block when it is missing, unknown, of another shape, or holds NaN or infinity, or
            when the weight is negative, not finite, or so large that a coordinate could leave the ring.
    """
    if set(parts) != {block.name for block in blocks}:
        wrong = sorted(set(parts) ^ {block.name for block in blocks})
        raise EncodingError(f"the vector's blocks are not the roster's: {', '.join(wrong)}")
    words: Words = np.empty(total_size(blocks), dtype="<u4")
    clipped = {}
    start = 0
    for block in blocks:
        values = np.asarray(parts[block.name])
        if values.shape != (block.size,) or values.dtype not in (np.float32, np.float64):
            raise EncodingError(
                f"an array of shape {values.shape} and type {values.dtype} instead of ({block.size},) floats",
                where=f"block {block.name}",
            )
        factor = weight if block.weighted else 1.0
        if not (0 <= factor < _HALF_RING and block.reach(factor) < _HALF_RING):
            # The roster's bounds make this impossible for its own weights; any other weight would wrap in silence.
            raise EncodingError(f"the weight {factor} does not fit the ring", where=f"block {block.name}")
        clipped[block.name] = _encode_block(values, block, factor, words[start : start + block.size], rounding)
        start += block.size
    return Encoded(words, clipped)


def decode_sum(
    total: Words, blocks: Sequence[Block], weights: Sequence[float], sites: int
) -> dict[str, NDArray[np.float64]]:
    """The sum of the survivors' clipped, weighted vectors.

    Args:
        total: array of shape (d,), uint32; the unmasked sum. Packed blocks are brought to signed numbers in place.
        blocks: the roster's, in order.
        weights: the survivors' weights.
        sites: n of the roster, which fixes the rings.

    Returns:
        Per block, an array of shape (block.size,), float64.

    Raises:
        EncodingError: when a coordinate lies outside what these survivors can sum to: some vector was garbage.
    """
    if total.shape != (total_size(blocks),):
        raise EncodingError(f"a sum of shape {total.shape} instead of ({total_size(blocks)},)")
    values = {}
    start = 0
    for block in blocks:
        reduce_signed(total[start : start + block.size], block.ring(sites))
        part = total[start : start + block.size].view(np.int32)
        limit = sum(block.limit(weight if block.weighted else 1.0) for weight in weights)
        if int(part.max()) > limit or int(part.min()) < -limit:
            raise EncodingError("a coordinate of the sum is beyond its bound", where=f"block {block.name}")
        values[block.name] = np.multiply(part, 2.0**-block.fraction_bits, dtype=np.float64)
        start += block.size
    return values
