"""A site at work, with FLARE's client and relay played: what it hands on, when it ends, and what ends it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.consortium import Consortium, open_consortium
from wardround.platform.coordinator_side import IDENTITY_FILE
from wardround.platform.engines.local import SimulatedLine
from wardround.platform.engines.nvflare.processes import FlareProcessError
from wardround.platform.enrolment import open_identity
from wardround.platform.faults import SimulatedClock
from wardround.platform.service import site_service
from wardround.platform.service.site_service import PATIENCE, RESTARTS, STABLE, ClientKeeper, SiteService
from wardround.platform.site_machine import FINAL_FILE
from wardround.platform.terms import Terms
from wardround.privacy.egress import Sealed
from wardround.privacy.envelopes import SIGNATURE_BYTES, Envelopes
from wardround.privacy.errors import LedgerError
from wardround.privacy.messages import TO_SITE, Cosigned, RoundEnd, StudyEnd, decode, encode
from wardround.privacy.secure_aggregation.session import SessionId

NAME = "site-1"


# --- the client -----------------------------------------------------------------------------------------------------


@dataclass
class Process:
    """FLARE's client, as far as its keeper looks at it."""

    alive: bool = True
    log: Path = Path("log.txt")
    ended: list[str] = field(default_factory=list)

    def kill(self) -> None:
        self.alive = False
        self.ended.append("kill")

    def stop(self) -> None:
        self.alive = False
        self.ended.append("stop")


@dataclass
class Kept:
    """A keeper with a clock that a test sets."""

    now: float = 0.0
    started: list[tuple[float, Process]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keeper = ClientKeeper(self._start, self.notes.append, lambda: self.now)  # type: ignore[arg-type,return-value]

    def _start(self) -> Process:
        self.started.append((self.now, Process()))
        return self.started[-1][1]

    def look_at(self, now: float) -> None:
        self.now = now
        self.keeper.look()


def test_a_client_that_runs_is_left_alone() -> None:
    kept = Kept()
    for now in (0.0, 1.0, 1000.0):
        kept.look_at(now)
    assert len(kept.started) == 1
    assert kept.notes == []
    kept.keeper.close()
    kept.keeper.close()
    assert kept.started[0][1].ended == ["stop"]


def test_a_client_that_ends_soon_is_waited_for_ever_longer() -> None:
    kept, now = Kept(), 0.0
    kept.look_at(now)
    for wait in (*RESTARTS, RESTARTS[-1], RESTARTS[-1]):
        kept.started[-1][1].alive = False
        count = len(kept.started)
        kept.look_at(now)
        assert kept.started[-1][1].ended == ["kill"]  # what it had started goes with it
        assert f"again in {wait:g} s" in kept.notes[-1]
        kept.look_at(now + wait - 0.01)
        assert len(kept.started) == count
        now += wait
        kept.look_at(now)
        assert len(kept.started) == count + 1
    assert len(kept.notes) == len(RESTARTS) + 2


def test_a_client_that_had_worked_is_started_again_soon() -> None:
    kept = Kept()
    kept.look_at(0.0)
    now = 0.0
    for _ in range(3):
        kept.started[-1][1].alive = False
        kept.look_at(now)
        now += RESTARTS[-1]
        kept.look_at(now)
    kept.started[-1][1].alive = False
    kept.look_at(now + STABLE)
    assert f"again in {RESTARTS[0]:g} s" in kept.notes[-1]


def wait(true: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_a_client_is_looked_after_while_the_site_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_service, "STEP", 0.01)
    kept = Kept()
    kept.keeper.watch()
    assert len(kept.started) == 1
    kept.started[0][1].alive = False  # and nobody calls `look`
    wait(lambda: kept.notes)
    kept.now = RESTARTS[0]
    wait(lambda: len(kept.started) == 2)
    kept.keeper.check()
    kept.keeper.close()
    kept.keeper.close()
    assert [process.ended for _, process in kept.started] == [["kill"], ["stop"]]
    assert not [thread for thread in threading.enumerate() if thread.name == "client"]
    kept.keeper.look()
    assert len(kept.started) == 2  # nothing is started after the end


def test_a_client_that_cannot_be_started_again_is_said_to_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_service, "STEP", 0.01)
    kept = Kept()
    kept.keeper.watch()
    kept.keeper.start = lambda: (_ for _ in ()).throw(FlareProcessError("this folder holds no site's kit"))
    kept.started[0][1].alive = False
    wait(lambda: kept.notes)
    kept.now = RESTARTS[0]

    def asked() -> bool:
        try:
            kept.keeper.check()
        except FlareProcessError:
            return True
        return False

    wait(asked)
    kept.keeper.close()


# --- the service ----------------------------------------------------------------------------------------------------


class Relay:
    """The relay: hands over what a test has put in, and keeps what is answered."""

    made: list[Relay]

    def __init__(self, path: Path, *, limit: int) -> None:
        self.path, self.limit, self.closed, self.connected = path, limit, False, True
        self.parcels: deque[bytes] = deque()
        self.answers: list[tuple[Sealed, ...]] = []
        self.idle: Callable[[], None] = lambda: None
        type(self).made.append(self)

    def step(self, handle: Callable[[bytes], Iterable[Sealed]], timeout: float | None) -> bool:
        if not self.parcels:
            self.idle()
            return False
        self.answers.append(tuple(handle(self.parcels.popleft())))
        return True

    def close(self) -> None:
        self.closed = True


@dataclass
class World:
    """A consortium in this process; one of its sites sits in a service."""

    made: Any
    consortium: Consortium
    service: SiteService
    pack: Callable[[Sealed], bytes]
    client: Process
    notes: list[str]
    clock: list[float]
    handled: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.site = self.consortium.sites[NAME]
        self.line = SimulatedLine(SimulatedClock())
        through = dict(self.consortium.sites)
        through[NAME] = self  # type: ignore[assignment]
        self.through = Consortium(
            self.consortium.coordinator,
            through,
            {},
            self.consortium.ledgers,
            {},
            self.consortium.roster,
            {},
            self.consortium.figures,
        )

    def handle(self, wire: bytes) -> tuple[Sealed, ...]:
        """What the line gives to the site goes through the service."""
        self.handled.append(wire)
        return tuple(self.service.handle(self.envelope(wire)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.consortium.sites[NAME], name)

    def envelope(self, wire: bytes, to: str = NAME) -> bytes:
        parcel = object.__new__(Sealed)
        for key, value in (("peer", to), ("wire", wire), ("tag", "")):
            object.__setattr__(parcel, key, value)
        return self.pack(parcel)

    def rounds(self) -> None:
        coordinator = self.consortium.coordinator
        for _ in range(self.made.study.rounds):
            self.line.carry(self.through, coordinator.begin())
            self.line.carry(self.through, coordinator.commit())

    def finish(self) -> None:
        self.line.carry(self.through, self.consortium.coordinator.finish())


@pytest.fixture
def world(toy: Callable[..., Any], tmp_path: Path, BACKBONE: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = toy(tmp_path / "run", rounds=1)
    Relay.made = []
    client = Process()
    monkeypatch.setattr(site_service, "SiteRelay", Relay)
    monkeypatch.setattr(site_service, "start_client", lambda kit, socket: client)
    with ExitStack() as stack:
        consortium = stack.enter_context(open_consortium(made.study, made.method, made.data, BACKBONE, made.run))
        own = open_identity(made.run.coordinator, made.run.coordinator / IDENTITY_FILE)
        site = consortium.sites[NAME]
        terms = Terms(
            made.study, made.method, site.trainer.layout, consortium.coordinator.state, consortium.roster, BACKBONE
        )
        side = SideOf(site, consortium.homes[NAME], consortium.ledgers[NAME])
        notes: list[str] = []
        clock = [0.0]
        service = SiteService(
            terms,
            side,  # type: ignore[arg-type]
            tmp_path / "kit",
            tmp_path / "relay.sock",
            note=notes.append,
            clock=lambda: clock[0],
        )
        yield World(made, consortium, service, Envelopes(own, consortium.roster.roster).pack, client, notes, clock)


@dataclass
class SideOf:
    """What the service takes of an opened side."""

    site: Any
    home: Any
    ledger: Any = None
    budget: Any = None


def never() -> bool:
    return False


def feeding(world: World, monkeypatch: pytest.MonkeyPatch, parcels: Iterable[bytes], idle: Any = None) -> list[Relay]:
    """Let the relay have these parcels from the start."""

    class Full(Relay):
        def __init__(self, path: Path, *, limit: int) -> None:
            super().__init__(path, limit=limit)
            self.parcels.extend(parcels)
            self.idle = idle or self._wait

        @staticmethod
        def _wait() -> None:
            world.clock[0] += 1.0

    Full.made = []
    monkeypatch.setattr(site_service, "SiteRelay", Full)
    return Full.made


def test_what_the_coordinator_did_not_sign_is_not_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(wire: bytes) -> tuple[Sealed, ...]:
        raise AssertionError("the state machine was reached")

    ledger = world.consortium.ledgers[NAME].path
    before = ledger.read_bytes()
    monkeypatch.setattr(world.site, "handle", read)
    good = world.envelope(b"wire")
    for data in (b"", b"short", good[:-1], bytes(SIGNATURE_BYTES) + b"wire", world.envelope(b"wire", "site-2")):
        assert tuple(world.service.handle(data)) == ()
    assert len(world.notes) == 5
    assert all(note.startswith("refused before it was read: ") for note in world.notes)
    assert ledger.read_bytes() == before
    with pytest.raises(AssertionError, match="was reached"):
        world.service.handle(good)


def test_a_whole_study_ends_complete(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.rounds()
    assert not world.service.over
    world.finish()
    assert world.service.over
    assert (world.site.folder / FINAL_FILE).is_file()
    assert world.service.run(never) == "complete"
    (relay,) = Relay.made
    assert relay.closed
    assert relay.limit == world.service.terms.largest + SIGNATURE_BYTES
    assert world.client.ended == ["stop"]


def test_a_study_that_was_ended_early_ends_aborted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The closing exchange never comes: the site waits for a while, then ends."""
    end = encode(StudyEnd(world.consortium.roster.roster.study, "aborted", b""))
    relays = feeding(world, monkeypatch, [world.envelope(end)])
    assert world.service.run(never) == "aborted"
    assert len(relays[0].answers) == 1
    assert PATIENCE < world.clock[0] < PATIENCE + 5
    assert not (world.site.folder / FINAL_FILE).exists()


def test_what_comes_late_from_a_round_does_not_end_the_closing(world: World) -> None:
    study = world.consortium.roster.roster.study
    assert len(tuple(world.service.handle(world.envelope(encode(StudyEnd(study, "aborted", b"")))))) == 1
    late = encode(RoundEnd(SessionId(study, 1, "update"), "aborted", bytes(32)))
    assert tuple(world.service.handle(world.envelope(late))) == ()
    assert not world.service.over
    assert tuple(world.service.handle(world.envelope(b"no message"))) == ()
    assert not world.service.over


def test_the_last_message_is_who_cosigned(world: World) -> None:
    world.rounds()
    world.handled.clear()
    ends: list[bool] = []
    real = world.service.handle

    def heard(data: bytes) -> Iterable[Sealed]:
        parcels = real(data)
        ends.append(world.service.over)
        return parcels

    world.service.handle = heard  # type: ignore[method-assign]
    world.finish()
    last = decode(world.handled[-1], TO_SITE, world.service.terms.limits)
    assert isinstance(last, Cosigned)
    assert ends == [False] * (len(ends) - 1) + [True]


@pytest.mark.parametrize("heard", [True, False])
def test_a_site_that_starts_again_after_the_end_waits_for_the_last_messages(
    world: World, monkeypatch: pytest.MonkeyPatch, heard: bool
) -> None:
    """But where it has cosigned: then nothing more is to come."""
    world.rounds()
    if heard:
        world.finish()
    else:
        world.service.handle(world.envelope(encode(StudyEnd(world.consortium.roster.roster.study, "aborted", b""))))
    again = SiteService(
        world.service.terms, world.service.side, Path("kit"), Path("socket"), clock=lambda: world.clock[0]
    )
    world.clock[0] = 500.0
    feeding(world, monkeypatch, [])
    assert again.run(never) == ("complete" if heard else "aborted")
    assert (world.clock[0] > 500.0 + PATIENCE) is not heard


def test_somebody_asks_to_stop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [False]
    relays = feeding(world, monkeypatch, [], lambda: asked.__setitem__(0, True))
    assert world.service.run(lambda: asked[0]) == "stopped"
    assert relays[0].closed
    assert world.client.ended == ["stop"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), LedgerError("the ledger is full")])
def test_a_site_that_cannot_keep_its_state_ends_and_answers_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(wire: bytes) -> tuple[Sealed, ...]:
        raise error

    monkeypatch.setattr(world.site, "handle", fails)
    relays = feeding(world, monkeypatch, [world.envelope(b"one"), world.envelope(b"two")])
    with pytest.raises(type(error)):
        world.service.run(never)
    assert relays[0].answers == []
    assert len(relays[0].parcels) == 1  # nothing more is taken
    assert relays[0].closed
    assert world.client.ended == ["stop"]


def test_a_client_that_dies_meanwhile_is_started_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Process] = []

    def start(kit: Path, socket: Path) -> Process:
        assert (kit, socket) == (world.service.kit, world.service.socket)
        started.append(Process())
        return started[-1]

    monkeypatch.setattr(site_service, "start_client", start)

    def idle() -> None:
        world.clock[0] += 1.0
        if len(started) == 1:
            started[0].alive = False

    feeding(world, monkeypatch, [], idle)
    assert world.service.run(lambda: len(started) == 2) == "stopped"
    assert [process.ended for process in started] == [["kill"], ["stop"]]
    assert "FLARE's client ended; it is started again in 1 s" in world.notes[0]


def test_why_a_round_failed_is_told_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.site, "handle", lambda wire: ())
    world.site.failure = "no room on the card"
    for _ in range(2):
        world.service.handle(world.envelope(b"wire"))
    assert world.notes == ["no room on the card"]
