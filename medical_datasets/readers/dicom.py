"""DICOM images as a viewer shows them: one frame as RGB bytes.

The grey pipeline is that of PS3.3 C.11: stored value, modality LUT or rescale, VOI LUT or window, inversion. What a
viewer leaves to its user is fixed: the first of several windows; without any window the smallest and largest value of
the picture, padding left out; padding black. Frames of enhanced objects take their rescale and window from their
functional groups. Pixels that are not square are stretched, so that a circle is round. Not applied: overlays, ICC
profiles, presentation states, real-world values.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, convert_color_space

from ..cohort import ImageRef
from .dicom_file import Header, RefusedError, is_dicom, opened, refusing, text
from .dicom_lookup import LookupTable, refuse_false_segments
from .dicom_pixels import SHAPE_ELEMENTS, Shape, shape_of, stored_values
from .dicom_scan import facts, sound_frames
from .dicom_tags import DicomFacts, patient_group
from .pillow_pictures import MAX_PIXELS

__all__ = ["RULES", "DicomFacts", "check_header", "facts", "is_dicom", "patient_group", "read_rgb"]

RULES: Final = "dicom 2"
_ELEMENTS: Final = """
    Modality RescaleSlope RescaleIntercept ModalityLUTSequence VOILUTSequence WindowCenter WindowWidth VOILUTFunction
    PresentationLUTShape PixelPaddingValue PixelPaddingRangeLimit FloatPixelPaddingValue FloatPixelPaddingRangeLimit
    DoubleFloatPixelPaddingValue DoubleFloatPixelPaddingRangeLimit PixelSpacing ImagerPixelSpacing
    NominalScannedPixelSpacing PixelAspectRatio SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
    RedPaletteColorLookupTableDescriptor RedPaletteColorLookupTableData GreenPaletteColorLookupTableDescriptor
    GreenPaletteColorLookupTableData BluePaletteColorLookupTableDescriptor BluePaletteColorLookupTableData
    SegmentedRedPaletteColorLookupTableData SegmentedGreenPaletteColorLookupTableData
    SegmentedBluePaletteColorLookupTableData
"""
_TAGS: Final = (*SHAPE_ELEMENTS, *_ELEMENTS.split())
_MAX_ASPECT: Final = 10.0  # beyond it the spacing is taken for a mistake
_SQUARE: Final = 0.01  # spacings that differ by less than this share are equal


def read_rgb(ref: ImageRef) -> NDArray[np.uint8]:
    """One frame as RGB.

    Args:
        ref: the file; ``part`` is empty for a file of one frame, else ``frame=K``, K from 0.

    Returns:
        uint8 array of shape (height, width, 3); of a grey picture a read-only view whose channels are equal.

    Raises:
        UnreadableImageError: missing, no DICOM, damaged, truncated, no pixels, no such frame, over ``MAX_PIXELS``, or
            compressed by a method without an installed decoder.
    """
    with refusing(str(ref)), opened(ref.path, _TAGS) as header:
        shape = shape_of(header)
        frame = _frame(ref.part, shape.frames)
        values, space = stored_values(header, shape, frame)
        if space == "PALETTE COLOR":
            picture = _palette(values, header)
        elif shape.samples == 3:
            picture = _colour(values, space, shape)
        else:
            picture = _grey(values, header, shape, frame)
        picture = _square(picture, header, frame)
        if picture.ndim == 2:
            picture = np.broadcast_to(picture[:, :, None], (*picture.shape, 3))
        return picture


def check_header(ref: ImageRef) -> None:
    """Refuse a file that cannot be a picture, by its header; the pixels are not decoded.

    Raises:
        UnreadableImageError: as :func:`read_rgb`, as far as the header shows it.
    """
    with refusing(str(ref)):
        frames = sound_frames(ref.path)
        if frames is None:
            with opened(ref.path, (*SHAPE_ELEMENTS, "Modality")) as header:
                frames = shape_of(header).frames
        _frame(ref.part, frames)


def _frame(part: str, frames: int) -> int:
    if not part:
        if frames > 1:
            raise RefusedError(f"the file holds {frames} frames", "name one, from 0: frame=K")
        return 0
    named = re.fullmatch(r"frame=([0-9]{1,9})", part)
    if named is None:
        raise RefusedError("the part is not frame=K", "name a frame, from 0: frame=K")
    if int(named[1]) >= frames:
        raise RefusedError(f"the file holds {frames} frames, and no frame {int(named[1])}", "frames count from 0")
    return int(named[1])


def _grey(values: NDArray[Any], header: Header, shape: Shape, frame: int) -> NDArray[np.uint8]:
    """Shown grey of stored values, uint8 of the same shape; padding and what is no number are black."""
    padding = _padding(values, header, shape)
    if values.dtype.kind == "f":
        padding |= ~np.isfinite(values)
        values = np.where(padding, 0.0, values)
    if values.dtype.itemsize > 2:
        at: NDArray[Any] | None = None
        codes = values.astype(np.float64)
        real = codes[~padding]
    else:
        # Every step is pointwise: each of at most 65,536 stored values is worked out once.
        lowest = int(np.iinfo(values.dtype).min)
        at = values.astype(np.int32) - lowest
        codes = np.arange(lowest, int(np.iinfo(values.dtype).max) + 1, dtype=np.float64)
        real = codes[np.bincount(at[~padding], minlength=codes.size) > 0]
    if not real.size:
        raise RefusedError("every pixel is padding", "leave the image out")
    transform = _within(header.tags, frame, "PixelValueTransformationSequence")
    voi = _within(header.tags, frame, "FrameVOILUTSequence")
    values, real = _modality(codes, real, transform, shape)
    shown = _windowed(values, real, voi, _signed_output(transform, shape, real))
    inverse = text(header.tags, "PresentationLUTShape").upper() == "INVERSE"
    if shape.photometric == "MONOCHROME1" or inverse:  # a file that says both means one inversion
        shown = 1.0 - shown
    grey = np.rint(255.0 * shown).astype(np.uint8)
    if at is not None:
        grey = grey[at]
    grey[padding] = 0
    return grey


def _modality(
    stored: NDArray[np.float64], real: NDArray[np.float64], tags: Dataset, shape: Shape
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both through the modality LUT, else the rescale: m = slope * SV + intercept (PS3.3 C.11.1.1)."""
    if tags.get("ModalityLUTSequence"):
        table = LookupTable(tags.ModalityLUTSequence[0], shape.signed)
        table.refuse_one_entry(real)
        return table.of(stored), table.of(real)
    slope, intercept = _number(tags, "RescaleSlope"), _number(tags, "RescaleIntercept")
    slope = 1.0 if slope is None else slope
    return stored * slope + (intercept or 0.0), real * slope + (intercept or 0.0)


def _signed_output(tags: Dataset, shape: Shape, real: NDArray[np.float64]) -> bool:
    """Whether the modality step can give negative numbers; a modality LUT never does."""
    if tags.get("ModalityLUTSequence"):
        return False
    if real.size and float(real.min()) < 0:
        return True
    span = 1 << shape.stored
    ends = (-(span >> 1), (span >> 1) - 1) if shape.signed else (0, span - 1)
    slope, intercept = _number(tags, "RescaleSlope"), _number(tags, "RescaleIntercept")
    return any(end * (1.0 if slope is None else slope) + (intercept or 0.0) < 0 for end in ends)


def _windowed(
    values: NDArray[np.float64], real: NDArray[np.float64], tags: Dataset, signed: bool
) -> NDArray[np.float64]:
    """Values from 0 to 1 by VOI LUT, else window, else the range of the picture's ``real`` values.

    ``signed``: the values can be negative. A width of 0 or less means no window. A LINEAR one below 1, which PS3.3
    forbids, is taken as LINEAR_EXACT.
    """
    if tags.get("VOILUTSequence"):
        table = LookupTable(tags.VOILUTSequence[0], signed)
        table.refuse_one_entry(real)
        return np.clip(table.of(values) / (2.0**table.bits - 1.0), 0.0, 1.0)
    centre, width = _number(tags, "WindowCenter"), _number(tags, "WindowWidth")
    if centre is None or width is None or width <= 0:
        low, high = float(real.min()), float(real.max())
        if high <= low:
            return np.zeros_like(values)
        return np.clip((values - low) / (high - low), 0.0, 1.0)
    function = text(tags, "VOILUTFunction").upper() or "LINEAR"
    if function == "SIGMOID":  # C.11.2.1.3.1; the exponent is bounded, where the result is 0 or 1 anyway
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700.0, 700.0)))
    if function not in ("LINEAR", "LINEAR_EXACT"):
        raise RefusedError("the VOI LUT function is none of LINEAR, LINEAR_EXACT and SIGMOID", "export the image again")
    if function == "LINEAR" and width >= 1:  # C.11.2.1.2.1
        centre, width = centre - 0.5, width - 1.0
    if width == 0:
        return (values > centre).astype(np.float64)
    return np.clip((values - centre) / width + 0.5, 0.0, 1.0)  # C.11.2.1.3.2


def _padding(values: NDArray[Any], header: Header, shape: Shape) -> NDArray[np.bool_]:
    """Which pixels are padding: PixelPaddingValue, or up to PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2)."""
    kind = header.keyword.removesuffix("PixelData")
    ends = [_number(header.tags, f"{kind}PixelPadding{end}") for end in ("Value", "RangeLimit")]
    if ends[0] is None:
        return np.zeros(values.shape, dtype=np.bool_)
    if not kind:  # the sign of the element is often not that of the pixels
        span = float(1 << shape.allocated)
        if shape.signed:
            ends = [end - span if end is not None and end >= span / 2 else end for end in ends]
        else:
            ends = [end + span if end is not None and end < 0 else end for end in ends]
    first = ends[0] or 0.0
    last = first if ends[1] is None else ends[1]
    return (values >= min(first, last)) & (values <= max(first, last))


def _palette(values: NDArray[Any], header: Header) -> NDArray[np.uint8]:
    """Colours of palette indices, uint8 (rows, columns, 3) (PS3.3 C.7.6.3.1.5, C.7.6.3.1.6, C.7.9.2)."""
    tags = header.tags
    entries, first, bits = (int(each) for each in tags.RedPaletteColorLookupTableDescriptor)
    entries = entries or 65536
    if values.dtype.kind == "i" and first > 32767:
        first -= 65536
    if bits not in (8, 16):
        raise RefusedError(f"the palette has {bits} bits, not 8 or 16", "export the image again")
    if "RedPaletteColorLookupTableData" in tags:
        order = "<" if header.syntax.is_little_endian else ">"
        data = [tags[f"{name}PaletteColorLookupTableData"].value for name in ("Red", "Green", "Blue")]
        # Entries of 8 bits lie one or two bytes wide.
        width = 1 if len(data[0]) < 2 * entries else 2
        if any(len(each) < width * entries for each in data):
            raise RefusedError("the palette is truncated", "copy the file again from its source")
        table = np.stack([np.frombuffer(each[: width * entries], dtype=f"{order}u{width}") for each in data], axis=1)
    else:
        # pydicom unfolds segmented palettes; asked for each entry once, because with a palette of 8 bits it keeps only
        # 8 bits of an index.
        if bits == 8 and entries > 256:
            raise RefusedError("the segmented palette has more entries than 8 bits count", "export the image again")
        for name in ("Red", "Green", "Blue"):
            refuse_false_segments(
                tags[f"Segmented{name}PaletteColorLookupTableData"].value,
                entries,
                wide=bits == 16,
                little=header.syntax.is_little_endian,
            )
        tags.file_meta.TransferSyntaxUID = header.syntax
        table = apply_color_lut(np.arange(first, first + entries, dtype=np.int32), tags)[:, :3]
    # Some writers say 16 bits and fill 8.
    colours = np.rint(table / 257.0) if bits == 16 and table.max() > 255 else table
    at = np.clip(values.astype(np.int64) - first, 0, entries - 1)
    return colours.astype(np.uint8)[at]


def _colour(values: NDArray[Any], space: str, shape: Shape) -> NDArray[np.uint8]:
    """RGB of stored colour, uint8 (rows, columns, 3), by ITU-R BT.601 in its full range (PS3.3 C.7.6.3.1.2)."""
    if shape.signed or values.dtype.kind != "u":
        raise RefusedError("the colours are signed numbers", "export the image again")
    if shape.stored != 8:
        values = np.rint(values.astype(np.float64) * (255.0 / (2.0**shape.stored - 1.0)))
    colours = values.astype(np.uint8)
    if space in ("YBR_FULL", "YBR_FULL_422"):
        colours = convert_color_space(colours, "YBR_FULL", "RGB")
    return np.ascontiguousarray(colours)


def _square(picture: NDArray[np.uint8], header: Header, frame: int) -> NDArray[np.uint8]:
    """The picture with the longer side of its pixels divided, where the two sides differ by more than 1 %."""
    tall = _tallness(header, frame)
    if not 1.0 / _MAX_ASPECT <= tall <= _MAX_ASPECT or abs(tall - 1.0) <= _SQUARE:
        return picture
    rows, columns = picture.shape[:2]
    size = (columns, round(rows * tall)) if tall > 1.0 else (round(columns / tall), rows)
    if size[0] * size[1] > MAX_PIXELS:
        raise RefusedError(f"with square pixels the picture has more than {MAX_PIXELS} pixels", "reduce it before use")
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR), dtype=np.uint8)


def _tallness(header: Header, frame: int) -> float:
    """Height of a pixel by its width: by the first spacing that is written, else by the aspect ratio, else 1."""
    measures = _within(header.tags, frame, "PixelMeasuresSequence")
    for tags, keyword in (
        (measures, "PixelSpacing"),
        (header.tags, "ImagerPixelSpacing"),
        (header.tags, "NominalScannedPixelSpacing"),
        (header.tags, "PixelAspectRatio"),
    ):
        sides = tags.get(keyword)
        if sides is not None and len(sides) == 2:
            height, width = float(sides[0]), float(sides[1])
            if height > 0 and width > 0:
                return height / width
    return 1.0


def _within(tags: Dataset, frame: int, sequence: str) -> Dataset:
    """The functional group of a frame, else the one that all frames share, else the image's own elements."""
    frames = tags.get("PerFrameFunctionalGroupsSequence") or ()
    shared = tags.get("SharedFunctionalGroupsSequence") or ()
    for group in (*frames[frame : frame + 1], *shared[:1]):
        found = group.get(sequence)
        if found:
            item: Dataset = found[0]
            return item
    return tags


def _number(tags: Dataset, keyword: str) -> float | None:
    """The first value of an element as a number; None where it is missing or empty."""
    value = tags.get(keyword)
    if value is not None and not isinstance(value, str | bytes | int | float):
        value = value[0] if len(value) else None
    if value is None or value == "":
        return None
    number = float(value)
    if not np.isfinite(number):
        raise RefusedError(f"the element {keyword} is no finite number", "export the image again")
    return number
