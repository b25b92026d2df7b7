"""Tables in the forms in which they may be published, from exact sums: bands of counts, scores between grid points."""

from __future__ import annotations

import math

import numpy as np

from ..arrays import IntArray
from ..reliability import N_BINS
from ..sums.layout import OTHER
from ..sums.ranking import BoundedAuroc
from ..sums.summed import SummedFigures
from .bands import SMALL, Range, band_of, outward
from .published import DecisionRow, Margins, ReliabilityRow, SubgroupRow, SubgroupTable

FEWEST_SITES = 3
"""Sites that must hold a level: fewer are no sum that hides a site."""
BIN_FORMS = (1, 2)
"""Tenths in a bin of the reliability table, finest first."""
SCORE_STEPS = (0.01, 0.05)
"""Grids of Brier score and AUROC, finest first."""


def margins(matrix: IntArray) -> dict[str, Margins]:
    """Margins of a confusion matrix (K, K), finest first, by the name of the form."""
    off = matrix - np.diag(matrix.diagonal())
    wrong = band_of(int(off.sum()))
    missed, false = (tuple(band_of(int(count)) for count in off.sum(axis=axis)) for axis in (1, 0))
    return {"margins": Margins(wrong, missed, false), "margins by true class": Margins(wrong, missed)}


def reliability(
    summed: SummedFigures, merged: int, prefix: str = "", *, means: bool = True
) -> tuple[ReliabilityRow, ...]:
    """Bins of confidence, with their means or without; the prefix ``raw_``: before the temperature, without."""
    names = [f"{prefix}{name}" for name in ("bin_n", "bin_right", "bin_confidence")]
    count, right, confidence = (summed.fields[name].reshape(-1, merged).sum(axis=1) for name in names)
    rows = []
    for b in range(N_BINS // merged):
        hits, misses = band_of(int(right[b])), band_of(int(count[b] - right[b]))
        # A mean over so many images excludes no count: any number of images can have it.
        many = hits.low + misses.low > SMALL and means and not prefix
        mean = round(float(confidence[b] / count[b]), 2) if many else None
        rows.append(ReliabilityRow(*row_edges(b, merged), hits, misses, mean))
    return tuple(rows)


def row_edges(b: int, merged: int) -> tuple[float, float]:
    """Edges of row b of a table with ``merged`` tenths in a row."""
    return b * merged / N_BINS, (b + 1) * merged / N_BINS


def brier(total: float, n: int, step: float) -> Range:
    """Neighbours on the grid around the mean of a sum over n images; the upper one is outside."""
    low = math.floor(total / n / step) * step
    return Range(round(low, 3), round(low + step, 3))


def around(auroc: BoundedAuroc, step: float) -> Range:
    """The interval of the exact figure, outward to the grid; never a single point of it."""
    found = outward(max(0.0, auroc.value - auroc.bound), min(1.0, auroc.value + auroc.bound), step)
    if found.width > step / 2:
        return found
    return Range(round(found.high - step, 3), found.high) if found.high >= step else Range(0.0, step)


def decision(summed: SummedFigures, place: int, threshold: float) -> DecisionRow:
    """True and false positives of every class at the threshold with this number."""
    acted, rightly = (summed.fields[name][:, place] for name in ("acted", "acted_rightly"))
    return DecisionRow(
        threshold,
        tuple(band_of(int(count)) for count in rightly),
        tuple(band_of(int(count)) for count in acted - rightly),
    )


def subgroups(summed: SummedFigures, number: int, column: str) -> SubgroupTable | None:
    """Bands of one column, rare levels under "other"; None where they cannot hide a site."""
    levels = summed.levels[column]
    right, all_ = summed.fields[f"right_{number}"], summed.fields[f"total_{number}"]
    holders = summed.fields[f"holders_{number}"]
    other = levels.index(OTHER)
    moved = [place for place in range(len(levels)) if place != other and 0 < holders[place] < FEWEST_SITES]
    held = max([holders[other], *(holders[place] for place in moved)])
    if (moved or holders[other]) and held < FEWEST_SITES:
        return None
    rows = []
    for place, level in enumerate(levels):
        if place in moved:
            continue
        places = [place, *moved] if place == other else [place]
        hits, every = right[places].sum(axis=0), all_[places].sum(axis=0)
        rows.append(
            SubgroupRow(
                level,
                tuple(band_of(int(count)) for count in hits),
                tuple(band_of(int(count)) for count in every - hits),
                band_of(int(hits.sum())),
                band_of(int((every - hits).sum())),
            )
        )
    return SubgroupTable(column, tuple(rows))
