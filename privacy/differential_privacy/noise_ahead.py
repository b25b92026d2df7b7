"""Noise for the next step, drawn by a thread while this step computes.

AES and numpy's functions work outside the interpreter's lock, so on a second core a step does not wait for its noise.
What is drawn is the same as without the thread: one stream, one vector after another.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..errors import MechanismError
from .randomness import SecretStream


class NoiseAhead:
    """Vectors of independent normal variates, each drawn while the one before is in use; a context manager.

    Args:
        stream: where they come from; nothing else may draw from it as long as this is open.
        count: coordinates of a vector, >= 0.
        scale: standard deviation; 0, or in [1e-15, 1e15].
        draws: vectors in all, >= 1: no more are drawn than are used.
    """

    def __init__(self, stream: SecretStream, *, count: int, scale: float, draws: int) -> None:
        self._stream, self._count, self._scale, self._left = stream, count, scale, draws
        self._buffers = [np.empty(count, dtype=np.float32) for _ in range(2)]
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="noise")
        self._next: Future[NDArray[np.float32]] | None = None

    def __enter__(self) -> NoiseAhead:
        self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def take(self, count: int, scale: float) -> NDArray[np.float32]:
        """The next vector; (count,) float32. It may be written to, until the call after the next gives it again.

        Args:
            count, scale: what is needed; must be what was promised.

        Raises:
            MechanismError: something else is needed than was promised, or more vectors.
        """
        if (count, scale) != (self._count, self._scale):
            raise MechanismError(
                f"{count} coordinates of deviation {scale!r} are needed, {self._count} of {self._scale!r} are drawn",
                remedy="Open one source of noise for each mechanism",
            )
        if self._next is None:
            raise MechanismError("more noise is needed than was promised", remedy="Give `draws` all steps of the round")
        noise = self._next.result()
        self._buffers.reverse()
        self._draw()
        return noise

    def _draw(self) -> None:
        self._next = None
        if self._left > 0:
            self._left -= 1
            self._next = self._pool.submit(self._stream.normals, self._buffers[0], self._scale)
