"""Budgets and plans of noise as tables, and epsilon over rounds as bars, for a terminal of any character set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from .console import OUT, one_line

if TYPE_CHECKING:
    from ...evaluation.privacy_model import ReleaseGroup, SitePrivacy
    from ..noise_plan import NoisePlan

WIDTH, ROWS = 40, 20
"""Characters of a bar that reaches the limit; bars of a plot at most."""
EIGHTHS = " ▏▎▍▌▋▊▉"


def spent_table(sites: Sequence[SitePrivacy]) -> Table:
    """What each site spent, and how it trained."""
    unit = sites[0].unit
    table = _table("spent in this study", "site", f"{unit}s", "epsilon", "limit", "left", "delta", "RDP bound")
    for name in ("noise", "drawn", "steps"):
        table.add_column(name, justify="right", no_wrap=True)
    for site in sites:
        table.add_row(
            one_line(site.site),
            "unknown" if site.units is None else str(site.units),
            f"[bold]{_up(site.epsilon)}[/bold]",
            f"{site.limit:g}",
            _down(site.left),
            f"{site.delta:g}",
            _up(site.rdp_epsilon),
            "-" if site.noise_multiplier is None else f"{site.noise_multiplier:.3f}",
            "-" if site.sample_rate is None else _share(site.sample_rate),
            str(site.steps),
        )
    return table


def releases_table(sites: Sequence[SitePrivacy]) -> Table:
    """What each site's releases cost, those that are alike in one row."""
    from ...evaluation.privacy_model import groups_of

    table = _table("what was released", "site", "release", "noise", "drawn", "steps", "epsilon alone", "spent after")
    table.columns[1].justify = "left"
    for site in sites:
        for number, group in enumerate(groups_of(site.releases)):
            table.add_row("" if number else one_line(site.site), *_group_cells(group))
        table.add_section()
    return table


def noise_table(plan: NoisePlan) -> Table:
    """Noise multipliers, and under each what they are of an average step's units."""
    epsilons = list(dict.fromkeys(cell.epsilon for cell in plan.cells))
    heading = (
        f"noise multiplier (noise / expected batch): delta {plan.delta:g}, {plan.rounds} rounds of {plan.epochs} "
        f"{'epoch' if plan.epochs == 1 else 'epochs'}, batches of {plan.batch}"
    )
    table = _table(heading, "units", "drawn", "steps", *(f"epsilon {epsilon:g}" for epsilon in epsilons))
    for units in dict.fromkeys(cell.units for cell in plan.cells):
        row = [cell for cell in plan.cells if cell.units == units]
        table.add_row(
            str(units),
            *((_share(row[0].sample_rate), str(row[0].steps)) if row[0].steps else ("-", "-")),
            *(
                "none" if cell.noise_multiplier is None else f"{cell.noise_multiplier:.3f} ({cell.noise_to_signal:.4f})"
                for cell in row
            ),
        )
    return table


def print_plot(sites: Sequence[SitePrivacy]) -> None:
    """Epsilon by round, of the site that had spent most by then; a full bar is the limit."""
    limit = max(site.limit for site in sites)
    points = _thinned(_largest(sites))
    whose = "" if len(sites) == 1 else f", the largest of {len(sites)} sites"
    OUT.print(Text(f"epsilon by round{whose}; a full bar is the limit, {limit:g}", style="italic"))
    digits = len(str(points[-1][0]))
    for at, spent in points:
        drawn = bar(spent / limit, ascii_only=OUT.options.ascii_only)
        OUT.print(Text(f"{at:>{digits}} |").append(drawn, style="cyan").append(f"| {_up(spent)}"))


def bar(share: float, width: int = WIDTH, *, ascii_only: bool) -> str:
    """A bar of ``width`` characters, filled to a share that is cut to 0..1; in eighths where the terminal has them."""
    share = min(max(share, 0.0), 1.0)
    if ascii_only:
        return ("#" * round(share * width)).ljust(width, ".")
    full, rest = divmod(round(share * width * 8), 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    return table


def _group_cells(group: ReleaseGroup) -> tuple[str, ...]:
    each = " each" if group.count > 1 else ""
    return (
        group.title,
        f"{group.noise_multiplier:.3f}",
        _share(group.sample_rate),
        f"{group.steps}{each}",
        f"{_up(group.cost)}{each}",
        _up(group.epsilon_after),
    )


def _largest(sites: Sequence[SitePrivacy]) -> list[tuple[int, float]]:
    """Round by round the largest epsilon of any site; a site that skipped a round keeps what it had spent."""
    curves = [dict(site.by_round) for site in sites]
    largest, spent = [], [0.0] * len(sites)
    for at in sorted({at for curve in curves for at in curve}):
        spent = [curve.get(at, before) for curve, before in zip(curves, spent, strict=True)]
        largest.append((at, max(spent)))
    return largest


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    if len(points) <= ROWS:
        return list(points)
    return [points[round(index * (len(points) - 1) / (ROWS - 1))] for index in range(ROWS)]


def _share(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def _up(value: float) -> str:
    from ...evaluation.page_parts import MINUS, upper

    return upper(value, 3).replace(MINUS, "-")


def _down(value: float) -> str:
    from ...evaluation.page_parts import MINUS, lower

    return lower(value, 3).replace(MINUS, "-")
