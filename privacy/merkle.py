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


def _pair_hash(pair: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + pair).digest()


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
