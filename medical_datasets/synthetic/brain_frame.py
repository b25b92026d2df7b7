"""What the drawers of brain slices share: the scene they draw into and the frame they leave for the tumour."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .brain_tissues import Tissues
from .canvas import Array, Canvas, Window

Point = tuple[float, float]
REACH = 9.0  # a reach that takes in the whole picture


@dataclass(slots=True)
class Scene:
    """One slice while it is drawn.

    Attributes:
        c: the canvas; t: grey values; rng: source of the anatomy.
        level: one of ``LEVELS[view]``.
        atrophy: in [0, 1]; widens sulci and ventricles.
        press: width left to the fluid spaces of the left and right half of the picture, 1 for all of it.
    """

    c: Canvas
    t: Tissues
    rng: np.random.Generator
    level: str
    atrophy: float
    press: Point = (1.0, 1.0)

    @property
    def whole(self) -> Window:
        """A window that takes in the whole picture."""
        return self.c.window(0.0, 0.0, REACH, REACH)

    def u(self, low: float, high: float) -> float:
        """A uniform draw."""
        return float(self.rng.uniform(low, high))

    def pair(
        self,
        at: Point,
        radii: Point,
        tissue: str,
        angle: float = 0.0,
        soft: float = 1.0,
        opacity: float = 1.0,
        *,
        cx: float = 0.0,
        fluid: bool = False,
    ) -> None:
        """An ellipse on either side of ``cx``, never quite the same; ``fluid`` ones give way to ``press``."""
        for s, press in zip((-1, 1), self.press, strict=True):
            own = 1.0 + 0.09 * float(self.rng.standard_normal())
            narrow = press if fluid else 1.0
            rx, ry = max(radii[0] * own * narrow, 0.004), max(radii[1] * own * (0.5 + 0.5 * narrow), 0.004)
            x = cx + s * (at[0] + self.u(-0.006, 0.006))
            self.c.ellipse(x, at[1] + self.u(-0.008, 0.008), rx, ry, self.t[tissue], s * angle, soft, opacity)

    def lines(self, first: Point, second: Point, radius: float, tissue: str, soft: float = 1.0) -> None:
        """A thick line on either side of x = 0."""
        for s in (-1, 1):
            self.c.capsule(s * first[0], first[1], s * second[0], second[1], radius, self.t[tissue], soft)


@dataclass(slots=True)
class Brain:
    """Where the brain lies in a drawn slice, in canvas coordinates.

    Attributes:
        cx, cy, rx, ry: the ellipse round the brain.
        facing: 1 for views with a left and a right half, -1 for sagittal ones (the face is on the left).
        inside: float32 (size, size), signed depth under the brain's surface, positive inside.
        sulci: float32 (size, size) in [0, 1], fluid between the folds.
        white: float32 (size, size) in [0, 1], white matter, along which swelling spreads.
        view: zoom and origin of the canvas, for :meth:`pixels`.
        marks: landmarks by name, for instance "sella"; the sella is always there.
    """

    cx: float
    cy: float
    rx: float
    ry: float
    facing: int
    inside: Array
    sulci: Array
    white: Array
    view: tuple[float, Point] = (1.0, (0.0, 0.0))
    marks: dict[str, Point] = field(default_factory=dict)

    def at(self, u: float, v: float) -> Point:
        """The point at fractions (u, v) of the half axes, from the middle."""
        return self.cx + u * self.rx, self.cy + v * self.ry

    def pixels(self, x: Array, y: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of points, kept inside the picture (bending of the coordinates is left out)."""
        last = self.inside.shape[0] - 1
        zoom, (ox, oy) = self.view
        half = (last + 1) / 2.0
        columns, rows = ((zoom * v + o + 1.0) * half for v, o in ((x, ox), (y, oy)))
        return np.clip(rows, 0, last).astype(np.intp), np.clip(columns, 0, last).astype(np.intp)

    def pixel(self, at: Point) -> tuple[int, int]:
        """Row and column of one point."""
        rows, columns = self.pixels(np.array([at[0]], dtype=np.float32), np.array([at[1]], dtype=np.float32))
        return int(rows[0]), int(columns[0])

    def add(self, depth: Array) -> None:
        """Count a further part (cerebellum, brainstem) as brain."""
        self.inside = np.maximum(self.inside, depth)


def depth(
    s: Scene, cx: float, cy: float, rx: float, ry: float, angle: float = 0.0, rough: Array | None = None
) -> Array:
    """Signed depth inside an ellipse over the whole picture, float32 (size, size)."""
    return s.c.level(s.whole, cx, cy, rx, ry, angle, rough)


def ramp(field_: Array, middle: float, width: float) -> Array:
    """0 well below ``middle``, 1 well above, a straight line ``width`` wide between."""
    out: Array = np.clip((field_ - np.float32(middle)) * np.float32(1.0 / width) + np.float32(0.5), 0.0, 1.0)
    return out
