"""Whole numbers within bounds, rows that bind them, and the sums of them that must not be known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scipy.sparse import csr_matrix

from ..reliability import N_BINS
from .bands import Band

MANY = 10**6
"""Stands for "no upper bound"; larger than any test set that is published with bands."""
Terms = dict[int, float]


@dataclass
class System:
    """Whole numbers x with low <= x <= high and row_low <= A x <= row_high.

    Attributes:
        low, high: of each unknown. rows: (terms, least, most) of each row of A.
        watched: name and terms of every count that must not be known when it is small.
        keys: the unknowns of each report, by what they count.
        edges: of the segments of confidence, 0 to 1; the same for all reports.
        aims: rows that solutions which are worth trying fulfil; they exclude nothing.
    """

    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    rows: list[tuple[Terms, float, float]] = field(default_factory=list)
    watched: list[tuple[str, Terms]] = field(default_factory=list)
    keys: list[dict[tuple[object, ...], int]] = field(default_factory=list)
    edges: tuple[float, ...] = tuple(b / N_BINS for b in range(N_BINS + 1))
    aims: list[tuple[Terms, float, float]] = field(default_factory=list)

    def unknown(self, band: Band | None) -> int:
        """A new unknown within a band, or with any count."""
        self.low.append(float(band.low if band else 0))
        self.high.append(float(band.high if band else MANY))
        return len(self.low) - 1

    def row(self, terms: Mapping[int, float], least: float, most: float) -> None:
        """least <= sum of factor times unknown <= most."""
        self.rows.append((dict(terms), least, most))

    def watch(self, name: str, terms: Mapping[int, float]) -> None:
        """Guard a count, or a difference of two."""
        self.watched.append((name, dict(terms)))

    def matrix(self, given: Sequence[Terms]) -> csr_matrix:
        """Terms as a sparse matrix, a row each, a column an unknown."""
        where = [(i, j, factor) for i, terms in enumerate(given) for j, factor in terms.items()]
        rows, columns, factors = zip(*where, strict=True) if where else ((), (), ())
        return csr_matrix((factors, (rows, columns)), shape=(len(given), len(self.low)))


def times(terms: Mapping[int, float], factor: float) -> Terms:
    """Every factor multiplied."""
    return {name: value * factor for name, value in terms.items()}


def plus(first: Mapping[int, float], second: Mapping[int, float]) -> Terms:
    """The sum of two sums."""
    found = dict(first)
    for place, factor in second.items():
        found[place] = found.get(place, 0.0) + factor
    return {place: factor for place, factor in found.items() if factor}
