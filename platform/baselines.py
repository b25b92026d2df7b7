"""What federation is compared with: each site on its own, and all data in one place."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .adapters import State, under
from .config import Study
from .methods.method import Method, SharedInputs, TrainingPart
from .study_data import StudyData
from .terms import start_state
from .training import Carried, derive_seed, train_locally

EachRound = Callable[[int, State, float], None]
"""Told of each round: its number, all tensors after it, and its training loss."""


def train_alone(
    study: Study,
    method: Method,
    name: str,
    part: TrainingPart,
    held_out: TrainingPart,
    shared: SharedInputs,
    each_round: EachRound | None = None,
) -> State:
    """As many rounds of the same local training, from the same start, without ever aggregating; all tensors.

    Args:
        study: rounds, optimiser and seed.
        method: module and loss.
        name: of the site; enters the seed, as it does under federation.
        part, held_out: what is trained on, and what a temperature is fitted on.
        shared: prompts, scale, reference.
        each_round: told of the progress.

    Raises:
        MethodError: the part is too small, or the loss is not finite.
    """
    state = start_state(study, method, shared)
    carried = Carried()
    for number in range(1, study.rounds + 1):
        result = train_locally(
            method,
            {key: tensor for key, tensor in state.items() if not under(key, method.local)},
            part,
            shared,
            study.training,
            seed=derive_seed(study.digest(), name, study.seed, number),
            carried=carried,
            held_out=held_out,
            head_steps=study.calibration.steps,
        )
        state = result.state
        carried = Carried(
            result.moments if study.training.optimiser_state == "keep" else None,
            {key: tensor for key, tensor in state.items() if under(key, method.local)},
            state if method.anchors else None,
        )
        if each_round is not None:
            each_round(number, state, result.loss)
    return state


def train_pooled(study: Study, method: Method, data: StudyData, each_round: EachRound | None = None) -> State:
    """One model on the training parts of all sites together, for as many rounds; all tensors.

    Raises:
        MethodError: the loss is not finite.
    """
    parts = [site.train.training(method.consumes) for site in data.sites]
    held = [site.validation.training(method.consumes) for site in data.sites]
    return train_alone(study, method, "pooled", _joined(parts), _joined(held), data.shared, each_round)


def _joined(parts: list[TrainingPart]) -> TrainingPart:
    return TrainingPart(torch.cat([part.inputs for part in parts]), torch.cat([part.labels for part in parts]))
