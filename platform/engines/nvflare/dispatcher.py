"""The coordinator's half of the relay, free of FLARE: delivers parcels to sites in order, and knows who is there.

A site is reached while its executor says, every second, that it has a site process. One that falls silent is asked;
when FLARE cannot find its cell any more, or nothing was heard for too long, what it still owed is lost.
"""

from __future__ import annotations

import hmac
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from .frames import (
    KEY_BYTES,
    NO_KEY,
    TO_CONTROLLER,
    Answer,
    Answered,
    Beat,
    Codec,
    Deliver,
    Dropped,
    Frame,
    Hand,
    Lost,
    Reach,
    Receipt,
    Stop,
)

Ask = Callable[[str, bytes], Receipt | None]
"""Sends a frame to a site's executor; its receipt, or None where there was none."""

QUIET_SECONDS = 3.0
"""After so long without a sign of a site it is asked for one, once a tick; two unreachable answers make it lost."""

SILENT_SECONDS = 20.0
"""After so long without a sign of a site it is lost, whatever FLARE says: a machine can be too busy to answer."""

TICK_SECONDS = 0.5
ATTEMPTS = 3
UNREACHABLE = 2


@dataclass
class _Site:
    name: str
    key: bytes = field(default_factory=lambda: os.urandom(KEY_BYTES))
    heard: float | None = None  # None: not there
    live: bool = False
    missed: int = 0
    asking: bool = False
    queue: deque[Hand] = field(default_factory=deque)
    owed: set[bytes] = field(default_factory=set)


class Dispatcher:
    """Queues, answers and presence of the sites of one job.

    Args:
        sites: names of all that the job was started for.
        ask: how a frame reaches a site's executor.
        report: takes what the coordinator process must know. Called from several threads, one at a time.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        sites: frozenset[str],
        ask: Ask,
        report: Callable[[Frame], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sites = {name: _Site(name) for name in sorted(sites)}
        self._ask, self._report, self._clock = ask, report, clock
        self._codec = Codec(TO_CONTROLLER)
        self._changed = threading.Condition()
        self._told: Reach | None = None
        self._stopped = False

    def start(self) -> None:
        """Begin: one thread a site, so that no slow site holds up another."""
        for site in self._sites.values():
            threading.Thread(target=self._serve, args=(site,), name=f"wardround-{site.name}", daemon=True).start()

    def stop(self) -> None:
        """Take and deliver nothing more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def deliver(self, frame: Deliver) -> None:
        """Queue a parcel; it is lost at once where its site is not reached."""
        with self._changed:
            site = self._sites.get(frame.site)
            if site is None or not site.live:
                self._report(Lost(frame.parcel, frame.site))
                return
            site.owed.add(frame.parcel)
            site.queue.append(Hand(frame.parcel, frame.wire))
            self._changed.notify_all()

    def take(self, name: str, payload: bytes) -> bytes | None:
        """Handle one frame of a site's executor.

        Returns:
            The receipt; None where the sender is none of this job's sites.

        Raises:
            RelayError: when the bytes are no frame that a site may send.
        """
        frame = self._codec.decode(payload[KEY_BYTES:])
        with self._changed:
            site = self._sites.get(name)
            if site is None or self._stopped:
                return None
            if payload[:KEY_BYTES] == NO_KEY and isinstance(frame, Beat):
                return self._codec.encode(Receipt(True, site.key))
            if not hmac.compare_digest(payload[:KEY_BYTES], site.key):
                return None
            site.heard, site.missed = self._clock(), 0
            if isinstance(frame, Beat):
                self._became(site, frame.live)
            elif isinstance(frame, Answer | Dropped) and frame.parcel in site.owed:
                site.owed.discard(frame.parcel)
                if isinstance(frame, Answer):
                    self._report(Answered(frame.parcel, name, frame.wires))
                else:
                    self._report(Lost(frame.parcel, name))
        return self._codec.encode(Receipt(True))

    def farewell(self) -> dict[str, bytes]:
        """What ends each site's executor."""
        return {site.name: site.key + self._codec.encode(Stop()) for site in self._sites.values()}

    def tick(self) -> None:
        """Look after the sites that fell silent; call it every `TICK_SECONDS`."""
        now = self._clock()
        quiet = []
        with self._changed:
            for site in self._sites.values():
                if site.heard is None:
                    continue
                if now - site.heard > SILENT_SECONDS or site.missed >= UNREACHABLE:
                    self._lose(site)
                elif now - site.heard > QUIET_SECONDS and not site.asking:
                    site.asking = True
                    quiet.append(site)
        for site in quiet:
            threading.Thread(target=self._look, args=(site,), daemon=True).start()

    def _look(self, site: _Site) -> None:
        begun = self._clock()
        answered = self._ask(site.name, site.key + self._codec.encode(Beat(True))) is not None
        with self._changed:
            site.asking = False
            if answered:
                site.heard, site.missed = self._clock(), 0
            elif self._clock() - begun < QUIET_SECONDS:  # not a time-out: FLARE has no way to it
                site.missed += 1

    def _serve(self, site: _Site) -> None:
        """Hand one site its parcels, each until it is taken."""
        while True:
            with self._changed:
                while not site.queue and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                hand = site.queue.popleft()
            payload = site.key + self._codec.encode(hand)
            for attempt in range(ATTEMPTS):
                if attempt:
                    time.sleep(TICK_SECONDS)
                receipt = self._ask(site.name, payload)
                if receipt is not None or hand.parcel not in site.owed:
                    break
            with self._changed:
                if hand.parcel not in site.owed or (receipt is not None and receipt.taken):
                    continue
                if receipt is not None:  # its executor is there, its site process is not
                    self._became(site, False)
                else:
                    self._lose(site)

    # --- with the lock held ----------------------------------------------------------------------------------------

    def _became(self, site: _Site, live: bool) -> None:
        site.live = live
        if not live:
            site.queue.clear()
            for parcel in sorted(site.owed):
                self._report(Lost(parcel, site.name))
            site.owed.clear()
        there = [each for each in self._sites.values() if each.heard is not None]
        reach = Reach(
            tuple(each.name for each in there if each.live), tuple(each.name for each in there if not each.live)
        )
        if reach != self._told:
            self._told = reach
            self._report(reach)

    def _lose(self, site: _Site) -> None:
        site.heard, site.missed = None, 0
        self._became(site, False)
