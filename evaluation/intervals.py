"""Intervals: Wilson for proportions, with an effective n where images come in groups; bootstrap by group for the rest.

Images of one patient resemble each other, so patients are resampled, not images: with 20 patients of 10
slices each the interval of images is half as wide as the truth. The percentile bootstrap covers less than it
promises with few groups; an :class:`Interval` says so in words, and below :data:`FEWEST_GROUPS` there is no
interval at all. Measured coverage of a 95 % interval of balanced accuracy, three classes and three correlated images a
patient (tests/evaluation/figures/test_simulations.py, 2500 studies each): .870 at 10 patients, .915 at 20, .941 at 40,
.945 at 100.

Above :data:`MOST_CLUSTERS` groups, whole groups are first dealt at random into :data:`BUNDLES` bundles of equal size
(to one group), and bundles are resampled: the variance between bundles is that between groups, known with a relative
error of 1 / sqrt(2 x 1999) = 1.6 %, well below what 1000 resamples themselves leave undecided. Time and memory then no
longer grow with the number of groups.

References:
    Wilson (1927), JASA 22:209-212. Rao and Scott (1992), Biometrics 48:577-585 (n / design effect). Korn and Graubard
    (1998), Survey Methodology 24:193-201 (its degrees of freedom). Efron and Tibshirani (1993), An Introduction to the
    Bootstrap, ch. 13. Wolter (2007), Introduction to Variance Estimation, ch. 2 (random groups).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from .arrays import FloatArray, IntArray, check_predictions, group_codes
from .errors import InvalidPredictionsError

Z_95 = 1.959963984540054
FEWEST_GROUPS = 10
COMFORTABLE_GROUPS = 40
MOST_CLUSTERS = 5000
BUNDLES = 2000
RESAMPLES = 1000
BLOCK_CELLS = 4_000_000  # resamples x cells held at once: 32 MB an array, however many images a site tests on
TOO_FEW = "too few groups"
UNDER_COVERS = "fewer than 40 groups: the interval is somewhat too narrow"
ONE_CLASS = "only one class present"


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval, or the reason why there is none.

    Attributes:
        low: lower bound, or None.
        high: upper bound, or None.
        n_groups: groups that were resampled.
        note: empty, or what a reader has to know: too few groups, one class, coverage below 95 %.
    """

    low: float | None
    high: float | None
    n_groups: int
    note: str = ""


def wilson(successes: int, n: int, z: float = Z_95, *, effective: float | None = None) -> tuple[float, float] | None:
    """Wilson score interval of ``successes`` out of ``n``, or None for n = 0.

    Args:
        effective: as many independent images as the n say: :func:`effective_n`; None: all n are independent.

    >>> low, high = wilson(8, 10)
    >>> round(low, 4), round(high, 4)
    (0.4902, 0.9433)
    """
    if not 0 <= successes <= n:
        raise InvalidPredictionsError(f"{successes} successes out of {n}", remedy="Counts need 0 <= k <= n")
    if n == 0:
        return None
    share, size = successes / n, float(n) if effective is None else effective
    centre = share + z * z / (2 * size)
    half = z * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    scale = 1 + z * z / size
    # The bounds at 0 and n are exact in algebra and off by an ulp in floats.
    low = 0.0 if successes == 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if successes == n else min(1.0, (centre + half) / scale)
    return low, high


def effective_n(hits: FloatArray, groups: IntArray) -> float:
    """How many independent images say as much about the share of ``hits`` as these do: above 0, at most n.

    With p = hits / n over G groups, m_g images and y_g hits in group g, the variance of p by group against that of
    independent images is the design effect of Rao and Scott (1992),

        deff = G / (G - 1) sum over g of (y_g - p m_g)^2 / n^2  :  p (1 - p) / (n - 1),    n_eff = n / max(1, deff).

    The divisor n - 1 makes it exactly 1 for one image a group. A variance from G groups has G - 1 degrees of freedom,
    so n_eff is also multiplied by (t_{n-1} / t_{G-1})^2 at 97.5 % (Korn and Graubard 1998), but is never
    below 1. Where all or none are hits there is no variance to compare: n_eff is G, as if groups were all of a piece.

    Measured coverage of a 95 % Wilson interval of a share near .6 that differs between patients (10,000 studies each,
    tests/evaluation/figures/test_simulations.py): .951 for 20 patients of 10 images, .948 for 40 of 5, .946 for 100 of
    one; with the images taken for independent .784, .868 and .946. It is somewhat lower, down to .92, where a share is
    above .9 and few patients hold all the errors.

    Args:
        hits: (n,) 1.0 or 0.0. groups: (n,) int64 codes, 0 or more; gaps are allowed.
    """
    n = len(hits)
    sizes = np.bincount(groups)
    filled = sizes > 0
    n_groups = int(filled.sum())
    if n_groups == n:
        return float(n)
    share = float(hits.sum()) / n
    if n_groups == 1 or share in (0.0, 1.0):
        return float(n_groups)
    apart = np.bincount(groups, weights=hits)[filled] - share * sizes[filled]
    by_group = n_groups / (n_groups - 1) * float(np.square(apart).sum()) / n**2
    deff = max(1.0, by_group / (share * (1 - share) / (n - 1)))
    return max(1.0, n / deff * (_t_975(n - 1) / _t_975(n_groups - 1)) ** 2)


@lru_cache(maxsize=4096)
def _t_975(degrees: int) -> float:
    return float(stdtrit(degrees, 0.975))


def clusters(codes: IntArray, generator: np.random.Generator) -> IntArray:
    """What is resampled: the groups themselves, or :data:`BUNDLES` bundles of them; int64 (n,).

    Args:
        codes: (n,) groups numbered 0.. without a gap. generator: not touched up to :data:`MOST_CLUSTERS` groups.
    """
    n_groups = int(codes.max()) + 1 if len(codes) else 0
    if n_groups <= MOST_CLUSTERS:
        return codes
    bundle = np.empty(n_groups, dtype=np.int64)
    bundle[generator.permutation(n_groups)] = np.arange(n_groups) % BUNDLES
    dealt: IntArray = bundle[codes]
    return dealt


def draw_weights(n_groups: int, resamples: int, generator: np.random.Generator) -> FloatArray:
    """How often each group was drawn, (resamples, n_groups): n_groups draws with replacement."""
    drawn = generator.multinomial(n_groups, np.full(n_groups, 1.0 / n_groups), size=resamples)
    return np.asarray(drawn, dtype=np.float64)


def macro_means(parts: FloatArray, wholes: FloatArray, truth: FloatArray) -> FloatArray:
    """Mean over classes with images of parts / wholes; nan with fewer than two such classes: (...).

    Args:
        parts, wholes: (..., classes), e.g. images of a class that were found, and images of it.
        truth: (..., classes) images of each class; classes with none are left out.
    """
    seen = truth > 0
    shares = np.divide(parts, wholes, out=np.zeros(parts.shape), where=seen)
    count = seen.sum(axis=-1)
    means: FloatArray = np.where(count >= 2, shares.sum(axis=-1) / np.maximum(count, 1), np.nan)
    return means


def _balanced_accuracies(weights: FloatArray, labels: IntArray, correct: FloatArray, codes: IntArray) -> FloatArray:
    """Balanced accuracy of every resample, (resamples,); nan where fewer than two classes were drawn."""
    present = np.flatnonzero(np.bincount(labels))
    totals = np.zeros((weights.shape[1], len(present)))
    hits = np.zeros_like(totals)
    column = np.searchsorted(present, labels)
    np.add.at(totals, (codes, column), 1.0)
    np.add.at(hits, (codes, column), correct)
    drawn = weights @ totals
    return macro_means(weights @ hits, drawn, drawn)


def mean_known(rows: FloatArray) -> FloatArray:
    """Mean over axis 0 of what is not nan, at least two rows known; nan otherwise."""
    known = ~np.isnan(rows)
    total = np.where(known, rows, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    means: FloatArray = np.where(count >= 2, total / np.maximum(count, 1), np.nan)
    return means


def percentiles(values: FloatArray, n_groups: int) -> Interval:
    """95 % percentile interval of resampled figures, nan where a resample has none; half of them have to have one."""
    known = values[~np.isnan(values)]
    if len(known) < len(values) / 2:
        return Interval(None, None, n_groups, ONE_CLASS)
    low, high = np.quantile(known, [0.025, 0.975])
    note = UNDER_COVERS if n_groups < COMFORTABLE_GROUPS else ""
    return Interval(float(low), float(high), n_groups, note)


def _refusal(labels: IntArray, codes: IntArray) -> Interval | None:
    n_groups = int(codes.max()) + 1 if len(codes) else 0
    if n_groups < FEWEST_GROUPS:
        return Interval(None, None, n_groups, TOO_FEW)
    if int(labels.min()) == int(labels.max()):
        return Interval(None, None, n_groups, ONE_CLASS)
    return None


def _bootstrap(
    labels: IntArray,
    groups: Sequence[str] | Sequence[int],
    generator: np.random.Generator,
    resamples: int,
    score: Callable[[FloatArray, IntArray], FloatArray],
) -> Interval:
    """Resample whole groups and take percentiles.

    Args:
        score: given how often each group was drawn, (resamples, n_groups), and each image's group, (n,), the figure of
            every resample, (resamples,).
    """
    codes = group_codes(groups, len(labels))
    refused = _refusal(labels, codes)
    if refused is not None:
        return refused
    n_groups = int(codes.max()) + 1
    codes = clusters(codes, generator)
    return percentiles(score(draw_weights(int(codes.max()) + 1, resamples, generator), codes), n_groups)


def _right(logits: FloatArray, labels: IntArray) -> FloatArray:
    """1 where the largest logit is the label's, else 0; (n,)."""
    right: FloatArray = (logits.argmax(axis=1) == labels).astype(np.float64)
    return right


def accuracy_interval(
    logits: ArrayLike,
    labels: ArrayLike,
    groups: Sequence[str] | Sequence[int],
    generator: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
) -> Interval:
    """95 % percentile bootstrap of accuracy, whole groups resampled.

    Args:
        logits: (n, K). labels: (n,) int. groups: (n,) patient, lesion or cluster of each image.
        generator: the only source of randomness.
        resamples: bootstrap draws.
    """
    z, y = check_predictions(logits, labels)

    def score(weights: FloatArray, codes: IntArray) -> FloatArray:
        hits = weights @ np.bincount(codes, weights=_right(z, y))
        shares: FloatArray = hits / (weights @ np.bincount(codes))
        return shares

    return _bootstrap(y, groups, generator, resamples, score)


def balanced_accuracy_interval(
    logits: ArrayLike,
    labels: ArrayLike,
    groups: Sequence[str] | Sequence[int],
    generator: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
) -> Interval:
    """95 % percentile bootstrap of balanced accuracy; arguments as in :func:`accuracy_interval`.

    A resample averages recall over the classes it drew, as the figure itself does over the classes present.
    """
    z, y = check_predictions(logits, labels)
    return _bootstrap(
        y,
        groups,
        generator,
        resamples,
        lambda weights, codes: _balanced_accuracies(weights, y, _right(z, y), codes),
    )


def balanced_accuracy_difference(
    logits: ArrayLike,
    other: ArrayLike,
    labels: ArrayLike,
    groups: Sequence[str] | Sequence[int],
    generator: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
) -> Interval:
    """95 % interval of balanced accuracy of ``logits`` minus that of ``other``, on the same resampled groups.

    Paired: both models are scored on the same draw, so what makes a group hard for both cancels.
    """
    z, y = check_predictions(logits, labels)
    z_other, _ = check_predictions(other, labels)

    def score(weights: FloatArray, codes: IntArray) -> FloatArray:
        first, second = (_balanced_accuracies(weights, y, _right(model, y), codes) for model in (z, z_other))
        return first - second

    return _bootstrap(y, groups, generator, resamples, score)
