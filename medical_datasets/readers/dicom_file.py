"""A DICOM file opened up to its pixels, within bounds, or refused.

Lengths in a damaged file may say anything: no read is longer than the file, nothing inflates without limit, and every
failure becomes one error, which names elements and never their values, unless the value is one that the standard
itself defines.
"""

from __future__ import annotations

import io
import logging
import os
import re
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_partial
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from ..errors import UnreadableImageError

# A deflated file may have a thousand times its size: bytes beside the pixels, and bytes in all.
_MAX_INFLATED_HEADER: Final = 1 << 22
_MAX_INFLATED: Final = 1 << 28
# What an honest header stays far below: elements beside each other, bytes of one that is asked for (functional groups
# take some 2 KB a frame), and reads of elements in elements. A file may have one more read for each _BYTES_A_READ.
_MAX_ELEMENTS: Final = 1 << 14
_MAX_VALUE: Final = 1 << 24
_MAX_READS: Final = 1 << 18
_BYTES_A_READ: Final = 32
_LARGE_READ: Final = 1 << 20
Elements = Dataset | Mapping[str, Any]
"""Elements by keyword: as pydicom reads them, or as :mod:`.dicom_walk` does."""

_PIXEL_ELEMENTS: Final = {
    (0x7FE0, 0x0008): "FloatPixelData",
    (0x7FE0, 0x0009): "DoubleFloatPixelData",
    (0x7FE0, 0x0010): "PixelData",
}
_SIZES: Final = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "NumberOfFrames")
_UNDEFINED: Final = 0xFFFFFFFF
# The terms that PS3.3 C.7.3.1.1.1 defines and that are met in practice; any other value might be free text.
_TERMS: Final = """
    AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DG DMS DOC DX ECG EEG EMG EOG EPS ES FID GM HC HD IO IOL IVOCT IVUS KER
    KO LEN LS M3D MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR PT PX REG RESP RF RG RTDOSE
    RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA
    XAPROTOCOL XC
"""
MODALITIES: Final = frozenset(_TERMS.split())
_FEWER: Final = "export the image again, with fewer frames a file"
_QUIET: Final = threading.Lock()


class RefusedError(Exception):
    """A file that is not read, before the front door adds which it was."""

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(what)


@dataclass(frozen=True, slots=True)
class Header:
    """A file opened up to its pixel data.

    Attributes:
        tags: the elements that were asked for, :data:`Elements`.
        syntax: transfer syntax; where the file has none, the one that its elements are written in.
        stream: the open file (or what it inflates to), at the first byte of the pixel data.
        keyword: ``PixelData``, ``FloatPixelData`` or ``DoubleFloatPixelData``.
        representation: value representation of the pixel data; empty: not written.
        length: bytes of pixel data; None: written in fragments.
    """

    tags: Any
    syntax: UID
    stream: BinaryIO
    keyword: str
    representation: str
    length: int | None


def is_dicom(path: Path) -> bool:
    """Whether a file begins as a DICOM file does, with its preamble or, as old ones do, with an element of group 8.

    Raises:
        UnreadableImageError: it cannot be read.
    """
    with refusing(str(path)), regular_file(path) as stream:
        start = stream.read(132)
    return start[128:] == b"DICM" or (start[:2] in (b"\x08\x00", b"\x02\x00") and start[3:4] == b"\x00")


@contextmanager
def refusing(where: str) -> Iterator[None]:
    """Every failure inside leaves as an UnreadableImageError that says where, and nothing of what a tag holds."""
    try:
        yield
    except UnreadableImageError:
        raise
    except RefusedError as refused:
        raise UnreadableImageError(refused.what, where=where, remedy=refused.remedy) from None
    # A damaged file can fail anywhere in pydicom, with any exception, whose text may quote a patient's data.
    except Exception as problem:
        if isinstance(problem, OSError) and problem.errno is not None:  # without a number it is a decoder's
            raise UnreadableImageError(
                f"the file cannot be read ({problem.strerror or type(problem).__name__})",
                where=where,
                remedy="check that it exists and that this user may read it",
            ) from None
        raise UnreadableImageError(
            f"the file is damaged: it cannot be decoded as DICOM ({type(problem).__name__})",
            where=where,
            remedy="copy it again from its source, or remove it",
        ) from None


@contextmanager
def opened(path: Path, tags: Sequence[str]) -> Iterator[Header]:
    """A file opened up to its pixel data, with some of its elements.

    Raises:
        RefusedError: it is no DICOM file, a DICOMDIR, has no pixels, or ends before them.
        OSError: it cannot be read.
        Exception: whatever pydicom makes of a damaged file.
    """
    quiet()
    with regular_file(path) as file:
        yield read_header(file, tags)


@contextmanager
def regular_file(path: Path) -> Iterator[BinaryIO]:
    """A file opened for reading, and nothing that would wait for ever or never end.

    Raises:
        RefusedError: it is a pipe, a device or a folder.
        OSError: it cannot be opened.
    """

    def at_once(name: str, flags: int) -> int:  # a pipe would be waited for
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    if path.is_dir():
        raise RefusedError("it is not a regular file")
    with _Bounded(io.FileIO(path, opener=at_once)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise RefusedError("it is not a regular file")
        yield file


def quiet() -> None:
    """Keep what pydicom says of odd values, which can quote them, out of logs and off the screen.

    Files are read in threads, and ``warnings.catch_warnings`` is not safe there: it puts back a list that another
    thread may have changed. So a filter for pydicom's modules alone is added for good, once for each list of filters
    that is met (a test runner makes one a test), and never taken away.
    """
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    with _QUIET:
        for name in ("pydicom", "jpeg_ls"):
            wanted = ("ignore", None, Warning, re.compile(name), 0)
            if wanted not in warnings.filters:
                warnings.filterwarnings("ignore", module=name)


def text(tags: Elements, keyword: str) -> str:
    """The first value of an element as stripped text; empty where it is missing or cannot be decoded."""
    return next(iter(texts(tags, keyword)), "")


def texts(tags: Elements, keyword: str) -> tuple[str, ...]:
    """All values of an element as :func:`text`."""
    try:
        value = tags.get(keyword)
    # What describes an image may be damaged while its pixels are whole; it is then unknown.
    except Exception:
        return ()
    if value is None:
        return ()
    many = value if isinstance(value, MultiValue | list | tuple) else [value]
    return tuple(str(each).strip().strip("\0") for each in many)


class _Bounded(io.BufferedReader):
    """A file that is never asked for more than it holds: a damaged length would reserve gigabytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _LARGE_READ:
            at = self.tell()
            size = max(0, min(size, self.seek(0, io.SEEK_END) - at))
            self.seek(at)
        return super().read(size)


class _Counted:
    """An open file that may be read so many times."""

    def __init__(self, stream: BinaryIO, reads: int) -> None:
        self._read, self._left = stream.read, reads
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise _too_many()
        return self._read(size)


def read_header(file: BinaryIO, tags: Sequence[str]) -> Header:
    """The header of an open file; raises as :func:`opened`."""
    stream, allowed = _inflated(file), _MAX_READS + os.fstat(file.fileno()).st_size // _BYTES_A_READ
    start = stream.read(132)
    stream.seek(0)
    if not start:
        raise RefusedError("the file is empty (0 bytes)", "copy it again from its source")
    whole = start[128:] == b"DICM"
    found = _read_elements(stream, [*tags, "SOPClassUID"], allowed, force=not whole)
    meta = found.file_meta
    if meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        raise RefusedError("it is a DICOMDIR, an index of other files", "name the folder with the images")
    if not whole and "SOPClassUID" not in found:
        raise RefusedError("the file is no DICOM file", "remove it from the folder")
    syntax = meta.get("TransferSyntaxUID") or _guessed(*found.original_encoding)
    return header_at(stream, found, syntax)


def _read_elements(stream: BinaryIO, tags: Sequence[str], reads: int, *, force: bool) -> FileDataset:
    """Some elements before the pixels, as ``pydicom.dcmread`` gives them, in at most so many reads."""
    wanted = {Tag(keyword) for keyword in tags}
    passed = 0

    def stop(tag: int, _: str | None, length: int) -> bool:
        nonlocal passed
        passed += 1
        if passed > _MAX_ELEMENTS:
            raise _too_many()
        if tag in wanted and _MAX_VALUE < length < _UNDEFINED:
            raise RefusedError(f"an element before the pixels has more than {_MAX_VALUE} bytes", _FEWER)
        return (tag >> 16, tag & 0xFFFF) in _PIXEL_ELEMENTS

    counted = cast(BinaryIO, _Counted(stream, reads))
    return read_partial(counted, stop, force=force, specific_tags=list(wanted))


def _too_many() -> RefusedError:
    return RefusedError("the file has more elements before its pixels than any image", _FEWER)


def header_at(stream: BinaryIO, found: Elements, syntax: UID) -> Header:
    """The header of a file that is read up to the element of its pixels.

    Raises:
        RefusedError: there is none, or the file ends within it.
    """
    at = stream.tell()
    size = stream.seek(0, io.SEEK_END)
    stream.seek(at)
    element = stream.read(8)
    if len(element) < 8:
        raise RefusedError(f"the file holds no pixels{_kind(found)}", "leave it out; a picture has pixel data")
    order = "<" if syntax.is_little_endian else ">"
    representation = ""
    if syntax.is_implicit_VR:
        group, number, length = struct.unpack(f"{order}HHL", element)
    else:
        group, number, written, _ = struct.unpack(f"{order}HH2sH", element)
        if written.isalpha() and written.isupper():
            representation = written.decode("ascii")
            (length,) = struct.unpack(f"{order}L", stream.read(4))
        else:  # some writers change to implicit representation in the middle, which pydicom follows too
            (length,) = struct.unpack(f"{order}L", element[4:])
    left = size - stream.tell()
    if length != _UNDEFINED and length > left:
        raise RefusedError(
            f"the file is truncated: it has {left} of {length} bytes of pixel data", "copy it again from its source"
        )
    return Header(
        tags=found,
        syntax=syntax,
        stream=stream,
        keyword=_PIXEL_ELEMENTS[group, number],
        representation=representation,
        length=None if length == _UNDEFINED else length,
    )


def _guessed(implicit: bool | None, little: bool | None) -> UID:
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _inflated(file: BinaryIO) -> BinaryIO:
    """The file itself; of a deflated one the same file as if written undeflated (PS3.5 A.5).

    It inflates to what its header says that the pixels have, and ``_MAX_INFLATED_HEADER``, but to no more than
    ``_MAX_INFLATED``.
    """
    start = file.read(4096)
    file.seek(0)
    name = DeflatedExplicitVRLittleEndian.encode()
    if name not in start:
        return file
    if start[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00":
        raise RefusedError("the file is deflated, and its meta information has no length", "export it again")
    (length,) = struct.unpack("<L", start[140:144])
    meta = file.read(144 + length)
    if name not in meta:  # it stands for something else, further on
        file.seek(0)
        return file
    plain = ExplicitVRLittleEndian.encode().ljust(len(name), b"\0")  # the same length, so that lengths stay right
    body = io.BytesIO()
    body.write(meta.replace(name, plain))
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    limit = min(_MAX_INFLATED_HEADER, _MAX_INFLATED)
    left, justified = limit, False
    packed = b""
    while not inflate.eof:
        packed = packed or file.read(_LARGE_READ)
        piece = inflate.decompress(packed, min(left, _LARGE_READ) or 1)
        if not piece and not packed:
            raise RefusedError("the file is truncated: its deflated data do not end", "copy it again from its source")
        packed = inflate.unconsumed_tail
        if len(piece) > left and not justified:
            limit, justified = min(_MAX_INFLATED, limit + _pixel_bytes(body.getvalue())), True
            left += limit - min(_MAX_INFLATED_HEADER, _MAX_INFLATED)
        if len(piece) > left:
            raise RefusedError(f"the file inflates to more than {limit} bytes", "export it undeflated")
        left -= len(piece)
        body.write(piece)
    body.seek(0)
    return body


def _pixel_bytes(start: bytes) -> int:
    """How many bytes of pixels a file can have by the elements at its start; 0 where these are not all there."""
    tags = _read_elements(io.BytesIO(start), _SIZES, _MAX_READS, force=False)
    rows, columns, samples, bits = (int(tags.get(keyword) or 0) for keyword in _SIZES[:4])
    return rows * columns * samples * bits * max(1, int(tags.get(_SIZES[4]) or 1)) // 8


def _kind(tags: Elements) -> str:
    """What an object without pixels is, in the standard's words only."""
    sop = UID(text(tags, "SOPClassUID"))
    modality = text(tags, "Modality")
    words = [f"it is a {sop.name} object" if sop.name != sop and not sop.is_private else ""]
    words.append(f"of modality {modality}" if modality in MODALITIES else "")
    known = " ".join(word for word in words if word)
    return f"; {known}" if known else ""
