"""Signed notes: a text and the signatures under it, as C2SP signed-note writes them.

A note is the text, an empty line, and a line for each signature: em dash, name of the key, and base64 of its four-byte
id and the signature. Names and ids only say which key to try: trust comes from a key that the reader had before, and a
line of any other key is kept, never believed. The reader is strict, so that a note has one form only.

Source: https://c2sp.org/signed-note (Ed25519, type 0x01) and https://c2sp.org/tlog-cosignature (type 0x04).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from hashlib import sha256

from ..errors import LedgerError

ED25519 = 0x01
COSIGNATURE_V1 = 0x04
KEY_ID_BYTES = 4
PUBLIC_KEY_BYTES = 32
MAXIMUM_SIGNATURES = 2048
"""More than a study's 1000 sites, its coordinator and other witnesses; the standard asks for at least 16."""

_PREFIX = "— "
_REMEDY = "Get the file again from whoever holds it; a changed one proves nothing."
# What no line of a note may hold: control characters, and halves of characters that have no UTF-8 form.
_BARRED = re.compile("[\x00-\x1f\ud800-\udfff]")


def is_line(text: str) -> bool:
    """Whether a text can be one line of a note that is not empty."""
    return bool(text) and not _BARRED.search(text)


def to_base64(data: bytes) -> str:
    """Standard base64 with padding; RFC 4648, section 4."""
    return base64.b64encode(data).decode()


def from_base64(text: str) -> bytes | None:
    """The bytes whose only base64 is ``text``; None for anything else (other alphabet, missing padding, spare bits)."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return data if to_base64(data) == text else None


def _check_name(name: str) -> None:
    if not is_line(name) or "+" in name or any(character.isspace() for character in name):
        raise LedgerError("the name of a key is empty or has a space, a plus or a control character", remedy=_REMEDY)


def key_id(name: str, kind: int, public_key: bytes) -> bytes:
    """The four bytes by which signature lines name a key: SHA-256(name || newline || kind || public key), cut.

    Args:
        name: not empty, without spaces and plus.
        kind: `ED25519` or `COSIGNATURE_V1`; one key has another id in each.
        public_key: raw Ed25519 key, 32 bytes.

    Raises:
        LedgerError: for a name, kind or key that cannot be.
    """
    _check_name(name)
    if kind not in (ED25519, COSIGNATURE_V1):
        raise LedgerError("a key of a kind that is not read here", remedy="Use Ed25519 or cosignature/v1.")
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise LedgerError(f"a public key of {len(public_key)} bytes instead of {PUBLIC_KEY_BYTES}")
    return sha256(name.encode() + b"\n" + bytes([kind]) + public_key).digest()[:KEY_ID_BYTES]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with the name it signs under.

    Attributes:
        name: not empty, without spaces and plus.
        kind: `ED25519` or `COSIGNATURE_V1`.
        public_key: raw Ed25519 key, 32 bytes.
    """

    name: str
    kind: int
    public_key: bytes


def verifier_key(name: str, public_key: bytes, kind: int = ED25519) -> str:
    """A key as other tools read it: ``name+id+key``, id in hexadecimal, kind and key in base64.

    Raises:
        LedgerError: for a name, kind or key that cannot be.
    """
    return f"{name}+{key_id(name, kind, public_key).hex()}+{to_base64(bytes([kind]) + public_key)}"


def parse_verifier_key(text: str) -> VerifierKey:
    """Read what `verifier_key` writes.

    Raises:
        LedgerError: for any other form, an id that is not the key's, or a kind that is not read here.
    """
    name, _, rest = text.partition("+")
    encoded = rest.partition("+")[2]  # which may have a plus of its own
    data = from_base64(encoded)
    if not data:
        raise LedgerError("a verifier key is malformed", remedy="It has the form name+id+key.")
    key = VerifierKey(name, data[0], data[1:])
    if verifier_key(key.name, key.public_key, key.kind) != text:
        raise LedgerError("a verifier key's id is not that of its name and key", remedy="Ask its owner for it again.")
    return key


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """A signature line; who it names and what it says is unproved until it is verified.

    Attributes:
        name: of the key.
        key_id: 4 bytes.
        signature: at least one byte: 64 for Ed25519, 8 of a time and 64 for cosignature/v1, others for other kinds.

    Raises:
        LedgerError: for values that have no line.
    """

    name: str
    key_id: bytes
    signature: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.key_id) != KEY_ID_BYTES:
            raise LedgerError(f"a key id of {len(self.key_id)} bytes instead of {KEY_ID_BYTES}", remedy=_REMEDY)
        if not self.signature:
            raise LedgerError("a signature of a note is empty", remedy=_REMEDY)


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A text and the signatures under it. Having one says nothing about whether they are good.

    Attributes:
        text: ends in a newline; no other control characters.
        signatures: 1 to `MAXIMUM_SIGNATURES`, in the order of the file, of known and unknown keys.

    Raises:
        LedgerError: for values that have no such form.
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    def __post_init__(self) -> None:
        if not self.text.endswith("\n") or _BARRED.search(self.text.replace("\n", "")):
            raise LedgerError("a note's text does not end in a newline or has control characters", remedy=_REMEDY)
        if not 1 <= len(self.signatures) <= MAXIMUM_SIGNATURES:
            raise LedgerError(f"a note with {len(self.signatures)} signatures", remedy=_REMEDY)

    def to_bytes(self) -> bytes:
        """The file's bytes; `parse` gives the same note back."""
        lines = [f"{_PREFIX}{s.name} {to_base64(s.key_id + s.signature)}\n" for s in self.signatures]
        return (self.text + "\n" + "".join(lines)).encode()

    @classmethod
    def parse(cls, data: bytes) -> SignedNote:
        """Read a note's bytes; `to_bytes` gives the same bytes back.

        Raises:
            LedgerError: for anything that is not exactly a note. The message names the place, not what stood there.
        """
        try:
            whole = data.decode()
        except UnicodeDecodeError as error:
            raise LedgerError("a note is not UTF-8", where=f"byte {error.start}", remedy=_REMEDY) from None
        end = whole.rfind("\n\n") + 1  # the text may have empty lines: the last one of all ends it
        if not end:
            raise LedgerError("a note has no empty line before its signatures", remedy=_REMEDY)
        text, tail = whole[:end], whole[end + 1 :]
        if not tail.endswith("\n"):
            raise LedgerError("a note does not end in a line with a signature", remedy=_REMEDY)
        lines = tail[:-1].split("\n")
        if len(lines) > MAXIMUM_SIGNATURES:
            raise LedgerError(f"a note with {len(lines)} signatures", remedy=_REMEDY)
        return cls(text, tuple(_parse_line(line, number) for number, line in enumerate(lines, start=1)))


def _parse_line(line: str, number: int) -> NoteSignature:
    name, _, encoded = line.removeprefix(_PREFIX).partition(" ")
    data = from_base64(encoded)
    if not line.startswith(_PREFIX) or data is None:
        raise LedgerError("a signature of a note is malformed", where=f"signature line {number}", remedy=_REMEDY)
    try:
        return NoteSignature(name, data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])
    except LedgerError as error:
        raise LedgerError(error.what, where=f"signature line {number}", remedy=error.remedy) from None
