"""How a long run tells whoever watches it what it is doing; the command line draws it, tests record it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol


class Watcher(Protocol):
    """Receives progress. Nothing here leaves the machine.

    Attributes:
        brief: a person looks on, who wants a thousand files that were left out for one reason in one line.
    """

    brief: bool

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

    brief = False

    def stage(self, title: str) -> None:
        """Ignored."""

    def progress(self, done: int, total: int, unit: str, rate: float | None = None) -> None:
        """Ignored."""

    def round_done(self, record: Mapping[str, Any], total: int) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Ignored."""


MANY = 5
"""Files left out for one reason that are named one by one to a person who looks on."""


def left_out(skipped: Sequence[tuple[Path, str]], *, brief: bool) -> Iterator[str]:
    """A note for every file that was left out; where ``brief``, one for all files of a reason that many have.

    Args:
        skipped: files and reasons.
        brief: as :attr:`Watcher.brief`.
    """
    of_reason: dict[str, list[Path]] = defaultdict(list)
    for path, reason in skipped:
        of_reason[reason].append(path)
    told = set()
    for path, reason in skipped:
        files = of_reason[reason]
        if not brief or len(files) <= MANY:
            yield f"left out: {path}: {reason}"
        elif reason not in told:
            told.add(reason)
            yield f"left out: {len(files)} files: {reason}; the first is {files[0]}"
