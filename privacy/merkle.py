"""Merkle trees as RFC 9162, section 2.1: the root of a list, and short proofs about it.

An inclusion path shows that an entry stands at its place; a consistency path shows that a list only grew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of a tree without leaves: SHA-256 of the empty string, 32 bytes."""


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry), 32 bytes; the prefix keeps an inner node from passing for an entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right), 32 bytes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """All levels of a tree over given leaf hashes, from which root and paths are read.

    A level's last node without a sibling rises unchanged; this gives RFC 9162's tree, whose left subtree is the largest
    power of two below the size.

    A tree of a million leaves takes 64 MB: each level is one string of joined hashes.

    Args:
        leaves: leaf hashes in order, 32 bytes each, at least one.

    Raises:
        ValueError: for no leaf, or leaves of another length.
    """

    def __init__(self, leaves: Sequence[bytes]) -> None:
        if not leaves:
            raise ValueError("a tree needs a leaf")
        level = b"".join(leaves)
        if len(level) != HASH_BYTES * len(leaves):
            raise ValueError("a leaf hash has 32 bytes")
        self.size = len(leaves)
        self._levels = [level]
        while len(level) > HASH_BYTES:
            pairs = len(level) // (2 * HASH_BYTES) * 2 * HASH_BYTES
            paired = [_pair_hash(level[i : i + 2 * HASH_BYTES]) for i in range(0, pairs, 2 * HASH_BYTES)]
            level = b"".join(paired) + level[pairs:]  # an odd last one has no sibling
            self._levels.append(level)

    @property
    def root(self) -> bytes:
        """The tree's hash, 32 bytes."""
        return self._levels[-1]

    def path(self, index: int) -> bytes:
        """The inclusion path of the leaf at ``index``, from the leaf's sibling up, 32 bytes a step, joined."""
        steps = []
        for level in self._levels[:-1]:
            sibling = (index ^ 1) * HASH_BYTES
            if sibling < len(level):
                steps.append(level[sibling : sibling + HASH_BYTES])
            index //= 2
        return b"".join(steps)

    def root_at(self, size: int) -> bytes:
        """The root that the tree had when it had ``size`` leaves, 32 bytes; sizes 0 to the whole.

        Raises:
            ValueError: for a size that the tree never had.
        """
        self._had(size)
        return self._range_root(0, size) if size else EMPTY_ROOT

    def consistency(self, old: int) -> bytes:
        """The path that shows that the tree extends its first ``old`` leaves; see `consistency_path`."""
        return self.consistency_between(old, self.size)

    def consistency_between(self, old: int, new: int) -> bytes:
        """PROOF of RFC 9162, section 2.1.4.1, for the first ``old`` of the first ``new`` leaves.

        Args:
            old: leaves of the smaller tree, 0 to ``new``.
            new: leaves of the larger tree, at most the size.

        Returns:
            The steps in the order of the standard, 32 bytes each, joined; empty when old is 0 or ``new``.

        Raises:
            ValueError: for sizes out of range.
        """
        self._had(new)
        if not 0 <= old <= new:
            raise ValueError("the older tree is not part of the newer one")
        if old in (0, new):
            return b""
        steps: list[bytes] = []
        low, high = 0, new  # the subtree in which the old tree's right edge lies
        while old != high:
            middle = low + (1 << (high - low - 1).bit_length() - 1)
            if old <= middle:
                steps.append(self._range_root(middle, high))
                high = middle
            else:
                steps.append(self._range_root(low, middle))
                low = middle
        if low:  # else what is left is the old tree itself, whose root the verifier has
            steps.append(self._range_root(low, high))
        return b"".join(reversed(steps))

    def _had(self, size: int) -> None:
        if not 0 <= size <= self.size:
            raise ValueError("the tree never had that size")

    def _range_root(self, low: int, high: int) -> bytes:
        """The root over leaves ``low`` to ``high - 1``, which must be a subtree of some prefix of the list."""
        roots = []
        while low < high:
            height = (high - low).bit_length() - 1
            place = (low >> height) * HASH_BYTES
            roots.append(self._levels[height][place : place + HASH_BYTES])
            low += 1 << height
        return _fold(roots)


class Frontier:
    """A growing tree's root without its leaves: it keeps the roots of the perfect subtrees, one a set bit of the size.

    Appending costs two hashes on average; a tree of 2^40 leaves is 40 hashes.
    """

    __slots__ = ("_roots", "_size")

    def __init__(self) -> None:
        self._size = 0
        self._roots: list[bytes] = []  # the largest subtree first

    @property
    def size(self) -> int:
        """Leaves so far."""
        return self._size

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash.

        Raises:
            ValueError: for a hash that has not 32 bytes.
        """
        if len(leaf) != HASH_BYTES:
            raise ValueError("a leaf hash has 32 bytes")
        node, full = leaf, self._size
        while full & 1:
            node = node_hash(self._roots.pop(), node)
            full >>= 1
        self._roots.append(node)
        self._size += 1

    def root(self) -> bytes:
        """The tree's hash, 32 bytes; SHA-256 of the empty string before the first leaf."""
        return _fold(self._roots) if self._roots else EMPTY_ROOT

    def copy(self) -> Frontier:
        """Another frontier at the same size; what is appended to one is not in the other."""
        other = Frontier()
        other._size, other._roots = self._size, list(self._roots)
        return other


def _pair_hash(pair: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + pair).digest()


def _fold(roots: Sequence[bytes]) -> bytes:
    """The root over perfect subtrees that stand side by side, each smaller than the one before it."""
    node = roots[-1]
    for left in reversed(roots[:-1]):
        node = node_hash(left, node)
    return node


def root_from_path(leaf: bytes, index: int, size: int, path: bytes) -> bytes | None:
    """The root that a path leads to from the leaf at ``index`` of ``size``; None for a path of another length.

    Index and size are the verifier's own knowledge: a proof cannot choose the place it proves.
    """
    if not 0 <= index < size:
        return None
    node, place, last, used = leaf, index, size - 1, 0
    while last:
        if place ^ 1 <= last:
            step = path[used : used + HASH_BYTES]
            if len(step) != HASH_BYTES:
                return None
            node = node_hash(step, node) if place & 1 else node_hash(node, step)
            used += HASH_BYTES
        place, last = place // 2, last // 2
    return node if used == len(path) else None


def consistency_path(leaves: Tree | Sequence[bytes], old: int, new: int) -> bytes:
    """The path that shows that a list of ``new`` leaves begins with the same ``old`` leaves; RFC 9162, section 2.1.4.1.

    Args:
        leaves: the leaf hashes, or a tree over them, which saves hashing them again; at least ``new``.
        old: size of the older tree, 0 to ``new``.
        new: size of the newer tree.

    Returns:
        32 bytes a step, joined; empty when ``old`` is 0 or ``new``.

    Raises:
        ValueError: for sizes out of range.
    """
    if isinstance(leaves, Tree):
        return leaves.consistency_between(old, new)
    if not 0 <= old <= new <= len(leaves):
        raise ValueError("sizes of no prefix of the list")
    return Tree(leaves[:new]).consistency(old) if new else b""


def consistent(old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: bytes) -> bool:
    """Whether a path shows that the newer tree extends the older one; RFC 9162, section 2.1.4.2.

    Sizes and roots are the verifier's own knowledge, from two signed checkpoints: a path cannot choose them. Every tree
    extends the empty one, whose root is `EMPTY_ROOT`, with the empty path; a tree extends itself with the empty path.
    """
    if not 0 <= old_size <= new_size or len(path) % HASH_BYTES:
        return False
    if old_size == 0:
        return not path and old_root == EMPTY_ROOT and (new_size > 0 or new_root == EMPTY_ROOT)
    if old_size == new_size:
        return not path and old_root == new_root
    steps = [path[i : i + HASH_BYTES] for i in range(0, len(path), HASH_BYTES)]
    place, last = old_size - 1, new_size - 1
    while place & 1:  # up to the largest perfect subtree at the old tree's right edge
        place, last = place >> 1, last >> 1
    if not place:  # it is the whole old tree, which the path leaves out
        steps.insert(0, old_root)
    if not steps:
        return False
    old_node = new_node = steps[0]
    for step in steps[1:]:
        if not last:
            return False
        if place & 1 or place == last:
            old_node, new_node = node_hash(step, old_node), node_hash(step, new_node)
            while place and not place & 1:  # levels at which the newer tree has no sibling there
                place, last = place >> 1, last >> 1
        else:
            new_node = node_hash(new_node, step)
        place, last = place >> 1, last >> 1
    return not last and old_node == old_root and new_node == new_root
