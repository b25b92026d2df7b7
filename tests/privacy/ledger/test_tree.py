"""The growing tree against RFC 9162's recursive definitions, every size below 40, and its proofs against checkers."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.privacy.ledger.tree import GrowingTree
from wardround.privacy.merkle import EMPTY_ROOT, leaf_hash, node_hash, root_from_path

MOST = 40
LEAVES = [leaf_hash(str(i).encode()) for i in range(MOST)]


def split(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def mth(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return node_hash(mth(leaves[:k]), mth(leaves[k:]))


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def grown(size: int) -> GrowingTree:
    tree = GrowingTree()
    for leaf in LEAVES[:size]:
        tree.append(leaf)
    return tree


def test_an_empty_tree() -> None:
    assert GrowingTree().root() == EMPTY_ROOT == mth([])


@pytest.mark.parametrize("size", range(1, MOST + 1))
def test_roots_and_inclusion(size: int) -> None:
    tree, late = grown(size), grown(MOST)
    assert tree.size == size
    assert tree.root() == late.root(size) == mth(LEAVES[:size])
    for index in range(size):
        expected = b"".join(path(index, LEAVES[:size]))
        assert tree.inclusion(index) == late.inclusion(index, size) == expected
        assert root_from_path(LEAVES[index], index, size, expected) == tree.root()


@pytest.mark.parametrize("size", range(1, MOST + 1))
def test_consistency(size: int) -> None:
    late = grown(MOST)
    for old in range(1, size + 1):
        assert late.consistency(old, size) == b"".join(subproof(old, LEAVES[:size], True))
    assert late.consistency(0, size) == b""


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3000), st.data())
def test_large_trees(size: int, data: st.DataObject) -> None:
    leaves = [leaf_hash(i.to_bytes(4, "big")) for i in range(size)]
    tree = GrowingTree()
    for leaf in leaves:
        tree.append(leaf)
    index = data.draw(st.integers(0, size - 1))
    assert tree.root() == mth(leaves)
    assert root_from_path(leaves[index], index, size, tree.inclusion(index)) == tree.root()
    old = data.draw(st.integers(1, size))
    assert tree.consistency(old) == b"".join(subproof(old, leaves, True))


def test_what_is_not_there() -> None:
    tree = grown(5)
    for wrong in (lambda: tree.root(6), lambda: tree.inclusion(5), lambda: tree.inclusion(3, 3)):
        with pytest.raises(ValueError, match="no "):
            wrong()
    with pytest.raises(ValueError, match="not the start"):
        tree.consistency(5, 4)
    with pytest.raises(ValueError, match="no size"):
        tree.consistency(1, 9)
