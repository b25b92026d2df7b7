"""Tumours of brain-MRI phantoms: glioma inside the brain, meningioma on its coverings, pituitary mass in the sella."""

from __future__ import annotations

import numpy as np

from .brain_anatomy import Brain, Tissues
from .canvas import Array, Canvas, ridges, smooth_noise

_ALL = 9.0  # a reach that takes in the whole picture


def fade(t: Tissues, uptake: float) -> Tissues:
    """Tissues with a tumour's grey values moved towards healthy ones; ``uptake`` 1 leaves them, 0 hides them."""
    faded = dict(t)
    for name in ("enhancing", "solid", "gland", "lesion", "oedema", "necrosis"):
        healthy = t["grey"] if name in ("enhancing", "solid", "gland") else 0.5 * (t["grey"] + t["white"])
        faded[name] = float(np.clip(healthy + (t[name] - healthy) * uptake, 0.0, 1.0))
    return faded


def _spot(
    label: str, place: str, side: int, size: float, frame: Brain, rng: np.random.Generator
) -> tuple[float, float]:
    """Where the middle of the tumour lies."""
    if label == "pituitary":
        return frame.sella[0] + rng.uniform(-0.015, 0.015), frame.sella[1] - size * rng.uniform(0.1, 0.7)
    if label == "glioma":
        reach = {"deep": (0.1, 0.4), "lobar": (0.35, 0.68), "callosal": (0.05, 0.35)}[place]
        far, angle = rng.uniform(*reach), rng.uniform(-1.35, 1.35)
        x = side * abs(np.cos(angle)) if frame.facing > 0 else np.cos(angle) * rng.choice((-1.0, 1.0))
        return frame.cx + far * frame.rx * float(x), frame.cy + far * frame.ry * float(np.sin(angle)) * 0.85
    if place == "falx" and frame.facing > 0:
        return side * size * 0.75, frame.cy - frame.ry * rng.uniform(0.1, 0.9)
    if place == "skull base":
        x = side * frame.rx * rng.uniform(0.1, 0.6)
        return frame.cx + x, frame.cy + frame.ry * rng.uniform(0.3, 0.6)
    angle = rng.uniform(-np.pi, 0.0) if frame.facing < 0 else rng.uniform(-1.4, 0.9)
    far = 1.0 - 0.75 * size / min(frame.rx, frame.ry)
    x = np.cos(angle) * far * frame.rx * (side if frame.facing > 0 else 1)
    return frame.cx + float(x), frame.cy + float(np.sin(angle)) * far * frame.ry


def draw_tumour(
    c: Canvas,
    t: Tissues,
    label: str,
    kind: str,
    place: str,
    side: int,
    size: float,
    oedema: float,
    frame: Brain,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Draw a tumour into finished anatomy and return its middle in canvas coordinates.

    Args:
        label, kind, place, side, size, oedema: as in ``BrainPhantom``.
        frame: where the brain of this slice lies.
    """
    cx, cy = _spot(label, place, side, size, frame, rng)
    whole = c.window(0.0, 0.0, _ALL, _ALL)
    inside = c.level(whole, frame.cx, frame.cy, frame.rx, frame.ry)
    hold = np.clip(inside * np.float32(9.0), 0.0, 1.0)
    if label != "pituitary":
        c.swell(cx, cy, size * 1.7, 0.3 if label == "glioma" else 0.4, hold)
    rx, ry = size * rng.uniform(0.8, 1.2), size * rng.uniform(0.8, 1.2)
    angle = rng.uniform(0.0, np.pi)
    if oedema > 0.0:
        wide = size * (1.0 + oedema)
        fingers = np.float32(0.28) * smooth_noise(rng, c.size, 9)
        depth = c.level(whole, cx, cy, wide * rng.uniform(0.8, 1.2), wide, angle, fingers)
        c.paint(whole, c.mask(depth, 5.0) * hold * np.float32(rng.uniform(0.55, 0.95)), t["oedema"])
    texture = np.float32(1.0) + np.float32(0.1) * smooth_noise(rng, c.size, 14)
    if label == "glioma":
        rough = np.float32(0.2) * smooth_noise(rng, c.size, 11)
        _glioma(c, t, kind, c.level(whole, cx, cy, rx, ry, angle, rough), texture, hold, size, rng)
    elif label == "meningioma":
        _meningioma(c, t, kind, (cx, cy, rx, ry, angle), texture, inside, size, rng)
    else:
        _pituitary(c, t, kind, (cx, cy, rx, ry), texture, size, rng)
    return cx, cy


def _glioma(
    c: Canvas, t: Tissues, kind: str, depth: Array, texture: Array, hold: Array, size: float, rng: np.random.Generator
) -> None:
    whole = c.window(0.0, 0.0, _ALL, _ALL)
    if kind == "ring":
        wall = np.float32(size * rng.uniform(0.14, 0.34)) * (
            np.float32(1.0) + np.float32(0.35) * smooth_noise(rng, c.size, 8)
        )
        c.paint(whole, c.mask(depth) * hold, t["enhancing"] * texture)
        c.paint(whole, c.mask(depth - wall, 1.5) * hold, t["necrosis"])
    elif kind == "patchy":
        patches = np.clip(smooth_noise(rng, c.size, 17) * np.float32(0.9) + np.float32(0.35), 0.0, 1.0)
        value = np.float32(t["lesion"]) + np.float32(t["enhancing"] - t["lesion"]) * patches
        c.paint(whole, c.mask(depth, 2.0) * hold * np.float32(0.95), value * texture)
    elif kind == "infiltrating":
        strength = np.float32(rng.uniform(0.6, 0.95))
        c.paint(whole, c.mask(depth, 6.0) * hold * strength, t["lesion"] * texture)
        if rng.random() < 0.5:
            spots = np.clip(smooth_noise(rng, c.size, 20) - np.float32(0.7), 0.0, 1.0)
            c.paint(whole, c.mask(depth, 3.0) * spots * hold, t["enhancing"])
    else:
        c.paint(whole, c.mask(depth) * hold, t["csf"] * 1.05)
        rim = c.mask(depth) * c.mask(np.float32(size * 0.1) - depth)
        c.paint(whole, rim * hold * np.float32(rng.uniform(0.0, 0.8)), t["enhancing"])
        if rng.random() < 0.6:  # mural nodule
            nodule = c.mask(depth) * np.clip(smooth_noise(rng, c.size, 10) - np.float32(0.4), 0.0, 1.0)
            c.paint(whole, nodule, t["enhancing"])


def _meningioma(
    c: Canvas,
    t: Tissues,
    kind: str,
    shape: tuple[float, float, float, float, float],
    texture: Array,
    inside: Array,
    size: float,
    rng: np.random.Generator,
) -> None:
    cx, cy, rx, ry, angle = shape
    whole = c.window(0.0, 0.0, _ALL, _ALL)
    rough = np.float32(0.09 if kind == "lobulated" else 0.03) * smooth_noise(rng, c.size, 12)
    if kind == "plaque":
        rx, ry = rx * 1.35, ry * 0.7
        angle = float(np.arctan2(cy, cx)) + np.pi / 2
    depth = c.level(whole, cx, cy, rx, ry, angle, rough)
    within = c.mask(inside + np.float32(0.02))
    if rng.random() < 0.5:  # fluid cleft between mass and brain
        c.paint(whole, c.mask(depth + np.float32(0.02)) * within * np.float32(0.6), t["csf"])
    value = t["solid"] * (np.float32(1.0) + np.float32(0.5) * (texture - np.float32(1.0)))
    c.paint(whole, c.mask(depth) * within, value)
    if rng.random() < 0.2:
        rim = c.mask(depth) * c.mask(np.float32(0.02) - depth)
        c.paint(whole, rim * within * np.float32(0.5), t["bone"])
    if rng.random() < 0.6:  # dural tail
        near = np.exp(-((c.x - cx) ** 2 + (c.y - cy) ** 2) * np.float32(0.5 / (1.5 * size) ** 2))
        skin = c.mask(np.float32(0.022) - np.abs(inside))
        c.paint(whole, skin * near, t["solid"])


def _pituitary(
    c: Canvas,
    t: Tissues,
    kind: str,
    shape: tuple[float, float, float, float],
    texture: Array,
    size: float,
    rng: np.random.Generator,
) -> None:
    cx, cy, rx, ry = shape
    whole = c.window(0.0, 0.0, _ALL, _ALL)
    rough = np.float32(0.06) * smooth_noise(rng, c.size, 12)
    value = t["gland"] * texture
    c.paint(whole, c.mask(c.level(whole, cx, cy, rx * 1.25, ry * 1.25, 0.0, rough)) * np.float32(0.5), t["csf"])
    c.paint(whole, c.mask(c.level(whole, cx, cy, rx, ry, 0.0, rough)), value)
    if kind == "snowman":
        c.paint(whole, c.mask(c.level(whole, cx, cy + ry, rx * 1.15, ry * 0.75, 0.0, rough)), value)
    elif kind == "necrotic":
        core = c.level(whole, cx, cy, rx * 0.6, ry * 0.6, 0.0, rough * np.float32(4.0))
        c.paint(whole, c.mask(core, 2.0) * np.float32(0.8), t["necrosis"])
    if rng.random() < 0.4:  # bright wall of the vessels beside it
        for s in (-1, 1):
            c.ellipse(cx + s * (rx + 0.02), cy + 0.4 * ry, 0.024, 0.03, t["vessel"])


def white_matter_spots(c: Canvas, t: Tissues, frame: Brain, rng: np.random.Generator) -> None:
    """Small bright or dark spots of ageing, so that not every spot is a tumour."""
    whole = c.window(0.0, 0.0, _ALL, _ALL)
    deep = np.clip(c.level(whole, frame.cx, frame.cy, frame.rx * 0.75, frame.ry * 0.75) * 9.0, 0.0, 1.0)
    spots = np.clip(smooth_noise(rng, c.size, 22) * np.float32(1.5) - np.float32(2.0), 0.0, 1.0)
    c.paint(whole, spots * deep, t["oedema"])


def vessels(c: Canvas, t: Tissues, frame: Brain, rng: np.random.Generator) -> None:
    """Thin winding vessels inside the brain."""
    whole = c.window(0.0, 0.0, _ALL, _ALL)
    lines = np.clip(ridges(smooth_noise(rng, c.size, 7), 0.05) * 2.0, 0.0, 1.0)
    lines = lines * np.clip(smooth_noise(rng, c.size, 6) - np.float32(0.5), 0.0, 1.0)
    c.paint(whole, lines * c.mask(c.level(whole, frame.cx, frame.cy, frame.rx, frame.ry)), t["vessel"])
