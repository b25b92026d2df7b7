"""How well classes are told apart: balanced accuracy, F1, AUROC, from counts and ranks, for the sample and resamples.

With t = truth and c = call, of class k: recall = n(t = k, c = k) / n(t = k), F1 = 2 n(t = k, c = k) / (n(t = k) +
n(c = k)). Averages are over the classes present, in a resample over those that it drew. AUROC of a class against the
rest is the Mann-Whitney statistic on log odds, ties counted half.

References:
    Brodersen et al. (2010), ICPR (balanced accuracy). Hanley and McNeil (1982), Radiology 143:29-36 (AUROC).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import FloatArray, IntArray
from ..intervals import ONE_CLASS, macro_means, mean_known
from .answers import Answers
from .bootstrap import NO_IMAGES, GroupBootstrap
from .figure_set import Estimate

EXACT_CELLS = 4000
COARSE_CELLS = 512
FEWEST_GROUPS_OF_CLASS = 5
NO_SUCH_IMAGE = "no image of this class"
FEW_OF_CLASS = "fewer than 5 groups with or without this class: no interval"


@dataclass(frozen=True, slots=True)
class Discrimination:
    """Figures of one set of calls and log odds.

    Attributes:
        accuracy, balanced_accuracy, macro_f1, macro_auroc: averages are over the classes present.
        f1, auroc: of each class, in label order; empty where they were not asked for.
    """

    accuracy: Estimate
    balanced_accuracy: Estimate
    macro_f1: Estimate
    macro_auroc: Estimate
    f1: tuple[Estimate, ...]
    auroc: tuple[Estimate, ...]


def discrimination(answers: Answers, bootstrap: GroupBootstrap) -> Discrimination:
    """Every figure of this module with its interval, all from the resamples of ``bootstrap``."""
    odds, called, labels = answers.odds, answers.called, answers.labels
    n, k = odds.shape
    if n == 0:
        none = bootstrap.bare(None, NO_IMAGES)
        return Discrimination(none, none, none, none, (none,) * k, (none,) * k)
    cells = labels * k + called
    matrix = np.bincount(cells, minlength=k * k).reshape(k, k).astype(np.float64)
    drawn = bootstrap.cell_sums(cells, k * k).reshape(-1, k, k)
    right = np.trace(matrix) / n
    areas, area_draws = _areas(odds, labels, bootstrap)
    known = [value for value in areas if value is not None]
    f1, f1_draws = f1_scores(matrix), f1_scores(drawn)
    one_class = ONE_CLASS if np.count_nonzero(matrix.sum(axis=1)) < 2 else ""
    return Discrimination(
        accuracy=bootstrap.estimate(float(right), lambda: np.trace(drawn, axis1=1, axis2=2) / drawn.sum(axis=(1, 2))),
        balanced_accuracy=bootstrap.estimate(
            _known(balanced_accuracies(matrix)), lambda: balanced_accuracies(drawn), one_class
        ),
        macro_f1=bootstrap.estimate(_known(macro_f1s(matrix)), lambda: macro_f1s(drawn), one_class),
        macro_auroc=bootstrap.estimate(
            float(np.mean(known)) if known else None, lambda: mean_known(np.stack(list(area_draws.values()))), one_class
        ),
        f1=tuple(_of_class(bootstrap, labels == c, _known(f1[c]), f1_draws[:, c]) for c in range(k)),
        auroc=tuple(_of_class(bootstrap, labels == c, areas[c], area_draws.get(c)) for c in range(k)),
    )


def _areas(
    odds: FloatArray, labels: IntArray, bootstrap: GroupBootstrap
) -> tuple[list[float | None], dict[int, FloatArray]]:
    """AUROC of each class, and of those that have one, of every resample."""
    areas: list[float | None] = []
    draws: dict[int, FloatArray] = {}
    for c in range(odds.shape[1]):
        positive = (labels == c).astype(np.float64)
        ranks = Ranks.of(odds[:, c])
        area = _auroc_of(ranks, positive)
        areas.append(area)
        if area is not None and bootstrap.ready:
            draws[c] = auroc_draws(bootstrap, ranks, positive, area)
    return areas, draws


def _of_class(
    bootstrap: GroupBootstrap, of_class: NDArray[np.bool_], value: float | None, draws: FloatArray | None
) -> Estimate:
    """A figure of one class; no interval where so few groups have or lack it that resamples lose it by chance."""
    if not of_class.any():
        return bootstrap.bare(None, NO_SUCH_IMAGE)
    if value is None or draws is None or not bootstrap.ready:
        return bootstrap.estimate(value, lambda: np.zeros(0), ONE_CLASS)
    sides = (bootstrap.count_groups(side) for side in (of_class, ~of_class))
    if min(sides) < FEWEST_GROUPS_OF_CLASS:
        return bootstrap.bare(value, FEW_OF_CLASS)
    return bootstrap.estimate(value, lambda: draws)


def _known(value: FloatArray | np.floating) -> float | None:
    return None if np.isnan(value) else float(value)


def balanced_accuracies(matrices: FloatArray) -> FloatArray:
    """Mean recall over the classes present, of confusion matrices (..., K, K); nan with fewer than two: (...)."""
    return macro_means(np.diagonal(matrices, axis1=-2, axis2=-1), matrices.sum(axis=-1), matrices.sum(axis=-1))


def f1_scores(matrices: FloatArray) -> FloatArray:
    """F1 of each class, of confusion matrices (..., K, K); nan for a class without an image: (..., K)."""
    truth, called = matrices.sum(axis=-1), matrices.sum(axis=-2)
    hits = 2.0 * np.diagonal(matrices, axis1=-2, axis2=-1)
    scores: FloatArray = np.divide(hits, truth + called, out=np.full(hits.shape, np.nan), where=truth > 0)
    return scores


def macro_f1s(matrices: FloatArray) -> FloatArray:
    """Mean F1 over the classes present, of confusion matrices (..., K, K); nan with fewer than two: (...)."""
    truth, called = matrices.sum(axis=-1), matrices.sum(axis=-2)
    return macro_means(2.0 * np.diagonal(matrices, axis1=-2, axis2=-1), truth + called, truth)


def auroc(positive: FloatArray, score: FloatArray) -> float | None:
    """AUROC of ``score`` (n,) for the outcomes ``positive`` (n,) of 0 and 1; None with one outcome only."""
    return _auroc_of(Ranks.of(score), positive)


@dataclass(frozen=True, slots=True)
class Ranks:
    """Scores in rising order: ``cells`` (n,) place among the distinct ones, ``counts`` images of each of those."""

    cells: IntArray
    counts: FloatArray

    @classmethod
    def of(cls, score: FloatArray) -> Ranks:
        """Ranks of ``score`` (n,); equal scores share a place."""
        _, cells, counts = np.unique(score, return_inverse=True, return_counts=True)
        return cls(cells.astype(np.int64), counts.astype(np.float64))

    @property
    def exact(self) -> bool:
        """Whether resamples are scored on these ranks themselves."""
        return len(self.cells) <= EXACT_CELLS

    def coarse(self) -> Ranks:
        """At most :data:`COARSE_CELLS` places of about equally many images, equal scores still in one."""
        below = np.cumsum(self.counts) - self.counts
        cell = np.floor(below * COARSE_CELLS / len(self.cells)).astype(np.int64)
        return Ranks(
            cell[self.cells], np.bincount(cell, weights=self.counts, minlength=COARSE_CELLS).astype(np.float64)
        )

    def row(self) -> FloatArray:
        """``counts`` as one row (1, places)."""
        return self.counts[None, :]

    def sums(self, values: FloatArray) -> FloatArray:
        """Sum of ``values`` (n,) at each place, as one row (1, places)."""
        summed = np.bincount(self.cells, weights=values, minlength=len(self.counts)).astype(np.float64)
        return summed[None, :]


def _auroc_of(ranks: Ranks, positive: FloatArray) -> float | None:
    if len(ranks.cells) == 0:
        return None
    # 1,000,000 images have 2.5e11 pairs, and wins are whole or halves, so float64 adds them exactly.
    area = float(_aurocs(ranks.row(), ranks.sums(positive))[0])
    return None if np.isnan(area) else area


def auroc_draws(bootstrap: GroupBootstrap, ranks: Ranks, positive: FloatArray, exact: float) -> FloatArray:
    """AUROC of every resample, (resamples,), nan where it drew one outcome only.

    Exact up to :data:`EXACT_CELLS` images. Above, scores that share one of 512 cells count as tied, which moves an
    AUROC by less than 1 / 1024; the draws are then moved so that the sample itself has its ``exact`` value, so what
    is left is a difference of differences.
    """
    used = ranks if ranks.exact else ranks.coarse()
    drawn = bootstrap.of_cells(used.cells, len(used.counts), positive, _aurocs)
    return drawn + (exact - float(_aurocs(used.row(), used.sums(positive))[0]))


def _aurocs(ones: FloatArray, positive: FloatArray) -> FloatArray:
    """AUROC of each row from its counts of images and of positives by rising cell, (rows, cells) each."""
    negative = ones - positive
    below = np.cumsum(negative, axis=1) - negative
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    wins = np.einsum("rc,rc->r", positive, below + 0.5 * negative)
    areas: FloatArray = np.divide(wins, pairs, out=np.full(len(wins), np.nan), where=pairs > 0.5)
    return areas
