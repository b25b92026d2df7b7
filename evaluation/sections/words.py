"""Estimates as cells and as words: a figure with its interval, or why there is none."""

from __future__ import annotations

from ..figures.figure_set import Estimate
from ..page_parts import UNKNOWN, Cell, number, rate_cell, span
from ..per_class import Rate


def estimate_cell(given: Estimate | None, digits: int = 2, *, strong: bool = False) -> Cell:
    """Value and interval; "too few" or "not known" with the reason."""
    if given is None:
        return Cell(UNKNOWN)
    if given.value is None:
        few = given.note.startswith("too few")
        return Cell("too few" if few else UNKNOWN, "" if few else given.note)
    between = span(given.low, given.high, digits)
    # Why an error has no interval at all is said once, under the table.
    why = "" if given.note.startswith("no interval") else given.note
    return Cell(number(given.value, digits), between or why, strong=strong)


def estimate_words(given: Estimate, digits: int = 2) -> str:
    """ "0.84 (0.78–0.90)", "0.84", or "not known"."""
    if given.value is None:
        return UNKNOWN
    between = span(given.low, given.high, digits)
    return f"{number(given.value, digits)} ({between})" if between else number(given.value, digits)


def rate_words(given: Rate) -> str:
    """ "12 of 15 (0.80, 0.55–0.93)"."""
    counts = f"{given.numerator:,} of {given.denominator:,}"
    cell = rate_cell(given)
    if given.value is None or cell.main == "too few":
        return counts
    return f"{counts} ({number(given.value)}, {span(given.low, given.high)})"
