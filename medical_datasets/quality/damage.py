"""Which files that a data set's reader left out are damaged pictures, and which were never pictures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ..cohort import Skipped
from ..errors import UnreadableImageError
from ..pixels import check_header
from ..readers.nifti_slices import choose_slices

_VOLUMES: Final = (".nii", ".nii.gz")
# An archive's export has an index, reports and annotations among the images; an image object without pixels was cut.
_NO_PICTURE: Final = re.compile(
    r"it is a DICOMDIR|the file holds no pixels; (?!.*Image)|(it|this) is not a regular file"
)
# Words of listings, which say nothing of the file itself.
_LISTED: Final = re.compile(
    r"not listed in |not an image file|not a DICOM file|a copy of |text is burned |the class |the label "
)


def is_damaged(skipped: Skipped) -> bool:
    """Whether a file was left out because its own reader refuses it: the reader is asked, and says the same.

    A volume is unpacked for it, since it was found damaged when its slices were chosen.
    """
    if _LISTED.match(skipped.reason) or _NO_PICTURE.match(skipped.reason) or not skipped.path.is_file():
        return False
    try:
        check_header(skipped.path)
    except UnreadableImageError as problem:
        if problem.what == skipped.reason:
            return True
    return skipped.path.name.lower().endswith(_VOLUMES) and _fails(skipped.path, skipped.reason)


def _fails(volume: Path, reason: str) -> bool:
    try:
        choose_slices(volume, None, 1)
    except UnreadableImageError as problem:
        return problem.what == reason
    return False
