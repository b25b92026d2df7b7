"""Figures as ranges over everything that the published bands allow.

A figure here is a function of bands, so it reveals nothing beyond them. Each range is tight for counts that are free
within their bands: accuracy, sensitivity and the like, balanced accuracy and F1 grow with every right count and fall
with every wrong one, so their extremes lie at the ends of bands, for all classes at once. Where other published tables
narrow the counts, the range is still true and merely wider than it could be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from .bands import Band, Range, outward, total
from .published import Margins, ReliabilityRow

WIDEST = 0.2
"""A range that is wider carries no middle: "too few"."""
Matrix = Sequence[Sequence[Band]]


@dataclass(frozen=True, slots=True)
class ClassRanges:
    """One class against all others; None where the denominator may be 0.

    Attributes:
        n: images of the class. called: images that the model called so.
    """

    n: Band
    called: Band
    sensitivity: Range | None
    specificity: Range | None
    ppv: Range | None
    npv: Range | None
    f1: Range | None


def share(part: Band, rest: Band) -> Range | None:
    """part / (part + rest), counts free within their bands; None where both may be 0."""
    if part.low + rest.low == 0:
        return None
    return outward(part.low / (part.low + rest.high), part.high / (part.high + rest.low))


def images(matrix: Matrix, margins: Margins | None = None) -> Band:
    """Images in the matrix."""
    return total((right(matrix), wrong(matrix, margins)))


def right(matrix: Matrix) -> Band:
    """Images on the diagonal."""
    return total(row[k] for k, row in enumerate(matrix))


def both(first: Band, second: Band | None) -> Band:
    """A count that lies in two bands; they overlap, because it does."""
    return first if second is None else Band(max(first.low, second.low), min(first.high, second.high))


def wrong(matrix: Matrix, margins: Margins | None = None) -> Band:
    """Images off the diagonal, as far as cells and margins tell."""
    cells = total(band for i, row in enumerate(matrix) for j, band in enumerate(row) if i != j)
    if margins is None:
        return cells
    found = both(both(cells, margins.wrong), total(margins.missed))
    return both(found, total(margins.false)) if margins.false else found


def accuracy(matrix: Matrix, margins: Margins | None = None) -> Range | None:
    """Share of images that are on the diagonal."""
    return share(right(matrix), wrong(matrix, margins))


def missed(matrix: Matrix, k: int, margins: Margins | None = None) -> Band:
    """Images of class k that were called otherwise."""
    cells = total(band for j, band in enumerate(matrix[k]) if j != k)
    return both(cells, margins.missed[k] if margins else None)


def class_ranges(matrix: Matrix, k: int, margins: Margins | None = None) -> ClassRanges:
    """Everything of one class."""
    size = range(len(matrix))
    hit = matrix[k][k]
    lost = missed(matrix, k, margins)
    false = both(total(matrix[i][k] for i in size if i != k), margins.false[k] if margins and margins.false else None)
    others = total(matrix[i][j] for i in size for j in size if k not in (i, j))
    # F1 = 2 TP / (2 TP + FN + FP).
    twice, errors = Band(2 * hit.low, 2 * hit.high), total([lost, false])
    return ClassRanges(
        n=total([hit, lost]),
        called=total([hit, false]),
        sensitivity=share(hit, lost),
        specificity=share(others, false),
        ppv=share(hit, false),
        npv=share(others, lost),
        f1=share(twice, errors) if hit.low + lost.low else None,
    )


def present(matrix: Matrix) -> tuple[int, ...]:
    """Classes that occur. Bands tell: a band that starts at 0 holds nothing else."""
    return tuple(k for k, row in enumerate(matrix) if any(band.low for band in row))


def _mean(given: Sequence[Range | None]) -> Range | None:
    known = [value for value in given if value is not None]
    if len(known) < 2 or len(known) < len(given):
        return None
    return outward(sum(v.low for v in known) / len(known), sum(v.high for v in known) / len(known))


def balanced_accuracy(matrix: Matrix, margins: Margins | None = None) -> Range | None:
    """Mean sensitivity over the classes present; None with fewer than two."""
    return _mean([class_ranges(matrix, k, margins).sensitivity for k in present(matrix)])


def macro_f1(matrix: Matrix, margins: Margins | None = None) -> Range | None:
    """Mean F1 over the classes present; None with fewer than two."""
    return _mean([class_ranges(matrix, k, margins).f1 for k in present(matrix)])


def confidence_of(row: ReliabilityRow) -> tuple[float, float]:
    """Between what the mean confidence of a bin lies."""
    if row.mean_confidence is None:
        return row.low, row.high
    return max(row.low, row.mean_confidence - 0.005), min(row.high, row.mean_confidence + 0.005)


def calibration_error(rows: Sequence[ReliabilityRow]) -> Range | None:
    """Top-label calibration error: sum over bins of abs(right - confidence) over all images.

    The extreme of a ratio of sums is the root of a function that is a sum over bins (Dinkelbach 1967), so each bin is
    tried on its own, over all counts in its bands; the root is found by halving.
    """
    tried: list[list[tuple[float, float, int]]] = []
    for row in rows:
        low, high = confidence_of(row)
        here = []
        for hits, misses in product(_values(row.right), _values(row.wrong)):
            n = hits + misses
            nearest = max(0.0, hits - high * n, low * n - hits)
            here.append((nearest, max(abs(hits - low * n), abs(hits - high * n)), n))
        tried.append(here)
    if not sum(row.right.low + row.wrong.low for row in rows):
        return None

    def root(largest: bool) -> float:
        lower, upper = 0.0, 1.0
        for _ in range(40):
            middle = (lower + upper) / 2
            if largest:
                value = sum(max(most - middle * n for _, most, n in here) for here in tried)
            else:
                value = sum(min(least - middle * n for least, _, n in here) for here in tried)
            lower, upper = (middle, upper) if value > 0 else (lower, middle)
        return lower if not largest else upper

    return outward(max(0.0, root(False) - 1e-9), min(1.0, root(True) + 1e-9))


def _values(band: Band) -> range:
    return range(band.low, band.high + 1)


def shown(value: Range | None) -> float | None:
    """The middle of a range, where it says something: a figure of two decimals."""
    return None if value is None or value.width > WIDEST else round(value.middle, 2)
