"""A small chart as SVG text: axes, lines, points, whiskers and bars, drawn in a fraction of a millisecond.

A report holds two small figures a class, so a study of seven classes and eight sites has more than a hundred, and
Matplotlib takes some 25 to 100 ms for each. The few marks that they need are written here directly; same input, same
bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

INK, MUTED, RULE, PAPER = "#1c2833", "#566573", "#c9d1d8", "#ffffff"
FEDERATED, LOCAL, ZERO, PALE = "#0b5c8a", "#b3541e", "#7b8a97", "#a9c4d6"
"""Of series: told apart in grey too, and by readers who cannot tell red from green."""
_CHARACTER = 6.2
"""About the width in pixels of a character at 11.5 px, to leave room for labels."""


def _n(value: float) -> str:
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def room(labels: Iterable[str], most: float) -> float:
    """Pixels that the longest of these labels takes, at most ``most``."""
    return min(most, _CHARACTER * max((len(label) for label in labels), default=0) + 10)


def shortened(label: str, pixels: float) -> str:
    """The label, cut with an ellipsis where it would take more than ``pixels``."""
    fits = max(3, int((pixels - 10) / _CHARACTER))
    return label if len(label) <= fits else label[: fits - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


class Chart:
    """A plot area with a data range; marks are added in the order in which they lie on one another.

    Args:
        size: width and height in pixels of the viewBox. x, y: (low, high) of the data.
        left, right, top, bottom: margins in pixels.
    """

    def __init__(
        self,
        size: tuple[float, float],
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        left: float = 40,
        right: float = 10,
        top: float = 10,
        bottom: float = 36,
    ) -> None:
        self.width, self.height = size
        self._x, self._y = x, y
        self.left, self.right = left, self.width - right
        self.top, self.bottom = top, self.height - bottom
        self._marks: list[str] = []

    def px(self, value: float) -> float:
        """Horizontal position in pixels."""
        low, high = self._x
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def py(self, value: float) -> float:
        """Vertical position in pixels."""
        low, high = self._y
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def _add(self, mark: str) -> None:
        self._marks.append(mark)

    def words(
        self,
        at: tuple[float, float],
        text: str,
        *,
        anchor: str = "middle",
        colour: str = INK,
        bold: bool = False,
        size: float = 11.5,
        turn: float = 0.0,
    ) -> None:
        """Text at a place in pixels, turned by ``turn`` degrees; it is escaped."""
        weight = ' font-weight="650"' if bold else ""
        if turn:
            weight += f' transform="rotate({_n(turn)} {_n(at[0])} {_n(at[1])})"'
        self._add(
            f'<text x="{_n(at[0])}" y="{_n(at[1])}" text-anchor="{anchor}" fill="{colour}" '
            f'font-size="{_n(size)}"{weight}>{escape(text)}</text>'
        )

    def stroke(
        self,
        points: Sequence[tuple[float, float]],
        colour: str,
        *,
        width: float = 1.8,
        dash: str = "",
        opacity: float = 1,
    ) -> None:
        """A line through (x, y) of the data."""
        if len(points) < 2:
            return
        path = "M" + "L".join(f"{_n(self.px(x))} {_n(self.py(y))}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        faint = f' stroke-opacity="{_n(opacity)}"' if opacity != 1 else ""
        self._add(
            f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{_n(width)}" stroke-linejoin="round"'
            f"{dashed}{faint}/>"
        )

    def band(self, rows: Sequence[tuple[float, float, float]], colour: str) -> None:
        """A pale band between low and high: rows of (x, low, high)."""
        if len(rows) < 2:
            return
        there = [(x, high) for x, _, high in rows] + [(x, low) for x, low, _ in reversed(rows)]
        path = "M" + "L".join(f"{_n(self.px(x))} {_n(self.py(y))}" for x, y in there) + "Z"
        self._add(f'<path d="{path}" fill="{colour}" fill-opacity=".14"/>')

    def whisker(self, at: float, low: float, high: float, colour: str, *, across: bool = False) -> None:
        """An interval: upright at x, or ``across`` at y."""
        if across:
            one, two = (self.px(low), self.py(at)), (self.px(high), self.py(at))
        else:
            one, two = (self.px(at), self.py(low)), (self.px(at), self.py(high))
        self._add(
            f'<line x1="{_n(one[0])}" y1="{_n(one[1])}" x2="{_n(two[0])}" y2="{_n(two[1])}" '
            f'stroke="{colour}" stroke-width="1.6" stroke-opacity=".6"/>'
        )

    def dot(
        self, x: float, y: float, colour: str, *, shape: str = "circle", fill: str = "", radius: float = 3.6
    ) -> None:
        """A mark: ``circle``, ``square`` or ``triangle``; shapes tell series apart without colour."""
        cx, cy, inner = self.px(x), self.py(y), fill or colour
        look = f'fill="{inner}" stroke="{colour}" stroke-width="1.5"'
        if shape == "square":
            side = radius * 1.8
            self._add(
                f'<rect x="{_n(cx - side / 2)}" y="{_n(cy - side / 2)}" width="{_n(side)}" height="{_n(side)}" {look}/>'
            )
        elif shape == "triangle":
            r = radius * 1.25
            base = _n(cy + r * 0.8)
            self._add(f'<path d="M{_n(cx)} {_n(cy - r)}L{_n(cx + r)} {base}L{_n(cx - r)} {base}Z" {look}/>')
        else:
            self._add(f'<circle cx="{_n(cx)}" cy="{_n(cy)}" r="{_n(radius)}" {look}/>')

    def bar(self, low: float, high: float, value: float, colour: str, edge: str) -> None:
        """A bar from the bottom of the plot area up to ``value``, between two values of x."""
        left, right, top = self.px(low), self.px(high), self.py(value)
        gap = (right - left) * 0.08
        self._add(
            f'<rect x="{_n(left + gap)}" y="{_n(top)}" width="{_n(right - left - 2 * gap)}" '
            f'height="{_n(max(0.0, self.bottom - top))}" fill="{colour}" stroke="{edge}" stroke-width=".7"/>'
        )

    def cell(self, x: float, y: float, colour: str) -> None:
        """A square from (x, y) to (x + 1, y + 1) of the data, with a gap around it."""
        left, right = sorted((self.px(x), self.px(x + 1)))
        top, bottom = sorted((self.py(y), self.py(y + 1)))
        self._add(
            f'<rect x="{_n(left + 1)}" y="{_n(top + 1)}" width="{_n(right - left - 2)}" '
            f'height="{_n(bottom - top - 2)}" rx="2" fill="{colour}"/>'
        )

    def level(self, y: float, colour: str = RULE, *, width: float = 1, dash: str = "") -> None:
        """A line across the plot area."""
        self.stroke([(self._x[0], y), (self._x[1], y)], colour, width=width, dash=dash)

    def upright(self, x: float, colour: str = RULE, *, width: float = 1, dash: str = "") -> None:
        """A line from the bottom to the top of the plot area."""
        self.stroke([(x, self._y[0]), (x, self._y[1])], colour, width=width, dash=dash)

    def ticks_x(self, ticks: Sequence[tuple[float, str]], title: str = "", *, grid: bool = False) -> None:
        """Labels under the plot area, and a title under them."""
        for at, label in ticks:
            if grid:
                self.upright(at, width=0.7)
            self.words((self.px(at), self.bottom + 15), label, colour=MUTED, size=11)
        if title:
            self.words(((self.left + self.right) / 2, self.height - 4), title)

    def ticks_y(self, ticks: Sequence[tuple[float, str]], *, grid: bool = True) -> None:
        """Labels at the left of the plot area."""
        for at, label in ticks:
            if grid:
                self.level(at, width=0.7)
            self.words((self.left - 6, self.py(at) + 4), label, anchor="end", colour=MUTED, size=11)

    def frame(self) -> None:
        """The axes at the left and at the bottom."""
        self.level(self._y[0], MUTED, width=0.9)

    def svg(self, key: str, title: str, description: str, *, scale: float = 1.0, least: float = 0.0) -> str:
        """The finished <svg> with a title and a description; at most ``scale`` times its size, at least ``least``."""
        narrow = f";min-width:{_n(self.width * least)}px" if least else ""
        return (
            f'<svg class="figure" role="img" viewBox="0 0 {_n(self.width)} {_n(self.height)}" '
            f'style="max-width:{_n(self.width * scale)}px{narrow}" aria-labelledby="{key}-title {key}-desc" '
            'xmlns="http://www.w3.org/2000/svg" font-family="DejaVu Sans, sans-serif">'
            f'<title id="{key}-title">{escape(title)}</title><desc id="{key}-desc">{escape(description)}</desc>'
            f"{''.join(self._marks)}</svg>"
        )
