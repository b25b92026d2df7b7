"""How an entry of the ledger follows from those before it."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..merkle import leaf_hash
from ..messages import MAX_RECEIVED
from .canonical import canonical
from .entries import FACTS, GENESIS, NUMBERS, VERSION, Entry
from .key_entries import KeyChain
from .tree import GrowingTree

MOST_ARRIVED = 4096
CLOSING = "close"
"""Stage of the messages by which the checkpoint over a study's ``close`` is cosigned."""
CLOSING_TYPES = frozenset({"receipt", "cosignature", "batch", "cosigned", "refusal"})
_HEX = re.compile(r"([0-9a-f]{2})*")
_decoder = msgspec.json.Decoder(Entry)


@dataclass
class Study:
    """One study in a ledger.

    Attributes:
        open: whether it was opened and not closed since.
        opened: number of its last ``open``. roster: SHA-256 of the roster that this names; empty where it names none.
        split: SHA-256 of the site's split that it names, likewise.
        last_out: number of the last entry of something that left; -1 before the first.
        closed: number of its last ``close``; -1 before the first.
        round: newest round of what left. known: (peer, wire hash) of what left in it, to know repetitions.
        receipt: the last entry of a receipt that left; None before the first.
        cosignature: the last entry of a cosignature that left under the roster in force, and None before the first.
        closing: types of what left since the ``close``: each of the closing exchange leaves once.
        arrived: by peer, number and wire hash of what came in and is not in a batch yet that the site cosigned, oldest
            first; the newest `MOST_ARRIVED` only.
    """

    open: bool = False
    opened: int = -1
    roster: str = ""
    split: str = ""
    last_out: int = -1
    closed: int = -1
    round: int = -1
    known: set[tuple[str, str]] = field(default_factory=set)
    receipt: Entry | None = None
    cosignature: Entry | None = None
    closing: set[str] = field(default_factory=set)
    arrived: dict[str, deque[tuple[int, str]]] = field(default_factory=dict)

    def unacknowledged(self, peer: str, size: int, most: int) -> tuple[bytes, ...]:
        """Wire hashes of the oldest ``most`` messages of a peer among the first ``size`` entries, each once."""
        hashes = dict.fromkeys(sha for number, sha in self.arrived.get(peer, ()) if number < size)
        return tuple(bytes.fromhex(sha) for sha in list(hashes)[:most])

    def note_message(self, entry: Entry) -> None:
        """Remember what left, what came, and what both sides know to have come."""
        if entry.direction == "in":
            if entry.outcome == "received":
                queue = self.arrived.setdefault(entry.peer, deque(maxlen=MOST_ARRIVED))
                queue.append((entry.sequence, entry.wire_sha256))
                ours = self.cosignature
                if entry.message_type == "cosigned" and ours is not None and entry.number == ours.number:
                    self._acknowledged(entry.peer, int((ours.facts or {}).get("size", 0)))
        elif entry.outcome in ("sent", "retried"):
            self._note_sent(entry)

    def _acknowledged(self, peer: str, size: int) -> None:
        """What a receipt over the first ``size`` entries listed was told, and is not told again."""
        told = {sha.hex() for sha in self.unacknowledged(peer, size, MAX_RECEIVED)}
        kept = [(number, sha) for number, sha in self.arrived.get(peer, ()) if number >= size or sha not in told]
        self.arrived[peer] = deque(kept, MOST_ARRIVED)

    def _note_sent(self, entry: Entry) -> None:
        if entry.round > self.round:
            self.round = entry.round
            self.known.clear()
        self.known.add((entry.peer, entry.wire_sha256))
        self.last_out = entry.sequence
        if not self.open:
            self.closing.add(entry.message_type)
        if entry.message_type == "receipt" and entry.facts is not None:
            self.receipt = entry
        elif entry.message_type == "cosignature":
            self.cosignature = entry
        elif entry.message_type == "cosigned":  # the site's own cosignature was good: it has seen what was told
            self._acknowledged(entry.peer, entry.number)


@dataclass
class Chain:
    """Where a reading of the chain stands.

    Attributes:
        sequence: entries so far. head: hash of the last one.
        tree: Merkle tree over all lines.
        studies: by hash.
        notes: numbers of the notes.
        budget: ``dp`` of the last budget entry; None before the first.
        keys: who signs checkpoints from which entry on.
        time: of the last entry. set_back: numbers of entries that are dated before the one before them.
        owner: of the first entry; the others must have the same.
        last: the entry that was followed last; None before the first.
    """

    sequence: int = 0
    head: str = GENESIS
    tree: GrowingTree = field(default_factory=GrowingTree)
    studies: dict[str, Study] = field(default_factory=dict)
    notes: list[int] = field(default_factory=list)
    budget: dict[str, Any] | None = None
    keys: KeyChain = field(default_factory=KeyChain)
    time: str = ""
    set_back: list[int] = field(default_factory=list)
    owner: str = ""
    last: Entry | None = None

    def take(self, line: bytes) -> str:
        """Follow the chain by one line; returns what is wrong with it, or an empty string."""
        try:
            entry = _decoder.decode(line)
            is_canonical = canonical(entry, plain=True) == line  # JSON has no NaN
        except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
            return "is no ledger entry"
        if entry.version != VERSION:
            return f"has the unknown version {entry.version}"
        if not is_canonical:
            return "is not in canonical form"
        wrong = self.refuses(entry)
        if not wrong:
            self.follow(entry, line)
        return wrong

    def refuses(self, entry: Entry) -> str:
        """What is wrong with an entry at this place, or an empty string; nothing changes."""
        if entry.sequence != self.sequence:
            return f"has sequence {entry.sequence} instead of {self.sequence}"
        if entry.previous != self.head:
            return "does not follow from the entry before it"
        if self.owner and entry.owner != self.owner:
            return f"is of {entry.owner!r} in a ledger of {self.owner!r}"
        return self.refuses_content(entry)

    def refuses_content(self, entry: Entry) -> str:
        """The part of `refuses` that is about what an entry says, wherever it stands."""
        return _bad_facts(entry) or self._refuses_kind(entry)

    def _refuses_kind(self, entry: Entry) -> str:
        study = self.studies.get(entry.study)
        is_open = study is not None and study.open
        match entry.kind:
            case "open":
                return "opens a study that is open already" if is_open else ""
            case "close":
                return "" if is_open else "is a close of a study that is not open"
            case "message":
                return "" if is_open else _after_close(entry, study)
            case "budget":  # it needs no open study: the budget is one over all of them
                return "" if _names_a_budget(entry.dp) else "is a budget entry that names no budget"
            case "key":
                return self.keys.refuses(entry)
            case _:
                return ""

    def follow(self, entry: Entry, line: bytes) -> None:
        """Go on by an entry that `refuses` finds nothing wrong with, and its canonical line."""
        study = self.studies.setdefault(entry.study, Study()) if entry.study else Study()
        match entry.kind:
            case "open":
                roster = str((entry.facts or {}).get("roster", ""))
                if roster != study.roster:
                    study.cosignature = None  # numbers of batches rise under one roster
                study.open, study.opened, study.roster = True, entry.sequence, roster
                study.split = str((entry.facts or {}).get("split", ""))
                study.closing = set()
            case "close":
                study.open, study.closed, study.closing = False, entry.sequence, set()
            case "budget":
                self.budget = entry.dp
            case "key":
                self.keys.follow(entry)
            case "note":
                self.notes.append(entry.sequence)
            case "message":
                study.note_message(entry)
        if entry.time < self.time:
            self.set_back.append(entry.sequence)
        self.owner, self.time, self.last = self.owner or entry.owner, entry.time, entry
        self.sequence += 1
        self.head = hashlib.sha256(line).hexdigest()
        self.tree.append(leaf_hash(line))


def _after_close(entry: Entry, study: Study | None) -> str:
    """Of a study that is not open, nothing leaves but each message of the closing exchange, once."""
    if study is None:
        return "is a message of a study that is not open"
    if entry.direction == "in" or entry.outcome in ("refused", "received", "failed"):
        return ""  # what arrives late, or was refused, did not leave
    if entry.stage != CLOSING or entry.message_type not in CLOSING_TYPES:
        return "is a transmission after the close of its study"
    several = entry.message_type in study.closing and entry.owner != "coordinator"
    if several and (entry.peer, entry.wire_sha256) not in study.known:
        return f"is a second {entry.message_type} after the close of its study"
    return ""


def _bad_facts(entry: Entry) -> str:
    if entry.facts is None:
        return ""
    allowed = FACTS.get(entry.kind, frozenset())
    unknown = sorted(set(entry.facts) - allowed)
    if unknown:
        return f"states {unknown[0]!r}, which is no fact of a {entry.kind}"
    if entry.kind == "sign":
        return ""
    for name, value in entry.facts.items():
        if (name in NUMBERS) != isinstance(value, int):
            return f"states {name!r} in another form"
        if isinstance(value, str) and not _HEX.fullmatch(value):
            return f"states {name!r} in words"
    return ""


def _names_a_budget(dp: dict[str, Any] | None) -> bool:
    return dp is not None and isinstance(dp.get("sequence"), int) and isinstance(dp.get("sha256"), str)
