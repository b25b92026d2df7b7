"""Small pictures for the case review page, made from pixels alone: nothing else of the old files is in them."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..evaluation.cases.model import Box, Picture
from .preprocessing import Preprocessing

SIDE, NEAR_SIDE = 224, 112
QUALITY = 82


def small_picture(rgb: NDArray[np.uint8], side: int = SIDE) -> Picture:
    """A JPEG whose longer side is at most ``side`` pixels; grey where the three channels are equal.

    It is encoded from the pixels: comments, EXIF and thumbnails of the file they came from are not in it. A smaller
    picture keeps its size.

    Args:
        rgb: (H, W, 3) uint8, upright.
    """
    grey = np.array_equal(rgb[:, :, 0], rgb[:, :, 1]) and np.array_equal(rgb[:, :, 0], rgb[:, :, 2])
    picture = Image.fromarray(np.ascontiguousarray(rgb[:, :, 0] if grey else rgb))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return Picture(buffer.getvalue(), "image/jpeg", picture.width, picture.height)


def seen_box(preprocessing: Preprocessing, height: int, width: int) -> Box:
    """The part of a picture of height x width pixels that the model's input shows.

    "shortest" crops the centre, "longest" pads, "squash" takes all of it; the scale is one for both sides, but for
    "squash".
    """
    if preprocessing.resize_mode == "squash":
        return Box()
    across, down = preprocessing.width / width, preprocessing.height / height
    scale = max(across, down) if preprocessing.resize_mode == "shortest" else min(across, down)
    wide, high = across / scale, down / scale
    return Box((1 - wide) / 2, (1 - high) / 2, wide, high)
