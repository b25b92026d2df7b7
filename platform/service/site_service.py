"""A site at work on its own machine: FLARE's client beside it, messages in, sealed answers out, until the study ends.

The state machine is the simulation's. What is added here is the envelope's check, the client's supervision, and when to
end. No key, picture or plain update is in any of FLARE's processes; what these hand in is bytes that somebody sent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ...privacy.egress import COORDINATOR, Sealed
from ...privacy.envelopes import SIGNATURE_BYTES, unpack
from ...privacy.errors import DecodeError
from ...privacy.messages import TO_SITE, Cosigned, decode
from ...privacy.policy import Policy
from ..engines.nvflare.processes import FlareProcess, start_client
from ..engines.nvflare.site_relay import SiteRelay
from ..site_machine import FINAL_FILE
from ..site_side import SiteSide
from ..terms import Terms
from .board import Board, NoBoard, type_of

Ending = Literal["complete", "aborted", "stopped"]
STEP = 0.25
"""Seconds after which a wait looks whether the process is to end, and whether FLARE's client lives."""
PATIENCE = 60.0
"""Seconds that the study's last messages are waited for."""
RESTARTS = (1.0, 5.0, 15.0, 60.0)
"""Seconds before FLARE's client is started again, the longer the oftener it ended soon."""
STABLE = 120.0
"""Seconds after which a client that ends counts as one that had worked."""


@dataclass
class ClientKeeper:
    """Keeps FLARE's client running: it ends when the network or the server does it harm, and is started again.

    It looks from a thread of its own, so that a client that ends while the site trains is back before it is needed.

    Attributes:
        start: starts it. note: told, on that thread, what a person should know. clock: monotonic seconds.
    """

    start: Callable[[], FlareProcess]
    note: Callable[[str], None] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    process: FlareProcess | None = None
    _since: float = 0.0
    _failed: int = 0
    _again: float = 0.0
    _failure: Exception | None = None
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Start the client, and from now on look after it, until `close`.

        Raises:
            FlareProcessError, OSError: it cannot be started.
        """
        self.look()
        self._thread = threading.Thread(target=self._look_on, name="client", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what kept the thread from starting the client again, if anything did."""
        if self._failure is not None:
            raise self._failure

    def _look_on(self) -> None:
        while not self._closing.wait(STEP):
            try:
                self.look()
            except Exception as error:  # whoever asks by `check` raises it
                self._failure = error
                return

    def look(self) -> None:
        """Start the client where it does not run, and its time has come."""
        with self._lock:
            if not self._closing.is_set():
                self._look()

    def _look(self) -> None:
        now = self.clock()
        if self.process is not None and self.process.alive:
            return
        if self.process is not None:
            self._failed = self._failed + 1 if now - self._since < STABLE else 1
            wait = RESTARTS[min(self._failed, len(RESTARTS)) - 1]
            self.note(f"FLARE's client ended; it is started again in {wait:g} s. Its own words: {self.process.log}")
            self.process.kill()
            self.process, self._again = None, now + wait
        if now >= self._again:
            self.process, self._since = self.start(), now

    def close(self) -> None:
        """End it; calling it twice does no harm."""
        self._closing.set()
        with self._lock:
            if self.process is not None:
                self.process.stop()
                self.process = None
        if self._thread is not None:
            self._thread.join()  # it waits for nothing but the lock


@dataclass
class SiteService:
    """One site, in one study.

    Attributes:
        terms: of the study. side: the site, opened.
        kit: folder of FLARE's kit. socket: where the executor finds this process.
        board: shows what is going on. note: told what a person should know.
    """

    terms: Terms
    side: SiteSide
    kit: Path
    socket: Path
    board: Board = field(default_factory=NoBoard)
    note: Callable[[str], None] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    _last: float = 0.0
    _closed: bool = False
    _failure: str = ""

    def run(self, stopping: Callable[[], bool]) -> Ending:
        """Serve until the study is over, or somebody asks to stop.

        Raises:
            LedgerError, CheckpointError, OSError: this site's own state cannot be kept, as on a full disk; nothing was
                released for it, and the coordinator hears that the site is gone.
            FlareProcessError, RelayError: FLARE cannot be started, or the socket is taken.
        """
        relay = SiteRelay(self.socket, limit=self.limit)
        client = ClientKeeper(lambda: start_client(self.kit, self.socket), self.note, self.clock)
        connected = False
        self._last = self.clock()
        closing = self.side.ledger.chain.studies[self.terms.digest].closing
        self._closed = "cosignature" in closing  # a start after the end: nothing more is to come
        try:
            self.board.state("waiting")
            client.watch()
            while not stopping():
                client.check()
                relay.step(self.handle, STEP)
                if relay.connected != connected:
                    connected = relay.connected
                    self.board.party(COORDINATOR, "present" if connected else "absent")
                if self.over:
                    return "complete" if (self.side.home.state(self.terms.digest) / FINAL_FILE).is_file() else "aborted"
            return "stopped"
        finally:
            client.close()
            relay.close()

    @property
    def limit(self) -> int:
        """Bytes of the largest message, in its envelope."""
        return self.terms.largest + SIGNATURE_BYTES

    def handle(self, data: bytes) -> Iterable[Sealed]:
        """Open the envelope, and answer what is in it."""
        site, name = self.side.site, self.side.site.name
        try:
            wire = unpack(data, self.terms.roster.roster, name)
        except DecodeError as error:
            self.note(f"refused before it was read: {error.what}")
            self.board.refused()
            return ()
        self._last = self.clock()
        self.board.state("running")
        self.board.message(type_of(wire, TO_SITE, self.terms.limits), len(wire), "in", COORDINATOR)
        parcels = site.handle(wire)
        for parcel in parcels:
            self.board.message(parcel.tag, len(parcel.wire), "out", COORDINATOR)
            self.board.at(site.last_round, parcel.tag)
            if parcel.tag == "receipt":
                self._show_budget()
        for text in (site.failure, site.notice):
            if text and text != self._failure:
                self._failure = text
                self.note(text)
        # After the study's end a site answers with a receipt and a cosignature; who cosigned is the last it hears.
        # Other messages that it does not answer, such as late ones of a round, end nothing.
        self._closed = self._closed or (site.witness is not None and site.witness.over and self._is_last(wire))
        return parcels

    def _is_last(self, wire: bytes) -> bool:
        try:
            return isinstance(decode(wire, TO_SITE, self.terms.limits), Cosigned)
        except DecodeError:
            return False

    def _show_budget(self) -> None:
        """What this study has spent, and what the site's policy leaves."""
        budget = self.side.budget
        if budget is not None:
            policy = Policy.load(self.side.home.policy).budget
            delta = self.terms.study.privacy.delta
            spent, everything = budget.spent(delta, self.terms.digest).epsilon, budget.spent(delta).epsilon
            most = policy.maximum_epsilon
            self.board.privacy(spent, None if most is None else max(0.0, most - everything), delta)

    @property
    def over(self) -> bool:
        """Whether the study has ended here, and its last messages have come or are no longer waited for."""
        witness = self.side.site.witness
        ended = witness is not None and witness.over
        return ended and (self._closed or self.clock() - self._last > PATIENCE)
