"""Gliomas of brain phantoms: masses inside the brain, from faint infiltration to thick-walled necrosis."""

from __future__ import annotations

import numpy as np

from .brain_frame import Brain, Point, Scene, depth
from .brain_mass import border_of, swell
from .brain_phantom import BrainPhantom
from .canvas import Array, smooth_noise


def glioma(s: Scene, frame: Brain, p: BrainPhantom, at: Point, rng: np.random.Generator) -> Array:
    """Draw a glioma of ``p.kind`` round ``at``; returns its mask, float32 (size, size) in [0, 1]."""
    rough, soft = border_of(s, p, rng)
    rx, ry = p.size * float(rng.uniform(0.8, 1.2)), p.size * float(rng.uniform(0.75, 1.15))
    angle = float(rng.uniform(0.0, np.pi))
    swell(s, frame, p, at, (rx, ry), angle, rng)
    hold = np.clip(frame.inside * np.float32(14.0) + np.float32(0.35), 0.0, 1.0)
    body = _body(s, frame, p, at, (rx, ry), angle, rough, rng)
    mask: Array = s.c.mask(body, soft) * hold
    texture = np.float32(1.0) + np.float32(0.09) * smooth_noise(rng, s.c.size, 15)
    if p.kind in ("ring", "multifocal", "haemorrhagic", "butterfly") and p.enhancement == "rim":
        _ring(s, p, body, mask, texture, rng)
    elif p.kind == "infiltrating":
        _infiltrate(s, p, body, mask, hold, texture, rng)
    elif p.kind == "cystic":
        _cyst(s, p, at, (rx, ry), body, mask, rng)
    elif p.kind == "ring":
        _ring(s, p, body, mask, texture, rng)
    else:
        _patches(s, body, mask, texture, rng)
    if p.kind == "haemorrhagic":
        _bleed(s, p, body, mask, rng)
    return mask


def _body(
    s: Scene,
    frame: Brain,
    p: BrainPhantom,
    at: Point,
    radii: Point,
    angle: float,
    rough: Array,
    rng: np.random.Generator,
) -> Array:
    """Depth inside the mass: one lump, two wings across the midline, or several lumps."""
    rx, ry = radii
    if p.kind == "butterfly":
        if frame.facing < 0:
            return depth(s, at[0], at[1], 1.25 * rx, 0.7 * ry, -0.3, rough)
        wing, lean = 0.75 * p.size, float(rng.uniform(0.2, 0.6))
        one, other = float(rng.uniform(0.75, 1.1)), float(rng.uniform(0.75, 1.1))
        y = at[1]
        body = depth(s, at[0] - wing, y, 0.7 * rx * one, 0.85 * ry * one, lean, rough)
        body = np.maximum(body, depth(s, at[0] + wing, y, 0.7 * rx * other, 0.85 * ry * other, -lean, rough))
        return np.maximum(body, depth(s, at[0], y, wing, 0.4 * p.size, 0.0, rough))
    body = depth(s, at[0], at[1], rx, ry, angle, rough)
    if p.kind == "multifocal":
        body = depth(s, at[0], at[1], 0.75 * rx, 0.75 * ry, angle, rough)
        for _ in range(int(rng.integers(1, 4))):
            turn, far = float(rng.uniform(0.0, 2 * np.pi)), p.size * float(rng.uniform(1.1, 1.9))
            x, y = at[0] + far * float(np.cos(turn)), at[1] + far * float(np.sin(turn))
            own = max(p.size * float(rng.uniform(0.22, 0.5)), 0.03)
            body = np.maximum(body, depth(s, x, y, own, own * float(rng.uniform(0.8, 1.2)), 0.0, rough))
    return body


def _ring(s: Scene, p: BrainPhantom, body: Array, mask: Array, texture: Array, rng: np.random.Generator) -> None:
    """Thick, uneven wall round necrosis, as in glioblastoma."""
    uneven = np.float32(1.0) + np.float32(0.45) * smooth_noise(rng, s.c.size, 7)
    uneven = uneven + np.float32(0.3) * smooth_noise(rng, s.c.size, 18)
    wall = np.float32(max(p.size * rng.uniform(0.16, 0.38), 0.022)) * np.clip(uneven, 0.35, 2.2)
    s.c.paint(s.whole, mask, s.t["enhancing"] * texture)
    core = s.t["necrosis"] * (np.float32(1.0) + np.float32(0.12) * smooth_noise(rng, s.c.size, 11))
    s.c.paint(s.whole, s.c.mask(body - wall, 1.5) * mask, core)


def _patches(s: Scene, body: Array, mask: Array, texture: Array, rng: np.random.Generator) -> None:
    """Solid tissue that takes up contrast agent here and there."""
    patches = np.clip(smooth_noise(rng, s.c.size, 15) * np.float32(0.9) + np.float32(0.4), 0.0, 1.0)
    value = np.float32(s.t["lesion"]) + np.float32(s.t["enhancing"] - s.t["lesion"]) * patches
    s.c.paint(s.whole, mask * np.float32(0.95), value * texture)
    holes = np.clip(smooth_noise(rng, s.c.size, 11) - np.float32(0.9), 0.0, 1.0)
    s.c.paint(s.whole, holes * mask * s.c.mask(body - np.float32(0.03), 2.0), s.t["necrosis"])


def _infiltrate(
    s: Scene, p: BrainPhantom, body: Array, mask: Array, hold: Array, texture: Array, rng: np.random.Generator
) -> None:
    """Low-grade growth: thickened, water-rich cortex and white matter; sulci fill, little else changes."""
    wide = mask if p.border == "sharp" else s.c.mask(body, 6.0) * hold
    s.c.paint(s.whole, wide * np.float32(rng.uniform(0.7, 0.95)), s.t["lesion"] * texture)
    if p.enhancement != "none":
        spots = np.clip(smooth_noise(rng, s.c.size, 18) - np.float32(0.6), 0.0, 1.0)
        s.c.paint(s.whole, s.c.mask(body, 3.0) * spots * hold, s.t["enhancing"])


def _cyst(
    s: Scene, p: BrainPhantom, at: Point, radii: Point, body: Array, mask: Array, rng: np.random.Generator
) -> None:
    """Cyst with a mural nodule that takes up contrast agent."""
    s.c.paint(s.whole, mask, s.t["cyst"])
    rim = np.clip(mask * s.c.mask(np.float32(max(0.1 * p.size, 0.014)) - body), 0.0, 1.0)
    s.c.paint(s.whole, rim * np.float32(rng.uniform(0.3, 1.0) if p.enhancement == "rim" else 0.25), s.t["enhancing"])
    turn = float(rng.uniform(0.0, 2 * np.pi))
    x, y = at[0] + 0.65 * radii[0] * float(np.cos(turn)), at[1] + 0.65 * radii[1] * float(np.sin(turn))
    own = max(p.size * float(rng.uniform(0.25, 0.45)), 0.025)
    nodule = s.c.mask(depth(s, x, y, own, 0.85 * own, turn)) * mask
    s.c.paint(s.whole, nodule, s.t["enhancing"])


def _bleed(s: Scene, p: BrainPhantom, body: Array, mask: Array, rng: np.random.Generator) -> None:
    """Blood in the core, often with a level or a dark rim of old blood."""
    lumps = s.c.mask(body - np.float32(0.3 * p.size), 2.0) * np.clip(
        np.float32(0.6) + smooth_noise(rng, s.c.size, 10) * np.float32(0.8), 0.0, 1.0
    )
    s.c.paint(s.whole, lumps * mask, s.t["blood"])
    edge = mask * s.c.mask(np.float32(0.014) - np.abs(body - np.float32(0.3 * p.size)))
    s.c.paint(s.whole, edge * np.float32(0.8), s.t["old blood"])
