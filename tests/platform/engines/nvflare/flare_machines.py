"""FLARE's server and clients as processes, each frame that they send recorded; and a line that carries studies by them.

Sites and coordinator stay in the test's own process, where what they hold in secret can be written down.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wardround.platform.consortium import Consortium
from wardround.platform.coordinator_side import IDENTITY_FILE
from wardround.platform.engines.deployed import DeployedLine
from wardround.platform.engines.local import Tap
from wardround.platform.engines.nvflare.certificates import new_request
from wardround.platform.engines.nvflare.courier import FlareCourier
from wardround.platform.engines.nvflare.kits import install
from wardround.platform.engines.nvflare.processes import FlareProcess, start_client, start_server
from wardround.platform.engines.nvflare.provisioning import Machine, provision
from wardround.platform.engines.nvflare.site_relay import SiteRelay
from wardround.platform.enrolment import open_identity
from wardround.privacy import messages as m
from wardround.privacy.egress import COORDINATOR, Sealed
from wardround.privacy.envelopes import Envelopes, unpack

from .capture import reader

PATIENCE = 60.0
FACTS = {"host": "brambleknacker", "user": "dingleflorist"}
"""What FLARE's processes take for the names of their machine and user."""

Fault = Callable[["FlareRun", str, m.Message], None]
"""Called with the site and its message before the site handles it; what it raises, the site raises."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(true: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.05)


class Machines:
    """A server, a client for each hospital, and the courier; one job of theirs serves one study after the other.

    Attributes:
        pack: how the study's coordinator packs what it sends.
    """

    def __init__(self, folder: Path, sites: tuple[str, ...]) -> None:
        self.folder, self.sites = folder, sites
        self.hook = reader.arm(folder / "hook")
        (self.hook / "facts.json").write_text(json.dumps(FACTS))
        requests = {site: new_request(site) for site in sites}
        port = free_port()
        made = provision(
            folder / "c", "demo", Machine("127.0.0.1", port, port), {site: csr for site, (_, csr) in requests.items()}
        )
        for site, (key, _) in requests.items():
            install(made.sites[site], key, self.kit(site), authority=made.authority)
        self.server_kit, self.admin_kit, self.courier_folder = made.server, folder / "c" / "admin", folder / "k"
        self.pack: Callable[[Sealed], bytes] = lambda parcel: parcel.wire
        self._processes: dict[str, FlareProcess] = {}
        self._courier: FlareCourier | None = None
        self._begun, self._taken = False, 0

    def kit(self, site: str) -> Path:
        return self.folder / "h" / site

    def socket_of(self, site: str) -> Path:
        return self.folder / "s" / site / "relay.sock"

    def start(self) -> None:
        self._courier = FlareCourier(  # a job is a pipe: whose study it is for, it need not know
            self.courier_folder, self.admin_kit, bytes(32), pack=lambda parcel: self.pack(parcel)
        )
        self._processes[COORDINATOR] = start_server(self.server_kit, self._courier.socket_path, python_path=self.hook)
        for site in self.sites:
            self.socket_of(site).parent.mkdir(mode=0o700, parents=True)
            self.start_client(site)

    def start_client(self, site: str) -> None:
        self._processes[site] = start_client(self.kit(site), self.socket_of(site), python_path=self.hook)

    def kill(self, site: str) -> None:
        """As a power cut would."""
        self._processes[site].kill()

    def courier(self) -> FlareCourier:
        """At rest, and every hospital there."""
        courier = self._courier
        assert courier is not None
        if not self._begun:
            self._begun = True
            until(lambda: courier.connected == set(self.sites), "no client came")
            courier.renew(PATIENCE)
        until(lambda: courier.present == set(self.sites), "a site did not come")
        courier.settle(0.0)
        while courier.receive(0.0) is not None:
            pass  # that the sites of the study before are gone
        return courier

    def take(self) -> list[reader.Frame]:
        """Every frame since the last time."""
        self._taken += 1
        taken = self.folder / f"capture-{self._taken}" / "captured"
        taken.mkdir(parents=True)
        for path in sorted((self.hook / "captured").glob("*.jsonl")):
            path.rename(taken / path.name)
        time.sleep(0.2)  # whoever had a file open has written it by now
        return list(reader.frames(taken.parent))

    def files(self) -> list[Path]:
        """All that FLARE's processes left on the machines' disks, keys and the job store's archives included."""
        roots = [self.server_kit, *(self.kit(site) for site in self.sites)]
        return [path for root in roots for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]

    def close(self) -> None:
        try:
            if self._courier is not None:
                self._courier.close()
        finally:
            for process in self._processes.values():
                process.kill()


@dataclass
class FlareRun:
    """One study on the machines.

    Attributes:
        machines: FLARE. folder: the coordinator's. fault: what goes wrong.
        raised: what sites raised while they handled a message. lost, notes: what the line told.
    """

    machines: Machines
    folder: Path
    fault: Fault = lambda run, site, message: None
    raised: list[Exception] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _one: threading.RLock = field(default_factory=threading.RLock)
    _ended: threading.Event = field(default_factory=threading.Event)
    _courier: FlareCourier | None = None
    _relays: dict[str, SiteRelay] = field(default_factory=dict)
    _threads: list[threading.Thread] = field(default_factory=list)
    _line: DeployedLine | None = None
    _killed: set[str] = field(default_factory=set)

    def kill(self, site: str) -> None:
        """End a site's FLARE at once; it is started again when the coordinator knows that the site is gone."""
        self._killed.add(site)
        self.machines.kill(site)

    def line(self, clock: Callable[[], float], network: object = None, tap: Tap | None = None) -> _Carrying:
        """In the simulation's place; see `engines.local.SimulatedLine`."""
        return _Carrying(self, clock, tap)

    def open(self, consortium: Consortium, clock: Callable[[], float], tap: Tap | None) -> DeployedLine:
        """The line; made by the first call, when every hospital is connected."""
        if self._line is not None:
            return self._line
        roster = consortium.roster.roster
        assert roster.names == self.machines.sites
        own = open_identity(self.folder, self.folder / IDENTITY_FILE)
        self.machines.pack = Envelopes(own, roster).pack
        for site in roster.names:
            self._relays[site] = SiteRelay(self.machines.socket_of(site))
            self._threads.append(threading.Thread(target=self._serve, args=(consortium, site, tap), daemon=True))
            self._threads[-1].start()
        self._courier = self.machines.courier()
        self._line = DeployedLine(
            self._courier,
            clock,
            sent=lambda parcel: None if tap is None else tap(COORDINATOR, parcel.peer, parcel.wire),
            lost=self._gone,
            note=self.notes.append,
        )
        return self._line

    def there(self, sites: tuple[str, ...]) -> bool:
        """Whether all of them are, or knock."""
        assert self._courier is not None
        return self._courier.present | self._courier.knocking == set(sites)

    def _gone(self, site: str) -> None:
        self.lost.append(site)
        if site in self._killed:
            self._killed.discard(site)
            self.machines.start_client(site)

    def _serve(self, consortium: Consortium, site: str, tap: Tap | None) -> None:
        """One site's process, played by a thread; only one of them works at a time, as their random state is one."""

        def handle(data: bytes) -> Iterable[Sealed]:
            with self._one:
                wire = unpack(data, consortium.roster.roster, site)
                self.fault(self, site, m.decode(wire, m.TO_SITE, _ANY))
                parcels = consortium.sites[site].handle(wire)
                for parcel in parcels:
                    if tap is not None:
                        tap(site, COORDINATOR, parcel.wire)
                return parcels

        while not self._ended.is_set():
            try:
                self._relays[site].step(handle, 0.1)
            except Exception as error:
                self.raised.append(error)

    def close(self) -> None:
        """End the sites."""
        self._ended.set()
        for relay in self._relays.values():
            relay.close()
        for thread in self._threads:
            thread.join(PATIENCE)


_ANY = m.Limits(100, 10**8, 10**8)


@dataclass
class _Carrying:
    """An `engines.local.SimulatedLine` of which nothing is simulated."""

    run: FlareRun
    clock: Callable[[], float]
    tap: Tap | None
    waited: float = 0.0

    def carry(self, consortium: Consortium, parcels: Iterable[Sealed]) -> None:
        line = self.run.open(consortium, self.clock, self.tap)
        line.carry(consortium, parcels)
        line.settle()
        line.carry(consortium, ())

    def between_rounds(self, consortium: Consortium, *, everybody: bool = False, patience: float | None = None) -> None:
        line = self.run.open(consortium, self.clock, self.tap)
        until(lambda: self.run.there(consortium.roster.roster.names), "a site did not come back")
        line.between_rounds(consortium, everybody=everybody, patience=patience)

    def excuses(self, dropped: Collection[str]) -> bool:
        return False


@contextmanager
def machines_in(folder: Path, sites: tuple[str, ...]) -> Iterator[Machines]:
    """FLARE's processes, ended whatever happens. The folder's path must be short, for sockets lie in it."""
    made = Machines(folder, sites)
    try:
        made.start()
        yield made
    finally:
        made.close()
