"""Trees against the recursive definition of RFC 9162, and proofs that prove one place only."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.privacy.merkle import Tree, leaf_hash, node_hash, root_from_path

# Certificate Transparency's reference inputs (RFC 6962 test data) and the root over all eight.
INPUTS = [
    b"",
    b"\x00",
    b"\x10",
    bytes.fromhex("2021"),
    bytes.fromhex("3031"),
    bytes.fromhex("40414243"),
    bytes.fromhex("5051525354555657"),
    bytes.fromhex("606162636465666768696a6b6c6d6e6f"),
]
ROOT_OF_EIGHT = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def slow_root(entries: list[bytes]) -> bytes:
    """MTH of RFC 9162, section 2.1.1, as it is written there."""
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = 1
    while 2 * k < len(entries):
        k *= 2
    return hashlib.sha256(b"\x01" + slow_root(entries[:k]) + slow_root(entries[k:])).digest()


def slow_path(index: int, entries: list[bytes]) -> list[bytes]:
    """PATH of RFC 9162, section 2.1.3.1."""
    if len(entries) == 1:
        return []
    k = 1
    while 2 * k < len(entries):
        k *= 2
    if index < k:
        return [*slow_path(index, entries[:k]), slow_root(entries[k:])]
    return [*slow_path(index - k, entries[k:]), slow_root(entries[:k])]


def entries_of(size: int) -> list[bytes]:
    return [b"entry %d" % i for i in range(size)]


def test_the_public_vector_of_eight_leaves() -> None:
    assert Tree([leaf_hash(entry) for entry in INPUTS]).root.hex() == ROOT_OF_EIGHT


@pytest.mark.parametrize("size", range(1, 41))
def test_roots_and_paths_are_those_of_the_recursive_definition(size: int) -> None:
    entries = entries_of(size)
    tree = Tree([leaf_hash(entry) for entry in entries])
    assert tree.root == slow_root(entries)
    for index, entry in enumerate(entries):
        path = tree.path(index)
        assert path == b"".join(slow_path(index, entries))
        assert root_from_path(leaf_hash(entry), index, size, path) == tree.root


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 40), st.data())
def test_a_path_proves_no_other_place_and_no_other_length(size: int, data: st.DataObject) -> None:
    tree = Tree([leaf_hash(entry) for entry in entries_of(size)])
    index, other = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    leaf, path = leaf_hash(b"entry %d" % index), tree.path(index)
    if other != index:
        assert root_from_path(leaf, other, size, path) != tree.root
    assert root_from_path(leaf, index, size, path + bytes(32)) is None
    assert root_from_path(leaf, index, size, path[:-1]) is None
    assert root_from_path(leaf, size, size, path) is None
    assert root_from_path(leaf, -1, size, path) is None
    place = data.draw(st.integers(0, len(path) - 1))
    changed = path[:place] + bytes([path[place] ^ 1]) + path[place + 1 :]
    assert root_from_path(leaf, index, size, changed) != tree.root


def slow_turns(index: int, size: int) -> list[str]:
    """On which side the sibling stands at each step of PATH, from the leaf up."""
    if size == 1:
        return []
    k = 1
    while 2 * k < size:
        k *= 2
    return [*slow_turns(index, k), "right"] if index < k else [*slow_turns(index - k, size - k), "left"]


@pytest.mark.parametrize("size", range(1, 21))
def test_a_path_read_for_another_place_or_size_gives_none_or_another_root(size: int) -> None:
    """Except for a size in which the place has the same turns: no path tells those apart, so the verifier must know."""
    tree = Tree([leaf_hash(entry) for entry in entries_of(size)])
    for index in range(size):
        leaf, path, turns = leaf_hash(b"entry %d" % index), tree.path(index), slow_turns(index, size)
        for other in range(41):
            for place in range(-1, other + 2):
                found = root_from_path(leaf, place, other, path)
                if not 0 <= place < other or len(slow_turns(place, other)) != len(turns):
                    assert found is None
                else:
                    assert (found == tree.root) == (slow_turns(place, other) == turns)


def test_an_inner_node_does_not_pass_for_an_entry() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert node_hash(left, right) != leaf_hash(left + right)


def test_a_tree_needs_a_leaf() -> None:
    with pytest.raises(ValueError, match="needs a leaf"):
        Tree([])
