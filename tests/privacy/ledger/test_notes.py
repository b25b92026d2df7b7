"""Signed notes: published ones are read and written byte for byte, and every other form is refused."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wardround.privacy.errors import LedgerError
from wardround.privacy.ledger.checkpoints import is_signed_by
from wardround.privacy.ledger.notes import (
    COSIGNATURE_V1,
    ED25519,
    MAXIMUM_SIGNATURES,
    NoteSignature,
    SignedNote,
    from_base64,
    key_id,
    parse_verifier_key,
    to_base64,
    verifier_key,
)

# Keys and note of golang.org/x/mod/sumdb/note (documentation and note_test.go).
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SECRET = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)
# The example note of the specification, and a tree head of Go's checksum database, each with its key.
FOO = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
FOO_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
GO = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
GO_NOTE = (
    "go.sum database tree\n3935567\nSapHtgdNCeF00Cx8kqztePV24kgzNg++Xovae42HAMw=\n\n"
    "— sum.golang.org Az3grsm7Wm4CVNR1RHq9BFnu9jzcRlU2uw7lr0gfUWgO6+rqPNjT+fUTl9gH0NRTgdwW9nItuQSMbhSaLCsk8YeYSAs=\n"
)
PUBLISHED = [
    (PETER, TEXT + "\n" + PETER_LINE),
    (PETER, TEXT + "\n" + PETER_LINE + ENOCH_LINE),
    (ENOCH, TEXT + "\n" + PETER_LINE + ENOCH_LINE),
    (FOO, FOO_NOTE),
    (GO, GO_NOTE),
]
# Verifier keys of transparency-dev/formats: a plus within base64, and a cosigner's.
KEYS = [
    PETER,
    ENOCH,
    "TEST+7997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
]
# The example of the specification, whose text has an empty line and letters beyond ASCII; its key is not published.
POEM = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n— quasimodo.example/"
    "salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
)

names = st.text(min_size=1).filter(
    lambda name: not any(c.isspace() or c == "+" or c < " " or "\ud800" <= c <= "\udfff" for c in name)
)
texts = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"])).flatmap(
    lambda line: st.lists(st.sampled_from([line, "", "— a AAAAAAA="])).map(lambda rest: "\n".join([line, *rest]) + "\n")
)
signatures = st.builds(NoteSignature, names, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80))
notes = st.builds(SignedNote, texts, st.lists(signatures, min_size=1, max_size=4).map(tuple))


@pytest.mark.parametrize(("key", "note"), PUBLISHED, ids=range(len(PUBLISHED)))
def test_published_notes_are_read_verified_and_written_back(key: str, note: str) -> None:
    parsed, verifier = SignedNote.parse(note.encode()), parse_verifier_key(key)
    assert parsed.to_bytes() == note.encode()
    assert is_signed_by(parsed, verifier.name, verifier.public_key)
    forged = SignedNote(parsed.text + "\n", parsed.signatures)
    assert not is_signed_by(forged, verifier.name, verifier.public_key)


def test_signing_the_published_text_gives_the_published_note() -> None:
    verifier = parse_verifier_key(PETER)
    private = Ed25519PrivateKey.from_private_bytes(base64.b64decode(PETER_SECRET)[1:])
    line = NoteSignature(
        "PeterNeumann", key_id("PeterNeumann", ED25519, verifier.public_key), private.sign(TEXT.encode())
    )
    assert SignedNote(TEXT, (line,)).to_bytes() == (TEXT + "\n" + PETER_LINE).encode()


def test_the_last_empty_line_ends_the_text() -> None:
    note = SignedNote.parse(POEM.encode())
    assert note.text.endswith("sole:\n\ned è subito sera.\n")
    assert [line.name for line in note.signatures] == ["quasimodo.example/salvatore"]
    assert note.signatures[0].key_id.hex() == "367ba04b"
    assert note.to_bytes() == POEM.encode()


@pytest.mark.parametrize("key", KEYS)
def test_published_keys_are_read_and_written_back(key: str) -> None:
    parsed = parse_verifier_key(key)
    assert key_id(parsed.name, parsed.kind, parsed.public_key).hex() == key.split("+")[1]
    assert verifier_key(parsed.name, parsed.public_key, parsed.kind) == key


def test_one_key_has_another_id_as_a_cosigner() -> None:
    assert key_id("a", ED25519, bytes(32)) != key_id("a", COSIGNATURE_V1, bytes(32))


def test_every_part_and_every_mangling_of_a_key_is_refused() -> None:
    for i in range(len(PETER)):
        for mangled in (PETER[:i], PETER[i + 1 :], PETER[:i] + chr(ord(PETER[i]) + 1) + PETER[i + 1 :]):
            with pytest.raises(LedgerError):
                parse_verifier_key(mangled)
    for bad in (
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",  # longer, with its own id
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",  # another kind, with its own id
        PETER.replace("c74f20a3", "C74F20A3"),
        PETER + "\n",
    ):
        with pytest.raises(LedgerError):
            parse_verifier_key(bad)


SIGNATURE = PETER_LINE.removeprefix("— PeterNeumann ")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        TEXT.encode(),
        (TEXT + "\n").encode(),
        (TEXT + PETER_LINE).encode(),
        (TEXT + "\n" + PETER_LINE[:-1]).encode(),
        ("\n" + PETER_LINE).encode(),
        ("\x01" + TEXT + "\n" + PETER_LINE).encode(),
        (TEXT.replace("\n", "\r\n") + "\n" + PETER_LINE).encode(),
        b"\xff" + (TEXT + "\n" + PETER_LINE).encode(),
        b"\xed\xa0\x80" + (TEXT + "\n" + PETER_LINE).encode(),
        (TEXT + "\n— Bad Name " + SIGNATURE).encode(),
        (TEXT + "\n— Bad+Name " + SIGNATURE).encode(),
        (TEXT + "\n— Bad\u2003Name " + SIGNATURE).encode(),
        (TEXT + "\n—  " + SIGNATURE).encode(),
        (TEXT + "\n- PeterNeumann " + SIGNATURE).encode(),
        (TEXT + "\n" + PETER_LINE + "Unexpected line.\n").encode(),
        (TEXT + "\n" + PETER_LINE + "\n").encode(),
        (TEXT + "\n" + PETER_LINE.replace("=\n", "\n")).encode(),
        (TEXT + "\n" + PETER_LINE.replace("M=\n", "N=\n")).encode(),  # spare bits of base64
        (TEXT + "\n" + PETER_LINE.replace("=\n", "= \n")).encode(),
        (TEXT + "\n— PeterNeumann x08gow==\n").encode(),  # an id and nothing after it
        (TEXT + "\n— PeterNeumann x08g\n").encode(),
        (TEXT + "\n— PeterNeumann\n").encode(),
        (TEXT + "\n" + PETER_LINE * (MAXIMUM_SIGNATURES + 1)).encode(),
    ],
)
def test_anything_that_is_not_exactly_a_note_is_refused_and_not_quoted(data: bytes) -> None:
    with pytest.raises(LedgerError) as caught:
        SignedNote.parse(data)
    assert caught.value.remedy
    for content in ("cryptography", "Neumann", "x08g", "Bad", "Unexpected"):
        assert content not in str(caught.value)


def test_many_signatures_are_read() -> None:
    data = (TEXT + "\n" + PETER_LINE * MAXIMUM_SIGNATURES).encode()
    assert len(SignedNote.parse(data).signatures) == MAXIMUM_SIGNATURES


@settings(deadline=None)
@given(notes)
@example(SignedNote("\n", (NoteSignature("a", bytes(4), bytes(1)),)))
@example(SignedNote("a\n\n\n", (NoteSignature("—", bytes(4), bytes(1)),)))
@example(SignedNote("a\n\n— a AAAAAAA=\n", (NoteSignature("a", bytes(4), bytes(1)),)))
def test_every_note_is_read_back(note: SignedNote) -> None:
    assert SignedNote.parse(note.to_bytes()) == note


@settings(deadline=None)
@given(st.binary() | st.text().map(lambda text: (text + "\n\n— a AAAAAAA=\n").encode(errors="replace")))
def test_whatever_is_read_is_written_back(data: bytes) -> None:
    try:
        note = SignedNote.parse(data)
    except LedgerError:
        return
    assert note.to_bytes() == data


@pytest.mark.parametrize("bad", ["", "a b", "a+b", "a\u00a0b", "a\nb", "a\x1fb", "\udc80"])
def test_values_without_a_form_cannot_be_made(bad: str) -> None:
    good = NoteSignature("a", bytes(4), bytes(64))
    for make in (
        lambda: NoteSignature(bad, bytes(4), bytes(64)),
        lambda: key_id(bad, ED25519, bytes(32)),
        lambda: verifier_key(bad, bytes(32)),
        lambda: NoteSignature("a", bytes(5), bytes(64)),
        lambda: NoteSignature("a", bytes(4), b""),
        lambda: SignedNote(bad, (good,)),
        lambda: SignedNote("a\n", ()),
        lambda: SignedNote("\udc80\n", (good,)),
        lambda: key_id("a", 0x02, bytes(32)),
        lambda: key_id("a", ED25519, bytes(31)),
    ):
        with pytest.raises(LedgerError):
            make()


@given(st.binary())
def test_base64_has_one_form(data: bytes) -> None:
    text = to_base64(data)
    assert from_base64(text) == data
    for other in (text + "\n", text + "=", " " + text, text.rstrip("=") if "=" in text else text[:-1] or "A"):
        assert from_base64(other) is None
