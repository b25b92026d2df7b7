"""The engine of real machines, its courier played in this process: what it does with silence, restarts and stops."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from wardround.platform.consortium import Consortium, open_consortium
from wardround.platform.coordinator_side import IDENTITY_FILE
from wardround.platform.engines.courier import Arrival, CourierError, Gone
from wardround.platform.engines.deployed import DeployedLine, StopRequestedError
from wardround.platform.engines.local import SimulatedLine
from wardround.platform.enrolment import open_identity
from wardround.platform.faults import SimulatedClock
from wardround.platform.round_loop import run_rounds
from wardround.platform.service.conducting import abort, conduct
from wardround.platform.site_machine import Site
from wardround.platform.watching import Silent
from wardround.privacy.egress import Sealed
from wardround.privacy.envelopes import Envelopes, unpack


@dataclass
class PlayedCourier:
    """Sites in this process, behind a courier's face; messages travel in envelopes."""

    sites: Mapping[str, Site]
    pack: Callable[[Sealed], bytes]
    away: set[str] = field(default_factory=set)
    dead_at: str = ""
    renewals: int = 0
    back: set[str] = field(default_factory=set)
    owed: set[str] = field(default_factory=set)
    events: deque[Arrival | Gone] = field(default_factory=deque)

    def send(self, parcel: Sealed) -> None:
        name, kind = parcel.peer, parcel.tag
        if name == "site-1" and kind == self.dead_at:
            self.away.add(name)
            self.dead_at = ""
        if name in self.away:
            self.events.append(Gone(name))
            return
        site = self.sites[name]
        for answer in site.handle(unpack(self.pack(parcel), site.roster.roster, name)):
            self.events.append(Arrival(name, answer.wire))

    def receive(self, timeout: float | None) -> Arrival | Gone | None:
        return self.events.popleft() if self.events else None

    @property
    def present(self) -> frozenset[str]:
        return frozenset(self.sites) - self.away

    @property
    def knocking(self) -> frozenset[str]:
        return frozenset(self.back & self.away)

    def renew(self, timeout: float) -> None:
        self.renewals += 1
        self.away -= self.back
        self.events.clear()

    def settle(self, timeout: float) -> frozenset[str]:
        return frozenset(self.owed)

    def close(self) -> None:
        """Nothing is open."""

    @property
    def connected(self) -> frozenset[str]:
        return self.present


@dataclass
class Play:
    """An open consortium with a line over a played courier, and what was told."""

    made: Any
    consortium: Consortium
    courier: PlayedCourier
    line: DeployedLine
    lost: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def rounds(self) -> list[Any]:
        return run_rounds(self.made.study, self.made.method, None, self.consortium, self.made.run, Silent(), self.line)

    @property
    def state(self) -> dict[str, torch.Tensor]:
        return self.consortium.coordinator.state


@pytest.fixture
def play(toy: Callable[..., Any], tmp_path: Path, BACKBONE: str) -> Callable[..., Any]:
    @contextmanager
    def opened(folder: str = "run", made: Any = None, **changes: Any) -> Iterator[Play]:
        made = made or toy(tmp_path / folder, **{"rounds": 2, "retries": 1, **changes})
        with open_consortium(made.study, made.method, made.data, BACKBONE, made.run) as consortium:
            own = open_identity(made.run.coordinator, made.run.coordinator / IDENTITY_FILE)
            courier = PlayedCourier(consortium.sites, Envelopes(own, consortium.roster.roster).pack)
            alone = Consortium(
                consortium.coordinator,
                {},
                {},
                consortium.ledgers,
                {},
                consortium.roster,
                {},
                consortium.figures,
            )
            ready = Play(made, alone, courier, DeployedLine(courier))
            ready.line.lost, ready.line.note = ready.lost.append, ready.notes.append
            yield ready

    return opened


def simulated(toy: Callable[..., Any], folder: Path, backbone: str, **changes: Any) -> dict[str, torch.Tensor]:
    """The same study by the in-process engine."""
    made = toy(folder, **{"rounds": 2, **changes})
    with open_consortium(made.study, made.method, made.data, backbone, made.run, SimulatedClock()) as consortium:
        line = SimulatedLine(SimulatedClock())
        run_rounds(made.study, made.method, made.data, consortium, made.run, Silent(), line)
        return dict(consortium.coordinator.state)


def assert_equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_adapter_is_that_of_the_in_process_engine(
    play: Any, toy: Callable[..., Any], tmp_path: Path, BACKBONE: str
) -> None:
    with play() as played:
        records = played.rounds()
        assert [record["participants"] for record in records] == [["site-1", "site-2", "site-3"]] * 2
        assert all(record["train_loss"] is not None and record["validation"] == {} for record in records)
        assert_equal(played.state, simulated(toy, tmp_path / "alone", BACKBONE))


@pytest.mark.parametrize("kind", ["round-start", "advert-list", "share-delivery"])
def test_a_site_that_is_gone_is_not_waited_for_and_taken_in_again(
    play: Any, toy: Callable[..., Any], tmp_path: Path, BACKBONE: str, kind: str
) -> None:
    """The stages have ten minutes; nobody waits for them. The round is tried again with everybody."""
    with play() as played:
        played.courier.dead_at, played.courier.back = kind, {"site-1"}
        records = played.rounds()
        assert played.courier.renewals == 1
        assert "site-1" in played.lost
        assert played.notes == ["taken in again: site-1"]
        tried = played.made.run.read_rounds()
        assert [row["released"] for row in tried] == [False, True, True]
        assert tried[0]["dropped"][0]["reason"] == "timeout"
        assert len(records[0]["participants"]) == 3
        assert_equal(played.state, simulated(toy, tmp_path / "alone", BACKBONE))


def test_silence_ends_with_the_stages_time(play: Any) -> None:
    """A site whose answers never come, and of which nobody knows that it is gone."""
    now = [0.0]
    with play(round_timeout=5.0) as played:
        played.consortium.coordinator.clock = played.line.clock = lambda: now[0]
        played.courier.sites = {**played.courier.sites, "site-2": Mute(played.consortium.roster)}

        def wait(timeout: float | None) -> Arrival | Gone | None:
            if played.courier.events:
                return played.courier.events.popleft()
            now[0] += timeout or 0.0
            return None

        played.courier.receive = wait
        with pytest.raises(Exception, match="released nothing in 2 tries"):
            played.rounds()
        assert now[0] == pytest.approx(10.0)


class Told(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Mute:
    """A site that takes everything and says nothing."""

    def __init__(self, roster: Any) -> None:
        self.roster = roster

    def handle(self, wire: bytes) -> tuple[Sealed, ...]:
        return ()


def test_a_stop_is_heard_between_messages_and_the_run_goes_on_later(
    play: Any, toy: Callable[..., Any], tmp_path: Path, BACKBONE: str
) -> None:
    with play() as played:
        seen = []
        played.line.seen = lambda name, wire: seen.append((name, wire))
        played.line.stopping = lambda: len(seen) > 20
        with pytest.raises(StopRequestedError):
            played.rounds()
        made = played.made
    with play(made=made) as again:
        again.rounds()
        assert_equal(again.state, simulated(toy, tmp_path / "alone", BACKBONE))


def test_an_engine_that_ended_is_an_error_and_no_end_of_a_stage(play: Any) -> None:
    def ended() -> None:
        raise OSError("the server has ended")

    with play() as played:
        played.line.check = ended
        with pytest.raises(OSError, match="the server has ended"):
            played.rounds()


def test_a_whole_study_is_conducted_and_its_ledgers_are_closed(play: Any) -> None:
    with play() as played:
        made = played.made
        done = conduct(
            made.study,
            made.method,
            made.data.cohort.dataset.class_names,
            played.consortium,
            made.run,
            played.line,
            Silent(),
        )
        assert len(done.records) == 2
        assert done.figures is None
        assert not done.unreleased
        digest = made.study.digest()
        assert not any(ledger.is_open(digest) for ledger in played.consortium.ledgers.values())


@pytest.mark.parametrize("after", [0, 4, 30])
def test_an_aborted_study_leaves_no_final_adapter_and_closed_ledgers(play: Any, after: int) -> None:
    told = Told()
    with play() as played:
        heard: list[str] = []
        played.line.seen = lambda name, wire: heard.append(name)
        played.line.stopping = lambda: len(heard) >= after
        with pytest.raises(StopRequestedError):
            played.rounds()
        played.line.stopping = lambda: False
        abort(played.made.study, played.consortium, played.line, told)
        assert told.notes == []  # every ledger was cosigned once more
        digest = played.made.study.digest()
        assert not any(ledger.is_open(digest) for ledger in played.consortium.ledgers.values())
        for site in played.courier.sites.values():
            assert not (site.folder / "adapter.safetensors").exists()
            assert site.witness is not None
            assert site.witness.over


# --- between rounds ------------------------------------------------------------------------------------------------


def ticking(played: Play, step: float = 1.0) -> list[float]:
    """A clock that goes on whenever it is read, so that no test waits."""
    now = [0.0]

    def clock() -> float:
        now[0] += step
        return now[0]

    played.line.clock = clock
    return now


def test_a_job_that_cannot_be_begun_is_tried_again_and_costs_no_try(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wardround.platform.engines.deployed.time.sleep", lambda _: None)
    with play(retries=0) as played:
        ticking(played)
        played.courier.away = played.courier.back = {"site-1"}
        honest, failures = played.courier.renew, [3]

        def renew(timeout: float) -> None:
            if failures[0]:
                failures[0] -= 1
                raise CourierError("the server did not take the job")
            honest(timeout)

        played.courier.renew = renew
        assert len(played.rounds()) == 2
        assert played.notes.count("the sites are not reached: the server did not take the job; tried again") == 3


def test_a_site_that_knocks_in_vain_is_taken_in_once_it_can(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked less and less often, and taken in once it can."""
    monkeypatch.setattr("wardround.platform.engines.deployed.time.sleep", lambda _: None)
    with play(retries=0) as played:
        ticking(played)
        least = played.consortium.roster.roster.thresholds.least
        assert least <= 3
        played.courier.back, played.courier.away = {"site-1"}, {"site-1"}
        asked = [0]

        def renew(timeout: float) -> None:
            asked[0] += 1
            if asked[0] > 4:  # it mends its kit
                played.courier.away.clear()

        played.courier.renew = renew
        played.rounds()
        assert asked[0] == 5


def test_nothing_is_begun_while_too_few_are_there_and_it_is_said(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wardround.platform.engines.deployed.time.sleep", lambda _: None)
    with play() as played:
        now = ticking(played)
        played.courier.away = {"site-1"}
        played.line.stopping = lambda: now[0] > 500
        with pytest.raises(StopRequestedError):
            played.line.between_rounds(played.consortium)
        assert played.notes == ["waiting for sites: 2 of 3 are there; missing: site-1"]


def test_a_site_whose_words_nobody_compared_is_not_counted(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wardround.platform.engines.deployed.time.sleep", lambda _: None)
    with play() as played:
        now = ticking(played)
        pinned = played.consortium.roster
        unsure = replace(played.consortium, roster=replace(pinned, confirmed=pinned.confirmed - {"site-1"}))
        played.line.stopping = lambda: now[0] > 500
        with pytest.raises(StopRequestedError):
            played.line.between_rounds(unsure)
        played.line.stopping = lambda: False
        played.line.between_rounds(played.consortium)


def test_what_needs_everybody_is_waited_for_only_so_long(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wardround.platform.engines.deployed.time.sleep", lambda _: None)
    with play() as played:
        now = ticking(played)
        played.courier.away = {"site-3"}
        played.line.between_rounds(played.consortium, everybody=True, patience=100.0)
        assert 100 < now[0] < 130


def test_an_old_absence_does_not_drop_a_site_that_is_back(play: Any) -> None:
    with play(retries=0) as played:
        played.courier.events.append(Gone("site-2"))
        records = played.rounds()
        assert [len(record["participants"]) for record in records] == [3, 3]


def test_tries_that_the_transport_lost_are_no_tries_up_to_a_number(play: Any) -> None:
    with play() as played:
        line = played.line
        line._lost_now = {"site-1", "site-2"}
        assert not line.excuses(())
        assert not line.excuses({"site-1", "site-3"})
        pauses = []
        for _ in range(20):
            assert line.excuses({"site-1"})
            pauses.append(round(line._pause - line.clock()))
        assert pauses == sorted(pauses)
        assert pauses[-1] == 60
        assert not line.excuses({"site-1"})
