"""Structures of keratin and scar on a lesion: cysts, plugs, scale, crust, ulcers, white areas and lines."""

from __future__ import annotations

import numpy as np

from .canvas import ridges
from .skin_layers import CREAM, WHITE, YELLOW, Layers, Lesion, Tint, blurred, patches, strokes


def milia(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Milia-like cysts: small round white or yellowish bright spots, starry or cloudy."""
    starry = rng.random() < 0.7
    points = lesion.places(rng, int(rng.integers(6, 26) if starry else rng.integers(3, 9)), 0.06)
    radius = (0.014, 0.028) if starry else (0.03, 0.055)
    mask = patches(lesion.canvas.size, rng, points, radius, rough=0.05, longer=1.2, soft=0.006 if starry else 0.012)
    out.veil(mask * lesion.inside, CREAM, rng.uniform(0.6, 0.95))


def comedones(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Comedo-like openings: brown to black plugs of keratin, round to irregular."""
    points = lesion.places(rng, int(rng.integers(6, 24)), 0.05)
    mask = patches(lesion.canvas.size, rng, points, (0.016, 0.045), rough=0.2, longer=1.9, soft=0.005)
    mask = mask * lesion.inside
    out.melanin += mask * np.float32(rng.uniform(1.0, 2.2))
    out.veil(mask, (0.34, 0.22, 0.14), rng.uniform(0.3, 0.65))


def ulcer(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """One or more raw red-brown areas with clotted crust."""
    r = lesion.size
    points = lesion.places(rng, int(rng.integers(1, 5)), 0.2)
    mask = patches(lesion.canvas.size, rng, points, (0.1 * r, 0.32 * r), rough=0.25, longer=1.8, soft=0.022)
    mask = mask * lesion.mask
    tint: Tint = (rng.uniform(0.36, 0.58), rng.uniform(0.08, 0.18), rng.uniform(0.07, 0.15))
    out.veil(mask, tint, rng.uniform(0.75, 0.95))
    grain = np.clip(lesion.noise(rng, 20) * np.float32(0.7), 0.0, 1.0)
    out.veil(mask * grain, (0.62, 0.38, 0.16), rng.uniform(0.4, 0.8))
    shine = np.clip(lesion.noise(rng, 30) * np.float32(0.8) - np.float32(1.0), 0.0, 1.0)
    out.veil(mask * shine, (0.95, 0.85, 0.82), 0.8)


def scale(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """White to yellowish flakes on the surface, in plates or fine."""
    cells = int(rng.integers(16, 30))
    flakes = lesion.noise(rng, cells) + np.float32(0.5) * lesion.noise(rng, 44)
    flakes = np.clip((flakes - np.float32(rng.uniform(0.3, 0.8))) * np.float32(0.9), 0.0, 1.0)
    edges = np.clip(ridges(lesion.noise(rng, cells // 2), 0.18), 0.0, 1.0) * np.float32(0.7)
    parts = np.clip(lesion.noise(rng, 5) + np.float32(0.7), 0.0, 1.0)
    mask = np.maximum(flakes, edges) * parts * lesion.mask
    out.veil(mask, WHITE if rng.random() < 0.7 else CREAM, rng.uniform(0.45, 0.85))


def crust(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Dried serum and blood: sharply bounded yellow, orange or brown-red plates."""
    r = lesion.size
    points = lesion.places(rng, int(rng.integers(2, 8)), 0.08)
    mask = patches(lesion.canvas.size, rng, points, (0.07 * r, 0.24 * r), rough=0.3, longer=1.9, soft=0.012)
    grain = np.clip(lesion.noise(rng, 24) * np.float32(0.25) + np.float32(0.85), 0.3, 1.0)
    kind = rng.random()
    tint: Tint = (0.80, 0.62, 0.43) if kind < 0.5 else (0.62, 0.36, 0.17) if kind < 0.8 else (0.42, 0.18, 0.12)
    out.veil(mask * grain * lesion.mask, tint, rng.uniform(0.7, 0.95))
    glint = np.clip(lesion.noise(rng, 34) - np.float32(1.1), 0.0, 1.0)
    out.veil(mask * glint, (0.98, 0.94, 0.86), 0.7)


def white_patch(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """The scar-like white middle of a dermatofibroma, even or as a white network."""
    inner = lesion.depth - np.float32(lesion.size * rng.uniform(0.35, 0.6))
    scar = lesion.canvas.mask(inner + np.float32(0.05) * lesion.noise(rng, 7), rng.uniform(4.0, 8.0))
    if rng.random() < 0.35:
        scar = scar * np.clip(ridges(lesion.noise(rng, 15), 0.8) * np.float32(1.3), 0.15, 1.0)
    else:
        scar = scar * np.clip(np.float32(0.85) + np.float32(0.2) * lesion.noise(rng, 12), 0.0, 1.0)
    out.clear(scar, 0.6)
    out.veil(scar, WHITE, rng.uniform(0.5, 0.85))


def white_lines(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Shiny white lines of polarised light: short, straight, at right angles to one another."""
    turn, lines = rng.uniform(0.0, np.pi), []
    for start in lesion.places(rng, int(rng.integers(8, 22)), 0.1):
        a = turn + np.pi / 2 * int(rng.integers(2)) + rng.normal(0.0, 0.12)
        far = rng.uniform(0.04, 0.12) * np.array([np.cos(a), np.sin(a)])
        lines.append((np.stack([start - far, start + far]), rng.uniform(0.011, 0.02)))
    mask = blurred(strokes(lesion.canvas.size, lines), 0.006)
    out.veil(mask * lesion.mask, (0.96, 0.90, 0.91), rng.uniform(0.4, 0.75))


def white_circles(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """Bright white rings around yellowish follicle plugs: squamous cell carcinoma, keratoacanthoma."""
    turn, rings = np.linspace(0.0, 2.0 * np.pi, 14), []
    points = lesion.places(rng, int(rng.integers(6, 20)), 0.06)
    for middle in points:
        radius = rng.uniform(0.035, 0.065)
        ring = middle + radius * np.stack([np.cos(turn), np.sin(turn) * rng.uniform(0.8, 1.0)], axis=1)
        rings.append((ring, rng.uniform(0.022, 0.034)))
    plugs = patches(lesion.canvas.size, rng, points, (0.014, 0.03), soft=0.006)
    out.veil(plugs * lesion.inside, YELLOW, rng.uniform(0.4, 0.75))
    mask = blurred(strokes(lesion.canvas.size, rings), 0.006)
    out.veil(mask * lesion.inside, WHITE, rng.uniform(0.65, 0.95))


def keratin(lesion: Lesion, out: Layers, rng: np.random.Generator) -> None:
    """A central amorphous mass of keratin, yellow-white to brown, often with spots of blood."""
    middle = lesion.middle()[None, :] + rng.normal(0.0, 0.12 * lesion.size, (1, 2))
    r = lesion.size * rng.uniform(0.3, 0.6)
    mask = patches(lesion.canvas.size, rng, middle, (0.85 * r, r), rough=0.16, longer=1.5, soft=0.015) * lesion.mask
    shade = rng.random()
    tint: Tint = (
        0.86 - 0.2 * shade + rng.normal(0.0, 0.02),
        0.74 - 0.27 * shade + rng.normal(0.0, 0.02),
        0.58 - 0.26 * shade + rng.normal(0.0, 0.03),
    )
    out.veil(mask, tint, rng.uniform(0.8, 0.95))
    grain = np.clip(lesion.noise(rng, 16) * np.float32(0.5), 0.0, 1.0)
    out.veil(mask * grain, (0.95, 0.89, 0.78), rng.uniform(0.3, 0.7))
    cracks = np.clip(ridges(lesion.noise(rng, 9), 0.14), 0.0, 1.0)
    out.veil(mask * cracks, (0.38, 0.24, 0.15), rng.uniform(0.2, 0.6))
    if rng.random() < 0.6:
        blood = patches(lesion.canvas.size, rng, lesion.places(rng, 8, 0.3), (0.012, 0.04), soft=0.006)
        out.veil(blood * mask, (0.36, 0.07, 0.08), 0.8)
