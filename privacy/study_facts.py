"""What a gate is told of the study whose messages it lets out."""

from __future__ import annotations

from dataclasses import dataclass

from .secure_aggregation.roster import PinnedRoster

COORDINATOR = "coordinator"


@dataclass(frozen=True)
class StudyFacts:
    """What the policy is asked about, and what entries say beside the message.

    Attributes:
        roster: pinned roster of the study; its ``study`` is the study's hash.
        method: name of the training method.
        secure_aggregation: whether vectors are masked.
        epsilon, delta: the study's privacy budget; None without differential privacy.
        model: fingerprint of the frozen model, hexadecimal.
        software: name and version of this software.
        minimum_cell: fewest images of a cell that the study publishes.
    """

    roster: PinnedRoster
    method: str
    secure_aggregation: bool = True
    epsilon: float | None = None
    delta: float | None = None
    model: str = ""
    software: str = "wardround"
    minimum_cell: int = 11

    @property
    def study(self) -> bytes:
        """SHA-256 of the study, 32 bytes."""
        return self.roster.roster.study

    @property
    def coordinator_key(self) -> bytes:
        """The coordinator's raw identity key, as the roster has it; empty where it has none."""
        return bytes.fromhex(self.roster.roster.coordinator_key)
