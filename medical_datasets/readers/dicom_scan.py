"""What a folder of DICOM files is listed by: the facts of each file, and whether its header shows a picture.

A study's cohort asks for the headers of the files that were just listed. Those found sound are remembered, as long as
size, time of change and inode stay the same, so that a header is looked at once.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, Final

from .dicom_file import Header, header_at, quiet, read_header, refusing, regular_file
from .dicom_pixels import SHAPE_ELEMENTS, shape_of
from .dicom_tags import FACT_ELEMENTS, DicomFacts, facts_of
from .dicom_walk import walk

_MAX_SOUND: Final = 1 << 17  # headers, some 150 bytes each
_ASKED: Final = tuple(dict.fromkeys((*FACT_ELEMENTS, *SHAPE_ELEMENTS)))
_NOT_WALKED: Final = frozenset({"ExtendedOffsetTable", "ExtendedOffsetTableLengths"})  # long, and not for a listing
_WALKED: Final = tuple(keyword for keyword in _ASKED if keyword not in _NOT_WALKED)

_sound: Final[OrderedDict[bytes, int]] = OrderedDict()
_lock: Final = threading.Lock()


def facts(path: Path) -> DicomFacts:
    """What the tags of an image say; its pixels are not read.

    Raises:
        UnreadableImageError: missing, no DICOM, a DICOMDIR, or an object without pixels.
    """
    with refusing(str(path)), regular_file(path) as file:
        quiet()
        state = os.fstat(file.fileno())
        header = _header(file)
        found = facts_of(header.tags)
        try:
            frames = shape_of(header).frames
        # Why it is no picture is said to who asks for one.
        except Exception:
            return found
        _remember(_key(path, state), frames)
        return found


def sound_frames(path: Path) -> int | None:
    """Frames of a file whose header :func:`facts` found sound and that has not changed since; None: not known."""
    try:
        key = _key(path, path.stat())
    except OSError:
        return None
    with _lock:
        return _sound.get(key)


def _header(file: BinaryIO) -> Header:
    walked = walk(file, _WALKED)
    if walked is not None:
        file.seek(walked.pixels)
        return header_at(file, walked.elements, walked.syntax)
    file.seek(0)
    return read_header(file, _ASKED)


def _key(path: Path, state: os.stat_result) -> bytes:
    name: Any = (str(path), state.st_size, state.st_mtime_ns, state.st_ino)
    return hashlib.blake2b(repr(name).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _remember(key: bytes, frames: int) -> None:
    with _lock:
        _sound[key] = frames
        _sound.move_to_end(key)
        while len(_sound) > _MAX_SOUND:
            _sound.popitem(last=False)
