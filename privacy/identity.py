"""A site's long-term Ed25519 key: made once, kept encrypted, and bound to what each signature is about."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from .atomic import write_atomic
from .errors import DecryptionError, KeyStoreError
from .secure_aggregation.session import transcript

_CONSONANTS = "bdfghjklmnprstvz"
_VOWELS = "aiou"
_NONCE_BYTES = 12
_NOTES = (b"wardround/batch/", b"cosignature/v1\ntime ")


@dataclass(frozen=True, slots=True)
class SigningContext:
    """What a signature is about, beside its content.

    Attributes:
        study: the study's SHA-256, 32 bytes.
        roster: the roster's SHA-256, 32 bytes; all zero only for signatures over the roster itself.
        session: bytes of the session id; empty outside sessions.
    """

    study: bytes
    roster: bytes
    session: bytes = b""

    def statement(self, label: bytes, signer: str, parts: Sequence[bytes]) -> bytes:
        """The exact bytes that are signed: label, study, roster, session, signer, then the content."""
        return transcript(label, self.study, self.roster, self.session, signer.encode(), *parts)


class Identity:
    """An Ed25519 key pair. It shows its fingerprint, signs, and seals its owner's own files: no export, no pickle."""

    __slots__ = ("_private", "public_key")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public_key: bytes = private.public_key().public_bytes_raw()

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """The identity of a 32-byte secret seed; for simulations and tests, where keys must be reproducible."""
        if len(seed) != 32:
            raise KeyStoreError("an identity seed must have 32 bytes")
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def create(cls, path: Path, passphrase: bytes, *, seed: bytes | None = None) -> Identity:
        """Make a key and keep it at ``path`` (encrypted PKCS8, 0600).

        Args:
            path: must not exist yet; an identity is never overwritten.
            passphrase: at least 8 bytes.
            seed: 32 secret bytes to make it from; None for the operating system's randomness.

        Raises:
            KeyStoreError: when the file exists, the passphrase is too short or the file cannot be written.
        """
        if len(passphrase) < 8:
            raise KeyStoreError("the passphrase is shorter than 8 bytes", remedy="Choose a longer one.")
        if path.exists():
            raise KeyStoreError("an identity exists already", where=str(path), remedy="Load it instead.")
        identity = cls(Ed25519PrivateKey.generate()) if seed is None else cls.from_seed(seed)
        pem = identity._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))
        try:
            write_atomic(path, pem, 0o600)
        except OSError as error:
            raise KeyStoreError(f"the identity cannot be written: {error.strerror}", where=str(path)) from None
        return identity

    @classmethod
    def load(cls, path: Path, passphrase: bytes) -> Identity:
        """Read a key.

        Raises:
            KeyStoreError: when the file is missing, readable by others, locked by another passphrase or no such key.
        """
        try:
            mode = path.stat().st_mode & 0o777
            data = path.read_bytes()
        except OSError as error:
            raise KeyStoreError(f"the identity cannot be read: {error.strerror}", where=str(path)) from None
        if mode & 0o077:
            raise KeyStoreError(
                f"the identity is readable by others (mode {mode:03o})", where=str(path), remedy="chmod 600 it."
            )
        try:
            key = load_pem_private_key(data, passphrase)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # One message for a wrong passphrase and for a damaged file: which it was must not be told.
            raise KeyStoreError(
                "the identity cannot be unlocked", where=str(path), remedy="Check passphrase and file."
            ) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyStoreError("the file holds no Ed25519 key", where=str(path))
        return cls(key)

    @property
    def fingerprint(self) -> str:
        """Short words over the public key; see `fingerprint`."""
        return fingerprint(self.public_key)

    def sign(self, label: bytes, context: SigningContext, signer: str, *parts: bytes) -> bytes:
        """Sign ``parts`` under a label; 64 bytes."""
        return self._private.sign(context.statement(label, signer, parts))

    def sign_transcript(self, statement: bytes) -> bytes:
        """Sign the bytes of a transcript that names what it is about; 64 bytes.

        Raises:
            KeyStoreError: they are no transcript. These begin with a length below 2^24, notes with a letter.
        """
        if not statement.startswith(b"\0"):
            raise KeyStoreError("what is to be signed is no transcript")
        return self._private.sign(statement)

    def sign_note(self, text: bytes) -> bytes:
        """Sign the text of a note, such as a checkpoint; 64 bytes.

        Raises:
            KeyStoreError: it is no text of ours, which could be mistaken for something else that this identity signs.
        """
        if not text.startswith(_NOTES):
            raise KeyStoreError("what is to be signed is no note of a ledger")
        return self._private.sign(text)

    def commit(self, label: bytes, context: bytes, plain: bytes) -> bytes:
        """HMAC-SHA256 of ``plain`` under a key of this identity for one context; 32 bytes.

        Whoever gets the key of one context can check what was committed to there, and nothing else. The plain bytes
        of a masked vector are known to few, but can be guessed where they are few: a plain hash would tell.
        """
        kdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=transcript(label, self.public_key, context))
        return hmac.digest(kdf.derive(self._private.private_bytes_raw()), plain, "sha256")

    def seal(self, label: bytes, header: bytes, plain: bytes, nonce: bytes) -> bytes:
        """Encrypt a file of this identity's owner; only the same identity opens it.

        Args:
            label: what the file is for; its key serves nothing else.
            header: authenticated with the content, such as where it belongs.
            plain: the content.
            nonce: 12 fresh random bytes, because one key seals many versions of a file.

        Returns:
            The nonce, the encrypted content and a 16-byte tag.
        """
        if len(nonce) != _NONCE_BYTES:
            raise KeyStoreError(f"a nonce of {len(nonce)} bytes instead of {_NONCE_BYTES}")
        return nonce + AESGCM(self._storage_key(label)).encrypt(nonce, plain, header)

    def unseal(self, label: bytes, header: bytes, sealed: bytes) -> bytes:
        """What `seal` sealed under this label and header.

        Raises:
            DecryptionError: for anything wrong.
        """
        try:
            return AESGCM(self._storage_key(label)).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], header)
        except (InvalidTag, ValueError):
            raise DecryptionError from None

    def _storage_key(self, label: bytes) -> bytes:
        """A key of its own for files; HKDF keeps it apart from the signing key that it is derived from."""
        kdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=transcript(label, self.public_key))
        return kdf.derive(self._private.private_bytes_raw())

    def __repr__(self) -> str:
        return f"Identity({self.fingerprint})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an identity cannot be pickled or copied")


def verifies(
    public: Ed25519PublicKey, signature: bytes, label: bytes, context: SigningContext, signer: str, *parts: bytes
) -> bool:
    """Whether ``signature`` is ``signer``'s over exactly these parts in this context."""
    try:
        public.verify(signature, context.statement(label, signer, parts))
    except InvalidSignature:
        return False
    return True


def fingerprint_hex(public_key: bytes) -> str:
    """SHA-256 of the raw public key, hexadecimal."""
    return sha256(public_key).hexdigest()


def fingerprint(public_key: bytes) -> str:
    """Eight pronounceable words over 128 bits of the key's SHA-256, for reading out over a telephone.

    Each word carries 16 bits as consonant-vowel-consonant-vowel-consonant (proquints). 128 bits put a second key with
    the same words out of reach of any search.
    """
    digest = sha256(public_key).digest()
    words = []
    for i in range(0, 16, 2):
        value = int.from_bytes(digest[i : i + 2], "big")
        letters = (
            _CONSONANTS[value >> 12],
            _VOWELS[value >> 10 & 3],
            _CONSONANTS[value >> 6 & 15],
            _VOWELS[value >> 4 & 3],
            _CONSONANTS[value & 15],
        )
        words.append("".join(letters))
    return "-".join(words)
