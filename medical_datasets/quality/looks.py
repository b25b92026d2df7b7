"""One look at each image: read once, decoded once, and kept as a thumbnail with the few facts that checks need."""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import UnreadableImageError
from ..listing import Item, Listing
from ..pixels import IMAGE_SUFFIXES, content_hash, decode_rgb, grey_thumbnail, read_bytes, read_rgb
from .tags import Tags, of_file, of_picture

WORKERS: Final = 2
SIDE: Final = 32
_COLOUR_SHARE: Final = 0.02  # of the pixels
_COLOUR_SPREAD: Final = 24  # grey levels between channels; JPEG of a grey picture stays well under it
_LARGE: Final = 1024  # shorter sides from here on are decoded at a fraction, which shows colour and shape as well
_ORIENTATION: Final = 0x0112
_AHEAD: Final = 32  # files a worker that may be read and not yet collected


@dataclass(frozen=True, slots=True)
class Look:
    """What one decoded image showed.

    Attributes:
        item: the image as the data set lists it.
        digest: what its content is known by, hexadecimal; equal for copies.
        colour: whether more than 2 % of its pixels have colour.
        height, width: in pixels, upright.
        tags: what the file says beside its pixels.
    """

    item: Item
    digest: str
    colour: bool
    height: int
    width: int
    tags: Tags = field(default_factory=Tags)

    @property
    def name(self) -> str:
        """Path below the root, and part."""
        return self.item.name

    @property
    def suffix(self) -> str:
        """Ending of the file's name, in lower case."""
        return Path(self.item.relative).suffix.lower()


@dataclass(frozen=True, slots=True)
class Looks:
    """All images of a listing.

    Attributes:
        readable: in the listing's order.
        thumbnails: uint8 (readable, 32, 32), the mean grey of each cell.
        unreadable: name and reason of the others.
    """

    readable: tuple[Look, ...]
    thumbnails: NDArray[np.uint8]
    unreadable: tuple[tuple[str, str], ...]


def look_at(
    listing: Listing,
    items: Sequence[Item],
    *,
    workers: int = WORKERS,
    progress: Callable[[int, int], None] | None = None,
) -> Looks:
    """Look at images in a few threads; at any time only a few of them are in memory.

    Args:
        listing: for its root.
        items: the images to look at.
        workers: threads, >= 1; the result does not depend on it.
        progress: called with images done and images in all.
    """
    readable: list[Look] = []
    thumbnails = np.empty((len(items), SIDE, SIDE), dtype=np.uint8)
    unreadable: list[tuple[str, str]] = []
    waiting: deque[tuple[Item, Future[tuple[Look, NDArray[np.uint8]]]]] = deque()
    done = 0

    def collect() -> None:
        nonlocal done
        item, future = waiting.popleft()
        try:
            look, thumbnail = future.result()
        except UnreadableImageError as problem:
            unreadable.append((item.name, problem.what))
        else:
            thumbnails[len(readable)] = thumbnail
            readable.append(look)
        done += 1
        if progress is not None:
            progress(done, len(items))

    with ThreadPoolExecutor(workers, "look") as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(_look, item, listing.root)))
                if len(waiting) > _AHEAD * workers:
                    collect()
            while waiting:
                collect()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return Looks(tuple(readable), thumbnails[: len(readable)], tuple(unreadable))


def is_colour(rgb: NDArray[np.uint8]) -> bool:
    """Whether an RGB picture (H, W, 3) has colour that a person would see."""
    # Every third row and column shows as well as all of them whether a picture has colour.
    sample = rgb[::3, ::3]
    low = np.minimum(np.minimum(sample[:, :, 0], sample[:, :, 1]), sample[:, :, 2])
    high = np.maximum(np.maximum(sample[:, :, 0], sample[:, :, 1]), sample[:, :, 2])
    return bool((high - low > _COLOUR_SPREAD).mean() > _COLOUR_SHARE)


def _look(item: Item, root: Path) -> tuple[Look, NDArray[np.uint8]]:
    image = item.image(root)
    if image.path.suffix.lower() in IMAGE_SUFFIXES:
        data = read_bytes(image.path)
        tags, reduced = _opened(data)
        rgb = decode_rgb(data, image.path) if reduced is None else reduced[0]
        height, width = rgb.shape[:2] if reduced is None else reduced[1]
        digest = hashlib.sha256(data).hexdigest()
    else:
        rgb = read_rgb(image)
        height, width = rgb.shape[:2]
        tags, digest = of_file(image), content_hash(image)
    # A grey picture is one channel seen three times; it needs no search for colour.
    colour = rgb.strides[2] != 0 and is_colour(rgb)
    thumbnail = grey_thumbnail(rgb, SIDE).astype(np.uint8)
    return Look(item, digest, colour, height, width, tags), thumbnail


def _opened(data: bytes) -> tuple[Tags, tuple[NDArray[np.uint8], tuple[int, int]] | None]:
    """What is written beside the pixels of a picture; and of a large JPEG its pixels at a fraction, and its size.

    Whatever is unusual about it is left to the one reader of pixels, which also says what is wrong with it.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")) as picture:
            tags = of_picture(picture, data)
            size = (picture.height, picture.width)
            if picture.format != "JPEG" or picture.mode not in ("L", "RGB") or min(size) < _LARGE:
                return tags, None
            if picture.getexif().get(_ORIENTATION, 1) != 1:
                return tags, None
            picture.draft(None, (_LARGE // 2, _LARGE // 2))
            return tags, (np.asarray(picture.convert("RGB")), size)
    except Exception:
        # Damaged tags or data: decoding it in full decides whether it is a picture.
        return Tags(), None
