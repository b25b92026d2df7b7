"""The engine of real machines, seen from the coordinator: sealed parcels go to a courier, answers come back by it.

Stages end on the real clock, or as soon as the transport knows that nobody who is waited for can answer. A site that
was restarted is taken in between rounds, by a new job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from ...privacy.egress import Sealed
from ..consortium import Consortium
from .courier import Arrival, Courier, CourierError, Gone

SLICE = 0.5
"""Seconds after which a wait looks whether it is to end."""
DELIVERY = 30.0
"""Seconds that messages nobody answers are given to arrive."""
LAST_WORDS = 3.0
"""Seconds that the end of a round is given to arrive before a new job begins."""
ABSENCE = 8.0
"""Seconds that the transport is given to tell a site that has ended from one whose answer was lost; it takes five."""
TELL = 2.0
"""Seconds of waiting after which a person is told."""
EXCUSED = 20
"""Tries in a row that the transport may lose before they count."""
LONGEST_PAUSE = 60.0
"""Seconds between two attempts at most, where one after the other fails."""
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
    _missed: set[str] = field(default_factory=set, init=False)
    _lost_now: set[str] = field(default_factory=set, init=False)
    _knocked: dict[str, tuple[int, float]] = field(default_factory=dict, init=False)
    _excused: int = field(default=0, init=False)
    _pause: float = field(default=0.0, init=False)

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
        self._lost_now.clear()
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
                    self._missed.discard(sender)
                    self.seen(sender, wire)
                    self._send(coordinator.handle(sender, wire))
                case Gone(site):
                    self._missed.add(site)
                    self._lost_now.add(site)
                    self.lost(site)
                    self._send(coordinator.expire({site}))
        if coordinator.outcome is not None and coordinator.outcome.released:
            self._excused = 0
        self._drain(consortium)

    def between_rounds(self, consortium: Consortium, *, everybody: bool = False, patience: float | None = None) -> None:
        """Wait until enough sites are there, and take in those that have come back since the job began.

        Nothing is tried without enough of them: a hospital that restarts its machine costs the study no try.

        Args:
            consortium: whose sites. everybody: whether the whole cohort is needed.
            patience: seconds to wait at most, so that what cannot be had is recorded; None: for ever.

        Raises:
            StopRequestedError: somebody asked the coordinator to stop.
        """
        roster, began, told = consortium.roster.roster, self.clock(), False
        self._settle_absence()
        while True:
            if self.stopping():
                raise StopRequestedError
            self.check()
            self._drain(consortium)
            self._take_in(consortium)
            there = self.courier.present & set(roster.names)
            counted = there & consortium.roster.confirmed
            missing = set(roster.evaluation_cohort) - there if everybody else set()
            if self.clock() >= self._pause and not missing and len(counted) >= roster.thresholds.least:
                break
            if patience is not None and self.clock() - began > patience:
                break
            if not told and self.clock() - began > TELL:
                absent = ", ".join(sorted(set(roster.names) - there)) or "nobody"
                self.note(f"waiting for sites: {len(there)} of {len(roster.names)} are there; missing: {absent}")
                told = True
            time.sleep(SLICE / 2)
        self._drain(consortium)

    def _take_in(self, consortium: Consortium) -> None:
        """A new job for sites that knock. One that knocks in vain is asked less and less often."""
        now = self.clock()
        back = {
            site
            for site in self.courier.knocking & set(consortium.roster.roster.names)
            if now >= self._knocked.get(site, (0, 0.0))[1]
        }
        if not back:
            return
        self.settle(LAST_WORDS)
        self._drain(consortium)
        try:
            self.courier.renew(RENEWAL)
        except CourierError as error:
            self.note(f"the sites are not reached: {error.what}; tried again")
        for site in back:
            times = self._knocked.get(site, (0, 0.0))[0] + 1
            if site in self.courier.present:
                self._knocked.pop(site, None)
                self.note(f"taken in again: {site}")
            else:
                self._knocked[site] = (times, self.clock() + min(LONGEST_PAUSE, 2.0**times))

    def excuses(self, dropped: Collection[str]) -> bool:
        """Whether a try was lost by the transport alone; the next one waits the longer, the more were lost in a row."""
        if not dropped or not set(dropped) <= self._lost_now or self._excused >= EXCUSED:
            return False
        self._excused += 1
        self._pause = self.clock() + min(LONGEST_PAUSE, 0.5 * 2.0**self._excused)
        return True

    def settle(self, seconds: float = DELIVERY) -> None:
        """Wait until what nobody answers has arrived, such as the last message of a study."""
        for site in sorted(self.courier.settle(seconds)):
            self.lost(site)

    def _settle_absence(self) -> None:
        """A site that could not answer is still present for a moment where it has ended: wait that moment.

        Otherwise the next try would ask it, and be lost for nothing.
        """
        for _ in range(int(ABSENCE / SLICE * 2)):
            if not self._missed & self.courier.present or self.stopping():
                break
            time.sleep(SLICE / 2)
        self._missed.clear()

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
