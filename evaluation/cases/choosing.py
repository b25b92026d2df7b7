"""Which test images are worth a look: the order of review, those that fit on a page, and those that get a map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import FloatArray, IntArray
from .model import Counts

BoolArray = NDArray[np.bool_]

RIGHT_SHARE = 6
"""One map in six is kept for right answers: what a model looks at when it is wrong means little without them."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of each test image.

    Attributes:
        confidence: (n,) probability of the called class. right: (n,) whether it is the truth.
        abstains: (n,) whether no answer is given. misses: (n,) whether the set lacks the truth; None without sets.
        confident: an error from this probability on is a confident one.
    """

    confidence: FloatArray
    right: BoolArray
    abstains: BoolArray
    misses: BoolArray | None
    confident: float

    @property
    def wrong(self) -> BoolArray:
        """Answers that are not the truth; an abstention is none."""
        return ~self.right & ~self.abstains

    @property
    def confident_errors(self) -> BoolArray:
        """Those of them that were given with a high probability."""
        return self.wrong & (self.confidence >= self.confident)

    def counts(self) -> Counts:
        """How many there are of each kind."""
        return Counts(
            images=len(self.right),
            right=int((self.right & ~self.abstains).sum()),
            wrong=int(self.wrong.sum()),
            confident=int(self.confident_errors.sum()),
            abstained=int(self.abstains.sum()),
            misses=None if self.misses is None else int(self.misses.sum()),
        )


def review_order(judged: Judged) -> IntArray:
    """All n images: errors, the surest first; abstentions and then right answers, the least sure first. int64 (n,)."""
    kind = np.where(judged.wrong, 0, np.where(judged.abstains, 1, 2))
    sign = np.where(kind == 0, -1.0, 1.0)
    return np.lexsort((np.arange(len(kind)), sign * judged.confidence, kind)).astype(np.int64)


def shown(judged: Judged, most: int, seed: int) -> IntArray:
    """At most ``most`` images, in the order of review: errors and abstentions, then right ones drawn by the seed."""
    order = review_order(judged)
    if len(order) <= most:
        return order
    right = judged.right & ~judged.abstains
    chosen = order[~right[order]][:most]
    drawn = _draw(np.flatnonzero(right), most - len(chosen), seed)
    return order[np.isin(order, np.concatenate([chosen, drawn]))]


def mapped(judged: Judged, on_page: IntArray, maps: int, seed: int) -> IntArray:
    """At most ``maps`` of the images on the page, ascending: confident errors, abstentions, other errors, right ones.

    A sixth of them is kept for right ones, drawn by the seed, as far as there are some.
    """
    right = (judged.right & ~judged.abstains)[on_page]
    order = on_page[~right]
    rank = np.where(judged.confident_errors[order], 0, np.where(judged.abstains[order], 1, 2))
    order = order[np.argsort(rank, kind="stable")]
    kept = min(maps // RIGHT_SHARE, int(right.sum()))
    chosen = order[: maps - kept]
    return np.sort(np.concatenate([chosen, _draw(on_page[right], maps - len(chosen), seed)])).astype(np.int64)


def _draw(rows: IntArray, count: int, seed: int) -> IntArray:
    generator = np.random.default_rng(seed)
    return np.asarray(generator.permutation(np.sort(rows))[: max(count, 0)], dtype=np.int64)
