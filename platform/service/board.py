"""What the running processes tell whoever watches them; nothing of it leaves the machine."""

from __future__ import annotations

from typing import Literal, Protocol

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
