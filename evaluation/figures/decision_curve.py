"""Decision curves: whether acting on a class's probability does more good than acting on everybody or nobody.

At a threshold probability t, acting where p >= t has the net benefit

    TP / n - FP / n * t / (1 - t),

in true positives per image: t / (1 - t) is how many needless actions one needed action is worth. Acting on nobody is 0;
on everybody, pi - (1 - pi) t / (1 - t) at prevalence pi, which is the prevalence of this set of images. Whether the
model is better than both is asked of one difference, model - max(everybody, 0), on the same resamples.

Reference:
    Vickers and Elkin (2006), Medical Decision Making 26:565-574, equation 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..arrays import FloatArray
from ..errors import InvalidPredictionsError
from ..intervals import TOO_FEW
from .bootstrap import NO_IMAGES, GroupBootstrap
from .figure_set import DecisionCurve, DecisionPoint, Estimate

GRID = tuple(i / 50 for i in range(1, 50))
NO_SUCH_IMAGE = "no image of this class"
ONLY_THIS_CLASS = "only images of this class"


def net_benefit(probabilities: FloatArray, outcomes: FloatArray, threshold: float) -> float:
    """Net benefit of acting where ``probabilities`` (n,) reach ``threshold`` in (0, 1); n at least 1."""
    acted = probabilities >= threshold
    hits = float(outcomes[acted].sum())
    return (hits - (float(acted.sum()) - hits) * threshold / (1.0 - threshold)) / len(outcomes)


def check_thresholds(thresholds: Sequence[float]) -> tuple[float, ...]:
    """The named thresholds in rising order, each once; every one has to lie strictly between 0 and 1."""
    for threshold in thresholds:
        if not (math.isfinite(threshold) and 0.0 < threshold < 1.0):
            raise InvalidPredictionsError(
                f"a decision threshold of {threshold!r} is not between 0 and 1",
                remedy="Name probabilities above which somebody would act, e.g. 0.1",
            )
    return tuple(sorted(set(map(float, thresholds))))


def decision_curve(
    name: str,
    probabilities: FloatArray,
    outcomes: FloatArray,
    bootstrap: GroupBootstrap,
    thresholds: Sequence[float],
    grid: Sequence[float] = GRID,
) -> DecisionCurve:
    """Net benefit at every threshold of ``grid`` and at the named ``thresholds``, with intervals by group.

    Args:
        name: of the class. probabilities: (n,) of it. outcomes: (n,) 1.0 where the image is of it.
    """
    n, hits = len(outcomes), int(outcomes.sum())
    if n == 0 or hits in (0, n) or not bootstrap.ready:
        note = TOO_FEW
        if n == 0 or hits in (0, n):
            note = NO_IMAGES if n == 0 else ONLY_THIS_CLASS if hits else NO_SUCH_IMAGE
        return DecisionCurve(name, None if n == 0 else hits / n, (), note)
    named = check_thresholds(thresholds)
    at = np.array(sorted({*grid, *named}))
    odds = at / (1.0 - at)
    # Cell j holds p in [at[j-1], at[j]): acting at at[j] is acting on every cell after j.
    cells = np.searchsorted(at, probabilities, side="right").astype(np.int64)
    ones = np.bincount(cells, minlength=len(at) + 1).astype(np.float64)[None, :]
    true = np.bincount(cells, weights=outcomes, minlength=len(at) + 1).astype(np.float64)[None, :]
    values, everybody = _benefits(ones, true, odds)[0], _treat_all(ones, true, odds)[0]
    sums = bootstrap.cell_sums(cells, len(at) + 1), bootstrap.cell_sums(cells, len(at) + 1, outcomes)
    drawn = _benefits(*sums, odds)
    # Paired: what makes a resample easy or its class common moves the model and acting on everybody alike.
    gains, gain_draws = values - np.maximum(everybody, 0.0), drawn - np.maximum(_treat_all(*sums, odds), 0.0)

    def estimate(value: FloatArray, draws: FloatArray, j: int) -> Estimate:
        return bootstrap.estimate(float(value[j]), lambda: draws[:, j])

    return DecisionCurve(
        name,
        hits / n,
        tuple(
            DecisionPoint(
                threshold=float(t),
                model=estimate(values, drawn, j),
                treat_all=float(everybody[j]),
                named=float(t) in named,
                gain=estimate(gains, gain_draws, j) if float(t) in named else None,
            )
            for j, t in enumerate(at)
        ),
    )


def _treat_all(ones: FloatArray, true: FloatArray, odds: FloatArray) -> FloatArray:
    """Net benefit of acting on everybody, from counts by cell, (rows, cells) each: (rows, thresholds)."""
    # Written as _benefits is, so that a model that acts on everybody differs by exactly 0 and not by a rounding.
    n, hits = ones.sum(axis=1, keepdims=True), true.sum(axis=1, keepdims=True)
    benefits: FloatArray = (hits - (n - hits) * odds) / n
    return benefits


def _benefits(ones: FloatArray, true: FloatArray, odds: FloatArray) -> FloatArray:
    """Net benefit at every threshold from counts by cell, (rows, thresholds + 1) each: (rows, thresholds)."""
    acted = np.cumsum(ones[:, ::-1], axis=1)[:, -2::-1]
    hits = np.cumsum(true[:, ::-1], axis=1)[:, -2::-1]
    benefits: FloatArray = (hits - (acted - hits) * odds) / ones.sum(axis=1, keepdims=True)
    return benefits
