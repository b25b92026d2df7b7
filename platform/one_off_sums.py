"""Sums that a study makes once, as a site takes part in them: class means before its rounds, figures after them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..privacy.errors import ProtocolError, Refusal
from ..privacy.secure_aggregation.session import SessionId
from .adapters import State
from .class_means import CLASS_MEANS
from .held_out import EVALUATION, TEMPERATURE, UNSCALED, HeldOut, place_of, settings_of, temperature_at
from .held_out_memory import HeldOutMemory
from .means_memory import MeansMemory
from .trainer import LocalTrainer

Blocks = Mapping[str, NDArray[np.float64]]


class OneOffSum(Protocol):
    """What a site does with a start of such a sum, in this order; a start that fails on the way leaves no trace."""

    def check(self, session: SessionId, adapter: str, settings: bytes, last_round: int) -> None:
        """Refuse what is not the next attempt at it; ``adapter`` is the SHA-256 of its bytes, hexadecimal."""

    def check_state(self, state: State) -> None:
        """Refuse an adapter that it cannot be about."""

    def blocks(self, session: SessionId, state: State, settings: bytes) -> Blocks:
        """This site's vector, by block."""

    def enter(self, session: SessionId, adapter: str, settings: bytes, vector: str) -> None:
        """Use the attempt up, on disk; refuse another vector than in an earlier one, by its SHA-256, hexadecimal."""


@dataclass(frozen=True, slots=True)
class ClassMeansSum:
    """Class sums and counts of training images, before round 1."""

    memory: MeansMemory
    trainer: LocalTrainer
    plain: bytes
    """Settings of the first round."""

    def check(self, session: SessionId, adapter: str, settings: bytes, last_round: int) -> None:
        """As the memory has it."""
        self.memory.check_session(session, adapter, last_round)
        _same_settings(settings, self.plain)

    def check_state(self, state: State) -> None:
        """The adapter has no class means yet."""
        self.memory.check_means(state[CLASS_MEANS], summed=False)

    def blocks(self, session: SessionId, state: State, settings: bytes) -> Blocks:
        """Class sums and counts."""
        return self.trainer.class_sums()

    def enter(self, session: SessionId, adapter: str, settings: bytes, vector: str) -> None:
        """As the memory has it."""
        self.memory.enter(session, adapter)
        self.memory.same_vector(vector)


@dataclass(frozen=True, slots=True)
class HeldOutSum:
    """Figures of the final model on validation and test images, after the last round."""

    memory: HeldOutMemory
    held_out: HeldOut
    means: MeansMemory | None

    def check(self, session: SessionId, adapter: str, settings: bytes, last_round: int) -> None:
        """As the memory has it; the settings must name a temperature of the grid, or none."""
        self.memory.check_session(session, adapter, sha256(settings).hexdigest())
        place = self._place(session, settings)
        known = settings_of(session.study.hex(), session.round, session.purpose, temperature_at(place))
        _same_settings(settings, known)

    def check_state(self, state: State) -> None:
        """The adapter has the study's class means, where it has any."""
        if self.means is not None:
            self.means.check_means(state[CLASS_MEANS], summed=True)

    def blocks(self, session: SessionId, state: State, settings: bytes) -> Blocks:
        """The figures as integers."""
        self.memory.same_validation(self.held_out.validation_digest)
        model = {name: tensor for name, tensor in state.items() if name != CLASS_MEANS}
        return self.held_out.vector(session.purpose, model, self._place(session, settings))

    def enter(self, session: SessionId, adapter: str, settings: bytes, vector: str) -> None:
        """As the memory has it."""
        self.memory.enter(session, adapter, sha256(settings).hexdigest())
        self.memory.same_vector(session, vector, self.held_out.validation_digest)

    def _place(self, session: SessionId, settings: bytes) -> int:
        """Of the temperature; a model that carries one of its own is told none."""
        if session.purpose != EVALUATION or TEMPERATURE not in self.held_out.layouts:
            return UNSCALED
        try:
            return place_of(settings)
        except ValueError as error:
            raise ProtocolError(str(error), code=Refusal.OTHER_ADAPTER, stage="start") from None


def _same_settings(given: bytes, known: bytes) -> None:
    if given != known:
        raise ProtocolError("other round settings than the study's", code=Refusal.OTHER_ADAPTER, stage="start")
