"""Vessels of a lesion: trees, dots, loops, coils and lakes.

Shapes follow Zalaudek et al., "How to diagnose nonpigmented skin tumors: a review of vascular structures" (JAAD 2010).
"""

from __future__ import annotations

import numpy as np

from .canvas import Array
from .skin_layers import (
    CLOT,
    CREAM,
    CRIMSON,
    PURPLE,
    WHITE,
    Layers,
    Lesion,
    Points,
    blurred,
    honeycomb,
    patches,
    strokes,
)

Lines = list[tuple[Points, float]]


def tree(rng: np.random.Generator, start: Points, heading: float, reach: float, width: float, levels: int) -> Lines:
    """A vessel that forks ``levels`` times, each branch shorter and thinner: polylines and widths for ``strokes``."""
    lines: Lines = []
    open_ = [(start, heading, reach, width, levels)]
    while open_:
        at, way, far, wide, left = open_.pop()
        ways = way + np.cumsum(rng.normal(0.0, 0.28, 5))
        steps = np.stack([np.cos(ways), np.sin(ways)], axis=1) * (far / 5.0)
        points = np.concatenate([at[None, :], at + np.cumsum(steps, axis=0)])
        lines.append((points, wide))
        if left > 0:
            for turn in (rng.uniform(0.3, 0.9), -rng.uniform(0.3, 0.9)):
                fork = points[int(rng.integers(3, 6))]
                open_.append((fork, float(ways[-1] + turn), far * rng.uniform(0.55, 0.85), wide * 0.68, left - 1))
    return lines


def _blood(lesion: Lesion, out: Layers, lines: Array, opacity: float) -> None:
    """Lay vessels over the surface: sharp, red, in focus."""
    near = np.clip(lesion.depth * np.float32(12.0 / lesion.size) + np.float32(2.0), 0.0, 1.0)
    out.blood += lines * near * np.float32(0.7)
    out.veil(lines * near, CRIMSON, 0.85 * opacity)


def arborising(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Stem vessels of large bore that branch into fine ones, sharply in focus."""
    middle, lines = lesion.middle(), []
    for start in lesion.places(rng, int(rng.integers(2, 6)), 0.0, 0.5):
        heading = float(np.arctan2(*(middle - start)[::-1])) + rng.normal(0.0, 0.7)
        width = rng.uniform(0.016, 0.032)
        lines += tree(rng, start, heading, min(lesion.size, 0.7) * rng.uniform(0.35, 0.75), width, 3)
    _blood(lesion, out, strokes(lesion.canvas.size, lines), rng.uniform(0.55, 0.85))


def dotted(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Red points, all over or in groups."""
    points = lesion.places(rng, int(rng.integers(35, 90)), 0.03)
    mask = patches(lesion.canvas.size, rng, points, (0.011, 0.02), rough=0.0, longer=1.2)
    if rng.random() < 0.4:
        mask = mask * lesion.zone(rng, 0.6, 5, 5.0)
    _blood(lesion, out, mask, rng.uniform(0.5, 0.8))


def hairpin(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Loops with two parallel legs; a whitish halo where the tumour makes keratin."""
    turn = np.linspace(-np.pi / 2, np.pi / 2, 6)
    loops: Lines = []
    for start in lesion.places(rng, int(rng.integers(10, 24)), 0.05):
        gap, leg = rng.uniform(0.014, 0.022), rng.uniform(0.04, 0.1)
        x = np.concatenate([[-leg], np.cos(turn) * gap, [-leg]])
        y = np.concatenate([[-gap], np.sin(turn) * gap, [gap + 0.01]])
        a = rng.uniform(0.0, 2 * np.pi)
        loops.append((start + np.stack([x * np.cos(a) - y * np.sin(a), x * np.sin(a) + y * np.cos(a)], axis=1), 0.014))
    mask = strokes(lesion.canvas.size, loops)
    halo = np.clip(blurred(mask, 0.03) * np.float32(2.2), 0.0, 1.0)
    out.veil(halo * lesion.inside, WHITE, rng.uniform(0.15, 0.5))
    _blood(lesion, out, mask, rng.uniform(0.55, 0.85))


def coiled(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Glomerular vessels: tight coils in groups, as in Bowen's disease."""
    t = np.linspace(0.0, 1.0, 14)
    coils: Lines = []
    for start in lesion.places(rng, int(rng.integers(14, 36)), 0.05):
        a = rng.uniform(0, 2 * np.pi) + rng.choice((-1, 1)) * t * 3.2 * np.pi
        far = (0.25 + 0.75 * t) * rng.uniform(0.022, 0.038)
        coils.append((start + np.stack([np.cos(a) * far, np.sin(a) * far], axis=1), 0.012))
    mask = strokes(lesion.canvas.size, coils)
    if rng.random() < 0.6:
        mask = mask * lesion.zone(rng, 0.65, 5, 5.0)
    _blood(lesion, out, mask, rng.uniform(0.6, 0.85))


def comma(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Short thick curved vessels of dermal naevi, a little out of focus."""
    lines: Lines = []
    for start in lesion.places(rng, int(rng.integers(6, 16)), 0.1):
        a = rng.uniform(0, 2 * np.pi) + np.linspace(0.0, rng.uniform(0.8, 1.8), 6)
        far = rng.uniform(0.04, 0.08)
        lines.append((start + far * np.stack([np.cos(a), np.sin(a)], axis=1), rng.uniform(0.018, 0.028)))
    _blood(lesion, out, blurred(strokes(lesion.canvas.size, lines), 0.007), rng.uniform(0.45, 0.7))


def irregular(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Linear irregular vessels of many lengths and calibres, with milky-red areas."""
    lines: Lines = []
    for start in lesion.places(rng, int(rng.integers(9, 22)), 0.03):
        heading, reach = rng.uniform(0, 2 * np.pi), lesion.size * rng.uniform(0.1, 0.4)
        lines += tree(rng, start, heading, reach, rng.uniform(0.009, 0.026), int(rng.random() < 0.25))
    milky = patches(lesion.canvas.size, rng, lesion.places(rng, 3, 0.15), (0.08, 0.16), soft=0.03)
    out.veil(milky * lesion.mask, (0.82, 0.52, 0.56), rng.uniform(0.2, 0.5))
    _blood(lesion, out, strokes(lesion.canvas.size, lines), rng.uniform(0.5, 0.8))


def lacunae(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Well-bounded red, maroon or purple lakes, packed or apart, with pale septa between them."""
    size, r = lesion.canvas.size, lesion.size
    points = lesion.places(rng, int(rng.integers(8, 26)), 0.08)
    lakes = patches(size, rng, points, (0.09 * r, 0.26 * r), rough=0.12, soft=0.008)
    shade = np.clip(np.float32(1.0) + np.float32(0.3) * lesion.noise(rng, 8), 0.5, 1.6)
    out.blood += lakes * shade * np.float32(rng.uniform(1.1, 2.3) * lesion.strength)
    if rng.random() < 0.5:
        part = patches(size, rng, points[: max(2, len(points) // 3)], (0.08 * r, 0.2 * r), soft=0.008)
        out.veil(part * lesion.mask, PURPLE, rng.uniform(0.35, 0.8))
    if rng.random() < 0.5:
        out.veil((np.float32(1.0) - lakes) * lesion.mask, (0.88, 0.70, 0.70), rng.uniform(0.1, 0.45))


def clots(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Blue-black clotted lakes."""
    points = lesion.places(rng, int(rng.integers(1, 6)), 0.15)
    r = lesion.size
    mask = patches(lesion.canvas.size, rng, points, (0.14 * r, 0.4 * r), rough=0.2, soft=0.015)
    out.veil(mask * lesion.mask, CLOT, rng.uniform(0.65, 0.95))


def strawberry(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """A red pseudonetwork between follicles whose yellowish plugs have pale rings: actinic keratosis of the face."""
    c = lesion.canvas
    lattice = honeycomb(c, rng, rng.uniform(0.11, 0.18), 0.35)
    between = np.clip(np.float32(0.6) - lattice * np.float32(0.5), 0.0, 1.0)
    vessels = np.clip(lesion.noise(rng, 24) * np.float32(0.5) + np.float32(0.7), 0.1, 1.3)
    out.blood += between * vessels * lesion.mask * np.float32(rng.uniform(0.5, 0.95))
    ring = np.clip((lattice - np.float32(0.7)) * np.float32(0.9), 0.0, 1.0)
    out.veil(ring * lesion.mask, WHITE, rng.uniform(0.25, 0.5))
    plug = np.clip((lattice - np.float32(2.0)) * np.float32(1.6), 0.0, 1.0)
    out.veil(plug * lesion.mask, CREAM, rng.uniform(0.35, 0.7))
