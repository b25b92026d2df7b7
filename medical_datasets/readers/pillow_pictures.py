"""Ordinary pictures: PNG, JPEG, BMP, TIFF, WebP, GIF and PPM become RGB bytes here or are refused here.

Pillow alone gives palette indices, four channels for RGBA and CMYK, sideways photographs and 16-bit images
clipped at 255; all of that is put right once, so that no other module opens one.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import UnreadableImageError

IMAGE_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"}
)
# A fixed list: Pillow also opens formats (EPS) that start another program, and exotic parsers nobody needs here.
_FORMATS: Final = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
# 64 million pixels are 192 MB as RGB; a dermoscopy camera stays below 30 million.
MAX_PIXELS: Final = 64_000_000

_TIFF: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"II\0*", b"MM*\0")
_BITS: Final = 258  # TIFF 6.0, section 8
_PHOTOMETRIC: Final = 262  # 0: WhiteIsZero

_DECODER_ERRORS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        UnreadableImageError: the file is missing, may not be read or is empty.
    """
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise UnreadableImageError(
            f"the file cannot be read ({problem.strerror or problem})",
            where=str(path),
            remedy="check that it exists and that this user may read it",
        ) from problem
    if not data:
        raise UnreadableImageError(
            "the file is empty (0 bytes)", where=str(path), remedy="copy it again from its source"
        )
    return data


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """One picture as RGB, upright.

    Orientation from EXIF is applied, palettes are looked up, transparency is laid over black, CMYK is converted;
    one-channel pictures of more than 8 bits are scaled linearly from their own smallest and largest value to 0 and
    255, because MR intensities have no unit; where a TIFF says WhiteIsZero, the smallest value is white.

    Args:
        path: the image file.

    Returns:
        uint8 array of shape (height, width, 3); a read-only view for a grey picture.

    Raises:
        UnreadableImageError: missing, empty, truncated, not a picture, several frames, or over ``MAX_PIXELS``.
    """
    return decode_rgb(read_bytes(path), path)


def decode_rgb(data: bytes, path: Path) -> NDArray[np.uint8]:
    """:func:`read_rgb` for bytes already read; ``path`` only names them in errors."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _refuse_header(image, path)
            return _shown(image, path)
    except _DECODER_ERRORS as problem:
        raise _unreadable(problem, path) from problem


def read_grey_thumbnail(path: Path, side: int = 32) -> NDArray[np.float32]:
    """A small grey picture for comparing images, decoded at reduced size where the format allows it.

    Args:
        path: the image file.
        side: height and width of the result, in pixels.

    Returns:
        float32 array of shape (side, side), values 0 to 255.

    Raises:
        UnreadableImageError: as :func:`read_rgb`.
    """
    data = read_bytes(path)
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _refuse_header(image, path)
            # JPEG only; a no-op for the others. Four times the side keeps the averaging below accurate.
            image.draft(None, (4 * side, 4 * side))
            return grey_thumbnail(_shown(image, path), side)
    except _DECODER_ERRORS as problem:
        raise _unreadable(problem, path) from problem


def changed_rules(data: bytes) -> str:
    """The version of the rules for a picture that is read otherwise than it was before; empty: as ever.

    Only such pictures have the rules in their content hash, so that features of all others stay valid.
    """
    if data[:4] not in _TIFF:
        return ""
    try:
        tags = _first_directory(data)
    except struct.error:  # cut short: it is refused when it is read
        return ""
    return "white is zero 1" if tags.get(_PHOTOMETRIC) == 0 and tags.get(_BITS, 1) > 8 else ""


def _first_directory(data: bytes) -> dict[int, int]:
    """The whole numbers that stand in the first directory of a TIFF or BigTIFF itself, by tag (TIFF 6.0, section 2)."""
    order = "<" if data[:2] == b"II" else ">"
    big = 43 in data[2:4]
    (at,) = struct.unpack_from(f"{order}Q" if big else f"{order}L", data, 8 if big else 4)
    (count,) = struct.unpack_from(f"{order}Q" if big else f"{order}H", data, at)
    at += 8 if big else 2
    head, step = (f"{order}HHQ", 20) if big else (f"{order}HHL", 12)
    found: dict[int, int] = {}
    for place in range(at, min(at + step * count, len(data)), step):
        tag, kind, values = struct.unpack_from(head, data, place)
        if values == 1 and kind in (3, 4):
            written = f"{order}H" if kind == 3 else f"{order}L"
            found.setdefault(tag, struct.unpack_from(written, data, place + (12 if big else 8))[0])
    return found


def grey_thumbnail(rgb: NDArray[np.uint8], side: int = 32) -> NDArray[np.float32]:
    """The mean grey of each cell of a side-by-side grid over an RGB image of shape (H, W, 3)."""
    small = Image.fromarray(rgb).convert("L").resize((side, side), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def check_header(path: Path) -> None:
    """Refuse a file that cannot be a picture, by its first bytes only; the pixels are not decoded.

    Raises:
        UnreadableImageError: missing, empty, not a picture, several frames, or over ``MAX_PIXELS``.
    """
    try:
        if path.stat().st_size == 0:
            raise UnreadableImageError(
                "the file is empty (0 bytes)", where=str(path), remedy="copy it again from its source"
            )
        with Image.open(path, formats=_FORMATS) as image:
            _refuse_header(image, path)
    except _DECODER_ERRORS as problem:
        raise _unreadable(problem, path) from problem


def _refuse_header(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise UnreadableImageError(f"the picture has no pixels ({width} x {height})", where=str(path))
    if width * height > MAX_PIXELS:
        raise UnreadableImageError(
            f"the picture claims {width} x {height} pixels, more than the limit of {MAX_PIXELS}",
            where=str(path),
            remedy="reduce it before use; a picture this large is usually damaged or an attack",
        )
    frames = getattr(image, "n_frames", 1)
    # Pillow opens an MPO as JPEG: a photograph with a preview of itself, whose first frame is the picture.
    if frames > 1 and image.format != "MPO":
        raise UnreadableImageError(f"the file holds {frames} frames", where=str(path), remedy="export one frame a file")


def _shown(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    inverted = _deep(image) and _white_is_zero(image)  # Pillow itself inverts up to 8 bits
    image.load()
    return _to_rgb(_upright(image), path, inverted)


def _deep(image: Image.Image) -> bool:
    """One channel of more than 8 bits."""
    return image.mode in {"I", "F"} or image.mode.startswith("I;")


def _white_is_zero(image: Image.Image) -> bool:
    return image.format == "TIFF" and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _DECODER_ERRORS:
        # Damaged EXIF says nothing about the pixels, which are whole here: they are taken as stored.
        return image


def _to_rgb(image: Image.Image, path: Path, inverted: bool) -> NDArray[np.uint8]:
    if _deep(image):
        values = np.asarray(image, dtype=np.float64)
        return _scaled(-values if inverted else values, path)
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, rgba)
    if image.mode == "L":
        return _three_equal(np.asarray(image, dtype=np.uint8))
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _scaled(values: NDArray[np.float64], path: Path) -> NDArray[np.uint8]:
    if not np.isfinite(values).all():
        raise UnreadableImageError(
            "the picture holds values that are not finite numbers", where=str(path), remedy="export it again"
        )
    low, high = float(values.min()), float(values.max())
    grey = np.zeros(values.shape, dtype=np.uint8)
    if high > low:
        grey = np.rint((values - low) * (255.0 / (high - low))).astype(np.uint8)
    return _three_equal(grey)


def _three_equal(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey as RGB without copying: a read-only view whose channels are one and the same memory."""
    return np.broadcast_to(grey[:, :, None], (*grey.shape, 3))


def _unreadable(problem: BaseException, path: Path) -> UnreadableImageError:
    # Pillow names the object in memory here, which differs from run to run.
    detail = "no known format" if isinstance(problem, UnidentifiedImageError) else str(problem)
    return UnreadableImageError(
        f"the file cannot be decoded as a picture ({type(problem).__name__}: {detail})",
        where=str(path),
        remedy="copy it again from its source, or remove it",
    )
