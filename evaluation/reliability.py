"""Reliability bins, expected calibration error, and what a perfectly calibrated model would show by chance.

Bins are of equal width. Bin i of m holds i/m <= p < (i+1)/m in exact arithmetic, and the last bin also holds
p = 1. Exact
means: a float64 is the rational number it stores, so 0.3 (stored as 0.29999999999999998890) lies in bin 2 of
10. Other libraries compare with rounded edges and disagree with one another there; on continuous
probabilities all agree.

References:
    Naeini, Cooper, Hauskrecht (2015), AAAI (ECE). Guo et al. (2017), ICML, eq. 5. Kull et al. (2019), NeurIPS
    (classwise). Broecker and Smith (2007), Weather and Forecasting 22:651 (consistency resampling).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from .arrays import FloatArray, IntArray, group_codes
from .errors import InvalidPredictionsError
from .intervals import effective_n, wilson

N_BINS = 10
NULL_DRAWS = 21
NULL_SIMULATIONS = 400
MANY_GROUPS = 20_000  # above it the null is drawn from the normal limit of the sums of bins
MANY_GROUPS_DRAWS = 5


@dataclass(frozen=True, slots=True)
class Bin:
    """One reliability bin; every figure but the edges and ``n`` is None when the bin is empty.

    Attributes:
        low: lower edge, inside. high: upper edge, outside but for the last bin.
        n: images in the bin. correct: how many of them were right.
        mean_confidence: mean probability. accuracy: correct / n.
        accuracy_low: lower 95 % Wilson bound, by group where groups are known. accuracy_high: upper one.
    """

    low: float
    high: float
    n: int
    correct: int
    mean_confidence: float | None
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None


@dataclass(frozen=True, slots=True)
class NullBound:
    """ECE at one image per group, beside what perfect calibration would give by chance alone.

    Attributes:
        observed: median over draws of the ECE of one image per group.
        bound: median over draws of the 95 % quantile of ECE when labels follow the stated probabilities.
        effective_n: number of groups, which is the number of images that each draw uses.
    """

    observed: float
    bound: float
    effective_n: int

    @property
    def exceeded(self) -> bool:
        """True when chance alone would show such an ECE in fewer than about 5 of 100 studies."""
        return self.observed > self.bound


def bin_edges(n_bins: int = N_BINS) -> FloatArray:
    """Smallest float64 not below i/n_bins, for i in 0..n_bins; comparing with it is comparing with i/n_bins."""
    if n_bins < 1:
        raise InvalidPredictionsError(f"{n_bins} bins", remedy="Use at least one bin")
    edges = []
    for i in range(n_bins + 1):
        nearest = i / n_bins
        edges.append(nearest if Fraction(nearest) >= Fraction(i, n_bins) else math.nextafter(nearest, 2.0))
    return np.array(edges)


def bin_index(probabilities: FloatArray, n_bins: int = N_BINS) -> IntArray:
    """Bin of each probability, int64, same shape; probabilities must lie in [0, 1]."""
    # softmax may leave a row's top value one rounding above 1; anything more is a fault of the caller.
    if probabilities.size and not (probabilities.min() >= 0.0 and probabilities.max() <= 1.0 + 1e-12):
        raise InvalidPredictionsError(
            "a probability lies outside [0, 1]", remedy="Pass the output of a softmax, not logits"
        )
    found = np.searchsorted(bin_edges(n_bins), probabilities, side="right") - 1
    return np.minimum(found, n_bins - 1).astype(np.int64)


def bin_sums(
    probabilities: FloatArray, correct: FloatArray, n_bins: int = N_BINS
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Count, sum of probabilities and sum of outcomes of each bin, float64 (n_bins,): all three add over sites."""
    where = bin_index(probabilities, n_bins)
    counts = np.bincount(where, minlength=n_bins).astype(np.float64)
    confidence = np.bincount(where, weights=probabilities, minlength=n_bins).astype(np.float64)
    return counts, confidence, np.bincount(where, weights=correct, minlength=n_bins).astype(np.float64)


def calibration_error(probabilities: FloatArray, correct: FloatArray, n_bins: int = N_BINS) -> float | None:
    """Expected calibration error: sum over bins of n_b / n * |accuracy_b - confidence_b|; None for no images.

    Args:
        probabilities: (n,) stated probabilities: of the top label, or of one class for the classwise figure.
        correct: (n,) 1.0 where the outcome happened, else 0.0.
    """
    if len(probabilities) == 0:
        return None
    _, confidence, right = bin_sums(probabilities, correct, n_bins)
    return float(np.abs(right - confidence).sum() / len(probabilities))


def reliability_bins(
    probabilities: FloatArray, correct: FloatArray, n_bins: int = N_BINS, *, groups: IntArray | None = None
) -> tuple[Bin, ...]:
    """All bins in order, empty ones too, with Wilson bars of the accuracy.

    Args:
        probabilities, correct: (n,), as in :func:`calibration_error`.
        groups: (n,) codes of patients, lesions or clusters, for bars by group; None: every image is its own.
    """
    counts, confidence, right = bin_sums(probabilities, correct, n_bins)
    where = bin_index(probabilities, n_bins)
    bins = []
    for i in range(n_bins):
        n, hits = int(counts[i]), round(float(right[i]))
        here = where == i
        bar = wilson(hits, n, effective=effective_n(correct[here], groups[here]) if groups is not None and n else None)
        bins.append(
            Bin(
                low=i / n_bins,
                high=(i + 1) / n_bins,
                n=n,
                correct=hits,
                mean_confidence=float(confidence[i] / n) if n else None,
                accuracy=hits / n if n else None,
                accuracy_low=bar[0] if bar else None,
                accuracy_high=bar[1] if bar else None,
            )
        )
    return tuple(bins)


def null_bound(
    confidence: FloatArray,
    correct: FloatArray,
    groups: Sequence[str] | Sequence[int],
    generator: np.random.Generator,
    *,
    n_bins: int = N_BINS,
    draws: int = NULL_DRAWS,
    simulations: int = NULL_SIMULATIONS,
) -> NullBound | None:
    """ECE beside its 95 % bound under perfect calibration; None for no images.

    ECE is biased upwards: a perfectly calibrated model of four classes shows .12 at 50 images. Outcomes are
    redrawn from the stated confidences themselves (consistency resampling). Images of one group are not
    independent, which the redraw would ignore, so each draw keeps one image per group; the medians over draws
    are reported.

    Above :data:`MANY_GROUPS` groups the sum of (outcome - confidence) in a bin is drawn as a normal value of mean 0 and
    variance sum of p (1 - p), which is what that sum tends to (Lindeberg): the bound moves by under 1 % of itself. One
    image per group is then chosen in at most :data:`MANY_GROUPS_DRAWS` ways, which differ little at that size.

    Args:
        confidence: (n,) top-label probability. correct: (n,) 0.0 or 1.0. groups: (n,).
        generator: the only source of randomness.
        draws: random choices of one image per group. simulations: redraws of outcomes per choice.
    """
    n = len(confidence)
    if n == 0:
        return None
    codes = group_codes(groups, n)
    n_groups = int(codes.max()) + 1
    if n_groups > MANY_GROUPS:
        return _normal_null(confidence, correct, codes, generator, n_bins, min(draws, MANY_GROUPS_DRAWS), simulations)
    observed, quantiles = [], []
    for _ in range(draws if n_groups < n else 1):
        shuffled = generator.permutation(n)
        # np.unique returns the first index of each code, which after a shuffle is a uniform choice in the
        # group.
        chosen = shuffled[np.unique(codes[shuffled], return_index=True)[1]]
        stated = np.minimum(confidence[chosen], 1.0)
        member = np.zeros((n_groups, n_bins))
        member[np.arange(n_groups), bin_index(stated, n_bins)] = 1.0
        expected = stated @ member
        outcomes = (generator.random((simulations, n_groups)) < stated).astype(np.float64)
        errors = np.abs(outcomes @ member - expected).sum(axis=1) / n_groups
        observed.append(float(np.abs(correct[chosen] @ member - expected).sum() / n_groups))
        quantiles.append(float(np.quantile(errors, 0.95)))
    return NullBound(float(np.median(observed)), float(np.median(quantiles)), n_groups)


def _normal_null(
    confidence: FloatArray,
    correct: FloatArray,
    codes: IntArray,
    generator: np.random.Generator,
    n_bins: int,
    draws: int,
    simulations: int,
) -> NullBound:
    """:func:`null_bound` from the normal limit of the sums of bins; time and memory do not grow with simulations."""
    sizes = np.bincount(codes)
    n_groups = len(sizes)
    order, starts = np.argsort(codes, kind="stable"), np.cumsum(sizes) - sizes
    observed, quantiles = [], []
    for _ in range(draws if n_groups < len(codes) else 1):
        chosen = order[starts + np.floor(generator.random(n_groups) * sizes).astype(np.int64)]
        stated = np.minimum(confidence[chosen], 1.0)
        where = bin_index(stated, n_bins)
        spread = np.sqrt(np.bincount(where, weights=stated * (1.0 - stated), minlength=n_bins))
        gaps = np.bincount(where, weights=correct[chosen] - stated, minlength=n_bins)
        errors = np.abs(generator.standard_normal((simulations, n_bins)) * spread).sum(axis=1) / n_groups
        observed.append(float(np.abs(gaps).sum() / n_groups))
        quantiles.append(float(np.quantile(errors, 0.95)))
    return NullBound(float(np.median(observed)), float(np.median(quantiles)), n_groups)
