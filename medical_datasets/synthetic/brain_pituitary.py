"""Pituitary masses of brain phantoms: from a spot in the gland to a snowman that lifts the chiasm."""

from __future__ import annotations

import numpy as np

from .brain_frame import Brain, Point, Scene, depth
from .brain_mass import border_of
from .brain_phantom import BrainPhantom
from .canvas import Array, smooth_noise


def pituitary(s: Scene, frame: Brain, p: BrainPhantom, at: Point, rng: np.random.Generator) -> Array:
    """Draw a pituitary adenoma of ``p.kind`` round ``at``; returns its mask, float32 (size, size) in [0, 1]."""
    c, t = s.c, s.t
    if p.kind == "micro":
        return _micro(s, frame, p, rng)
    rough, soft = border_of(s, p, rng)
    rough = rough * np.float32(0.7)
    x, y = at
    tall = p.view != "axial"
    rx, ry = p.size * float(rng.uniform(0.85, 1.1)), p.size * float(rng.uniform(0.85, 1.2))
    floor = frame.marks["sella"][1]
    body = depth(s, x, y, rx, ry, 0.0, rough)
    if tall:  # the sella is ballooned: thin dark bone round the part below
        sella = depth(s, x, max(y, floor) + 0.35 * ry, 0.85 * rx, 0.6 * ry, 0.0, rough)
        c.paint(s.whole, c.mask(sella + np.float32(0.022)), t["bone"])
        body = np.maximum(body, sella)
    if p.kind == "snowman":  # waist at the diaphragm of the sella
        if tall:
            waist = max(y, floor)
            body = depth(s, x, waist + 0.45 * ry, rx, 0.62 * ry, 0.0, rough)
            upper = float(rng.uniform(0.65, 0.95))
            body = np.maximum(body, depth(s, x, waist - 0.6 * ry, upper * rx, 0.75 * ry, 0.0, rough))
        else:
            body = np.maximum(body, depth(s, x, y - 0.5 * ry, 0.7 * rx, 0.6 * ry, 0.0, rough))
    above = c.mask(body + np.float32(0.03)) * c.mask(np.float32(y) - c.y, 3.0) if tall else c.mask(body + 0.025)
    c.paint(s.whole, above * np.float32(0.75), t["csf"])
    if tall and p.size > 0.06:  # chiasm draped over the dome
        dome = c.mask(np.float32(0.013) - np.abs(body + np.float32(0.026))) * c.mask(
            np.float32(y - 0.5 * ry) - c.y, 2.0
        )
        c.paint(s.whole, dome * np.float32(0.9), t["white"])
    if p.kind == "invasive":
        body = _invade(s, frame, p, at, body, rough, rng)
    mask = c.mask(body, min(soft, 2.0))
    _fill(s, p, body, mask, rng)
    if frame.facing > 0:
        for side in (-1, 1):  # carotids, encased when the mass invades
            far = 0.75 * rx if p.kind == "invasive" else rx + 0.025
            c.ellipse(x + side * max(far, 0.09), y + 0.3 * ry, 0.022, 0.025, t["vessel"])
    return mask


def _fill(s: Scene, p: BrainPhantom, body: Array, mask: Array, rng: np.random.Generator) -> None:
    c, t = s.c, s.t
    texture = np.float32(1.0) + np.float32(0.05) * smooth_noise(rng, c.size, 15)
    value = t["solid"] * texture
    if p.enhancement == "heterogeneous":
        patches = np.clip(np.float32(0.75) + np.float32(0.45) * smooth_noise(rng, c.size, 14), 0.0, 1.0)
        value = np.float32(t["lesion"]) + (value - np.float32(t["lesion"])) * patches
    c.paint(s.whole, mask, value)
    if p.kind == "necrotic":
        wall = np.float32(0.4 * p.size) * np.clip(1.0 + 0.5 * smooth_noise(rng, c.size, 9), 0.4, 2.0)
        c.paint(s.whole, c.mask(body - wall.astype(np.float32), 2.0) * np.float32(0.9), t["necrosis"])
    elif p.kind == "cystic":
        wall = np.float32(max(0.16 * p.size, 0.014))
        bled = rng.random() < 0.5
        hollow = c.mask(body - wall, 1.3)
        c.paint(s.whole, hollow, t["blood" if bled else "cyst"])
        if bled and rng.random() < 0.6:  # fluid level
            middle = float((s.c.y * mask).sum() / max(float(mask.sum()), 1e-6))
            c.paint(s.whole, hollow * c.mask(s.c.y - np.float32(middle)), t["necrosis"])


def _invade(
    s: Scene, frame: Brain, p: BrainPhantom, at: Point, body: Array, rough: Array, rng: np.random.Generator
) -> Array:
    """Growth into one or both cavernous sinuses, or into the sphenoid sinus."""
    for side in (-1, 1):
        if frame.facing > 0 and (side == p.side or rng.random() < 0.3):
            x = at[0] + side * (0.7 * p.size + 0.04)
            part = depth(s, x, at[1] + 0.25 * p.size, 0.6 * p.size + 0.02, 0.65 * p.size, 0.0, rough)
            body = np.maximum(body, part)
    if p.view != "axial":
        part = depth(s, at[0] - 0.03, at[1] + 0.9 * p.size, 0.7 * p.size, 0.6 * p.size, 0.0, rough)
        body = np.maximum(body, part)
    return body


def _micro(s: Scene, frame: Brain, p: BrainPhantom, rng: np.random.Generator) -> Array:
    """A small spot, less bright than the gland that it widens; the stalk leans to the other side."""
    c, t = s.c, s.t
    x, y = frame.marks["sella"]
    wide, high = 0.075 + 0.4 * p.size, 0.035 + 0.5 * p.size
    if frame.facing < 0:
        wide = 0.05 + 0.4 * p.size
    gland = c.mask(depth(s, x, y, wide, high))
    c.paint(s.whole, gland, t["gland"])
    if p.view != "axial":
        c.capsule(x - 0.03 * p.side, y - 0.11, x, y - 0.02, 0.008, t["gland"])
    side = p.side if frame.facing > 0 else float(rng.uniform(-0.5, 0.5))
    spot = c.mask(depth(s, x + side * 0.45 * wide, y + 0.1 * high, p.size, 0.85 * p.size)) * gland
    c.paint(s.whole, spot, 0.5 * (t["lesion"] + 0.8 * t["grey"]))
    out: Array = np.maximum(gland, spot)
    return out
