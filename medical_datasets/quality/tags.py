"""What a file says beside its pixels, as far as a check needs it: kinds of identifying entries, and what took it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from PIL import Image

from ..cohort import ImageRef
from ..errors import UnreadableImageError
from ..pixels import DICOM_SUFFIXES
from .personal_text import in_text

# Tags of EXIF 2.32 (CIPA DC-008), and of Windows.
_EXIF: Final = {
    0x013B: "artist",
    0x9C9D: "artist",
    0xA430: "camera owner",
    0xA431: "camera serial number",
    0xA435: "lens serial number",
}
_EXIF_TEXT: Final = (0x010E, 0x010D, 0x9C9B, 0x9C9C, 0x9286)  # descriptions, titles, comments
_MAKER: Final = (0x010F, 0x0110)
_GPS: Final = 0x8825
_EXIF_IFD: Final = 0x8769
_PNG_AUTHORS: Final = frozenset({"author", "artist", "creator", "patient", "owner"})
_PNG_CHUNKS: Final = (b"tEXt", b"zTXt", b"iTXt", b"eXIf")


@dataclass(frozen=True, slots=True)
class Tags:
    """What stands in a file beside the pixels.

    Attributes:
        kinds: of identifying entries, e.g. ``"GPS position"``; never their values.
        burned_in: whether the file says that text is burned into the picture; ``unsaid``: a screen capture or
            processed picture that does not say so; empty: there is nothing to say.
        device: maker and model, as written; empty: not known.
    """

    kinds: tuple[str, ...] = ()
    burned_in: Literal["yes", "unsaid", ""] = ""
    device: str = ""


def of_picture(picture: Image.Image, data: bytes) -> Tags:
    """Of an open, ordinary picture, whose file is ``data``; its pixels may be decoded by this."""
    kinds: list[str] = []
    texts: list[str] = []
    if picture.format == "PNG":
        if any(chunk in data for chunk in _PNG_CHUNKS):
            picture.load()  # entries may stand after the pixels
            for key, value in picture.info.items():
                if isinstance(value, str):
                    texts.append(value)
                    if str(key).lower() in _PNG_AUTHORS and value.strip():
                        kinds.append("artist")
        if "exif" not in picture.info:
            return _tags(kinds, texts)
    texts.append(_text(picture.info.get("comment")))
    exif = picture.getexif()
    entries: Mapping[int, Any] = {**exif, **(exif.get_ifd(_EXIF_IFD) if _EXIF_IFD in exif else {})}
    if _GPS in exif and exif.get_ifd(_GPS):
        kinds.append("GPS position")
    kinds += [kind for tag, kind in _EXIF.items() if _text(entries.get(tag))]
    texts += [_text(entries.get(tag)) for tag in _EXIF_TEXT]
    return _tags(kinds, texts, " ".join(filter(None, (_text(entries.get(tag)) for tag in _MAKER))))


def of_file(image: ImageRef) -> Tags:
    """Of a file that another reader takes: DICOM says a lot, the others nothing that a check reports."""
    suffix = image.path.suffix.lower()
    if suffix not in DICOM_SUFFIXES and not suffix[1:].isdigit():
        return Tags()
    from ..readers.dicom import facts  # imported where there is such a file
    from .dicom_identifiers import kinds_in

    try:
        found, kinds = facts(image.path), kinds_in(image.path)
    except UnreadableImageError:
        return Tags()
    unsaid = found.derived and not found.burned_in
    return Tags(
        kinds,
        "yes" if found.burned_in == "YES" else "unsaid" if unsaid else "",
        " ".join(filter(None, (found.manufacturer, found.model))),
    )


def _tags(kinds: list[str], texts: list[str], device: str = "") -> Tags:
    for text in texts:
        kinds += [f"{kind} in a comment" for kind in in_text(text)]
    return Tags(tuple(dict.fromkeys(kinds)), device=device)


def _text(value: object) -> str:
    """A tag's value as text, stripped; Windows writes UTF-16 into byte tags."""
    if isinstance(value, tuple) and all(isinstance(each, int) and 0 <= each < 256 for each in value):
        value = bytes(value)
    if isinstance(value, bytes):
        encoding = "utf-16-le" if value[1:2] == b"\0" else "utf-8"
        value = value.decode(encoding, "replace").removeprefix("ASCII\0\0\0")
    return "" if value is None else str(value).strip("\0 ")
