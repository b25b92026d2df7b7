"""Bands: what is published of a count instead of the count.

The bands are 0, 1-10, 11-15, 16-20, 21-25 and so on. They do not depend on data, and each count lies in one of them. A
count from 1 to 10 is therefore never told from nine others, and the width of five above 10 keeps the difference of two
reports from being exact. Zero may be printed: it counts nobody.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import EvaluationError

SMALL = 10
"""Counts from 1 to this are hidden."""
WIDTH = 5
"""Counts in a band above."""


class InvalidBandError(EvaluationError):
    """Two numbers that are not the ends of a band, or a count that is negative."""


@dataclass(frozen=True, slots=True)
class Band:
    """A count that is known to lie between two numbers.

    Attributes:
        low, high: least and largest possible count, both inside.

    Raises:
        InvalidBandError: when ``low`` is negative or above ``high``.
    """

    low: int
    high: int

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise InvalidBandError(f"a band from {self.low} to {self.high}", remedy="Restore the file from the run")

    @property
    def hidden(self) -> bool:
        """Whether the count is a small cell."""
        return self.low == 1 and self.high == SMALL

    @property
    def text(self) -> str:
        """ "0", "1-10", "1,011-1,015"."""
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,}-{self.high:,}"


def band_of(count: int) -> Band:
    """The band of a count.

    Raises:
        InvalidBandError: when the count is negative.

    >>> [band_of(count).text for count in (0, 1, 10, 11, 15, 16, 1011)]
    ['0', '1-10', '1-10', '11-15', '11-15', '16-20', '1,011-1,015']
    """
    if count < 0:
        raise InvalidBandError(f"a count of {count}")
    if count <= SMALL:
        return Band(min(count, 1), SMALL if count else 0)
    low = (count - SMALL - 1) // WIDTH * WIDTH + SMALL + 1
    return Band(low, low + WIDTH - 1)


def total(bands: Iterable[Band]) -> Band:
    """What the bands of some counts say of their sum: this is printed for a margin, never the margin's own band.

    >>> total([band_of(0), band_of(3), band_of(12)]).text
    '12-25'
    """
    given = list(bands)
    return Band(sum(band.low for band in given), sum(band.high for band in given))


@dataclass(frozen=True, slots=True)
class Range:
    """A figure that is known to lie between two numbers.

    Attributes:
        low, high: bounds, both inside. They are computed from published material, or are neighbours on a fixed grid.
    """

    low: float
    high: float

    @property
    def middle(self) -> float:
        """Half way between the bounds."""
        return (self.low + self.high) / 2

    @property
    def width(self) -> float:
        """Distance of the bounds."""
        return self.high - self.low


def outward(low: float, high: float, step: float = 0.001) -> Range:
    """The bounds moved away from each other to multiples of ``step``; what is an exact multiple stays."""
    # A tenth of a billionth of a step is rounding of the division, not a distance.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, round(-math.log10(step))) + 1
    return Range(round(first * step, digits), round(last * step, digits))
