"""AUROC from histograms of scores: exact but for pairs within one bin, which count half; the error is bounded."""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import FloatArray


@dataclass(frozen=True, slots=True)
class BoundedAuroc:
    """AUROC of one class against the rest, or a mean of several.

    Attributes:
        value: 0..1. bound: the exact figure lies within ``value`` plus or minus this.
    """

    value: float
    bound: float


def auroc_of_histograms(positives: FloatArray, negatives: FloatArray) -> BoundedAuroc | None:
    """AUROC from counts by ascending score, (H,) each; None where there are no positives or no negatives.

    AUROC = (pairs in the right order + half the ties) / pairs (Mann and Whitney 1947). Pairs in different bins are
    ordered as their scores are. Of the pairs within a bin between none and all are in the right order, so taking half
    of them is off by at most half of them.
    """
    pairs = float(positives.sum() * negatives.sum())
    if pairs == 0.0:
        return None
    below = negatives.cumsum() - negatives
    within = float((positives * negatives).sum())
    return BoundedAuroc((float((positives * below).sum()) + within / 2) / pairs, within / 2 / pairs)
