"""Keeps ``status.json`` up to date from a thread of its own, so that no disk, slow or full, can hold up a round."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import msgspec

from ... import __version__
from ...privacy.atomic import make_private, write_atomic
from ...privacy.egress import COORDINATOR
from ...privacy.messages import BY_TAG, STAGE
from ..errors import RoundError
from .board import Standing, State
from .private_words import scrubbed, words_of
from .running import this_process
from .status import FINAL, Direction, Party, Spent, Status, Traffic, now

INTERVAL = 0.5
"""Seconds between two writes, but for a change of state or stage, which is written at once."""
PULSE = 30.0
"""Seconds after which a process in which nothing happens writes that it is still there."""
STAGES = frozenset(STAGE.values()) | {"finish", "figures", "class-means"}
OTHER = "other"


class StatusBoard:
    """What one process says of itself; every method may be called from any thread.

    Close it, or use it as a context manager: a process that leaves the ``with`` by an error has failed, unless it said
    otherwise before.

    Args:
        path: of ``status.json``; its folder is made where there is none.
        side: whose process this is.
        study, digest, rounds: name, SHA-256 and number of rounds of the study.
        owner: the site's name.
        parties: names of all other parties, in the order in which they are shown.
        trouble: told once when the file cannot be written, and once when it can again; it must not raise.
    """

    def __init__(
        self,
        path: Path,
        side: Literal["site", "coordinator"],
        study: str,
        digest: str,
        rounds: int,
        *,
        owner: str = COORDINATOR,
        parties: Iterable[str] = (),
        trouble: Callable[[OSError | None], None] = lambda _: None,
    ) -> None:
        self.path = path
        self._trouble = trouble
        self._lock, self._news = threading.Lock(), threading.Condition()
        time_now = now()
        self._status = Status(
            process=this_process(),
            software=f"wardround {__version__}",
            side=side,
            owner=owner,
            study=study[:400],
            digest=digest,
            rounds=rounds,
            since=time_now,
            began=time_now,
            parties=tuple(Party(name) for name in parties),
            written=time_now,
        )
        self._dirty = self._urgent = True
        self._closing = self._failing = False
        self._thread = threading.Thread(target=self._write_on, name="status", daemon=True)
        self._thread.start()

    # --- what is told --------------------------------------------------------------------------------------------

    def state(self, state: State, error: str | BaseException = "") -> None:
        """What the process is doing.

        Args:
            state: the new one. error: what went wrong; paths, quoted texts and the like are taken out of its words.
        """
        known = self._known()
        words = words_of(error, known) if isinstance(error, BaseException) else scrubbed(error, known)

        def change(was: Status) -> dict[str, Any]:
            since = {} if was.state == state else {"since": now()}
            over = {"stage": "", "work": ""} if state in FINAL else {}
            return {"state": state, **since, **over, **({"error": words} if words else {})}

        self._change(change, urgent=self._status.state != state or bool(words))

    def at(self, round_number: int, stage: str) -> None:
        """Where the protocol stands: the round from 1, and a stage, or the type of a message of that stage."""
        named = STAGE.get(stage, stage if stage in STAGES else "")
        fresh = (self._status.round, self._status.stage) != (round_number, named)
        self._change(lambda _: {"round": max(0, round_number), "stage": named}, urgent=fresh)

    def message(self, tag: str, size: int, direction: Direction, party: str) -> None:
        """A message of ``size`` bytes came from, or went to, ``party``."""
        kind = tag if tag in BY_TAG else OTHER

        def change(was: Status) -> dict[str, Any]:
            field = "incoming" if direction == "in" else "outgoing"
            old: Traffic = getattr(was, field)
            counts = {**old.messages, kind: old.messages.get(kind, 0) + 1}
            changes: dict[str, Any] = {field: Traffic(old.bytes + max(0, size), counts, now())}
            if direction == "in":
                changes["parties"] = _with(was.parties, party, "present", heard=True)
            elif kind == "refusal":
                changes["refusals"] = was.refusals + 1
            return changes

        self._change(change)

    def party(self, name: str, standing: Standing) -> None:
        """Whether another party is there; unknown names are passed over."""
        self._change(lambda was: {"parties": _with(was.parties, name, standing, heard=standing == "present")})

    def refused(self) -> None:
        """This side refused a message or stopped one from leaving."""
        self._change(lambda was: {"refusals": was.refusals + 1})

    def privacy(self, epsilon: float, left: float | None = None, delta: float | None = None) -> None:
        """The privacy budget: spent, and left where there is a limit; a number that is not finite is left out."""
        if not math.isfinite(epsilon):
            return
        rest = left if left is not None and math.isfinite(left) else None
        self._change(lambda _: {"privacy": Spent(epsilon, rest, delta)})

    def work(self, title: str, done: int = 0, total: int = 0) -> None:
        """What is done beside the protocol; the title is one of this program's own."""
        words = scrubbed(title, self._known())[:80]
        fresh = words != self._status.work
        self._change(lambda _: {"work": words, "done": max(0, done), "total": max(0, total)}, urgent=fresh)

    # --- what is shown -------------------------------------------------------------------------------------------

    def snapshot(self) -> Status:
        """The status as it is now."""
        with self._lock:
            return self._status

    def close(self, state: State | None = None, error: str | BaseException = "") -> None:
        """Write the last status and end the thread; calling it twice does no harm.

        Args:
            state: the last one; None leaves it, and makes ``stopped`` of one that says that the process goes on.
            error: as for `state`.
        """
        if not self._thread.is_alive():
            return
        last: State = state or (self._status.state if self._status.ended else "stopped")
        self.state(last, error)
        with self._news:
            self._closing = True
            self._news.notify_all()
        self._thread.join(timeout=10.0)  # a disk that hangs keeps nobody from ending

    def __enter__(self) -> StatusBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(value, Exception) or self._status.ended:
            self.close()
        else:  # a round that released nothing pauses the study: it can be resumed
            self.close("paused" if isinstance(value, RoundError) else "failed", value)

    # --- the thread ----------------------------------------------------------------------------------------------

    def _known(self) -> set[str]:
        return {party.name for party in self._status.parties} | {self._status.owner, COORDINATOR}

    def _change(self, change: Callable[[Status], dict[str, Any]], *, urgent: bool = False) -> None:
        with self._lock:
            self._status = msgspec.structs.replace(self._status, **change(self._status))
        with self._news:
            self._dirty, self._urgent = True, self._urgent or urgent
            self._news.notify_all()

    def _write_on(self) -> None:
        written = -math.inf
        while True:
            with self._news:
                while not (self._urgent or self._closing):
                    since = time.monotonic() - written
                    wait = (INTERVAL if self._dirty else PULSE) - since
                    if wait <= 0:
                        break
                    self._news.wait(wait)
                closing = self._closing
                self._dirty = self._urgent = False
            self._write()
            written = time.monotonic()
            if closing:
                return

    def _write(self) -> None:
        with self._lock:
            self._status = msgspec.structs.replace(self._status, written=now())
            data = msgspec.json.encode(self._status)
        try:
            make_private(self.path.parent)
            write_atomic(self.path, data + b"\n")
        except OSError as error:
            if not self._failing:
                self._failing = True
                self._tell(error)
            return
        if self._failing:
            self._failing = False
            self._tell(None)

    def _tell(self, error: OSError | None) -> None:
        with contextlib.suppress(OSError, ValueError):  # such as a log on the same full disk, or a closed one
            self._trouble(error)


def _with(parties: tuple[Party, ...], name: str, standing: Standing, *, heard: bool) -> tuple[Party, ...]:
    return tuple(
        Party(name, standing, now() if heard else party.seen) if party.name == name else party for party in parties
    )
