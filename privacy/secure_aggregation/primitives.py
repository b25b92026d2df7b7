"""The primitives as this protocol uses them: X25519, HKDF, AES-256-GCM as box and as key stream, the hashes.

Every label is a named constant, so that nothing derived or signed for one use can serve another.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import AEADEncryptionContext, Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from ..errors import DecryptionError
from ..merkle import leaf_hash
from .session import SessionId, transcript

LABEL_ADVERT = b"wardround/v1/advert"
LABEL_COMMIT = b"wardround/v1/commit-b"
LABEL_SEAL = b"wardround/v1/seal-shares"
LABEL_SHARE_HASH = b"wardround/v1/share-hash"
LABEL_SHARE_LEAF = b"wardround/v1/share-leaf"
LABEL_SHARES = b"wardround/v1/shares"
LABEL_SELF_MASK = b"wardround/v1/self-mask"
LABEL_PAIR_MASK = b"wardround/v1/pair-mask"
LABEL_VECTOR = b"wardround/v1/masked-vector"
LABEL_CHECKSUM = b"wardround/v1/checksum"
LABEL_SHARERS = b"wardround/v1/sharers"
LABEL_SURVIVORS = b"wardround/v1/survivors"
LABEL_ADVERTS = b"wardround/v1/adverts"
LABEL_AGREE = b"wardround/v1/agree"
LABEL_ANSWER = b"wardround/v1/unmask-answer"
LABEL_ROUNDING = b"wardround/v1/rounding"
LABEL_STORE = b"wardround/v1/session-store"

KEY_BYTES = 32
TAG_BYTES = 16
_ZERO_NONCE = bytes(12)
_STRETCH = 32_768
"""Words masked at a time: 128 KiB, a multiple of AES's block."""

Words = NDArray[np.uint32]

# Encodings of points of small order on Curve25519, little-endian with the top bit cleared (RFC 7748 masks it):
# 0, 1, two of order 8, p - 1, p, p + 1. With any of them every shared secret is zero, whatever the other key.
_P = 2**255 - 19
_LOW_ORDER = frozenset(
    value.to_bytes(32, "little")
    for value in (
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _P - 1,
        _P,
        _P + 1,
    )
)


def is_low_order(public: bytes) -> bool:
    """Whether `exchange` with this X25519 key would give the all-zero secret."""
    return public[:31] + bytes([public[31] & 0x7F]) in _LOW_ORDER


def exchange(private: X25519PrivateKey, public: bytes) -> bytes:
    """X25519; 32 bytes.

    Raises:
        ValueError: for a low-order key.
    """
    return private.exchange(X25519PublicKey.from_public_bytes(public))


def derive(secret: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 without salt; 32 bytes. ``info`` starts with a label and names session and sites."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)


def digest(label: bytes, *parts: bytes) -> bytes:
    """SHA-256 over an unambiguous transcript; 32 bytes."""
    return hashlib.sha256(transcript(label, *parts)).digest()


def commitment(session: SessionId, site: str, b: bytes) -> bytes:
    """Commitment to b. It hides b because b has 256 random bits, and binds because SHA-256 does."""
    return digest(LABEL_COMMIT, session.to_bytes(), site.encode(), b)


def self_mask_key(b: bytes, session: SessionId, site: str) -> bytes:
    """Key of the mask that a site adds for itself."""
    info = transcript(LABEL_SELF_MASK, session.to_bytes(), site.encode(), session.purpose.encode())
    return derive(b, info)


def pair_mask_key(private: X25519PrivateKey, public: bytes, session: SessionId, one: str, other: str) -> bytes:
    """Key of the mask that two sites share; the same from both sides.

    Raises:
        ValueError: for a low-order key.
    """
    low, high = sorted((one, other))
    purpose = session.purpose.encode()
    info = transcript(LABEL_PAIR_MASK, session.to_bytes(), low.encode(), high.encode(), purpose)
    return derive(exchange(private, public), info)


def apply_masks(total: Words, add: Sequence[bytes], subtract: Sequence[bytes]) -> None:
    """total += sum of PRG(key) over ``add`` - sum of PRG(key) over ``subtract``, modulo 2^32, in place.

    PRG is AES-256-GCM over zeros, its tag not used: the AES-256-CTR key stream from nonce || 00000002, and the fastest
    stream in ``cryptography``. All masks are applied to one stretch of ``total`` before the next, so that it stays in
    the processor's cache.

    Args:
        total: array of shape (d,), uint32.
        add, subtract: 32-byte keys, each for this one mask only.
    """
    zeros = memoryview(bytes(4 * _STRETCH))
    buffer = bytearray(4 * _STRETCH + TAG_BYTES)  # update_into asks for room for one block more
    # "<u4": the ring's words are little-endian on every machine, so that all sites expand a key alike.
    words = np.frombuffer(buffer, dtype="<u4", count=_STRETCH)
    added, subtracted = [_stream(key) for key in add], [_stream(key) for key in subtract]
    for start in range(0, total.size, _STRETCH):
        part = total[start : start + _STRETCH]
        blank, mask = zeros[: 4 * part.size], words[: part.size]
        for stream in added:
            stream.update_into(blank, buffer)
            np.add(part, mask, out=part)
        for stream in subtracted:
            stream.update_into(blank, buffer)
            np.subtract(part, mask, out=part)


def _stream(key: bytes) -> AEADEncryptionContext:
    # A repeated nonce ruins GCM only under one key. Every key here is derived for one session, one pair of sites (or
    # one site) and one purpose, from secrets drawn for that session, and expands exactly one mask; so the nonce can
    # be constant, and zero says so plainly.
    return Cipher(algorithms.AES256(key), modes.GCM(_ZERO_NONCE)).encryptor()


class Sealer:
    """The direction from one site to another: one key, which seals exactly one pair of shares."""

    def __init__(self, shared: bytes, session: SessionId, sender: str, to: str, keys: tuple[bytes, bytes]) -> None:
        """``shared`` is the X25519 secret; ``keys`` are the sender's and the recipient's channel keys."""
        names = (session.to_bytes(), sender.encode(), to.encode())
        self._key = derive(shared, transcript(LABEL_SEAL, *names, *keys))
        self._header = transcript(LABEL_SEAL, *names)

    def seal(self, plain: bytes) -> bytes:
        """Encrypt and authenticate; 16 bytes longer."""
        # Zero nonce: this key is derived from fresh channel keys for this session and this direction and seals this
        # one message; the message is stored and sent again as the same bytes, never sealed a second time.
        return AESGCM(self._key).encrypt(_ZERO_NONCE, plain, self._header)

    def open(self, box: bytes) -> bytes:
        """Decrypt.

        Raises:
            DecryptionError: for anything wrong.
        """
        try:
            return AESGCM(self._key).decrypt(_ZERO_NONCE, box, self._header)
        except (InvalidTag, ValueError):
            raise DecryptionError from None


def share_hash(session: SessionId, dealer: str, to: str, kind: str, share: bytes) -> bytes:
    """Hash of one share, by which whoever opens it later can be held to it."""
    # There are 2 n (n - 1) of these in a sum, so parts that come again are joined once; a transcript of parts is their
    # transcripts one after the other.
    parts = (_share_hash_head(session), name_part(dealer), name_part(to), KIND_PARTS[kind], transcript(share))
    return hashlib.sha256(b"".join(parts)).digest()


@lru_cache(maxsize=64)
def _share_hash_head(session: SessionId) -> bytes:
    return transcript(LABEL_SHARE_HASH, session.to_bytes())


@lru_cache(maxsize=4096)
def name_part(name: str) -> bytes:
    """The transcript of one name."""
    return transcript(name.encode())


KIND_PARTS = {"b": transcript(b"b"), "s": transcript(b"s")}
"""The transcript of each kind of share."""


def share_leaf(to: str, box: bytes, b_hash: bytes, s_hash: bytes) -> bytes:
    """Leaf hash of one recipient's sealed shares; the dealer signs the root of the tree of these."""
    return leaf_hash(b"".join((_SHARE_LEAF_HEAD, name_part(to), transcript(box, b_hash, s_hash))))


_SHARE_LEAF_HEAD = transcript(LABEL_SHARE_LEAF)


def rounding_key(session: SessionId, site: str) -> bytes:
    """What rounds one site's packed blocks in one sum, the same in every attempt; public, see `encoding.encode`."""
    first = SessionId(session.study, session.round, session.purpose, session.sequence, 0)
    return digest(LABEL_ROUNDING, first.to_bytes(), site.encode())


def checksum(session: SessionId, site: str, vector: bytes) -> bytes:
    """16-byte GHASH of a masked vector under a public key, twenty times faster than SHA-256.

    Its key is public, so it stops damage, not forgery. That is all it is for: it is signed, which ties it to site and
    session, and the only party who could gain by forging a vector is the coordinator, who may change the sum anyway.
    """
    key = digest(LABEL_CHECKSUM, session.to_bytes(), site.encode())
    return AESGCM(key).encrypt(_ZERO_NONCE, b"", vector)


def same(one: bytes, other: bytes) -> bool:
    """Equality in constant time."""
    return hmac.compare_digest(one, other)
