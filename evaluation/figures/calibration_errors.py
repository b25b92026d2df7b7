"""Calibration errors that the ten bins of equal width do not show; the latter are in ``reliability.py``.

All take stated probabilities p (n,) in [0, 1], of the top label or of one class, and outcomes y (n,) of 0.0 or 1.0; all
are None for no images. Bins of equal mass: a value v is in bin floor(m * (images with p < v) / n) of m, in whole
numbers. Equal values so never lie in two bins; without ties, sizes differ by at most one; with many, bins are empty.

This is the adaptive calibration error of Nguyen and O'Connor. netcal's class ``ACE`` is not: it takes the plain mean of
the gaps of equal-WIDTH bins (Neumann et al. 2018).

References:
    Nguyen and O'Connor (2015), EMNLP, section 3 (adaptive bins). Naeini et al. (2015), AAAI (MCE). Kumar, Liang, Ma
    (2019), Verified Uncertainty Calibration, NeurIPS, arXiv:1909.10155, section 4.1 (debiased estimator).
"""

from __future__ import annotations

import math

import numpy as np

from ..arrays import FloatArray, IntArray
from ..errors import InvalidPredictionsError
from ..reliability import N_BINS, bin_sums


def equal_mass_index(probabilities: FloatArray, n_bins: int = N_BINS) -> IntArray:
    """Bin of each probability, int64 (n,); equal values share a bin, and a bin may be empty."""
    if n_bins < 1:
        raise InvalidPredictionsError(f"{n_bins} bins", remedy="Use at least one bin")
    if not bool(np.isfinite(probabilities).all()):
        raise InvalidPredictionsError("a probability is not a finite number", remedy="Pass the output of a softmax")
    n = len(probabilities)
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    _, place, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    found: IntArray = ((below * n_bins) // n)[place].astype(np.int64)
    return found


def equal_mass_sums(
    probabilities: FloatArray, outcomes: FloatArray, n_bins: int = N_BINS
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Count, sum of probabilities and sum of outcomes of each bin of equal mass, float64 (n_bins,)."""
    where = equal_mass_index(probabilities, n_bins)
    counts = np.bincount(where, minlength=n_bins).astype(np.float64)
    stated = np.bincount(where, weights=probabilities, minlength=n_bins).astype(np.float64)
    return counts, stated, np.bincount(where, weights=outcomes, minlength=n_bins).astype(np.float64)


def equal_mass_error(probabilities: FloatArray, outcomes: FloatArray, n_bins: int = N_BINS) -> float | None:
    """Sum over bins of equal mass of n_b / n * |mean outcome - mean probability|."""
    if len(probabilities) == 0:
        return None
    _, stated, right = equal_mass_sums(probabilities, outcomes, n_bins)
    return float(np.abs(right - stated).sum() / len(probabilities))


def largest_gap(probabilities: FloatArray, outcomes: FloatArray, n_bins: int = N_BINS) -> tuple[float, int] | None:
    """Maximum calibration error over bins of equal width, and the images in that bin.

    A gap of one image says nothing: never print it without that number. Of equal gaps, that of most images is told.
    """
    counts, stated, right = bin_sums(probabilities, outcomes, n_bins)
    filled = [
        (abs(float(right[i] - stated[i])) / int(counts[i]), int(counts[i])) for i in np.flatnonzero(counts).tolist()
    ]
    return max(filled, default=None)


def debiased_l2_error(probabilities: FloatArray, outcomes: FloatArray, n_bins: int = N_BINS) -> float | None:
    """Debiased L2 calibration error on bins of equal mass, as a root; 0 where the estimate is below 0.

    E^2 = sum over bins of n_b / n * ((p_b - y_b)^2 - y_b (1 - y_b) / (n_b - 1)), p_b and y_b being means. The
    subtracted term is the variance of y_b, which the plug-in estimate adds to every squared gap. A bin of one image has
    no estimate of it and adds 0; None where no bin has two images.
    """
    counts, stated, right = equal_mass_sums(probabilities, outcomes, n_bins)
    several = counts >= 2
    if not several.any():
        return None
    n_b = counts[several]
    mean_p, mean_y = stated[several] / n_b, right[several] / n_b
    squares = np.square(mean_p - mean_y) - mean_y * (1.0 - mean_y) / (n_b - 1.0)
    return math.sqrt(max(0.0, float((n_b * squares).sum() / len(probabilities))))
