"""Merkle trees as RFC 9162, section 2.1: the root of a list, and short proofs that an entry stands at its place."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

HASH_BYTES = 32


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
        leaves: leaf hashes in order, at least one.
    """

    def __init__(self, leaves: Sequence[bytes]) -> None:
        if not leaves:
            raise ValueError("a tree needs a leaf")
        level = list(leaves)
        self._levels = [b"".join(level)]
        while len(level) > 1:
            pairs = zip(level[::2], level[1::2], strict=False)  # an odd last one has no sibling
            paired = [hashlib.sha256(b"\x01" + left + right).digest() for left, right in pairs]
            level = paired + level[2 * len(paired) :]
            self._levels.append(b"".join(level))

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
