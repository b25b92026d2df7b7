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
from .svg_chart import FEDERATED as FEDERATED
from .svg_chart import INK as INK
from .svg_chart import LOCAL as LOCAL
from .svg_chart import MUTED as MUTED
from .svg_chart import PALE, Chart, room, shortened
from .svg_chart import PAPER as PAPER
from .svg_chart import RULE as RULE
from .svg_chart import ZERO as ZERO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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

    chart = Chart((432, 430), (0, 1), (-0.42, 1.02), left=44, right=16, top=30, bottom=38)
    chart.words((chart.left, 16), "Share that was right", anchor="start", size=13)
    chart.ticks_y([(share / 4, f"{share / 4:g}") for share in range(5)])
    chart.ticks_x([(share / 4, f"{share / 4:g}") for share in range(5)], "Confidence of the model")
    most = max([b.n for b in bins] + [1])
    for b in filled:
        top = -0.42 + 0.25 * b.n / most
        chart.bar(b.low, b.high, top, PALE, FEDERATED)
        chart.words((chart.px((b.low + b.high) / 2), chart.py(top) - 4), f"{b.n:,}", size=11.5)
    chart.frame()
    chart.stroke([(0, 0), (1, 1)], MUTED, width=1, dash="4 3")
    points = [
        (b.mean_confidence, b.accuracy) for b in filled if b.mean_confidence is not None and b.accuracy is not None
    ]
    for b in filled:
        if b.mean_confidence is not None and b.accuracy_low is not None and b.accuracy_high is not None:
            chart.whisker(b.mean_confidence, b.accuracy_low, b.accuracy_high, FEDERATED)
    chart.stroke(points, FEDERATED, width=1.1, opacity=0.4)
    for x, y in points:
        chart.dot(x, y, FEDERATED, radius=4.4)
    return chart.svg(key, title, f"{title}. By bin of confidence: {said or 'no images'}.")


def confusion_figure(key: str, title: str, matrix: IntArray, names: Sequence[str]) -> str:
    """Counts with shares of each true class; dark means a large share, and the numbers are always printed."""
    shares = row_shares(matrix)
    k = len(names)
    said = "; ".join(
        f"of {int(matrix[i].sum())} {names[i]}: "
        + ", ".join(f"{int(matrix[i, j])} called {names[j]}" for j in range(k))
        for i in range(k)
    )

    space = room(names, 190)
    turned = space > 74
    side = 70.0 if k < 6 else 58.0
    under = 20 + (0.46 * space if turned else 0.0)
    chart = Chart(
        (space + 24 + k * side + 40, k * side + under + 34),
        (0, k),
        (k, 0),
        left=space + 24,
        right=40,
        bottom=under + 26,
    )
    chart.words((14, (chart.top + chart.bottom) / 2), "Truth", turn=-90)
    for i in range(k):
        chart.words((chart.left - 8, chart.py(i + 0.5) + 4), shortened(names[i], space), anchor="end")
        at = (chart.px(i + 0.5), chart.bottom + 16)
        if turned:
            chart.words((at[0] + 6, at[1] - 2), shortened(names[i], space), anchor="end", turn=-32)
        else:
            chart.words(at, names[i])
        for j in range(k):
            share = float(np.nan_to_num(shares[i, j]))
            ink = PAPER if share > 0.45 else INK
            chart.cell(j, i, _shade(share))
            middle = (chart.px(j + 0.5), chart.py(i + 0.5))
            chart.words(
                (middle[0], middle[1] + 1), f"{int(matrix[i, j]):,}", colour=ink, bold=i == j, size=16 if k < 6 else 14
            )
            part = "none" if np.isnan(shares[i, j]) else f"{100 * share:.0f} %"
            chart.words((middle[0], middle[1] + 18), part, colour=ink, size=10.5)
    chart.words(((chart.left + chart.right) / 2, chart.height - 5), "Called by the model")
    # On a phone many classes would shrink to nothing: there the figure keeps a size, and its frame scrolls.
    return chart.svg(key, title, f"{title}. {said}.", least=0.74)


def _shade(share: float) -> str:
    """Pale to dark blue; a step is a difference in lightness, so that it shows in grey."""
    stops = ((0xF1, 0xF5, 0xF9), (0x6B, 0xA0, 0xC2), (0x0B, 0x4F, 0x78))
    low, high = (stops[0], stops[1]) if share < 0.5 else (stops[1], stops[2])
    part = 2 * share if share < 0.5 else 2 * share - 1
    return "#" + "".join(f"{round(a + part * (b - a)):02x}" for a, b in zip(low, high, strict=True))


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
