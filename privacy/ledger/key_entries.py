"""Which key signs a ledger's checkpoints from which entry on, as its own entries have it.

A ledger key is vouched for by the owner's identity, and by the key before it: whoever stole an old key cannot name the
next one, and nothing but the identity can. Each certificate is for one place in one ledger, so an old one cannot be
shown again to bring a stolen key back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ..identity import fingerprint_hex
from ..secure_aggregation.session import transcript
from .entries import Entry

LABEL_KEY = b"wardround/v1/ledger-key"
# Encodings of points of small order on edwards25519, little-endian with the sign of x cleared: y = 0, 1 and -1, the
# first two also unreduced, and the two y of order 8. Under such a key anybody's signature can be found by trying.
_LOW_ORDER = frozenset(
    bytes.fromhex(y)
    for y in (
        "00" * 32,
        "01" + "00" * 31,
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
)


def origin_of(identity: bytes) -> str:
    """A ledger's name in its checkpoints, by the owner's raw identity key; the same in all studies."""
    return f"wardround/ledger/{fingerprint_hex(identity)}"


def is_low_order(public: bytes) -> bool:
    """Whether a raw Ed25519 public key, 32 bytes, is of small order, so that signatures under it prove nothing."""
    return public[:31] + bytes([public[31] & 0x7F]) in _LOW_ORDER


def certificate(identity: bytes, sequence: int, previous: str, before: bytes, key: bytes) -> bytes:
    """What vouches for a ledger key: the bytes that identity, key before and key itself sign.

    Args:
        identity: the owner's raw public key.
        sequence, previous: the place of the key entry.
        before: the key before; empty for the first.
        key: the raw public key that takes over.
    """
    place = (sequence.to_bytes(8, "big"), bytes.fromhex(previous))
    return transcript(LABEL_KEY, origin_of(identity).encode(), *place, before, key)


@dataclass
class KeyChain:
    """Ledger keys so far.

    Attributes:
        identity: the owner's raw public key; empty before the first key entry.
        keys: (number of the entry, raw public key), in order.
        recovered: numbers of key entries that the key before did not sign: it was lost, or somebody has the identity.
    """

    identity: bytes = b""
    keys: list[tuple[int, bytes]] = field(default_factory=list)
    recovered: list[int] = field(default_factory=list)

    def at(self, size: int) -> bytes | None:
        """The key that signs a checkpoint over the first ``size`` entries; None before there is one."""
        return next((key for number, key in reversed(self.keys) if number < size), None)

    def refuses(self, entry: Entry) -> str:
        """What is wrong with a key entry, or an empty string."""
        try:
            facts = entry.facts or {}
            identity, key, signature = (bytes.fromhex(str(facts[n])) for n in ("identity", "public_key", "signature"))
            previous = bytes.fromhex(str(facts.get("previous_signature", "")))
            before = self.keys[-1][1] if self.keys else b""
            signed = certificate(identity, entry.sequence, entry.previous, before, key)
            own, signature = signature[64:], signature[:64]
            if len(key) != 32 or is_low_order(key):
                return "names a ledger key that is none"
            Ed25519PublicKey.from_public_bytes(identity).verify(signature, signed)
            Ed25519PublicKey.from_public_bytes(key).verify(own, signed)
            if previous:
                Ed25519PublicKey.from_public_bytes(before).verify(previous, signed)
        except (KeyError, ValueError, InvalidSignature):
            return "names a ledger key that is not vouched for"
        if self.identity and identity != self.identity:
            return "names a ledger key of another identity"
        return ""

    def follow(self, entry: Entry) -> None:
        """Take over the key of an entry that `refuses` finds nothing wrong with."""
        facts = entry.facts or {}
        self.identity = bytes.fromhex(str(facts["identity"]))
        if self.keys and not facts.get("previous_signature"):
            self.recovered.append(entry.sequence)
        self.keys.append((entry.sequence, bytes.fromhex(str(facts["public_key"]))))
