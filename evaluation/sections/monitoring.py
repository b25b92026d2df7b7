"""What to watch once such a model is looked at regularly: a plan whose limits are of a new sample of this size."""

from __future__ import annotations

from collections.abc import Iterator

from ..figures.figure_set import Estimate, FigureSet
from ..page_parts import Cell, Table, number, percent, plural, span
from ..per_class import Rate
from .prediction_limits import effective_size, same_size_floor, same_size_limits
from .words import few, several

_FEWEST = 20
"""With fewer images a share is not worth a limit."""
_SMALLEST = 0.0005
"""A bound below it would be printed as 0.000: a model that is nearly certain of everything leaves nothing to watch."""


def plan(figures: FigureSet) -> Table:
    """Rows of what, how often, and from where on to stop and look."""
    return Table(_caption(figures), ("Watch", "On", "Stop and look when"), tuple(_rows(figures)), words=True)


def _caption(figures: FigureSet) -> str:
    if figures.n < _FEWEST or few(figures):
        return "From so few images no limit can be set."
    alike = f"Several images of one {figures.group_key} count for fewer. " if figures.n_groups < figures.n else ""
    return (
        f"95 % prediction limits for a new sample of m = {figures.n:,} images, collected as these n = {figures.n:,} of "
        f"{plural(figures.n_groups, figures.group_key)} were. They allow for chance here and in the new sample. {alike}"
        f"Where a week brings fewer, pool weeks until {figures.n:,} are together: for fewer images the limits are too "
        "narrow. With nothing changed, about 1 sample in 20 still lies outside a pair of limits."
    )


def _rows(figures: FigureSet) -> Iterator[tuple[Cell, Cell, Cell]]:
    if figures.n >= _FEWEST and not few(figures):
        yield from _labelled(figures)
        yield from _unlabelled(figures)
    yield (
        Cell("Scanner, camera, protocol, referral"),
        Cell("every change"),
        Cell("any of them changes", "then test anew before the answers are looked at"),
    )


def _labelled(figures: FigureSet) -> Iterator[tuple[Cell, Cell, Cell]]:
    batch = f"every {figures.n:,} new images with a confirmed label"
    found = figures.balanced_accuracy
    floor = same_size_floor(found, [row.sensitivity for row in figures.per_class])
    if floor is not None:
        yield (
            Cell("Balanced accuracy"),
            Cell(batch, "all classes that are averaged here"),
            Cell(f"below {number(floor)}", f"here {number(found.value)}"),
        )
    chance = figures.calibration.chance
    if chance is not None and chance.bound >= _SMALLEST:
        here = f"here {number(chance.observed, 3)}"
        yield (
            Cell("Calibration error", f"one image per {figures.group_key}"),
            Cell(batch, f"{chance.effective_n:,} {several(figures)}"),
            Cell(
                f"above {number(chance.bound, 3)}",
                f"{here}, already above: calibrate anew first"
                if chance.exceeded
                else f"{here}; a calibrated model lies above in 1 of 20 such samples",
            ),
        )
    slope = figures.calibration.slope
    if slope.low is not None and slope.high is not None:
        yield (
            Cell("Calibration slope", "target 1"),
            Cell(batch, "with an interval of the new slope"),
            Cell("its 95 % interval excludes 1", _slope_here(slope)),
        )


def _slope_here(slope: Estimate) -> str:
    here = f"here {number(slope.value)}, {span(slope.low, slope.high)}"
    within = slope.low is not None and slope.high is not None and slope.low <= 1.0 <= slope.high
    return here if within else f"{here}, already so: calibrate anew first"


def _unlabelled(figures: FigureSet) -> Iterator[tuple[Cell, Cell, Cell]]:
    shares = [("Share that it declines to answer", figures.risk.declined)]
    shares += [(f"Share called {row.name}", row.called) for row in figures.per_class]
    for words, share in shares:
        limits = None if share is None else same_size_limits(share)
        if share is None or share.value is None or limits is None:
            continue
        yield (
            Cell(words, "needs no labels"),
            Cell(f"every {figures.n:,} new images", "pool weeks until so many are together"),
            Cell(f"outside {100 * limits[0]:.0f} to {percent(limits[1])}", _share_here(share)),
        )


def _share_here(share: Rate) -> str:
    size, here = effective_size(share), f"here {percent(share.value or 0.0)}"
    if size is None or size > 0.98 * share.denominator:
        return here
    return f"{here} · {share.denominator:,} count as {size:,.0f}"
