"""``[faults]`` of a study: what goes wrong in a simulation, and in which round and try."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .section import Section

Stage = Literal["advertise", "share", "mask", "agree", "unmask"]
Lie = Literal["two-adapters", "substituted-key", "small-cohort", "two-survivor-sets", "changed-unmask"]


class Fault(Section):
    """One scripted fault: in which round, and in how many tries at it.

    Attributes:
        round: from 1.
        attempts: in the first so many tries at the round.
    """

    round: int = Field(ge=1, le=10_000)
    attempts: int = Field(default=1, ge=1, le=1000)

    def applies(self, number: int, attempt: int) -> bool:
        """Whether the fault happens in this round and try (from 0)."""
        return number == self.round and attempt < self.attempts


class DropFault(Fault):
    """A site falls silent from a stage of the round on, and is back in the next one."""

    site: str
    stage: Stage


class SlowFault(Fault):
    """A site's message of one stage is late by so many simulated seconds."""

    site: str
    stage: Stage
    seconds: float = Field(gt=0.0, le=1e6)


class LieFault(Fault):
    """The coordinator lies."""

    lie: Lie


class ShareFault(Fault):
    """A site cheats: deals one peer an unopenable share, deals shares of another secret, or opens a wrong share."""

    site: str
    kind: Literal["dealt", "secret", "opened"]


class FaultsSection(Section):
    """``[faults]``: what goes wrong, for simulations only; docs/study.md has an example of each."""

    drop: tuple[DropFault, ...] = Field(default=(), strict=False, description="sites that fall silent")
    slow: tuple[SlowFault, ...] = Field(default=(), strict=False, description="sites that answer late")
    lying_coordinator: tuple[LieFault, ...] = Field(default=(), strict=False, description="lies of the coordinator")
    dishonest_share: tuple[ShareFault, ...] = Field(default=(), strict=False, description="sites that cheat")

    def __bool__(self) -> bool:
        """Whether anything goes wrong."""
        return bool(self.events)

    @property
    def events(self) -> tuple[Fault, ...]:
        """All faults."""
        return (*self.drop, *self.slow, *self.lying_coordinator, *self.dishonest_share)

    @property
    def sites(self) -> frozenset[str]:
        """Names of the sites that do something wrong."""
        return frozenset(
            [fault.site for fault in self.drop]
            + [fault.site for fault in self.slow]
            + [fault.site for fault in self.dishonest_share]
        )
