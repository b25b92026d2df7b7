"""Images that a reader cannot exclude: counts are turned into probabilities until they have the published scores.

The solver's solutions are counts. Brier score and AUROC depend on the probabilities too, and what they exclude is not
linear in counts: a small Brier score excludes many errors, an AUROC near 1 excludes some mixtures of right and wrong.
Instead of modelling that, a set of images with these very counts is built, and a solution counts as possible only if
some such set has a Brier score and an AUROC within the published ranges. So nothing rests on having thought of every
inequality between figures: the images are there, and they would have been published in the same way.

A set is made of kinds of images: true class i, called j, segment of confidence, bin before the temperature, with one
vector of probabilities a kind. The top probability lies in what the kind allows, as far from its lower end in all kinds
of a row as gives the row's published mean; it may be spread evenly around that. The rest goes to the other classes,
between evenly and all to few, as the bin before the temperature allows. AUROC depends on order alone,
and equal scores may be drawn apart by any small step in either direction without any effect on other figures, so of
each set an interval of AUROC is possible, in steps of one pair of images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ..arrays import FloatArray, IntArray
from ..reliability import N_BINS, bin_edges
from .bands import Range
from .softening import Reach, before, weights

MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
SPREADS = (0.0, 0.6, 1.0)
INSIDE = 0.98
"""How near to the upper edge of a segment, which is outside of it, a confidence may come."""
Pairs = Sequence[tuple[int, int, int]]
"""(first label, second label, images)."""


@dataclass(frozen=True)
class Kinds:
    """Kinds of images.

    Attributes:
        truth, called, row: (m,) class, class and row of the reliability table.
        low, high: (m,) between which confidences they are. bin: (m,) before the temperature, -1 where nobody knows.
        count: (m,) images.
    """

    truth: IntArray
    called: IntArray
    row: IntArray
    low: FloatArray
    high: FloatArray
    bin: IntArray
    count: FloatArray

    def at(self, places: IntArray, count: FloatArray) -> Kinds:
        """These kinds, with other counts."""
        return Kinds(
            self.truth[places],
            self.called[places],
            self.row[places],
            self.low[places],
            self.high[places],
            self.bin[places],
            count,
        )


@dataclass(frozen=True)
class Scores:
    """What must come out.

    Attributes:
        brier, auroc, raw_brier: published ranges; None where withheld. Upper ends of Brier scores are outside.
        means: of each row of the reliability table; None where withheld.
        temperature: divides logits; 1 for none.
    """

    brier: Range | None
    auroc: Range | None
    raw_brier: Range | None = None
    means: tuple[float | None, ...] = ()
    temperature: float = 1.0


def deal(rows: Sequence[tuple[int, int]], columns: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """One of the tables with these sums of rows and columns: (row, column, images). Labels come with their sums."""
    left = [list(column) for column in columns]
    at = 0
    for label, images in rows:
        while images:
            while not left[at][1]:
                at += 1
            taken = min(images, left[at][1])
            yield label, left[at][0], taken
            left[at][1] -= taken
            images -= taken


def kinds_of(
    cells: IntArray,
    segments: Mapping[bool, Sequence[int]],
    places: Sequence[tuple[int, float, float]],
    called: Mapping[bool, IntArray] | None = None,
    bins: Mapping[bool, Mapping[tuple[int, int], int]] | None = None,
    reach: Mapping[tuple[int, int], Reach] | None = None,
) -> Kinds:
    """Deal the images of each cell out to segments and bins: one of the ways that keep all tables.

    Args:
        cells: (K, K). segments: of right images (True) and of wrong ones, how many are in each segment.
        places: of each segment, its row of the reliability table, lower and upper edge.
        called: of both, (K, S) images by called class and segment; None where nothing says so.
        bins: of both, images by segment and bin before the temperature. reach: of those pairs.
    """
    found: list[tuple[int, int, int, float, float, int, int]] = []
    k = len(cells)
    for right in (True, False):
        chosen = [(i, j) for j in range(k) for i in range(k) if (i == j) == right]
        dealt: list[tuple[int, int, int]] = []
        if called is None:
            counts = [(number, int(cells[cell])) for number, cell in enumerate(chosen)]
            dealt += deal(counts, list(enumerate(segments[right])))
        else:
            for c in range(k):
                counts = [(number, int(cells[cell])) for number, cell in enumerate(chosen) if cell[1] == c]
                dealt += deal(counts, [(s, int(each)) for s, each in enumerate(called[right][c])])
        for s, (row, low, high) in enumerate(places):
            here = [(number, images) for number, at, images in dealt if at == s]
            if bins is None or reach is None:
                found += [(*chosen[number], row, low, low + INSIDE * (high - low), -1, each) for number, each in here]
                continue
            held = [(b, images) for (at, b), images in bins[right].items() if at == s]
            for number, b, images in deal(here, held):
                found.append((*chosen[number], row, reach[s, b].low, reach[s, b].high, b, images))
    table = np.array(found, dtype=np.float64).reshape(-1, 7)
    whole = table.astype(np.int64)
    return Kinds(whole[:, 0], whole[:, 1], whole[:, 2], table[:, 3], table[:, 4], whole[:, 5], table[:, 6])


def possible(kinds: Kinds, k: int, scores: Scores) -> bool:
    """Whether some images of these kinds have Brier scores and a macro AUROC in the ranges."""
    if not len(kinds.count):
        return scores.brier is None and scores.auroc is None and scores.raw_brier is None
    for spread in SPREADS:
        top, split = _spread(kinds, scores.means, k, spread)
        limits = _limits(split, top, k, scores.temperature)
        if limits is None:
            continue
        right = split.truth == split.called
        mixed = [_shares(split, top, k, np.clip(mix, *limits)) for mix in MIXES]
        sums = [_brier_of(split, shares) for shares in mixed]
        raw_sums = [_brier_of(split, before(shares, scores.temperature)) for shares in mixed]
        n = split.count.sum()
        for first, second in product(range(len(MIXES)), repeat=2):
            # Right images have the first mix and wrong ones the second.
            if not _within(scores.brier, np.where(right, sums[first], sums[second]).sum() / n):
                continue
            if not _within(scores.raw_brier, np.where(right, raw_sums[first], raw_sums[second]).sum() / n):
                continue
            shares = np.where(right[:, None], mixed[first], mixed[second])
            if scores.auroc is None or _reaches(split, shares, k, scores.auroc):
                return True
    return False


def _within(wanted: Range | None, value: float) -> bool:
    return wanted is None or wanted.low <= value < wanted.high


def _spread(kinds: Kinds, means: Sequence[float | None], k: int, spread: float) -> tuple[FloatArray, Kinds]:
    """Top probability of each kind, and the kinds, of which each is split into three when ``spread`` is above 0."""
    low = np.maximum(kinds.low, 1.0 / k)
    high = np.maximum(kinds.high, low)
    middle = np.empty(len(low))
    for row in np.unique(kinds.row):
        here = kinds.row == row
        ends = [float((kinds.count * end)[here].sum() / kinds.count[here].sum()) for end in (low, high)]
        mean, width = means[row] if row < len(means) else None, ends[1] - ends[0]
        part = 0.5 if mean is None or width <= 0 else min(max((mean - ends[0]) / width, 0.0), 1.0)
        middle[here] = (low + part * (high - low))[here]
    step = spread * INSIDE * np.minimum(middle - low, high - middle)
    half = np.floor(kinds.count / 2) if spread else np.zeros(len(low))
    top = np.concatenate([middle - step, middle + step, middle])
    count = np.concatenate([half, half, kinds.count - 2 * half])
    kept = np.flatnonzero(count > 0)
    return top[kept], kinds.at(kept % len(low), count[kept])


def _limits(kinds: Kinds, top: FloatArray, k: int, temperature: float) -> tuple[FloatArray, FloatArray] | None:
    """Between which weights the rest may be spread, (m,) each; None where some kind cannot be in its bin before."""
    least, most = np.zeros(len(top)), np.ones(len(top))
    edges = bin_edges(N_BINS)
    for b, value in sorted({(int(b), float(c)) for b, c in zip(kinds.bin, top, strict=True) if b >= 0}):
        ends = weights(k, temperature, value, float(edges[b]), float(edges[b + 1]) + (b == N_BINS - 1))
        if ends is None:
            return None
        here = (kinds.bin == b) & (top == value)
        least[here], most[here] = ends
    return least, most


def _shares(kinds: Kinds, top: FloatArray, k: int, even: FloatArray) -> FloatArray:
    """Probabilities (m, K): ``even`` (m,) of the rest is spread evenly, and else goes to as few as can take it."""
    everything = np.arange(len(top))
    shares = np.repeat((even * (1.0 - top) / (k - 1))[:, None], k, axis=1)
    left = 1.0 - top
    # A wrong image gives the rest to its true class first; a right one to the next class.
    first = np.where(kinds.truth == kinds.called, (kinds.called + 1) % k, kinds.truth)
    for step in range(k):
        column = (first + step) % k
        taken = np.where(column == kinds.called, 0.0, np.minimum(left, top))
        shares[everything, column] += (1.0 - even) * taken
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
