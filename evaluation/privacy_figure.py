"""Epsilon over rounds, drawn: a step up for every round, and the limit as a dashed line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .comparison_figures import GHOST, LOOKS
from .figures_svg import INK, MUTED, PAPER, RULE, WIDE, draw
from .privacy_model import SitePrivacy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SAID = 8
"""Rounds that the description of a curve names at most, first and last among them."""


def epsilon_curve(key: str, title: str, sites: Sequence[SitePrivacy]) -> str:
    """Epsilon after every round at each site, and the limits.

    More sites than there are looks are drawn in grey, but for those that spent most and least.

    Args:
        key: unique on the page. title: for those who cannot see the drawing.
        sites: at least one.
    """
    said = "; ".join(_said(site) for site in sites)
    shown = sites if len(sites) <= len(LOOKS) else _extremes(sites)

    def paint(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.subplots()
        for site in sites:
            if site not in shown:
                axes.plot(*_points(site), color=GHOST, lw=1.1, zorder=1)
        for site, (colour, dashes, marker) in zip(shown, LOOKS, strict=False):
            x, y = _points(site)
            # Noise is chosen so that sites spend alike: markers shrink from line to line, so that none hides another.
            size = 7.5 - 0.9 * len(axes.get_lines())
            few = max(1, len(x) // 20)
            looks: dict[str, Any] = {
                "mfc": PAPER,
                "mec": colour,
                "mew": 1.4,
                "ms": max(size, 3.5),
                "markevery": few,
                "clip_on": False,
            }
            axes.plot(x, y, color=colour, ls=dashes, lw=1.6, marker=marker, label=site.site, zorder=3, **looks)
        last = max(x for site in sites for x, _ in site.by_round)
        limits = sorted({site.limit for site in sites})
        for limit in limits:
            _limit(axes, limit, f"limit {limit:g}")
        top = max([*limits, *(site.epsilon for site in sites)])
        axes.set(ylim=(0, 1.16 * top), xlim=(-0.02 * max(last, 1), 1.02 * max(last, 1)))
        axes.set(xlabel="Rounds done", ylabel="Epsilon spent")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(axis="y", color=RULE, lw=0.6, alpha=0.7)
        axes.set_axisbelow(True)
        figure.legend(loc="outside upper left", ncols=columns, frameon=False, handletextpad=0.5, columnspacing=1.6)

    longest = max(len(site.site) for site in shown)
    rows = math.ceil(len(shown) / (4 if longest <= 10 else 2 if longest <= 24 else 1))
    columns = math.ceil(len(shown) / rows)
    return draw(key, title, f"{title}. {said}.", (5.3, 2.4 + 0.17 * rows), paint, WIDE)


def _limit(axes: Axes, value: float, label: str) -> None:
    axes.axhline(value, color=INK, lw=1.1, dashes=(5, 3), zorder=2)
    axes.annotate(
        label,
        (0, value),
        xycoords=("axes fraction", "data"),
        xytext=(4, 3),
        textcoords="offset points",
        color=MUTED,
        fontweight="bold",
    )


def _points(site: SitePrivacy) -> tuple[list[int], list[float]]:
    return [at for at, _ in site.by_round], [spent for _, spent in site.by_round]


def _extremes(sites: Sequence[SitePrivacy]) -> list[SitePrivacy]:
    ranked = sorted(sites, key=lambda site: site.epsilon)
    return [ranked[-1], ranked[0]]


def _said(site: SitePrivacy) -> str:
    points = site.by_round
    kept = sorted({round(index * (len(points) - 1) / (_SAID - 1)) for index in range(_SAID)})
    spent = [f"{points[index][1]:.2f} {_when(points[index][0])}" for index in kept]
    return f"{site.site}, limit {site.limit:g}: {', '.join(spent)}"


def _when(at: int) -> str:
    return f"after round {at}" if at else "before the first round"
