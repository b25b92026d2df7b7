"""Which clients FLARE's server hears, by the time that it notes at each sign of life; those times are only compared.

No clock of this process is held against the server's: a clock that is set back, or forward, hides no site and brings
none back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from .frames import Client

FRESH_SECONDS = 12.0
"""A client of which nothing new was heard for so many seconds is not connected: three of its heartbeats."""


class Presence:
    """What the answers to questions put again and again say about who is there; its owner's lock guards it.

    A client is heard when the server's note of it is another than in the answer before. In the first answer, which has
    none before it, those are heard whose note is about as new as the newest.

    Args:
        clock: monotonic seconds of this process.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._notes: dict[str, float] | None = None
        self._heard: dict[str, float] = {}
        self._lost: set[str] = set()
        self._asked: frozenset[str] = frozenset()
        self._doubt = self._settles = False

    def asking(self) -> None:
        """The server is about to be asked: what was lost until now, its answer knows of."""
        self._asked, self._settles = frozenset(self._lost), True

    def answered(self, clients: Iterable[Client]) -> None:
        """The server's answer to the newest question. A question without one changes nothing: who is there ages."""
        notes, now = {client.name: client.seen for client in clients}, self._clock()
        if self._notes is None:
            newest = max(notes.values(), default=0.0)
            new = {name for name, note in notes.items() if newest - note < FRESH_SECONDS}
        else:
            new = {name for name, note in notes.items() if self._notes.get(name) != note}
        self._heard = {name: then for name, then in self._heard.items() if name in notes}
        self._heard |= dict.fromkeys(new - self._lost, now)
        self._lost -= self._asked  # the note is now that of the client's last sign of life, and a newer one counts
        self._notes = notes
        if self._settles:
            self._doubt = False

    def lost(self, names: Iterable[str]) -> None:
        """A job lost these: what the server last heard of them may have been before that."""
        gone = set(names)
        self._heard = {name: then for name, then in self._heard.items() if name not in gone}
        self._lost |= gone
        self._asked -= gone  # a question that is under way may have been answered before

    def found(self, names: Iterable[str]) -> None:
        """A job reaches these."""
        self._lost -= set(names)

    def doubt(self) -> None:
        """Perhaps the server is gone: nobody is connected until a question that is put after this is answered."""
        self._doubt, self._settles = True, False

    @property
    def connected(self) -> frozenset[str]:
        """Clients that were heard lately, and since a job lost them."""
        now = self._clock()
        return frozenset(name for name, then in self._heard.items() if not self._doubt and now - then < FRESH_SECONDS)
