"""Stored values of one frame of a DICOM file: decompressed, one frame only, and in a named colour space.

Which library decodes a transfer syntax is fixed here and does not depend on what else is installed, so that two
hospitals get the same values. A compressed frame whose own header gives another size than the file's is refused before
it is decoded, and one without its end marker is truncated.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from . import dicom_gdcm
from .dicom_file import Header, RefusedError, text
from .pillow_pictures import MAX_PIXELS

_SHAPE: Final = """
    SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns BitsAllocated BitsStored
    HighBit PixelRepresentation ExtendedOffsetTable ExtendedOffsetTableLengths
"""
SHAPE_ELEMENTS: Final = tuple(_SHAPE.split())
_GREY: Final = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_COLOUR: Final = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_EXTRA: Final = "install the decoders: pip install 'wardround[dicom]'"
# Pillow is always there, pyjpegls and gdcm come with the extra `dicom`; all but Pillow's JPEG are reached by pydicom.
_DECODERS: Final[dict[UID, tuple[str, ...]]] = {
    JPEGBaseline8Bit: ("pillow",),
    JPEGExtended12Bit: ("pillow",),
    JPEGLossless: ("gdcm", "pylibjpeg"),
    JPEGLosslessSV1: ("gdcm", "pylibjpeg"),
    JPEGLSLossless: ("pyjpegls", "gdcm", "pylibjpeg"),
    JPEGLSNearLossless: ("pyjpegls", "gdcm", "pylibjpeg"),
    JPEG2000Lossless: ("pillow", "pylibjpeg", "gdcm"),
    JPEG2000: ("pillow", "pylibjpeg", "gdcm"),
    HTJ2KLossless: ("pylibjpeg",),
    HTJ2KLosslessRPCL: ("pylibjpeg",),
    HTJ2K: ("pylibjpeg",),
    RLELossless: ("pydicom",),
}
_END: Final = b"\xff\xd9"  # the end marker of JPEG, JPEG-LS and JPEG 2000 alike


@dataclass(frozen=True, slots=True)
class Shape:
    """What a header says of the pixels, checked.

    Attributes:
        rows, columns: of one frame, >= 1; together at most ``MAX_PIXELS``.
        samples: 1 or 3.
        frames: >= 1.
        allocated, stored, high: bits a sample takes, bits it uses, and the number of the highest of them.
        signed: two's complement.
        photometric: photometric interpretation, one that is read.
        planar: colour by plane (1) or by pixel (0), of pixels that are not compressed.
    """

    rows: int
    columns: int
    samples: int
    frames: int
    allocated: int
    stored: int
    high: int
    signed: bool
    photometric: str
    planar: int


def shape_of(header: Header) -> Shape:
    """The checked shape of a file's pixels, from its header alone.

    Raises:
        RefusedError: an element is missing or impossible, a frame is over ``MAX_PIXELS``, the pixel data are too
            short, or no installed decoder takes the transfer syntax.
    """
    floating = header.keyword != "PixelData"
    rows, columns = _whole(header, "Rows"), _whole(header, "Columns")
    if rows < 1 or columns < 1:
        raise RefusedError(f"the picture has no pixels ({columns} x {rows})")
    if rows * columns > MAX_PIXELS:
        raise RefusedError(
            f"the picture claims {columns} x {rows} pixels, more than the limit of {MAX_PIXELS}",
            "reduce it before use; a whole slide is read by tiles exported from it",
        )
    samples = _whole(header, "SamplesPerPixel")
    photometric = text(header.tags, "PhotometricInterpretation").upper()
    if photometric not in (_GREY if samples == 1 else _COLOUR if samples == 3 else ()):
        raise RefusedError(
            f"the photometric interpretation is not read with {samples} samples a pixel",
            f"read are {', '.join(_GREY)} with 1 and {', '.join(_COLOUR)} with 3",
        )
    allocated = _whole(header, "BitsAllocated")
    stored = allocated if floating else _whole(header, "BitsStored")
    high = stored - 1 if floating else _whole(header, "HighBit", stored - 1)
    if allocated not in (1, 8, 16, 32, 64) or not 1 <= stored <= high + 1 <= allocated:
        raise RefusedError(f"{stored} bits stored below bit {high + 1} of {allocated} allocated make no sense")
    shape = Shape(
        rows=rows,
        columns=columns,
        samples=samples,
        frames=max(1, _whole(header, "NumberOfFrames", 1)),
        allocated=allocated,
        stored=stored,
        high=high,
        signed=not floating and _whole(header, "PixelRepresentation") == 1,
        photometric=photometric,
        planar=_whole(header, "PlanarConfiguration", 0),
    )
    if header.syntax.is_encapsulated:
        decoders_of(header.syntax)
        if header.syntax == JPEGExtended12Bit and stored > 8:
            raise RefusedError(
                "JPEG of 12 bits is not read", "export the image uncompressed, or as JPEG 2000 or JPEG-LS"
            )
    else:
        _enough(shape, header)
    return shape


def decoders_of(syntax: UID) -> tuple[str, ...]:
    """The installed decoders of a compressed transfer syntax, best first.

    Raises:
        RefusedError: none is installed, or none exists.
    """
    if syntax not in _DECODERS:
        # A private value might be free text; a registered one has a name.
        name = f" {syntax.name}" if syntax.name != syntax and not syntax.is_private else ""
        raise RefusedError(f"the transfer syntax{name} is not read", "export the image uncompressed")
    there = get_decoder(syntax).available_plugins
    found = tuple(name for name in _DECODERS[syntax] if name in there)
    if not found:
        helps = {"gdcm", "pyjpegls"} & {*_DECODERS[syntax]}
        raise RefusedError(
            f"no decoder for the transfer syntax {syntax.name} ({syntax}) is installed",
            _EXTRA if helps else "export the image uncompressed",
        )
    return found


def stored_values(header: Header, shape: Shape, frame: int) -> tuple[NDArray[Any], str]:
    """The stored values of one frame, and the colour space they are in.

    Args:
        header: at the first byte of the pixel data.
        shape: of that header.
        frame: from 0, below ``shape.frames``.

    Returns:
        Array of shape (rows, columns) of integers or floating-point numbers for one sample a pixel, else uint8 or
        uint16 (rows, columns, 3); and the photometric interpretation, which is never a YBR_ICT or YBR_RCT.

    Raises:
        RefusedError: the frame is truncated or its own header contradicts the file's.
        Exception: whatever a decoder makes of damaged data.
    """
    if not header.syntax.is_encapsulated:
        return _native(header, shape, frame)
    offsets = header.tags.get("ExtendedOffsetTable"), header.tags.get("ExtendedOffsetTableLengths")
    data = get_frame(
        header.stream, frame, number_of_frames=shape.frames, extended_offsets=offsets if all(offsets) else None
    )
    if header.syntax == RLELossless:
        return _by_pydicom(header, shape, data, "pydicom")
    size = coded_size(data)
    if size != (shape.rows, shape.columns):
        raise RefusedError(
            "the compressed frame is damaged, or of another size than the header says", "export the image again"
        )
    if _END not in data.rstrip(b"\0")[-10:]:
        raise RefusedError("the compressed frame is truncated: it has no end", "copy the file again from its source")
    if header.syntax in (JPEGBaseline8Bit, JPEGExtended12Bit):
        return _jpeg(data, shape)
    names = decoders_of(header.syntax)
    for name in names[:-1]:
        try:
            return _by_pydicom(header, shape, data, name)
        # Each decoder has kinds of picture that it refuses (Pillow: colour of more than 8 bits); the last one speaks.
        except Exception:  # noqa: S112
            continue
    return _by_pydicom(header, shape, data, names[-1])


def coded_size(data: bytes) -> tuple[int, int] | None:
    """Rows and columns by a compressed frame's own header; None where it has none.

    JPEG and JPEG-LS have them in the frame header (ISO/IEC 10918-1 B.2.2, ISO/IEC 14495-1 C.2.2), JPEG 2000 in the SIZ
    marker (ISO/IEC 15444-1 A.5.1).
    """
    at = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at >= 0:
        right, bottom, left, top = struct.unpack_from(">4L", data, at + 8)
        return bottom - top, right - left
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = struct.unpack_from(">2H", data, at + 5)
            return rows, columns
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def _native(header: Header, shape: Shape, frame: int) -> tuple[NDArray[Any], str]:
    # A high bit above the last used one (old scanners write 12 bits at the left) is not known to pydicom.
    shifted = shape.high != shape.stored - 1
    array, properties = get_decoder(header.syntax).as_array(
        header.stream,
        index=frame,
        raw=True,
        **_options(header, shape),
        correct_unused_bits=not shifted,  # type: ignore[arg-type]
    )
    if shifted:
        array = (array << (shape.allocated - 1 - shape.high)) >> (shape.allocated - shape.stored)
    return array, str(properties["photometric_interpretation"])


def _by_pydicom(header: Header, shape: Shape, data: bytes, decoder: str) -> tuple[NDArray[Any], str]:
    options = {**_options(header, shape), "number_of_frames": 1}
    if decoder == "gdcm":
        array, space = dicom_gdcm.decode(data, options)
    else:
        array, properties = get_decoder(header.syntax).as_array(
            encapsulate([data]), index=0, raw=True, decoding_plugin=decoder, **options
        )
        space = str(properties["photometric_interpretation"])
    if shape.samples == 3 and _inverted_transform(data):
        space = "RGB"  # the codestream's own transform was undone, whatever the header calls the colours
    return array, "RGB" if space in ("YBR_ICT", "YBR_RCT") else space


def _inverted_transform(data: bytes) -> bool:
    """Whether a JPEG 2000 frame has a component transform (ISO/IEC 15444-1 A.6.1), which decoders undo."""
    at = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0:
        return False
    at += 2
    while at + 10 <= len(data) and data[at : at + 2] not in (b"\xff\x52", b"\xff\x90"):
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return data[at : at + 2] == b"\xff\x52" and data[at + 8 : at + 9] == b"\x01"


def _jpeg(data: bytes, shape: Shape) -> tuple[NDArray[Any], str]:
    """An 8-bit JPEG by Pillow itself, which converts colours exactly once.

    pydicom's decoders of this syntax disagree on whether they have converted: with an Adobe marker Pillow has. Only
    where neither a JFIF nor an Adobe marker says what the components are does the header's RGB count.
    """
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        if image.mode != ("L" if shape.samples == 1 else "RGB"):
            raise RefusedError("the compressed frame has another number of colours than the header says")
        if shape.samples == 1:
            return np.array(image, dtype=np.uint8), shape.photometric
        letters = [each[0] for each in getattr(image, "layer", ())] == [82, 71, 66]  # components named R, G and B
        told = letters or "jfif" in image.info or "adobe_transform" in image.info
        if not told and shape.photometric == "RGB":
            image.draft("YCbCr", image.size)  # no conversion: the components are taken as they are
            return np.frombuffer(image.tobytes(), dtype=np.uint8).reshape(shape.rows, shape.columns, 3), "RGB"
        return np.array(image.convert("RGB"), dtype=np.uint8), "RGB"


def _options(header: Header, shape: Shape) -> dict[str, Any]:
    options: dict[str, Any] = {
        "transfer_syntax_uid": header.syntax,
        "pixel_keyword": header.keyword,
        "pixel_vr": header.representation,
        "samples_per_pixel": shape.samples,
        "photometric_interpretation": shape.photometric,
        "planar_configuration": shape.planar,
        "number_of_frames": shape.frames,
        "rows": shape.rows,
        "columns": shape.columns,
        "bits_allocated": shape.allocated,
        "bits_stored": shape.stored,
        "pixel_representation": int(shape.signed),
    }
    return options


def _enough(shape: Shape, header: Header) -> None:
    samples = shape.rows * shape.columns * shape.samples
    if shape.photometric == "YBR_FULL_422":
        samples = samples // 3 * 2  # two pixels share their colour
    needed = (samples * shape.frames * shape.allocated + 7) // 8
    if header.length is None or header.length < needed:
        raise RefusedError(
            f"the pixel data are truncated: {header.length or 0} of {needed} bytes",
            "copy the file again from its source",
        )


def _whole(header: Header, keyword: str, missing: int | None = None) -> int:
    value = header.tags.get(keyword)
    if value is None or value == "":
        if missing is None:
            raise RefusedError(f"the element {keyword} is missing", "export the image again")
        return missing
    return int(value)
