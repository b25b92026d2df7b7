"""Who is there, out of the server's notes alone: no clock of this process is held against them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from wardround.platform.engines.nvflare.frames import Client
from wardround.platform.engines.nvflare.presence import FRESH_SECONDS, Presence

LONG_AGO = 1.0e9


@dataclass
class Server:
    """A server whose clients give signs of life when a test says so, and a clock that a test moves."""

    notes: dict[str, float] = field(default_factory=dict)
    clock: float = 100.0
    now: float = 0.0

    def __post_init__(self) -> None:
        self.presence = Presence(lambda: self.now)

    def beats(self, *names: str) -> None:
        self.clock += 4.0
        self.notes |= dict.fromkeys(names, self.clock)

    def asked(self) -> frozenset[str]:
        self.presence.asking()
        return self.told()

    def told(self) -> frozenset[str]:
        self.presence.answered([Client(name, note) for name, note in self.notes.items()])
        return self.presence.connected


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.mark.parametrize("clock", [LONG_AGO, 4.0e9])
def test_a_client_is_there_as_long_as_its_note_changes(server: Server, clock: float) -> None:
    """Whatever the server's clock says."""
    server.clock = clock
    assert server.asked() == frozenset()
    server.beats("alpha", "bravo")
    assert server.asked() == {"alpha", "bravo"}
    server.now += FRESH_SECONDS - 1
    server.beats("alpha")
    assert server.asked() == {"alpha", "bravo"}
    server.now += 2
    assert server.presence.connected == {"alpha"}
    server.now += FRESH_SECONDS
    assert server.asked() == frozenset()


def test_of_the_first_answer_those_are_there_whose_note_is_new(server: Server) -> None:
    server.beats("alpha")
    for _ in range(4):
        server.beats("bravo", "charlie")
    assert server.asked() == {"bravo", "charlie"}
    server.beats("alpha")
    assert server.asked() == {"alpha", "bravo", "charlie"}


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_clock_that_is_set_hides_nobody_and_brings_nobody_back(server: Server, step: float) -> None:
    server.beats("alpha", "bravo")
    server.asked()
    server.clock += step
    server.beats("alpha")  # bravo has died meanwhile
    server.now += FRESH_SECONDS + 1
    assert server.asked() == {"alpha"}
    server.presence.lost(["alpha"])
    server.asked()
    server.clock += step
    server.beats("alpha")
    assert server.asked() == {"alpha"}


def test_a_client_that_a_job_lost_is_there_again_with_its_next_sign_of_life(server: Server) -> None:
    server.beats("alpha")
    server.asked()
    server.presence.asking()  # this question is answered by what the server knew before the loss
    server.beats("alpha")  # the last one; then the client dies
    server.presence.lost(["alpha"])
    assert server.told() == frozenset()
    server.beats("alpha")
    assert server.asked() == frozenset()  # it may have been given before the loss
    assert server.asked() == frozenset()
    server.beats("alpha")
    assert server.asked() == {"alpha"}


def test_a_client_that_is_found_again_counts_at_once(server: Server) -> None:
    server.beats("alpha")
    server.asked()
    server.presence.lost(["alpha"])
    server.presence.found(["alpha"])
    server.beats("alpha")
    assert server.asked() == {"alpha"}


def test_a_client_that_the_server_forgot_is_gone(server: Server) -> None:
    server.beats("alpha", "bravo")
    server.asked()
    del server.notes["alpha"]
    assert server.asked() == {"bravo"}


def test_in_doubt_nobody_is_there_until_a_later_question_is_answered(server: Server) -> None:
    server.beats("alpha")
    server.asked()
    server.presence.asking()
    server.presence.doubt()
    assert server.told() == frozenset()
    assert server.asked() == {"alpha"}
