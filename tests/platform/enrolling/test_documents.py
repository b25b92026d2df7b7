"""Documents are read with distrust: whatever is not exactly what this program writes is refused in words."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.enrolling.documents import (
    LARGEST,
    Approval,
    Invitation,
    Kit,
    Request,
    SignedRoster,
    parse_document,
    read_any,
    read_document,
    sign_document,
    verify,
    write_document,
)
from wardround.platform.enrolling.errors import EnrolmentError
from wardround.platform.enrolling.words import same_words
from wardround.privacy.atomic import canonical_json
from wardround.privacy.identity import Identity, fingerprint

KEY, OTHER = Identity.from_seed(b"k" * 32), Identity.from_seed(b"o" * 32)
HASH = "ab" * 32
PEM = "-----BEGIN X-----\nabc\n-----END X-----\n"
DOCUMENTS = [
    Invitation({"name": "x", "lr": 1.0, "list": [0.5]}, HASH, KEY.public_key.hex(), "host", 8002, 8002, 1),
    Request(HASH, HASH, "amber", KEY.public_key.hex(), 40, PEM, HASH),
    Kit(HASH, HASH, "amber", '{"a":1}', PEM, PEM, 1),
    Approval(HASH, "amber", HASH, "cd" * 64),
    SignedRoster(HASH, '{"a":1}', {"amber": "cd" * 64}),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: type(each).__name__)
def test_each_kind_is_read_back_equal_and_its_signature_holds(document: Any, tmp_path: Path) -> None:
    written = write_document(tmp_path / "d.json", document, KEY)
    assert (tmp_path / "d.json").stat().st_mode & 0o777 == 0o600
    read = read_document(tmp_path / "d.json", type(document))
    assert (read.document, read.sha256, read.data) == (document, written.sha256, (tmp_path / "d.json").read_bytes())
    verify(read, KEY.public_key)
    with pytest.raises(EnrolmentError, match=r"the signature of .* is wrong"):
        verify(read, OTHER.public_key)
    assert sign_document(document, KEY).data == written.data


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: type(each).__name__)
def test_no_byte_of_a_file_can_be_changed(document: Any) -> None:
    data = sign_document(document, KEY).data
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(EnrolmentError):
            verify(parse_document(changed, "d.json"), KEY.public_key)


def test_a_signature_is_for_one_kind_and_one_side() -> None:
    signature = sign_document(DOCUMENTS[1], KEY).signature
    kit = sign_document(Request(HASH, HASH, "beech", KEY.public_key.hex(), 40, PEM, HASH), KEY)
    swapped = kit.data.replace(kit.signature.hex().encode(), signature.hex().encode())
    with pytest.raises(EnrolmentError, match="not made by the site 'beech'"):
        verify(parse_document(swapped, "d"), KEY.public_key)


def _file(document: Any, signature: str = "00" * 64) -> bytes:
    return canonical_json({"document": document, "signature": signature}) + b"\n"


BASE: dict[str, Any] = json.loads(sign_document(DOCUMENTS[3], KEY).data)["document"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no document"),
        (b"hello", "no document"),
        (b"\xff\xfe", "no document"),
        (b"[" * 100_000, "no document"),
        (_file({**BASE, "format": 2}), "version 2"),
        (_file({**BASE, "kind": "love letter"}), "what does not belong"),
        (_file({**BASE, "more": 1}), "what does not belong"),
        (_file({**BASE, "site": "../amber"}), "what does not belong"),
        (_file({**BASE, "site": "amber\n"}), "what does not belong"),
        (_file({**BASE, "roster_sha256": "AB" * 32}), "what does not belong"),
        (_file({key: value for key, value in BASE.items() if key != "site"}), "what does not belong"),
        (_file(BASE).replace(b",", b", "), "changed after"),
        (_file(BASE)[:-1], "changed after"),
        (_file(BASE) + b" ", "changed after"),
        (_file(BASE).replace(b'"site":"amber"', b'"site":"beech","site":"amber"'), "changed after"),
        (b" " * (LARGEST + 1), "larger than 1 MiB"),
    ],
)
def test_whatever_is_no_document_is_refused_in_words(data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "d.json").write_bytes(data)
    with pytest.raises(EnrolmentError, match=words) as caught:
        read_any(tmp_path / "d.json")
    assert caught.value.where == str(tmp_path / "d.json")
    assert caught.value.remedy


def test_another_kind_a_folder_a_pipe_and_nothing_at_all(tmp_path: Path) -> None:
    write_document(tmp_path / "kit.json", DOCUMENTS[2], KEY)
    with pytest.raises(EnrolmentError, match="this is a kit; a request to take part is wanted"):
        read_document(tmp_path / "kit.json", Request)
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("pipe", "not a file"), (".", "not a file"), ("gone", "no such file")):
        with pytest.raises(EnrolmentError, match=words):
            read_any(tmp_path / name)


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31mred", "tail\u202egnp", "nul\0", "\u2028"])
def test_a_text_that_a_terminal_would_obey_is_neither_written_nor_read(text: str) -> None:
    document = Invitation({"name": [{"x": text}]}, HASH, KEY.public_key.hex(), "host", 8002, 8002, 1)
    with pytest.raises(EnrolmentError, match="control character"):
        sign_document(document, KEY)
    innocent = Invitation({"name": [{"x": "here"}]}, HASH, KEY.public_key.hex(), "host", 8002, 8002, 1)
    values = json.loads(sign_document(innocent, KEY).data)["document"]
    values["study"]["name"][0]["x"] = text
    with pytest.raises(EnrolmentError, match="control character"):
        parse_document(_file(values), "d.json")


@pytest.mark.parametrize(
    "document",
    [
        Request(HASH, HASH, "amber", KEY.public_key.hex(), 0, PEM, HASH),
        Request(HASH, HASH, "Amber", KEY.public_key.hex(), 40, PEM, HASH),
        Kit(HASH, HASH, "amber", "x" * LARGEST, PEM, PEM, 1),
        Invitation({"x": 2**60}, HASH, KEY.public_key.hex(), "host", 8002, 8002, 1),
        Invitation({"x": 1}, HASH, KEY.public_key.hex(), "host name", 8002, 8002, 1),
    ],
)
def test_what_could_not_be_read_is_not_written(document: Any, tmp_path: Path) -> None:
    with pytest.raises(EnrolmentError):
        write_document(tmp_path / "d.json", document, KEY)
    assert not list(tmp_path.iterdir())


def test_words_are_compared_whole_however_they_are_typed() -> None:
    words = fingerprint(KEY.public_key)
    for typed in (words, words.upper(), words.replace("-", " "), f"  {words.replace('-', ', ')}. "):
        assert same_words(typed, KEY.public_key)
    short, other = words.rsplit("-", 1)[0], fingerprint(OTHER.public_key)
    for typed in ("", short, words + "-babab", other, words.replace(words[0], "q", 1)):
        assert not same_words(typed, KEY.public_key)
