"""Arrays of many pictures in one ``.npz``, as MedMNIST has them: one picture is taken out without the others.

A member of an npz is one deflated stream; unpacked it can have gigabytes. It is unpacked once from end to end, which
compares its checksum and leaves marks (copies of the inflater's state) from which any picture is a short way; nothing
is written to disk. Reading in order costs one more pass in all, and a picture out of order at most one block.
"""

from __future__ import annotations

import functools
import io
import math
import re
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from ..cohort import ImageRef
from ..errors import UnreadableImageError
from .inflating import MARK_BYTES, Inflating, first_packed_byte
from .intensity import three_equal
from .pillow_pictures import MAX_PIXELS
from .recent import FileState, Recent, file_state

RULES: Final = "npz uint8 1"

BLOCK_BYTES: Final = 1 << 20
MAX_MARKS: Final = 1024  # of a member; each is some 60 KB; with this many the largest MedMNIST has blocks of 13 MB
CACHE_BYTES: Final = 1 << 26  # unpacked blocks that are kept
_MAX_SMALL: Final = 1 << 26  # bytes of an array that is read whole: eight million labels of 64 bits
_MAX_HEADER: Final = 10_000  # bytes of an array's own header: numpy writes 118 for numbers of one type
_MAX_RATIO: Final = 1032  # deflate packs at most 258 bytes into two bits
_NAMES: Final = 12  # arrays that a message names, each by at most _NAME characters
_NAME: Final = 40
_PART: Final = re.compile(r"([A-Za-z0-9_]{1,64})/(\d{1,12})", re.ASCII)
_VERSIONS: Final[dict[tuple[int, int], tuple[str, Any]]] = {
    (1, 0): ("<H", np.lib.format.read_array_header_1_0),
    (2, 0): ("<I", np.lib.format.read_array_header_2_0),
}
_COPY: Final = "download it again, or remove it"
_ERRORS: Final = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, struct.error, NotImplementedError)


@dataclass(frozen=True, slots=True)
class Member:
    """One array of an npz, by its header.

    Attributes:
        shape: of the array.
        dtype: of a value; ``object`` where Python objects are pickled.
        column_major: whether the array lies in Fortran order.
        begin: bytes of the array's own header, before the first value.
        info: where the zip has it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    column_major: bool
    begin: int
    info: zipfile.ZipInfo


def read_rgb(ref: ImageRef) -> NDArray[np.uint8]:
    """One picture of an array of pictures.

    Args:
        ref: its part is ``"train_images/17"``: the array's name and the picture's number from 0.

    Returns:
        uint8 array of shape (height, width, 3); a read-only view for a grey picture.

    Raises:
        UnreadableImageError: missing, truncated or damaged, no npz, no such array or picture, pickled objects, values
            that are not uint8, volumes, or over ``MAX_PIXELS``.
    """
    state, member, index = _locate(ref)
    name = member.info.filename
    picture = member.shape[1:]
    size = int(np.prod(picture))
    marked = _marked.get((state, name), lambda: _mark(state, member))
    block, place = divmod(index, marked.pictures)
    held = _blocks.get((state, name, block), lambda: _unpack(state, marked, block))
    values = np.frombuffer(held, dtype=np.uint8, count=size, offset=place * size).reshape(picture)
    return values.copy() if len(picture) == 3 else three_equal(values)


def check_header(ref: ImageRef) -> None:
    """Refuse a part that cannot be a picture; nothing is unpacked. Raises as :func:`read_rgb`, as far as known."""
    _locate(ref)


def members(path: Path) -> Mapping[str, Member]:
    """The arrays of an npz by name, by their headers.

    Raises:
        UnreadableImageError: missing, truncated, no npz, encrypted, or a header is damaged.
    """
    return _members_of_state(file_state(path))


def small_array(path: Path, name: str) -> NDArray[Any]:
    """A whole array, e.g. of labels; its checksum is compared.

    Raises:
        UnreadableImageError: as :func:`members`; there is no such array, it is damaged, holds pickled objects, or has
            more than 64 MiB.
    """
    found = members(path)
    if name not in found:
        raise _refused(path, f"there is no array {name!r}; there are {names_of(found)}")
    member = found[name]
    if member.dtype.hasobject or member.info.file_size > _MAX_SMALL:
        kind = "holds pickled objects" if member.dtype.hasobject else f"has {member.info.file_size} bytes"
        raise _refused(path, f"the array {name!r} {kind}, and is not read")
    if what := _false_size(member, file_state(path)[1]):
        raise _refused(path, f"the array {name!r} {what}")
    try:
        with zipfile.ZipFile(path) as archive:
            data = archive.read(member.info)
        return np.asarray(np.lib.format.read_array(io.BytesIO(data), allow_pickle=False))
    except _ERRORS as problem:
        raise _refused(path, f"the array {name!r} cannot be unpacked ({type(problem).__name__})") from problem


def names_of(found: Iterable[str]) -> str:
    """Names of arrays for a message: the first 12, quoted, long ones cut; ``none`` if there is none.

    They are whatever a file says.
    """
    names = list(found)
    said = [repr(name if len(name) <= _NAME else name[:_NAME] + "...") for name in names[:_NAMES]]
    more = [f"and {len(names) - _NAMES} more"] if len(names) > _NAMES else []
    return ", ".join(said + more) or "none"


@functools.lru_cache(maxsize=64)
def _members_of_state(state: FileState) -> Mapping[str, Member]:
    path = Path(state[0])
    if path.suffix.lower() == ".npy":
        raise _refused(path, "a single array says nothing of its pictures", "save it with numpy.savez_compressed")
    found: dict[str, Member] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".npy"):
                    with archive.open(info) as stream:
                        found[info.filename[:-4]] = _header(stream, info)
    except (*_ERRORS, RuntimeError) as problem:  # RuntimeError: a password is asked for
        raise _refused(path, f"this is no whole npz file ({type(problem).__name__})") from problem
    return MappingProxyType(found)


def _header(stream: IO[bytes], info: zipfile.ZipInfo) -> Member:
    version = np.lib.format.read_magic(stream)
    if version not in _VERSIONS:
        raise ValueError(f"version {version} of the header")
    form, read = _VERSIONS[version]
    written = stream.read(struct.calcsize(form))
    (length,) = struct.unpack(form, written)
    if length > _MAX_HEADER:  # numpy would unpack as much as is claimed before it looks
        raise ValueError("the header is too long")
    try:
        shape, column_major, dtype = read(io.BytesIO(written + stream.read(length)))
    # numpy gives the text to Python's parser, which nested text makes fail in many ways, for want of memory too.
    except Exception as problem:
        raise ValueError(f"the header of an array ({type(problem).__name__})") from problem
    return Member(tuple(int(size) for size in shape), dtype, bool(column_major), stream.tell(), info)


def _locate(ref: ImageRef) -> tuple[FileState, Member, int]:
    found = _PART.fullmatch(ref.part)
    state = file_state(ref.path)
    arrays = _members_of_state(state)
    if found is None or found[1] not in arrays:
        raise UnreadableImageError(
            f"{ref.part!r} names no picture; the arrays are {names_of(arrays)}",
            where=str(ref),
            remedy="write the array's name and the picture's number from 0, e.g. train_images/17",
        )
    member, index = arrays[found[1]], int(found[2])
    what = _fault(member, state[1])
    if what:
        raise UnreadableImageError(f"the array {found[1]!r} {what}", where=str(ref), remedy="use the file as published")
    if index >= member.shape[0]:
        raise UnreadableImageError(
            f"there is no picture {index} in {found[1]!r}; it has {member.shape[0]}",
            where=str(ref),
            remedy="count from 0",
        )
    return state, member, index


def _false_size(member: Member, whole: int) -> str:
    """Why a size that a file of ``whole`` bytes claims for an array cannot be right, or nothing."""
    needed = math.prod(member.shape) * member.dtype.itemsize + member.begin
    if needed != member.info.file_size:
        return f"has the shape {member.shape} and {member.info.file_size - member.begin} bytes: it is damaged"
    packed = min(member.info.compress_size, whole - member.info.header_offset)
    ratio = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: _MAX_RATIO}.get(member.info.compress_type)
    if ratio is not None and needed > ratio * packed:
        return f"claims {needed} bytes, more than its {packed} packed bytes can hold: it is damaged"
    return ""


def _fault(member: Member, whole: int) -> str:
    """Why an array of a file of ``whole`` bytes holds no pictures that can be read, or nothing."""
    shape = member.shape
    if member.dtype.hasobject:
        return "holds pickled Python objects, which could run a program"
    if member.dtype != np.uint8:
        return f"holds {member.dtype}; pictures are uint8"
    if len(shape) == 5 or (len(shape) == 4 and shape[3] != 3):
        return f"of shape {shape} holds volumes; the three-dimensional sets of MedMNIST are not read"
    if len(shape) not in (3, 4) or 0 in shape[1:]:
        return f"has the shape {shape}; pictures are (n, height, width) or (n, height, width, 3)"
    if shape[1] * shape[2] > MAX_PIXELS:
        return f"has pictures of {shape[2]} x {shape[1]} pixels, more than the limit of {MAX_PIXELS}"
    if member.column_major:
        return "lies in Fortran order"
    if member.info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed by another method than deflate"
    return _false_size(member, whole)


@dataclass(frozen=True, slots=True)
class _Marked:
    """A member whose checksum is right, with the ways into it.

    Attributes:
        member: the array.
        pictures: pictures in a block.
        block: bytes in a block.
        marks: for each block, the place in the file from which its packed bytes come, and the inflater's state there;
            no state where the member is not packed.
    """

    member: Member
    pictures: int
    block: int
    marks: tuple[tuple[int, Any], ...]


_marked: Final[Recent[tuple[FileState, str], _Marked]] = Recent(1 << 28)
_blocks: Final[Recent[tuple[FileState, str, int], bytes]] = Recent(CACHE_BYTES)
_copying: Final = threading.Lock()


def _mark(state: FileState, member: Member) -> tuple[_Marked, int]:
    """Unpack a member once, compare its checksum, and mark every block."""
    size = int(np.prod(member.shape[1:]))
    total = size * member.shape[0]
    pictures = max(1, -(-max(BLOCK_BYTES, -(-total // MAX_MARKS)) // size))
    block = pictures * size
    marks: list[tuple[int, Any]] = []
    path = Path(state[0])
    try:
        with open(path, "rb") as stream:
            packed = member.info.compress_type == zipfile.ZIP_DEFLATED
            inflating = Inflating(
                stream, first_packed_byte(stream, member.info), zlib.decompressobj(-15) if packed else None
            )
            checksum = zlib.crc32(inflating.exactly(member.begin))
            for begin in range(0, total, block):
                marks.append(inflating.mark())
                checksum = zlib.crc32(inflating.exactly(min(block, total - begin)), checksum)
    except _ERRORS as problem:
        raise _refused(path, f"an array cannot be unpacked ({type(problem).__name__})") from problem
    if checksum != member.info.CRC:
        raise _refused(path, "an array is damaged: its checksum is another one")
    return _Marked(member, pictures, block, tuple(marks)), len(marks) * MARK_BYTES


def _unpack(state: FileState, marked: _Marked, block: int) -> tuple[bytes, int]:
    place, inflater = marked.marks[block]
    total = int(np.prod(marked.member.shape))
    path = Path(state[0])
    try:
        with _copying:  # a mark is only ever copied, and by one thread at a time
            inflater = inflater and inflater.copy()
        with open(path, "rb") as stream:
            values = Inflating(stream, place, inflater).exactly(min(marked.block, total - block * marked.block))
    except _ERRORS as problem:
        raise _refused(path, f"an array cannot be unpacked ({type(problem).__name__})") from problem
    return values, len(values)


def _refused(path: Path, what: str, remedy: str = _COPY) -> UnreadableImageError:
    return UnreadableImageError(what, where=str(path), remedy=remedy)
