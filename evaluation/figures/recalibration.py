"""Calibration slope and intercept: logistic regression of what happened on the log odds that were stated.

Slope b of logit P(y = 1) = a + b x, fitted together with a: below 1 the statements are too extreme, above 1 too timid.
Intercept (calibration in the large) a of logit P(y = 1) = a + x: below 0 the statements are too high on the whole.
Both are maximum likelihood without a penalty. Log odds beyond +-36, where a float64 probability is 0 or 1 to the last
bit, are taken as +-36, so that one saturated image does not decide the slope alone.

There is no finite slope where the outcomes are separated, i.e. no log odds of one outcome lies strictly within the
range of the other's (Albert and Anderson 1984); it is None then, and with fewer than five images of an outcome.

Intervals: estimate +- 1.96 standard errors from the sandwich variance over groups, with the factor G / (G - 1): the
linear approximation of a bootstrap by group, without a refit for each resample.

References:
    Cox (1958), Biometrika 45:562-565. Van Calster et al. (2019), BMC Medicine 17:230 (both figures). Albert and
    Anderson (1984), Biometrika 71:1-10. Liang and Zeger (1986), Biometrika 73:13-22 (variance by group).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from ..arrays import FloatArray
from ..intervals import Z_95
from .bootstrap import NO_IMAGES, GroupBootstrap
from .figure_set import Estimate

LARGEST_LOG_ODDS = 36.0
FEWEST_OF_AN_OUTCOME = 5
ONE_OUTCOME = "only one outcome"
FEW_OUTCOMES = "fewer than 5 images of one outcome"
SEPARATED = "no finite slope: the outcomes are separated"
TOO_EXTREME = "no interval: the statements are too extreme to say how far off they are"
MOST_STEPS = 200
ROUNDING = 1e-14


@dataclass(frozen=True, slots=True)
class Recalibration:
    """Slope and intercept with their intervals."""

    slope: Estimate
    intercept: Estimate


def recalibration(log_odds: FloatArray, outcomes: FloatArray, bootstrap: GroupBootstrap) -> Recalibration:
    """Calibration slope and intercept with intervals by group.

    Args:
        log_odds: (n,) natural log of p / (1 - p). outcomes: (n,) 0.0 or 1.0. bootstrap: gives groups and notes.
    """
    x = np.clip(log_odds, -LARGEST_LOG_ODDS, LARGEST_LOG_ODDS)
    refused = _refusal(outcomes)
    if refused:
        missing = bootstrap.bare(None, refused)
        return Recalibration(missing, missing)
    offset = fit_intercept(x, outcomes)
    residual = outcomes - expit(offset + x)
    intercept = _estimate(
        offset, residual[:, None], _information(np.ones((len(x), 1)), residual, outcomes), 0, bootstrap
    )
    if not _overlap(x, outcomes):
        return Recalibration(bootstrap.bare(None, SEPARATED), intercept)
    start, slope = fit_slope(x, outcomes)
    design = np.stack([np.ones(len(x)), x], axis=1)
    residual = outcomes - expit(start + slope * x)
    information = _information(design, residual, outcomes)
    return Recalibration(_estimate(slope, design * residual[:, None], information, 1, bootstrap), intercept)


def _refusal(outcomes: FloatArray) -> str:
    happened = int(outcomes.sum())
    rarer = min(happened, len(outcomes) - happened)
    if len(outcomes) == 0:
        return NO_IMAGES
    if rarer == 0:
        return ONE_OUTCOME
    return FEW_OUTCOMES if rarer < FEWEST_OF_AN_OUTCOME else ""


def _overlap(x: FloatArray, outcomes: FloatArray) -> bool:
    """Whether each outcome has log odds strictly beyond the nearest of the other: then the slope is finite."""
    no, yes = x[outcomes == 0], x[outcomes == 1]
    return bool(yes.min() < no.max() and no.min() < yes.max())


def fit_intercept(x: FloatArray, outcomes: FloatArray) -> float:
    """The a with sum of expit(a + x) = sum of outcomes, both outcomes occurring: Newton kept inside a bracket."""
    low, high, a = -2 * LARGEST_LOG_ODDS - 30.0, 2 * LARGEST_LOG_ODDS + 30.0, 0.0
    for _ in range(MOST_STEPS):
        p = expit(a + x)
        gap = float((outcomes - p).sum())
        if abs(gap) <= ROUNDING * len(x):
            return a  # all that is left is rounding, which saturated statements would turn into a step of any size
        low, high = (a, high) if gap > 0 else (low, a)
        curvature = float((p * (1.0 - p)).sum())
        step = gap / curvature if curvature > 0 else math.inf
        after = a + step if low < a + step < high else (low + high) / 2
        if abs(after - a) < 1e-11:
            return after
        a = after
    return a


def fit_slope(x: FloatArray, outcomes: FloatArray) -> tuple[float, float]:
    """Intercept and slope of greatest likelihood, outcomes overlapping: Newton with halved steps.

    ``x`` is standardised for the fit, so that the two equations are of one size.
    """
    centre, spread = float(x.mean()), float(x.std())
    design = np.stack([np.ones(len(x)), (x - centre) / spread], axis=1)
    beta = np.zeros(2)
    loss = _loss(design @ beta, outcomes)
    for _ in range(MOST_STEPS):
        p = expit(design @ beta)
        gradient = design.T @ (outcomes - p)
        step = np.linalg.lstsq((design * (p * (1.0 - p))[:, None]).T @ design, gradient, rcond=None)[0]
        while True:
            after = beta + step
            lower = _loss(design @ after, outcomes)
            if lower <= loss or float(np.abs(step).max()) < 1e-12:
                break
            step = step / 2
        beta, loss = after, min(loss, lower)
        if float(np.abs(step).max()) < 1e-10:
            break
    slope = float(beta[1]) / spread
    return float(beta[0]) - slope * centre, slope


def _loss(linear: FloatArray, outcomes: FloatArray) -> float:
    """Negative log likelihood: sum of log(1 + exp(l)) - y l, without overflow."""
    return float((np.logaddexp(0.0, linear) - outcomes * linear).sum())


def _information(design: FloatArray, residual: FloatArray, outcomes: FloatArray) -> FloatArray:
    """Observed information of a logistic fit: X' diag(p (1 - p)) X, p being outcome - residual."""
    p = outcomes - residual
    information: FloatArray = (design * (p * (1.0 - p))[:, None]).T @ design
    return information


def _estimate(
    value: float, scores: FloatArray, information: FloatArray, at: int, bootstrap: GroupBootstrap
) -> Estimate:
    """``value`` with its interval from the scores (n, parameters) of every image, summed by group."""
    note = bootstrap.note()
    if not bootstrap.ready:
        return bootstrap.bare(value, note)
    by_group = np.stack([np.bincount(bootstrap.codes, weights=column) for column in scores.T], axis=1)
    clusters = len(by_group)
    bread = np.linalg.pinv(information)
    variance = bread @ (by_group.T @ by_group) @ bread * (clusters / (clusters - 1.0))
    half = Z_95 * math.sqrt(max(0.0, float(variance[at, at])))
    if half > LARGEST_LOG_ODDS:
        return bootstrap.bare(value, TOO_EXTREME)
    return Estimate(value, value - half, value + half, bootstrap.n, bootstrap.n_groups, note)
