"""The coordinator at work on its own machine: FLARE's server beside it, and a line to the sites over it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ...privacy.egress import Sealed
from ...privacy.envelopes import SIGNATURE_BYTES, Envelopes
from ...privacy.identity import Identity
from ...privacy.messages import TO_COORDINATOR
from ..engines.courier import CourierError
from ..engines.deployed import LONGEST_PAUSE, RENEWAL, DeployedLine, StopRequestedError
from ..engines.nvflare.courier import FlareCourier
from ..engines.nvflare.processes import FlareProcess, start_server
from ..terms import Terms
from ..watching import Silent, Watcher
from .board import Board, NoBoard, type_of
from .network_checks import port_check
from .runtime import ServiceError

FREED = 10.0
"""Seconds that a port may be taken by a server that is just ending."""
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

    def await_sites(
        self, line: DeployedLine, stopping: Callable[[], bool], patience: float, least: int | None = None
    ) -> None:
        """Wait until all sites are connected; after ``patience`` seconds, until enough are. Then the job begins.

        Args:
            line: over the courier. stopping: whether somebody asks to stop. patience: seconds.
            least: sites that are enough; None for as many as a round needs, of those whose words were compared.

        Raises:
            StopRequestedError: somebody asked to stop.
        """
        roster = self.terms.roster
        names, enough = set(roster.roster.names), roster.roster.thresholds.least if least is None else least
        began, shown = time.monotonic(), frozenset[str]()
        self.board.state("waiting")
        self.watch.note(f"waiting for {', '.join(sorted(names))}; {enough} are enough after {patience:g} s")
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
            counted = there if least is not None else there & roster.confirmed
            if there == names or (len(counted) >= enough and waited > patience):
                break
            time.sleep(LOOK)
        self._begin_job(line, stopping)
        self.board.state("running")

    def _begin_job(self, line: DeployedLine, stopping: Callable[[], bool]) -> None:
        """A job for the sites that are connected; tried until it runs, or nobody is connected any more."""
        pause = LOOK
        while line.courier.connected:
            if stopping():
                raise StopRequestedError
            line.check()
            try:
                line.courier.renew(RENEWAL)
                return
            except CourierError as error:
                self.watch.note(f"the sites are not reached: {error.what}; tried again")
            until = time.monotonic() + pause
            while time.monotonic() < until and not stopping():
                time.sleep(LOOK)
            pause = min(LONGEST_PAUSE, 2.0 * pause)

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


def check_ports(ports: Collection[int], stopping: Callable[[], bool]) -> None:
    """Refuse ports that another process has: FLARE would try for ever, and nobody would hear of it.

    Those of a server that was killed a moment ago are waited for.

    Raises:
        ServiceError: one is taken, or may not be listened at.
        StopRequestedError: somebody asked to stop.
    """
    until = time.monotonic() + FREED
    for port in sorted(set(ports)):
        while not (found := port_check("port", port, Path(os.devnull, "none"))).sound:
            if stopping():
                raise StopRequestedError
            if time.monotonic() > until:
                raise ServiceError(f"port {found.found}", where=f"port {port}", remedy=found.remedy)
            time.sleep(LOOK)
