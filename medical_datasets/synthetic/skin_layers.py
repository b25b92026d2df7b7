"""What a dermoscopy phantom is made of: absorbers in the skin, veils over it, one lesion's geometry, and brushes.

Colour comes from absorption: skin is a bright surface, melanin and haemoglobin darken its channels unequally
(transmission is exp(-absorbance x concentration)), and scattering structures (scale, scar, blue-white veil) are laid
over it. The same few maps therefore give brown nets, black blotches, red lacunae and grey-blue veils.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from .canvas import Array, Canvas, smooth_noise

Tint = tuple[float, float, float]
Points = NDArray[np.float64]
WHITE: Tint = (0.94, 0.89, 0.88)
CREAM: Tint = (0.95, 0.89, 0.74)
YELLOW: Tint = (0.88, 0.73, 0.50)
BLUE: Tint = (0.42, 0.455, 0.545)
SLATE: Tint = (0.34, 0.345, 0.41)
PINK: Tint = (0.88, 0.68, 0.66)
PURPLE: Tint = (0.40, 0.24, 0.42)
CRIMSON: Tint = (0.64, 0.22, 0.24)
CLOT: Tint = (0.12, 0.06, 0.09)
_MELANIN = np.array([0.62, 0.94, 1.14], dtype=np.float32)
_BLOOD = np.array([0.17, 0.88, 0.76], dtype=np.float32)
_BASE = np.array([0.94, 0.83, 0.81], dtype=np.float32)
_FLOOR = np.array([0.055, 0.042, 0.045], dtype=np.float32)  # light scattered before it meets an absorber
_FINE = 3  # brushes draw at this many times the picture's resolution


@dataclass(slots=True)
class Layers:
    """Two pigments, and veils laid over them in order.

    Attributes:
        melanin, blood: float32 (size, size), absorber concentration, at least 0 when developed.
        veils: pairs of a float32 mask in [0, 1] and the tint that shows where it is 1.
    """

    melanin: Array
    blood: Array
    veils: list[tuple[Array, Tint]] = field(default_factory=list)

    def veil(self, mask: Array, tint: Tint, opacity: float = 1.0) -> None:
        """Lay ``tint`` over the picture where ``mask`` is 1."""
        self.veils.append((mask * np.float32(opacity), tint))

    def clear(self, mask: Array, share: float) -> None:
        """Take ``share`` of the melanin away where ``mask`` is 1."""
        self.melanin *= np.float32(1.0) - mask * np.float32(share)


@dataclass(slots=True)
class Lesion:
    """Where a lesion lies and how strongly it is drawn.

    Attributes:
        canvas: coordinates of the picture, never bent.
        depth: float32 (size, size), signed depth inside the border in coordinate units.
        mask: float32 (size, size), soft mask with the border that was asked for; inside: the same with a crisp border.
        size: radius; strength: how much pigment or blood, about 1; symmetry: in [0, 1].
        lean: direction in which a lopsided lesion is heavier, in radians.
    """

    canvas: Canvas
    depth: Array
    mask: Array
    inside: Array
    size: float
    strength: float
    symmetry: float
    lean: float

    def noise(self, rng: np.random.Generator, cells: int) -> Array:
        """Smooth noise over the picture, about unit variance."""
        return smooth_noise(rng, self.canvas.size, cells)

    def places(self, rng: np.random.Generator, count: int, low: float = 0.0, high: float = 9.0) -> Points:
        """``count`` points, float64 (count, 2), that lie between ``low`` and ``high`` radii deep (fewer if none do)."""
        deep = self.depth * np.float32(1.0 / self.size)
        found = np.flatnonzero((deep > low) & (deep < high))
        if not len(found):
            found = np.array([int(np.argmax(self.depth))])
        size = self.canvas.size
        chosen = found[rng.integers(0, len(found), count)]
        points = np.stack([chosen % size, chosen // size], axis=1) + rng.random((count, 2))
        return np.asarray(points * (2.0 / size) - 1.0, dtype=np.float64)

    def middle(self) -> Points:
        """Centre of mass of the visible lesion, float64 (2,)."""
        weight = self.inside + np.float32(1e-6)
        total = float(weight.sum())
        x, y = float((weight * self.canvas.x).sum()), float((weight * self.canvas.y).sum())
        return np.array([x / total, y / total])

    def zone(self, rng: np.random.Generator, share: float, cells: int = 4, sharp: float = 2.5) -> Array:
        """Soft 0..1 mask of a part of the lesion that covers about ``share`` of it.

        In a symmetrical lesion the part is the middle or the rim; in an asymmetrical one it lies to one side.
        """
        c = self.canvas
        angle = self.lean + rng.normal(0.0, 0.9)
        side = (c.x * np.float32(np.cos(angle)) + c.y * np.float32(np.sin(angle))) * np.float32(1.0 / self.size)
        radial = self.depth * np.float32((1.5 if rng.random() < 0.7 else -1.5) / self.size)
        tilt = np.float32(1.0 - self.symmetry)
        field_ = self.noise(rng, cells) * np.float32(0.25 + 0.45 * tilt) + side * tilt
        field_ = field_ + radial * np.float32(self.symmetry)
        within = field_[self.depth > 0.0]
        limit = np.quantile(within, 1.0 - share) if within.size else 0.0
        out: Array = np.clip((field_ - np.float32(limit)) * np.float32(sharp) + np.float32(0.5), 0.0, 1.0)
        return out


def strokes(size: int, lines: Sequence[tuple[Points, float]]) -> Array:
    """Draw polylines with antialiasing.

    Args:
        size: pixels per side.
        lines: points, float64 (n, 2) in [-1, 1], and width in the same units.

    Returns:
        float32 (size, size), coverage in [0, 1].
    """
    half = size * _FINE / 2.0
    image = Image.new("L", (size * _FINE, size * _FINE))
    pen = ImageDraw.Draw(image)
    for points, width in lines:
        flat = ((points + 1.0) * half).ravel().tolist()
        pen.line(flat, fill=255, width=max(1, round(width * half)), joint="curve")
    return np.asarray(image.reduce(_FINE), dtype=np.float32) * np.float32(1.0 / 255.0)


def patches(
    size: int,
    rng: np.random.Generator,
    points: Points,
    radius: tuple[float, float],
    *,
    rough: float = 0.15,
    longer: float = 1.5,
    soft: float = 0.0,
) -> Array:
    """Draw one rounded irregular patch at every point.

    Args:
        size: pixels per side.
        points: float64 (n, 2) in [-1, 1].
        radius: bounds of the patches' radii.
        rough: how uneven the outline is; longer: greatest elongation.
        soft: standard deviation of the border's blur, in coordinate units.

    Returns:
        float32 (size, size), coverage in [0, 1].
    """
    count, corners = len(points), 14
    turn = np.linspace(0.0, 2.0 * np.pi, corners, endpoint=False)[None, :]
    radii = rng.uniform(*radius, (count, 1))
    wave, other = rng.uniform(0.0, 2 * np.pi, (2, count, 1))
    uneven = 1.0 + rough * (np.sin(2 * turn + wave) + 0.7 * np.sin(3 * turn + other))
    stretch = np.sqrt(rng.uniform(1.0, longer, (count, 1)))
    along, across = np.cos(turn) * radii * uneven * stretch, np.sin(turn) * radii * uneven / stretch
    angle = rng.uniform(0.0, np.pi, (count, 1))
    x = points[:, :1] + along * np.cos(angle) - across * np.sin(angle)
    y = points[:, 1:] + along * np.sin(angle) + across * np.cos(angle)
    half = size * _FINE / 2.0
    image = Image.new("L", (size * _FINE, size * _FINE))
    pen = ImageDraw.Draw(image)
    for outline in (np.stack([x, y], axis=2) + 1.0) * half:
        pen.polygon(outline.ravel().tolist(), fill=255)
    mask = np.asarray(image.reduce(_FINE), dtype=np.float32) * np.float32(1.0 / 255.0)
    return blurred(mask, soft) if soft > 0.0 else mask


def blurred(mask: Array, soft: float) -> Array:
    """``mask`` under a Gaussian whose standard deviation is ``soft`` in coordinate units."""
    return np.asarray(gaussian_filter(mask, soft * mask.shape[0] / 2.0, truncate=2.5), dtype=np.float32)


def honeycomb(c: Canvas, rng: np.random.Generator, cell: float, warp: float = 0.3) -> Array:
    """Bent hexagonal lattice with cells about ``cell`` wide: +3 in the holes, -1.5 on the lines."""
    turn, pitch = rng.uniform(0.0, np.pi), 2.0 * np.pi / cell
    wx, wy = (
        np.float32(warp * cell) * (smooth_noise(rng, c.size, 7) + np.float32(0.5) * smooth_noise(rng, c.size, 17))
        for _ in range(2)
    )
    x, y = c.x + wx, c.y + wy
    total: Array = np.zeros_like(c.x)
    for k in range(3):
        a = turn + k * np.pi / 3.0
        total += np.cos(x * np.float32(pitch * np.cos(a)) + y * np.float32(pitch * np.sin(a)))
    return total


def develop(layers: Layers, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn absorbers and veils into uint8 RGB (size, size, 3), under a light that falls a little unevenly."""
    size = layers.melanin.shape[0]
    grain = np.float32(1.0) + np.float32(0.04) * smooth_noise(rng, size, size // 2)
    grain += np.float32(rng.uniform(0.02, 0.08)) * smooth_noise(rng, size, 27)
    melanin, blood = np.maximum(layers.melanin * grain, 0.0), np.maximum(layers.blood * grain, 0.0)
    base = np.clip(_BASE + rng.normal(0.0, 0.022, 3), 0.0, 1.0).astype(np.float32)
    vary = np.exp(rng.normal(0.0, 0.06, (2, 3))).astype(np.float32)
    absorbed = melanin[:, :, None] * (_MELANIN * vary[0]) + blood[:, :, None] * (_BLOOD * vary[1])
    colour: Array = _FLOOR + (base - _FLOOR) * np.exp(-absorbed)
    for mask, tint in layers.veils:
        colour += (np.asarray(tint, dtype=np.float32) - colour) * np.clip(mask, 0.0, 1.0)[:, :, None]
    light = np.float32(1.0) + np.float32(rng.uniform(0.0, 0.05)) * smooth_noise(rng, size, 1)
    soft = float(rng.uniform(0.0025, 0.006)) * size  # optics
    colour = gaussian_filter(colour, (soft, soft, 0.0), truncate=2.5)
    return (np.clip(colour * light[:, :, None], 0.0, 1.0) * np.float32(255.0)).astype(np.uint8)
