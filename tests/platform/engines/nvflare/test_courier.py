"""The coordinator's courier, with a controller and an administration that the test plays."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.engines.courier import Arrival, CourierError, Gone
from wardround.platform.engines.nvflare import courier as module
from wardround.platform.engines.nvflare.courier import FlareCourier
from wardround.platform.engines.nvflare.frames import (
    FROM_COURIER,
    Abort,
    Answered,
    Client,
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
from wardround.platform.engines.nvflare.presence import FRESH_SECONDS
from wardround.platform.engines.nvflare.relay import Link, connect
from wardround.privacy import egress


def sealed(peer: str, wire: bytes = b"x") -> egress.Sealed:
    return egress.Sealed(egress._TOKEN, wire=wire, peer=peer, tag="round-start", sha256="", sequence=0)


class Flare:
    """Server, controller and administration in one; ``sites`` are connected, ``start`` says whether a job runs."""

    def __init__(self) -> None:
        self.sites: dict[str, float] = {}
        self.start = True
        self.answer: Frame | None = None
        self.folder: Path = Path()
        self.asked: list[Frame] = []
        self.jobs: list[Link] = []
        self.ended = False
        self.polls = 0
        self.silent = False

    def __call__(self, kit: Path, log: Path) -> Flare:
        return self

    def ask(self, frame: Frame, timeout: float) -> Frame:
        if isinstance(frame, Submit):
            self.asked.append(frame)
            if self.answer is None and self.start:
                threading.Thread(target=self.join, args=(f"job-{len(self.asked)}",), daemon=True).start()
            return self.answer or Submitted(f"job-{len(self.asked)}")
        if isinstance(frame, Abort):
            self.asked.append(frame)
        if isinstance(frame, Poll):
            self.polls += 1
        if self.silent:
            return Failed("unreachable")
        return Polled(tuple(Client(name, seen or time.time()) for name, seen in self.sites.items()), "")

    def polled(self) -> None:
        """Wait until a question that is put from now on has been answered."""
        before = self.polls
        wait(lambda: self.polls >= before + 2)

    def join(self, job: str) -> None:
        link = connect(self.folder / "courier.sock", FROM_COURIER)
        link.send(Joined(job))
        link.send(Reach((), tuple(sorted(self.sites))))
        link.send(Reach(tuple(sorted(self.sites)), ()))
        self.jobs.append(link)

    def close(self) -> None:
        for link in self.jobs:
            link.close()


@pytest.fixture
def flare(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flare]:
    made = Flare()
    monkeypatch.setattr(module, "AdminProcess", made)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(module, "STOP_SECONDS", 0.5)
    yield made
    made.close()


@pytest.fixture
def courier(flare: Flare, tmp_path: Path) -> Iterator[FlareCourier]:
    flare.folder = tmp_path / "k"
    made = FlareCourier(flare.folder, tmp_path / "admin", bytes(32))
    yield made
    made.close()


def started(courier: FlareCourier, flare: Flare, *sites: str) -> Link:
    flare.sites = dict.fromkeys(sites, 0.0)
    courier.renew(10.0)
    assert courier.present == frozenset(sites)
    wait(lambda: flare.jobs)  # the courier may know of it a moment before the stand-in has written it down
    return flare.jobs[-1]


def test_a_parcel_goes_out_and_its_answers_arrive(courier: FlareCourier, flare: Flare) -> None:
    job = started(courier, flare, "alpha", "bravo")
    courier.send(sealed("alpha", b"down"))
    frame = job.receive(5.0)
    assert isinstance(frame, Deliver)
    assert (frame.site, frame.wire) == ("alpha", b"down")
    assert courier.settle(0.05) == {"alpha"}
    job.send(Answered(bytes(16), "alpha", (b"never asked for",)))
    job.send(Answered(frame.parcel, "bravo", (b"another's",)))
    job.send(Answered(frame.parcel, "alpha", (b"1", b"2")))
    assert courier.receive(5.0) == Arrival("alpha", b"1")
    assert courier.receive(5.0) == Arrival("alpha", b"2")
    assert courier.settle(5.0) == frozenset()
    assert courier.receive(0.01) is None


@pytest.mark.parametrize("parcel", [b"bytes", None, object()])
def test_only_sealed_parcels_travel(courier: FlareCourier, flare: Flare, parcel: Any) -> None:
    job = started(courier, flare, "alpha")
    with pytest.raises(TypeError, match="sealed parcels only"):
        courier.send(parcel)
    assert job.receive(0.05) is None


def test_a_site_that_cannot_be_reached_is_gone_once_for_each_loss(courier: FlareCourier, flare: Flare) -> None:
    job = started(courier, flare, "alpha", "bravo")
    for _ in range(2):
        courier.send(sealed("alpha"))
    first, second = job.receive(5.0), job.receive(5.0)
    assert isinstance(first, Deliver)
    assert isinstance(second, Deliver)
    for frame in (Lost(first.parcel, "alpha"), Lost(second.parcel, "alpha"), Reach(("bravo",), ())):
        job.send(frame)
    assert courier.settle(5.0) == {"alpha"}
    assert courier.receive(5.0) == Gone("alpha")
    assert courier.receive(0.1) is None
    assert courier.present == {"bravo"}
    courier.send(sealed("alpha"))
    courier.send(sealed("unknown"))
    assert [courier.receive(5.0), courier.receive(5.0)] == [Gone("alpha"), Gone("unknown")]


def test_the_end_of_a_job_is_nothing_but_gone_sites(courier: FlareCourier, flare: Flare) -> None:
    job = started(courier, flare, "alpha", "bravo")
    courier.send(sealed("alpha"))
    job.close()
    assert {courier.receive(5.0), courier.receive(5.0)} == {Gone("alpha"), Gone("bravo")}
    assert courier.receive(0.05) is None
    assert courier.present == frozenset()
    assert courier.settle(0.05) == {"alpha"}


def test_who_came_later_or_came_back_knocks_and_who_only_lacks_its_process_does_not(
    courier: FlareCourier, flare: Flare
) -> None:
    job = started(courier, flare, "alpha", "bravo")
    flare.sites["charlie"] = 0.0
    wait(lambda: courier.knocking == {"charlie"})
    job.send(Reach(("alpha",), ("bravo",)))
    wait(lambda: courier.present == {"alpha"})
    flare.polled()
    assert courier.knocking == {"charlie"}
    flare.sites["bravo"] = time.time()  # its last heartbeat; then it died, and FLARE has not noticed
    job.send(Reach(("alpha",), ()))
    wait(lambda: not courier._waiting)
    flare.polled()
    assert courier.knocking == {"charlie"}
    flare.sites["bravo"] = 0.0
    wait(lambda: courier.knocking == {"bravo", "charlie"})
    courier.renew(10.0)
    assert isinstance(job.receive(1.0), Stop)
    assert courier.present == {"alpha", "bravo", "charlie"}
    assert courier.knocking == frozenset()


def wait(true: Any, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_renewing_drops_what_was_queued(courier: FlareCourier, flare: Flare) -> None:
    job = started(courier, flare, "alpha")
    courier.send(sealed("alpha"))
    frame = job.receive(5.0)
    assert isinstance(frame, Deliver)
    job.send(Answered(frame.parcel, "alpha", (b"old",)))
    courier.send(sealed("alpha"))
    wait(lambda: len(courier._events) == 1)
    courier.renew(10.0)
    assert courier.receive(0.05) is None
    assert courier.settle(0.05) == frozenset()


@pytest.mark.parametrize(
    ("sites", "answer", "start", "text"),
    [
        ({}, None, True, "no site is connected"),
        ({"alpha": 0.0}, Failed("unreachable"), True, "did not take the job"),
        ({"alpha": 0.0}, None, False, "did not start within"),
    ],
)
def test_a_job_that_cannot_be_had_is_said_in_words(
    courier: FlareCourier, flare: Flare, sites: dict[str, float], answer: Frame | None, start: bool, text: str
) -> None:
    flare.sites, flare.answer, flare.start = sites, answer, start
    with pytest.raises(CourierError, match=text) as raised:
        courier.renew(1.0)
    assert raised.value.remedy
    assert courier.present == frozenset()
    if not start:
        assert isinstance(flare.asked[-1], Abort)  # nothing half-started is left


def test_a_poll_that_fails_forgets_nobody(courier: FlareCourier, flare: Flare, monkeypatch: pytest.MonkeyPatch) -> None:
    flare.sites = {"alpha": 0.0}
    wait(lambda: courier.connected == {"alpha"})
    flare.silent = True
    flare.polled()
    assert courier.connected == {"alpha"}
    late = time.monotonic() + FRESH_SECONDS
    monkeypatch.setattr(courier._clients, "_clock", lambda: late)
    assert courier.connected == frozenset()


def test_a_site_that_is_heard_no_more_is_not_waited_for(
    courier: FlareCourier, flare: Flare, monkeypatch: pytest.MonkeyPatch
) -> None:
    flare.sites = {"alpha": 1.0}
    wait(lambda: courier.connected == {"alpha"})
    late = time.monotonic() + FRESH_SECONDS
    monkeypatch.setattr(courier._clients, "_clock", lambda: late)
    with pytest.raises(CourierError, match="no site is connected"):
        courier.renew(0.2)


def test_a_controller_that_comes_after_its_job_was_given_up_is_let_go(courier: FlareCourier, flare: Flare) -> None:
    flare.sites, flare.start = {"alpha": 0.0}, False
    with pytest.raises(CourierError, match="did not start within"):
        courier.renew(0.3)
    flare.join("job-1")
    wait(lambda: courier._joined)
    late, flare.start = flare.jobs[0], True
    started(courier, flare, "alpha")
    with pytest.raises(RelayError):
        late.receive(5.0)
    assert courier._joined == {}


def test_one_coordinator_process_a_folder(courier: FlareCourier, flare: Flare) -> None:
    with pytest.raises(RelayError, match="another process listens"):
        FlareCourier(flare.folder, flare.folder, bytes(32))
