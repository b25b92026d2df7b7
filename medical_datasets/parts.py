"""One way to write which picture of a file is meant, so that no picture is taken twice under two names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from .errors import UnreadableImageError
from .pixels import DICOM_SUFFIXES, IMAGE_SUFFIXES
from .readers.dicom import facts
from .readers.nifti import thin_plane
from .readers.nifti_header import read_grid

_LEADING_ZEROS: Final = re.compile(r"(?<=[=/])0+(?=[0-9])")
_FIRST_VOLUME: Final = re.compile(r"(?:^|,)volume=0$")
_FIRST_SLICE: Final = re.compile(r"(axial|coronal|sagittal)=0(?:,(volume=[0-9]+))?")


def is_dicom_name(name: str) -> bool:
    """Whether the DICOM reader takes a file of this name."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in DICOM_SUFFIXES or suffix[1:].isdigit()


def canonical_part(path: Path, part: str) -> str:
    """The one spelling of a part of a file: ``frame=07`` is ``frame=7``, ``axial=3,volume=0`` is ``axial=3``.

    The only frame of a DICOM file, and the only slice of a NIfTI file, is written as nothing: where the part may be
    it, the file's header is read. A part that no reader knows, or of an unreadable file, stays as it is.
    """
    part = _LEADING_ZEROS.sub("", part)
    lower = path.name.lower()
    try:
        if lower.endswith((".nii", ".nii.gz")):
            part = _FIRST_VOLUME.sub("", part)
            first = _FIRST_SLICE.fullmatch(part)
            if first is not None and thin_plane(read_grid(path)) == first[1]:
                return first[2] or ""
        elif part == "frame=0" and (
            os.path.splitext(lower)[1] in IMAGE_SUFFIXES or (is_dicom_name(lower) and facts(path).frames == 1)
        ):
            return ""
    except UnreadableImageError:
        return part  # whoever reads the file next says why it cannot be read
    return part
