"""Whether one cosigned checkpoint is true, and of this ledger."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ..errors import DecodeError
from ..identity import SigningContext, verifies
from ..messages import Batch, Limits, Message, Receipt, decode
from ..secure_aggregation.roster import Roster
from . import batches as b
from .checkpoints import Checkpoint, cosigned_at, is_signed_by
from .evidence import Evidence
from .key_entries import origin_of
from .proofs import proves

if TYPE_CHECKING:
    from .verified import Verified


@dataclass
class Judged:
    """One cosigned checkpoint and what is to be said of it.

    Attributes:
        evidence: as it was kept.
        size: of the ledger in it. number: of the batch. roster: hash of its roster, hexadecimal.
        study, round: that the batch followed; round -1 where nobody's message says it.
        problems, notes: as `verified.Verified`.
        cosigners: by site, when it cosigned, in seconds since 1970.
        fits: whether it is of this ledger. signed: whether the coordinator signed the batch that it is in.
        enough: whether as many cosigned as the roster's threshold.
        acknowledged: (peer, wire hash) of what the other side signed to have received.
        others: when each of the others cosigned it.
    """

    evidence: Evidence
    size: int
    number: int
    roster: str = ""
    study: str = ""
    round: int = -1
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cosigners: dict[str, int] = field(default_factory=dict)
    fits: bool = False
    signed: bool = False
    enough: bool = False
    acknowledged: set[tuple[str, bytes]] = field(default_factory=set)
    others: list[int] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether enough others vouch for this ledger by it."""
        return self.enough and not self.problems

    @property
    def time(self) -> float | None:
        """When the others cosigned it: their median, so that one wrong clock decides nothing; None without any."""
        return statistics.median(self.others) if self.others else None


def judge(evidence: Evidence, found: Verified) -> Judged:
    """Check a cosigned checkpoint against the ledger that it is kept with.

    Args:
        evidence: as it was kept.
        found: the ledger, as far as it is good, and the rosters that lie beside it.
    """
    log, batch, owner = evidence.log, evidence.batch, found.owner
    judged = Judged(evidence, log.size, evidence.number)
    name = f"the cosigned checkpoint of {log.size} entries"
    parts = batch.origin.split("/")
    if len(parts) != 5 or parts[:2] != ["wardround", "batch"]:
        judged.problems.append(f"{name} is in no batch of a study")
        return judged
    judged.study, judged.roster = parts[2], parts[3]
    roster = found.rosters.get(judged.roster)
    if roster is None:
        judged.problems.append(f"{name} is of a study whose roster is not here")
        return judged
    if owner != b.COORDINATOR and owner not in roster.index:
        judged.problems.append(f"{name} is of a study in which {owner!r} has no part")
        return judged
    if not roster.coordinator_key:
        judged.problems.append(f"{name} is of a study without a coordinator's key")
        return judged
    judged.problems += _of_ledger(name, log, evidence, found, b.identity_of(roster, owner))
    judged.fits = not judged.problems
    judged.problems += of_batch(name, evidence, owner, roster, judged)
    _read_acknowledgements(name, evidence, owner, roster, judged)
    return judged


def _of_ledger(name: str, log: Checkpoint, evidence: Evidence, found: Verified, identity: bytes) -> list[str]:
    chain, origin = found.chain, origin_of(identity)
    key = chain.keys.at(log.size)
    if log.origin != origin or chain.keys.identity != identity:
        return [f"{name} is of another identity's ledger"]
    if log.size > chain.sequence:
        return [f"{name} is of more than the {chain.sequence} that are here: the ledger's end was cut off"]
    if log != Checkpoint(origin, log.size, chain.tree.root(log.size)):
        return [f"{name} is of another ledger than this one, which was rewritten or forked since"]
    if key is None or not is_signed_by(evidence.checkpoint, origin, key):
        return [f"{name} is not signed by the ledger key that was in force"]
    roster = evidence.batch.origin.split("/")[3]
    if not any(number < log.size and digest == roster for number, _, digest in found.opened):
        return [f"{name} is of a study that no entry before it opens"]
    return []


def of_batch(name: str, evidence: Evidence, owner: str, roster: Roster, judged: Judged) -> list[str]:
    """Check that a checkpoint is in a batch that enough others signed; fills ``judged`` with who did.

    Args:
        name: of the checkpoint, in messages.
        evidence, owner, roster: as `judge`.
        judged: gets ``signed``, ``cosigners``, ``others``, ``enough`` and notes.

    Returns:
        Problems.
    """
    batch, note = evidence.batch, evidence.proof.checkpoint
    parties = len(roster.sites) + 1
    if batch != b.batch_checkpoint(roster, judged.number, batch.root):
        return [f"{name} is in a batch of another form than the roster's"]
    if len(evidence.leaves) != 32 * parties or b.Leaves.joined(evidence.leaves).tree.root != batch.root:
        return [f"{name} is kept with leaves of another batch"]
    if evidence.proof.index != b.index_of(roster, owner) or not proves(
        evidence.proof, evidence.checkpoint.text.encode()
    ):
        return [f"{name} is not in the batch that it is said to be in"]
    if not is_signed_by(note, b.COORDINATOR_KEY, b.identity_of(roster, b.COORDINATOR)):
        return [f"{name} is in a batch that the coordinator did not sign"]
    judged.signed = True
    problems = []
    named = {line.name for line in note.signatures}
    for site in roster.names:
        time = cosigned_at(note, b.site_key_name(site), b.identity_of(roster, site))
        if time is not None:
            judged.cosigners[site] = time
            if site != owner:
                judged.others.append(time)
        elif b.site_key_name(site) in named:
            problems.append(f"{name} has a wrong cosignature of {site}")
    judged.enough = not problems and len(judged.cosigners) >= roster.thresholds.t
    if not judged.enough and not problems:
        judged.notes.append(
            f"{name} was cosigned by {len(judged.cosigners)} sites, fewer than the threshold of {roster.thresholds.t}"
        )
    return problems


def _read_acknowledgements(name: str, evidence: Evidence, owner: str, roster: Roster, judged: Judged) -> None:
    """What the other side signed to have received; a wrong signature, or one about another batch, is a problem."""
    for peer, wire in evidence.messages.items():
        message = _decoded(wire, len(roster.sites))
        context = SigningContext(roster.study, roster.digest)
        good = False
        if owner != b.COORDINATOR and isinstance(message, Batch) and peer == b.COORDINATOR:
            public = Ed25519PublicKey.from_public_bytes(b.identity_of(roster, peer))
            parts = b.batch_parts(message, owner)
            good = verifies(public, message.statement, b.LABEL_BATCH, context, peer, *parts)
            good = good and (message.number, message.root) == (judged.number, evidence.batch.root)
        elif owner == b.COORDINATOR and isinstance(message, Receipt) and peer in roster.index:
            identity, place = b.identity_of(roster, peer), 32 * b.index_of(roster, peer)
            public = Ed25519PublicKey.from_public_bytes(identity)
            good = verifies(public, message.signature, b.LABEL_RECEIPT, context, peer, *b.receipt_parts(message))
            leaf = b.ledger_leaf(identity, message.size, message.root)
            good = good and evidence.leaves[place : place + 32] == leaf
        if not good or not isinstance(message, Batch | Receipt):
            judged.problems.append(f"{name} is kept with a receipt of {peer!r} that does not verify")
            continue
        judged.round = message.round
        judged.acknowledged |= {(peer, sha) for sha in message.received}


def _decoded(wire: bytes, sites: int) -> Message | None:
    try:
        return decode(wire, (Batch, Receipt), Limits(sites, 0, 0))
    except DecodeError:
        return None
