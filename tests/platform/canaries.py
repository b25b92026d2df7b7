"""Canaries: patients that nobody has, a folder of pictures full of them, and a detector that finds them in bytes.

Strings are looked for in every usual spelling. Numbers are looked for as runs: any 8 consecutive values of a planted
array, in any of its formats, hold one whole window of it, and the windows are what the detector knows.
"""

from __future__ import annotations

import base64
import bz2
import functools
import hashlib
import io
import lzma
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

SITES = ("east", "north", "south", "west")
CLASSES = ("glioma", "pituitary")
SIDE = 64
# One nonsense word for each place where something is planted: a find says by itself where it came from.
PLACES = {
    "folder": "vexillologia",
    "file": "quibblethwaite",
    "patient": "zyxomandrius",
    "name": "snorkelbergova",
    "source": "grumbletonium",
    "png": "whifflepuffin",
    "exif": "brobdingnauta",
    "comment": "flibbertigast",
    "pixels": "pixelcanarium",
}
FULL_NAME = "Żółćka Ængström"
RUN = 8
"""So many consecutive values of an array must not occur anywhere."""


@dataclass(frozen=True)
class Planted:
    """A folder of pictures with canaries.

    Attributes:
        root: the folder of the data set.
        strings: every whole string that was planted, and every path.
        pixels: raw bytes that the pictures show.
        files: the exact bytes of each picture's file.
    """

    root: Path
    strings: tuple[str, ...]
    pixels: tuple[bytes, ...]
    files: tuple[bytes, ...]


def plant(folder: Path, patients: int = 12) -> Planted:
    """Draw pictures of invented patients; everything that could name one of them is a canary.

    Args:
        folder: an empty one. patients: of each site, with one picture each, of alternating classes.
    """
    root = folder / f"{PLACES['folder']}-archive"
    strings, pixels, files = [FULL_NAME], [], []
    rows = ["path,label,patient_id,patient_name,source,age,sex"]
    draw = np.random.default_rng(20)
    for site in SITES:
        for number in range(patients):
            label = CLASSES[number % len(CLASSES)]
            suffix = "jpg" if number % 4 == 3 else "png"
            name = f"{PLACES['file']}-{site}-{number:03d}.{suffix}"
            path = root / site / label / name
            path.parent.mkdir(parents=True, exist_ok=True)
            who = {place: f"{PLACES[place]}-{site}-{number:03d}" for place in ("patient", "name", "source")}
            notes = {place: f"{PLACES[place]} of {site} {number:03d}" for place in ("png", "exif", "comment")}
            picture = _picture(draw, label)
            pixels += [picture[row, SIDE // 2 :].tobytes() for row in range(4, SIDE, 16)]
            path.write_bytes(_file(picture, suffix, who["name"], notes))
            files.append(path.read_bytes())
            rows.append(f"{path.relative_to(root)},{label},{who['patient']},{who['name']},{who['source']},{number},f")
            strings += [name, str(path), str(path.relative_to(root)), *who.values(), *notes.values()]
            strings.append(f"patient_id:{who['patient']}")
    (root / "metadata.csv").write_text("\n".join(rows))
    pixels.append(np.frombuffer(PLACES["pixels"].encode(), dtype=np.uint8).tobytes())
    return Planted(root, tuple(strings), tuple(pixels), tuple(files))


def _picture(draw: np.random.Generator, label: str) -> NDArray[np.uint8]:
    """(SIDE, SIDE, 3): a bright disc for one class, and a written pattern that is no noise of the drawing."""
    y, x = np.mgrid[:SIDE, :SIDE]
    place = draw.integers(20, 44, size=2)
    shade = 120.0 if label == CLASSES[0] else 40.0
    disc = shade * np.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / 90.0)
    noise = draw.integers(0, 120, size=(SIDE, SIDE, 3))
    picture = np.clip(noise + disc[:, :, None], 0, 255).astype(np.uint8)
    word = np.frombuffer(PLACES["pixels"].encode(), dtype=np.uint8)
    picture[:: SIDE // 4, : len(word), :] = word[None, :, None]
    flat = picture.reshape(SIDE, -1)
    flat[1 :: SIDE // 4, : len(word)] = word  # also as neighbouring bytes of red, green and blue
    return picture


def _file(picture: NDArray[np.uint8], suffix: str, name: str, notes: Mapping[str, str]) -> bytes:
    """A picture's file with a patient's name and notes in its metadata."""
    stream, image = io.BytesIO(), Image.fromarray(picture)
    exif = Image.Exif()
    exif[0x010E] = notes["exif"]  # ImageDescription
    exif[0x013B] = name  # Artist
    if suffix == "jpg":
        image.save(stream, "JPEG", quality=98, subsampling=0, exif=exif, comment=notes["comment"].encode())
        return stream.getvalue()
    text = PngInfo()
    text.add_text("PatientName", name)
    text.add_text("Comment", notes["png"], zip=True)
    text.add_itxt("PatientFullName", FULL_NAME)
    image.save(stream, "PNG", pnginfo=text, exif=exif)
    return stream.getvalue()


# --- spellings of strings and formats of numbers --------------------------------------------------------------------

_ENTITIES: dict[str, Callable[[bytes], bytes]] = {
    "percent": lambda data: b"".join(b"%%%02X" % byte for byte in data),
    "percent, lower case": lambda data: b"".join(b"%%%02x" % byte for byte in data),
    "JSON escapes": lambda data: b"".join(b"\\u%04x" % byte for byte in data),
    "HTML entities": lambda data: b"".join(b"&#%d;" % byte for byte in data),
    "hexadecimal": lambda data: data.hex().encode(),
    "hexadecimal, upper case": lambda data: data.hex().upper().encode(),
    "hexadecimal with colons": lambda data: data.hex(":").encode(),
    "bits": lambda data: b"".join(format(byte, "08b").encode() for byte in data),
}
_BLOCKS: dict[str, tuple[Callable[[bytes], bytes], int, int]] = {  # bytes in, characters out
    "base64": (base64.b64encode, 3, 4),
    "base64url": (base64.urlsafe_b64encode, 3, 4),
    "base32": (base64.b32encode, 5, 8),
    "base85": (base64.b85encode, 4, 5),
    "ascii85": (base64.a85encode, 4, 5),
}
BINARY = ("raw", "reversed", "hexadecimal", "hexadecimal, upper case", "base64", "base64url")
"""Spellings of what is no text."""
HASHES = {"SHA-256": hashlib.sha256, "SHA-1": hashlib.sha1, "MD5": hashlib.md5}


def spellings(data: bytes, names: Sequence[str] = ()) -> dict[str, list[bytes]]:
    """How a byte string can stand in other bytes, by name; block codes once for each place where it can begin.

    Args:
        data: the string. names: only these spellings; empty: all.
    """
    wanted = names or ("raw", "reversed", *_ENTITIES, *_BLOCKS)
    found: dict[str, list[bytes]] = {}
    for name in wanted:
        if name in _BLOCKS:
            found[name] = _in_blocks(data, *_BLOCKS[name])
        elif name in _ENTITIES:
            found[name] = [_ENTITIES[name](data)]
        else:
            found[name] = [data if name == "raw" else data[::-1]]
    return found


def _in_blocks(data: bytes, spell: Callable[[bytes], bytes], taken: int, given: int) -> list[bytes]:
    found = []
    for start in range(taken):
        whole = (len(data) - start) // taken
        found.append(spell(data[start : start + whole * taken])[: whole * given])
    return found


def text_spellings(text: str) -> dict[str, list[bytes]]:
    """As `spellings`, with the encodings and cases of text."""
    found = dict(spellings(text.encode()))
    for other in (text.lower(), text.upper(), text.swapcase()):
        for name, needles in spellings(other.encode()).items():
            found[name] = found[name] + needles
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "cp1252", "iso8859_2", "cp037"):
        found[encoding] = [text.encode(encoding, errors="ignore")]
    return found


def _fixed(bits: int, kind: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def to_fixed(values: NDArray[Any]) -> NDArray[Any]:
        scaled = np.rint(values.astype(np.float64) * 2.0**bits)
        bounds = np.iinfo(kind)
        return np.clip(scaled, bounds.min, bounds.max).astype(kind)

    return to_fixed


def _bfloat16(values: NDArray[Any]) -> NDArray[Any]:
    return (np.ascontiguousarray(values, dtype="<f4").view("<u4") >> np.uint32(16)).astype("<u2")


def _as(kind: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def cast(values: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(over="ignore"):
            return values.astype(kind)

    return cast


FLOATS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "float32": _as("<f4"),
    "float32, big-endian": _as(">f4"),
    "float16": _as("<f2"),
    "float16, big-endian": _as(">f2"),
    "float64": _as("<f8"),
    "float64, big-endian": _as(">f8"),
    "bfloat16": _bfloat16,
}
FIXED: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    **{f"int32 x 2^{bits}": _fixed(bits, "<i4") for bits in (16, 20, 24, 28, 30)},
    **{f"int32 x 2^{bits}, big-endian": _fixed(bits, ">i4") for bits in (20, 24)},
    "int16 x 2^15": _fixed(15, "<i2"),
    "int8 x 2^7": _fixed(7, "i1"),
}
WORDS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "uint32": _as("<u4"),
    "uint32, big-endian": _as(">u4"),
    "int64": lambda words: words.view("<i4").astype("<i8"),
}
FEW: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {name: FLOATS[name] for name in ("float32", "float16")}
"""Formats for arrays of millions of numbers."""


# --- the detector ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Find:
    """What was found, how it was spelt, in which unpacking of the bytes, and where."""

    what: str
    unpacked: str
    position: int


class Detector:
    """Knows windows of at least 8 bytes, and finds them at every place of other bytes."""

    LIMIT = 20
    """Finds after which a search ends: one is enough."""

    def __init__(self) -> None:
        self._groups: list[tuple[str, NDArray[np.uint8]]] = []
        self._index: list[_Index] | None = None

    @property
    def size(self) -> int:
        """Number of windows."""
        return sum(len(windows) for _, windows in self._groups)

    def add(self, what: str, needle: bytes) -> None:
        """One byte string of at least 8 bytes; it is found by its first 32, 16 or 8."""
        if len(needle) < 8:
            raise ValueError(f"{what} is too short to be unmistakable")
        head = next(head for head in _HEADS if len(needle) >= head)
        self._add(what, np.frombuffer(needle[:head], dtype=np.uint8)[None, :])

    def add_text(self, what: str, text: str) -> None:
        """A string in every spelling that leaves at least 8 bytes of it."""
        for how, needles in text_spellings(text).items():
            for needle in dict.fromkeys(needles):
                if len(needle) >= 8:
                    self.add(f"{what}, {how}", needle)

    def add_hashes(self, what: str, data: bytes) -> None:
        """Unkeyed hashes of an identifier or a file: whoever has the list finds the patient by them."""
        for name, algorithm in HASHES.items():
            value = algorithm(data).digest()
            for how, needles in spellings(value, BINARY).items():
                for needle in needles:
                    self.add(f"{what}, {name}, {how}", needle[:16])

    def add_secret(self, what: str, secret: bytes) -> None:
        """A key: any 24 neighbouring bytes of it hold a window, raw; whole, it is found in every spelling."""
        windows = [secret[start : start + 16] for start in range(0, max(1, len(secret) - 15), 8)]
        for window in windows:
            self.add(f"{what}, raw", window)
        for how, needles in spellings(secret, BINARY).items():
            for needle in needles:
                self.add(f"{what}, {how}", needle)

    def add_values(
        self,
        what: str,
        values: NDArray[Any],
        formats: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]],
        *,
        public: Sequence[NDArray[Any]] = (),
        every: int = 1,
    ) -> None:
        """An array: any `RUN` consecutive values of it are found, but for runs of hardly any information.

        Windows of fewer than three different values, or with zeros in most places, could stand anywhere and are left
        out, as are those that an array of ``public`` has at the same place.

        Args:
            what, values: the array and its name. formats: as which it is looked for.
            public: arrays of the same shape that others know or have.
            every: take one window of so many, of arrays of millions.
        """
        flat = np.ascontiguousarray(values).ravel()
        for how, convert in formats.items():
            converted = convert(flat)
            width = max(4, 8 // converted.itemsize)
            step = (RUN + 1 - width) * every
            windows = _windows(converted, width, step)
            ordered = np.sort(windows, axis=1)
            different = 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1)
            keep = (different >= 3) & ((windows == 0).sum(axis=1) * 2 < width)
            for common in public:
                known = _windows(convert(np.ascontiguousarray(common).ravel()), width, step)
                keep &= (known != windows).any(axis=1)
            self._add(f"{what}, {how}", np.ascontiguousarray(windows[keep]).view(np.uint8))

    def take(self, other: Detector) -> None:
        """Know what another one knows."""
        self._groups += other._groups
        self._index = None

    def _add(self, what: str, windows: NDArray[np.uint8]) -> None:
        if len(windows):
            self._groups.append((what, windows))
            self._index = None

    def _built(self) -> list[_Index]:
        if self._index is None:
            self._index = [index for length in _HEADS if (index := _Index.of(length, self._groups)) is not None]
        return self._index

    def search(self, data: bytes, *, deep: bool = True) -> list[Find]:
        """Everything known that stands in ``data``, also behind base64, hexadecimal, compression and decimal numbers.

        About `LIMIT` finds are named, however many there are.
        """
        finds = self._scan(data, "as it is")
        for how, unpacked in unpackings(data) if deep else ():
            if len(finds) >= self.LIMIT:
                break
            finds += self._scan(unpacked, how)
        return finds

    def _scan(self, data: bytes, unpacked: str) -> list[Find]:
        finds: list[Find] = []
        for index in self._built():
            for shift in range(8):
                for position, group, row in index.candidates(data, shift):
                    what, windows = self._groups[group]
                    wanted = windows[row].tobytes()
                    if data[position : position + len(wanted)] == wanted:
                        finds.append(Find(what, unpacked, position))
                        if len(finds) >= self.LIMIT:
                            return finds
        return finds


_HEADS = (32, 16, 8)
"""Lengths that windows have."""


@dataclass(frozen=True)
class _Index:
    """Windows of one length.

    Attributes:
        words: of 8 bytes in a window. keys: of all of them, ascending, each once. owners: group and row of each.
        table: a first sieve, by the highest ``bits`` bits of a key.
    """

    words: int
    keys: NDArray[np.uint64]
    owners: NDArray[np.int64]
    table: NDArray[np.bool_]
    bits: int

    @classmethod
    def of(cls, length: int, groups: Sequence[tuple[str, NDArray[np.uint8]]]) -> _Index | None:
        """Of the windows of this length; None where there is none."""
        keys, owners = [], []
        for number, (_, windows) in enumerate(groups):
            if windows.shape[1] == length:
                heads = np.ascontiguousarray(windows).view("<u8")
                keys.append(_mixed([heads[:, word] for word in range(length // 8)]))
                owners.append(np.stack([np.full(len(windows), number), np.arange(len(windows))], axis=1))
        if not keys:
            return None
        unique, first = np.unique(np.concatenate(keys), return_index=True)
        bits = max(16, math.ceil(math.log2(len(unique) * 16)))
        table = np.zeros(2**bits, dtype=bool)
        table[unique >> np.uint64(64 - bits)] = True
        return cls(length // 8, unique, np.concatenate(owners)[first], table, bits)

    def candidates(self, data: bytes, shift: int) -> Iterator[tuple[int, int, int]]:
        """(position, group, row) of all windows that may begin at a place of this remainder by 8."""
        whole = (len(data) - shift) // 8
        if whole < self.words:
            return
        view = np.frombuffer(data, dtype="<u8", count=whole, offset=shift)
        count = whole - self.words + 1
        keys = _mixed([view[word : word + count] for word in range(self.words)])
        near = np.flatnonzero(self.table[keys >> np.uint64(64 - self.bits)])
        place = np.minimum(np.searchsorted(self.keys, keys[near]), len(self.keys) - 1)
        same = self.keys[place] == keys[near]
        for at, owner in zip(near[same].tolist(), self.owners[place[same]].tolist(), strict=True):
            yield shift + 8 * at, owner[0], owner[1]


def _mixed(words: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """One key of the 8-byte words of a window."""
    mixed = words[0] * np.uint64(0x9E3779B97F4A7C15)
    for word in words[1:]:
        mixed = ((mixed >> np.uint64(29)) ^ mixed ^ word) * np.uint64(0xBF58476D1CE4E5B9)
    return mixed


def _windows(values: NDArray[Any], width: int, step: int) -> NDArray[Any]:
    if len(values) < width:
        return values[:0].reshape(0, width)
    return np.lib.stride_tricks.sliding_window_view(values, width)[::step]


# --- what may be inside bytes ---------------------------------------------------------------------------------------

_TEXTS = {
    "base64": re.compile(rb"[A-Za-z0-9+/_-]{11,}"),
    "hexadecimal": re.compile(rb"[0-9a-fA-F]{16,}"),
    "percent": re.compile(rb"(?:%[0-9a-fA-F]{2}[^%]{0,40}){3,}"),
    "decimal numbers": re.compile(rb"(?:[-+]?\d[\d.]*(?:[eE][-+]?\d+)?[\s,;\[\]]+){7,}[-+]?\d[\d.eE+-]*"),
}
_PRINTABLE = np.zeros(256, dtype=bool)
_PRINTABLE[[*range(0x20, 0x7F), 9, 10, 13]] = True
_SHORTEST = 11
_GZIP, _BZIP, _XZ = _STREAMS = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00")
_HELPING = 2**18
_ZLIB = tuple(bytes([0x78, flags]) for flags in range(256) if (0x7800 + flags) % 31 == 0 and not flags & 0x20)


def unpackings(data: bytes, depth: int = 2) -> Iterator[tuple[str, bytes]]:
    """What stands in ``data`` packed: texts that are codes, and compressed streams; and what is in these in turn."""
    for how, inner in _inside(data):
        yield how, inner
        if depth > 1:
            yield from ((f"{how}, {further}", deepest) for further, deepest in unpackings(inner, depth - 1))


def _inside(data: bytes) -> Iterator[tuple[str, bytes]]:
    """One layer; what is of one kind comes joined, because a search costs more by the piece than by the byte."""
    found: dict[str, list[bytes]] = {}
    for text in _texts(data):
        for how, pattern in _TEXTS.items():
            for match in pattern.finditer(text):
                for phase, decoded in enumerate(_decoded(how, match.group())):
                    found.setdefault(f"{how} {phase}", []).append(decoded)
    for magic in (*_STREAMS, *_ZLIB):
        for place in _places(data, magic):
            found.setdefault("compressed", []).append(_inflated(data[place : place + _HELPING], magic))
    for how, parts in found.items():
        yield how, b"\x00\xff\x00".join(parts)


def _texts(data: bytes) -> Iterator[bytes]:
    """Runs of printable characters that are long enough to be a code; random bytes have hardly any."""
    if len(data) < _SHORTEST:
        return
    breaks = np.flatnonzero(~_PRINTABLE[np.frombuffer(data, dtype=np.uint8)])
    edges = np.concatenate([[-1], breaks, [len(data)]])
    for at in np.flatnonzero(np.diff(edges) > _SHORTEST):
        yield data[edges[at] + 1 : edges[at + 1]]


def _decoded(how: str, text: bytes) -> Iterator[bytes]:
    if how == "base64":
        plain = text.replace(b"-", b"+").replace(b"_", b"/")
        for phase in range(4):
            part = plain[phase:]
            part = part[: len(part) - (len(part) % 4 == 1)]  # one character more than whole groups says nothing
            yield base64.b64decode(part + b"=" * (-len(part) % 4))
    elif how == "hexadecimal":
        for phase in range(2):
            part = text[phase:]
            yield bytes.fromhex(part[: len(part) // 2 * 2].decode())
    elif how == "percent":
        yield re.sub(rb"%([0-9a-fA-F]{2})", lambda match: bytes.fromhex(match[1].decode()), text)
    else:
        numbers = [_number(part) for part in re.split(rb"[\s,;\[\]]+", text)]
        yield np.array(numbers, dtype="<f4").tobytes()
        whole = [int(number) for number in numbers if number.is_integer() and abs(number) < 2**32]
        yield np.array(whole, dtype="<i8").astype("<u4").tobytes()


def _number(text: bytes) -> float:
    try:
        return float(np.clip(float(text), -3e38, 3e38))
    except ValueError:
        return math.nan


def _places(data: bytes, needle: bytes) -> Iterator[int]:
    place = data.find(needle)
    while place >= 0:
        yield place
        place = data.find(needle, place + 1)


def _inflated(data: bytes, magic: bytes) -> bytes:
    """As much as can be unpacked before the stream ends or breaks."""
    if magic == _BZIP:
        return _pour(bz2.BZ2Decompressor(), data)
    if magic == _XZ:
        return _pour(lzma.LZMADecompressor(), data)
    return _pour(zlib.decompressobj(31 if magic == _GZIP else 15), data)


def _pour(stream: Any, data: bytes) -> bytes:
    out: list[bytes] = []
    try:
        for start in range(0, len(data), 64):  # small helpings, so that what comes before a broken place is kept
            out.append(stream.decompress(data[start : start + 64]))
            if stream.eof:
                break
    except (zlib.error, OSError, lzma.LZMAError, EOFError):
        pass
    return b"".join(out)


@functools.lru_cache(maxsize=2)
def detector_of(planted: Planted) -> Detector:
    """A detector that knows everything planted in a folder of pictures; take it over, and add nothing to it."""
    detector = Detector()
    for place, word in PLACES.items():
        detector.add_text(f"the {place} canary", word)
    detector.add_text("the full name", FULL_NAME)
    for text in planted.strings:
        detector.add_hashes("a planted string", text.encode())
    for pixels in planted.pixels:
        detector.add("pixels", pixels)
    for file in planted.files:
        detector.add_hashes("a picture's file", file)
        for start in range(0, len(file) - 16, 64):
            if len(set(file[start : start + 16])) > 8:
                detector.add("bytes of a picture's file", file[start : start + 16])
    return detector


def add_features(detector: Detector, what: str, features: Iterable[NDArray[Any]]) -> None:
    """Rows of features, in floating and fixed point."""
    for row in features:
        detector.add_values(what, row, {**FLOATS, **FIXED})
