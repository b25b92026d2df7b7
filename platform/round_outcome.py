"""What became of one attempt at a round, and its line in rounds.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class RoundOutcome:
    """What became of an attempt at a round.

    Attributes:
        taken_up: whether its session was begun before a restart.
        attempt: of the session, from 0; asked again in one session it is the same.
        released: True when there is a new global adapter.
        reason: why there is none; empty otherwise.
        survivors: sites in the sum; empty where nothing was released.
        dropped: site -> (stage, reason code). One that dropped at agree or unmask can be in the sum all the same.
        seconds: by stage, and ``total``.
        bytes_up, bytes_down: wire bytes of the round so far.
        train_loss: weighted mean over the survivors, from the secure sum.
    """

    taken_up: bool
    attempt: int
    released: bool
    reason: str
    survivors: tuple[str, ...]
    dropped: Mapping[str, tuple[str, str]]
    seconds: Mapping[str, float]
    bytes_up: int
    bytes_down: int
    train_loss: float | None

    @staticmethod
    def seconds_of(marks: Sequence[tuple[str, float]]) -> dict[str, float]:
        """Seconds by stage, and their ``total``, of moments at which stages ended; the first one began the round."""
        steps = pairwise(marks)
        return {**{stage: end - start for (_, start), (stage, end) in steps}, "total": marks[-1][1] - marks[0][1]}

    def record(self, number: int, validation: Mapping[str, object], waited: float = 0.0) -> dict[str, object]:
        """The attempt's line in rounds.jsonl; ``waited`` are the seconds in it that only a simulated clock saw."""
        return {
            "round": number,
            "attempt": self.attempt,
            "released": self.released,
            "reason": self.reason,
            "participants": list(self.survivors),
            "dropped": [
                {"site": site, "stage": stage, "reason": reason} for site, (stage, reason) in self.dropped.items()
            ],
            "seconds": {stage: round(value, 4) for stage, value in self.seconds.items()},
            "waited": round(waited, 4),
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "train_loss": self.train_loss,
            "validation": dict(validation),
        }
