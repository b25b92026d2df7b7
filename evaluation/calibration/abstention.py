"""When not to answer: the lowest top probability at which the share of wrong answers stays below a named risk.

Learn then test (Angelopoulos et al. 2021, arXiv 2110.01052) with fixed-sequence testing: thresholds are tried from
the most confident down. At each, the wrong among the answered images give a one-sided 95 % upper bound of the risk
(Clopper and Pearson 1934); the search stops at the first threshold whose bound exceeds the named risk, and the one
before is chosen. A threshold whose risk is larger than named is so chosen in at most about 5 of 100 studies, however
many are tried. With m answered images and none wrong the bound is 1 - .05^(1/m): a risk of 10 % needs 29 images, one
of 5 % needs 59. The first threshold tried leaves room for two wrong answers where there are images enough (61 at
10 %), because one unlucky image among the first would otherwise end every search.

Images count one by one, so they must be independent: :func:`choose` draws one image a group. The risk is then that of
one image of a new patient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta

from ..arrays import FloatArray, IntArray
from ..errors import InvalidPredictionsError
from ..reliability import bin_edges, bin_index
from .checks import check_probabilities
from .group_draws import Groups, one_per_group

CONFIDENCE = 0.95
ROOM = 2
LADDER = 50
"""Thresholds tried at most: each is one more chance to stop by bad luck."""
CONFIDENCE_BINS = 200
"""Bins of the summed histogram of top probabilities, even in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Abstention:
    """A threshold for a named risk, or why there is none.

    Attributes:
        threshold: answer where the top probability is at least this, in [0, 1]; None where none reaches the risk.
        risk: named share of wrong answers among the answered, in (0, 1).
        answered, wrong: images at or above the threshold, and how many of them are wrong; 0 without a threshold.
        upper: 95 % upper bound of the risk there; None without a threshold.
        n: images that the search had, one a group.
        reason: why there is none; empty otherwise.
    """

    threshold: float | None
    risk: float
    answered: int
    wrong: int
    upper: float | None
    n: int
    reason: str = ""


def upper_bound(wrong: int, answered: int, confidence: float = CONFIDENCE) -> float:
    """One-sided Clopper-Pearson bound: the largest risk at which so few wrong answers have probability 1 - confidence.

    >>> round(upper_bound(0, 29), 4), upper_bound(3, 3), upper_bound(0, 0)
    (0.0981, 1.0, 1.0)
    """
    if not 0 <= wrong <= answered:
        raise InvalidPredictionsError(f"{wrong} wrong out of {answered} answers")
    return 1.0 if wrong == answered else float(beta.ppf(confidence, wrong + 1, answered - wrong))


def fewest(risk: float, room: int = 0) -> int:
    """Smallest number of answers that can show ``risk`` with ``room`` wrong ones among them.

    >>> fewest(0.1), fewest(0.05), fewest(0.1, 2)
    (29, 59, 61)
    """
    if not 0.0 < risk < 1.0:
        raise InvalidPredictionsError(f"a risk of {risk!r}", remedy="Name a share between 0 and 1")
    # Doubled until it is enough, then halved: the bound falls as answers are added.
    low, high = room, max(1, 2 * room)
    while upper_bound(room, high) > risk:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if upper_bound(room, middle) <= risk else (middle, high)
    return high


def choose(
    probabilities: ArrayLike, labels: ArrayLike, groups: Groups, generator: np.random.Generator, *, risk: float
) -> Abstention:
    """The threshold for ``risk`` from one image a group, drawn at random.

    Args:
        probabilities: (n, K), of images that neither the model nor its calibration was fitted on. labels: (n,).
        groups: (n,). generator: the only source of randomness.
        risk: bearable share of wrong answers, in (0, 1).
    """
    p, y = check_probabilities(probabilities, labels)
    drawn = one_per_group(groups, generator)
    top, wrong = p[drawn].max(axis=1), p[drawn].argmax(axis=1) != y[drawn]
    order = np.argsort(-top, kind="stable")
    top, errors = top[order], np.cumsum(wrong[order])
    n = len(drawn)

    def ladder(first: int) -> Iterator[tuple[float, int, int]]:
        for at in range(first, n + 1, max(1, math.ceil((n - first) / LADDER))):
            # All images of the same top probability are answered together.
            answered = int(np.searchsorted(-top, -top[at - 1], side="right"))
            yield float(top[at - 1]), answered, int(errors[answered - 1])

    return _descend(ladder, n, risk)


def confidence_histogram(probabilities: ArrayLike, labels: ArrayLike, bins: int = CONFIDENCE_BINS) -> IntArray:
    """Images, and right ones among them, by bin of the top probability; int64 (2, bins). Adds over sites.

    Bins as in :func:`.conformal.score_histogram`. Pass one image a group.
    """
    p, y = check_probabilities(probabilities, labels)
    where, right = bin_index(p.max(axis=1, initial=0.0), bins), p.argmax(axis=1) == y
    return np.stack([np.bincount(where, minlength=bins), np.bincount(where[right], minlength=bins)]).astype(np.int64)


def choose_from_histogram(histogram: IntArray, *, risk: float) -> Abstention:
    """The threshold for ``risk`` out of summed counts, (2, bins): a lower edge of a bin.

    Raises:
        InvalidPredictionsError: the counts are none, or more images are right than there are.
    """
    if histogram.ndim != 2 or len(histogram) != 2 or (histogram < 0).any() or (histogram[1] > histogram[0]).any():
        raise InvalidPredictionsError(f"a histogram of shape {histogram.shape} is no count of images and right ones")
    counts, wrong = histogram[0][::-1], (histogram[0] - histogram[1])[::-1]
    answered, errors = np.cumsum(counts), np.cumsum(wrong)
    edges: FloatArray = bin_edges(histogram.shape[1])[:-1][::-1]

    def ladder(first: int) -> Iterator[tuple[float, int, int]]:
        for at in np.flatnonzero((answered >= first) & (counts > 0)):
            yield float(edges[at]), int(answered[at]), int(errors[at])

    return _descend(ladder, int(counts.sum()), risk)


class _Ladder(Protocol):
    def __call__(self, first: int) -> Iterator[tuple[float, int, int]]:
        """Threshold, answered and wrong, from the first that answers ``first`` images down."""


def _descend(ladder: _Ladder, n: int, risk: float) -> Abstention:
    """Fixed-sequence testing: every threshold on the way must pass. Its order and start do not look at who is right."""
    needed = next((m for room in range(ROOM, -1, -1) if (m := fewest(risk, room)) <= n), None)
    if needed is None:
        return Abstention(None, risk, 0, 0, None, n, f"too few: {n} of {fewest(risk)} validation groups")
    chosen = None
    for threshold, answered, wrong in ladder(needed):
        upper = upper_bound(wrong, answered)
        if upper > risk:
            break
        chosen = Abstention(threshold, risk, answered, wrong, upper, n)
    return chosen or Abstention(None, risk, 0, 0, None, n, "even the most confident answers are wrong too often")
