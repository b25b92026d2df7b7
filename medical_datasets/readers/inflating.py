"""Deflated bytes of a zip with ways into the middle: an inflater's state can be copied, and gone on from later."""

from __future__ import annotations

import struct
import zipfile
from typing import Any, BinaryIO, Final

# A copied state keeps what was given and not yet used: small pieces make small copies.
_PACKED: Final = 1 << 14
_UNPACKED: Final = 1 << 18
MARK_BYTES: Final = 64_000
"""What a copied state takes, at most: zlib's window of 32 KB and tables, and one piece of packed bytes."""


class Inflating:
    """The unpacked bytes of a member of a zip from some place on.

    Args:
        stream: the zip file, open for reading; it is moved.
        place: the first packed byte to read.
        inflater: an inflater in the state for that byte, which is changed; None: the member is not packed.
    """

    def __init__(self, stream: BinaryIO, place: int, inflater: Any) -> None:
        stream.seek(place)
        self._stream, self._inflater = stream, inflater
        self._place = place  # of the first packed byte that was not yet given to the inflater
        self._packed = b""

    def read(self, size: int) -> bytes:
        """At most ``size`` > 0 bytes; none at the end."""
        if self._inflater is None:
            return self._stream.read(size)
        while not self._inflater.eof:
            packed = self._packed or self._stream.read(_PACKED)
            if not packed:
                raise EOFError
            given = self._inflater.decompress(packed, size)
            self._packed = self._inflater.unconsumed_tail
            self._place += len(packed) - len(self._packed)
            if given:
                return bytes(given)
        return b""

    def exactly(self, size: int) -> bytes:
        """``size`` bytes; EOFError where there are fewer."""
        pieces, missing = [], size
        while missing:
            piece = self.read(min(missing, _UNPACKED))
            if not piece:
                raise EOFError
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def mark(self) -> tuple[int, Any]:
        """Where to go on from here: a place, and the state of the inflater there."""
        if self._inflater is None:
            return self._stream.tell(), None
        return self._place, self._inflater.copy()


def first_packed_byte(stream: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Where a member's packed bytes begin: its own header has names of another length than the directory's.

    PKWARE, APPNOTE.TXT 6.3.10, section 4.3.7.
    """
    stream.seek(info.header_offset)
    signature, name, extra = struct.unpack("<4s22xHH", stream.read(30))
    if signature != b"PK\3\4":
        raise zipfile.BadZipFile
    return info.header_offset + 30 + int(name) + int(extra)
