"""The site's half of the relay, free of FLARE: hands parcels to the site process, and its answers back.

A parcel is taken at once or not at all, so that nobody waits in a request while a site trains for half an hour; its
answer goes back as a message of its own, until the other side has it.
"""

from __future__ import annotations

import hmac
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path

from .frames import (
    FROM_SITE,
    KEY_BYTES,
    NO_KEY,
    TO_EXECUTOR,
    Answer,
    Beat,
    Codec,
    Dropped,
    Frame,
    Hand,
    Receipt,
    RelayError,
    Stop,
)
from .relay import Link, connect

BEAT_SECONDS = 1.0
"""How often an executor says that it is there; while nothing else happens this is all that it does."""

RETRY_SECONDS = 0.5
REMEMBERED = 4096

Push = Callable[[bytes], Receipt | None]
"""Sends one frame to the controller; its receipt, or None where there was none."""


class Forwarder:
    """Between the controller (through ``push`` and `take`) and the site process (through its socket).

    Args:
        path: the site process's socket; it may appear, go and come again.
        push: how frames reach the controller.
    """

    def __init__(self, path: Path, push: Push) -> None:
        self._path, self._push = path, push
        self._codec = Codec(TO_EXECUTOR)
        self._link: Link | None = None
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._open: set[bytes] = set()
        self._key = NO_KEY
        self._outbox: deque[Frame] = deque([Beat(False)])
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=f"wardround-{name}", daemon=True)
            for name, target in (("site", self._listen), ("controller", self._speak))
        ]

    def start(self) -> None:
        """Look for the site process, and tell the controller about it."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End both threads and the link; what was not sent is dropped."""
        self._stopped.set()
        with self._changed:
            link = self._link
            self._changed.notify_all()
        if link is not None:
            link.close()

    def take(self, payload: bytes) -> bytes:
        """Handle one frame of the controller: a parcel, a question whether this is alive, or the end of the job.

        Returns:
            The receipt. The same parcel again is taken again, and the site does not see it twice.

        Raises:
            RelayError: for anything else, and for whatever does not begin with the controller's key.
        """
        if self._key == NO_KEY or not hmac.compare_digest(payload[:KEY_BYTES], self._key):
            raise RelayError("a frame without the controller's key")
        frame = self._codec.decode(payload[KEY_BYTES:])
        if isinstance(frame, Stop):
            self.stop()
            return self._codec.encode(Receipt(True))
        if not isinstance(frame, Hand):
            return self._codec.encode(Receipt(self._link is not None))
        with self._changed:
            if frame.parcel in self._seen:
                return self._codec.encode(Receipt(True))
            link = self._link
            if link is None or self._stopped.is_set():
                return self._codec.encode(Receipt(False))
            self._seen[frame.parcel] = None
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
            self._open.add(frame.parcel)
        try:
            link.send(frame)
        except RelayError:
            # The listening thread sees the same end and reports this parcel with all others that are open.
            link.close()
        return self._codec.encode(Receipt(True))

    # --- the site process ------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while not self._stopped.is_set():
            try:
                link = connect(self._path, FROM_SITE)
            except RelayError:
                self._stopped.wait(RETRY_SECONDS)
                continue
            self._became(link)
            try:
                while True:
                    frame = link.receive(None)
                    if isinstance(frame, Stop):  # a newer job has this relay's place
                        self.stop()
                        break
                    if isinstance(frame, Answer | Dropped):
                        self._queue(frame)
            except RelayError:
                link.close()
            self._became(None)

    def _became(self, link: Link | None) -> None:
        with self._changed:
            self._link = link
            if link is None:
                self._outbox.extend(Dropped(parcel) for parcel in sorted(self._open))
                self._open.clear()
            self._outbox.append(Beat(link is not None))
            self._changed.notify_all()

    def _queue(self, frame: Answer | Dropped) -> None:
        with self._changed:
            if frame.parcel not in self._open:
                return
            self._open.discard(frame.parcel)
            self._outbox.append(frame)
            self._changed.notify_all()

    # --- the controller --------------------------------------------------------------------------------------------

    def _speak(self) -> None:
        while not self._stopped.is_set():
            with self._changed:
                if not self._outbox:
                    self._changed.wait(BEAT_SECONDS)
                ready = self._outbox and self._key != NO_KEY
                frame = self._outbox[0] if ready else Beat(self._link is not None)
            if self._stopped.is_set():
                return
            receipt = self._push(self._key + self._codec.encode(frame))
            taken = receipt is not None and receipt.taken
            if receipt is not None and len(receipt.key) == KEY_BYTES:
                self._key = receipt.key
            with self._changed:
                if self._outbox and self._outbox[0] is frame and (taken or isinstance(frame, Beat)):
                    self._outbox.popleft()
            if not taken:
                self._stopped.wait(RETRY_SECONDS)
