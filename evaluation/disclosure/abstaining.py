"""What declining to answer would do: sums over rows of the reliability table, which reveal nothing beyond it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .bands import Band, Range, total
from .published import ReliabilityRow
from .ranges import share

LEAST = 0.5
"""Thresholds below are not listed: with several classes nobody answers at such a confidence."""


@dataclass(frozen=True, slots=True)
class Answering:
    """Answering only at a confidence of at least ``threshold``.

    Attributes:
        threshold: an edge of the table. answered, wrong: images that are answered, and wrong ones among those.
        coverage: share of images that are answered. risk: share wrong among those; None where none may be.
    """

    threshold: float
    answered: Band
    wrong: Band
    coverage: Range | None
    risk: Range | None


def answering(rows: Sequence[ReliabilityRow]) -> tuple[Answering, ...]:
    """Every edge from :data:`LEAST` up, and 0 for answering always; empty without a table."""
    if not rows:
        return ()
    edges = [0.0, *(row.low for row in rows if row.low >= LEAST)]
    return tuple(_at(rows, edge) for edge in edges)


def _at(rows: Sequence[ReliabilityRow], edge: float) -> Answering:
    kept = [row for row in rows if row.low >= edge]
    right, wrong = total(row.right for row in kept), total(row.wrong for row in kept)
    answered = total((right, wrong))
    declined = total(band for row in rows if row.low < edge for band in (row.right, row.wrong))
    return Answering(edge, answered, wrong, share(answered, declined), share(wrong, right))
