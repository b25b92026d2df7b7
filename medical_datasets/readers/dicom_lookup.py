"""Lookup tables of the grey pipeline of DICOM."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from .dicom_file import RefusedError


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
