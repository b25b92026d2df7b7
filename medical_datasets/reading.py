"""What a loader asks of an image file, and how it asks many files at once.

The answers come from the files themselves (:data:`DIRECT`), or from an :class:`..index.Index` that remembers them.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import pixels
from .cohort import Picture
from .errors import UnreadableImageError

MAX_WORKERS: Final = 8
_CHUNK: Final = 64  # files a task; one task a file would cost as much as looking at its header
_AHEAD: Final = 4  # chunks that a worker may be ahead of the caller

Answer = TypeVar("Answer")


class Reader(Protocol):
    """Three questions about a picture; each raises UnreadableImageError as its namesake in :mod:`.pixels`."""

    def check_header(self, image: Picture, /) -> None:
        """Refuse a file that cannot be a picture."""

    def content_hash(self, image: Picture, /) -> str:
        """What the picture is known by, 64 hexadecimal digits."""

    def read_grey_thumbnail(self, image: Picture, /) -> NDArray[np.float32]:
        """A small grey picture, float32 (32, 32), values 0 to 255."""


DIRECT: Final[Reader] = pixels
"""Every answer is read from the file."""


def each(images: Sequence[Picture], ask: Callable[[Picture], Answer]) -> Iterator[Answer | UnreadableImageError]:
    """Ask every image in a few threads; answers in the order of the images, a few hundred ahead at most.

    Args:
        images: the pictures.
        ask: a question of a :class:`Reader`; must bear being called from several threads.

    Yields:
        The answer, or the error where the picture could not be read. Other errors are raised.
    """

    def some(start: int) -> list[Answer | UnreadableImageError]:
        answers: list[Answer | UnreadableImageError] = []
        for image in images[start : start + _CHUNK]:
            try:
                answers.append(ask(image))
            except UnreadableImageError as refused:
                answers.append(refused)
        return answers

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(MAX_WORKERS, cores)
    pool = ThreadPoolExecutor(workers, "read")
    coming = iter(range(0, len(images), _CHUNK))
    under_way: deque[Future[list[Answer | UnreadableImageError]]] = deque()
    try:
        while True:
            while len(under_way) < _AHEAD * workers and (start := next(coming, None)) is not None:
                under_way.append(pool.submit(some, start))
            if not under_way:
                return
            yield from under_way.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
