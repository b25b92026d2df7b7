"""Noise and sampling that nobody can replay: AES-256-CTR under a key from the operating system.

A study's seed must never reach this module. Whoever knows the seed of the sampling loses its amplification, whoever
knows the seed of the noise subtracts it.

Floating point: a normal variate computed in float32 lies on a grid that depends on its size, so a noisy sum tells a
little more than the theorem about real numbers says. Mironov 2012 ("On significance of the least significant bits for
differential privacy", CCS) makes an attack of this against the Laplace mechanism of a single number. Here every
coordinate is the sum of a float32 gradient and scaled noise, goes through an optimiser, and is rounded to fixed point
before it leaves; no attack on that is known, but epsilon is proved for exact arithmetic, and is stated as such.
"""

from __future__ import annotations

import math
import os
from typing import NoReturn

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from ..errors import MechanismError

KEY_BYTES = 32
_PAIRS = 65_536
"""Pairs of normals made at a time: 512 KiB of key stream and two vectors of 256 KiB stay in a core's cache."""
_WORD_BYTES = 8 * _PAIRS
_ZEROS = bytes(_WORD_BYTES)
_FINE = np.uint32(1 << 16)
"""Radius words below this (1 in 65,536) get 32 more bits: a radius above 4.7, where 32 bits alone grow coarse."""

_CELL = np.float32(2.0**-32)
_HALF_CELL = np.float32(2.0**-33)
_ANGLE = np.float32(math.pi * 2.0**-31)
_SCALES = (1e-15, 1e15)
"""Standard deviations whose squares float32 can hold with all its digits."""


class SecretStream:
    """A stream of secret randomness, made by one process and never stored.

    Its buffers are its own and used again by every call: one thread at a time.

    Args:
        key: 32 bytes; None takes them from ``os.urandom``. A key that is given makes the stream reproducible, which
            voids every guarantee: for tests alone.

    Raises:
        MechanismError: a key of another length; the stream is copied, pickled, or used by a forked process, where it
            would give the same noise twice.
    """

    def __init__(self, key: bytes | None = None) -> None:
        if key is not None and len(key) != KEY_BYTES:
            raise MechanismError(f"a stream key of {len(key)} bytes", remedy=f"Give {KEY_BYTES} bytes, or none")
        # A fresh key encrypts one stream only, so the counter may start at zero.
        cipher = Cipher(algorithms.AES(os.urandom(KEY_BYTES) if key is None else key), modes.CTR(bytes(16)))
        self._encryptor = cipher.encryptor()
        self._process = os.getpid()
        # update_into asks for a block less one more than it writes.
        self._bytes = np.empty(_WORD_BYTES + 15, dtype=np.uint8)
        self._radius = np.empty(_PAIRS, dtype=np.float32)
        self._angle = np.empty(_PAIRS, dtype=np.float32)

    def __repr__(self) -> str:
        return "SecretStream()"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise MechanismError("a stream of secret randomness cannot be copied or stored", remedy="Make a new one")

    def split(self) -> SecretStream:
        """Another stream, under a key that this one gives: for a second thread."""
        return SecretStream(self._fill(KEY_BYTES).tobytes())

    def words(self, count: int) -> NDArray[np.uint64]:
        """`count` >= 0 uniform 64-bit words; (count,) uint64, a new array."""
        out = np.empty(count, dtype=np.uint64)
        for start in range(0, count, _PAIRS):
            part = out[start : start + _PAIRS]
            part[:] = self._fill(8 * len(part)).view(np.uint64)
        return out

    def normals(self, out: NDArray[np.float32], scale: float = 1.0) -> NDArray[np.float32]:
        """Fill an array with independent normal variates of mean 0, up to 9.49 deviations (Box and Muller 1958).

        Args:
            out: (n,) float32, contiguous, n >= 0; overwritten.
            scale: standard deviation; 0, or in [1e-15, 1e15].

        Returns:
            The array that was given.

        Raises:
            MechanismError: another type or shape, or a scale outside its range.
        """
        if out.dtype != np.float32 or out.ndim != 1 or not out.flags.c_contiguous:
            raise MechanismError(
                f"normals into a {out.dtype} array of shape {out.shape}", remedy="Give a contiguous float32 vector"
            )
        if not (scale == 0.0 or _SCALES[0] <= scale <= _SCALES[1]):
            raise MechanismError(
                f"a standard deviation of {scale!r}", remedy=f"Give 0, or {_SCALES[0]:g} to {_SCALES[1]:g}"
            )
        for start in range(0, len(out), 2 * _PAIRS):
            self._some_normals(out[start : start + 2 * _PAIRS], scale)
        return out

    def include(self, count: int, rate: float) -> NDArray[np.int64]:
        """A Poisson sample: each of the indices 0..count-1 on its own, with probability `rate`.

        The probability is `rate` rounded down to a multiple of 2^-64, so an accountant that is told `rate` never
        counts too little.

        Args:
            count: number of indices, >= 0.
            rate: in [0, 1].

        Returns:
            The indices that were drawn, ascending, (m,) int64; often none where count * rate is small.

        Raises:
            MechanismError: a rate outside [0, 1].
        """
        if not 0.0 <= rate <= 1.0:
            raise MechanismError(f"a sample rate of {rate!r}", remedy="It must be a probability")
        threshold = int(math.ldexp(rate, 64))
        if threshold == 1 << 64:
            return np.arange(count, dtype=np.int64)
        return np.flatnonzero(self.words(count) < np.uint64(threshold)).astype(np.int64, copy=False)

    def subset(self, count: int, most: int) -> NDArray[np.int64]:
        """A uniform choice of min(count, most) of the indices 0..count-1; ascending, int64."""
        if count <= most:
            return np.arange(count, dtype=np.int64)
        # Two equal 64-bit words are too rare to matter; their order would be the sort's.
        return np.sort(np.argsort(self.words(count), kind="stable")[:most]).astype(np.int64, copy=False)

    def _fill(self, size: int) -> NDArray[np.uint8]:
        """The next bytes of the stream, at most a buffer full; the buffer itself."""
        if os.getpid() != self._process:
            raise MechanismError("a stream was used by a forked process", remedy="Make a new one in each process")
        self._encryptor.update_into(_ZEROS[:size], self._bytes.data)
        return self._bytes[:size]

    def _some_normals(self, out: NDArray[np.float32], scale: float) -> None:
        pairs = (len(out) + 1) // 2
        words = self._fill(8 * pairs).view(np.uint32)
        radius, angle = self._radius[:pairs], self._angle[:pairs]
        coarse = np.flatnonzero(words[:pairs] < _FINE)
        high = words[:pairs][coarse]  # a copy: drawing the finer bits overwrites the buffer
        np.copyto(radius, words[:pairs], casting="unsafe")
        np.copyto(angle, words[pairs:].view(np.int32), casting="unsafe")
        # The middle of the word's cell: never zero, whose logarithm would be infinite.
        np.multiply(radius, _CELL, out=radius)
        np.add(radius, _HALF_CELL, out=radius)
        np.log(radius, out=radius)
        np.multiply(radius, np.float32(-2.0 * scale * scale), out=radius)
        np.sqrt(radius, out=radius)
        if len(coarse):
            low = self._fill(8 * len(coarse)).view(np.uint64) >> np.uint64(32)
            radius[coarse] = fine_radius(high, low) * np.float32(scale)
        np.multiply(angle, _ANGLE, out=angle)
        first, second = out[:pairs], out[pairs:]
        np.cos(angle, out=first)
        np.multiply(first, radius, out=first)
        if len(second) == pairs:
            np.sin(angle, out=second)
            np.multiply(second, radius, out=second)
        else:
            np.multiply(np.sin(angle[:-1]), radius[:-1], out=second)


def fine_radius(high: NDArray[np.uint32], low: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Radii sqrt(-2 ln U) from 64-bit U = (2^32 high + low + 1/2) / 2^64; at most sqrt(130 ln 2) = 9.49."""
    uniform = (high.astype(np.float64) * 2.0**32 + low.astype(np.float64) + 0.5) * 2.0**-64
    return np.sqrt(-2.0 * np.log(uniform)).astype(np.float32)
