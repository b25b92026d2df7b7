"""The one-line score of a model that the dossier shows for every site."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .arrays import check_temperature
from .figures.answers import Answers
from .figures.bootstrap import group_bootstrap
from .figures.calibration_figures import brier_estimate, chance
from .intervals import balanced_accuracy_interval
from .metrics import figures
from .report_model import ClassName, Predictions, Score


def score(predictions: Predictions, classes: tuple[ClassName, ...], *, seed: int = 0) -> Score:
    """Balanced accuracy and Brier score with 95 % intervals by group, and calibration error beside its bound by chance.

    All after temperature, and drawn from the same seeded streams as the site report, so the two pages agree. From too
    few groups nothing but counts is given.
    """
    z, y, groups = predictions.arrays(len(classes))
    values = figures(z, y, temperature=predictions.temperature, classes=[label.name for label in classes])
    interval = balanced_accuracy_interval(z, y, groups.tolist(), headline_generator(seed))
    bootstrap = group_bootstrap(groups, headline_generator(seed))
    if not bootstrap.ready:
        return Score(values.n, None, note=interval.note, n_groups=bootstrap.n_groups)
    answers = Answers.of(z / check_temperature(predictions.temperature), y)
    once = chance(answers.confidence, answers.right, bootstrap, seed)
    brier = brier_estimate(answers, bootstrap)
    return Score(
        n=values.n,
        balanced_accuracy=values.balanced_accuracy,
        low=interval.low,
        high=interval.high,
        ece=values.ece,
        note=interval.note,
        ece_once=None if once is None else once.observed,
        ece_bound=None if once is None else once.bound,
        brier=brier.value,
        brier_low=brier.low,
        brier_high=brier.high,
        n_groups=bootstrap.n_groups,
    )


def headline_generator(seed: int) -> np.random.Generator:
    """The stream that every interval of balanced accuracy is drawn from."""
    return np.random.default_rng([seed, 1])


def pool(parts: Sequence[Predictions], *, temperature: float | None = None) -> Predictions:
    """Predictions of several sites as one set, for figures over all of them; groups of different sites stay apart.

    Args:
        parts: predictions of one model at each site.
        temperature: the federated temperature, which takes the place of the sites' own; None for uncalibrated.
    """
    groups: list[int] = []
    for part in parts:
        start = max(groups, default=-1) + 1
        groups.extend(start + group for group in part.groups)
    return Predictions(
        logits=tuple(row for part in parts for row in part.logits),
        labels=tuple(label for part in parts for label in part.labels),
        groups=tuple(groups),
        temperature=temperature,
        temperature_source="none" if temperature is None else "federated",
    )
