"""What abstaining buys: the share wrong among the images answered, against the share answered.

Images are answered in falling order of the top label's probability, and images of equal probability together, because a
threshold cannot part them. With c_j the share answered down to the j-th distinct probability and r_j the share wrong
among those,

    AURC = sum over j of (c_j - c_{j-1}) r_j,

which without ties is the mean risk over coverages 1/n, 2/n .. 1. Excess AURC is what remains above the same errors in
the best order, all of them last and one by one.

References:
    Geifman and El-Yaniv (2017), NeurIPS, arXiv:1705.08500 (risk and coverage). Geifman, Uziel, El-Yaniv (2019), ICLR,
    arXiv:1805.08206, sections 2 and 3 (AURC, excess).
"""

from __future__ import annotations

import numpy as np

from ..arrays import FloatArray, IntArray
from ..per_class import grouped_rate
from .bootstrap import NO_IMAGES, GroupBootstrap
from .discrimination import Ranks
from .figure_set import RiskCoverage, RiskPoint

MOST_POINTS = 100


def area_under_risk(confidence: FloatArray, wrong: FloatArray) -> float | None:
    """AURC; None for no images.

    Args:
        confidence: (n,) top-label probability. wrong: (n,) 1.0 where the answer is wrong, else 0.0.
    """
    if len(wrong) == 0:
        return None
    _, ones, errors = _by_confidence(confidence, wrong)
    return float(_areas(ones[None, :], errors[None, :])[0])


def best_area(n: int, errors: int) -> float:
    """AURC of ``errors`` wrong among ``n`` images, at least 1, in the best order: every wrong one after all others."""
    answered = np.arange(n - errors + 1, n + 1, dtype=np.float64)
    return float(((answered - (n - errors)) / answered).sum() / n)


def risk_point(confidence: FloatArray, wrong: FloatArray, groups: IntArray, threshold: float) -> RiskPoint:
    """Answering where ``confidence`` (n,) is ``threshold`` or more; n at least 1. ``groups``: (n,) codes."""
    answered = confidence >= threshold
    count = int(answered.sum())
    return RiskPoint(threshold, count / len(wrong), count, grouped_rate(wrong[answered], groups[answered]))


def risk_coverage(
    confidence: FloatArray,
    wrong: FloatArray,
    bootstrap: GroupBootstrap,
    *,
    abstain_below: float | None = None,
    wanted_risk: float | None = None,
) -> RiskCoverage:
    """Curve, areas with an interval by group, and the point at the threshold in use.

    Args:
        confidence, wrong: as in :func:`area_under_risk`. abstain_below: threshold in use; None without one.
        wanted_risk: the risk that it was chosen for, only passed on.
    """
    area = area_under_risk(confidence, wrong)
    if area is None:
        return RiskCoverage((), bootstrap.bare(None, NO_IMAGES), None, None, wanted_risk)
    n, groups = len(wrong), bootstrap.groups
    return RiskCoverage(
        points=_points(confidence, wrong, groups),
        aurc=bootstrap.estimate(area, lambda: _area_draws(bootstrap, confidence, wrong, area)),
        # Both are sums of n quotients, so an order that is the best one may leave a rounding below 0.
        excess_aurc=max(0.0, area - best_area(n, int(wrong.sum()))) if bootstrap.ready else None,
        chosen=None if abstain_below is None else risk_point(confidence, wrong, groups, abstain_below),
        wanted_risk=wanted_risk,
        declined=None if abstain_below is None else grouped_rate(confidence < abstain_below, groups),
    )


def _by_confidence(confidence: FloatArray, wrong: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Distinct confidences in falling order, images and wrong images of each."""
    distinct, where = np.unique(-confidence, return_inverse=True)
    ones = np.bincount(where).astype(np.float64)
    return -distinct, ones, np.bincount(where, weights=wrong).astype(np.float64)


def _points(confidence: FloatArray, wrong: FloatArray, groups: IntArray) -> tuple[RiskPoint, ...]:
    """From full coverage down, at most :data:`MOST_POINTS`, spread evenly over coverage; both ends are kept."""
    distinct, ones, _ = _by_confidence(confidence, wrong)
    answered = np.cumsum(ones).astype(np.int64)
    order = np.argsort(-confidence, kind="stable")
    wrong, groups = wrong[order], groups[order]
    n = int(answered[-1])
    wanted = np.linspace(answered[0], n, MOST_POINTS)
    kept = np.unique(np.searchsorted(answered, wanted, side="left"))[::-1]
    return tuple(
        RiskPoint(
            float(distinct[j]),
            float(answered[j] / n),
            int(answered[j]),
            grouped_rate(wrong[: answered[j]], groups[: answered[j]]),
        )
        for j in kept
    )


def _area_draws(bootstrap: GroupBootstrap, confidence: FloatArray, wrong: FloatArray, exact: float) -> FloatArray:
    """AURC of every resample; above 4000 images on 512 cells, moved so that the sample has its exact value."""
    ranks = Ranks.of(-confidence)
    used = ranks if ranks.exact else ranks.coarse()
    drawn = bootstrap.of_cells(used.cells, len(used.counts), wrong, _areas)
    return drawn + (exact - float(_areas(used.row(), used.sums(wrong))[0]))


def _areas(ones: FloatArray, errors: FloatArray) -> FloatArray:
    """AURC of each row from images and errors by falling confidence, (rows, cells) each."""
    answered, missed = np.cumsum(ones, axis=1), np.cumsum(errors, axis=1)
    risk = np.divide(missed, answered, out=np.zeros(missed.shape), where=answered > 0)
    areas: FloatArray = np.einsum("rc,rc->r", ones, risk) / answered[:, -1]
    return areas
