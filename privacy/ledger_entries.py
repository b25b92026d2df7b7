"""Entries of the transmission ledger, and how one follows from those before it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from .atomic import canonical_json

VERSION = 1
GENESIS = "0" * 64
Outcome = Literal["sent", "retried", "refused", "received", "failed", "noted"]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one entry says, beside its place in the chain. Never a patient identifier, a path or an exception text.

    Attributes:
        kind: ``open`` and ``close`` of a study, ``message``, ``budget`` (a new version of the site's privacy budget
            was written), or ``note`` (what the ledger says about itself).
        study: the study's SHA-256, hexadecimal; empty in notes about the file.
        round, stage, message_type: of a message; -1 and empty where there is none. The stage of a budget entry is
            ``charge`` or ``seal``.
        direction: ``out``, ``in``, or ``none``.
        peer, peer_key: the other side's name and the SHA-256 of its identity key, hexadecimal or empty.
        message_id: names the message; a retry has the same.
        schema: name, dtype, shape and bytes of each field.
        wire_bytes, wire_sha256: of the exact bytes given to or taken from the transport; 0 and empty when refused.
        masking: scheme, threshold and key set of a masked vector, else None.
        clip: clip of each block of a masked vector, else None.
        dp: differential privacy of the content; None without. Of a budget entry: ``sequence`` and ``sha256`` of the
            budget file, and what the study has spent.
        purpose, legal_basis, policy_sha256: from the policy in force.
        software, model: version of this software; fingerprint of the frozen model.
        outcome: what became of the message.
        rule: the policy rule that refused it, what a note is about, or the release that was charged; else empty.
    """

    kind: Literal["open", "close", "message", "budget", "note"]
    study: str
    outcome: Outcome
    round: int = -1
    stage: str = ""
    direction: Literal["out", "in", "none"] = "none"
    peer: str = ""
    peer_key: str = ""
    message_id: str = ""
    message_type: str = ""
    codec: str = ""
    schema: list[dict[str, Any]] = msgspec.field(default_factory=list)
    wire_bytes: int = 0
    wire_sha256: str = ""
    masking: dict[str, Any] | None = None
    clip: dict[str, float] | None = None
    dp: dict[str, Any] | None = None
    purpose: str = ""
    legal_basis: str = ""
    policy_sha256: str = ""
    software: str = ""
    model: str = ""
    rule: str = ""


class Entry(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record in its place: version, sequence from 0, hash of the entry before, UTC time, owner of the ledger."""

    version: int
    sequence: int
    previous: str
    time: str
    owner: str

    def line(self) -> bytes:
        """The canonical bytes of this entry, without the newline."""
        return canonical_json(msgspec.to_builtins(self))


@dataclass
class _Sent:
    """What left in the newest round of a study, so that the same bytes again are known for a repetition."""

    round: int = -1
    known: set[tuple[str, str]] = field(default_factory=set)

    def note(self, entry: Entry) -> None:
        """Remember one message that left; an earlier round's are not asked for again."""
        if entry.round > self.round:
            self.round = entry.round
            self.known.clear()
        self.known.add((entry.peer, entry.wire_sha256))


@dataclass
class Chain:
    """Where a reading of the chain stands.

    Attributes:
        sequence: entries so far. head: hash of the last one.
        open_studies: number of each open study's ``open``. notes: numbers of the notes.
        sent: by study, what left in its newest round.
        budget: ``dp`` of the last budget entry; None before the first.
    """

    sequence: int = 0
    head: str = GENESIS
    open_studies: dict[str, int] = field(default_factory=dict)
    notes: list[int] = field(default_factory=list)
    sent: dict[str, _Sent] = field(default_factory=dict)
    budget: dict[str, Any] | None = None

    def copy(self) -> Chain:
        """A chain to try entries on; the original stays as it is."""
        sent = {study: _Sent(of.round, set(of.known)) for study, of in self.sent.items()}
        return Chain(self.sequence, self.head, dict(self.open_studies), [], sent, self.budget)

    def take(self, line: bytes) -> str:
        """Follow the chain by one line; returns what is wrong with it, or an empty string."""
        try:
            entry = msgspec.json.decode(line, type=Entry)
            canonical = entry.line() == line
        except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
            return "is no ledger entry"
        if not canonical:
            return "is not in canonical form"
        if entry.version != VERSION:
            return f"has the unknown version {entry.version}"
        if entry.sequence != self.sequence:
            return f"has sequence {entry.sequence} instead of {self.sequence}"
        if entry.previous != self.head:
            return "does not follow from the entry before it"
        if entry.kind == "open":
            if entry.study in self.open_studies:
                return "opens a study that is open already"
            self.open_studies[entry.study] = entry.sequence
        elif entry.kind in ("close", "message"):
            if entry.study not in self.open_studies:
                return f"is a {entry.kind} of a study that is not open"
            if entry.kind == "close":
                del self.open_studies[entry.study]
        elif entry.kind == "budget":
            # It needs no open study: the budget is one over all of them.
            if not _names_a_budget(entry.dp):
                return "is a budget entry that names no budget"
            self.budget = entry.dp
        else:
            self.notes.append(entry.sequence)
        if entry.direction == "out" and entry.outcome in ("sent", "retried"):
            self.sent.setdefault(entry.study, _Sent()).note(entry)
        self.sequence += 1
        self.head = hashlib.sha256(line).hexdigest()
        return ""


def _names_a_budget(dp: dict[str, Any] | None) -> bool:
    return dp is not None and isinstance(dp.get("sequence"), int) and isinstance(dp.get("sha256"), str)
