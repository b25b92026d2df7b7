"""Proof files: each proves its entry, at its place, in its tree; a changed one is refused or proves nothing."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.privacy.errors import LedgerError
from wardround.privacy.ledger.checkpoints import (
    MAXIMUM_NUMBER,
    Checkpoint,
    add_cosignature,
    cosignature_message,
    cosigned_at,
    is_signed_by,
    signed,
)
from wardround.privacy.ledger.notes import NoteSignature, SignedNote, from_base64, to_base64
from wardround.privacy.ledger.proofs import EXTENSION, Proof, proves
from wardround.privacy.merkle import Tree, leaf_hash

# The example of the specification, but for its signatures, which are cut short there.
HEAD = """\
c2sp.org/tlog-proof@v1
extra YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6
index 73894
gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=
EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=
RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=
AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=

example.com/fancylog
109482
sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=

"""
EXAMPLE = HEAD + "— example.com/fancylog hI2DJwE=\n— witness1.example mJirIgI=\n"
# An entry of a public log, index 76958 of 76959, from the tests of project-oak/oak; signed here with a key of our own.
OAK_ENTRY = b"hello tesseroak\n"
OAK_TREE = (76959, "QYfrD7XAd4qUHbRBs4dDyDZwpZN4M/cccXr2G56pxkY=")
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

OWNER, COSIGNER = (Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2))
OWNER_KEY, COSIGNER_KEY = (key.public_key().public_bytes_raw() for key in (OWNER, COSIGNER))
TIME = 1_790_000_000


def entries_of(size: int) -> list[bytes]:
    return [b'{"entry":%d}' % i for i in range(size)]


def note_of(size: int, root: bytes) -> SignedNote:
    note = signed(Checkpoint("log", size, root), "log", OWNER.sign, OWNER_KEY)
    return add_cosignature(note, "other", COSIGNER_KEY, TIME, COSIGNER.sign(cosignature_message(TIME, note.text)))


def proof_of(index: int, size: int, extra: bytes = b"") -> Proof:
    tree = Tree([leaf_hash(entry) for entry in entries_of(size)])
    return Proof(index, tree.path(index), note_of(size, tree.root), extra)


PROOF = proof_of(5, 11, b"more")


def test_the_example_of_the_specification_is_read_and_written_back() -> None:
    proof = Proof.parse(EXAMPLE.encode())
    assert (proof.index, len(proof.path), proof.extra) == (73894, 5 * 32, b"age-v1.2.1-darwin-arm64.tar.gz")
    assert (proof.tree.origin, proof.tree.size) == ("example.com/fancylog", 109482)
    assert [line.name for line in proof.checkpoint.signatures] == ["example.com/fancylog", "witness1.example"]
    assert proof.to_bytes() == EXAMPLE.encode()
    assert EXTENSION == ".tlog-proof"


def test_an_entry_of_a_public_log_is_proved() -> None:
    path = b"".join(from_base64(step) or b"" for step in OAK_PATH)
    proof = Proof(OAK_TREE[0] - 1, path, note_of(OAK_TREE[0], from_base64(OAK_TREE[1]) or b""))
    read = Proof.parse(proof.to_bytes())
    assert proves(read, OAK_ENTRY)
    assert not proves(read, OAK_ENTRY[:-1])
    assert not proves(dataclasses.replace(read, index=read.index - 1), OAK_ENTRY)


@pytest.mark.parametrize("size", range(1, 20))
def test_every_entry_of_every_small_log_is_proved_and_only_at_its_place(size: int) -> None:
    entries = entries_of(size)
    for index, entry in enumerate(entries):
        proof = Proof.parse(proof_of(index, size).to_bytes())
        for other in entries:
            assert proves(proof, other) == (other == entry)
        for place in range(size + 2):
            assert proves(dataclasses.replace(proof, index=place), entry) == (place == index)


def test_a_leaf_hash_or_an_inner_node_is_no_entry() -> None:
    proof = proof_of(0, 2)
    left, right = (leaf_hash(entry) for entry in entries_of(2))
    assert not proves(proof, left)
    assert not proves(Proof(0, b"", proof.checkpoint), left + right)


def test_nothing_is_in_an_empty_log() -> None:
    assert not proves(Proof(0, b"", note_of(0, leaf_hash(b""))), b"")


proofs = st.builds(
    Proof,
    st.integers(0, MAXIMUM_NUMBER),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63).map(b"".join),
    st.builds(note_of, st.integers(0, MAXIMUM_NUMBER), st.binary(min_size=32, max_size=32)),
    st.binary(),
)


@settings(deadline=None)
@given(proofs)
def test_every_proof_is_read_back(proof: Proof) -> None:
    assert Proof.parse(proof.to_bytes()) == proof


NOTE = PROOF.checkpoint.to_bytes().decode()
STEP = to_base64(bytes(32))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "c2sp.org/tlog-proof@v1\n\n" + NOTE,
        "c2sp.org/tlog-proof@v2\nindex 5\n\n" + NOTE,
        " c2sp.org/tlog-proof@v1\nindex 5\n\n" + NOTE,
        "c2sp.org/tlog-proof@v1\r\nindex 5\n\n" + NOTE,
        "c2sp.org/tlog-proof@v1\nindex 5\n" + NOTE,
        "c2sp.org/tlog-proof@v1\nindex 5\n\n",
        "c2sp.org/tlog-proof@v1\nindex 5\n\n\n" + NOTE,
        "c2sp.org/tlog-proof@v1\nindex 5\n\nno checkpoint\n\n— log AAAAAAA=\n",
        *(f"c2sp.org/tlog-proof@v1\n{index}\n\n" + NOTE for index in ("5", "index", "index ", "index 05", "index -5")),
        *(f"c2sp.org/tlog-proof@v1\nindex {n}\n\n" + NOTE for n in ("+5", "5 ", "٥", str(2**63), "9" * 5000)),
        *(f"c2sp.org/tlog-proof@v1\n{line}\nindex 5\n\n" + NOTE for line in ("extra ", "extra", "extra bW9yZ", "more")),
        "c2sp.org/tlog-proof@v1\nextra bW9yZQ==\nextra bW9yZQ==\nindex 5\n\n" + NOTE,
        "c2sp.org/tlog-proof@v1\nextra bW9yZR==\nindex 5\n\n" + NOTE,  # spare bits of base64
        "c2sp.org/tlog-proof@v1\nindex 5\nextra bW9yZQ==\n\n" + NOTE,
        f"c2sp.org/tlog-proof@v1\nindex 5\n{STEP[:-1]}\n\n" + NOTE,
        f"c2sp.org/tlog-proof@v1\nindex 5\n{STEP}{STEP}\n\n" + NOTE,
        f"c2sp.org/tlog-proof@v1\nindex 5\n{to_base64(bytes(64))}\n\n" + NOTE,
        f"c2sp.org/tlog-proof@v1\nindex 5\n{STEP}\nsecret\n\n" + NOTE,
        "c2sp.org/tlog-proof@v1\nindex 5\n" + f"{STEP}\n" * 64 + "\n" + NOTE,
        "c2sp.org/tlog-proof@v1\nindex 5\n\n" + NOTE[:-1],
        "c2sp.org/tlog-proof@v1\nindex 5\n\n" + NOTE + "\n",
        "c2sp.org/tlog-proof@v1\nindex 5\n\n" + NOTE.replace("11", "011", 1),
    ],
)
def test_anything_that_is_not_exactly_a_proof_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(LedgerError) as caught:
        Proof.parse(text.encode())
    assert caught.value.remedy
    for content in ("secret", "bW9y", "999", "no checkpoint", "log AAAA"):
        assert content not in str(caught.value)


def test_values_without_a_form_cannot_be_made() -> None:
    note = PROOF.checkpoint
    plain = SignedNote("no checkpoint\n", (NoteSignature("a", bytes(4), bytes(64)),))
    for make in (
        lambda: Proof(-1, b"", note),
        lambda: Proof(MAXIMUM_NUMBER + 1, b"", note),
        lambda: Proof(0, bytes(31), note),
        lambda: Proof(0, bytes(32 * 64), note),
        lambda: Proof(0, b"", plain),
    ):
        with pytest.raises(LedgerError):
            make()


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_a_changed_byte_is_refused_or_proves_less(data: st.DataObject) -> None:
    good, entry = PROOF.to_bytes(), entries_of(11)[5]
    place, flip = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(1, 255))
    changed = good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :]
    try:
        proof = Proof.parse(changed)
    except LedgerError:
        return
    note = proof.checkpoint
    owner, time = is_signed_by(note, "log", OWNER_KEY), cosigned_at(note, "other", COSIGNER_KEY)
    found = (proves(proof, entry), owner, time)
    extra, index, checkpoint, owner_line, cosigner_line = (
        good.index(part) for part in (b"extra", b"index", b"\n\n", b"\xe2\x80\x94 log", b" other")
    )
    if extra < place < index:
        assert found == (True, True, TIME)  # no one vouches for what is in there
        assert (proof.index, proof.path, proof.checkpoint) == (PROOF.index, PROOF.path, PROOF.checkpoint)
    elif place < checkpoint:
        assert found == (False, True, TIME)
    elif place < owner_line:
        assert (owner, time) == (False, None)
    elif place < cosigner_line:
        assert found == (True, False, TIME)
    else:
        assert found == (True, True, None)
