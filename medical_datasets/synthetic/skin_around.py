"""The skin around a lesion: tone, flush, creases, freckles, sun damage, follicles and fine vessels."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas, ridges, smooth_noise
from .skin_layers import CRIMSON, Layers, blurred, honeycomb, patches, strokes
from .skin_vessels import tree


def skin_around(c: Canvas, tone: float, redness: float, damage: float, rng: np.random.Generator) -> Layers:
    """Draw bare skin.

    Args:
        c: the picture's coordinates.
        tone: melanin, in [0, 1]: 0 is the fairest, 0.5 brown, 1 the darkest.
        redness: blood, in [0, 1]; damage: sun damage, in [0, 1].
        rng: source of everything else.
    """
    size = c.size
    uneven = smooth_noise(rng, size, 4)
    depth = 0.03 + 1.15 * tone + 1.8 * max(tone - 0.5, 0.0)
    melanin = np.float32(depth) * (np.float32(1.0) + np.float32(0.08) * uneven)
    melanin += np.float32(0.03) * smooth_noise(rng, size, 40) + np.float32(0.012) * smooth_noise(rng, size, size - 2)
    flush = np.float32(1.0) + np.float32(rng.uniform(0.08, 0.28)) * smooth_noise(rng, size, int(rng.integers(3, 8)))
    blood = np.float32(0.04 + 0.25 * redness) * flush + np.float32(0.02) * smooth_noise(rng, size, 26)
    out = Layers(melanin=melanin, blood=blood)
    _creases(c, out, rng)
    if rng.random() < 0.25 + 0.35 * damage:
        count = int(rng.integers(3, 10 + round(25 * damage)))
        spots = patches(size, rng, rng.uniform(-1, 1, (count, 2)), (0.015, 0.055), rough=0.3, soft=0.02)
        out.melanin += spots * np.float32(rng.uniform(0.04, 0.22))
    if damage > 0.35:
        worn = np.clip(smooth_noise(rng, size, 9) - np.float32(1.1), 0.0, 1.0)
        out.melanin += np.float32(0.4 * damage) * worn
        out.blood += np.float32(0.04 * damage) * smooth_noise(rng, size, 12)
    if rng.random() < 0.3:
        _follicles(c, out, tone, rng)
    if rng.random() < 0.15 + 0.3 * redness * damage + 0.1 * damage:
        lines = []
        for start in rng.uniform(-1, 1, (int(rng.integers(1, 6)), 2)):
            lines += tree(rng, start, rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.5), 0.013, int(rng.integers(1, 3)))
        out.veil(blurred(strokes(size, lines), 0.006), CRIMSON, rng.uniform(0.15, 0.45))
    return out


def _creases(c: Canvas, out: Layers, rng: np.random.Generator) -> None:
    """Polygonal skin lines, or parallel creases where the skin is stretched."""
    kind, amount = rng.random(), np.float32(rng.uniform(0.03, 0.09))
    if kind < 0.35:
        lattice = honeycomb(c, rng, rng.uniform(0.14, 0.3), 0.7)
        out.melanin += np.clip(np.float32(-0.4) - lattice, 0.0, 1.0) * amount
    elif kind < 0.6:
        bend = np.float32(1.5) * smooth_noise(rng, c.size, 4)
        lines = np.abs(np.sin((c.x * rng.uniform(-1, 1) + c.y) * rng.uniform(18, 40) + bend)).astype(np.float32)
        out.melanin += (np.float32(1.0) - lines) * amount
    elif kind < 0.75:
        out.melanin += ridges(smooth_noise(rng, c.size, int(rng.integers(6, 14))), 0.12) * amount


def _follicles(c: Canvas, out: Layers, tone: float, rng: np.random.Generator) -> None:
    """Openings of hair follicles: pale or dark points, some with a halo."""
    points = rng.uniform(-1, 1, (int(rng.integers(15, 90)), 2))
    dots = patches(c.size, rng, points, (0.008, 0.02), rough=0.05, longer=1.2)
    if rng.random() < 0.5:
        out.melanin += dots * np.float32(rng.uniform(0.1, 0.35))
    halo = np.clip(blurred(dots, 0.02) * np.float32(2.0), 0.0, 1.0)
    out.clear(halo, rng.uniform(0.1, 0.5) * (1.0 - 0.6 * tone))
    out.veil(halo, (0.90, 0.80, 0.72), rng.uniform(0.05, 0.3) * (1.0 - 0.9 * tone))
