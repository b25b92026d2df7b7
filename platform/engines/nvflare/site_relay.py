"""The site process's end: takes parcels from FLARE's executor, has the site's state machine answer, and sends that."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from ....privacy.egress import Sealed
from .frames import FRAME_BYTES, MAX_ANSWERS, MAX_FRAME, TO_SITE, Answer, Dropped, Frame, Hand, RelayError, Stop
from .listener import Listener
from .relay import Link

WAITING = 16
"""Parcels that may wait while the site is at work; who sends more is no job of ours, and loses its link."""

Handle = Callable[[bytes], Iterable[Sealed]]
"""The site: exact bytes of a message to it, and the sealed messages that it answers."""


class SiteRelay:
    """Listens for the executor of the newest job; one at a time, and a newer one takes an older one's place.

    Args:
        path: the socket that FLARE's client is told (`executor.SOCKET_VARIABLE`).
        limit: largest message in bytes; a little more is allowed for the frame around it.
        uid: the user that FLARE's client runs as; this one by default.

    Raises:
        RelayError: when the socket cannot be made, or another process listens on it.
    """

    def __init__(self, path: Path, *, limit: int = MAX_FRAME, uid: int | None = None) -> None:
        self._listener = Listener(path, TO_SITE, limit=min(MAX_FRAME, limit + FRAME_BYTES), uid=uid)
        self._handling = threading.Lock()
        self._changed = threading.Condition()
        self._link: Link | None = None
        self._parcels: deque[tuple[Link, Hand]] = deque()
        self._closed = False
        threading.Thread(target=self._accept, name="wardround-relay", daemon=True).start()

    @property
    def connected(self) -> bool:
        """Whether a job of FLARE's reaches this process."""
        return self._link is not None

    def step(self, handle: Handle, timeout: float | None) -> bool:
        """Have ``handle`` answer the next parcel, on the calling thread.

        Returns:
            False when none came within ``timeout`` seconds, or the relay was closed.

        Raises:
            TypeError: when an answer is not sealed by the egress gate; nothing of it is sent.
        """
        with self._changed:
            self._changed.wait_for(lambda: bool(self._parcels) or self._closed, timeout)
            if not self._parcels:
                return False
            link, hand = self._parcels.popleft()
        with self._handling:
            self._answer(link, hand, handle)
        return True

    def _answer(self, link: Link, hand: Hand, handle: Handle) -> None:
        try:
            sealed = list(handle(hand.wire))
            for parcel in sealed:
                if type(parcel) is not Sealed:
                    raise TypeError(f"an engine carries sealed parcels only, not {type(parcel).__name__}")
            if len(sealed) > MAX_ANSWERS:
                raise RelayError(f"a site answered one message with {len(sealed)}, more than {MAX_ANSWERS}")
        except BaseException:
            self._send(link, Dropped(hand.parcel))
            raise
        self._send(link, Answer(hand.parcel, tuple(parcel.wire for parcel in sealed)))

    @staticmethod
    def _send(link: Link, frame: Frame) -> None:
        """Answer, unless the job is gone: then the coordinator has been told that the site is, and asks again."""
        try:
            link.send(frame)
        except RelayError:
            link.close()

    def close(self) -> None:
        """Stop listening and let go of the job."""
        with self._changed:
            self._closed = True
            link = self._link
            self._changed.notify_all()
        self._listener.close()
        if link is not None:
            link.close()

    # --- threads ---------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self._closed:
            try:
                link = self._listener.accept()
            except RelayError:  # closed
                return
            if link is None:
                continue
            with self._changed:
                old, self._link = self._link, link
                self._parcels.clear()
            if old is not None:
                self._send(old, Stop())
                old.close()
            threading.Thread(target=self._read, args=(link,), name="wardround-job", daemon=True).start()

    def _read(self, link: Link) -> None:
        try:
            while True:
                frame = link.receive(None)
                if isinstance(frame, Hand):
                    with self._changed:
                        if link is self._link:
                            if len(self._parcels) >= WAITING:
                                raise RelayError(f"more than {WAITING} parcels wait for the site")
                            self._parcels.append((link, frame))
                            self._changed.notify_all()
        except RelayError:
            with self._changed:
                if link is self._link:
                    self._link = None
                    self._parcels.clear()
            link.close()
