"""Lookup tables of DICOM: those of the grey pipeline, and how long a segmented palette is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from .dicom_file import RefusedError

_MAX_INDIRECT: Final = 256  # segments of a palette that repeat others; pydicom copies the palette for each


class LookupTable:
    """A lookup table (PS3.3 C.11.1.1.1, C.11.2.1.1).

    Args:
        item: of a modality or VOI LUT sequence.
        signed: what it is asked for can be negative, and so can its first value. Files of implicit representation do
            not say whether they wrote it so, and pydicom goes by the stored values, which is right of the modality LUT
            alone.

    Attributes:
        bits: of an entry, 1 to 16.

    Raises:
        RefusedError: it has other bits, or fewer entries than it says.
    """

    def __init__(self, item: Dataset, signed: bool) -> None:
        entries, first, self.bits = (int(each) for each in item.LUTDescriptor)
        entries = entries & 0xFFFF or 65536  # the number of entries is unsigned, however the descriptor is written
        self._first = first - 65536 if signed and first > 32767 else first
        if not 1 <= self.bits <= 16:
            raise RefusedError(f"a lookup table has {self.bits} bits, not 1 to 16", "export the image again")
        data = item.LUTData
        if isinstance(data, bytes):
            width = 1 if len(data) < 2 * entries else 2
            order = "<" if item.is_little_endian is not False else ">"
            table = np.frombuffer(data[: width * entries], dtype=f"{order}u{width}").astype(np.float64)
        else:
            table = np.atleast_1d(np.asarray(data, dtype=np.float64))[:entries]
        if table.size < entries:
            raise RefusedError(
                f"a lookup table is truncated: {table.size} of {entries} entries", "copy the file again from its source"
            )
        self._entries = table

    def of(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The entries of values; those outside have the first or the last one."""
        return self._entries[self._places(values)]

    def refuse_one_entry(self, real: NDArray[np.float64]) -> None:
        """Refuse a table that has one entry for all of a picture's values, which are not all equal."""
        places = self._places(real)
        if places.min() == places.max() and real.min() < real.max():
            raise RefusedError(
                "a lookup table has one entry for all values of the picture, which would be shown in one grey",
                "export the image again, or leave it out",
            )

    def _places(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        places: NDArray[np.int64] = np.clip(np.rint(values) - self._first, 0, self._entries.size - 1).astype(np.int64)
        return places


def refuse_false_segments(data: bytes, entries: int, *, wide: bool, little: bool) -> None:
    """Refuse a segmented palette that does not unfold to the entries that its descriptor states (PS3.3 C.7.9.2).

    A segment of six bytes can stand for 65,535 entries, so they are counted before any is made.

    Args:
        data: the segments of one colour.
        entries: of the descriptor, at most 65,536.
        wide: segments are words of 16 bits, else bytes.
        little: words are little endian.

    Raises:
        RefusedError: more or fewer entries, or segments that contradict the standard.
    """
    size = 2 if wide else 1
    # A segment that adds an entry has at most three words; a few more may be padding.
    if len(data) > size * (4 * entries + 64):
        raise _false_palette()
    kind = "u1" if not wide else "<u2" if little else ">u2"
    words: list[int] = np.frombuffer(data[: len(data) // size * size], dtype=kind).tolist()
    if _unfolded(words, 0, None, entries, wide=wide, little=little) != entries:
        raise _false_palette()


def _unfolded(words: Sequence[int], at: int, segments: int | None, limit: int, *, wide: bool, little: bool) -> int:
    """Entries of ``segments`` segments from a place on, or of all; counted as pydicom unfolds them, until over a limit.

    An indirect segment repeats others, ``segments`` of them: each must then add an entry and none may be indirect, so
    that counting takes no more steps than there are words and entries.
    """

    def pair(place: int) -> int:
        return int.from_bytes(bytes(words[place : place + 2]), "little" if little else "big")

    total, seen, indirect = 0, 0, 0
    while at + 1 < len(words) and (segments is None or seen < segments):
        code, length = words[at], words[at + 1]
        at += 2
        seen += 1
        if code == 0:
            at += length
        elif code == 1:
            at += 1
        elif code == 2 and segments is None and length and indirect < _MAX_INDIRECT and at + 4 - 2 * wide <= len(words):
            indirect += 1
            # The place is two numbers of 16 bits, the lower one first, in either order of bytes.
            low, high = words[at : at + 2] if wide else (pair(at), pair(at + 2))
            at += 4 - 2 * wide
            length = _unfolded(words, high << 16 | low, length, limit - total, wide=wide, little=little)
        else:
            raise _false_palette()
        if at > len(words) or (segments is not None and not length):
            raise _false_palette()
        total += length
        if total > limit:
            raise _false_palette()
    return total


def _false_palette() -> RefusedError:
    return RefusedError(
        "the segmented palette is damaged, or has another number of entries than its descriptor states",
        "export the image again",
    )
