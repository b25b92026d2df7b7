"""Which entries of a ledger are meant, and what else could have been meant where there is none."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any, get_args

from ...privacy.ledger.entries import Entry, Outcome
from ...privacy.messages import STAGE
from ..errors import PlatformError

DIRECTIONS = ("out", "in", "none")


def type_of(entry: Entry) -> str:
    """A message's type; the kind of what is no message, or a message that could not be decoded."""
    return entry.message_type or entry.kind


@dataclass(slots=True)
class Known:
    """Values that occur in ledgers, and for types, stages, outcomes and directions those that could."""

    study: set[str] = field(default_factory=set)
    round: set[int] = field(default_factory=set)
    stage: set[str] = field(default_factory=lambda: set(STAGE.values()))
    type: set[str] = field(default_factory=lambda: set(STAGE))
    peer: set[str] = field(default_factory=set)
    owner: set[str] = field(default_factory=set)
    direction: set[str] = field(default_factory=lambda: set(DIRECTIONS))
    outcome: set[str] = field(default_factory=lambda: set(get_args(Outcome)))
    day: set[str] = field(default_factory=set)

    def add(self, entry: Entry) -> None:
        """Take in one entry's values."""
        if entry.study:
            self.study.add(entry.study)
        if entry.round >= 0:
            self.round.add(entry.round)
        if entry.stage:
            self.stage.add(entry.stage)
        if entry.peer:
            self.peer.add(entry.peer)
        self.type.add(type_of(entry))
        self.owner.add(entry.owner)
        self.day.add(entry.time[:10])


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What an entry must be; None: anything.

    Attributes:
        study: its study's hash begins so. round, stage, peer, owner, direction, outcome: exactly so.
        type: type of the message, or kind of what is no message.
        day: UTC, ``YYYY-MM-DD``.

    Raises:
        PlatformError: the day is no date.
    """

    study: str | None = None
    round: int | None = None
    stage: str | None = None
    type: str | None = None
    peer: str | None = None
    owner: str | None = None
    direction: str | None = None
    outcome: str | None = None
    day: str | None = None

    def __post_init__(self) -> None:
        if self.day is None:
            return
        try:
            good = date.fromisoformat(self.day).isoformat() == self.day
        except ValueError:
            good = False
        if not good:
            raise PlatformError(f"{self.day!r} is no day", where="--day", remedy="Write it as YYYY-MM-DD, in UTC")

    def given(self) -> dict[str, Any]:
        """The filters that are set."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def match(self, entry: Entry) -> bool:
        """Whether the entry is meant."""
        return (
            (self.study is None or entry.study.startswith(self.study.lower()))
            and (self.round is None or entry.round == self.round)
            and (self.stage is None or entry.stage == self.stage)
            and (self.type is None or type_of(entry) == self.type)
            and (self.peer is None or entry.peer == self.peer)
            and (self.owner is None or entry.owner == self.owner)
            and (self.direction is None or entry.direction == self.direction)
            and (self.outcome is None or entry.outcome == self.outcome)
            and (self.day is None or entry.time.startswith(self.day))
        )

    def check(self, known: Known) -> None:
        """Refuse a value that no entry has; a day without entries is an answer and no error.

        Raises:
            PlatformError: names the value, and the nearest that there is.
        """
        if self.study is not None and not any(study.startswith(self.study.lower()) for study in known.study):
            raise _unknown("study", self.study, known.study, short=12)
        if self.round is not None and self.round not in known.round:
            near = sorted(known.round, key=lambda each: (abs(each - (self.round or 0)), each))[:1]
            remedy = f"The nearest is round {near[0]}" if near else "No entry here is of a round"
            raise PlatformError(f"no entry is of round {self.round}", where="--round", remedy=remedy)
        for name in ("stage", "type", "peer", "owner", "direction", "outcome"):
            value, values = getattr(self, name), getattr(known, name)
            if value is not None and value not in values:
                raise _unknown(name, value, values)

    def nearest_day(self, known: Known) -> str:
        """The day with entries that is nearest to the one asked for; empty where there is none."""

        def away(day: str) -> int:
            try:
                return abs((date.fromisoformat(day) - date.fromisoformat(self.day or day)).days)
            except ValueError:  # a ledger's times are not checked here
                return date.max.toordinal()

        return min(sorted(known.day), key=away, default="")


def _unknown(name: str, value: str, known: Iterable[str], *, short: int | None = None) -> PlatformError:
    """The error about a value that nothing has."""
    names = sorted(known)
    near = difflib.get_close_matches(value, [each[: len(value)] if short else each for each in names], n=1, cutoff=0.5)
    if near:
        meant = next(each for each in names if each.startswith(near[0]))
        remedy = f"Did you mean {meant[:short]!r}?"
    else:
        remedy = f"There is: {', '.join(each[:short] for each in names[:20])}" if names else "No entry has any"
    begins = "has a study that begins with" if name == "study" else f"has the {name}"
    return PlatformError(f"no entry {begins} {value!r}", where=f"--{name}", remedy=remedy)
