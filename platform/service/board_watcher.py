"""Passes what a run tells of its progress to the status, to the log, and on to whoever looks at the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ..watching import Silent, Watcher
from .board import Standing, State
from .logs import EventLog
from .status_board import StatusBoard


class BoardWatcher:
    """A `Watcher` and a `Board` in one: the status and the log hear of everything in the words that they may keep.

    Args:
        board: the status. log: of events; None for none. inner: shows it all to a person, notes with their text.
    """

    def __init__(self, board: StatusBoard, log: EventLog | None = None, inner: Watcher | None = None) -> None:
        self.board, self.log = board, log
        self.inner: Watcher = inner if inner is not None else Silent()
        self.brief = self.inner.brief

    # --- Watcher -------------------------------------------------------------------------------------------------

    def stage(self, title: str) -> None:
        """A new piece of work begins; its title is one of this program's own."""
        self.board.work(title)
        self._log("work")
        self.inner.stage(title)

    def progress(self, done: int, total: int, unit: str, rate: float | None = None) -> None:
        """Units done of the work under way."""
        self.board.work(self.board.snapshot().work, done, total)
        self.inner.progress(done, total, unit, rate)

    def round_done(self, record: Mapping[str, Any], total: int) -> None:
        """A round released an adapter: who was in it is there, who dropped is not."""
        number, dropped = int(record["round"]), [gone["site"] for gone in record.get("dropped", ())]
        for name in record["participants"]:
            self.board.party(name, "present")
        for name in dropped:
            self.board.party(name, "dropped")
        self.board.at(number, "end")
        seconds = float(record.get("seconds", {}).get("total", 0.0))
        self._log(
            "round-done",
            round=number,
            rounds=total,
            sites=len(record["participants"]),
            dropped=len(dropped),
            seconds=round(seconds, 3),
            ending="released" if record.get("released", True) else "nothing",
        )
        self.inner.round_done(record, total)

    def note(self, text: str) -> None:
        """Goes to the person alone: a note may be about a file or a group."""
        self._log("note")
        self.inner.note(text)

    # --- Board ---------------------------------------------------------------------------------------------------

    def state(self, state: State, error: str | BaseException = "") -> None:
        """What the process is doing."""
        fresh = self.board.snapshot().state != state
        self.board.state(state, error)
        if fresh:
            self._log("state", state=state)
        if self.log is not None and isinstance(error, BaseException):
            self.log.error(error)

    def at(self, round_number: int, stage: str) -> None:
        """Where the protocol stands."""
        before = self.board.snapshot()
        self.board.at(round_number, stage)
        after = self.board.snapshot()
        if (before.round, before.stage) != (after.round, after.stage):
            self._log("stage", round=after.round, stage=after.stage)

    def message(self, tag: str, size: int, direction: Literal["in", "out"], party: str) -> None:
        """A message came or went."""
        self.board.message(tag, size, direction, party)
        self._log("message", type=tag, bytes=size, direction=direction, party=party)

    def party(self, name: str, standing: Standing) -> None:
        """Whether another party is there."""
        before = {each.name: each.standing for each in self.board.snapshot().parties}.get(name)
        self.board.party(name, standing)
        if before is not None and before != standing:
            self._log("party", party=name, standing=standing)

    def refused(self) -> None:
        """Something that came was refused before it was read."""
        self.board.refused()

    def privacy(self, epsilon: float, left: float | None = None, delta: float | None = None) -> None:
        """The privacy budget: spent, and left where there is a limit."""
        self.board.privacy(epsilon, left, delta)
        self._log("budget", epsilon=epsilon, left=left)

    def _log(self, event: str, **fields: object) -> None:
        if self.log is not None:
            self.log.event(event, **fields)
