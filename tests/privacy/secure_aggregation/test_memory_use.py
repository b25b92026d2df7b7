"""The coordinator's memory: one running sum, and a bounded number of bytes for each pair of sites."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from wardround.privacy.messages import TO_COORDINATOR, decode, encode
from wardround.privacy.secure_aggregation.coordinator import CoordinatorSession
from wardround.privacy.secure_aggregation.parameters import Block

from ..conftest import BINDING, Consortium, Play


class Record:
    """The messages of one honest round, as wire bytes, so that the coordinator can be run alone."""

    def __init__(self, n: int, size: int) -> None:
        self.consortium = Consortium(n, blocks=(Block("update", size, 1.0),), weighting="uniform")
        play: Play = self.consortium.play()
        words = {name: np.full(size, i, dtype="<u4") for i, name in enumerate(play.sites)}
        self.wires: dict[str, list[tuple[str, bytes]]] = {}

        def note(stage: str, replies: dict[str, Any]) -> None:
            self.wires[stage] = [(name, encode(reply)) for name, reply in replies.items()]
            for name, reply in replies.items():
                play.coordinator.feed(name, reply)

        note("advertise", {name: site.advertise() for name, site in play.sites.items()})
        requests = play.coordinator.close_advertise()
        note("share", {name: play.sites[name].share(request) for name, request in requests.items()})
        deliveries = dict(play.coordinator.close_share())
        note("mask", {name: play.sites[name].mask(given, words[name]) for name, given in deliveries.items()})
        sets = play.coordinator.close_mask()
        note("agree", {name: play.sites[name].agree(given) for name, given in sets.items()})
        asked = play.coordinator.close_agree()
        note("unmask", {name: play.sites[name].unmask(given) for name, given in asked.items()})
        self.total = play.coordinator.finish().ring.copy()

    def peak(self) -> int:
        """Most bytes that the coordinator's session held while it went through the round."""
        roster, limits = self.consortium.pinned, self.consortium.limits
        gc.collect()
        tracemalloc.start()
        session = CoordinatorSession(roster, self.consortium.session_id(), BINDING)
        closing: dict[str, Callable[[], Any]] = {
            "advertise": session.close_advertise,
            "share": session.close_share,
            "mask": session.close_mask,
            "agree": session.close_agree,
            "unmask": session.finish,
        }
        for stage, wires in self.wires.items():
            for name, wire in wires:
                session.feed(name, decode(wire, TO_COORDINATOR, limits))  # type: ignore[arg-type]
            closed = closing[stage]()
            if stage == "share":
                for _, delivery in closed:
                    encode(delivery)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert closed.ring.tolist() == self.total.tolist()
        return most


def test_masked_vectors_are_added_and_not_kept() -> None:
    size = 200_000
    few, many = Record(3, size).peak(), Record(9, size).peak()
    assert many - few < 4 * size  # six vectors more, and less than one more in memory


def test_a_pair_of_sites_costs_at_most_300_bytes() -> None:
    """Each of the n (n - 1) ordered pairs: a sealed box, two hashes, and what the dealer's tree needs to prove them."""
    few, many = 20, 60
    growth = Record(many, 8).peak() - Record(few, 8).peak()
    pairs = many * (many - 1) - few * (few - 1)
    per_pair = growth / pairs
    assert per_pair <= 300, per_pair
