"""What the coordinator sends over a network, signed for one site: nobody else can put bytes into a site's hands.

A few messages of the protocol carry no signature of their own, such as the end of a round. In one process that does not
matter; on a network whoever speaks through the transport could end sessions with them. The envelope is the transport's:
the ledger at both ends has the exact bytes of the message inside. A repetition is left to the state machines, which
must stand a coordinator that repeats itself anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .egress import COORDINATOR, Sealed
from .errors import DecodeError
from .identity import Identity, SigningContext, verifies
from .secure_aggregation.roster import Roster

LABEL_ENVELOPE = b"wardround/v1/envelope"
SIGNATURE_BYTES = 64


def _context(roster: Roster) -> SigningContext:
    return SigningContext(roster.study, roster.digest)


@dataclass(frozen=True, slots=True)
class Envelopes:
    """The coordinator's side.

    Attributes:
        identity: the coordinator's. roster: of the study.
    """

    identity: Identity
    roster: Roster

    def pack(self, parcel: Sealed) -> bytes:
        """A parcel for the network: 64 bytes of signature, then the message."""
        parts = (parcel.peer.encode(), sha256(parcel.wire).digest())
        return self.identity.sign(LABEL_ENVELOPE, _context(self.roster), COORDINATOR, *parts) + parcel.wire


def unpack(data: bytes, roster: Roster, site: str) -> bytes:
    """The message in an envelope that is for this site.

    Args:
        data: what came. roster: of the study; its coordinator must have signed. site: who opens it.

    Raises:
        DecodeError: it is too short, of another study or coordinator, or for another site.
    """
    signature, wire = data[:SIGNATURE_BYTES], data[SIGNATURE_BYTES:]
    if len(signature) < SIGNATURE_BYTES or not roster.coordinator_key:
        raise DecodeError("no envelope of the coordinator")
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(roster.coordinator_key))
    parts = (site.encode(), sha256(wire).digest())
    if not verifies(key, signature, LABEL_ENVELOPE, _context(roster), COORDINATOR, *parts):
        raise DecodeError("an envelope that the coordinator did not sign for this site")
    return wire
