"""A growing Merkle tree as RFC 9162, section 2.1, that remembers what proofs of any earlier size need.

64 bytes an entry: 64 MB for a million.
"""

from __future__ import annotations

import hashlib

from ..merkle import EMPTY_ROOT, HASH_BYTES, node_hash


class GrowingTree:
    """All perfect subtrees of a growing list; appending is constant on average, root and proofs take log(n) steps."""

    def __init__(self) -> None:
        self._levels: list[bytearray] = [bytearray()]
        self.size = 0

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash, 32 bytes."""
        self._levels[0] += leaf
        self.size += 1
        level, count = 0, self.size
        while count % 2 == 0:
            if level + 1 == len(self._levels):
                self._levels.append(bytearray())
            pair = self._levels[level][-2 * HASH_BYTES :]
            self._levels[level + 1] += hashlib.sha256(b"\x01" + pair).digest()
            level, count = level + 1, count // 2

    def root(self, size: int | None = None) -> bytes:
        """The tree's hash over its first ``size`` entries, all by default; 32 bytes.

        Raises:
            ValueError: there are fewer.
        """
        size = self._known(size)
        return self._range(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int | None = None) -> bytes:
        """PATH(index, D[size]) of section 2.1.3: from the leaf's sibling up, 32 bytes a step, joined.

        Raises:
            ValueError: there is no such entry, or no such size.
        """
        size = self._known(size)
        if not 0 <= index < size:
            raise ValueError(f"no entry {index} among {size}")
        steps: list[bytes] = []
        low, high = 0, size
        while high - low > 1:
            middle = low + _split(high - low)
            if index < middle:
                steps.append(self._range(middle, high))
                high = middle
            else:
                steps.append(self._range(low, middle))
                low = middle
        return b"".join(reversed(steps))

    def consistency(self, old: int, size: int | None = None) -> bytes:
        """PROOF(old, D[size]) of section 2.1.4: that the first ``old`` entries are the start of ``size``.

        Raises:
            ValueError: there are fewer entries, or ``old`` is larger than ``size``.
        """
        size = self._known(size)
        if not 0 <= old <= size:
            raise ValueError(f"{old} entries are not the start of {size}")
        if old in (0, size):
            return b""
        steps: list[bytes] = []
        low, high, whole = 0, size, True
        while old != high - low:
            middle = low + _split(high - low)
            if old <= middle - low:
                steps.append(self._range(middle, high))
                high = middle
            else:
                steps.append(self._range(low, middle))
                old -= middle - low
                low, whole = middle, False
        if not whole:
            steps.append(self._range(low, high))
        return b"".join(reversed(steps))

    def _known(self, size: int | None) -> int:
        if size is None:
            return self.size
        if not 0 <= size <= self.size:
            raise ValueError(f"a tree of {self.size} entries has no size {size}")
        return size

    def _range(self, low: int, high: int) -> bytes:
        """Hash of the subtree over [low, high), which starts at a multiple of a power of two of at least its length."""
        count = high - low
        level = count.bit_length() - 1
        if count == 1 << level:
            place = (low >> level) * HASH_BYTES
            return bytes(self._levels[level][place : place + HASH_BYTES])
        middle = low + _split(count)
        return node_hash(self._range(low, middle), self._range(middle, high))


def _split(count: int) -> int:
    """The largest power of two below ``count`` >= 2."""
    return 1 << ((count - 1).bit_length() - 1)
