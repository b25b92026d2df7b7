"""Whether two values remain for every small count: a function of published material alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..arrays import FloatArray, IntArray
from .aims import add_aims
from .bands import SMALL
from .confidence_links import reach_of
from .constraints import Link, system_of
from .published import Published
from .solver import Search, UndecidedError
from .system import System
from .witnesses import Scores, kinds_of, possible


def is_safe(published: Published, previous: Published | None = None, growth: int | None = None) -> bool:
    """Whether two values remain for every small count; a function of published material and of ``growth`` alone.

    False too where the solver cannot decide, or finds no images at all that could have been published so.
    """
    try:
        if previous is None:
            return _pinned(published, None, "apart", None) == ""
        same_model = published.facts.provenance.model_hash == previous.facts.provenance.model_hash
        link: Link = "same model" if same_model else "same images"
        known: Sequence[int | None] = (growth,) if growth is not None else (None, *range(-SMALL, SMALL + 1))
        linked = [_pinned(published, previous, link, each) for each in known]
        # What a link leaves possible is possible without it too. A link that no images fulfil is not what happened:
        # where all are of that kind, a reader knows nothing but that there are two reports.
        return not any(linked) and ("" in linked or _pinned(published, previous, "apart", None) == "")
    except UndecidedError:
        return False


def _pinned(published: Published, previous: Published | None, link: Link, growth: int | None) -> str | None:
    system = system_of(published, previous, link, growth)
    reports = (published,) if previous is None else (published, previous)
    images = [_Images(report, system, place) for place, report in enumerate(reports)]
    for place, report in enumerate(reports):
        add_aims(system, report, place)

    def accepts(solution: FloatArray) -> bool:
        return all(each.scored(solution) for each in images)

    return Search(system, accepts).pinned()


class _Images:
    """Images with the counts of a solution, for one report."""

    def __init__(self, report: Published, system: System, place: int) -> None:
        self._key, self._k, edges = system.keys[place], report.n_classes, system.edges
        self._scores = Scores(
            report.brier,
            report.macro_auroc,
            report.raw_brier,
            tuple(row.mean_confidence for row in report.reliability),
            report.temperature or 1.0,
        )
        middles = [(edges[s] + edges[s + 1]) / 2 for s in range(len(edges) - 1)]
        rows = [next((r for r, row in enumerate(report.reliability) if row.low <= c < row.high), 0) for c in middles]
        self._places = [(row, edges[s], edges[s + 1]) for s, row in enumerate(rows)]
        self._reach = reach_of(report, edges) if report.raw_reliability else None
        self._called = bool(report.decisions)

    def scored(self, solution: FloatArray) -> bool:
        """Whether such images can have the report's Brier scores and AUROC."""
        if self._scores.brier is None and self._scores.auroc is None and self._scores.raw_brier is None:
            return True
        key, k, size = self._key, self._k, range(len(self._places))
        cells: IntArray = np.array([[solution[key["cell", i, j]] for j in range(k)] for i in range(k)], dtype=np.int64)
        parts = {True: "hits", False: "misses"}
        kinds = kinds_of(
            cells,
            {right: [int(solution[key[part, s]]) for s in size] for right, part in parts.items()},
            self._places,
            {
                right: np.array([[solution[key["called", part, c, s]] for s in size] for c in range(k)], dtype=np.int64)
                for right, part in parts.items()
            }
            if self._called
            else None,
            {
                right: {pair: int(solution[key[("raw", part, *pair)]]) for pair in self._reach}
                for right, part in parts.items()
            }
            if self._reach is not None
            else None,
            self._reach,
        )
        return possible(kinds, k, self._scores)
