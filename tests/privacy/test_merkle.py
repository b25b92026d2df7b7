"""Trees against the recursive definition of RFC 9162, and proofs that prove one place, or one growth, only."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.privacy.ledger.tree import GrowingTree
from wardround.privacy.merkle import (
    EMPTY_ROOT,
    Tree,
    consistent,
    leaf_hash,
    node_hash,
    root_from_path,
)

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
# The roots over the first 0 to 8 of them and the published consistency proofs between those trees.
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    ROOT_OF_EIGHT,
]
CONSISTENCY = {
    (1, 1): "",
    (1, 8): "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    (2, 5): "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    (6, 7): "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
    "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f"
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    (6, 8): "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
}
# An entry of a public log, index 76958 of 76959, from the tests of project-oak/oak.
OAK_ENTRY = b"hello tesseroak\n"
OAK_ROOT = "QYfrD7XAd4qUHbRBs4dDyDZwpZN4M/cccXr2G56pxkY="
OAK_PATH = [
    "fGRlLyuz+L9Jb8+uTSut/2aVc4z7fKFW+clvsb6xjEM=",
    "F6LautOHD5eppkWC0xn/lz00X5g2yLlZAkl2jCI/wdE=",
    "qH7OJxFNup+TDvJuohd2HphKVngfMeMzUK8QChEDcas=",
    "+Y3g758yXtPCRh/eqhLTA3bdcx+cCV1Uah0JdgB0YEs=",
    "vq8cJSjj8dPVmFBRUqDLlaMqW6aAYR2GKugVhgudXLs=",
    "J0z3X5qTb9WFC1gABhVFx0bW1rVZRL+DAoBL2e2h4G4=",
    "NmSbYg25xNFzTRerIsF3HbEMyTIDqW87AQd9ekzopE8=",
    "L8BZipjURnkctkjJtGJs+YyTXMssvNKA7+a8nV2JT/s=",
    "pva4RFzCejMkVMVmYc93As2lbk7WAyrw58TvrzEOjNc=",
]
# Google's Argon 2020 log between two sizes, from the test data of golang.org/x/mod/sumdb/tlog.
ARGON_OLD = (3654490, "AuIZ5V6sDUj1vn3Y1K85oOaQ7y+FJJKtyRTl1edIKBQ=")
ARGON_NEW = (961984013, "dwlueapdd7LaOEnX2W2Wp9v2XE+KzejHRQGHwEx0oaM=")
ARGON_PATH = [
    "80Sfbj6UQEdVSZCSIgh9NMPj3vCBzcc1A48B2crJSWg=",
    "FZcrgAHUk6nNPviJZq8kEK6jCG1d18pJOFE45ZDc1TQ=",
    "Q67reWXmPBo1UfmwBap4Xi9PMPfFdUSSw3WGlRZdG7k=",
    "eJ7CyhR4PxzBxDIsWgrVYW1eFUb9ndgf46tFmiqVrxA=",
    "QrDwp062Grm5WY8KdrhFsBuuNjGzRox2Jb8PmVL5OYw=",
    "XM4YMjMEdLH/XJam/ZWyaP14k3cmsOtnPsOWQ54lW1s=",
    "SGiBh+jOTGccXU48ZzgQ88lRcBmtB4wz4oSDndv2QTg=",
    "WAS6txqNLYKGL1GdBdpqmV42TTfn6cJsuDsqLXuTCNI=",
    "QFmRS0rirUA7ZN3lxFjDncV+E1OCrn3NUB4RCp+5fzc=",
    "Hdbp7It2XBNZmNDBpCN/KPd7vfVqxgzwOosqVIaEA9E=",
    "mxvHL0ZiblBdD7j7pIa1jlfB0gSqfJ6oX0UGo7L0VsU=",
    "q5hjyvoW6TL/PThgcitpDcSTrnKX2p1+aqscqH2euRA=",
    "jTOWDqt3IHj2NVFeezyBz2ofpru+ztEywqKUAfFclKI=",
    "GIRn0w3HqJdvU9j1WVD//eR6lk2AaTVjyzjsJNP8U88=",
    "x52GJvxG81fnQBrgOTbll1A5tz95/LXK0Ag1NhB0r1I=",
    "6/0OqrcTgc3o5dD5PymmoC96lB9yLPFuTHVvLy8fSGk=",
    "Gf+iKLfcXO5l4JEFmsZvSdG5q1uEeWPfYLrds6pmjz0=",
    "DGuaco+McyM3AfRSF6qX7RwSetwe2ieYJmxw5e9rVx0=",
    "2tQJ9V32hnYp+fdpP6TcjmgJmLeNVOMKM0Ml1kk4cNU=",
    "3PapK+IkyJr8I9yAErAmzuZezzLMzsg+PfeRCgNW8NQ=",
    "s6xiYeejb+wtqHA+URJZ2I/SCPyIW8coP6aB00FJbMY=",
    "z9lSpmdTcr5M5ZzKlc4EPh3SrSypKFdk6JUF/UccaZU=",
    "GXIElfmnRuWfbA4z7ubV/UwlpSRUbUeec7oL5HDDnh0=",
    "pR0SH/NYP6s9+8azWwaeUXA4Ze/3WCIgMfh5YW6wvcE=",
    "f3GuAKYVrF8RBg3s15jvA/YvV9oAliWtzP/imwPhQVA=",
    "WHn8zDxlVgkV+lSlmzaOdfSBrTHoRr5nT3d76q0KKWE=",
    "f2uV2ZxVgULzLPKuZcowRY3ZY7fRlX59iDBjV1R8kNQ=",
    "NzQVjJsvQwbi7WStMr9oFkh9VbHfK7LB6o7WwAqwNTs=",
    "C0LttBeYHZHgL+032JIcJC3CTBIyza/hsbmJUgJfmDI=",
    "nixU5CWTFVDlF4BGdcU6kA7WSYurEpe9jRWc+F/7sOc=",
]


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


def slow_proof(old: int, entries: list[bytes], known: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 9162, section 2.1.4.1."""
    if old == len(entries):
        return [] if known else [slow_root(entries)]
    k = 1
    while 2 * k < len(entries):
        k *= 2
    if old <= k:
        return [*slow_proof(old, entries[:k], known), slow_root(entries[k:])]
    return [*slow_proof(old - k, entries[k:], False), slow_root(entries[:k])]


def grown(entries: list[bytes]) -> GrowingTree:
    tree = GrowingTree()
    for entry in entries:
        tree.append(leaf_hash(entry))
    return tree


def tree_of(size: int) -> GrowingTree:
    return grown(entries_of(size))


def test_the_published_roots_and_consistency_proofs_of_eight_leaves() -> None:
    tree = grown(INPUTS)
    assert [tree.root(size).hex() for size in range(9)] == ROOTS
    assert Tree([leaf_hash(entry) for entry in INPUTS]).root.hex() == ROOTS[8]
    for (old, new), path in CONSISTENCY.items():
        assert tree.consistency(old, new).hex() == path
        assert consistent(old, bytes.fromhex(ROOTS[old]), new, bytes.fromhex(ROOTS[new]), bytes.fromhex(path))


def test_an_entry_of_a_public_log_is_proved() -> None:
    path, root = b"".join(map(base64.b64decode, OAK_PATH)), base64.b64decode(OAK_ROOT)
    assert root_from_path(leaf_hash(OAK_ENTRY), 76958, 76959, path) == root
    assert root_from_path(leaf_hash(OAK_ENTRY[:-1]), 76958, 76959, path) != root


def test_a_public_log_grew() -> None:
    path = b"".join(map(base64.b64decode, ARGON_PATH))
    (old, old_root), (new, new_root) = [(n, base64.b64decode(root)) for n, root in (ARGON_OLD, ARGON_NEW)]
    assert consistent(old, old_root, new, new_root, path)
    assert not consistent(old - 1, old_root, new, new_root, path)


@pytest.mark.parametrize("new", range(1, 40))
def test_what_grew_is_consistent(new: int) -> None:
    entries, tree = entries_of(new), tree_of(new)
    assert consistent(0, EMPTY_ROOT, new, tree.root(), b"")
    for old in range(1, new + 1):
        path = tree.consistency(old)
        assert path == b"".join(slow_proof(old, entries))
        assert consistent(old, slow_root(entries[:old]), new, tree.root(), path)


@pytest.mark.parametrize("new", range(2, 24))
def test_consistency_refuses_every_other_root_and_every_cut_or_lengthened_path(new: int) -> None:
    tree = tree_of(new)
    root = tree.root()
    for old in range(1, new):
        old_root, path = tree.root(old), tree.consistency(old)
        assert not consistent(old, bytes(32), new, root, path)
        assert not consistent(old, old_root, new, bytes(32), path)
        assert not consistent(old, old_root, new, old_root, path)
        for wrong in (b"", path[:-32], path[32:], path[:-1], path + bytes(32), bytes(32) + path, path + bytes(1)):
            assert not consistent(old, old_root, new, root, wrong)
        assert not consistent(new, root, old, old_root, path)


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 200), st.data())
def test_a_rewritten_or_cut_history_is_not_consistent(new: int, data: st.DataObject) -> None:
    entries = entries_of(new)
    old = data.draw(st.integers(1, new - 1))
    before = grown(entries[:old]).root()
    changed = data.draw(st.integers(0, old - 1))
    entries[changed] += b" rewritten"
    after, truth = grown(entries), tree_of(new)
    assert not consistent(old, before, new, after.root(), after.consistency(old))
    assert not consistent(old, before, new, after.root(), truth.consistency(old))
    path = truth.consistency(old)
    assert consistent(old, before, new, truth.root(), path)
    place, flip = data.draw(st.integers(0, len(path) - 1)), data.draw(st.integers(1, 255))
    changed_path = path[:place] + bytes([path[place] ^ flip]) + path[place + 1 :]
    assert not consistent(old, before, new, truth.root(), changed_path)


def test_the_empty_tree_and_the_tree_itself() -> None:
    root = tree_of(5).root()
    assert hashlib.sha256(b"").digest() == EMPTY_ROOT
    assert consistent(0, EMPTY_ROOT, 0, EMPTY_ROOT, b"")
    assert consistent(5, root, 5, root, b"")
    assert not consistent(0, bytes(32), 5, root, b"")
    assert not consistent(0, EMPTY_ROOT, 5, root, bytes(32))
    assert not consistent(0, EMPTY_ROOT, 0, bytes(32), b"")
    assert not consistent(5, root, 5, bytes(32), b"")
    assert not consistent(5, root, 5, root, bytes(32))
    assert not consistent(-1, EMPTY_ROOT, 5, root, b"")


def test_leaves_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Tree([bytes(32), bytes(31)])
