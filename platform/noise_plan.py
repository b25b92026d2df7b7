"""How much noise an epsilon needs: for a study, or for any training, before there is anything to train on.

Nothing here looks at data: the noise follows from epsilon, delta, the number of units, batch, epochs and rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..evaluation.privacy_model import ReleaseRow
from ..privacy.differential_privacy.accountant import epsilon_of
from ..privacy.errors import AccountError
from .config import Study
from .errors import StudyFileError
from .private_plan import plan_of
from .study_checks import problems
from .study_file import parse_study

EPSILONS = (1.0, 2.0, 4.0, 8.0, 16.0)
UNITS = (100, 300, 1000, 3000)


@dataclass(frozen=True, slots=True)
class NoiseCell:
    """One epsilon at a site of one size.

    Attributes:
        epsilon: of the whole study. units: of the site's training part.
        noise_multiplier: standard deviation of a step's noise over the most that one unit can change; None where no
            noise is enough.
        noise_to_signal: the same over the units of an average step: how loud noise is in the mean gradient, in clips.
        sample_rate: probability that a unit is in a step. steps: of the whole study; 0 where there is no plan.
        why: there is no noise; empty where there is.
    """

    epsilon: float
    units: int
    noise_multiplier: float | None
    noise_to_signal: float | None
    sample_rate: float
    steps: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class NoisePlan:
    """What a study needs.

    Attributes:
        rounds, batch, epochs, delta: that were planned with.
        beside: what every site releases beside gradients, in order, with its cost.
        beside_epsilon: what all of that costs together.
        cells: by units, then by epsilon.
        problem: why the study cannot be trained like this; empty where it can.
    """

    rounds: int
    batch: int
    epochs: int
    delta: float
    beside: tuple[ReleaseRow, ...]
    beside_epsilon: float
    cells: tuple[NoiseCell, ...]
    problem: str = ""


def bare_study() -> Study:
    """A study that releases nothing but gradients, of every default."""
    values = {"name": "plan", "method": "fedclip", "data": {"dataset": "brain-mri", "source": "phantoms"}}
    return parse_study(values, where=Path("defaults"))


def noise_plan(
    study: Study, epsilons: Sequence[float], units: Sequence[int], progress: Callable[[int, int], None] | None = None
) -> NoisePlan:
    """Search the noise of every epsilon at every size; half a second to two for each.

    Args:
        study: with or without differential privacy; its own epsilon is not looked at.
        epsilons: > 0. units: >= 1.
        progress: told how many are done, of how many.

    Raises:
        StudyFileError: nothing leaves a site in such a study.
    """
    private = [_with_epsilon(study, epsilon) for epsilon in epsilons]
    if not private[0].private:
        raise StudyFileError(
            f"with method '{study.method}' nothing leaves a site, so there is nothing to make private",
            where="method",
            remedy="Plan a federated method, or leave the study out",
        )
    cells = []
    for n in units:
        for each in private:
            cells.append(_cell(each, n))
            if progress:
                progress(len(cells), len(units) * len(private))
    delta = study.privacy.delta
    beside = plan_of(private[0], 1, noise_multiplier=1.0).beside
    rows = []
    for number, (_, key, release) in enumerate(beside, start=1):
        before = [given for _, _, given in beside[:number]]
        form = (release.kind, release.noise_multiplier, release.sample_rate, release.steps)
        rows.append(ReleaseRow(key, *form, epsilon_of([release], delta), epsilon_of(before, delta)))
    return NoisePlan(
        rounds=study.rounds,
        batch=study.training.batch_size,
        epochs=study.training.local_epochs,
        delta=delta,
        beside=tuple(rows),
        beside_epsilon=rows[-1].epsilon_after if rows else 0.0,
        cells=tuple(cells),
        problem=next(problems(private[0]), ""),
    )


def _with_epsilon(study: Study, epsilon: float) -> Study:
    return study.model_copy(update={"privacy": study.privacy.model_copy(update={"epsilon": epsilon})})


def _cell(study: Study, units: int) -> NoiseCell:
    epsilon = study.privacy.epsilon
    try:
        shape = plan_of(study, units, noise_multiplier=1.0)
    except StudyFileError as error:
        return NoiseCell(epsilon, units, None, None, 1.0, 0, error.what)
    rate, steps = shape.sample_rate, shape.steps * shape.rounds
    try:
        sigma = plan_of(study, units).noise_multiplier
    except AccountError:
        why = f"what is released beside gradients leaves nothing of epsilon {epsilon:g} for training"
        return NoiseCell(epsilon, units, None, None, rate, steps, why)
    return NoiseCell(epsilon, units, sigma, sigma / shape.expected_batch, rate, steps)
