"""Structures that pigment makes in a lesion: nets, globules, streaks, veils, nests and ridges.

Descriptions follow the consensus terms of the International Dermoscopy Society (Kittler et al., JAAD 2016).
"""

from __future__ import annotations

import numpy as np

from .canvas import Array, ridges
from .skin_layers import BLUE, SLATE, WHITE, Layers, Lesion, blurred, honeycomb, patches, strokes


def _lines(lattice: Array, width: float) -> Array:
    """Lines of a honeycomb: 1 on them, 0 in its holes; ``width`` in 0.2 (fine) to 0.8 (broad)."""
    out: Array = np.clip(np.float32(width) - lattice * np.float32(0.55), 0.0, 1.0)
    return out


def network(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Thin even brown lines around pale holes, fading towards the border."""
    lines = _lines(honeycomb(lesion.canvas, rng, rng.uniform(0.06, 0.105)), rng.uniform(0.25, 0.5))
    where = lesion.mask * np.clip(lesion.noise(rng, 4) * np.float32(0.35) + np.float32(0.85), 0.15, 1.0)
    out.melanin += (lines - np.float32(0.25)) * where * np.float32(rng.uniform(0.55, 1.0) * lesion.strength)


def atypical_network(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Broad, smudged lines of uneven width that stop abruptly, on part of the lesion."""
    lattice = honeycomb(lesion.canvas, rng, rng.uniform(0.09, 0.16), 0.4)
    width = np.float32(rng.uniform(0.35, 0.6)) + np.float32(0.28) * lesion.noise(rng, 5)
    lines = np.clip(width - lattice * np.float32(0.6), 0.0, 1.0)
    where = lesion.inside * lesion.zone(rng, rng.uniform(0.45, 0.8), 4, 6.0)
    out.melanin += (lines - np.float32(0.25)) * where * np.float32(rng.uniform(0.9, 1.6) * lesion.strength)


def pseudonetwork(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Pigment of facial skin, broken by the pale round openings of follicles."""
    points = lesion.places(rng, int(rng.integers(30, 70)))
    holes = patches(lesion.canvas.size, rng, points, (0.022, 0.042), rough=0.08, longer=1.2, soft=0.008)
    out.melanin += lesion.mask * np.float32(0.3 * lesion.strength)
    out.clear(holes, rng.uniform(0.65, 0.9))
    out.veil(holes * lesion.mask, (0.86, 0.74, 0.66), 0.25)


def globules(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Round to oval brown clods: all over and alike, or uneven and to one side in an asymmetrical lesion."""
    size, odd = lesion.canvas.size, 1.0 - lesion.symmetry
    if rng.random() < 0.75 - odd:  # cobblestones
        lattice = honeycomb(lesion.canvas, rng, rng.uniform(0.09, 0.15), 0.35)
        clods = np.clip((lattice - np.float32(0.3)) * np.float32(0.8), 0.0, 1.0) * lesion.mask
    else:
        rim = rng.random() < 0.3
        points = lesion.places(rng, int(rng.integers(18, 60)), 0.02, 0.25 if rim else 9.0)
        radius = rng.uniform(0.02, 0.035)
        clods = patches(size, rng, points, (radius * (1.0 - 0.5 * odd), radius * (1.0 + odd)), soft=0.006)
        if odd > 0.4:
            clods = clods * lesion.zone(rng, 0.6, 4, 6.0)
    out.melanin += clods * np.float32(rng.uniform(0.8, 1.5) * lesion.strength)


def dots(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Black or dark brown points."""
    points = lesion.places(rng, int(rng.integers(20, 70)))
    mask = patches(lesion.canvas.size, rng, points, (0.008, 0.015), rough=0.0, longer=1.1)
    out.melanin += mask * lesion.inside * np.float32(rng.uniform(2.0, 3.2))


def streaks(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Dark lines and club-shaped pseudopods that run out over the border: around all of it, or on one side."""
    c = lesion.canvas
    rim = np.flatnonzero(np.abs(lesion.depth) < np.float32(1.2 * c.edge))
    if not len(rim):
        rim = np.array([int(np.argmin(np.abs(lesion.depth)))])
    even = lesion.symmetry > 0.65
    at = rim[rng.integers(0, len(rim), int(rng.integers(35, 60)))]
    down, right = np.gradient(lesion.depth)
    outward = -np.stack([right.ravel()[at], down.ravel()[at]], axis=1).astype(np.float64)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True) + 1e-9
    points = np.stack([c.x.ravel()[at], c.y.ravel()[at]], axis=1).astype(np.float64)
    side = np.array([np.cos(lesion.lean), np.sin(lesion.lean)])
    keep = np.ones(len(at), dtype=bool) if even else (outward @ side > 0.25)
    keep[:6] = True
    points, outward = points[keep], outward[keep]
    inward = lesion.size * rng.uniform(0.12, 0.3, (len(points), 1))
    reach = lesion.size * rng.uniform(0.03, 0.16, (len(points), 1))
    width = rng.uniform(0.014, 0.026)
    ends = points + outward * reach
    lines = [(np.stack([a, b]), width) for a, b in zip(points - outward * inward, ends, strict=True)]
    mask = strokes(c.size, lines)
    if rng.random() < 0.6:
        mask = np.maximum(mask, patches(c.size, rng, ends, (width * 0.8, width * 1.4)))
    out.melanin += mask * np.float32(rng.uniform(1.2, 2.2) * lesion.strength)


def blotch(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """A dark area without structure: in the middle of a symmetrical lesion, off it otherwise."""
    even = lesion.symmetry > 0.65
    points = lesion.middle()[None, :] if even else lesion.places(rng, int(rng.integers(1, 4)), 0.1)
    size = lesion.size
    mask = patches(lesion.canvas.size, rng, points, (0.2 * size, 0.42 * size), rough=0.2, soft=rng.uniform(0.02, 0.07))
    out.melanin += mask * lesion.mask * np.float32(rng.uniform(1.5, 2.6) * lesion.strength)


def blue_white_veil(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Confluent blue pigment under a whitish ground-glass haze, on part of the lesion."""
    where = lesion.zone(rng, rng.uniform(0.25, 0.55), 4, 2.0) * lesion.mask
    depth = np.clip(lesion.noise(rng, 9) * np.float32(0.2) + np.float32(0.85), 0.3, 1.0)
    out.veil(where * depth, BLUE, rng.uniform(0.55, 0.85))
    haze = np.clip(lesion.noise(rng, 7) * np.float32(0.4) + np.float32(0.3), 0.0, 1.0)
    out.veil(where * haze, WHITE, rng.uniform(0.15, 0.4))


def regression(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """White scar-like areas with grey-blue peppering."""
    scar = lesion.zone(rng, rng.uniform(0.2, 0.45), 5, 2.5) * lesion.mask
    out.veil(scar, WHITE, rng.uniform(0.45, 0.75))
    pepper = patches(lesion.canvas.size, rng, lesion.places(rng, 90), (0.008, 0.018), soft=0.005)
    out.veil(pepper * np.clip(blurred(scar, 0.05) * np.float32(1.6), 0.0, 1.0), SLATE, 0.65)


def nests(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Blue-grey ovoid nests and globules of pigmented basal cell carcinoma: well bounded, not joined."""
    size = lesion.size
    points = lesion.places(rng, int(rng.integers(1, 5)), 0.08)
    large = patches(lesion.canvas.size, rng, points, (0.1 * size, 0.28 * size), longer=2.2, soft=0.012)
    points = lesion.places(rng, int(rng.integers(3, 14)), 0.03)
    small = patches(lesion.canvas.size, rng, points, (0.018, 0.045), soft=0.008)
    grey = float(rng.uniform(-0.06, 0.06))
    tint = (SLATE[0] - grey, SLATE[1] - 0.5 * grey, SLATE[2] + grey)
    out.veil(np.maximum(large, small), tint, rng.uniform(0.6, 0.92))


def leaves(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Brown to grey-blue leaf-like areas: bulbs that join at an off-centre base near the border."""
    lines = []
    for start in lesion.places(rng, int(rng.integers(2, 5)), 0.05, 0.4):
        heading = float(np.arctan2(*(start - lesion.middle())[::-1]))
        for turn in rng.normal(0.0, 0.7, int(rng.integers(3, 6))):
            far = lesion.size * rng.uniform(0.15, 0.32) * np.array([np.cos(heading + turn), np.sin(heading + turn)])
            lines.append((np.stack([start, start + 0.6 * far]), rng.uniform(0.02, 0.035)))
            lines.append((np.stack([start + 0.55 * far, start + far]), rng.uniform(0.04, 0.07)))
    mask = blurred(strokes(lesion.canvas.size, lines), 0.012)
    out.melanin += mask * np.float32(rng.uniform(0.7, 1.3))
    out.veil(mask, SLATE, rng.uniform(0.25, 0.5))


def cerebriform(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Gyri and sulci: winding pale fat ridges between dark furrows."""
    fold = ridges(lesion.noise(rng, int(rng.integers(15, 25))), 0.8)
    furrow = (fold - np.float32(0.35)) * lesion.mask
    out.melanin += furrow * np.float32(rng.uniform(0.6, 1.1) * lesion.strength)


def fingerprint(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Fine parallel light brown lines that swirl like those of a finger."""
    c = lesion.canvas
    angle, pitch = rng.uniform(0.0, np.pi), 2 * np.pi / rng.uniform(0.055, 0.08)
    along = c.x * np.float32(np.cos(angle)) + c.y * np.float32(np.sin(angle))
    wave = np.sin((along + np.float32(0.1) * lesion.noise(rng, 4)) * np.float32(pitch))
    parts = np.clip(lesion.noise(rng, 7) * np.float32(0.5) + np.float32(0.8), 0.0, 1.0)
    lines = np.clip(wave * np.float32(1.2), -0.4, 1.0) * parts * lesion.mask
    out.melanin += lines * np.float32(rng.uniform(0.3, 0.55) * lesion.strength)
