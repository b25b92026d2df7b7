"""What the consortium demo shows: a line a step, and at the end what each hospital did and each round was."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from ..audit.reconciliation import reconcile_sources, unsound, verify_each
from ..audit.sources import find_sources


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a hospital's ledger says.

    Attributes:
        entries: how many. sent: bytes of messages that left. reconciled: it holds, so does the coordinator's, and both
            say the same of what passed between the two.
        lost: messages that one side sent and the other never had, as when a process was killed.
    """

    entries: int
    sent: int
    reconciled: bool
    lost: int


class Screen:
    """Steps on standard error, results on standard output."""

    def __init__(self) -> None:
        self._out = Console(highlight=False, soft_wrap=True)
        self._error = Console(stderr=True, highlight=False, soft_wrap=True)
        self._status: Status | None = None
        self._began = time.monotonic()

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._calm()

    def step(self, text: str) -> None:
        """A step begins."""
        self._calm()
        self._error.print(Text(f"· {time.monotonic() - self._began:4.0f} s  {text}"))
        if self._error.is_terminal:
            self._status = self._error.status("")
            self._status.start()

    def say(self, text: str, *, good: bool | None = None) -> None:
        """A result; ``good`` or bad where it is a verdict."""
        self._calm()
        self._out.print(Text(text, style="" if good is None else "bold green" if good else "bold red"))

    def table(self, table: Table) -> None:
        """Rows of results, none of them cut off."""
        self._calm()
        wide = Console(highlight=False, soft_wrap=True, width=max(120, self._out.width))
        wide.print(table, crop=False)

    def error(self, what: str, where: str, remedy: str) -> None:
        """What went wrong, where, and what to do."""
        self._calm()
        for title, text in (("error: ", what), ("where: ", where), ("do:    ", remedy)):
            for number, line in enumerate(text.splitlines()):
                self._error.print(Text(title if number == 0 else "       ", style="bold").append(line, style="default"))

    def _calm(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def compare_ledgers(coordinator: Path, homes: Mapping[str, Path]) -> dict[str, Ledger]:
    """Every hospital's ledger, by itself and against the coordinator's.

    Args:
        coordinator: folder with its ledger. homes: of the hospitals, by name.

    Raises:
        LedgerError: one cannot be read.
    """
    sources = find_sources([coordinator, *homes.values()])
    verified = verify_each(sources)
    rows = reconcile_sources(sources, verified)
    broken = bool(unsound([each for each in verified if each.owner not in homes]))
    found = {}
    for each in verified:
        if each.owner in homes:
            own = [row for row in rows if each.owner in (row.sender, row.receiver)]
            fits = each.ok and not broken and len(own) == 2 and all(row.ok for row in own)
            sent = sum(row.sent_bytes for row in own if row.sender == each.owner)
            lost = sum(message.count for row in own for message in row.lost)
            found[each.owner] = Ledger(each.entries, sent, fits, lost)
    return found


def show_hospitals(
    screen: Screen, records: Sequence[Mapping[str, Any]], ledgers: Mapping[str, Ledger], reports: Mapping[str, Path]
) -> None:
    """A row a hospital.

    Args:
        records: lines of rounds.jsonl that released an adapter. ledgers: by hospital.
        reports: folders of the hospitals' own reports.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("hospital", no_wrap=True)
    for title in ("rounds", "bytes sent", "ledger entries", "reconciled", "lost messages", "balanced accuracy, %"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, ledger in sorted(ledgers.items()):
        part = sum(name in record["participants"] for record in records)
        summary = json.loads((reports[name] / "summary.json").read_bytes())
        accuracy = summary["sites"][name]["balanced_accuracy"]
        table.add_row(
            name,
            f"{part} of {len(records)}",
            f"{ledger.sent:,}",
            str(ledger.entries),
            "yes" if ledger.reconciled else "NO",
            str(ledger.lost),
            "–" if accuracy is None else f"{100 * accuracy:.1f}",
        )
    screen.table(table)


def show_rounds(screen: Screen, records: Sequence[Mapping[str, Any]]) -> None:
    """A row a round.

    Args:
        records: lines of rounds.jsonl that released an adapter.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title, right in (("round", True), ("participants", False), ("seconds", True), ("dropped", False)):
        table.add_column(title, justify="right" if right else "left", no_wrap=True)
    for record in records:
        gone = ", ".join(f"{each['site']} at {each['stage']} ({each['reason']})" for each in record["dropped"])
        names = ", ".join(record["participants"])
        table.add_row(str(record["round"]), names, f"{record['seconds']['total']:.2f}", gone or "–")
    screen.table(table)
