"""The files that people carry between hospitals and a coordinator: typed, signed, and read with distrust.

Each is one line of canonical JSON (RFC 8785), ``{"document": …, "signature": …}``, signed by an Ed25519 identity under
a label of its kind and the study's hash. None holds a secret. A file is read only if its bytes are exactly those that
this program writes: nothing can be hidden in it, and equal documents are equal files.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ...privacy.atomic import canonical_json, write_atomic
from ...privacy.egress import COORDINATOR
from ...privacy.identity import Identity, SigningContext, verifies
from .errors import EnrolmentError
from .kinds import FEWEST_SAMPLES as FEWEST_SAMPLES
from .kinds import FORMAT, WORDS, Kind, Signature
from .kinds import Approval as Approval
from .kinds import Document as Document
from .kinds import Invitation as Invitation
from .kinds import Kit as Kit
from .kinds import Request as Request
from .kinds import SignedRoster as SignedRoster

LARGEST = 1024 * 1024
_LABEL = b"wardround/v1/enrolment/"
_LINES = frozenset({"csr", "authority", "certificate"})  # PEM, which has line breaks
_AGAIN = "Ask whoever sent it to send the file again, unchanged"


@dataclass(frozen=True, slots=True)
class Signed(Generic[Kind]):
    """A document with its signature, which was not checked yet unless `verify` was called.

    Attributes:
        document: the typed content.
        content: its canonical JSON: what is hashed and signed.
        signature: 64 bytes.
        source: the file that it came from, for messages; empty for one that was made here.
    """

    document: Kind
    content: bytes
    signature: bytes
    source: str = ""

    @property
    def sha256(self) -> str:
        """SHA-256 of `content`, 64 hexadecimal digits: how other documents name this one. Ledgers name the file."""
        return sha256(self.content).hexdigest()

    @property
    def data(self) -> bytes:
        """The bytes of the whole file."""
        return b'{"document":' + self.content + b',"signature":"' + self.signature.hex().encode() + b'"}\n'


class _File(msgspec.Struct, forbid_unknown_fields=True):
    document: msgspec.Raw
    signature: Signature


class _Header(msgspec.Struct):
    kind: str
    format: int


def sign_document(document: Kind, identity: Identity) -> Signed[Kind]:
    """A document, signed by the side that such documents come from; the same document and key give the same bytes.

    Raises:
        EnrolmentError: a value is not as such documents have it, or a text holds a control character.
    """
    content = _content(document)
    kind = type(document)
    try:
        read = msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError as error:
        raise EnrolmentError(f"{WORDS[kind]} cannot be made so: {error}") from None
    _check_texts(msgspec.to_builtins(read), WORDS[kind], "")
    if len(content) > LARGEST - 1024:
        raise EnrolmentError(f"{WORDS[kind]} would be too large: {len(content)} bytes, at most {LARGEST - 1024}")
    return Signed(document, content, identity.sign(_label(document), _context(document), signer(document), content))


def write_document(path: Path, document: Kind, identity: Identity) -> Signed[Kind]:
    """Sign a document and write its file, whole or not at all; mode 0600.

    Raises:
        EnrolmentError: as `sign_document`.
        OSError: as the file system reports it.
    """
    signed = sign_document(document, identity)
    write_atomic(path, signed.data)
    return signed


def read_document(path: Path, kind: type[Kind]) -> Signed[Kind]:
    """Read a document of one kind; its signature is not checked yet.

    Raises:
        EnrolmentError: there is no such file, it is another kind, another version, damaged or too large.
    """
    signed = read_any(path)
    if type(signed.document) is not kind:
        raise EnrolmentError(
            f"this is {WORDS[type(signed.document)]}; {WORDS[kind]} is wanted",
            where=str(path),
            remedy=f"Give the file of {WORDS[kind]}",
        )
    return signed


def read_any(path: Path) -> Signed[Any]:
    """Read a document of whatever kind; its signature is not checked yet.

    Raises:
        EnrolmentError: there is no such file, it is no document of this version, damaged or too large.
    """
    return parse_document(_read(path), str(path))


def parse_document(data: bytes, source: str) -> Signed[Any]:
    """A document from the bytes of its file.

    Args:
        data: the file. source: where it came from, for messages.

    Raises:
        EnrolmentError: as `read_any`.
    """
    if len(data) > LARGEST:
        raise EnrolmentError("the file is larger than 1 MiB, which no document is", where=source, remedy=_AGAIN)
    try:
        file = msgspec.json.decode(data, type=_File)
        header = msgspec.json.decode(file.document, type=_Header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise EnrolmentError(
            "this is no document of an enrolment, or is damaged", where=source, remedy=_AGAIN
        ) from None
    if header.format != FORMAT:
        raise EnrolmentError(
            f"the document is of version {header.format}; this program reads version {FORMAT}",
            where=source,
            remedy="Use the same version of Wardround on both sides",
        )
    try:
        document = msgspec.json.decode(file.document, type=Document)
        signed: Signed[Any] = Signed(document, _content(document), bytes.fromhex(file.signature), source)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise EnrolmentError(
            "the document lacks something, or holds what does not belong into it", where=source, remedy=_AGAIN
        ) from None
    if signed.data != data:
        raise EnrolmentError("the document was changed after it was written", where=source, remedy=_AGAIN)
    _check_texts(msgspec.to_builtins(document), "the document", source)
    return signed


def verify(signed: Signed[Any], public_key: bytes) -> None:
    """Check that the side that such documents come from signed this one.

    Args:
        signed: the document. public_key: raw Ed25519 public key of that side, 32 bytes.

    Raises:
        EnrolmentError: the signature is another's, or over something else.
    """
    document = signed.document
    try:
        key = Ed25519PublicKey.from_public_bytes(public_key)
    except ValueError:
        raise EnrolmentError("the public key is none", where=signed.source) from None
    if not verifies(key, signed.signature, _label(document), _context(document), signer(document), signed.content):
        by = "the coordinator" if signer(document) == COORDINATOR else f"the site '{signer(document)}'"
        raise EnrolmentError(
            f"the signature of {WORDS[type(document)]} is wrong: it was changed, or not made by {by}",
            where=signed.source,
            remedy="Do not use it. Ask by telephone, at a number that you had before, for the file to be sent again",
        )


def signer(document: Document) -> str:
    """Who signs such a document: a site's name, or ``coordinator``."""
    return document.site if isinstance(document, Request | Approval) else COORDINATOR


def project_of(study_hash: str) -> str:
    """The name of a study's consortium in FLARE's files and certificates, the same at every side."""
    return f"wardround-{study_hash[:16]}"


def _label(document: Document) -> bytes:
    kind = document.__struct_config__.tag
    return _LABEL + str(kind).encode()


def _context(document: Document) -> SigningContext:
    return SigningContext(bytes.fromhex(document.study_hash), bytes(32))


def _content(document: Document) -> bytes:
    try:
        return canonical_json(msgspec.to_builtins(document))
    except (ValueError, UnicodeError):  # such as a number beyond 2^53, or half a surrogate pair
        raise EnrolmentError("the document holds a value that cannot be written", remedy=_AGAIN) from None


def _check_texts(value: Any, what: str, source: str, key: str = "") -> None:
    """Refuse characters that a terminal obeys or that hide others; line breaks are for certificates alone."""
    if isinstance(value, dict):
        for name, each in value.items():
            _check_texts(name, what, source)
            _check_texts(each, what, source, name)
    elif isinstance(value, list | tuple):
        for each in value:
            _check_texts(each, what, source)
    elif isinstance(value, str):
        shown = value.replace("\n", "") if key in _LINES else value
        if not shown.isprintable():
            bad = next(c for c in shown if not c.isprintable())
            raise EnrolmentError(
                f"a text in {what} holds the control character U+{ord(bad):04X}",
                where=source,
                remedy="Write it without",
            )


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not keep us waiting
        try:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            data = _at_most(descriptor, LARGEST + 1) if regular else b""
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise EnrolmentError("there is no such file", where=str(path), remedy="Check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = error.strerror if isinstance(error, OSError) else "this is no path"
        raise EnrolmentError(f"the file cannot be read: {reason}", where=str(path), remedy="Check the path") from None
    if not regular:
        raise EnrolmentError("this is not a file", where=str(path), remedy="Give the file itself")
    return data


def _at_most(descriptor: int, largest: int) -> bytes:
    found = b""
    while len(found) < largest and (part := os.read(descriptor, largest - len(found))):
        found += part
    return found
