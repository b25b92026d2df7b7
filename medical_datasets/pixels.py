"""The one reader of pixels: every picture becomes RGB bytes here or is refused here, whatever its file.

Which reader takes a file is decided by its name; the readers are in :mod:`.readers`. What a file says beside its pixels
(names, dates, places) ends there: nothing but pixels comes out of this module.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .cohort import ImageRef, Picture
from .errors import UnreadableImageError
from .readers import pillow_pictures
from .readers.pillow_pictures import IMAGE_SUFFIXES, MAX_PIXELS, decode_rgb, grey_thumbnail, read_bytes

__all__ = [
    "DICOM_SUFFIXES",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "check_header",
    "content_hash",
    "decode_rgb",
    "grey_thumbnail",
    "read_bytes",
    "read_grey_thumbnail",
    "read_rgb",
]

DICOM_SUFFIXES: Final = frozenset({".dcm", ".dicom", ".ima", ""})


def read_rgb(image: Picture) -> NDArray[np.uint8]:
    """One picture as RGB, upright, as a person would see it on a screen.

    Args:
        image: the file, or a part of one.

    Returns:
        uint8 array of shape (height, width, 3); a read-only view for a grey picture.

    Raises:
        UnreadableImageError: missing, empty, truncated, no picture, no such part, or over ``MAX_PIXELS``.
    """
    ref = _ref(image)
    reader = _reader(ref)
    if reader is pillow_pictures:
        return pillow_pictures.read_rgb(ref.path)
    read: Callable[[ImageRef], NDArray[np.uint8]] = reader.read_rgb
    return read(ref)


def read_grey_thumbnail(image: Picture, side: int = 32) -> NDArray[np.float32]:
    """A small grey picture for comparing images, float32 (side, side), 0 to 255; raises as :func:`read_rgb`."""
    ref = _ref(image)
    if _reader(ref) is pillow_pictures:
        return pillow_pictures.read_grey_thumbnail(ref.path, side)
    return grey_thumbnail(read_rgb(ref), side)


def check_header(image: Picture) -> None:
    """Refuse a file that cannot be a picture, by its first bytes only; the pixels are not decoded.

    Raises:
        UnreadableImageError: as :func:`read_rgb`, as far as the header shows it.
    """
    ref = _ref(image)
    reader = _reader(ref)
    if reader is pillow_pictures:
        pillow_pictures.check_header(ref.path)
    else:
        reader.check_header(ref)


def content_hash(image: Picture) -> str:
    """What a picture is known by, 64 hexadecimal digits: equal for equal pixels by the same rules.

    Of an ordinary picture it is the SHA-256 of the file, with the version of the rules only where these have changed
    for such a picture (:func:`.readers.pillow_pictures.changed_rules`). Of other files it is the SHA-256 of the file's,
    the part, and the version of the rules by which the reader makes a picture of it.

    Raises:
        UnreadableImageError: the file cannot be read.
    """
    ref = _ref(image)
    reader = _reader(ref)
    if reader is pillow_pictures:
        data = read_bytes(ref.path)
        rules, content = pillow_pictures.changed_rules(data), hashlib.sha256(data).hexdigest()
        return hashlib.sha256(f"{rules}\n{ref.part}\n{content}".encode()).hexdigest() if rules else content
    return hashlib.sha256(f"{reader.RULES}\n{ref.part}\n{_file_hash(ref.path)}".encode()).hexdigest()


def _ref(image: Picture) -> ImageRef:
    return image if isinstance(image, ImageRef) else ImageRef(image)


def _reader(ref: ImageRef) -> ModuleType:
    """The module that reads a file; imported when the first such file is met, because most studies have none."""
    name = ref.path.name.lower()
    suffix = ref.path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return pillow_pictures
    if suffix in (".npz", ".npy"):
        from .readers import arrays

        return arrays
    if suffix == ".mat":
        from .readers import matlab

        return matlab
    if name.endswith((".nii", ".nii.gz")):
        from .readers import nifti

        return nifti
    if suffix in DICOM_SUFFIXES or suffix[1:].isdigit():  # exports name files by UID, whose last number looks like one
        from .readers import dicom

        return dicom
    raise UnreadableImageError(
        f"no reader takes files named *{suffix}",
        where=str(ref),
        remedy=f"read are {', '.join(sorted(IMAGE_SUFFIXES))}, .dcm, .nii, .nii.gz, .mat and .npz",
    )


def _file_hash(path: Path) -> str:
    try:
        state = path.stat()
    except OSError as problem:
        raise UnreadableImageError(
            f"the file cannot be read ({problem.strerror or problem})",
            where=str(path),
            remedy="check that it exists and that this user may read it",
        ) from problem
    return _hash_of_state(os.fspath(path), state.st_size, state.st_mtime_ns, state.st_ino)


@functools.lru_cache(maxsize=4096)
def _hash_of_state(path: str, size: int, changed: int, inode: int) -> str:
    """SHA-256 of a file that holds many pictures, once and not once a picture."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as problem:
        raise UnreadableImageError(
            f"the file cannot be read ({problem.strerror or problem})", where=path, remedy="check the disk"
        ) from problem
    return digest.hexdigest()
