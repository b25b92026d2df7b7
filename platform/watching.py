"""How a long run tells whoever watches it what it is doing; the command line draws it, tests record it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Watcher(Protocol):
    """Receives progress. Nothing here leaves the machine."""

    def stage(self, title: str) -> None:
        """A new stage begins; the one before is done."""

    def progress(self, done: int, total: int, unit: str, rate: float | None = None) -> None:
        """``done`` of ``total`` units of the current stage; ``rate`` is units a second."""

    def round_done(self, record: Mapping[str, Any], total: int) -> None:
        """A round is complete; ``record`` is its line of rounds.jsonl."""

    def note(self, text: str) -> None:
        """Something a person should know: skipped files, a resumed round."""


class Silent:
    """Watches nothing."""

    def stage(self, title: str) -> None:
        """Ignored."""

    def progress(self, done: int, total: int, unit: str, rate: float | None = None) -> None:
        """Ignored."""

    def round_done(self, record: Mapping[str, Any], total: int) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Ignored."""
