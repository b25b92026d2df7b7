"""What ``status`` shows: a table for people, the same facts for scripts, and what is missing before the first start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .folders import ConsortiumPlace, Step
from .running import Life
from .status import Seen, Status, Traffic, read_status, seconds_since

SILENT = 120.0
"""Seconds without a new status after which a process that runs may hang: it writes one every 30 seconds."""
_STYLES = {"running": "green", "waiting": "green", "complete": "green", "failed": "bold red", "aborted": "yellow"}
_RESTART = {"site": "wardround site start", "coordinator": "wardround coordinator start"}


@dataclass(frozen=True, slots=True)
class View:
    """A consortium as it stands.

    Attributes:
        place: its folder. seen: what its process says; None before the first start. steps: of enrolment, before that.
    """

    place: ConsortiumPlace
    seen: Seen | None
    steps: Sequence[Step]

    @property
    def wrong(self) -> bool:
        """Whether somebody should look: the process failed, or ended without saying so."""
        return self.seen is not None and (self.seen.died or self.seen.status.state == "failed")

    @property
    def moving(self) -> bool:
        """Whether more is to be expected."""
        return self.seen is not None and not self.seen.status.ended and self.seen.life is not Life.GONE

    @property
    def words(self) -> str:
        """The state, in words."""
        if self.seen is None:
            missing = [step for step in self.steps if not step.done]
            return "not started" if not missing else f"not started; {len(missing)} steps to do before"
        status = self.seen.status
        if self.seen.died:
            return f"stopped without saying so; it said '{status.state}' last"
        if self.seen.life is Life.UNKNOWN and not status.ended:
            return f"{status.state}, when it last wrote; whether the process runs cannot be seen from here"
        silence = seconds_since(status.written)
        if self.moving and silence is not None and silence > SILENT:
            return f"{status.state}, but it has written nothing for {ago(silence)}: it hangs, or its disk is full"
        return str(status.state)

    @property
    def todo(self) -> str:
        """What to do next; empty when there is nothing."""
        if self.seen is None:
            undone = next((step.todo for step in self.steps if not step.done), "")
            return undone or f"wardround doctor --kit {self.place.folder}, then: {_RESTART[self.place.side]}"
        if self.seen.died:
            return f"{_RESTART[self.place.side]}: a round that was under way is taken up, nothing is sent twice"
        if self.seen.status.state == "failed":
            return f"See what it wrote when it ended; wardround doctor --kit {self.place.folder}"
        if self.seen.status.state in ("paused", "stopped"):
            return f"{_RESTART[self.place.side]} goes on where it stopped"
        return ""


def view_of(place: ConsortiumPlace) -> View:
    """How a consortium stands now.

    Raises:
        StatusError: its status file is damaged. EnrolmentError: a document of the coordinator is.
    """
    seen = read_status(place.status)
    return View(place, seen, place.steps() if seen is None else [])


def facts_of(view: View) -> dict[str, Any]:
    """The same for scripts."""
    seen = view.seen
    return {
        "folder": str(view.place.folder),
        "side": view.place.side,
        "study": view.place.study,
        "state": view.words if seen is None else seen.status.state,
        "process": None if seen is None else str(seen.life),
        "died": seen is not None and seen.died,
        "wrong": view.wrong,
        "do": view.todo,
        "steps": [{"step": step.name, "done": step.done} for step in view.steps],
        "status": None if seen is None else msgspec.to_builtins(seen.status),
    }


def draw(view: View) -> RenderableType:
    """The same for people."""
    title = Text(f"{view.place.study} · {view.place.side}", style="bold")
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    seen = view.seen
    style = "bold red" if view.wrong else _STYLES.get(seen.status.state if seen else "", "yellow")
    table.add_row("state", Text(view.words, style=style))
    parts: list[RenderableType] = [title, table]
    if seen is None:
        for step in view.steps:
            table.add_row(step.name, Text("done" if step.done else "missing", style="green" if step.done else "yellow"))
    else:
        _add_rows(table, seen.status)
        if seen.status.parties:
            parts.append(_parties(seen.status))
    if view.todo:
        parts.append(Text("do: ", style="bold green").append(view.todo, style="default"))
    return Group(*parts, Text(""))


def _add_rows(table: Table, status: Status) -> None:
    stage = f", stage {status.stage}" if status.stage else ""
    table.add_row("round", Text(f"{status.round} of {status.rounds}{stage}"))
    if status.work:
        share = f" ({status.done} of {status.total})" if status.total else ""
        table.add_row("work", Text(f"{status.work}{share}"))
    table.add_row("since", Text(f"{_time(status.since)}; process {status.process.pid} began {_time(status.began)}"))
    table.add_row("received", Text(_traffic(status.incoming)))
    table.add_row("sent", Text(_traffic(status.outgoing)))
    if status.privacy is not None:
        spent = status.privacy
        left = "no limit set" if spent.left is None else f"{spent.left:.3g} left"
        at = f" at delta {spent.delta:g}" if spent.delta is not None else ""
        table.add_row("privacy", Text(f"epsilon {spent.epsilon:.3g} spent, {left}{at}"))
    if status.refusals:
        table.add_row("refusals", Text(str(status.refusals), style="yellow"))
    if status.error:
        table.add_row("error", Text(status.error, style="red"))
    table.add_row("written", Text(f"{_time(status.written)} by {status.software}"))


def _parties(status: Status) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("party", no_wrap=True)
    table.add_column("is", no_wrap=True)
    table.add_column("last heard", no_wrap=True)
    colours = {"present": "green", "absent": "yellow", "dropped": "red"}
    for party in status.parties:
        seconds = seconds_since(party.seen)
        heard = "never" if seconds is None else f"{ago(seconds)} ago"
        table.add_row(Text(party.name), Text(party.standing, style=colours.get(party.standing, "dim")), heard)
    return table


def _traffic(traffic: Traffic) -> str:
    count = sum(traffic.messages.values())
    if not count:
        return "nothing since the start"
    amount = f"{traffic.bytes / 1e6:.1f} MB" if traffic.bytes >= 1e5 else f"{traffic.bytes} B"
    return f"{count} message{'s' if count > 1 else ''}, {amount}, the last at {_time(traffic.last)}"


def _time(text: str) -> str:
    return text.replace("T", " ").replace("Z", " UTC")


def ago(seconds: float) -> str:
    """A span of time in the unit that is easy to read."""
    for unit, step in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * step:
            return f"{seconds / step:.0f} {unit}"
    return f"{seconds:.0f} seconds"
