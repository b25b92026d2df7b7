"""Images that a reader cannot exclude: counts are turned into probabilities until they have the published scores.

The solver's solutions are counts. Brier score and AUROC depend on the probabilities too, and what they exclude is not
linear in counts: a small Brier score excludes many errors, an AUROC near 1 excludes some mixtures of right and wrong.
Instead of modelling that, a set of images with these very counts is built, and a solution counts as possible only if
some such set has a Brier score and an AUROC within the published ranges. So nothing rests on having thought of every
inequality between figures: the images are there, and they would have been published in the same way.

A set is made of kinds of images: true class i, called j, row b of the reliability table, with one vector of
probabilities a kind. The top probability is the row's published mean confidence, or its middle, which may be spread
evenly within the row; the rest goes to the other classes, between evenly and all to one. AUROC depends on order alone,
and equal scores may be drawn apart by any small step in either direction without any effect on other figures, so of
each set an interval of AUROC is possible, in steps of one pair of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ..arrays import FloatArray, IntArray
from .bands import Range

MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
SPREADS = (0.0, 0.6, 1.0)
INSIDE = 0.98
"""How near to the upper edge of a bin, which is outside of it, a spread may come."""


@dataclass(frozen=True)
class Kinds:
    """Kinds of images.

    Attributes:
        truth, called, row: (m,) class, class and row of the reliability table. count: (m,) images.
    """

    truth: IntArray
    called: IntArray
    row: IntArray
    count: FloatArray


def kinds_of(cells: IntArray, right: Sequence[int], wrong: Sequence[int]) -> Kinds:
    """Deal the images of each cell out to rows: one of the ways that keep both tables.

    Args:
        cells: (K, K). right, wrong: images of each row; they add up to the diagonal and to the rest.
    """
    found: list[tuple[int, int, int, int]] = []
    for diagonal, left in ((True, list(right)), (False, list(wrong))):
        b = 0
        for i, j in product(range(len(cells)), repeat=2):
            if (i == j) != diagonal:
                continue
            open_ = int(cells[i, j])
            while open_:
                while not left[b]:
                    b += 1
                taken = min(open_, left[b])
                found.append((i, j, b, taken))
                left[b] -= taken
                open_ -= taken
    table = np.array(found, dtype=np.int64).reshape(-1, 4)
    return Kinds(table[:, 0], table[:, 1], table[:, 2], table[:, 3].astype(np.float64))


def possible(
    kinds: Kinds, edges: Sequence[tuple[float, float, float]], k: int, brier: Range | None, auroc: Range | None
) -> bool:
    """Whether some images of these kinds have a Brier score and a macro AUROC in the ranges.

    Args:
        kinds: see there. edges: lower edge, upper edge and mean confidence of each row. k: classes.
        brier, auroc: published ranges, upper ends outside for Brier; None where withheld.
    """
    if not len(kinds.count):
        return brier is None and auroc is None
    for spread in SPREADS:
        top, split = _spread(kinds, edges, k, spread)
        right = split.truth == split.called
        mixed = [_shares(split, top, k, mix) for mix in MIXES]
        sums = [_brier_of(split, shares) for shares in mixed]
        for first, second in product(range(len(MIXES)), repeat=2):
            # Right images have the first mix and wrong ones the second.
            score = float(np.where(right, sums[first], sums[second]).sum() / split.count.sum())
            if brier is not None and not brier.low <= score < brier.high:
                continue
            shares = np.where(right[:, None], mixed[first], mixed[second])
            if auroc is None or _reaches(split, shares, k, auroc):
                return True
    return False


def _spread(
    kinds: Kinds, edges: Sequence[tuple[float, float, float]], k: int, spread: float
) -> tuple[FloatArray, Kinds]:
    """Top probability of each kind, and the kinds, of which each is split into three when ``spread`` is above 0."""
    low = np.array([max(edge[0], 1.0 / k) for edge in edges])[kinds.row]
    high = np.array([edge[1] for edge in edges])[kinds.row]
    mean = np.clip(np.array([edge[2] for edge in edges])[kinds.row], low, high)
    step = spread * INSIDE * np.minimum(mean - low, high - mean)
    half = np.floor(kinds.count / 2)
    top = np.concatenate([mean - step, mean + step, mean])
    count = np.concatenate([half, half, kinds.count - 2 * half])
    kept = count > 0
    three = [np.tile(values, 3)[kept] for values in (kinds.truth, kinds.called, kinds.row)]
    return top[kept], Kinds(three[0], three[1], three[2], count[kept])


def _shares(kinds: Kinds, top: FloatArray, k: int, even_weight: float) -> FloatArray:
    """Probabilities (m, K): the rest is spread evenly with this weight, and otherwise goes to as few as can take it."""
    everything = np.arange(len(top))
    shares = np.repeat((even_weight * (1.0 - top) / (k - 1))[:, None], k, axis=1)
    left = 1.0 - top
    # A wrong image gives the rest to its true class first; a right one to the next class.
    first = np.where(kinds.truth == kinds.called, (kinds.called + 1) % k, kinds.truth)
    for step in range(k):
        column = (first + step) % k
        taken = np.where(column == kinds.called, 0.0, np.minimum(left, top))
        shares[everything, column] += (1.0 - even_weight) * taken
        left = left - taken
    shares[everything, kinds.called] = top
    return shares


def _brier_of(kinds: Kinds, shares: FloatArray) -> FloatArray:
    """Sum of Brier scores over the images of each kind, (m,)."""
    # sum (p - y)^2 = sum p^2 - 2 p_y + 1.
    each = np.einsum("ij,ij->i", shares, shares) - 2.0 * shares[np.arange(len(shares)), kinds.truth] + 1.0
    return np.asarray(each * kinds.count, dtype=np.float64)


def _reaches(kinds: Kinds, shares: FloatArray, k: int, wanted: Range) -> bool:
    least, most, pairs = [], [], []
    for c in range(k):
        is_c = kinds.truth == c
        positives, negatives = kinds.count[is_c], kinds.count[~is_c]
        if not len(positives):
            continue
        if not len(negatives):
            return False
        score, other = np.round(shares[is_c, c], 9), np.round(shares[~is_c, c], 9)
        order = np.argsort(other, kind="stable")
        below = np.concatenate([[0.0], np.cumsum(negatives[order])])
        pair = float(positives.sum() * negatives.sum())
        least.append(float((positives * below[np.searchsorted(other[order], score, side="left")]).sum()) / pair)
        most.append(float((positives * below[np.searchsorted(other[order], score, side="right")]).sum()) / pair)
        pairs.append(pair)
    if len(pairs) < 2:
        return False
    # Between the extremes AUROC moves by single pairs: a range that is wider than one step is hit.
    step = 1.0 / (min(pairs) * len(pairs))
    low, high = max(wanted.low, float(np.mean(least))), min(wanted.high, float(np.mean(most)))
    if wanted.low <= float(np.mean(least)) <= wanted.high or wanted.low <= float(np.mean(most)) <= wanted.high:
        return True
    return high - low >= step
