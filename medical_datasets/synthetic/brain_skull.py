"""What surrounds the brain in phantoms: scalp, skull, sinuses, face and neck."""

from __future__ import annotations

import numpy as np

from .brain_frame import Point, Scene, depth
from .canvas import Array, ridges, smooth_noise


def shell(s: Scene, outer: Array, thick: float) -> Array:
    """Scalp, skull with marrow and the fluid under it.

    Args:
        outer: float32 (size, size), depth under the skin.
        thick: thickness of the shell, 1 for an adult's usual one.

    Returns:
        float32 (size, size), depth under the surface of the brain.
    """
    c, t = s.c, s.t
    uneven = np.float32(1.0) + np.float32(0.15) * smooth_noise(s.rng, c.size, 4)
    scalp, bone = np.float32(s.u(0.025, 0.075) * thick) * uneven, np.float32(s.u(0.028, 0.048) * thick) * uneven
    c.paint(s.whole, c.mask(outer), t["skin"])
    c.paint(s.whole, c.mask(outer - np.float32(0.014)), t["fat"])
    c.paint(s.whole, c.mask(outer - scalp), t["bone"])
    if s.rng.random() < 0.75:
        middle = scalp + np.float32(0.5) * bone
        diploe = c.mask(np.float32(s.u(0.16, 0.3)) * bone - np.abs(outer - middle))
        lumps = np.clip(np.float32(0.75) + np.float32(0.35) * smooth_noise(s.rng, c.size, 15), 0.0, 1.0)
        c.paint(s.whole, diploe * lumps, t["marrow"])
    inner = outer - scalp - bone
    c.paint(s.whole, c.mask(inner), t["dura"])
    c.paint(s.whole, c.mask(inner - np.float32(0.01)), t["csf"])
    surface: Array = inner - np.float32(s.u(0.008, 0.018) + 0.02 * s.atrophy)
    return surface


def speckle(s: Scene, cx: float, cy: float, rx: float, ry: float, angle: float = 0.0) -> None:
    """A patch of skull base or face: bone, fat, muscle and air mixed in small lumps."""
    c, t = s.c, s.t
    window = c.window(cx, cy, max(rx, ry), max(rx, ry))
    mask = c.mask(c.level(window, cx, cy, rx, ry, angle), 3.0)
    lumps = smooth_noise(s.rng, c.size, 17)[window]
    planes = ridges(smooth_noise(s.rng, c.size, 13)[window] + np.float32(0.4) * lumps, 0.55)
    holes = np.clip(smooth_noise(s.rng, c.size, 20)[window] - np.float32(0.9), 0.0, 1.0)
    value = np.float32(t["muscle"]) * (np.float32(1.0) + np.float32(0.14) * lumps)
    value = value + np.float32(0.5 * (t["fat"] - t["muscle"])) * planes
    value = value + (np.float32(t["bone"]) - value) * holes
    c.paint(window, mask * np.float32(0.9), value)


def cavity(s: Scene, at: Point, radii: Point, angle: float = 0.0) -> None:
    """An air sinus with a rim of mucosa, now and then filled with it."""
    s.c.ellipse(at[0], at[1], radii[0] + 0.012, radii[1] + 0.012, s.t["mucosa"], angle, 1.5, 0.6)
    filled = s.rng.random() < 0.1
    s.c.ellipse(at[0], at[1], radii[0], radii[1], s.t["mucosa" if filled else "air"], angle, 1.5)


def eyes(s: Scene, y: float, apart: float, radius: float, *, frontal: bool = False) -> None:
    """Two orbits at height ``y``: fat, globes with lenses (axial) or the muscle cone cut across (``frontal``)."""
    c, t = s.c, s.t
    for side in (-1, 1):
        x = side * apart
        if frontal:
            c.ellipse(x, y, radius * 1.5, radius * 1.3, t["fat"], 0.0, 1.5)
            if s.rng.random() < 0.7:
                c.ellipse(x, y, radius, radius, t["eye"])
                continue
            c.ellipse(x, y, radius * 0.28, radius * 0.28, t["white"])
            for angle in (0.0, 1.57, 3.14, 4.71):
                ax, ay = x + radius * 0.95 * float(np.cos(angle)), y + radius * 0.8 * float(np.sin(angle))
                c.ellipse(ax, ay, 0.016, 0.016, t["muscle"])
            continue
        c.ellipse(x * 0.96, y + 0.09, radius * 1.15, radius * 1.9, t["fat"], side * 0.35)
        c.capsule(x, y + 0.02, x * 0.55, y + 0.27, 0.014, t["white"])
        for lean in (-1.0, 1.0):
            c.capsule(x + lean * radius * 0.95, y + 0.05, x * 0.62, y + 0.25, 0.013, t["muscle"])
        c.ellipse(x, y, radius * 1.08, radius * 1.08, t["muscle"])
        c.ellipse(x, y, radius * 0.95, radius * 0.95, t["eye"])
        c.ellipse(x, y - radius * 0.7, radius * 0.4, radius * 0.18, t["lens"])


def tilt_head(s: Scene, view: str) -> None:
    """Frame the head and bend the coordinates: no head is a perfect ellipse, and few lie straight."""
    c = s.c
    low, high, down = {"axial": (0.92, 1.08, 0.0), "coronal": (0.95, 1.3, 0.3), "sagittal": (0.92, 1.18, 0.26)}[view]
    zoom = s.u(low, high)
    c.frame(zoom, s.u(-0.04, 0.04), down * zoom - (0.2 if down else 0.0) + s.u(-0.05, 0.05))
    gentle = np.float32(s.u(0.004, 0.013))
    c.bend(gentle * smooth_noise(s.rng, c.size, 4), gentle * smooth_noise(s.rng, c.size, 4))
    lean = s.u(-0.06, 0.06)
    c.bend(np.float32(lean) * c.y, np.float32(-lean) * c.x)


def dural_sinus(s: Scene, at: Point, size: float) -> None:
    """A triangular venous sinus cut across."""
    s.c.ellipse(at[0], at[1], size, size * 0.85, s.t["sinus"], 0.0, 1.2)


def neck(s: Scene, cx: float, width: float, top: float) -> None:
    """Neck or face below the skull: fat, muscle and a mixture of bone and vessels."""
    rough = np.float32(0.03) * smooth_noise(s.rng, s.c.size, 6)
    below = depth(s, cx, top + 0.75, width + 0.06, 0.85, 0.0, rough)
    s.c.paint(s.whole, s.c.mask(below), s.t["skin"])
    s.c.paint(s.whole, s.c.mask(below - np.float32(0.015)), s.t["fat"])
    s.c.paint(s.whole, s.c.mask(below - np.float32(s.u(0.04, 0.09)), 2.0), s.t["muscle"])
    speckle(s, cx, top + 0.6, width * 0.9, 0.7)
