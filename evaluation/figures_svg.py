"""Figures as inline SVG: same input, same bytes; readable without colour; every one with a title and a description.

Matplotlib is imported on first use, and only Figure objects are made: pyplot's global state is never touched.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import IntArray
from .confusion import row_shares
from .reliability import Bin

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, RULE, PAPER = "#1c2833", "#566573", "#c9d1d8", "#ffffff"
FEDERATED, LOCAL, ZERO = "#0b5c8a", "#b3541e", "#7b8a97"
WIDE = 1.4
"""Scale of figures that fill the column."""
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "wardround",
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.9,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.usetex": False,
    "text.parse_math": False,
}


@dataclass(frozen=True, slots=True)
class Series:
    """One model in the dot plot: value and 95 % interval per site, None where not known."""

    label: str
    values: tuple[float | None, ...]
    lows: tuple[float | None, ...]
    highs: tuple[float | None, ...]


def draw(key: str, title: str, description: str, size: tuple[float, float], paint: Any, scale: float = 1.0) -> str:
    """Run ``paint(figure)`` and return an accessible <svg>; ``key`` keeps identifiers apart on one page."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # A figure that is scaled up starts from smaller type, so that it still reads on a phone, where it is not.
    with matplotlib.rc_context({**_STYLE, "font.size": 8.6 if scale > 1 else 10.5}):
        figure = Figure(figsize=size, facecolor="none", layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return _inline(buffer.getvalue(), key, title, description, scale)


def _inline(document: str, key: str, title: str, description: str, scale: float) -> str:
    body = document[document.index("<svg") :]
    view = re.search(r'viewBox="([^"]+)"', body)
    inner = body[body.index(">") + 1 : body.rindex("</svg>")]
    inner = re.sub(r"<metadata>.*?</metadata>", "", inner, flags=re.DOTALL)
    # Identifiers are unique in a file and must be on a page: matplotlib numbers them the same way in every
    # figure.
    inner = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', inner)
    inner = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", inner)
    inner = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{key}-\1"', inner)
    box = view.group(1) if view else "0 0 100 100"
    width = float(box.split()[2]) * scale
    return (
        f'<svg class="figure" role="img" viewBox="{box}" style="max-width:{width:.0f}pt" '
        f'aria-labelledby="{key}-title {key}-desc" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="{key}-title">{escape(title)}</title><desc id="{key}-desc">{escape(description)}</desc>'
        f"{inner.strip()}</svg>"
    )


def reliability_diagram(key: str, title: str, bins: Sequence[Bin]) -> str:
    """Accuracy against confidence with Wilson bars, and below it how many images each bin holds."""
    filled = [b for b in bins if b.n]
    said = "; ".join(
        f"{b.low:.1f} to {b.high:.1f}: {b.n} images, mean confidence {b.mean_confidence:.2f}, right {b.accuracy:.2f}"
        for b in filled
    )

    def paint(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.1, 1])
        upper.plot([0, 1], [0, 1], color=MUTED, lw=1, dashes=(4, 3))
        x = np.array([b.mean_confidence for b in filled], dtype=float)
        y = np.array([b.accuracy for b in filled], dtype=float)
        low = np.array([b.accuracy_low for b in filled], dtype=float)
        high = np.array([b.accuracy_high for b in filled], dtype=float)
        if len(filled):
            upper.errorbar(
                x,
                y,
                yerr=np.clip([y - low, high - y], 0, None),
                fmt="none",
                ecolor=FEDERATED,
                elinewidth=1.3,
                alpha=0.55,
            )
            upper.plot(x, y, "-", color=FEDERATED, lw=1.1, alpha=0.35)
            upper.plot(x, y, "o", color=FEDERATED, ms=6.5, mec=PAPER, mew=1)
        upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="Share that was right")
        upper.set_yticks([0, 0.25, 0.5, 0.75, 1])
        upper.grid(color=RULE, lw=0.6, alpha=0.6)
        upper.set_axisbelow(True)
        most = max([b.n for b in bins] + [1])
        for b in bins:
            lower.bar(
                (b.low + b.high) / 2,
                b.n,
                width=(b.high - b.low) * 0.86,
                color="#a9c4d6",
                edgecolor=FEDERATED,
                lw=0.7,
            )
            if b.n:
                lower.text((b.low + b.high) / 2, b.n + most * 0.05, str(b.n), ha="center", va="bottom", fontsize=8.5)
        lower.set(ylim=(0, most * 1.38), xlabel="Confidence of the model", ylabel="Images")
        lower.set_yticks([])
        lower.set_xticks([0, 0.25, 0.5, 0.75, 1])

    return draw(key, title, f"{title}. By bin of confidence: {said or 'no images'}.", (4.5, 4.6), paint)


def confusion_figure(key: str, title: str, matrix: IntArray, names: Sequence[str]) -> str:
    """Counts with shares of each true class; dark means a large share, and the numbers are always printed."""
    shares = row_shares(matrix)
    k = len(names)
    said = "; ".join(
        f"of {int(matrix[i].sum())} {names[i]}: "
        + ", ".join(f"{int(matrix[i, j])} called {names[j]}" for j in range(k))
        for i in range(k)
    )

    def paint(figure: Figure) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        axes = figure.subplots()
        blues = LinearSegmentedColormap.from_list("wardround", ["#f4f8fb", "#9fc3dc", "#0b4f78"])
        axes.pcolormesh(np.nan_to_num(shares), cmap=blues, vmin=0, vmax=1, edgecolors=PAPER, linewidth=2)
        for i in range(k):
            for j in range(k):
                share = shares[i, j]
                ink = PAPER if share > 0.62 else INK
                axes.text(
                    j + 0.5,
                    i + 0.44,
                    str(int(matrix[i, j])),
                    ha="center",
                    va="center",
                    color=ink,
                    fontsize=12 if k < 6 else 10,
                    fontweight="bold" if i == j else "normal",
                )
                under = "none" if np.isnan(share) else f"{100 * share:.0f} %"
                axes.text(j + 0.5, i + 0.72, under, ha="center", va="center", color=ink, fontsize=8)
        axes.set(xlim=(0, k), ylim=(k, 0), xlabel="Called by the model", ylabel="Truth")
        long = max(len(name) for name in names) > 9 or k > 5
        axes.set_xticks(
            np.arange(k) + 0.5,
            list(names),
            rotation=32 if long else 0,
            ha="right" if long else "center",
            rotation_mode="anchor" if long else "default",
        )
        axes.set_yticks(np.arange(k) + 0.5, list(names))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    side = max(3.6, 0.62 * k + 1.4)
    return draw(key, title, f"{title}. {said}.", (side + 1.1, side), paint)


def learning_curve(key: str, title: str, rounds: Sequence[int], values: Sequence[float | None]) -> str:
    """A validation figure per round; rounds without one are left out."""
    known = [(r, v) for r, v in zip(rounds, values, strict=True) if v is not None]
    said = ", ".join(f"round {r}: {v:.2f}" for r, v in known) or "no round has a value"

    def paint(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.subplots()
        x, y = [r for r, _ in known], [v for _, v in known]
        axes.plot(x, y, "o-", color=FEDERATED, lw=1.8, ms=5.5, mec=PAPER, mew=1)
        if known:
            axes.annotate(
                f"{y[-1]:.2f}",
                (x[-1], y[-1]),
                xytext=(0, 9),
                textcoords="offset points",
                ha="center",
                fontweight="bold",
                color=FEDERATED,
            )
        axes.set(ylim=(0, 1), xlabel="Round", ylabel="Balanced accuracy, validation")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(axis="y", color=RULE, lw=0.6, alpha=0.7)
        axes.margins(x=0.06)

    return draw(key, title, f"{title}. {said}.", (5.3, 2.3), paint, WIDE)


def dot_plot(key: str, title: str, sites: Sequence[str], series: Sequence[Series]) -> str:
    """Balanced accuracy of several models at every site, with 95 % intervals; markers differ in shape and fill too."""
    looks = [(FEDERATED, "o", FEDERATED), (LOCAL, "s", PAPER), (ZERO, "^", PAPER)]
    said = "; ".join(
        f"{site}: "
        + ", ".join(f"{s.label} {'not known' if s.values[i] is None else format(s.values[i], '.2f')}" for s in series)
        for i, site in enumerate(sites)
    )

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        spread = 0.22
        for rank, (line, (edge, marker, fill)) in enumerate(zip(series, looks, strict=False)):
            first = True
            for i in range(len(sites)):
                value, low, high = line.values[i], line.lows[i], line.highs[i]
                if value is None:
                    continue
                y = i + (rank - (len(series) - 1) / 2) * spread
                if low is not None and high is not None:
                    axes.plot([low, high], [y, y], color=edge, lw=1.6, alpha=0.55, solid_capstyle="butt")
                axes.plot(
                    [value],
                    [y],
                    marker,
                    mfc=fill,
                    mec=edge,
                    ms=7,
                    mew=1.5,
                    label=line.label if first else None,
                    ls="none",
                )
                first = False
        for i in range(len(sites) - 1):
            axes.axhline(i + 0.5, color=RULE, lw=0.6)
        axes.set(xlim=(0, 1), ylim=(len(sites) - 0.5, -0.5), xlabel="Balanced accuracy")
        axes.set_yticks(range(len(sites)), list(sites))
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=RULE, lw=0.6, alpha=0.7)
        axes.set_axisbelow(True)
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside upper left", ncols=3, frameon=False, handletextpad=0.3, columnspacing=1.6)

    return draw(key, title, f"{title}. {said}.", (5.3, 0.44 * len(sites) + 0.95), paint, WIDE)
