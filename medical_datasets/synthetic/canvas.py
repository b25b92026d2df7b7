"""A small drawing board for phantoms: soft ellipses, capsules and smooth noise on a float32 grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]
Window = tuple[slice, slice]


def smooth_noise(rng: np.random.Generator, size: int, cells: int) -> Array:
    """Band-limited noise of shape (size, size), about unit variance, with roughly ``cells`` bumps per side."""
    coarse = rng.standard_normal((cells + 2, cells + 2), dtype=np.float32)
    image = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32) * np.float32(1.3)


def ridges(noise: Array, width: float) -> Array:
    """Winding lines along the zero crossings of ``noise``: 1 on the line, 0 beyond ``width``."""
    return np.maximum(1.0 - np.abs(noise) / np.float32(width), 0.0)


class Canvas:
    """A square grey picture with coordinates in [-1, 1], x to the right and y downwards.

    Shapes are drawn inside a window around them, so that a small shape costs little. ``x`` and ``y`` may be bent
    by :meth:`bend`; a window is widened by ``margin`` so that bent shapes are not cut off.

    Args:
        size: pixels per side.
        background: grey value of the empty picture, in [0, 1].
    """

    def __init__(self, size: int, background: float = 0.0) -> None:
        axis = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(2.0 / size) - np.float32(1.0)
        self.size = size
        self.x: Array = np.tile(axis, (size, 1))
        self.y: Array = np.ascontiguousarray(self.x.T)
        self.image: Array = np.full((size, size), background, dtype=np.float32)
        self.edge = 2.4 / size
        self.margin = 0.06
        self.zoom, self.origin = 1.0, (0.0, 0.0)

    def bend(self, dx: Array, dy: Array) -> None:
        """Move the coordinates: a shape at (a, b) is then drawn where x + dx = a and y + dy = b."""
        self.x = self.x + dx
        self.y = self.y + dy

    def frame(self, zoom: float, ox: float, oy: float) -> None:
        """Choose what the picture shows: a shape at (a, b) is then drawn at (zoom * a + ox, zoom * b + oy).

        To be called before :meth:`bend`, once.
        """
        self.zoom, self.origin = zoom, (ox, oy)
        self.edge = 2.4 / (self.size * zoom)
        self.x = (self.x - np.float32(ox)) * np.float32(1.0 / zoom)
        self.y = (self.y - np.float32(oy)) * np.float32(1.0 / zoom)

    def window(self, cx: float, cy: float, reach_x: float, reach_y: float) -> Window:
        """Rows and columns that a shape around (cx, cy) can touch."""
        half = self.size / 2.0
        reach_x, reach_y = (reach_x + self.margin) * self.zoom, (reach_y + self.margin) * self.zoom
        cx, cy = cx * self.zoom + self.origin[0], cy * self.zoom + self.origin[1]
        x0, x1 = int((cx - reach_x + 1.0) * half), int((cx + reach_x + 1.0) * half) + 2
        y0, y1 = int((cy - reach_y + 1.0) * half), int((cy + reach_y + 1.0) * half) + 2
        limit = self.size
        return (
            slice(min(max(y0, 0), limit), min(max(y1, 0), limit)),
            slice(min(max(x0, 0), limit), min(max(x1, 0), limit)),
        )

    def level(
        self, window: Window, cx: float, cy: float, rx: float, ry: float, angle: float = 0.0, rough: Array | None = None
    ) -> Array:
        """Signed depth inside an ellipse, in coordinate units: positive inside, 0 on the border.

        ``rough`` (full size) is added to the elliptical radius and makes the border irregular.
        """
        ox, oy = self.x[window] - np.float32(cx), self.y[window] - np.float32(cy)
        if angle:
            c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
            ox, oy = ox * c + oy * s, oy * c - ox * s
        rho = np.sqrt((ox * np.float32(1.0 / rx)) ** 2 + (oy * np.float32(1.0 / ry)) ** 2)
        if rough is not None:
            rho = rho + rough[window]
        return np.asarray((np.float32(1.0) - rho) * np.float32(min(rx, ry)), dtype=np.float32)

    def mask(self, depth: Array, soft: float = 1.0) -> Array:
        """Soft 0..1 mask of a depth map; ``soft`` widens the border beyond the pixel's own blur."""
        out: Array = np.clip(depth * np.float32(1.0 / (self.edge * soft)) + np.float32(0.5), 0.0, 1.0)
        return out

    def paint(self, window: Window, mask: Array, value: float | Array) -> None:
        """Lay ``value`` over the picture where ``mask`` is 1."""
        part = self.image[window]
        part += (value - part) * mask

    def ellipse(
        self,
        cx: float,
        cy: float,
        rx: float,
        ry: float,
        value: float,
        angle: float = 0.0,
        soft: float = 1.0,
        opacity: float = 1.0,
    ) -> None:
        """Paint one soft ellipse."""
        reach = max(rx, ry) if angle else 0.0
        window = self.window(cx, cy, max(rx, reach), max(ry, reach))
        mask = self.mask(self.level(window, cx, cy, rx, ry, angle), soft)
        self.paint(window, mask if opacity == 1.0 else mask * np.float32(opacity), value)

    def capsule(
        self, x0: float, y0: float, x1: float, y1: float, radius: float, value: float, soft: float = 1.0
    ) -> None:
        """Paint a thick line with round ends."""
        window = self.window((x0 + x1) / 2, (y0 + y1) / 2, abs(x1 - x0) / 2 + radius, abs(y1 - y0) / 2 + radius)
        ox, oy = self.x[window] - np.float32(x0), self.y[window] - np.float32(y0)
        dx, dy = x1 - x0, y1 - y0
        along = np.clip((ox * dx + oy * dy) / max(dx * dx + dy * dy, 1e-6), 0.0, 1.0)
        distance = np.hypot(ox - along * np.float32(dx), oy - along * np.float32(dy))
        self.paint(window, self.mask(np.float32(radius) - distance, soft), value)
