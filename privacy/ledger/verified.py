"""A ledger as it was read, for all that is checked afterwards: what is kept of its entries, and what was found."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ..errors import LedgerError
from ..identity import fingerprint
from ..secure_aggregation.roster import Roster
from .chain import Chain, Study
from .entries import Entry
from .evidence_checks import Judged

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass
class Verified:
    """What `verifying.verify` found.

    Attributes:
        path: the ledger's file. owner: as its entries have it; empty without any.
        problems: what is wrong, worst first; empty when the ledger holds.
        notes: what a reader should know although nothing is wrong.
        entries: good entries from the start. head, root: hash of the last one, and of the tree over them, hexadecimal.
        broken: whether a bad entry follows them; nothing after it was read.
        identity: words of the owner's identity key, to be compared with the owner by telephone; empty without a key.
        studies: state of every study, by hash.
        opened: (number, study, hash of the roster) of every ``open`` entry.
        cosigned: how many entries, from the start, are under a checkpoint that enough others cosigned.
        acknowledged: how many messages that left were acknowledged by a signed receipt. sent: how many left.
        evidence: the checkpoints that others cosigned, in order of size, with who did.
        rosters: those beside the ledger, by hash.
        policy: SHA-256 of the policy that the last entry of a message names; empty where none does.
        held_back: how many receipts and cosignatures the owner's own policy refused.
        signed: entries under the owner's own newest checkpoint; 0 without a good one.
        shown: sizes at which the ledger was shown to others: in each receipt that left, and in each batch.
        chain: the ledger as it was read, for comparisons.
    """

    path: Path
    owner: str = ""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    entries: int = 0
    head: str = ""
    root: str = ""
    broken: bool = False
    identity: str = ""
    studies: dict[str, Study] = field(default_factory=dict)
    opened: list[tuple[int, str, str]] = field(default_factory=list)
    cosigned: int = 0
    acknowledged: int = 0
    sent: int = 0
    evidence: list[Judged] = field(default_factory=list)
    rosters: dict[str, Roster] = field(default_factory=dict)
    policy: str = ""
    held_back: int = 0
    signed: int = 0
    shown: set[int] = field(default_factory=set)
    chain: Chain = field(default_factory=Chain)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def trailing(self) -> int:
        """Entries after the last one that enough others cosigned."""
        return self.entries - self.cosigned

    @property
    def named(self) -> dict[str, Roster]:
        """The rosters that ``open`` entries name, by hash, as far as they are here."""
        names = {roster for _, _, roster in self.opened}
        return {digest: roster for digest, roster in self.rosters.items() if digest in names}


@dataclass
class Span:
    """Neighbouring entries, from one checkpoint's size to the next one's.

    Attributes:
        start: number of the first.
        earliest, latest: time and number of the entry that is dated first, and last.
    """

    start: int
    earliest: tuple[str, int]
    latest: tuple[str, int]


@dataclass
class Scan:
    """What is noted while a ledger is read.

    Attributes:
        sizes: where a new span begins, ascending. passed: how many of them are behind.
        spans: times between these, those without entries left out.
        sent: (peer, wire hash) of what left.
        receipts: number, whether it was sent again, and ``facts`` of every receipt that left.
        torn: bytes of a last line that a crash cut off.
    """

    sizes: list[int] = field(default_factory=list)
    passed: int = 0
    spans: list[Span] = field(default_factory=list)
    sent: set[tuple[str, bytes]] = field(default_factory=set)
    receipts: list[tuple[int, bool, dict[str, str | int]]] = field(default_factory=list)
    torn: int = 0

    def note(self, entry: Entry, found: Verified) -> str:
        """Remember one entry; returns what is wrong with it that the chain does not look at, or an empty string."""
        if not _TIME.fullmatch(entry.time) or not _is_time(entry.time):
            return "has a time of another form"
        self._note_time(entry.time, entry.sequence)
        if entry.kind == "open":
            found.opened.append((entry.sequence, entry.study, str((entry.facts or {}).get("roster", ""))))
        if entry.policy_sha256:
            found.policy = entry.policy_sha256
        if entry.outcome == "refused" and entry.message_type in ("receipt", "cosignature"):
            found.held_back += 1
        if entry.kind == "message" and entry.direction == "out" and entry.outcome in ("sent", "retried"):
            if not _HASH.fullmatch(entry.wire_sha256):
                return "does not say which bytes left"
            self.sent.add((entry.peer, bytes.fromhex(entry.wire_sha256)))
            if entry.message_type == "receipt":
                self.receipts.append((entry.sequence, entry.outcome == "retried", entry.facts or {}))
            elif entry.message_type == "batch":
                found.shown.add(entry.number)
        return ""

    def _note_time(self, time: str, number: int) -> None:
        here = (time, number)
        begins = not self.spans
        while self.passed < len(self.sizes) and number >= self.sizes[self.passed]:
            self.passed += 1
            begins = True
        if begins:
            self.spans.append(Span(number, here, here))
        else:
            span = self.spans[-1]
            span.earliest, span.latest = min(span.earliest, here), max(span.latest, here)


def scan(found: Verified, sizes: Iterable[int]) -> Scan:
    """Read the ledger up to its first bad entry, which becomes a problem.

    Args:
        found: of an unread ledger; is filled.
        sizes: of the checkpoints beside it.

    Raises:
        LedgerError: the file cannot be read.
    """
    chain, noted = found.chain, Scan(sorted(set(sizes)))
    try:
        with found.path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.endswith(b"\n"):
                    noted.torn = len(line)
                    break
                wrong = _take(chain, line[:-1])
                if not wrong and chain.last is not None:
                    wrong = noted.note(chain.last, found)
                if wrong:
                    found.problems.append(f"entry {number - 1} (line {number}) {wrong}")
                    found.broken = True
                    break
    except OSError as error:
        raise LedgerError(f"the ledger cannot be read: {error.strerror}", where=str(found.path)) from None
    found.owner, found.entries, found.head = chain.owner, chain.sequence, chain.head
    found.root, found.studies = chain.tree.root().hex(), chain.studies
    if chain.keys.identity:
        found.identity = fingerprint(chain.keys.identity)
    return noted


def _take(chain: Chain, line: bytes) -> str:
    try:
        return chain.take(line)
    except (ValueError, TypeError, KeyError, OverflowError):
        return "states facts of another form"


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
