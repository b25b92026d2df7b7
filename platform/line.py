"""What the rounds of a study need of an engine: that it carries sealed parcels, and what follows from them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

from ..privacy.egress import Sealed
from .consortium import Consortium


class Line(Protocol):
    """Carries messages between a coordinator and its sites, in this process or over a network."""

    @property
    def waited(self) -> float:
        """Seconds of waiting so far that were simulated only; 0 on real machines."""

    def carry(self, consortium: Consortium, parcels: Iterable[Sealed]) -> None:
        """Deliver the coordinator's parcels, and everything that follows from them, until nobody is waited for.

        A stage whose sites stay silent ends when its time is over.

        Raises:
            TypeError: something other than a sealed parcel; only the egress gate makes those.
        """

    def between_rounds(self, consortium: Consortium, *, everybody: bool = False, patience: float | None = None) -> None:
        """Nobody is being waited for: the moment to wait for sites, and to take in those that have come back.

        Args:
            consortium: whose sites. everybody: whether all of the cohort are needed for what comes.
            patience: seconds to wait at most; None: until enough are there.
        """

    def excuses(self, dropped: Collection[str]) -> bool:
        """Whether a try that released nothing counts as none, because the engine lost all of these sites itself."""
