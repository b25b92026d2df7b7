"""Ends a process that runs for days: exactly the one that wrote the status, and says what came of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from .board import State
from .folders import ConsortiumPlace
from .running import Life, RunningError, ask_to_end
from .status import Status, read_status


@dataclass(frozen=True, slots=True)
class Stopped:
    """What came of it.

    Attributes:
        study: of the process. pid: its number. ended: whether it has ended. state: what it said last.
        round: that was under way.
    """

    study: str
    pid: int
    ended: bool
    state: State
    round: int

    @property
    def words(self) -> str:
        """The same for people."""
        if not self.ended:
            return (
                f"process {self.pid} was asked to end and still runs: it finishes what it is computing. "
                "Look again with: wardround site status"
            )
        taken = f" Round {self.round} is taken up at the next start." if self.state == "stopped" and self.round else ""
        return f"process {self.pid} of study '{self.study}' has ended: {self.state}.{taken}"


def stop(places: Sequence[ConsortiumPlace], wait: float) -> Stopped:
    """End the process that runs in one of these consortia.

    Args:
        places: of one home; one study runs at a time. wait: seconds at most.

    Raises:
        RunningError: none runs, or it cannot be told from another process.
        StatusError: a status is damaged.
    """
    found: list[tuple[ConsortiumPlace, Status]] = []
    doubtful = False
    for place in places:
        seen = read_status(place.status)
        if seen is not None and seen.life is Life.RUNS:
            found.append((place, seen.status))
        doubtful = doubtful or (seen is not None and seen.life is Life.UNKNOWN and not seen.status.ended)
    if doubtful and not found:
        raise RunningError(
            "whether the process runs cannot be seen from here: it is in another container, or hidden",
            where=str(places[0].folder.parent),
            remedy="End it where it was started: systemctl stop, or docker stop",
        )
    if len(found) != 1:
        raise RunningError(
            "no process of this site runs" if not found else "several processes run: say which study",
            where=str(places[0].folder.parent),
            remedy="wardround site status says what it did last" if not found else "wardround site stop STUDY",
        )
    place, before = found[0]
    ended = ask_to_end(before.process, wait)
    after = _last_words(place, before) if ended else before
    return Stopped(place.study, before.process.pid, ended, after.state, after.round)


def _last_words(place: ConsortiumPlace, before: Status) -> Status:
    seen = read_status(place.status)
    until = time.monotonic() + 1.0
    while (seen is None or not seen.status.ended) and time.monotonic() < until:
        time.sleep(0.05)
        seen = read_status(place.status)
    return seen.status if seen is not None else before
