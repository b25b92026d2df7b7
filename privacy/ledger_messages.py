"""Messages by which parties have their ledgers cosigned; see `ledger.batches`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from .message_types import (
    MAX_SITES,
    Consistency,
    Hashes,
    LogHead,
    Message,
    Path,
    PublicKey,
    Seconds,
    Signature,
    SiteCosignature,
    SiteName,
)
from .secure_aggregation.session import Counter, Digest


class Receipt(Message, frozen=True, tag="receipt"):
    """A signed checkpoint of the site's ledger, and what has arrived from the coordinator.

    Attributes:
        study: the study.
        round: the round that ended; closing: whether the study did.
        site: who sends it.
        size, root: of the ledger before this message's own entry.
        log_signature: by the ledger key, over the checkpoint's note.
        log_key: this key.
        since: size of the site's checkpoint in the batch that it cosigned last; 0 before the first.
        consistency: that the first ``since`` entries are the start of ``size``.
        known: size of the coordinator's checkpoint that this site cosigned last, from which it wants the next proof.
        received: wire hashes of what came from the coordinator since the last batch that this site cosigned.
        signature: by the site's identity, over all of this.
    """

    study: Digest
    round: Counter
    closing: bool
    site: SiteName
    size: Counter
    root: Digest
    log_signature: Signature
    log_key: PublicKey
    since: Counter
    consistency: Consistency
    known: Counter
    received: Hashes
    signature: Signature


class Batch(Message, frozen=True, tag="batch"):
    """One Merkle root over the checkpoints of all parties' ledgers, for the receiving site to cosign.

    Attributes:
        study: the study.
        round: the round that ended; closing: whether the study did.
        number: the size of the coordinator's ledger in this batch; it only rises.
        root: of the tree over one leaf a party, the coordinator's first, then in roster order.
        signature: the coordinator's, over the note of this root (see `ledger.witness`).
        path: from the receiving site's own leaf.
        log: checkpoint of the coordinator's ledger of size ``number``. log_path: from the coordinator's leaf.
        since: size of the coordinator's checkpoint that the site cosigned last; 0 before the first.
        consistency: that the first ``since`` entries are the start of ``number``.
        received: wire hashes of what came from the receiving site since the last batch that it cosigned.
        statement: the coordinator's signature over all of this, for this site.
    """

    study: Digest
    round: Counter
    closing: bool
    number: Counter
    root: Digest
    signature: Signature
    path: Path
    log: LogHead
    log_path: Path
    since: Counter
    consistency: Consistency
    received: Hashes
    statement: Signature


class Cosignature(Message, frozen=True, tag="cosignature"):
    """A site's cosignature of a batch.

    Attributes:
        study, round, closing, number, root: as the batch's.
        site: who signs.
        time: when, in seconds since 1970.
        signature: over the batch's note and the time (C2SP cosignature/v1).
    """

    study: Digest
    round: Counter
    closing: bool
    number: Counter
    root: Digest
    site: SiteName
    time: Seconds
    signature: Signature


class Cosigned(Message, frozen=True, tag="cosigned"):
    """Who cosigned a batch, and the hash of every leaf of it, so that each site can show what the others' ledgers were.

    Attributes:
        study, round, closing, number, root: as the batch's.
        leaves: 32 bytes a party, joined.
        cosignatures: of the sites that answered, in roster order.
    """

    study: Digest
    round: Counter
    closing: bool
    number: Counter
    root: Digest
    leaves: Annotated[bytes, msgspec.Meta(max_length=32 * (MAX_SITES + 1))]
    cosignatures: Annotated[tuple[SiteCosignature, ...], msgspec.Meta(max_length=MAX_SITES)]
