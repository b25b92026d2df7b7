"""Dispatcher, forwarder and site relay together, without FLARE: parcels and answers, and every way to lose them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.engines.nvflare import dispatcher as dispatcher_module
from wardround.platform.engines.nvflare.dispatcher import Dispatcher
from wardround.platform.engines.nvflare.forwarder import Forwarder
from wardround.platform.engines.nvflare.frames import (
    FROM_SITE,
    NO_KEY,
    Answer,
    Answered,
    Beat,
    Codec,
    Deliver,
    Frame,
    Hand,
    Lost,
    Reach,
    Receipt,
    RelayError,
)
from wardround.platform.engines.nvflare.relay import connect
from wardround.platform.engines.nvflare.site_relay import WAITING, SiteRelay
from wardround.privacy import egress

NUMBERS = [bytes([n]) * 16 for n in range(8)]
RECEIPTS = Codec((Receipt,))


def sealed(wire: bytes) -> egress.Sealed:
    return egress.Sealed(egress._TOKEN, wire=wire, peer="coordinator", tag="advert", sha256="", sequence=0)


def until(true: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


class World:
    """One site over a wire that can be cut."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "s" / "relay.sock"
        self.told: list[Frame] = []
        self.cut = False
        self.now = 0.0
        self.dispatcher = Dispatcher(frozenset({"alpha"}), self.ask, self.told.append, lambda: self.now)
        self.forwarder = Forwarder(self.path, self.push)
        self.dispatcher.start()
        self.forwarder.start()
        self.site: SiteRelay | None = None

    def push(self, payload: bytes) -> Receipt | None:
        reply = None if self.cut else self.dispatcher.take("alpha", payload)
        return None if reply is None else RECEIPTS.decode(reply)  # type: ignore[return-value]

    def ask(self, site: str, payload: bytes) -> Receipt | None:
        assert site == "alpha"
        try:
            return None if self.cut else RECEIPTS.decode(self.forwarder.take(payload))  # type: ignore[return-value]
        except RelayError:
            return None

    def open(self) -> SiteRelay:
        self.site = SiteRelay(self.path, limit=1000)
        until(lambda: Reach(("alpha",), ()) in self.told)
        return self.site

    def close(self) -> None:
        self.forwarder.stop()
        self.dispatcher.stop()
        if self.site is not None:
            self.site.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_a_parcel_reaches_the_site_and_its_answers_come_back_in_order(world: World) -> None:
    site = world.open()
    for number in NUMBERS[:3]:
        world.dispatcher.deliver(Deliver(number, "alpha", number))
    for number in NUMBERS[:3]:
        assert site.step(lambda wire: [sealed(wire + b"1"), sealed(wire + b"2")], 5.0)
        until(lambda number=number: Answered(number, "alpha", (number + b"1", number + b"2")) in world.told)
    assert not site.step(lambda wire: [], 0.01)


def test_without_a_site_process_a_parcel_is_lost_at_once(world: World) -> None:
    until(lambda: Reach((), ("alpha",)) in world.told)
    world.dispatcher.deliver(Deliver(NUMBERS[0], "alpha", b"x"))
    world.dispatcher.deliver(Deliver(NUMBERS[1], "bravo", b"x"))
    assert world.told[-2:] == [Lost(NUMBERS[0], "alpha"), Lost(NUMBERS[1], "bravo")]


def test_a_site_process_that_ends_before_it_answers_is_reported_and_may_come_back(world: World) -> None:
    site = world.open()
    world.dispatcher.deliver(Deliver(NUMBERS[0], "alpha", b"x"))
    until(lambda: site._parcels)
    site.close()
    until(lambda: Lost(NUMBERS[0], "alpha") in world.told)
    until(lambda: world.told[-1] == Reach((), ("alpha",)))
    world.told.clear()
    again = world.open()
    world.dispatcher.deliver(Deliver(NUMBERS[1], "alpha", b"y"))
    assert again.step(lambda wire: [sealed(wire)], 5.0)
    until(lambda: Answered(NUMBERS[1], "alpha", (b"y",)) in world.told)


def test_an_answer_outlives_a_cut_of_the_wire(world: World) -> None:
    site = world.open()
    world.dispatcher.deliver(Deliver(NUMBERS[0], "alpha", b"x"))
    until(lambda: site._parcels)
    world.cut = True
    assert site.step(lambda wire: [sealed(b"late")], 5.0)
    time.sleep(0.2)
    world.cut = False
    until(lambda: Answered(NUMBERS[0], "alpha", (b"late",)) in world.told)


def test_a_silent_site_is_asked_then_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.open()
    world.cut = True
    time.sleep(0.1)
    world.now += dispatcher_module.QUIET_SECONDS + 1
    for _ in range(dispatcher_module.UNREACHABLE):
        world.dispatcher.tick()
        until(lambda: not world.dispatcher._sites["alpha"].asking)
        world.now += 0.1
    world.dispatcher.tick()
    assert world.told[-1] == Reach((), ())
    world.cut = False
    until(lambda: world.told[-1] == Reach(("alpha",), ()))  # its job lived on: it is back by itself
    monkeypatch.setattr(world, "ask", lambda site, payload: None)
    world.cut = True
    time.sleep(0.1)
    world.now += dispatcher_module.SILENT_SECONDS + 1
    world.dispatcher.tick()
    assert world.told[-1] == Reach((), ())


def test_who_has_no_key_is_not_believed(world: World) -> None:
    site = world.open()
    codec = Codec((Hand,))
    with pytest.raises(RelayError, match="key"):
        world.forwarder.take(NO_KEY + codec.encode(Hand(NUMBERS[0], b"forged")))
    with pytest.raises(RelayError, match="key"):
        world.forwarder.take(bytes(15) + b"\x01" + codec.encode(Hand(NUMBERS[0], b"forged")))
    assert not site.step(lambda wire: [], 0.05)
    world.dispatcher.deliver(Deliver(NUMBERS[1], "alpha", b"x"))
    until(lambda: site._parcels)
    forged = codec.encode(Answer(NUMBERS[1], (b"forged",)))
    assert world.dispatcher.take("alpha", NO_KEY + forged) is None
    assert world.dispatcher.take("bravo", NO_KEY + codec.encode(Beat(True))) is None
    key = world.dispatcher._sites["alpha"].key
    world.dispatcher.take("alpha", key + codec.encode(Answer(NUMBERS[7], (b"never asked",))))
    assert not [told for told in world.told if isinstance(told, Answered)]


def test_the_same_parcel_again_is_not_handled_twice(world: World) -> None:
    site = world.open()
    payload = world.dispatcher._sites["alpha"].key + Codec.encode(Hand(NUMBERS[0], b"x"))
    assert RECEIPTS.decode(world.forwarder.take(payload)) == Receipt(True)
    assert RECEIPTS.decode(world.forwarder.take(payload)) == Receipt(True)
    assert site.step(lambda wire: [], 5.0)
    assert not site.step(lambda wire: [], 0.1)


def test_a_newer_job_takes_an_older_ones_place_for_good(world: World) -> None:
    site = world.open()
    other: list[bytes] = []
    newer = Forwarder(world.path, lambda payload: other.append(payload))  # type: ignore[func-returns-value]
    newer.start()
    until(lambda: world.forwarder._stopped.is_set())
    assert site.connected
    newer.stop()


@pytest.mark.parametrize("answer", [b"bytes", "text", object()])
def test_a_site_sends_sealed_messages_only(world: World, answer: Any) -> None:
    site = world.open()
    world.dispatcher.deliver(Deliver(NUMBERS[0], "alpha", b"x"))
    with pytest.raises(TypeError, match="sealed parcels only"):
        site.step(lambda wire: [sealed(b"first"), answer], 5.0)
    until(lambda: Lost(NUMBERS[0], "alpha") in world.told)
    assert not [told for told in world.told if isinstance(told, Answered)]


def test_one_handler_at_a_time(world: World) -> None:
    site = world.open()
    inside: list[int] = []

    def handle(wire: bytes) -> list[egress.Sealed]:
        inside.append(1)
        time.sleep(0.1)
        assert len(inside) == 1
        inside.pop()
        return []

    for number in NUMBERS[:4]:
        world.dispatcher.deliver(Deliver(number, "alpha", b"x"))
    threads = [threading.Thread(target=lambda: site.step(handle, 5.0)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    until(lambda: len([told for told in world.told if isinstance(told, Answered)]) == 4)


def test_who_sends_more_than_a_site_can_take_loses_its_link(tmp_path: Path) -> None:
    site = SiteRelay(tmp_path / "s" / "relay.sock", limit=1000)
    link = connect(tmp_path / "s" / "relay.sock", FROM_SITE)
    try:
        until(lambda: site.connected)
        for number in range(WAITING):
            link.send(Hand(bytes([number]) * 16, b"x"))
        assert link.receive(0.1) is None
        link.send(Hand(b"n" * 16, b"x"))
        with pytest.raises(RelayError):
            link.receive(5.0)
        until(lambda: not site.connected)
        assert not site.step(lambda wire: (), 0.0)  # nothing of it is left
    finally:
        link.close()
        site.close()
