"""A batch: one Merkle tree over the checkpoints of all parties' ledgers, whose root everybody signs.

Leaf 0 is the coordinator's ledger, leaf 1 + i that of roster site i. A leaf is the text of a checkpoint, so whoever has
a ledger can compute which leaf it must have been. The note of a batch is a C2SP checkpoint of this small tree: its
origin names study, roster and number, the coordinator signs it, sites cosign it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..merkle import HASH_BYTES, Tree, leaf_hash
from ..messages import Batch, Receipt
from ..secure_aggregation.roster import Roster
from ..secure_aggregation.session import transcript
from .checkpoints import Checkpoint
from .key_entries import origin_of

COORDINATOR = "coordinator"
COORDINATOR_KEY = "wardround/coordinator"
LABEL_RECEIPT = b"wardround/v1/receipt"
LABEL_BATCH = b"wardround/v1/batch"


def site_key_name(site: str) -> str:
    """The name under which a site's identity cosigns."""
    return f"wardround/site/{site}"


def batch_origin(roster: Roster, number: int) -> str:
    """The name of a batch's tree. Numbers rise under one roster; another roster of the same study begins anew."""
    return f"wardround/batch/{roster.study.hex()}/{roster.digest.hex()}/{number}"


def batch_checkpoint(roster: Roster, number: int, root: bytes) -> Checkpoint:
    """What is signed of a batch."""
    return Checkpoint(batch_origin(roster, number), len(roster.sites) + 1, root)


def identity_of(roster: Roster, party: str) -> bytes:
    """A party's raw identity key."""
    if party == COORDINATOR:
        return bytes.fromhex(roster.coordinator_key)
    return bytes.fromhex(roster.sites[roster.index[party]].public_key)


def index_of(roster: Roster, party: str) -> int:
    """A party's place among the leaves."""
    return 0 if party == COORDINATOR else roster.index[party] + 1


def ledger_leaf(identity: bytes, size: int, root: bytes) -> bytes:
    """Leaf hash of a party whose ledger has this size and root."""
    return leaf_hash(Checkpoint(origin_of(identity), size, root).text().encode())


def absent_leaf(party: str) -> bytes:
    """Leaf hash of a party that gave no checkpoint; no checkpoint's text begins like this."""
    return leaf_hash(b"absent\n" + party.encode() + b"\n")


@dataclass(frozen=True)
class Leaves:
    """The leaves of a batch.

    Attributes:
        hashes: one a party, 32 bytes each.
        tree: over them.
    """

    hashes: tuple[bytes, ...]
    tree: Tree

    @classmethod
    def of(cls, roster: Roster, ledgers: Mapping[str, tuple[int, bytes]]) -> Leaves:
        """The leaves of a batch over these parties' (size, root); the others are absent."""
        parties = (COORDINATOR, *roster.names)
        return cls.joined(
            b"".join(
                ledger_leaf(identity_of(roster, party), *ledgers[party]) if party in ledgers else absent_leaf(party)
                for party in parties
            )
        )

    @classmethod
    def joined(cls, data: bytes) -> Leaves:
        """Leaves from their joined hashes."""
        hashes = tuple(data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES))
        return cls(hashes, Tree(hashes))

    def to_bytes(self) -> bytes:
        """The hashes, joined."""
        return b"".join(self.hashes)


def receipt_parts(receipt: Receipt) -> tuple[bytes, ...]:
    """What a receipt's signature covers, beside context and signer."""
    return (
        _number(receipt.round),
        bytes([receipt.closing]),
        _number(receipt.size),
        receipt.root,
        receipt.log_signature,
        receipt.log_key,
        _number(receipt.since),
        receipt.consistency,
        _number(receipt.known),
        transcript(*receipt.received) if receipt.received else b"",
    )


def batch_parts(batch: Batch, site: str) -> tuple[bytes, ...]:
    """What the coordinator's statement in a batch covers, beside context and signer."""
    return (
        site.encode(),
        _number(batch.round),
        bytes([batch.closing]),
        _number(batch.number),
        batch.root,
        batch.signature,
        batch.path,
        batch.log.root,
        batch.log.key,
        batch.log.signature,
        batch.log_path,
        _number(batch.since),
        batch.consistency,
        transcript(*batch.received) if batch.received else b"",
    )


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")
