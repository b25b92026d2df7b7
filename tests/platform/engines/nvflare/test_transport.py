"""The transport with FLARE's real processes on loopback, under mutual TLS: rounds, deaths and returns, and a capture.

One consortium serves all tests of the module, in the order in which they stand.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from wardround.platform.engines.courier import Arrival, Gone
from wardround.platform.engines.nvflare.certificates import new_request
from wardround.platform.engines.nvflare.courier import FlareCourier
from wardround.platform.engines.nvflare.kits import install
from wardround.platform.engines.nvflare.processes import FlareProcess, start_client, start_server
from wardround.platform.engines.nvflare.provisioning import Machine, provision
from wardround.platform.engines.nvflare.site_relay import SiteRelay
from wardround.privacy import egress

SITES = ("alpha", "bravo", "charlie")
LARGE = 2_100_000
EXCHANGES = 8
PATIENCE = 60.0

FROM_A_SITE = {  # all that may leave a hospital through FLARE: (channel, topic)
    ("", "hello"),
    ("", "ready"),
    ("", "ping"),
    ("", "pong"),
    ("task", "challenge"),
    ("task", "register"),
    ("task", "heart_beat"),
    ("task", "report_job_failure"),
    ("task", "quit"),
    ("admin", "admin"),
    ("admin", "train.notify_job_status"),
    ("aux_communication", "__sync_runner__"),
    ("aux_communication", "__job_heartbeat__"),
    ("return_only", "aux_communication:__end_run__"),
    ("server_command", "get_task"),
    ("cellnet.channel", "bye"),
    ("sm__STREAM", "sm__ACK"),
    ("sm__STREAM", "error"),  # a message that could not be forwarded to a process that has ended
    ("wardround", "frame"),
    ("return_only", "wardround:frame"),
}


def sealed(wire: bytes, peer: str = "coordinator") -> egress.Sealed:
    return egress.Sealed(egress._TOKEN, wire=wire, peer=peer, tag="advert", sha256="", sequence=0)


def reader() -> ModuleType:
    path = Path(__file__).with_name("capture") / "reader.py"
    spec = importlib.util.spec_from_file_location("flare_capture_reader", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(true: Callable[[], Any], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


class SiteProcess:
    """A hospital's site process, played by a thread: it answers by the first byte of what it gets."""

    def __init__(self, path: Path) -> None:
        self._relay = SiteRelay(path)
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        large = os.urandom(LARGE)
        while not self._ended:
            self._relay.step(
                lambda wire: [] if wire[:1] == b"E" else [sealed(large if wire[:1] == b"V" else wire)], 0.2
            )

    def close(self) -> None:
        self._ended = True
        self._relay.close()
        self._thread.join(5.0)


class Consortium:
    """A server, three hospitals, and the coordinator's courier."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.reader = folder, reader()
        self.hook = self.reader.arm(folder / "hook")
        requests = {site: new_request(site) for site in SITES}
        port = free_port()
        made = provision(
            folder / "c", "demo", Machine("127.0.0.1", port, port), {site: csr for site, (_, csr) in requests.items()}
        )
        for site, (key, _) in requests.items():
            install(made.sites[site], key, folder / site, authority=made.authority)
        self.kit = made.server
        self.flare: dict[str, FlareProcess] = {}
        self.sites: dict[str, SiteProcess] = {}
        self.courier = FlareCourier(folder / "k", folder / "c" / "admin", bytes(32))

    def start_server(self) -> None:
        self.flare["server"] = start_server(self.kit, self.courier.socket_path, python_path=self.hook)

    def start_client(self, site: str) -> None:
        self.flare[site] = start_client(self.folder / site, self.socket_of(site), python_path=self.hook)

    def socket_of(self, site: str) -> Path:
        return self.folder / "s" / site / "relay.sock"

    def start(self) -> None:
        self.start_server()
        for site in SITES:
            self.sites[site] = SiteProcess(self.socket_of(site))
            self.start_client(site)
        until(lambda: self.courier.connected == set(SITES))
        self.courier.renew(PATIENCE)
        assert self.courier.present == set(SITES)

    def exchange(self, wire: bytes, *sites: str) -> None:
        """Send one message to each of the sites, and take their answers."""
        for site in sites:
            self.courier.send(sealed(wire, site))
        assert self.courier.settle(PATIENCE) == frozenset()
        expected = 0 if wire[:1] == b"E" else len(sites)
        arrivals = [self.courier.receive(5.0) for _ in range(expected)]
        assert {arrival.sender for arrival in arrivals if isinstance(arrival, Arrival)} == (
            set(sites) if expected else set()
        )

    def round(self) -> float:
        """The exchanges of a round, with nothing done at the sites; seconds."""
        begun = time.monotonic()
        down = b"S" + os.urandom(LARGE)
        for wire in (down, b"advert list", b"V" * 600, b"survivors", b"unmask", b"E", b"batch", b"E"):
            self.exchange(wire, *SITES)
        return time.monotonic() - begun

    def close(self) -> None:
        try:
            self.courier.close()
        finally:
            for process in self.flare.values():
                process.kill()
            for site in self.sites.values():
                site.close()


@pytest.fixture(scope="module")
def consortium() -> Iterator[Consortium]:
    with tempfile.TemporaryDirectory(prefix="wr-") as name:
        made = Consortium(Path(name) / "r")
        try:
            made.start()
            yield made
        finally:
            made.close()


@pytest.mark.slow
def test_what_a_round_costs(consortium: Consortium, capsys: pytest.CaptureFixture[str]) -> None:
    """A figure to read, not a limit: eight exchanges with three sites, 2.1 MB down and 2.1 MB up."""
    consortium.round()
    seconds = min(consortium.round() for _ in range(2))
    with capsys.disabled():
        print(f"transport of one round: {seconds:.2f} s")
    assert seconds > 0


@pytest.mark.slow
def test_a_killed_job_process_is_gone_and_the_others_go_on(consortium: Consortium) -> None:
    courier = consortium.courier
    time.sleep(5.0)  # a heartbeat: FLARE knows by now that the job runs there
    for process in consortium.flare["alpha"].jobs:
        os.kill(process, signal.SIGKILL)
    assert courier.receive(PATIENCE) == Gone("alpha")
    consortium.exchange(b"x", "bravo", "charlie")
    until(lambda: courier.knocking == {"alpha"})
    consortium.exchange(b"x", "bravo", "charlie")
    assert courier.present == {"bravo", "charlie"}
    courier.renew(PATIENCE)
    assert courier.present == set(SITES)


def test_a_killed_client_comes_back_with_the_next_job(consortium: Consortium) -> None:
    courier = consortium.courier
    consortium.flare["bravo"].kill()
    assert courier.receive(PATIENCE) == Gone("bravo")
    assert "bravo" not in courier.knocking
    courier.renew(PATIENCE)
    assert courier.present == {"alpha", "charlie"}
    consortium.start_client("bravo")
    until(lambda: courier.knocking == {"bravo"})
    courier.renew(PATIENCE)
    assert courier.present == set(SITES)
    consortium.exchange(b"x", *SITES)


def test_a_site_process_that_restarts_needs_no_new_job(consortium: Consortium) -> None:
    courier = consortium.courier
    consortium.sites["charlie"].close()
    assert courier.receive(PATIENCE) == Gone("charlie")
    assert courier.knocking == frozenset()
    consortium.sites["charlie"] = SiteProcess(consortium.socket_of("charlie"))
    until(lambda: "charlie" in courier.present)
    consortium.exchange(b"x", *SITES)


@pytest.mark.slow
def test_a_killed_server_comes_back_and_so_do_all(consortium: Consortium) -> None:
    courier = consortium.courier
    consortium.flare["server"].kill()
    assert {courier.receive(5.0) for _ in SITES} == {Gone(site) for site in SITES}
    consortium.start_server()
    until(lambda: courier.connected == set(SITES))
    courier.renew(PATIENCE)
    consortium.exchange(b"x", *SITES)


@pytest.mark.slow
def test_a_coordinator_process_that_starts_again_takes_over(consortium: Consortium) -> None:
    consortium.courier.close()
    consortium.courier = FlareCourier(consortium.folder / "k", consortium.folder / "c" / "admin", bytes(32))
    until(lambda: consortium.courier.connected == set(SITES))
    consortium.courier.renew(PATIENCE)
    consortium.exchange(b"x", *SITES)


def test_flare_sends_known_kinds_only_and_nothing_of_the_machine(consortium: Consortium) -> None:
    frames = [
        frame
        for frame in consortium.reader.frames(consortium.hook)
        if (site := frame.sender.split(".")[0]) in SITES and frame.peer.split(".")[0] != site  # what leaves a hospital
    ]
    assert len(frames) > 50
    assert set(consortium.reader.kinds(frames)) <= FROM_A_SITE
    own = [frame for frame in frames if frame.kind not in {("wardround", "frame"), ("return_only", "wardround:frame")}]
    assert max(len(frame.payload) for frame in own) < 4096
    words = [str(consortium.folder), str(Path(sys.prefix)), "Traceback", "Error(", "log.txt", "relay.sock"]
    for word in words:
        assert not [frame.kind for frame in own if word.encode() in frame.text], word
