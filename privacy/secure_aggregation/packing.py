"""Ring elements of fewer than 32 bits side by side, so that a vector costs ring bits a coordinate on the wire.

Coordinates lie in 32 rows of G = ceil(d / 32), row by row; the last rows are padded with zeros. The 32 values of a
column, one a row, are ring_bits 32-bit words: value k takes the bits from k * ring_bits up, least significant first.
Word w of column j is the little-endian word at position w * G + j. Whole rows are shifted at once, which is why values
that share a word lie G apart and not side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .parameters import RING_BITS, Block
from .primitives import Words

_ROWS = 32


def packed_bytes(size: int, ring: int) -> int:
    """Bytes of ``size`` elements of a ring of 2^ring: 4 a coordinate in the full ring, else rounded up to 32 rows."""
    return 4 * size if ring == RING_BITS else 4 * ring * -(-size // _ROWS)


def wire_size(blocks: Sequence[Block], sites: int) -> int:
    """Bytes of a masked vector made of these blocks in a study of ``sites`` sites."""
    return sum(packed_bytes(block.size, block.ring(sites)) for block in blocks)


def pack(words: Words, ring: int) -> bytes:
    """The wire bytes of one block.

    Args:
        words: array of shape (size,), uint32; only the lowest ``ring`` bits of each are kept.
        ring: bits of a ring element, 1..32.
    """
    if ring == RING_BITS:
        return words.astype("<u4", copy=False).tobytes()
    width = -(-words.size // _ROWS)
    rows = np.zeros((_ROWS, width), dtype="<u4")
    np.bitwise_and(words, np.uint32(2**ring - 1), out=rows.reshape(-1)[: words.size])
    out = np.zeros((ring, width), dtype="<u4")
    scratch = np.empty(width, dtype="<u4")
    for k in range(_ROWS):
        word, shift = divmod(k * ring, 32)
        out[word] |= np.left_shift(rows[k], np.uint32(shift), out=scratch)
        if shift + ring > 32:
            out[word + 1] |= np.right_shift(rows[k], np.uint32(32 - shift), out=scratch)
    return out.tobytes()


def split_wire(vector: bytes, blocks: Sequence[Block], sites: int) -> list[memoryview]:
    """The stretches of a masked vector, one a block; its length must be `wire_size`."""
    parts, start, view = [], 0, memoryview(vector)
    for block in blocks:
        length = packed_bytes(block.size, block.ring(sites))
        parts.append(view[start : start + length])
        start += length
    return parts


def padding_is_zero(data: memoryview, size: int, ring: int) -> bool:
    """Whether a packed block holds nothing beyond its ``size`` coordinates; one content has one byte string."""
    if ring == RING_BITS:
        return True
    width = -(-size // _ROWS)
    words = np.frombuffer(data, dtype="<u4").reshape(ring, width)
    mask = np.uint32(2**ring - 1)
    return not any(np.any(_row(words, k, ring)[max(0, size - k * width) :] & mask) for k in range(size // width, _ROWS))


def add_packed(data: memoryview, ring: int, total: Words) -> None:
    """Add a block as it came from the wire to a running sum, without unpacking it to an array of its own.

    Bits above the ring are not cleared: they are multiples of 2^ring, and whoever ends the sum reduces it.

    Args:
        data: ``packed_bytes(total.size, ring)`` bytes.
        ring: bits of a ring element.
        total: array of shape (size,), uint32; changed in place, modulo 2^ring.
    """
    if ring == RING_BITS:
        np.add(total, np.frombuffer(data, dtype="<u4"), out=total)
        return
    width = -(-total.size // _ROWS)
    words = np.frombuffer(data, dtype="<u4").reshape(ring, width)
    for k in range(-(-total.size // width)):
        part = total[k * width : (k + 1) * width]
        np.add(part, _row(words, k, ring)[: part.size], out=part)


def _row(words: Words, k: int, ring: int) -> Words:
    """Row k of the packed values, with whatever lies above its ``ring`` bits."""
    word, shift = divmod(k * ring, 32)
    row: Words = words[word] >> np.uint32(shift)
    if shift + ring > 32:
        row |= words[word + 1] << np.uint32(32 - shift)
    return row


def reduce_signed(total: Words, ring: int) -> None:
    """Bring a sum back from modulo 2^32 to the signed representatives modulo 2^ring, in place."""
    if ring < RING_BITS:
        shift = np.int32(32 - ring)
        signed = total.view(np.int32)
        np.left_shift(signed, shift, out=signed)
        np.right_shift(signed, shift, out=signed)  # arithmetic: the ring's highest bit becomes the sign
