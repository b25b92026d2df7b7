"""Temperature scaling: one number that softens or sharpens probabilities and never changes which class wins.

Guo et al. (2017), ICML, eq. 9. The negative log likelihood is convex in 1 / T, so it has one minimum over log
T. A site fits its own on validation logits. Sites together fit one without showing logits: each adds up its
negative log likelihood on a grid that is fixed beforehand, the sums are added, and the grid point with the
smallest total is the temperature. The grid is fixed because a coordinator who could choose points as it goes
could ask questions about single validation images.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from ..arrays import FloatArray, IntArray, check_predictions, log_softmax
from ..errors import InvalidPredictionsError

LOWEST = 0.05
HIGHEST = 50.0
GRID_POINTS = 64
FEWEST_RECORDS = 10


def grid() -> FloatArray:
    """The 64 temperatures of the federated fit, float64 (64,), even in log T from 0.05 to 50 (a step of 11.6 %)."""
    return np.exp(np.linspace(math.log(LOWEST), math.log(HIGHEST), GRID_POINTS))


def _nll_sum(z: FloatArray, y: IntArray, temperature: float) -> float:
    return float(-log_softmax(z, temperature)[np.arange(len(y)), y].sum())


def grid_nll_sums(logits: ArrayLike, labels: ArrayLike) -> FloatArray:
    """Negative log likelihood summed over images at every grid temperature, float64 (64,), in nats. Adds over sites."""
    z, y = check_predictions(logits, labels)
    if len(y) == 0:
        return np.zeros(GRID_POINTS)
    return np.array([_nll_sum(z, y, float(t)) for t in grid()])


def fit(logits: ArrayLike, labels: ArrayLike) -> float | None:
    """The temperature that minimises the negative log likelihood, within [0.05, 50], or None where it is not known.

    Args:
        logits: (n, K) validation logits. labels: (n,) integers.

    Returns:
        None with fewer than 10 images, with one class only, and where the likelihood only rises towards T = 0
        (all images right by a margin): sharpening without end is an artefact of a small validation set, not a
        calibration. A model worse than guessing has its minimum at T = infinity; it gets the upper end, 50.
    """
    z, y = check_predictions(logits, labels)
    if len(y) < FEWEST_RECORDS or len(np.unique(y)) < 2:
        return None
    # A scan first: far from the minimum the likelihood is flat in log T, where a bracketing search can stop early.
    points = np.log(grid())
    sums = np.array([_nll_sum(z, y, math.exp(log_t)) for log_t in points])
    best = int(sums.argmin())
    # Also where every image is right: the likelihood then rises all the way to the sharp end.
    if best == 0:
        return None
    if best == GRID_POINTS - 1:
        return HIGHEST
    found = minimize_scalar(
        lambda log_t: _nll_sum(z, y, math.exp(log_t)) / len(y),
        bounds=(points[best - 1], points[best + 1]),
        method="bounded",
        options={"xatol": 1e-7},
    )
    return math.exp(float(found.x))


def fit_federated(sums: ArrayLike, *, n: int | None = None) -> float | None:
    """The grid temperature with the smallest total, or None where it is not known; ties go to the one nearest 1.

    Args:
        sums: (64,) totals over sites of :func:`grid_nll_sums`.
        n: images behind the totals, where it is known; fewer than 10 give None.

    Raises:
        InvalidPredictionsError: when the sums are not 64 finite numbers.
    """
    totals = np.asarray(sums, dtype=np.float64)
    if totals.shape != (GRID_POINTS,) or not np.isfinite(totals).all():
        raise InvalidPredictionsError(
            f"sums of shape {totals.shape} instead of {GRID_POINTS} finite numbers",
            remedy="Add the vectors of grid_nll_sums over sites",
        )
    if (n is not None and n < FEWEST_RECORDS) or not totals.any():
        return None
    points = grid()
    ties = np.flatnonzero(totals == totals.min())
    # The same rule as in fit: a minimum at the sharp end is the edge of the grid and not of the likelihood.
    if ties[0] == 0:
        return None
    return float(points[ties[np.argmin(np.abs(np.log(points[ties])))]])
