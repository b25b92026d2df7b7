"""One bootstrap by group behind every interval of a report: all figures are taken from the same resamples.

Whole groups (patients, lesions, clusters) are drawn with replacement, as many as there are. A figure that is a function
of sums over images costs one matrix product of how often each group was drawn with the groups' sums. Under 10 groups
there is no figure at all, "too few groups": without an interval a reader could not tell it from chance. Else the rules
of ``intervals.py``: under 40 groups a note that the interval is somewhat too narrow, above 5000 bundles of groups.

References:
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, ch. 13 (percentile interval).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ..arrays import FloatArray, IntArray, group_codes
from ..intervals import (
    BLOCK_CELLS,
    COMFORTABLE_GROUPS,
    FEWEST_GROUPS,
    RESAMPLES,
    TOO_FEW,
    UNDER_COVERS,
    clusters,
    draw_weights,
    percentiles,
)
from .figure_set import Estimate

NO_IMAGES = "no images"


@dataclass(frozen=True, slots=True)
class GroupBootstrap:
    """Resamples of the groups of one set of images.

    Attributes:
        n: images. n_groups: groups. groups: (n,) group of each image, 0.. without a gap, in order of first appearance.
        codes: (n,) what is resampled of each image: its group, or a bundle of groups; 0.. without a gap.
        weights: (resamples, clusters) how often each was drawn; (0, clusters) where there are too few groups.
    """

    n: int
    n_groups: int
    groups: IntArray
    codes: IntArray
    weights: FloatArray

    @property
    def ready(self) -> bool:
        """Whether there are groups enough for an interval."""
        return len(self.weights) > 0

    def sums(self, columns: FloatArray) -> FloatArray:
        """Sum of each column of (n, p) over every resample: (resamples, p)."""
        clustered = [
            np.bincount(self.codes, weights=columns[:, j], minlength=self.weights.shape[1])
            for j in range(columns.shape[1])
        ]
        total: FloatArray = self.weights @ np.stack(clustered, axis=1)
        return total

    def cell_sums(self, cells: IntArray, n_cells: int, values: FloatArray | None = None) -> FloatArray:
        """Sum of ``values`` (n,), or of ones, in each cell over every resample: (resamples, n_cells).

        Args:
            cells: (n,) int64 in [0, n_cells).
        """
        total: FloatArray = _product(self.weights, self._table(cells, n_cells, values))
        return total

    def of_cells(
        self,
        cells: IntArray,
        n_cells: int,
        values: FloatArray,
        figure: Callable[[FloatArray, FloatArray], FloatArray],
    ) -> FloatArray:
        """A figure of the sums of cells, over every resample: (resamples,). Blocks of resamples bound the memory.

        Args:
            figure: given the sum of ones and of ``values`` (n,) in each cell, (rows, n_cells) each, the figure (rows,).
        """
        ones, weighed = self._table(cells, n_cells, None), self._table(cells, n_cells, values)
        rows = max(1, BLOCK_CELLS // max(1, n_cells))
        blocks = [self.weights[at : at + rows] for at in range(0, len(self.weights), rows)]
        return np.concatenate([figure(_product(block, ones), _product(block, weighed)) for block in blocks])

    def means(self, values: FloatArray) -> FloatArray:
        """Mean of ``values`` (n,) over the images of every resample: (resamples,)."""
        sums = self.sums(np.stack([values, np.ones(self.n)], axis=1))
        shares: FloatArray = sums[:, 0] / sums[:, 1]
        return shares

    def estimate(self, value: float | None, draws: Callable[[], FloatArray], note: str = "") -> Estimate:
        """``value`` with its percentile interval, or none of both where there are too few groups.

        Args:
            draws: gives the figure for every resample, nan where it has none.
            note: why there is no value, where there is none.
        """
        if value is None:
            return self.bare(None, note)
        if not self.ready:
            return self.bare(None, TOO_FEW)
        found = percentiles(draws(), self.n_groups)
        return Estimate(value, found.low, found.high, self.n, self.n_groups, found.note)

    def bare(self, value: float | None, note: str) -> Estimate:
        """``value`` without an interval, and why; no value either where there are too few groups."""
        if value is not None and not self.ready:
            value, note = None, TOO_FEW
        return Estimate(value, None, None, self.n, self.n_groups, note)

    def count_groups(self, rows: NDArray[np.bool_]) -> int:
        """Groups that have an image among ``rows`` (n,)."""
        return int(np.count_nonzero(np.bincount(self.groups[rows])))

    def note(self) -> str:
        """What is to be said of every interval from these groups."""
        if not self.ready:
            return TOO_FEW
        return UNDER_COVERS if self.n_groups < COMFORTABLE_GROUPS else ""

    def _table(self, cells: IntArray, n_cells: int, values: FloatArray | None) -> FloatArray | csr_matrix:
        """Sum in each cell of each cluster: (clusters, n_cells), sparse where most of it is empty."""
        held = np.ones(self.n) if values is None else values
        shape = (self.weights.shape[1], n_cells)
        # A dense product is about twenty times as fast per entry as a sparse one, which has an entry per image.
        if shape[0] * n_cells <= 20 * self.n:
            flat = np.bincount(self.codes * n_cells + cells, weights=held, minlength=shape[0] * n_cells)
            return flat.reshape(shape).astype(np.float64)
        table = csr_matrix((held, (self.codes, cells)), shape=shape)  # adds up what falls on one place
        table.eliminate_zeros()
        return table


def _product(weights: FloatArray, table: FloatArray | csr_matrix) -> FloatArray:
    total: FloatArray = np.asarray(weights @ table, dtype=np.float64)
    return total


def group_bootstrap(groups: IntArray, generator: np.random.Generator, resamples: int | None = None) -> GroupBootstrap:
    """Draw the resamples; the same generator and groups give those of ``intervals.balanced_accuracy_interval``.

    Args:
        groups: (n,) group of each image. resamples: draws; 1000 where None.
    """
    n = len(groups)
    codes = _numbered(groups)
    n_groups = int(codes.max()) + 1 if n else 0
    if n_groups < FEWEST_GROUPS:
        return GroupBootstrap(n, n_groups, codes, codes, np.zeros((0, n_groups)))
    drawn = clusters(codes, generator)
    weights = draw_weights(int(drawn.max()) + 1, RESAMPLES if resamples is None else resamples, generator)
    return GroupBootstrap(n, n_groups, codes, drawn, weights)


def _numbered(groups: IntArray) -> IntArray:
    """``arrays.group_codes`` without a loop over images where group numbers are not far apart."""
    n = len(groups)
    if n == 0 or int(groups.min()) < 0 or int(groups.max()) > 10 * n:
        return group_codes(groups.tolist(), n)
    first = np.full(int(groups.max()) + 1, n, dtype=np.int64)
    first[groups[::-1]] = np.arange(n - 1, -1, -1)  # the last writer, which is the first image, remains
    code = np.empty(len(first), dtype=np.int64)
    code[np.argsort(first, kind="stable")] = np.arange(len(first))
    numbered: IntArray = code[groups]
    return numbered
