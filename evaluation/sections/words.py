"""Estimates as cells and as words: a figure with its interval, or why there is none."""

from __future__ import annotations

from ..figures.figure_set import Estimate, FigureSet
from ..intervals import FEWEST_GROUPS
from ..page_parts import UNKNOWN, Cell, number, plural, rate_cell, span
from ..per_class import Rate

TOO_FEW = "too few"
NO_SPREAD = "no spread over resamples"
"""In place of an interval without width: all answers were right, and so they are in every resample."""
_ROUNDING = 1e-9


def several(figures: FigureSet) -> str:
    """ "patients", "lesions", "images"."""
    return plural(2, figures.group_key).removeprefix("2 ")


def few(figures: FigureSet) -> bool:
    """Whether there are too few groups for any figure; counts hold all the same."""
    return figures.n_groups < FEWEST_GROUPS


def needed(figures: FigureSet) -> str:
    """ "a figure needs at least 10 patients"."""
    return f"a figure needs at least {FEWEST_GROUPS} {several(figures)}"


def wilson_words(figures: FigureSet) -> str:
    """ "95 % Wilson intervals by patient", or without "by" where every image is its own group."""
    by = f" by {figures.group_key}" if figures.n > figures.n_groups else ""
    return f"95 % Wilson intervals{by}"


def share_cell(given: Rate, figures: FigureSet) -> Cell:
    """A proportion of ``figures`` with its interval; counts alone where it, or the figures, are from too few."""
    if few(figures) and given.value is not None:
        return Cell(TOO_FEW, f"{given.numerator:,} of {given.denominator:,}")
    return rate_cell(given)


def no_spread(low: float | None, high: float | None) -> bool:
    """Whether a bootstrap interval has no width, so that it says nothing of what chance may have done."""
    return low is not None and high is not None and high - low < _ROUNDING


def between_words(low: float | None, high: float | None, digits: int = 2) -> str:
    """ "0.70 to 0.85"; that resamples do not differ; or empty where there is no interval."""
    return NO_SPREAD if no_spread(low, high) else span(low, high, digits)


def value_words(given: Estimate, digits: int = 2) -> str:
    """The value alone: "0.84", "too few", or "not known"."""
    return estimate_cell(given, digits).main


def estimate_cell(given: Estimate | None, digits: int = 2, *, strong: bool = False) -> Cell:
    """Value and interval; "too few" or "not known" with the reason."""
    if given is None:
        return Cell(UNKNOWN)
    if given.value is None:
        if not given.note.startswith(TOO_FEW):
            return Cell(UNKNOWN, given.note)
        return Cell(TOO_FEW)
    between = between_words(given.low, given.high, digits)
    # Why an error has no interval at all is said once, under the table.
    why = "" if given.note.startswith("no interval") else given.note
    return Cell(number(given.value, digits), between or why, strong=strong)


def estimate_words(given: Estimate, digits: int = 2) -> str:
    """ "0.84 (0.78–0.90)", "0.84", "too few", or "not known"."""
    if given.value is None:
        return value_words(given, digits)
    between = between_words(given.low, given.high, digits)
    return f"{number(given.value, digits)} ({between})" if between else number(given.value, digits)


def rate_words(given: Rate) -> str:
    """ "12 of 15 (0.80, 0.55–0.93)"."""
    counts = f"{given.numerator:,} of {given.denominator:,}"
    cell = rate_cell(given)
    if given.value is None or cell.main == "too few":
        return counts
    return f"{counts} ({number(given.value)}, {span(given.low, given.high)})"
