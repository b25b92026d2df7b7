"""The coordinator at work on its own machine: FLARE's server beside it, and a line to the sites over it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ...privacy.egress import Sealed
from ...privacy.envelopes import SIGNATURE_BYTES, Envelopes
from ...privacy.identity import Identity
from ...privacy.messages import TO_COORDINATOR
from ..engines.deployed import RENEWAL, DeployedLine, StopRequestedError
from ..engines.nvflare.courier import FlareCourier
from ..engines.nvflare.processes import FlareProcess, start_server
from ..terms import Terms
from ..watching import Silent, Watcher
from .board import Board, NoBoard, type_of
from .runtime import ServiceError

LOOK = 0.25
"""Seconds between two looks at who is connected."""


@dataclass
class CoordinatorService:
    """Carries a study's messages over FLARE.

    Attributes:
        terms: of the study. identity: the coordinator's.
        server, admin: folders of FLARE's kits. folder: short and private, for sockets and jobs.
        board: shows what is going on. watch: told what a person should know.
        listen: address to listen at; empty: that of the kit.
        round: the number of the round under way.
    """

    terms: Terms
    identity: Identity
    server: Path
    admin: Path
    folder: Path
    board: Board = field(default_factory=NoBoard)
    watch: Watcher = field(default_factory=Silent)
    listen: str = ""
    round: Callable[[], int] = lambda: 0

    @contextmanager
    def connected(self, stopping: Callable[[], bool]) -> Iterator[DeployedLine]:
        """FLARE's server and a courier on it, for as long as the block lasts.

        Raises:
            FlareProcessError, RelayError, CourierError: FLARE cannot be started, or the socket is taken.
        """
        envelopes = Envelopes(self.identity, self.terms.roster.roster)
        courier = FlareCourier(
            self.folder,
            self.admin,
            self.terms.roster.roster.study,
            limit=self.terms.largest + SIGNATURE_BYTES,
            pack=envelopes.pack,
        )
        process: FlareProcess | None = None
        try:
            process = start_server(self.server, courier.socket_path, listen=self.listen)
            yield DeployedLine(
                courier,
                stopping=stopping,
                seen=self._seen,
                sent=self._sent,
                lost=self._lost,
                check=server_check(process),
                note=self.watch.note,
            )
        finally:
            courier.close()
            if process is not None:
                process.stop()

    def await_sites(self, line: DeployedLine, stopping: Callable[[], bool], patience: float) -> None:
        """Wait until all sites are connected; after ``patience`` seconds, until enough are. Then the job begins.

        Raises:
            StopRequestedError: somebody asked to stop.
            CourierError: the job does not start.
        """
        names, least = set(self.terms.roster.roster.names), self.terms.roster.roster.thresholds.least
        began, shown = time.monotonic(), frozenset[str]()
        self.board.state("waiting")
        self.watch.note(f"waiting for {', '.join(sorted(names))}; {least} are enough after {patience:g} s")
        while True:
            if stopping():
                raise StopRequestedError
            line.check()
            there = line.courier.connected & names
            if there != shown:
                self._show(there, names)
                shown = there
                named = ", ".join(sorted(there)) or "none"
                self.watch.note(f"{len(there)} of {len(names)} sites are connected: {named}")
            waited = time.monotonic() - began
            if there == names or (len(there) >= least and waited > patience):
                break
            time.sleep(LOOK)
        line.courier.renew(RENEWAL)
        self.board.state("running")

    def _show(self, there: Collection[str], names: Collection[str]) -> None:
        for name in sorted(names):
            self.board.party(name, "present" if name in there else "absent")

    def _seen(self, site: str, wire: bytes) -> None:
        self.board.party(site, "present")
        self.board.message(type_of(wire, TO_COORDINATOR, self.terms.limits), len(wire), "in", site)

    def _sent(self, parcel: Sealed) -> None:
        self.board.message(parcel.tag, len(parcel.wire), "out", parcel.peer)
        self.board.at(self.round(), parcel.tag)

    def _lost(self, site: str) -> None:
        self.board.party(site, "absent")


def server_check(process: FlareProcess) -> Callable[[], None]:
    """Raises where FLARE's server has ended: nothing would ever arrive."""

    def check() -> None:
        if not process.alive:
            raise ServiceError(
                "FLARE's server has ended",
                where=str(process.log),
                remedy="See its own words there; a port that is taken is the usual reason. Then: "
                "wardround coordinator start --resume",
            )

    return check
