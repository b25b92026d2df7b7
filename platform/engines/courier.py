"""What the coordinator needs of whatever reaches its sites over a network: send, hear, and know who is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ...privacy.egress import Sealed
from ..errors import PlatformError


class CourierError(PlatformError):
    """The engine does not carry: its server cannot be reached, refused the job, or no site is connected."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message of a site: its name, as the transport authenticated it, and the exact bytes."""

    sender: str
    wire: bytes


@dataclass(frozen=True, slots=True)
class Gone:
    """The transport knows that this site cannot answer now."""

    site: str


class Courier(Protocol):
    """Carries parcels between the coordinator and its sites."""

    def send(self, parcel: Sealed) -> None:
        """Queue a parcel for its peer and return.

        Raises:
            TypeError: for anything that the egress gate did not seal.
        """

    def receive(self, timeout: float | None) -> Arrival | Gone | None:
        """The next that happened; None when nothing did within ``timeout`` seconds."""

    @property
    def present(self) -> frozenset[str]:
        """Sites that the running job reaches."""

    @property
    def knocking(self) -> frozenset[str]:
        """Sites that are connected, and that only a new job takes in."""

    @property
    def connected(self) -> frozenset[str]:
        """Sites that the server heard just now, whatever the job."""

    def renew(self, timeout: float) -> None:
        """End the job and start one with every connected site; what was queued is dropped.

        Raises:
            CourierError: when no job with at least one site runs within ``timeout`` seconds.
        """

    def settle(self, timeout: float) -> frozenset[str]:
        """Wait until everything sent was answered; the sites for which it was not."""

    def close(self) -> None:
        """End the job and everything that this started."""
