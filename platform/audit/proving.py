"""Proofs that one entry is in a ledger that others cosigned: a file to hand over, without the ledger."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ...privacy.atomic import canonical_json
from ...privacy.errors import LedgerError, ParameterError, RosterError
from ...privacy.identity import fingerprint, fingerprint_hex
from ...privacy.ledger.batches import COORDINATOR, Leaves, identity_of
from ...privacy.ledger.entries import Entry
from ...privacy.ledger.evidence import Evidence
from ...privacy.ledger.evidence_checks import Judged, of_batch
from ...privacy.ledger.key_entries import origin_of
from ...privacy.ledger.proofs import Proof, proves
from ...privacy.ledger.reading import read_lines
from ...privacy.secure_aggregation.roster import Roster
from .sources import Source
from .verification import audit


class _Extra(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a proof needs beside the path: the entry's line, the cosigned batch, the roster with everybody's keys."""

    entry: str
    batch: str
    roster: str


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof shows.

    Attributes:
        owner: whose ledger. entry: the entry. size: of the ledger that others cosigned.
        cosigners: by site, when, in seconds since 1970. threshold: how many the roster asks for.
        roster: its hash, hexadecimal.
        identities, fingerprints: words, and SHA-256 in hexadecimal, of every party's key, to be compared with them.
    """

    owner: str
    entry: dict[str, Any]
    size: int
    cosigners: dict[str, int]
    threshold: int
    roster: str
    identities: dict[str, str]
    fingerprints: dict[str, str]


def prove(source: Source, number: int) -> bytes:
    """A C2SP proof file of one entry, with all that is needed to check it.

    Args:
        source: the ledger, with its checkpoints and rosters.
        number: of the entry, from 0.

    Raises:
        LedgerError: the ledger does not hold, there is no such entry, or no checkpoint over it was cosigned yet.
    """
    found = audit([source], {}).ledgers[0]
    if not found.ok:
        raise LedgerError(
            f"the ledger does not hold: {found.problems[0]}",
            where=str(source.ledger),
            remedy="See all that is wrong with it: wardround audit verify",
        )
    if not 0 <= number < found.entries:
        raise LedgerError(
            f"there is no entry {number}",
            where=str(source.ledger),
            remedy=f"Entries are numbered from 0 to {found.entries - 1}; see them with wardround audit show --entries",
        )
    judged = next((each for each in found.evidence if each.holds and each.size > number), None)
    if judged is None:
        raise LedgerError(
            f"no checkpoint over entry {number} was cosigned by enough others",
            where=str(source.ledger),
            remedy=f"Entries up to {found.cosigned - 1} can be proven"
            if found.cosigned
            else "Nothing was cosigned yet",
        )
    line = next(line for place, line in enumerate(read_lines(source.ledger)) if place == number)
    extra = {
        "entry": line.decode(),
        "batch": _bare(judged.evidence).to_bytes().decode(),
        "roster": found.rosters[judged.roster].to_bytes().decode(),
    }
    path = found.chain.tree.inclusion(number, judged.size)
    return Proof(number, path, judged.evidence.checkpoint, canonical_json(extra)).to_bytes()


def _bare(evidence: Evidence) -> Evidence:
    """The same without acknowledgements, which are about other entries; made from its leaves, so in one form only."""
    leaves = Leaves.joined(evidence.leaves)
    return Evidence.make(evidence.proof.index, leaves, evidence.proof.checkpoint, evidence.checkpoint, {})


def check_proof(path: Path) -> Proven:
    """Check a proof file; all it needs is in it, but for the knowledge whose keys the roster's are.

    Raises:
        LedgerError: it proves nothing; says why.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LedgerError(
            f"the proof cannot be read: {error.strerror}",
            where=str(path),
            remedy="Give a file that wardround audit prove wrote",
        ) from None
    try:
        return _checked(data, str(path))
    except (RosterError, ParameterError, LedgerError) as error:
        raise LedgerError(
            f"this proves nothing: {error.what}", where=str(path), remedy="Ask for a new one: wardround audit prove"
        ) from None


def _checked(data: bytes, where: str) -> Proven:
    proof = Proof.parse(data)
    try:
        extra = msgspec.json.decode(proof.extra, type=_Extra)
        entry = msgspec.json.decode(extra.entry.encode(), type=Entry)
        exact = entry.line() == extra.entry.encode() and canonical_json(msgspec.to_builtins(extra)) == proof.extra
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
        raise LedgerError("the proof has no entry, batch and roster in it") from None
    if not exact:
        raise LedgerError("what the proof has in it is not in canonical form")
    roster = Roster.from_bytes(extra.roster.encode())
    evidence = Evidence.parse(extra.batch.encode(), where=where)
    if not proves(proof, extra.entry.encode()) or entry.sequence != proof.index:
        raise LedgerError("the entry is not in the checkpoint that is named")
    if evidence.checkpoint != proof.checkpoint:
        raise LedgerError("the batch is of another checkpoint")
    owner = entry.owner
    if not roster.coordinator_key or (owner != COORDINATOR and owner not in roster.index):
        raise LedgerError("the roster does not know the entry's owner, or no coordinator")
    if proof.tree.origin != origin_of(identity_of(roster, owner)):
        raise LedgerError("the checkpoint is of another ledger than the entry's owner's")
    judged = Judged(evidence, evidence.log.size, evidence.number, roster.digest.hex())
    problems = of_batch("the checkpoint", evidence, owner, roster, judged)
    if problems:
        raise LedgerError(problems[0])
    if _bare(evidence).to_bytes() != extra.batch.encode():
        raise LedgerError("the batch is not in canonical form")
    if not judged.enough:
        raise LedgerError(f"{len(judged.cosigners)} sites cosigned, {roster.thresholds.t} are needed")
    parties = (COORDINATOR, *roster.names)
    return Proven(
        owner=owner,
        entry=json.loads(extra.entry),
        size=evidence.log.size,
        cosigners=judged.cosigners,
        threshold=roster.thresholds.t,
        roster=roster.digest.hex(),
        identities={party: fingerprint(identity_of(roster, party)) for party in parties},
        fingerprints={party: fingerprint_hex(identity_of(roster, party)) for party in parties},
    )
