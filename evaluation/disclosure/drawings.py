"""Figures of a coordinator's report: they are drawn from bands, so no length, shade or text holds a count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..figures_svg import FEDERATED, INK, MUTED, PAPER, RULE, draw
from .bands import Band
from .published import ReliabilityRow
from .ranges import Matrix, confidence_of, share

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def band_matrix(key: str, title: str, matrix: Matrix, names: Sequence[str]) -> str:
    """Bands by true class (rows) and called class; dark means a large share, by the middles of bands."""
    k = len(names)
    said = "; ".join(
        f"{names[i]}: " + ", ".join(f"{matrix[i][j].text} called {names[j]}" for j in range(k)) for i in range(k)
    )
    middles = [[(band.low + band.high) / 2 for band in row] for row in matrix]
    shares = [[value / sum(row) if sum(row) else 0.0 for value in row] for row in middles]

    def paint(figure: Figure) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        axes = figure.subplots()
        blues = LinearSegmentedColormap.from_list("wardround", ["#f4f8fb", "#9fc3dc", "#0b4f78"])
        axes.pcolormesh(shares, cmap=blues, vmin=0, vmax=1, edgecolors=PAPER, linewidth=2)
        for i in range(k):
            for j in range(k):
                axes.text(
                    j + 0.5,
                    i + 0.5,
                    matrix[i][j].text,
                    ha="center",
                    va="center",
                    color=PAPER if shares[i][j] > 0.62 else INK,
                    fontsize=10 if k < 6 else 8,
                    fontweight="bold" if i == j else "normal",
                )
        axes.set(xlim=(0, k), ylim=(k, 0), xlabel="Called by the model", ylabel="Truth")
        long = max(len(name) for name in names) > 9 or k > 5
        axes.set_xticks(
            [j + 0.5 for j in range(k)],
            list(names),
            rotation=32 if long else 0,
            ha="right" if long else "center",
            rotation_mode="anchor" if long else "default",
        )
        axes.set_yticks([i + 0.5 for i in range(k)], list(names))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    side = max(3.8, 0.8 * k + 1.4)
    return draw(key, title, f"{title}. {said}.", (side + 1.1, side), paint)


def band_reliability(key: str, title: str, rows: Sequence[ReliabilityRow]) -> str:
    """For each bin a box: between what its mean confidence lies, and between what the share that was right lies."""
    known = [(row, share(row.right, row.wrong)) for row in rows]
    filled = [(row, value) for row, value in known if value is not None]
    said = "; ".join(
        f"{row.low:.1f} to {row.high:.1f}: {images_of(row).text} images, right {value.low:.2f} to {value.high:.2f}"
        for row, value in filled
    )

    def paint(figure: Figure) -> None:
        from matplotlib.patches import Rectangle

        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, lw=1, dashes=(4, 3))
        for row, value in filled:
            left, end = confidence_of(row)
            # A mean confidence that is known to 0.01 is a line at this size; the box is kept wide enough to see.
            width = max(end - left, 0.016)
            corner = ((left + end - width) / 2, value.low)
            axes.add_patch(
                Rectangle(corner, width, max(value.width, 0.008), fc="#a9c4d6", ec=FEDERATED, lw=1.2, alpha=0.85)
            )
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="Confidence of the model", ylabel="Share that was right")
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.grid(color=RULE, lw=0.6, alpha=0.6)
        axes.set_axisbelow(True)

    return draw(key, title, f"{title}. By bin of confidence: {said or 'no images'}.", (4.8, 3.9), paint)


def images_of(row: ReliabilityRow) -> Band:
    """What the bands of a bin say of all its images."""
    return Band(row.right.low + row.wrong.low, row.right.high + row.wrong.high)
