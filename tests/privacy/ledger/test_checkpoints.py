"""Checkpoints: published ones verify with their logs' and cosigners' keys, and no changed byte does."""

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
from wardround.privacy.ledger.notes import (
    COSIGNATURE_V1,
    ED25519,
    NoteSignature,
    SignedNote,
    key_id,
    parse_verifier_key,
    to_base64,
)

# A public certificate log's checkpoint (Arche 2025h1, staging) with four cosignatures, and the keys of log and
# cosigners as they publish them. The first signature line is of a kind that is not read here.
PUBLISHED = """\
arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==
"""  # noqa: E501
LOG = "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
COSIGNERS = [
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
]
PUBLISHED_TIME = 1779573024
# The example of the specifications; its keys are not published.
EXAMPLE = """\
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
"""  # noqa: E501

ROOT = bytes(range(32))
TEXT = f"log\n5\n{to_base64(ROOT)}\n"
OWNER, COSIGNER, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2, 3))


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def cosigned(note: SignedNote, name: str, key: Ed25519PrivateKey, time: int) -> SignedNote:
    return add_cosignature(note, name, public(key), time, key.sign(cosignature_message(time, note.text)))


def unknown_line(name: str = "stranger") -> NoteSignature:
    return NoteSignature(name, b"\x01\x02\x03\x04", b"what a key of another kind made")


def with_lines(note: SignedNote, *lines: NoteSignature) -> SignedNote:
    return SignedNote(note.text, (*note.signatures, *lines))


NOTE = cosigned(
    signed(Checkpoint("log", 5, ROOT, ("an extension",)), "log", OWNER.sign, public(OWNER)), "other", COSIGNER, 77
)
NOTE = with_lines(NOTE, unknown_line())

lines = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1)
checkpoints = st.builds(
    Checkpoint,
    lines,
    st.integers(0, MAXIMUM_NUMBER),
    st.binary(min_size=32, max_size=32),
    st.lists(lines, max_size=3).map(tuple),
)


def test_a_published_checkpoint_verifies_for_log_and_cosigners_and_for_no_one_else() -> None:
    note = SignedNote.parse(PUBLISHED.encode())
    assert note.to_bytes() == PUBLISHED.encode()
    checkpoint = Checkpoint.parse(note.text)
    assert (checkpoint.size, checkpoint.text()) == (1432088532, note.text)
    log = parse_verifier_key(LOG)
    assert is_signed_by(note, log.name, log.public_key)
    assert cosigned_at(note, log.name, log.public_key) is None
    cut = SignedNote(dataclasses.replace(checkpoint, size=42).text(), note.signatures)
    for vkey in COSIGNERS:
        key = parse_verifier_key(vkey)
        assert key.kind == COSIGNATURE_V1
        assert cosigned_at(note, key.name, key.public_key) == PUBLISHED_TIME
        assert not is_signed_by(note, key.name, key.public_key)
        assert cosigned_at(cut, key.name, key.public_key) is None
    assert not is_signed_by(cut, log.name, log.public_key)


def test_the_example_of_the_specification_is_read() -> None:
    note = SignedNote.parse(EXAMPLE.encode())
    assert note.to_bytes() == EXAMPLE.encode()
    checkpoint = Checkpoint.parse(note.text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    cosignature = note.signatures[1]
    assert (len(cosignature.signature), int.from_bytes(cosignature.signature[:8], "big")) == (72, 1679315147)
    assert cosignature_message(1679315147, note.text) == (
        b"cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n"
        b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    )


@given(checkpoints)
def test_every_checkpoint_is_read_back(checkpoint: Checkpoint) -> None:
    assert Checkpoint.parse(checkpoint.text()) == checkpoint


@settings(deadline=None)
@given(checkpoints, st.integers(0, MAXIMUM_NUMBER))
def test_what_is_signed_and_cosigned_verifies_after_a_round_trip(checkpoint: Checkpoint, time: int) -> None:
    note = cosigned(signed(checkpoint, "log", OWNER.sign, public(OWNER)), "other", COSIGNER, time)
    read = SignedNote.parse(note.to_bytes())
    assert read == note
    assert Checkpoint.parse(read.text) == checkpoint
    assert is_signed_by(read, "log", public(OWNER))
    assert cosigned_at(read, "other", public(COSIGNER)) == time
    for name, key in (("log", COSIGNER), ("other", OWNER), ("log", OTHER), ("another", OWNER)):
        assert not is_signed_by(read, name, public(key))
    for name, key in (("log", OWNER), ("other", OWNER), ("log", COSIGNER), ("another", COSIGNER)):
        assert cosigned_at(read, name, public(key)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "log\n5\n",
        TEXT[:-1],
        TEXT + "\n",
        "\n" + TEXT,
        TEXT.replace("log", ""),
        TEXT.replace("log", "l\tog"),
        TEXT.replace("\n", "\r\n"),
        TEXT + "extension\n\n",
        TEXT + "\nextension\n",
        *(TEXT.replace("5", size) for size in ("05", "+5", "-5", " 5", "5 ", "5.0", "", "five", "٥", "5_0", "0x5")),
        TEXT.replace("5", str(MAXIMUM_NUMBER + 1)),
        TEXT.replace("5", "9" * 5000),
        f"log\n5\n{to_base64(ROOT[:-1])}\n",
        f"log\n5\n{to_base64(ROOT + ROOT[:1])}\n",
        f"log\n5\n{to_base64(ROOT)[:-1]}\n",
        f"log\n5\n{to_base64(ROOT)[:-2]}9=\n",  # spare bits of base64
        f"log\n5\n{ROOT.hex()}\n",
    ],
)
def test_anything_that_is_not_exactly_a_checkpoint_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(LedgerError) as caught:
        Checkpoint.parse(text)
    assert caught.value.remedy
    for content in ("log", to_base64(ROOT)[:8], "five", "999"):
        assert content not in str(caught.value)


@pytest.mark.parametrize("origin", ["", "a\nb", "a\x00", "\udc80"])
def test_values_without_a_form_cannot_be_made(origin: str) -> None:
    for make in (
        lambda: Checkpoint(origin, 5, ROOT),
        lambda: Checkpoint("log", 5, ROOT, (origin,)),
        lambda: Checkpoint("log", -1, ROOT),
        lambda: Checkpoint("log", MAXIMUM_NUMBER + 1, ROOT),
        lambda: Checkpoint("log", 5, ROOT[1:]),
        lambda: cosignature_message(-1, TEXT),
        lambda: cosignature_message(MAXIMUM_NUMBER + 1, TEXT),
    ):
        with pytest.raises(LedgerError):
            make()


def test_a_note_is_not_made_with_a_signature_that_does_not_verify() -> None:
    checkpoint = Checkpoint("log", 5, ROOT)
    with pytest.raises(LedgerError, match="not of its key"):
        signed(checkpoint, "log", OTHER.sign, public(OWNER))
    note = signed(checkpoint, "log", OWNER.sign, public(OWNER))
    good = COSIGNER.sign(cosignature_message(77, note.text))
    for time, key, signature in (
        (78, COSIGNER, good),
        (77, OTHER, good),
        (77, COSIGNER, COSIGNER.sign(note.text.encode())),
        (77, COSIGNER, good[:-1]),
        (77, COSIGNER, good + bytes(1)),
    ):
        with pytest.raises(LedgerError, match="does not verify"):
            add_cosignature(note, "other", public(key), time, signature)
    once = add_cosignature(note, "other", public(COSIGNER), 77, good)
    with pytest.raises(LedgerError, match="already"):
        cosigned(once, "other", COSIGNER, 78)
    with pytest.raises(LedgerError, match="31 bytes"):
        add_cosignature(note, "other", public(COSIGNER)[1:], 77, good)


def test_a_bad_line_beside_a_good_one_spoils_it() -> None:
    owner, cosigner = NOTE.signatures[:2]
    again = with_lines(NOTE, owner, cosigner)
    assert is_signed_by(again, "log", public(OWNER))
    assert cosigned_at(again, "other", public(COSIGNER)) == 77
    spoiled = with_lines(
        NOTE,
        dataclasses.replace(owner, signature=bytes(64)),
        dataclasses.replace(cosigner, signature=cosigner.signature[:-1] + b"\0"),
    )
    assert not is_signed_by(spoiled, "log", public(OWNER))
    assert cosigned_at(spoiled, "other", public(COSIGNER)) is None


def test_of_several_good_cosignatures_the_earliest_counts() -> None:
    identifier = key_id("other", COSIGNATURE_V1, public(COSIGNER))
    earlier = COSIGNER.sign(cosignature_message(5, NOTE.text))
    line = NoteSignature("other", identifier, (5).to_bytes(8, "big") + earlier)
    assert cosigned_at(with_lines(NOTE, line), "other", public(COSIGNER)) == 5


def test_a_time_beyond_the_standard_is_no_cosignature() -> None:
    time = MAXIMUM_NUMBER + 1
    signature = COSIGNER.sign(f"cosignature/v1\ntime {time}\n{TEXT}".encode())
    identifier = key_id("other", COSIGNATURE_V1, public(COSIGNER))
    note = SignedNote(TEXT, (NoteSignature("other", identifier, time.to_bytes(8, "big") + signature),))
    assert cosigned_at(note, "other", public(COSIGNER)) is None


def test_a_signature_of_one_kind_is_none_of_the_other() -> None:
    as_log = key_id("other", ED25519, public(COSIGNER))
    as_cosigner = key_id("log", COSIGNATURE_V1, public(OWNER))
    owner, cosigner = NOTE.signatures[:2]
    swapped = SignedNote(
        NOTE.text,
        (
            dataclasses.replace(owner, key_id=as_cosigner),
            dataclasses.replace(owner, key_id=as_cosigner, signature=bytes(8) + owner.signature),
            dataclasses.replace(cosigner, key_id=as_log),
            dataclasses.replace(cosigner, key_id=as_log, signature=cosigner.signature[8:]),
        ),
    )
    assert cosigned_at(swapped, "log", public(OWNER)) is None
    assert not is_signed_by(swapped, "other", public(COSIGNER))


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_a_changed_byte_is_refused_or_unproves_its_part_and_no_other(data: st.DataObject) -> None:
    good = NOTE.to_bytes()
    place, flip = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(1, 255))
    changed = good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :]
    try:
        note = SignedNote.parse(changed)
    except LedgerError:
        return
    found = (is_signed_by(note, "log", public(OWNER)), cosigned_at(note, "other", public(COSIGNER)))
    owner_line, cosigner_line, stranger_line = (
        good.index(name) for name in (b"\xe2\x80\x94 log", b" other", b" stranger")
    )
    if note.text != NOTE.text:  # also where an empty line comes to be among the signatures, which lengthens the text
        assert found == (False, None)
    elif place < cosigner_line:
        assert place > owner_line
        assert found == (False, 77)
    elif place < stranger_line:
        assert found == (True, None)
    else:
        assert found == (True, 77)
