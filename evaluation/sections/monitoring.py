"""What to watch once such a model is looked at regularly: a plan whose limits are this report's own figures."""

from __future__ import annotations

from collections.abc import Iterator

from ..figures.figure_set import FigureSet
from ..page_parts import Cell, Table, number, percent, span
from ..per_class import Rate
from .words import few, several

_FEWEST = 20
"""With fewer images a share is not worth a limit."""


def plan(figures: FigureSet) -> Table:
    """Rows of what, how often, and from where on to stop and look."""
    return Table(
        f"Limits are the ends of this report's own 95 % intervals by {figures.group_key}: beyond them chance no longer "
        "explains the change.",
        ("Watch", "On", "Stop and look when"),
        tuple(_rows(figures)),
        words=True,
    )


def _rows(figures: FigureSet) -> Iterator[tuple[Cell, Cell, Cell]]:
    batch = f"every {max(100, figures.n):,} new images with a confirmed label"
    found = figures.balanced_accuracy
    if found.low is not None:
        yield Cell("Balanced accuracy"), Cell(batch), Cell(f"below {number(found.low)}", f"here {number(found.value)}")
    chance = figures.calibration.chance
    if chance is not None:
        yield (
            Cell("Calibration error", f"one image per {figures.group_key}"),
            Cell(batch, f"and at least {chance.effective_n:,} {several(figures)}"),
            Cell(
                f"above {number(max(chance.bound, chance.observed), 3)}",
                f"chance alone: up to {number(chance.bound, 3)}",
            ),
        )
    slope = figures.calibration.slope
    if slope.low is not None and slope.high is not None:
        yield (
            Cell("Calibration slope"),
            Cell(batch),
            Cell(f"outside {span(slope.low, slope.high)}", f"here {number(slope.value)}"),
        )
    shares = [("Share that it declines to answer", figures.risk.declined)]
    shares += [(f"Share called {row.name}", row.called) for row in figures.per_class]
    for words, share in shares:
        if share is None or share.value is None or figures.n < _FEWEST or few(figures):
            continue
        yield (
            Cell(words, "needs no labels"),
            Cell("every week"),
            Cell(f"outside {_shares(share)}", f"here {percent(share.value)}"),
        )
    yield (
        Cell("Scanner, camera, protocol, referral"),
        Cell("every change"),
        Cell("any of them changes", "then test anew before the answers are looked at"),
    )


def _shares(share: Rate) -> str:
    return f"{100 * (share.low or 0.0):.0f} to {percent(share.high if share.high is not None else 1.0)}"
