"""What a site's validation and test parts say of the final model, as vectors that add over sites.

Two sums are made once a study, after its last round, each over the one fixed cohort: ``temperature``, from which the
coordinator reads the federated temperature, and ``evaluation``, all figures at that temperature. Predictions stay at
the sites. Under differential privacy neither is made: nothing in them carries noise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
import torch
from numpy.typing import NDArray

from ..evaluation.calibration.temperature import GRID_POINTS, grid
from ..evaluation.errors import InvalidPredictionsError
from ..evaluation.sums.layout import VectorLayout, bits_for, evaluation_layout, temperature_layout
from ..evaluation.sums.of_site import evaluation_fields, temperature_fields
from ..privacy.atomic import canonical_json
from ..privacy.secure_aggregation.parameters import Block
from ..privacy.secure_aggregation.session import Purpose
from .adapters import State
from .config import Study
from .errors import MethodError
from .methods.method import Method, SharedInputs
from .study_data import Part
from .training import one_thread, ready_module

TEMPERATURE: Purpose = "temperature"
EVALUATION: Purpose = "evaluation"
HELD_OUT: tuple[Purpose, ...] = (TEMPERATURE, EVALUATION)
FIGURES = "figures"
"""The one block of their vectors."""
UNSCALED = -1
"""Stands for "no temperature" where settings name one of the grid by its place."""


def held_out_layouts(study: Study, classes: int, sites: int, *, carries: bool) -> dict[Purpose, VectorLayout]:
    """What is summed after the last round, in order; nothing where the study says so, or is differentially private.

    A model that carries a temperature of its own gets none fitted.

    Args:
        study: what is evaluated. classes: K. sites: vectors in a sum.
        carries: whether the model carries a temperature of its own.
    """
    if study.private or not study.evaluation.federated:
        return {}
    bits = bits_for(sites)
    settings = study.evaluation
    layouts = {EVALUATION: evaluation_layout(classes, settings.levels, len(settings.thresholds), bits)}
    if not carries:
        layouts = {TEMPERATURE: temperature_layout(bits), **layouts}
    return layouts


def block_of(layout: VectorLayout) -> Block:
    """The block of a vector of integers: exact, unweighted, bounded so that no sum over the sites can wrap."""
    return Block(FIGURES, layout.size, float(2**layout.bits - 1), 0, weighted=False)


def settings_of(study: str, number: int, purpose: Purpose, temperature: float | None) -> bytes:
    """What coordinator and sites must agree on for a sum, as canonical JSON.

    Args:
        study: its hash, hexadecimal. number: of the last round. purpose: of the sum.
        temperature: one of the grid, or None; for the evaluation only.
    """
    settings: dict[str, str | int] = {"study": study, "round": number, "purpose": purpose}
    if purpose == EVALUATION:
        settings["temperature"] = UNSCALED if temperature is None else int(np.argmin(np.abs(grid() - temperature)))
    return canonical_json(settings)


def place_of(settings: bytes) -> int:
    """The place in the grid of the temperature that settings of an evaluation name, or :data:`UNSCALED`.

    Raises:
        ValueError: they name none.
    """
    try:
        place = json.loads(settings)["temperature"]
    except (KeyError, TypeError, RecursionError):
        raise ValueError("the settings name no temperature") from None
    if type(place) is not int or not UNSCALED <= place < GRID_POINTS:
        raise ValueError(f"temperature {place!r} is not on the grid")
    return place


def known_temperature(settings: str, study: str, number: int) -> float | None:
    """The federated temperature that an evaluation was made at, found by the SHA-256 of its settings.

    Args:
        settings: hexadecimal. study: its hash. number: of the last round.

    Returns:
        One of the grid; None where the evaluation had none, or the hash is of other settings.
    """
    for place in range(GRID_POINTS):
        temperature = temperature_at(place)
        if sha256(settings_of(study, number, EVALUATION, temperature)).hexdigest() == settings:
            return temperature
    return None


def temperature_at(place: int) -> float | None:
    """The temperature at a place in the grid; None for :data:`UNSCALED`."""
    return None if place == UNSCALED else float(grid()[place])


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A site's validation and test parts, and how to predict on them.

    Attributes:
        method, shared: what answers. layouts: of the vectors, by purpose.
        validation, test: the parts; either may be empty.
        subgroups: by column, the value of each test image; empty text where none is recorded.
        levels: columns and values that the study counts. thresholds: of decision curves.
    """

    method: Method
    shared: SharedInputs
    layouts: Mapping[Purpose, VectorLayout]
    validation: Part
    test: Part
    subgroups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    levels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    thresholds: Sequence[float] = ()

    @property
    def validation_digest(self) -> str:
        """SHA-256 over the validation part: rows, labels and features; hexadecimal. It does not leave the site."""
        part = self.validation
        arrays = (part.rows, part.labels, part.features)
        return sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()

    def vector(self, purpose: Purpose, state: State, place: int = UNSCALED) -> dict[str, NDArray[np.float64]]:
        """This site's block for a sum.

        Args:
            purpose: of the sum. state: the final model's tensors. place: of the temperature, for an evaluation.

        Raises:
            MethodError: the parts do not fit the vector.
        """
        try:
            return {FIGURES: self.layouts[purpose].pack(self._fields(purpose, state, place))}
        except InvalidPredictionsError as error:
            raise MethodError(f"this site's figures cannot be summed: {error}") from None

    def _fields(self, purpose: Purpose, state: State, place: int) -> dict[str, NDArray[np.float64]]:
        """What goes into the vector.

        Raises:
            InvalidPredictionsError: an answer is too large to be a logit.
        """
        validation, labels = self._logits(state, self.validation), self.validation.labels
        if purpose == TEMPERATURE:
            return temperature_fields(validation, labels, self.layouts[purpose].bits)
        return evaluation_fields(
            self._logits(state, self.test),
            self.test.labels,
            self.subgroups,
            self.levels,
            (validation, labels, self.validation.groups),
            temperature_at(place),
            self.thresholds,
        )

    def _logits(self, state: State, part: Part) -> NDArray[np.float64]:
        with one_thread(), torch.no_grad():
            module = ready_module(self.method, state, self.shared)
            logits: NDArray[np.float64] = self.method.logits(
                module, part.inputs(self.method.consumes), self.shared
            ).numpy()
        if not np.isfinite(logits).all():
            raise MethodError(
                "the final model's answers are not finite", remedy="Training diverged; lower the step size"
            )
        return logits
