"""The engine of real machines, seen from the coordinator: sealed parcels go to a courier, answers come back by it.

Stages end on the real clock, or as soon as the transport knows that nobody who is waited for can answer. A site that
was restarted is taken in between rounds, by a new job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ...privacy.egress import Sealed
from ..consortium import Consortium
from .courier import Arrival, Courier, Gone

SLICE = 0.5
"""Seconds after which a wait looks whether it is to end."""
DELIVERY = 30.0
"""Seconds that messages nobody answers are given to arrive."""
LAST_WORDS = 3.0
"""Seconds that the end of a round is given to arrive before a new job begins."""
RENEWAL = 120.0
"""Seconds within which a new job must be under way."""


class StopRequestedError(Exception):
    """Somebody asked the coordinator to stop; what is under way can be resumed."""


@dataclass
class DeployedLine:
    """Carries a study's messages over a courier.

    Attributes:
        courier: knows which sites are there.
        clock: monotonic seconds; the coordinator's.
        stopping: whether somebody has asked the coordinator to stop.
        seen: told the name of every site that a message came from, and the message. sent: told what is sent.
        lost: told the name of every site that cannot answer.
        check: raises where the engine itself has ended.
        note: told what a person should know.
    """

    courier: Courier
    clock: Callable[[], float] = time.monotonic
    stopping: Callable[[], bool] = lambda: False
    seen: Callable[[str, bytes], None] = lambda _name, _wire: None
    sent: Callable[[Sealed], None] = lambda _: None
    lost: Callable[[str], None] = lambda _: None
    check: Callable[[], None] = lambda: None
    note: Callable[[str], None] = lambda _: None

    @property
    def waited(self) -> float:
        """Nothing is simulated here."""
        return 0.0

    def carry(self, consortium: Consortium, parcels: Iterable[Sealed]) -> None:
        """Deliver the coordinator's parcels, and everything that follows from them, until nobody is waited for.

        Raises:
            StopRequestedError: somebody asked the coordinator to stop.
            TypeError: something other than a sealed parcel.
        """
        coordinator = consortium.coordinator
        self._send(parcels)
        while (deadline := coordinator.deadline) is not None:
            if self.stopping():
                raise StopRequestedError
            self.check()
            left = deadline - self.clock()
            if left <= 0:
                self._send(coordinator.expire())
                continue
            match self.courier.receive(min(left, SLICE)):
                case Arrival(sender, wire):
                    self.seen(sender, wire)
                    self._send(coordinator.handle(sender, wire))
                case Gone(site):
                    self.lost(site)
                    self._send(coordinator.expire({site}))
        self._drain(consortium)

    def between_rounds(self, consortium: Consortium, *, everybody: bool = False) -> None:
        """Wait until enough sites are there, and take in those that have come back since the job began.

        Nothing is tried without enough of them: a hospital that restarts its machine costs the study no try.

        Raises:
            StopRequestedError: somebody asked the coordinator to stop.
        """
        roster = consortium.roster.roster
        names, least = set(roster.names), roster.thresholds.least
        wanted = len(roster.evaluation_cohort) if everybody else least
        told = False
        while True:
            if self.stopping():
                raise StopRequestedError
            self.check()
            back = self.courier.knocking & names
            there = back | (self.courier.present & names)
            if len(there) >= wanted:
                break
            if not told:
                missing = ", ".join(sorted(names - there))
                self.note(f"waiting: {len(there)} of the {wanted} sites that are needed are there; missing: {missing}")
                told = True
            self._drain(consortium)
            time.sleep(SLICE / 2)
        if back:
            self.note(f"taken in again: {', '.join(sorted(back))}")
            self.settle(LAST_WORDS)
            self.courier.renew(RENEWAL)

    def settle(self, seconds: float = DELIVERY) -> None:
        """Wait until what nobody answers has arrived, such as the last message of a study."""
        for site in sorted(self.courier.settle(seconds)):
            self.lost(site)

    def _drain(self, consortium: Consortium) -> None:
        """What has come meanwhile is written down, as everything that comes."""
        while (event := self.courier.receive(0.0)) is not None:
            if isinstance(event, Arrival):
                self.seen(event.sender, event.wire)
                self._send(consortium.coordinator.handle(event.sender, event.wire))
            else:
                self.lost(event.site)

    def _send(self, parcels: Iterable[Sealed]) -> None:
        for parcel in parcels:
            if type(parcel) is not Sealed:
                raise TypeError(f"an engine carries sealed parcels only, not {type(parcel).__name__}")
            self.courier.send(parcel)
            self.sent(parcel)
