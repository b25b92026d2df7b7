"""What a sum came to, between its release and its commit."""

from __future__ import annotations

from dataclasses import dataclass, field

from .adapters import State
from .errors import RoundError
from .round_outcome import RoundOutcome


@dataclass
class Released:
    """The next global tensors, the server optimiser's moments, and the class means; empty where nothing was released.

    Attributes:
        state: None, or what the round made. memory: of the server's optimiser. constants: by name.
    """

    state: State | None = None
    memory: State = field(default_factory=dict)
    constants: State = field(default_factory=dict)

    def state_after(self, number: int, outcome: RoundOutcome | None) -> State:
        """The adapter after round ``number``.

        Raises:
            RoundError: the round released nothing.
        """
        if self.state is None:
            raise RoundError(
                f"round {number} released nothing: {outcome.reason if outcome else 'the round is not over'}",
                remedy="Continue with --resume; the adapter of the round before is kept",
            )
        return self.state

    def class_means(self, outcome: RoundOutcome | None) -> State:
        """The constants.

        Raises:
            RoundError: their sum released nothing.
        """
        if not self.constants:
            reason = outcome.reason if outcome else "it is not over"
            raise RoundError(f"the sum of class means released nothing: {reason}", remedy="Continue with --resume")
        return self.constants
