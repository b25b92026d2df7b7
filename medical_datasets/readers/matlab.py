"""MATLAB v7.3 files of the figshare brain tumour set: ``cjdata/image`` becomes a picture, the rest becomes facts.

A v7.3 file is HDF5, in which MATLAB's arrays lie column by column, so h5py sees them transposed. Links are refused:
HDF5 can point at other files, and a file from elsewhere must not choose what is read here.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from ..cohort import ImageRef
from ..errors import UnreadableImageError
from .intensity import three_equal, to_grey
from .pillow_pictures import MAX_PIXELS
from .recent import FileState, file_state

RULES: Final = "matlab cjdata/image 1"

# HDF5 has one lock for the whole library, and closing a file ends what another thread has open in the same one: a file
# is opened, read and closed in one piece.
_ONE_AT_A_TIME: Final = threading.Lock()
# deflate, shuffle, Fletcher's checksum: what MATLAB writes. Any other filter could be a plug-in that HDF5 looks for.
_FILTERS: Final = frozenset({1, 2, 3})
_MAX_TEXT: Final = 256
_COPY: Final = "copy it again from its source, or remove it"
_LIBRARY_ERRORS: Final = (OSError, RuntimeError, ValueError, TypeError, KeyError, OverflowError, MemoryError)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file of the set says beside its picture.

    Attributes:
        label: 1 meningioma, 2 glioma, 3 pituitary tumour; other numbers as they are written.
        patient: the patient's key, None where it is empty; not shown when the facts are printed.
    """

    label: int
    patient: str | None = field(repr=False)


def read_rgb(ref: ImageRef) -> NDArray[np.uint8]:
    """The picture of a file, scaled from its own smallest and largest value to 0 and 255.

    Returns:
        uint8 array of shape (height, width, 3), a read-only view of one grey channel; black if all values are equal.

    Raises:
        UnreadableImageError: missing, truncated, no MATLAB v7.3 file, no ``cjdata/image``, a link or external data in
            it, values that are not finite, or over ``MAX_PIXELS``.
    """
    with _opened(ref) as cjdata:
        stored = _numbers(cjdata, "image", ref)[()]
    values = np.asarray(stored, dtype=np.float64).T
    if not np.isfinite(values).all():
        raise UnreadableImageError(
            "the picture holds values that are not finite numbers", where=str(ref), remedy="export it again"
        )
    return three_equal(to_grey(np.ascontiguousarray(values), (float(values.min()), float(values.max()))))


def check_header(ref: ImageRef) -> None:
    """Refuse a file without a picture; its pixels are not decoded. Raises as :func:`read_rgb`, as far as this shows."""
    with _opened(ref) as cjdata:
        _numbers(cjdata, "image", ref)


def facts(path: Path) -> Facts:
    """Label and patient of a file, read once for each state of it.

    Raises:
        UnreadableImageError: as :func:`check_header`; or the label is no whole number, or the patient no text.
    """
    return _facts_of_state(file_state(path))


@functools.lru_cache(maxsize=8192)
def _facts_of_state(state: FileState) -> Facts:
    ref = ImageRef(Path(state[0]))
    with _opened(ref) as cjdata:
        _numbers(cjdata, "image", ref)
        label = _numbers(cjdata, "label", ref)
        number = float(label[()].ravel()[0]) if label.size == 1 else float("nan")
        patient = _text(cjdata, "PID", ref)
    if not number.is_integer():
        raise UnreadableImageError("cjdata/label is no whole number", where=str(ref), remedy=_COPY)
    return Facts(label=int(number), patient=patient)


@contextmanager
def _opened(ref: ImageRef) -> Iterator[Any]:
    """The group ``cjdata`` of a file, opened by one thread at a time.

    The library's errors leave as ours, without its words: they hold file names.
    """
    if ref.part:
        raise UnreadableImageError(f"a MATLAB file has one picture and no part {ref.part!r}", where=str(ref))
    path = Path(file_state(ref.path)[0])
    with _ONE_AT_A_TIME:
        try:
            file = h5py.File(path, "r", locking=False)  # a share that is mounted read-only cannot be locked
        except _LIBRARY_ERRORS as problem:
            raise UnreadableImageError(
                "this is no whole MATLAB v7.3 file (HDF5 cannot open it)",
                where=str(ref),
                remedy="copy it again; a file saved by MATLAB in an older format must be saved with -v7.3",
            ) from problem
        try:
            with file:
                yield _child(file, "cjdata", h5py.Group, ref)
        except _LIBRARY_ERRORS as problem:
            raise UnreadableImageError(
                f"the file is damaged ({type(problem).__name__} while reading it)", where=str(ref), remedy=_COPY
            ) from problem


def _child(group: Any, name: str, kind: type, ref: ImageRef) -> Any:
    # h5py's own `in` and `get` resolve a link to say whether it leads anywhere, which opens the file it names.
    if not _has(group, name):
        raise UnreadableImageError(
            f"the file holds no {name!r}: it is not of the figshare brain tumour set", where=str(ref), remedy=_COPY
        )
    if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise UnreadableImageError(
            f"{name!r} is a link to another place or file; links are not followed",
            where=str(ref),
            remedy="use the file as the data set's authors publish it",
        )
    found = group[name]
    if not isinstance(found, kind):
        raise UnreadableImageError(f"{name!r} is not a {kind.__name__.lower()}", where=str(ref), remedy=_COPY)
    return found


def _has(group: Any, name: str) -> bool:
    return bool(group.id.links.exists(name.encode()))


def _numbers(group: Any, name: str, ref: ImageRef) -> Any:
    """A two-dimensional array of numbers that lies in this file, not yet read."""
    found = _child(group, name, h5py.Dataset, ref)
    creation = found.id.get_create_plist()
    filters = {creation.get_filter(at)[0] for at in range(creation.get_nfilters())}
    if found.is_virtual or creation.get_external_count() or not filters <= _FILTERS:
        raise UnreadableImageError(
            f"{name!r} takes its values from another file or through a foreign filter",
            where=str(ref),
            remedy="use the file as the data set's authors publish it",
        )
    if found.dtype.kind not in "iufb" or found.dtype.itemsize > 8 or found.ndim != 2 or not found.size:
        raise UnreadableImageError(
            f"{name!r} is {found.dtype} of shape {found.shape}, not numbers in rows and columns",
            where=str(ref),
            remedy=_COPY,
        )
    # A damaged file can claim any size, and a chunk is decoded whole.
    chunk = int(np.prod(found.chunks, dtype=object)) if found.chunks else 0
    if max(found.size, chunk) > MAX_PIXELS:
        raise UnreadableImageError(
            f"{name!r} claims {max(found.size, chunk)} values, more than the limit of {MAX_PIXELS}",
            where=str(ref),
            remedy="reduce it before use; a picture this large is usually damaged or an attack",
        )
    return found


def _text(group: Any, name: str, ref: ImageRef) -> str | None:
    """Text that MATLAB wrote as UTF-16 code units; None where it is empty, which MATLAB writes as its two sizes."""
    found = _numbers(group, name, ref)
    if "MATLAB_empty" in found.attrs:
        return None
    if found.dtype.kind != "u" or found.size > _MAX_TEXT:
        raise UnreadableImageError(f"{name!r} is not a short text", where=str(ref), remedy=_COPY)
    units = np.asarray(found[()]).ravel()  # one column of MATLAB is one row here: the order is that of the letters
    try:
        return units.astype("<u2").tobytes().decode("utf-16-le").strip("\0 ") or None
    except UnicodeDecodeError as problem:
        raise UnreadableImageError(f"{name!r} is not a text", where=str(ref), remedy=_COPY) from problem
