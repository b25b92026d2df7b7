"""Drawings of a comparison: means with their spread, and learning curves as small multiples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .comparison import Mean
from .figures_svg import FEDERATED, INK, LOCAL, PAPER, RULE, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, darkened to be seen on white; line and marker differ as well, so that grey is enough.
LOOKS = (
    (FEDERATED, "-", "o"),
    (LOCAL, (0, (5, 2)), "s"),
    ("#00735a", (0, (1.5, 1.5)), "^"),
    ("#8a3a75", (0, (6, 2, 1.5, 2)), "D"),
    ("#4a4a4a", (0, (3, 1.5)), "v"),
    ("#8f6a00", (0, (8, 2)), "P"),
)
GHOST = "#b9c2c9"


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: value over seeds, round by round."""

    label: str
    rounds: tuple[int, ...]
    values: tuple[Mean, ...]

    def known(self) -> list[tuple[int, float, float]]:
        """(round, mean, standard deviation or 0) where there is a value."""
        return [
            (at, value.mean, value.sd or 0.0)
            for at, value in zip(self.rounds, self.values, strict=True)
            if value.mean is not None
        ]


def curve_panel(
    key: str,
    title: str,
    lines: Sequence[Line],
    context: Sequence[Line],
    ylabel: str,
    limits: tuple[float, float],
    last_round: int,
) -> str:
    """One panel: the lines with their band of one standard deviation, and in light grey those of other panels.

    Args:
        key: unique on the page. title: of the panel, for those who cannot see it.
        lines: at most six. context: any number.
        ylabel: of the axis. limits: of the axis, the same in all panels that are compared.
        last_round: where the axis ends.
    """
    ends = []
    for line in lines:
        known = line.known()
        name = f"{line.label}: " if len(lines) > 1 else ""
        ends.append(
            f"{name}round {known[0][0]} {known[0][1]:.2f}, round {known[-1][0]} {known[-1][1]:.2f}"
            if known
            else f"{name}no value"
        )

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for line in context:
            known = line.known()
            axes.plot([k[0] for k in known], [k[1] for k in known], color=GHOST, lw=0.9, zorder=1)
        for line, (colour, dashes, marker) in zip(lines, LOOKS, strict=False):
            _curve(axes, line, colour, dashes, marker, alone=len(lines) == 1)
        axes.set(xlim=(0.5, last_round + 0.5), ylim=limits, xlabel="Round", ylabel=ylabel)
        _integers(axes)
        axes.grid(axis="y", color=RULE, lw=0.6, alpha=0.7)
        axes.set_axisbelow(True)
        if len(lines) > 1:
            figure.legend(loc="outside upper left", ncols=3, frameon=False, handlelength=2.6, columnspacing=1.4)

    return draw(key, title, f"{title}. {'; '.join(ends)}.", (3.5, 2.4) if len(lines) == 1 else (4.8, 3.2), paint)


def _curve(axes: Axes, line: Line, colour: str, dashes: object, marker: str, *, alone: bool) -> None:
    known = line.known()
    x, y = [k[0] for k in known], [k[1] for k in known]
    if any(spread > 0 for _, _, spread in known):
        axes.fill_between(
            x,
            [mean - spread for _, mean, spread in known],
            [mean + spread for _, mean, spread in known],
            color=colour,
            alpha=0.16 if alone else 0.09,
            lw=0,
            zorder=2,
        )
    every = max(1, len(x) // 8)
    axes.plot(
        x,
        y,
        linestyle="-" if alone else dashes,
        marker=marker,
        markevery=every,
        color=colour,
        lw=1.9,
        ms=4.6,
        mec=PAPER if alone else colour,
        mew=0.8,
        label=line.label,
        zorder=3,
    )
    if alone and known:
        axes.annotate(
            f"{y[-1]:.2f}",
            (x[-1], y[-1]),
            xytext=(0, 7),
            textcoords="offset points",
            ha="right" if len(x) > 1 else "center",
            fontweight="bold",
            color=colour,
            zorder=4,
        )


def _integers(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=6))


def means_plot(key: str, title: str, names: Sequence[str], series: Sequence[tuple[str, Sequence[Mean]]]) -> str:
    """Balanced accuracy of every row, one marker a score, with bars of one standard deviation over seeds.

    Args:
        key, title: of the drawing. names: of the rows. series: at most three scores, each with a value a row.
    """
    said = "; ".join(
        f"{name}: "
        + ", ".join(
            f"{label} {'not known' if (value := values[i].mean) is None else format(value, '.2f')}"
            for label, values in series
        )
        for i, name in enumerate(names)
    )

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        step = 0.24
        for rank, ((label, values), (colour, _, marker)) in enumerate(zip(series, LOOKS, strict=False)):
            shift = (rank - (len(series) - 1) / 2) * step
            shown = [(i + shift, v.mean, v.sd or 0.0) for i, v in enumerate(values) if v.mean is not None]
            for y, mean, sd in shown:
                axes.plot([mean - sd, mean + sd], [y, y], color=colour, lw=1.6, alpha=0.6, solid_capstyle="butt")
            axes.plot(
                [mean for _, mean, _ in shown],
                [y for y, _, _ in shown],
                marker,
                mfc=colour if rank == 0 else PAPER,
                mec=colour,
                ms=6.5,
                mew=1.5,
                ls="none",
                label=label,
            )
        for i in range(len(names) - 1):
            axes.axhline(i + 0.5, color=RULE, lw=0.6)
        axes.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5), xlabel="Balanced accuracy")
        axes.set_yticks(range(len(names)), list(names), color=INK)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=RULE, lw=0.6, alpha=0.7)
        axes.set_axisbelow(True)
        figure.legend(loc="outside upper left", ncols=3, frameon=False, handletextpad=0.3, columnspacing=1.6)

    return draw(key, title, f"{title}. {said}.", (5.3, 0.36 * len(names) + 0.95), paint, 1.4)
