"""The in-process engine: carries sealed parcels between a coordinator and sites, in order, until none is left.

Nothing waits for real. A parcel that a scripted fault delays, and a stage that ends because sites are silent, move a
simulated clock instead, so that a round with a time-out of ten minutes takes no longer than one without.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ...privacy.egress import COORDINATOR, Sealed
from ..consortium import Consortium
from ..coordinator import Coordinator
from ..faults import SimulatedClock
from ..site_machine import Site

Tap = Callable[[str, str, bytes], None]
"""Sees (sender, receiver, exact bytes) of every parcel; for captures in tests and audits."""


class Network(Protocol):
    """What lies between the parties: which parcels are lost, which answers are late, and what time it is."""

    def reaches(self, site: str, tag: str) -> bool:
        """Whether a parcel of this type gets through to the site."""

    def delay(self, site: str, tag: str) -> float:
        """Seconds by which the site's message of this type is late; 0 for at once."""

    def now(self) -> float:
        """Seconds on the coordinator's clock."""

    def wait_until(self, when: float) -> None:
        """Let the clock stand at ``when``, unless it is past it."""


@dataclass(frozen=True, slots=True)
class SimulatedLine:
    """What carries the messages of a simulation.

    Attributes:
        clock: the coordinator's.
        network: scripted faults; None where nothing goes wrong.
        tap: sees every parcel's exact bytes.
    """

    clock: SimulatedClock
    network: Network | None = None
    tap: Tap | None = None

    @property
    def waited(self) -> float:
        """Seconds that nobody had to wait for, because the clock was put forward."""
        return self.clock.skipped

    def carry(self, consortium: Consortium, parcels: Iterable[Sealed]) -> None:
        """As :func:`carry`."""
        carry(consortium.coordinator, consortium.sites, parcels, self.tap, self.network)

    def between_rounds(self, consortium: Consortium, *, everybody: bool = False, patience: float | None = None) -> None:
        """Nobody comes or goes in a simulation."""

    def excuses(self, dropped: Collection[str]) -> bool:
        """Whoever is lost here is lost by a script."""
        return False


def carry(
    coordinator: Coordinator,
    sites: Mapping[str, Site],
    parcels: Iterable[Sealed],
    tap: Tap | None = None,
    network: Network | None = None,
) -> None:
    """Deliver the coordinator's parcels, and everything that follows from them.

    A stage whose sites stay silent ends when its time is over, and the round goes on or ends without them.

    Raises:
        TypeError: something other than a sealed parcel; only the egress gate makes those, so nothing else can travel.
        KeyError: a parcel for a site that is not there.
    """
    order = itertools.count()
    queue: list[tuple[float, int, str, Sealed]] = []

    def send(sender: str, outgoing: Iterable[Sealed]) -> None:
        for parcel in outgoing:
            if type(parcel) is not Sealed:
                raise TypeError(f"an engine carries sealed parcels only, not {type(parcel).__name__}")
            late = network.delay(sender, parcel.tag) if network is not None and sender != COORDINATOR else 0.0
            when = network.now() + late if network is not None and late else 0.0
            heapq.heappush(queue, (when, next(order), sender, parcel))

    send(COORDINATOR, parcels)
    while True:
        deadline = coordinator.deadline
        if queue and (deadline is None or queue[0][0] <= deadline):
            when, _, sender, parcel = heapq.heappop(queue)
            if network is not None and deadline is not None:  # nobody waits for what comes after the round
                network.wait_until(when)
            if tap is not None:
                tap(sender, parcel.peer, parcel.wire)
            if parcel.peer == COORDINATOR:
                send(COORDINATOR, coordinator.handle(sender, parcel.wire))
            elif network is None or network.reaches(parcel.peer, parcel.tag):
                send(parcel.peer, sites[parcel.peer].handle(parcel.wire))
        elif deadline is not None:
            if network is not None:
                network.wait_until(deadline)
            send(COORDINATOR, coordinator.expire())
        else:
            return
