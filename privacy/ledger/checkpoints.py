"""Checkpoints of a log: its origin, size and root in a signed note, and who cosigned it when.

The log's owner signs the text of the note (Ed25519, type 0x01). A cosigner signs a header, a time and the same text
(cosignature/v1, type 0x04): as of that time, this is the largest tree of that origin that it has seen. No signature of
one kind passes for one of the other, since a text that begins with that header is no checkpoint.

Source: https://c2sp.org/tlog-checkpoint and https://c2sp.org/tlog-cosignature.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ..errors import LedgerError
from ..merkle import HASH_BYTES
from .notes import COSIGNATURE_V1, ED25519, NoteSignature, SignedNote, from_base64, is_line, key_id, to_base64

MAXIMUM_NUMBER = 2**63 - 1
"""Largest size, index and time that other tools read."""

_NUMBER = re.compile("0|[1-9][0-9]{0,18}")
_TIME_BYTES = 8
_REMEDY = "Get the file again from whoever holds it; a changed one proves nothing."


def parse_number(text: str) -> int | None:
    """A decimal of 0 to 2^63 - 1 without leading zeros or sign; None for anything else."""
    number = int(text) if _NUMBER.fullmatch(text) else None
    return None if number is None or number > MAXIMUM_NUMBER else number


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log was at a size.

    Attributes:
        origin: the log's own name; one line, not empty.
        size: leaves, 0 to 2^63 - 1.
        root: of the RFC 9162 tree over them, 32 bytes.
        extensions: further lines, none empty; ours have none.

    Raises:
        LedgerError: for values that have no checkpoint.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not is_line(self.origin) or not all(map(is_line, self.extensions)):
            raise LedgerError("a line of a checkpoint is empty or has control characters", remedy=_REMEDY)
        if not 0 <= self.size <= MAXIMUM_NUMBER:
            raise LedgerError("the size of a checkpoint is out of range", remedy=_REMEDY)
        if len(self.root) != HASH_BYTES:
            raise LedgerError(f"a root of {len(self.root)} bytes instead of {HASH_BYTES}", remedy=_REMEDY)

    def text(self) -> str:
        """The lines that are signed, each ended by a newline; `parse` gives the same checkpoint back."""
        lines = (self.origin, str(self.size), to_base64(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a note's text; `text` gives the same text back.

        Raises:
            LedgerError: for anything that is not exactly a checkpoint. The message does not quote it.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop():
            raise LedgerError("a checkpoint has fewer than three lines or an unended one", remedy=_REMEDY)
        size, root = parse_number(lines[1]), from_base64(lines[2])
        if size is None:
            raise LedgerError("the size of a checkpoint is no plain decimal", where="line 2", remedy=_REMEDY)
        if root is None:
            raise LedgerError("the root of a checkpoint is no base64", where="line 3", remedy=_REMEDY)
        return cls(lines[0], size, root, tuple(lines[3:]))


def cosignature_message(timestamp: int, text: str) -> bytes:
    """The bytes that a cosignature/v1 signs.

    Args:
        timestamp: seconds since 1970 (UTC), 0 to 2^63 - 1.
        text: of the checkpoint's note, with its last newline.

    Raises:
        LedgerError: for a time out of range.
    """
    if not 0 <= timestamp <= MAXIMUM_NUMBER:
        raise LedgerError("the time of a cosignature is out of range")
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def signed(checkpoint: Checkpoint, name: str, sign: Callable[[bytes], bytes], public_key: bytes) -> SignedNote:
    """The note of a checkpoint under its log's key.

    Args:
        checkpoint: what to sign.
        name: of the key; the origin, as a rule.
        sign: Ed25519 over exactly the bytes it is given; 64 bytes.
        public_key: the key that ``sign`` signs with, raw, 32 bytes.

    Raises:
        LedgerError: for a name or key that cannot be, and for a signature that is not of this key.
    """
    text = checkpoint.text()
    signature = sign(text.encode())
    if not _verifies(public_key, signature, text.encode()):
        raise LedgerError("the signature of a checkpoint is not of its key", remedy="Sign with the key that is named.")
    return SignedNote(text, (NoteSignature(name, key_id(name, ED25519, public_key), signature),))


def add_cosignature(note: SignedNote, name: str, public_key: bytes, timestamp: int, signature: bytes) -> SignedNote:
    """The note with one more signature line, a cosignature/v1.

    Args:
        note: of a checkpoint.
        name: of the cosigner's key.
        public_key: raw, 32 bytes.
        timestamp: seconds since 1970 that the cosigner signed with.
        signature: its 64 bytes over `cosignature_message`.

    Raises:
        LedgerError: for a signature that does not verify, and when this key has a line already.
    """
    identifier = key_id(name, COSIGNATURE_V1, public_key)
    if _lines_of(note, name, identifier):
        raise LedgerError("this key has cosigned the checkpoint already")
    if not _verifies(public_key, signature, cosignature_message(timestamp, note.text)):
        raise LedgerError("a cosignature does not verify", remedy="Ask the cosigner for it again.")
    line = NoteSignature(name, identifier, timestamp.to_bytes(_TIME_BYTES, "big") + signature)
    return SignedNote(note.text, (*note.signatures, line))


def is_signed_by(note: SignedNote, name: str, public_key: bytes) -> bool:
    """Whether the note has an Ed25519 signature (type 0x01) of this key, and no bad one under its name and id.

    Raises:
        LedgerError: for a name or key that cannot be.
    """
    lines = _lines_of(note, name, key_id(name, ED25519, public_key))
    return bool(lines) and all(_verifies(public_key, line, note.text.encode()) for line in lines)


def cosigned_at(note: SignedNote, name: str, public_key: bytes) -> int | None:
    """When this key cosigned the note (cosignature/v1), in seconds since 1970.

    Returns:
        The earliest time of its good lines; None when it has none, or a bad one.

    Raises:
        LedgerError: for a name or key that cannot be.
    """
    times = []
    for line in _lines_of(note, name, key_id(name, COSIGNATURE_V1, public_key)):
        timestamp, signature = int.from_bytes(line[:_TIME_BYTES], "big"), line[_TIME_BYTES:]
        if timestamp > MAXIMUM_NUMBER:
            return None
        if not _verifies(public_key, signature, cosignature_message(timestamp, note.text)):
            return None
        times.append(timestamp)
    return min(times, default=None)


def _lines_of(note: SignedNote, name: str, identifier: bytes) -> list[bytes]:
    return [line.signature for line in note.signatures if (line.name, line.key_id) == (name, identifier)]


def _verifies(public_key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
