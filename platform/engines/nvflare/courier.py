"""How the coordinator process reaches its sites: it sends sealed parcels, and learns what came back and who is gone."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from ....privacy.atomic import make_private
from ....privacy.egress import Sealed
from ..courier import Arrival, CourierError, Gone
from .admin import AdminProcess
from .frames import (
    FRAME_BYTES,
    MAX_FRAME,
    PARCEL_BYTES,
    TO_COURIER,
    Abort,
    Answered,
    Deliver,
    Failed,
    Frame,
    Joined,
    Lost,
    Poll,
    Polled,
    Reach,
    RelayError,
    Stop,
    Submit,
    Submitted,
)
from .job import write_job
from .listener import Listener
from .presence import Presence
from .relay import Link

POLL_SECONDS = 1.0
STOP_SECONDS = 5.0
ASK_SECONDS = 30.0
JOIN_SECONDS = 15.0
SITE_SECONDS = 2.0


class FlareCourier:
    """The courier over NVIDIA FLARE. FLARE's server and clients are started by others; this runs jobs on them.

    Args:
        folder: the coordinator's own; socket, job folder and log go there. Mode 0700; made where it is missing.
        kit: FLARE's kit of the administrator.
        study: digest of the study, 32 bytes.
        limit: largest message in bytes; a little more is allowed for the frame around it.
        pack: what travels of a parcel, such as its bytes in a signed envelope.

    Raises:
        RelayError: when another coordinator process uses the folder, or its path is too long for a socket.
    """

    def __init__(
        self,
        folder: Path,
        kit: Path,
        study: bytes,
        *,
        limit: int = MAX_FRAME,
        pack: Callable[[Sealed], bytes] = lambda parcel: parcel.wire,
    ) -> None:
        make_private(folder)
        self._folder, self._kit, self._study = folder.absolute(), kit.absolute(), study
        self._pack = pack
        self._changed = threading.Condition()
        self._events: deque[Arrival | Gone] = deque()
        self._owed: dict[bytes, str] = {}
        self._failed: set[str] = set()
        self._told: set[str] = set()
        self._present: frozenset[str] = frozenset()
        self._waiting: frozenset[str] = frozenset()
        self._clients = Presence()
        self._job: str | None = None
        self._link: Link | None = None
        self._joined: dict[str, Link] = {}
        self._closed = threading.Event()
        self._listener = Listener(self.socket_path, TO_COURIER, limit=min(MAX_FRAME, limit + FRAME_BYTES))
        self._admin: AdminProcess | None = None
        self._admin_lock = threading.Lock()
        self._threads = [
            threading.Thread(target=target, name=f"wardround-{name}", daemon=True)
            for name, target in (("accept", self._accept), ("poll", self._poll))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def socket_path(self) -> Path:
        """Where FLARE's server must look for this process (`controller.SOCKET_VARIABLE`)."""
        return self._folder / "courier.sock"

    @property
    def present(self) -> frozenset[str]:
        """See `Courier`."""
        return self._present

    @property
    def knocking(self) -> frozenset[str]:
        """See `Courier`."""
        with self._changed:
            return self._clients.connected - self._present - self._waiting

    @property
    def connected(self) -> frozenset[str]:
        """Sites whose FLARE client was heard by the server just now, whatever the job."""
        with self._changed:
            return self._clients.connected

    # --- parcels ---------------------------------------------------------------------------------------------------

    def send(self, parcel: Sealed) -> None:
        """See `Courier`."""
        if type(parcel) is not Sealed:
            raise TypeError(f"an engine carries sealed parcels only, not {type(parcel).__name__}")
        with self._changed:
            link, number = self._link, os.urandom(PARCEL_BYTES)
            self._told.discard(parcel.peer)
            if link is None or parcel.peer not in self._present:
                self._missed(parcel.peer)
                return
            self._owed[number] = parcel.peer
        try:
            link.send(Deliver(number, parcel.peer, self._pack(parcel)))
        except RelayError as error:
            if not link.closed:
                raise CourierError(error.what, remedy="Use an adapter with fewer parameters.") from None

    def receive(self, timeout: float | None) -> Arrival | Gone | None:
        """See `Courier`."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._events), timeout)
            return self._events.popleft() if self._events else None

    def settle(self, timeout: float) -> frozenset[str]:
        """See `Courier`."""
        with self._changed:
            self._changed.wait_for(lambda: not self._owed, timeout)
            left = frozenset(self._failed) | frozenset(self._owed.values())
            self._failed.clear()
            return left

    # --- jobs ------------------------------------------------------------------------------------------------------

    def renew(self, timeout: float) -> None:
        """See `Courier`."""
        until = time.monotonic() + timeout
        self._finish()
        with self._changed:
            self._drop_joined()
            self._events.clear()
            self._owed.clear()
            self._failed.clear()
        sites = self._await_clients(until)
        folder = write_job(self._folder / "job", self._study, sites)
        answer = self._ask(Submit(str(folder)))
        if not isinstance(answer, Submitted):
            raise CourierError(
                "FLARE's server did not take the job",
                where=str(self._folder / "admin.log"),
                remedy="See that file; check that the kit belongs to this server (`wardround doctor --kit`).",
            )
        with self._changed:
            self._job = answer.job
            self._changed.wait_for(self._took_job, max(0.0, until - time.monotonic()))
            if self._link is not None:
                self._changed.wait_for(
                    lambda: self._link is None or sites <= self._present | self._waiting,
                    max(0.0, min(JOIN_SECONDS, until - time.monotonic())),
                )
                self._changed.wait_for(  # an executor is there a moment before it has found its site process
                    lambda: self._link is None or sites <= self._present,
                    max(0.0, min(SITE_SECONDS, until - time.monotonic())),
                )
            running = self._link is not None and bool(self._present | self._waiting)
        if not running:
            self._finish()
            raise CourierError(
                f"the job did not start within {timeout:.0f} seconds",
                remedy="See the log of FLARE's server; a site that refuses the job says so in its own log.",
            )

    def _took_job(self) -> bool:
        link = self._joined.pop(self._job or "", None)
        if link is None:
            return False
        self._link = link
        self._drop_joined()
        threading.Thread(target=self._read, args=(link,), name="wardround-job", daemon=True).start()
        return True

    def _drop_joined(self) -> None:
        """Let go of controllers whose job was given up before they came: each ends with its link."""
        while self._joined:
            self._joined.popitem()[1].close()

    def _await_clients(self, until: float) -> frozenset[str]:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._clients.connected), max(0.0, until - time.monotonic()))
            sites = self._clients.connected
        if not sites:
            raise CourierError(
                "no site is connected to FLARE's server",
                remedy="Check that the server runs, and that the sites run `wardround site start` and can reach it.",
            )
        return sites

    def _finish(self) -> None:
        """End the running job, if there is one, and forget it."""
        with self._changed:
            link, job = self._link, self._job
        if link is not None:
            try:
                link.send(Stop())
            except RelayError:
                link.close()
        with self._changed:
            ended = self._changed.wait_for(lambda: self._link is None, STOP_SECONDS)
            self._job = None
            if not ended:
                self._unlinked()
        if link is not None and not ended:
            link.close()
        if job is not None and (link is None or not ended):
            self._ask(Abort(job))

    def close(self) -> None:
        """See `Courier`."""
        self._finish()
        self._closed.set()
        self._listener.close()
        with self._admin_lock:
            if self._admin is not None:
                self._admin.close()
        for thread in self._threads:
            thread.join(STOP_SECONDS)
        with self._changed:
            self._drop_joined()

    # --- threads ---------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                link = self._listener.accept()
            except RelayError:  # closed
                return
            if link is None:
                continue
            try:
                first = link.receive(STOP_SECONDS)
            except RelayError:
                continue
            if not isinstance(first, Joined):
                link.close()
                continue
            with self._changed:
                self._joined[first.job] = link
                self._changed.notify_all()

    def _read(self, link: Link) -> None:
        try:
            while True:
                frame = link.receive(None)
                with self._changed:
                    if frame is not None and self._link is link:
                        self._handle(frame)
                        self._changed.notify_all()
        except RelayError:
            with self._changed:
                if self._link is link:
                    self._unlinked()

    def _unlinked(self) -> None:
        self._reach(frozenset(), frozenset())
        for site in self._owed.values():
            self._missed(site)
        self._owed.clear()
        self._link = None
        self._clients.doubt()  # perhaps the server is gone with its job; the next poll says
        self._changed.notify_all()

    def _handle(self, frame: Frame) -> None:
        if isinstance(frame, Answered):
            if self._owed.get(frame.parcel) == frame.site:
                del self._owed[frame.parcel]
                self._events.extend(Arrival(frame.site, wire) for wire in frame.wires)
        elif isinstance(frame, Lost):
            if self._owed.get(frame.parcel) == frame.site:
                del self._owed[frame.parcel]
                self._missed(frame.site)
        elif isinstance(frame, Reach):
            present, waiting = frozenset(frame.sites), frozenset(frame.waiting)
            self._clients.lost((self._present | self._waiting) - present - waiting)
            self._clients.found(present | waiting)
            self._reach(present, waiting)

    def _reach(self, present: frozenset[str], waiting: frozenset[str]) -> None:
        self._told -= present
        before, self._present, self._waiting = self._present, present, waiting
        for site in sorted(before - present):
            self._tell(site)

    def _missed(self, site: str) -> None:
        self._failed.add(site)
        self._tell(site)

    def _tell(self, site: str) -> None:
        if site not in self._told:
            self._told.add(site)
            self._events.append(Gone(site))
            self._changed.notify_all()

    def _poll(self) -> None:
        while not self._closed.wait(POLL_SECONDS):
            with self._changed:
                self._clients.asking()
            answer = self._ask(Poll(""))
            with self._changed:
                if isinstance(answer, Polled):
                    self._clients.answered(answer.clients)
                self._changed.notify_all()

    def _ask(self, frame: Submit | Abort | Poll) -> Frame:
        with self._admin_lock:
            if self._closed.is_set():
                return Failed("ended")
            if self._admin is None or self._admin.ended:
                if self._admin is not None:
                    self._admin.close()
                self._admin = AdminProcess(self._kit, self._folder / "admin.log")
            return self._admin.ask(frame, ASK_SECONDS)
