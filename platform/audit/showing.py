"""What ledgers say was transmitted, summed up and picked out, without judging it: `audit verify` does that.

Ledgers are read as streams. What is kept grows with the number of studies, days, parties and message types, never with
the number of entries.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from ...privacy.errors import LedgerError
from ...privacy.ledger.entries import Entry
from ...privacy.ledger.reading import read_entries, read_lines
from .filters import Filters, Known, type_of
from .sources import Source, find_sources, label

LEFT, STOPPED = ("sent", "retried"), ("refused", "failed")
"""Outcomes of a message that left, and of one that was not let out or not taken in."""


Sums = TypeVar("Sums", "Tally", "Count")


def _sum(one: Sums, other: Sums) -> Sums:
    """Numbers added; the earlier first time and the later last."""
    figures = {
        each.name: getattr(one, each.name) + getattr(other, each.name)
        for each in fields(one)
        if each.name not in ("first", "last")
    }
    return type(one)(**figures, first=min(one.first, other.first), last=max(one.last, other.last))


@dataclass(slots=True)
class Tally:
    """Messages that fell under one heading: how many, of how many bytes on the wire, and when.

    Attributes:
        left, left_bytes: sent, or sent again. arrived, arrived_bytes: received.
        refused: by the sender's policy before any byte left. retried: of those that left, the same bytes again.
        failed: what arrived was no message.
        first, last: earliest and latest time, as the entries have it.
    """

    left: int = 0
    left_bytes: int = 0
    arrived: int = 0
    arrived_bytes: int = 0
    refused: int = 0
    retried: int = 0
    failed: int = 0
    first: str = ""
    last: str = ""

    def add(self, entry: Entry) -> None:
        """Count one message."""
        if entry.outcome in LEFT:
            self.left += 1
            self.left_bytes += entry.wire_bytes
            self.retried += entry.outcome == "retried"
        elif entry.outcome == "received":
            self.arrived += 1
            self.arrived_bytes += entry.wire_bytes
        elif entry.outcome == "refused":
            self.refused += 1
        elif entry.outcome == "failed":
            self.failed += 1

        self.first = min(self.first, entry.time) if self.first else entry.time
        self.last = max(self.last, entry.time)

    def __add__(self, other: Tally) -> Tally:
        """Both together, where both have counted something."""
        return _sum(self, other)


@dataclass(slots=True)
class Count:
    """Entries of one kind, type and outcome: how many, of how many bytes, and when."""

    entries: int = 0
    bytes: int = 0
    first: str = ""
    last: str = ""

    def add(self, entry: Entry) -> None:
        """Count one entry."""
        self.entries += 1
        self.bytes += entry.wire_bytes
        self.first = min(self.first, entry.time) if self.first else entry.time
        self.last = max(self.last, entry.time)

    def __add__(self, other: Count) -> Count:
        """Both together, where both have counted something."""
        return _sum(self, other)


@dataclass(slots=True)
class PolicyUse:
    """One wording of a policy, and where it was in force: its ledgers' owners, and the messages under it."""

    owners: set[str] = field(default_factory=set)
    messages: Tally = field(default_factory=Tally)


@dataclass(slots=True)
class BudgetUse:
    """What a ledger says last about the privacy budget of one study.

    Attributes:
        dp: as the entry has it; ``epsilon`` and ``delta`` are what the study has spent by then.
        limit: the study's own epsilon; None where no message states it.
        time: of that entry. releases: private messages that left.
    """

    dp: dict[str, Any] = field(default_factory=dict)
    limit: Any = None
    time: str = ""
    releases: int = 0


@dataclass(slots=True)
class LedgerPart:
    """How much of one ledger was looked at: all its entries, and those that match."""

    name: str
    owner: str
    path: Path
    entries: int = 0
    matching: int = 0
    first: str = ""
    last: str = ""


Party = tuple[str, str, str, str]
Policy = tuple[str, str, str, int]


@dataclass(slots=True)
class Survey:
    """All sums over the entries that match.

    Attributes:
        ledgers: one each.
        owners: messages, by whose ledger has them. studies: by study. days: by UTC day.
        parties: by owner, direction, peer and the peer's key.
        types: by type, direction and outcome; messages alone.
        policies: by the policy's hash, purpose, legal basis and retention in days.
        budgets: by owner and study.
        events: entries that are no message, by owner and kind.
        rounds: lowest and highest round of each study; absent where it has none.
        stopped: how many messages were refused or failed.
        known: every value that a filter could have had.
    """

    ledgers: list[LedgerPart] = field(default_factory=list)
    owners: dict[str, Tally] = field(default_factory=dict)
    studies: dict[str, Tally] = field(default_factory=dict)
    days: dict[str, Tally] = field(default_factory=dict)
    parties: dict[Party, Tally] = field(default_factory=dict)
    types: dict[tuple[str, str, str], Count] = field(default_factory=dict)
    policies: dict[Policy, PolicyUse] = field(default_factory=dict)
    budgets: dict[tuple[str, str], BudgetUse] = field(default_factory=dict)
    events: dict[tuple[str, str], Count] = field(default_factory=dict)
    rounds: dict[str, tuple[int, int]] = field(default_factory=dict)
    stopped: int = 0
    known: Known = field(default_factory=Known)

    @property
    def matching(self) -> int:
        """Entries that match, over all ledgers."""
        return sum(ledger.matching for ledger in self.ledgers)

    @property
    def span(self) -> tuple[str, str]:
        """First and last time of what matches; empty where nothing does."""
        counted: list[Tally | Count] = [*self.owners.values(), *self.events.values()]
        times = [time for each in counted for time in (each.first, each.last)]
        return min(times, default=""), max(times, default="")

    def add(self, entry: Entry) -> None:
        """Count one entry that matches."""
        if entry.dp is not None:
            self._budget(entry)
        if entry.kind != "message":
            self.events.setdefault((entry.owner, entry.kind), Count()).add(entry)
            return
        peer = (entry.owner, entry.direction, entry.peer, entry.peer_key)
        self.owners.setdefault(entry.owner, Tally()).add(entry)
        self.studies.setdefault(entry.study, Tally()).add(entry)
        self.days.setdefault(entry.time[:10], Tally()).add(entry)
        self.parties.setdefault(peer, Tally()).add(entry)
        self.types.setdefault((type_of(entry), entry.direction, entry.outcome), Count()).add(entry)
        policy = (entry.policy_sha256, entry.purpose, entry.legal_basis, entry.retention_days)
        use = self.policies.setdefault(policy, PolicyUse())
        use.owners.add(entry.owner)
        use.messages.add(entry)
        if entry.round >= 0:
            low, high = self.rounds.get(entry.study, (entry.round, entry.round))
            self.rounds[entry.study] = (min(low, entry.round), max(high, entry.round))
        self.stopped += entry.outcome in STOPPED

    def _budget(self, entry: Entry) -> None:
        use = self.budgets.setdefault((entry.owner, entry.study), BudgetUse())
        use.dp, use.time = dict(entry.dp or {}), entry.time
        use.limit = use.dp.get("limit", use.limit)
        use.releases += entry.kind == "message" and entry.outcome == "sent"


def distinct_sources(paths: Sequence[Path]) -> list[Source]:
    """The ledgers that paths name, each once.

    Raises:
        LedgerError: there is none, or two files are copies of one ledger: its messages would count twice.
    """
    sources = find_sources(paths)
    beginnings: dict[bytes, Source] = {}
    for source in sources:
        first = next(read_lines(source.ledger), b"")
        other = beginnings.setdefault(first, source)
        if other is not source:
            raise LedgerError(
                f"two files are copies of one ledger, {source.owner}'s: its messages would count twice",
                where=f"{other.ledger}, {source.ledger}",
                remedy="Give each ledger once; wardround audit verify compares copies",
            )
    return sources


def survey(sources: Sequence[Source], filters: Filters) -> Survey:
    """Sum up all entries that match.

    Raises:
        LedgerError: a ledger cannot be read, or a line of it is no entry.
        PlatformError: no entry has a filter's value; the nearest one that there is, is named.
    """
    found = Survey()
    for source in sources:
        part = LedgerPart(label(source, sources), source.owner, source.ledger)
        for entry in read_entries(source.ledger):
            part.entries += 1
            part.first = part.first or entry.time
            part.last = entry.time
            found.known.add(entry)
            if filters.match(entry):
                part.matching += 1
                found.add(entry)
        found.ledgers.append(part)
    filters.check(found.known)
    return found


def matching(found: Survey, filters: Filters, *, stopped: bool = False) -> Iterator[Entry]:
    """The entries that match, ledger by ledger, in order: those that `survey` counted, none that came later.

    Args:
        found: what `survey` found.
        filters: the same.
        stopped: only messages that were refused, or that failed.

    Raises:
        LedgerError: as `survey`.
    """
    for part in found.ledgers:
        for entry in itertools.islice(read_entries(part.path), part.entries):
            if (not stopped or (entry.kind == "message" and entry.outcome in STOPPED)) and filters.match(entry):
                yield entry
