"""Outlines of skin lesions: round, lobed, polygonal and other shapes, with sharp to fading borders."""

from __future__ import annotations

import numpy as np

from .canvas import Array, Canvas, smooth_noise
from .skin_layers import Lesion

SHAPES = ("round", "lobed", "polygonal", "elongated", "two-part", "filling", "several")
BORDERS = ("sharp", "fading", "irregular", "scalloped")
_SOFT = {"sharp": (1.6, 4.0), "fading": (7.0, 15.0), "irregular": (2.5, 7.0), "scalloped": (1.6, 3.5)}

# Of lesions in several parts: how far they lie apart, bounds of their radii, fewest and most.
_PARTS = {"lobed": (0.5, 0.5, 0.75, 3, 5), "two-part": (0.62, 0.5, 0.85, 2, 2), "several": (1.15, 0.22, 0.5, 3, 6)}


def outline(
    c: Canvas, shape: str, border: str, size: float, symmetry: float, strength: float, rng: np.random.Generator
) -> Lesion:
    """Lay one lesion out.

    Args:
        c: the picture's coordinates.
        shape: one of :data:`SHAPES`; border: one of :data:`BORDERS`.
        size: radius in coordinate units; symmetry: in [0, 1]; strength: about 1.
        rng: source of place, direction and details.
    """
    near = 0.1 if rng.random() < 0.75 else 0.3  # now and then the lesion was not centred
    cx, cy = rng.normal(0.0, near, 2).clip(-0.5, 0.5) * max(0.3, 1.3 - size)
    lean = float(rng.uniform(0.0, 2.0 * np.pi))
    odd = 1.0 - symmetry
    rough = (0.03 + 0.09 * odd) * (2.0 if border == "irregular" else 1.0)
    uneven = np.float32(rough) * smooth_noise(rng, c.size, 6)
    if border in ("irregular", "scalloped"):
        uneven = uneven + np.float32(0.5 * rough) * smooth_noise(rng, c.size, 17)
    depth = _shape(c, shape, float(cx), float(cy), size, odd, lean, rng)
    depth = depth + uneven * np.float32(size)
    if border == "scalloped":
        depth = _bitten(c, depth, size, rng)
    soft = rng.uniform(*_SOFT[border])
    inset = np.float32(0.3 * soft * c.edge) if border == "fading" else np.float32(0.0)
    mask = c.mask(depth - inset, soft)
    mask = mask * mask * (np.float32(3.0) - np.float32(2.0) * mask)
    return Lesion(c, depth, mask, c.mask(depth), size, strength, symmetry, lean)


def _blob(
    c: Canvas, cx: float, cy: float, size: float, longer: float, angle: float, odd: float, rng: np.random.Generator
) -> Array:
    """Depth inside an egg with a few waves along its border."""
    turn_x, turn_y = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    ox, oy = c.x - np.float32(cx), c.y - np.float32(cy)
    stretch = np.float32(np.sqrt(longer))
    ax, ay = (ox * turn_x + oy * turn_y) / stretch, (oy * turn_x - ox * turn_y) * stretch
    theta = np.arctan2(ay, ax)
    radius = np.full_like(theta, 1.0)
    for k in range(1, 6):
        amount = rng.normal(0.0, (0.03 + 0.09 * odd) / np.sqrt(k))
        radius += np.float32(amount) * np.cos(np.float32(k) * theta + np.float32(rng.uniform(0.0, 2 * np.pi)))
    return np.asarray((radius - np.hypot(ax, ay) * np.float32(1.0 / size)) * np.float32(size), dtype=np.float32)


def _shape(
    c: Canvas, shape: str, cx: float, cy: float, size: float, odd: float, lean: float, rng: np.random.Generator
) -> Array:
    angle = float(rng.uniform(0.0, np.pi))
    if shape == "elongated":
        return _blob(c, cx, cy, size, rng.uniform(1.9, 3.2), angle, odd, rng)
    if shape == "polygonal":
        sides, turn = int(rng.integers(4, 7)), rng.uniform(0.0, 2 * np.pi)
        part = np.arctan2(c.y - np.float32(cy), c.x - np.float32(cx)) + np.float32(turn)
        part = np.mod(part, np.float32(2 * np.pi / sides)) - np.float32(np.pi / sides)
        corner = np.float32(np.cos(np.pi / sides)) / np.cos(part)
        egg = _blob(c, cx, cy, size, rng.uniform(1.0, 1.6), angle, odd, rng)
        return np.asarray(egg + np.float32(0.8 * size) * (corner - np.float32(0.92)), dtype=np.float32)
    if shape in ("lobed", "two-part", "several"):
        apart, low, high, fewest, most = _PARTS[shape]
        parts = int(rng.integers(fewest, most + 1))
        out: Array = np.full_like(c.x, -9.0)
        for k in range(parts):
            way = lean + 2 * np.pi * k / parts + rng.normal(0.0, 0.35)
            far = size * apart * rng.uniform(0.75, 1.15)
            part = _blob(
                c,
                cx + far * float(np.cos(way)),
                cy + far * float(np.sin(way)),
                size * rng.uniform(low, high),
                rng.uniform(1.0, 1.5),
                float(rng.uniform(0.0, np.pi)),
                0.5 * odd,
                rng,
            )
            out = np.maximum(out, part)
        return out
    return _blob(c, cx, cy, size, rng.uniform(1.0, 1.5 + 0.4 * odd), angle, odd, rng)


def _bitten(c: Canvas, depth: Array, size: float, rng: np.random.Generator) -> Array:
    """Take round bites out of the border, as moths do out of cloth."""
    rim = np.flatnonzero(np.abs(depth) < np.float32(0.06 * size + c.edge))
    for at in rim[rng.integers(0, len(rim), int(rng.integers(5, 11)))] if len(rim) else ():
        row, column = divmod(int(at), c.size)
        radius = np.float32(size * rng.uniform(0.08, 0.24))
        bite = np.hypot(c.x - c.x[row, column], c.y - c.y[row, column]) - radius
        depth = np.minimum(depth, bite)
    return depth
