"""What to watch once such a model is looked at regularly: a short plan whose limits come from this report's own "
"figures."""

from __future__ import annotations

from collections.abc import Iterator

from ..figures.figure_set import FigureSet
from ..intervals import wilson
from ..page_parts import Cell, Table, number, percent, span

_FEWEST = 20
"""With fewer images a share is not worth a limit."""


def plan(figures: FigureSet) -> Table:
    """Rows of what, how often, and from where on to stop and look."""
    return Table(
        "Limits are the ends of this report's own 95 % intervals: beyond them chance no longer explains the change.",
        ("Watch", "On", "Stop and look when"),
        tuple(_rows(figures)),
        words=True,
    )


def _rows(figures: FigureSet) -> Iterator[tuple[Cell, Cell, Cell]]:
    several = f"{figures.group_key}s" if not figures.group_key.endswith("y") else f"{figures.group_key[:-1]}ies"
    batch = f"every {max(100, figures.n):,} new images with a confirmed label"
    found = figures.balanced_accuracy
    if found.low is not None:
        yield Cell("Balanced accuracy"), Cell(batch), Cell(f"below {number(found.low)}", f"here {number(found.value)}")
    chance = figures.calibration.chance
    if chance is not None:
        yield (
            Cell("Calibration error", f"one image per {figures.group_key}"),
            Cell(batch, f"and at least {chance.effective_n:,} {several}"),
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
    chosen = figures.risk.chosen
    if chosen is not None and figures.n >= _FEWEST:
        bounds = wilson(figures.n - chosen.answered, figures.n)
        if bounds is not None:
            yield (
                Cell("Share that it declines to answer", "needs no labels"),
                Cell("every week"),
                Cell(f"outside {_shares(bounds)}", f"here {percent(1 - chosen.coverage)}"),
            )
    if figures.n >= _FEWEST:
        for row in figures.per_class:
            bounds = wilson(row.predicted, figures.n)
            if bounds is not None:
                yield (
                    Cell(f"Share called {row.name}", "needs no labels"),
                    Cell("every week"),
                    Cell(f"outside {_shares(bounds)}", f"here {percent(row.predicted / figures.n)}"),
                )
    yield (
        Cell("Scanner, camera, protocol, referral"),
        Cell("every change"),
        Cell("any of them changes", "then test anew before the answers are looked at"),
    )


def _shares(bounds: tuple[float, float]) -> str:
    return f"{100 * bounds[0]:.0f} to {percent(bounds[1])}"
