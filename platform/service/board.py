"""What the running processes tell whoever watches them; nothing of it leaves the machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

from ...privacy.errors import DecodeError
from ...privacy.messages import Limits, Message, decode, tag_of

State = Literal["starting", "waiting", "running", "paused", "stopped", "complete", "aborted", "failed"]
Standing = Literal["present", "absent", "dropped"]


class Board(Protocol):
    """Keeps what ``wardround site status`` and ``wardround coordinator status`` show."""

    def state(self, state: State, error: str = "") -> None:
        """What the process is doing; ``error`` in words, for the person at this machine."""

    def at(self, round_number: int, stage: str) -> None:
        """Where the protocol stands; rounds from 1, 0 before the first."""

    def message(self, tag: str, size: int, direction: Literal["in", "out"], party: str) -> None:
        """A message of ``size`` bytes came from, or went to, ``party``."""

    def party(self, name: str, standing: Standing) -> None:
        """Whether another party is there."""

    def privacy(self, epsilon: float, left: float | None = None, delta: float | None = None) -> None:
        """What the study has spent of the site's privacy budget, and what is left of it; None: it has no limit."""

    def refused(self) -> None:
        """Something that came was refused before it was read."""


class NoBoard:
    """Shows nothing."""

    def state(self, state: State, error: str = "") -> None:
        """Ignored."""

    def at(self, round_number: int, stage: str) -> None:
        """Ignored."""

    def message(self, tag: str, size: int, direction: Literal["in", "out"], party: str) -> None:
        """Ignored."""

    def party(self, name: str, standing: Standing) -> None:
        """Ignored."""

    def privacy(self, epsilon: float, left: float | None = None, delta: float | None = None) -> None:
        """Ignored."""

    def refused(self) -> None:
        """Ignored."""


def type_of(wire: bytes, kinds: Iterable[type[Message]], limits: Limits) -> str:
    """The type of a message, for counting; empty where the bytes are none of these."""
    try:
        return tag_of(decode(wire, kinds, limits))
    except DecodeError:
        return ""
