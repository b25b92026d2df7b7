"""The plain elements of an ordinary DICOM file, found by stepping over the others.

A folder is listed by some thirty short elements of every file, and pydicom takes a millisecond for them. This takes a
tenth of it and never guesses: a file with anything unusual in it is left to pydicom, damaged ones too.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

_BLOCKS: Final = (1 << 14, 1 << 18)  # bytes looked at: nearly every header ends in the first block
_LONG: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # lengths of 4 bytes (PS3.5 7.1.2)
_SHORT: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_TEXT: Final = frozenset({"AE", "AS", "CS", "DA", "LO", "PN", "SH", "UI"})  # parted by backslashes
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM: Final = (0xFFFE, 0xE000)
_ITEM_END: Final = (0xFFFE, 0xE00D)
_SEQUENCE_END: Final = (0xFFFE, 0xE0DD)
_PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_DEPTH: Final = 16  # sequences in sequences


@dataclass(frozen=True, slots=True)
class Walked:
    """What was found on the way to the pixels.

    Attributes:
        elements: those that were asked for and are there, by keyword: a number, or the texts parted by backslashes.
        syntax: transfer syntax.
        pixels: where the element of the pixels begins, in bytes from the start.
    """

    elements: dict[str, Any]
    syntax: UID
    pixels: int


class _UnusualError(Exception):
    """Something that pydicom shall read."""


def walk(file: BinaryIO, keywords: Sequence[str]) -> Walked | None:
    """The elements of an open file by keyword; None: it is unusual, and pydicom shall read it.

    The elements asked for hold short texts, unsigned numbers of 16 bits, or whole numbers as text.
    """
    wanted = {int(tag_for_keyword(keyword) or 0): keyword for keyword in keywords}
    for size in _BLOCKS:
        file.seek(0)
        data = file.read(size)
        try:
            return _walked(data, wanted)
        except struct.error:  # the block ends within the header
            if len(data) < size:
                return None
        except _UnusualError:
            return None
    return None


def _walked(data: bytes, wanted: dict[int, str]) -> Walked:
    if data[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00":
        raise _UnusualError
    at = 144 + struct.unpack_from("<L", data, 140)[0]
    syntax = _syntax(data, at)
    implicit = syntax == ImplicitVRLittleEndian
    elements: dict[str, Any] = {}
    last = 0
    while True:
        tag, written, start, length = _element(data, at, implicit)
        if tag <= last:
            raise _UnusualError
        if tag in _PIXELS:
            return Walked(elements, syntax, at)
        last = tag
        if length == _UNDEFINED:
            if tag in wanted:
                raise _UnusualError
            at = _after_sequence(data, start, implicit, 0) if written in (b"SQ", b"") else _unusual()
            continue
        at = start + length
        if tag in wanted:
            if at > len(data):
                raise struct.error
            elements[wanted[tag]] = _value(data[start:at], tag, written)


def _syntax(data: bytes, end: int) -> UID:
    """The transfer syntax by the meta information, which is always explicit (PS3.10 7.1)."""
    at, found = 144, ""
    while at < end:
        tag, _, start, length = _element(data, at, implicit=False)
        at = start + length
        value = data[start:at].rstrip(b"\0 ").decode("latin-1")
        if tag == 0x00020010:
            found = value
        elif tag == 0x00020002 and value == MediaStorageDirectoryStorage:
            raise _UnusualError
    syntax = UID(found)
    if at != end or not syntax.is_transfer_syntax or syntax in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        raise _UnusualError
    return syntax


def _element(data: bytes, at: int, implicit: bool) -> tuple[int, bytes, int, int]:
    """Tag, representation (empty: not written), start and length of the value of an element."""
    if implicit:
        group, number, length = struct.unpack_from("<HHL", data, at)
        return group << 16 | number, b"", at + 8, length
    group, number, written, length = struct.unpack_from("<HH2sH", data, at)
    if written in _SHORT:
        return group << 16 | number, written, at + 8, length
    if written not in _LONG:
        raise _UnusualError
    return group << 16 | number, written, at + 12, struct.unpack_from("<L", data, at + 8)[0]


def _after_sequence(data: bytes, at: int, implicit: bool, depth: int) -> int:
    """Where a sequence of undefined length ends (PS3.5 7.5.2)."""
    if depth > _DEPTH:
        raise _UnusualError
    while True:
        group, number, length = struct.unpack_from("<HHL", data, at)
        at += 8
        if (group, number) == _SEQUENCE_END:
            return at
        if (group, number) != _ITEM:
            raise _UnusualError
        at = at + length if length != _UNDEFINED else _after_item(data, at, implicit, depth)


def _after_item(data: bytes, at: int, implicit: bool, depth: int) -> int:
    while struct.unpack_from("<HH", data, at) != _ITEM_END:
        _, written, start, length = _element(data, at, implicit)
        if length != _UNDEFINED:
            at = start + length
        else:
            at = _after_sequence(data, start, implicit, depth + 1) if written in (b"SQ", b"") else _unusual()
    return at + 8


def _value(value: bytes, tag: int, written: bytes) -> Any:
    kind = dictionary_VR(tag)
    if written and written.decode() != kind:
        raise _UnusualError
    if kind in _TEXT and value.isascii() and b"\x1b" not in value:  # an escape begins another character set
        return value.decode("ascii").split("\\")
    if kind == "US" and len(value) == 2:
        return struct.unpack("<H", value)[0]
    if kind == "IS" and re.fullmatch(rb" *[0-9]{1,9}[ \0]*", value):
        return int(value.strip(b" \0"))
    raise _UnusualError


def _unusual() -> int:
    raise _UnusualError
