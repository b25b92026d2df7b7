"""All calibration figures of one set of logits, before or after calibration, and those of single classes.

Errors that are absolute gaps (ECE and its kin) have no interval: they are above 0 by chance even under perfect
calibration, and a resample only adds to that, so a percentile interval does not cover 0. What chance alone shows
stands beside the ECE instead.
"""

from __future__ import annotations

import numpy as np

from ..arrays import FloatArray, IntArray, log_softmax
from ..metrics import classwise_calibration_error
from ..reliability import calibration_error, null_bound, reliability_bins
from .answers import Answers
from .bootstrap import NO_IMAGES, GroupBootstrap
from .calibration_errors import debiased_l2_error, equal_mass_error, largest_gap
from .figure_set import CalibrationFigures, Chance, Estimate
from .recalibration import recalibration
from .smooth_ece import smooth_calibration_error

NO_INTERVAL = "no interval: chance alone moves this error up, see its bound by chance"
NO_PAIR = "no bin has two images"


def calibration_figures(
    label: str, answers: Answers, logits: FloatArray, bootstrap: GroupBootstrap, seed: int
) -> CalibrationFigures:
    """Every calibration figure of ``answers``, which follow from ``logits`` (n, K).

    Args:
        label: which calibration this is. bootstrap: of the images' groups. seed: of the null of the ECE, the stream
            [seed, 3] that site pages draw from as well.
    """
    labels = answers.labels
    if len(labels) == 0:
        none = bootstrap.bare(None, NO_IMAGES)
        bins = reliability_bins(np.zeros(0), np.zeros(0))
        return CalibrationFigures(label, none, None, none, none, 0, none, none, none, none, none, none, none, bins)
    top, right = answers.confidence, answers.right
    gap = largest_gap(top, right)
    refit = recalibration(answers.odds[np.arange(len(labels)), answers.called], right, bootstrap)
    return CalibrationFigures(
        label=label,
        ece=_error(bootstrap, calibration_error(top, right)),
        chance=chance(top, right, bootstrap, seed),
        ece_equal_mass=_error(bootstrap, equal_mass_error(top, right)),
        mce=_error(bootstrap, None if gap is None else gap[0]),
        mce_n=0 if gap is None else gap[1],
        classwise_ece=_error(bootstrap, classwise_calibration_error(answers.probabilities, labels)),
        smooth_ece=_error(bootstrap, smooth_calibration_error(top, right)),
        l2_debiased=_error(bootstrap, debiased_l2_error(top, right), NO_PAIR),
        brier=brier_estimate(answers, bootstrap),
        nll=_mean(bootstrap, -log_softmax(logits)[np.arange(len(labels)), labels]),
        slope=refit.slope,
        intercept=refit.intercept,
        bins=reliability_bins(top, right, groups=bootstrap.groups),
    )


def brier_estimate(answers: Answers, bootstrap: GroupBootstrap) -> Estimate:
    """Brier score with its interval; n at least 1."""
    return _mean(bootstrap, brier_scores(answers.probabilities, answers.labels))


def brier_scores(probabilities: FloatArray, labels: IntArray) -> FloatArray:
    """Sum over classes of (p - y)^2 of each image, 0..2: (n,). Brier (1950), equation 2."""
    at_label = probabilities[np.arange(len(labels)), labels]
    # (p_y - 1)^2 - p_y^2 = 1 - 2 p_y, which saves a matrix of outcomes
    scores: FloatArray = np.maximum(np.square(probabilities).sum(axis=1) + 1.0 - 2.0 * at_label, 0.0)
    return scores


def class_calibration(
    probability: FloatArray, odds: FloatArray, outcome: FloatArray, bootstrap: GroupBootstrap
) -> tuple[Estimate, Estimate, Estimate]:
    """ECE, slope and intercept of one class's probability (n,), its log odds (n,) and outcomes (n,) of 0 and 1."""
    refit = recalibration(odds, outcome, bootstrap)
    return error_estimate(probability, outcome, bootstrap), refit.slope, refit.intercept


def error_estimate(probability: FloatArray, outcome: FloatArray, bootstrap: GroupBootstrap) -> Estimate:
    """ECE of equal width with the reason why it has no interval."""
    return _error(bootstrap, calibration_error(probability, outcome), NO_IMAGES)


def chance(top: FloatArray, right: FloatArray, bootstrap: GroupBootstrap, seed: int) -> Chance | None:
    """The ECE at one image a group beside its bound by chance; None where there are too few groups."""
    if not bootstrap.ready:
        return None
    found = null_bound(top, right, bootstrap.groups.tolist(), np.random.default_rng([seed, 3]))
    return None if found is None else Chance(found.observed, found.bound, found.effective_n, found.exceeded)


def _error(bootstrap: GroupBootstrap, value: float | None, why_none: str = "") -> Estimate:
    return bootstrap.bare(value, why_none if value is None else NO_INTERVAL)


def _mean(bootstrap: GroupBootstrap, values: FloatArray) -> Estimate:
    return bootstrap.estimate(float(values.mean()), lambda: bootstrap.means(values))
