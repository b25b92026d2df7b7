"""Normal anatomy of brain-MRI phantoms: what a head looks like in three views, before any tumour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Array, Canvas, ridges, smooth_noise

Tissues = dict[str, float]

_TISSUES: dict[str, Tissues] = {
    # Grey values in [0, 1] by contrast. "lesion" and "oedema" are water-rich tissue, "enhancing" takes up contrast
    # agent, "solid" is a homogeneous extra-axial mass, "gland" the pituitary.
    "t1": {
        "fat": 0.85, "marrow": 0.30, "bone": 0.05, "csf": 0.10, "grey": 0.38, "white": 0.52, "muscle": 0.30,
        "air": 0.02, "dura": 0.30, "vessel": 0.12, "enhancing": 0.40, "necrosis": 0.17, "oedema": 0.31,
        "lesion": 0.29, "solid": 0.40, "gland": 0.44, "eye": 0.14,
    },
    "t1c": {
        "fat": 0.80, "marrow": 0.32, "bone": 0.06, "csf": 0.10, "grey": 0.36, "white": 0.43, "muscle": 0.34,
        "air": 0.02, "dura": 0.60, "vessel": 0.80, "enhancing": 0.90, "necrosis": 0.14, "oedema": 0.26,
        "lesion": 0.26, "solid": 0.78, "gland": 0.74, "eye": 0.13,
    },
    "t2": {
        "fat": 0.55, "marrow": 0.25, "bone": 0.05, "csf": 0.95, "grey": 0.52, "white": 0.34, "muscle": 0.18,
        "air": 0.02, "dura": 0.12, "vessel": 0.06, "enhancing": 0.60, "necrosis": 0.88, "oedema": 0.76,
        "lesion": 0.72, "solid": 0.56, "gland": 0.50, "eye": 0.92,
    },
    "flair": {
        "fat": 0.60, "marrow": 0.25, "bone": 0.06, "csf": 0.09, "grey": 0.48, "white": 0.38, "muscle": 0.25,
        "air": 0.02, "dura": 0.25, "vessel": 0.10, "enhancing": 0.66, "necrosis": 0.36, "oedema": 0.84,
        "lesion": 0.78, "solid": 0.60, "gland": 0.50, "eye": 0.12,
    },
    "dwi": {
        "fat": 0.09, "marrow": 0.05, "bone": 0.05, "csf": 0.12, "grey": 0.48, "white": 0.42, "muscle": 0.08,
        "air": 0.04, "dura": 0.08, "vessel": 0.08, "enhancing": 0.66, "necrosis": 0.25, "oedema": 0.58,
        "lesion": 0.62, "solid": 0.66, "gland": 0.42, "eye": 0.10,
    },
}  # fmt: skip
CONTRASTS = tuple(_TISSUES)
VIEWS = ("axial", "coronal", "sagittal")


@dataclass(frozen=True, slots=True)
class Brain:
    """Where the brain lies in a drawn slice, in canvas coordinates: an ellipse, and the sella."""

    cx: float
    cy: float
    rx: float
    ry: float
    sella: tuple[float, float]
    facing: int


def tissues(contrast: str, rng: np.random.Generator, spread: float = 0.05) -> Tissues:
    """Grey values of one acquisition: the table's, each moved by a few per cent of the full scale."""
    return {
        name: float(np.clip(value + spread * (0.3 + value) * rng.standard_normal(), 0.0, 1.0))
        for name, value in _TISSUES[contrast].items()
    }


def head_shell(
    c: Canvas, t: Tissues, e: tuple[float, float, float, float], thick: float, rng: np.random.Generator
) -> None:
    """Scalp, skull with marrow, and the fluid under it; ``e`` is (cx, cy, rx, ry) of the outer skin."""
    cx, cy, rx, ry = e
    uneven = np.float32(0.012) * smooth_noise(rng, c.size, 4)
    window = c.window(cx, cy, rx, ry)
    depth = c.level(window, cx, cy, rx, ry, rough=uneven)
    scalp = 0.045 * thick
    c.paint(window, c.mask(depth), t["fat"])
    c.paint(window, c.mask(depth - np.float32(scalp)), t["bone"])
    if thick > 0.9:
        diploe = c.mask(depth - np.float32(scalp + 0.018)) * c.mask(np.float32(scalp + 0.034 * thick) - depth)
        c.paint(window, diploe, t["marrow"])
    c.paint(window, c.mask(depth - np.float32(scalp + 0.05 * thick)), t["dura"])
    c.paint(window, c.mask(depth - np.float32(scalp + 0.05 * thick + 0.014)), t["csf"])


def cortex(c: Canvas, t: Tissues, mask: Array, rim: Array, atrophy: float, rng: np.random.Generator) -> None:
    """Grey and white matter with winding sulci.

    Args:
        mask: where the brain is, full size, 0..1.
        rim: 0 at the surface, growing inwards, full size, in coordinate units.
        atrophy: in [0, 1]; wider sulci.
    """
    folds = smooth_noise(rng, c.size, 15) + np.float32(0.35) * smooth_noise(rng, c.size, 24)
    near = np.clip(np.float32(1.25) - rim * np.float32(3.2), 0.0, 1.0)
    sulcus = np.clip(ridges(folds, 0.16 + 0.22 * atrophy) * np.float32(1.7), 0.0, 1.0) * near
    ribbon = np.clip(ridges(folds, 0.75) * np.float32(2.2), 0.0, 1.0) * near
    surface = np.clip(np.float32(1.0) - (rim - np.float32(0.035)) * np.float32(22.0), 0.0, 1.0)
    grey = np.maximum(ribbon, surface)
    texture = np.float32(1.0) + np.float32(0.05) * smooth_noise(rng, c.size, 9)
    tissue = (np.float32(t["white"]) + np.float32(t["grey"] - t["white"]) * grey) * texture
    tissue += (np.float32(t["csf"]) - tissue) * sulcus * np.float32(0.85)
    c.image += (tissue - c.image) * mask


def speckle(c: Canvas, t: Tissues, cx: float, cy: float, rx: float, ry: float, rng: np.random.Generator) -> None:
    """A patch of skull base or face: bone, fat, muscle and air mixed in small lumps."""
    window = c.window(cx, cy, rx, ry)
    mask = c.mask(c.level(window, cx, cy, rx, ry), 3.0)
    lumps = smooth_noise(rng, c.size, 13)[window] + np.float32(0.8) * smooth_noise(rng, c.size, 34)[window]
    middle, spread = np.float32(t["muscle"]), np.float32(0.08 + 0.22 * abs(t["fat"] - t["muscle"]))
    value = np.clip(middle + spread * lumps, np.float32(t["bone"]), np.float32(max(t["fat"], t["muscle"])))
    c.paint(window, mask * np.float32(0.9), value)


def ventricles(c: Canvas, t: Tissues, cx: float, cy: float, scale: float, fat: float, tilt: float, back: bool) -> None:
    """Butterfly of the lateral ventricles with the third below; ``fat`` is their width factor."""
    for s in (-1, 1):
        c.ellipse(cx + s * 0.085 * scale, cy - 0.15 * scale, 0.045 * fat, 0.17 * scale, t["csf"], -s * tilt)
        if back:
            c.ellipse(cx + s * 0.12 * scale, cy + 0.2 * scale, 0.042 * fat, 0.2 * scale, t["csf"], s * tilt)
        c.ellipse(cx + s * 0.1 * scale, cy + 0.1 * scale, 0.09 * scale, 0.12 * scale, t["grey"], opacity=0.7)
        c.ellipse(cx + s * 0.25 * scale, cy, 0.05 * scale, 0.14 * scale, t["grey"], -s * 0.25, opacity=0.7)
    c.ellipse(cx, cy + 0.07 * scale, 0.014 + 0.012 * fat, 0.1 * scale, t["csf"])


def _cerebellum(c: Canvas, t: Tissues, cx: float, cy: float, rx: float, ry: float, rng: np.random.Generator) -> None:
    window = c.window(cx, cy, rx, ry)
    depth = c.level(window, cx, cy, rx, ry)
    uneven = np.float32(0.05) * smooth_noise(rng, c.size, 9)[window]
    slant = (c.y[window] - np.float32(cy)) * np.float32(0.5)
    leaves = np.sin((depth + uneven + slant) * np.float32(rng.uniform(80, 120))) * np.float32(0.5) + np.float32(0.5)
    value = np.float32(t["grey"]) + np.float32(0.16 * (t["csf"] - t["grey"])) * leaves
    c.paint(window, c.mask(depth), value)
    c.ellipse(cx - 0.4 * rx, cy, rx * 0.3, ry * 0.35, t["white"], soft=4.0, opacity=0.7)
    c.ellipse(cx + 0.4 * rx, cy, rx * 0.3, ry * 0.35, t["white"], soft=4.0, opacity=0.7)


def _eyes(c: Canvas, t: Tissues, cx: float, y: float, apart: float, radius: float) -> None:
    for s in (-1, 1):
        c.ellipse(cx + s * apart, y + 0.08, radius * 1.25, radius * 1.7, t["fat"], s * 0.35)
        c.capsule(cx + s * apart, y + 0.02, cx + s * apart * 0.6, y + 0.24, 0.014, t["muscle"])
        c.ellipse(cx + s * apart, y, radius, radius, t["dura"] if t["dura"] > 0.4 else t["muscle"])
        c.ellipse(cx + s * apart, y, radius * 0.85, radius * 0.85, t["eye"])


def axial(c: Canvas, t: Tissues, level: str, atrophy: float, rng: np.random.Generator) -> Brain:
    """Axial slice: ``level`` is "high" (above the ventricles), "middle" or "low" (orbits and sella)."""
    shrink = {"high": rng.uniform(0.62, 0.92), "middle": 1.0, "low": 1.0}[level]
    rx, ry = rng.uniform(0.60, 0.72) * shrink, rng.uniform(0.78, 0.88) * shrink
    thick = rng.uniform(0.45, 1.25)
    egg = np.float32(1.0) - c.y * np.float32(rng.uniform(0.02, 0.07) if level == "low" else rng.uniform(0.04, 0.16))
    c.x = c.x * egg
    head_shell(c, t, (0.0, 0.0, rx, ry), thick, rng)
    inner = 0.045 * thick + 0.05 * thick + 0.022 + 0.02 * atrophy
    bx, by = rx - inner, ry - inner
    whole = c.window(0.0, 0.0, 9.0, 9.0)
    rim = c.level(whole, 0.0, 0.0, bx, by)
    if level == "low":
        return _axial_low(c, t, bx, by, rim, atrophy, rng)
    cortex(c, t, c.mask(rim), rim, atrophy, rng)
    fissure = np.float32(0.012 + 0.012 * atrophy) - np.abs(c.x + np.float32(0.012) * smooth_noise(rng, c.size, 6))
    reach = c.mask(np.abs(c.y) - np.float32(0.0 if level == "high" else rng.uniform(0.3, 0.42)), 4.0) * c.mask(rim)
    c.image += (np.float32(t["csf"]) - c.image) * c.mask(fissure, 1.2) * reach * np.float32(0.8)
    if t["dura"] > 0.5:
        c.ellipse(0.0, by * 0.97, 0.035, 0.05, t["vessel"])
    if level == "middle":
        fat = rng.uniform(0.6, 1.1) + 1.1 * atrophy
        ventricles(
            c,
            t,
            0.0,
            rng.uniform(-0.06, 0.04),
            rng.uniform(0.85, 1.15),
            fat,
            rng.uniform(0.2, 0.45),
            rng.random() < 0.7,
        )
        for s in (-1, 1):
            c.capsule(s * bx * 0.9, -0.02, s * bx * 0.68, -0.1, 0.012 + 0.014 * atrophy, t["csf"], 1.5)
            c.capsule(s * bx * 0.7, -0.1, s * bx * 0.68, 0.1, 0.01 + 0.01 * atrophy, t["csf"], 1.5)
    else:
        c.image += (np.float32(t["white"]) - c.image) * np.clip(rim * 5 - np.float32(0.9), 0.0, 0.6)
        c.image += (np.float32(t["csf"]) - c.image) * c.mask(fissure, 1.2) * c.mask(rim) * np.float32(0.6)
    return Brain(0.0, 0.0, bx, by, (0.0, -0.12), 1)


def _axial_low(
    c: Canvas, t: Tissues, bx: float, by: float, rim: Array, atrophy: float, rng: np.random.Generator
) -> Brain:
    sy = rng.uniform(-0.26, -0.14)
    cortex(c, t, c.mask(rim), rim, atrophy, rng)
    speckle(c, t, 0.0, sy - 0.34, bx * 0.8, 0.34, rng)
    eye_y = -by + rng.uniform(0.14, 0.24)
    _eyes(c, t, 0.0, eye_y, bx * rng.uniform(0.42, 0.5), rng.uniform(0.09, 0.12))
    for k in range(3):  # ethmoid air cells
        c.ellipse(
            rng.uniform(-0.05, 0.05), eye_y + 0.08 + 0.12 * k, 0.05, 0.06, t["air"] if k != 1 else t["muscle"], soft=2.0
        )
    for s in (-1, 1):
        c.ellipse(s * bx * 0.55, sy + 0.1, bx * 0.36, 0.24, t["grey"], s * 0.35, soft=2.0)
        c.ellipse(s * bx * 0.52, sy + 0.12, bx * 0.2, 0.15, t["white"], s * 0.35, soft=4.0)
    if rng.random() < 0.6:  # petrous bone with the cerebellum behind
        for s in (-1, 1):
            c.capsule(s * 0.16, sy + 0.24, s * bx * 0.85, sy + 0.36, 0.05, t["bone"], 2.5)
            c.ellipse(s * bx * 0.7, sy + 0.36, 0.1, 0.06, t["marrow"], s * 0.5, soft=2.0)
        _cerebellum(c, t, 0.0, sy + 0.62, bx * 0.72, min(0.3, by - sy - 0.64), rng)
        c.ellipse(0.0, sy + 0.52, 0.05 + 0.02 * atrophy, 0.035, t["csf"])
    c.ellipse(0.0, sy + 0.34, 0.15, 0.12, t["white"], soft=1.5)
    star = t["csf"]
    for angle in (0.5, 1.57, 2.64, 3.9, 5.5):
        c.capsule(0.0, sy + 0.13, 0.17 * np.cos(angle), sy + 0.13 + 0.17 * np.sin(angle), 0.03, star, 2.0)
    c.ellipse(0.0, sy, 0.07, 0.045, t["gland"] if rng.random() < 0.5 else t["bone"])
    for s in (-1, 1):
        c.ellipse(s * 0.1, sy + 0.02, 0.025, 0.03, t["vessel"])
    return Brain(0.0, 0.05, bx, by * 0.9, (0.0, sy), 1)


def coronal(c: Canvas, t: Tissues, level: str, atrophy: float, rng: np.random.Generator) -> Brain:
    """Coronal slice: ``level`` is "front" (sella, face below) or "back" (cerebellum, neck below)."""
    rx, ry = rng.uniform(0.54, 0.66), rng.uniform(0.54, 0.62)
    cy, thick = rng.uniform(-0.36, -0.26), rng.uniform(0.5, 1.2)
    neck = rng.uniform(0.3, 0.46) if level == "back" else rng.uniform(0.42, 0.56)
    c.ellipse(0.0, 0.7, neck + 0.06, 0.75, t["fat"])
    c.ellipse(0.0, 0.7, neck, 0.75, t["muscle"], soft=2.0)
    speckle(c, t, 0.0, 0.6, neck, 0.6, rng)
    head_shell(c, t, (0.0, cy, rx, ry), thick, rng)
    inner = 0.095 * thick + 0.022 + 0.02 * atrophy
    bx, by = rx - inner, ry - inner
    base = cy + by * rng.uniform(0.5, 0.62)
    whole = c.window(0.0, 0.0, 9.0, 9.0)
    rim = np.minimum(c.level(whole, 0.0, cy, bx, by), base + np.float32(0.2) - c.y)
    dip = base + np.float32(0.14) * np.clip(np.abs(c.x) * np.float32(4.0) - np.float32(0.3), -0.3, 1.0) - c.y
    rim = np.minimum(rim, dip)
    cortex(c, t, c.mask(rim), rim, atrophy, rng)
    speckle(c, t, 0.0, base + 0.22, bx * 0.5, 0.12, rng)
    fissure = np.float32(0.012 + 0.01 * atrophy) - np.abs(c.x + np.float32(0.01) * smooth_noise(rng, c.size, 6))
    c.image += (
        (np.float32(t["csf"]) - c.image)
        * c.mask(fissure)
        * c.mask(cy - np.float32(0.12) - c.y)
        * c.mask(rim)
        * np.float32(0.85)
    )
    if t["dura"] > 0.5:
        c.ellipse(0.0, cy - by * 0.97, 0.04, 0.035, t["vessel"])
    fat = rng.uniform(0.6, 1.1) + 1.2 * atrophy
    vy = cy + rng.uniform(-0.02, 0.08)
    c.ellipse(0.0, vy - 0.12, 0.12, 0.025, t["white"], soft=2.0)
    for s in (-1, 1):
        c.ellipse(s * 0.08, vy - 0.04, 0.035 * fat, 0.11, t["csf"], s * 0.6)
        c.ellipse(s * 0.11, vy + 0.09, 0.08, 0.08, t["grey"], soft=2.0, opacity=0.7)
        c.capsule(s * bx * 0.95, vy + 0.1, s * bx * 0.55, vy + 0.12, 0.013 + 0.014 * atrophy, t["csf"], 1.5)
    c.ellipse(0.0, vy + 0.11, 0.014 + 0.01 * fat, 0.07, t["csf"])
    sella = (0.0, base + rng.uniform(-0.02, 0.04))
    if level == "back":
        _cerebellum(c, t, 0.0, base + 0.18, bx * 0.72, 0.24, rng)
        c.capsule(0.0, base + 0.2, 0.0, 1.0, 0.09, t["csf"], 1.5)
        c.capsule(0.0, base, 0.0, 1.0, 0.06, t["white"], 1.5)
    else:
        c.ellipse(0.0, sella[1] - 0.1, 0.12, 0.05, t["csf"], soft=2.5, opacity=0.8)
        c.ellipse(0.0, sella[1], 0.08, 0.035, t["gland"])
        for s in (-1, 1):
            c.ellipse(s * 0.11, sella[1] + 0.01, 0.025, 0.03, t["vessel"])
        c.ellipse(0.0, sella[1] + 0.16, rng.uniform(0.1, 0.16), rng.uniform(0.07, 0.11), t["air"], soft=1.5)
        kind = rng.random()
        if kind < 0.45:  # pharynx
            c.ellipse(0.0, sella[1] + 0.42, 0.12, 0.15, t["air"], soft=2.0)
        else:  # nasal cavity, maxillary sinuses and orbits further forward
            for s in (-1, 1):
                c.ellipse(s * 0.05, sella[1] + 0.42, 0.03, 0.16, t["air"], soft=1.5)
                if kind > 0.7:
                    c.ellipse(s * 0.24, sella[1] + 0.4, 0.11, 0.12, t["air"], soft=1.5)
                    c.ellipse(s * 0.26, sella[1] + 0.12, 0.12, 0.1, t["fat"])
                    c.ellipse(s * 0.26, sella[1] + 0.12, 0.045, 0.04, t["muscle"])
    return Brain(0.0, cy, bx, by, sella, 1)


def sagittal(c: Canvas, t: Tissues, level: str, atrophy: float, rng: np.random.Generator) -> Brain:
    """Sagittal slice facing left: ``level`` is "midline" or "side"."""
    cx, cy = rng.uniform(0.02, 0.12), rng.uniform(-0.34, -0.24)
    rx, ry, thick = rng.uniform(0.68, 0.8), rng.uniform(0.56, 0.64), rng.uniform(0.5, 1.2)
    for tissue, grow in (("fat", 0.0), ("muscle", -0.05)):
        c.ellipse(cx - 0.34, 0.36, 0.33 + grow, 0.52 + grow, t[tissue], 0.12, soft=1.5)
        c.capsule(cx + 0.24, 0.2, cx + 0.3, 1.2, 0.32 + grow, t[tissue], 1.5)
        c.capsule(cx - 0.2, 0.5, cx + 0.2, 0.9, 0.22 + grow, t[tissue], 1.5)
    c.ellipse(cx - rx + 0.1, 0.18, 0.09, 0.06, t["fat"], 0.6, soft=2.0)
    speckle(c, t, cx - 0.32, 0.34, 0.28, 0.4, rng)
    speckle(c, t, cx + 0.26, 0.6, 0.2, 0.34, rng)
    head_shell(c, t, (cx, cy, rx, ry), thick, rng)
    inner = 0.095 * thick + 0.022 + 0.02 * atrophy
    bx, by = rx - inner, ry - inner
    whole = c.window(0.0, 0.0, 9.0, 9.0)
    base = np.float32(cy + by * rng.uniform(0.55, 0.68)) + np.float32(0.18) * (c.x - np.float32(cx))
    floor = base - c.y - np.float32(0.16) * np.clip(np.float32(cx - 0.2) - c.x, 0.0, 0.2) * np.float32(5.0)
    rim = np.minimum(c.level(whole, cx, cy, bx, by), floor)
    by0 = float(cy + by * 0.6)
    speckle(c, t, cx - 0.25, by0 + 0.05, 0.36, 0.16, rng)
    cortex(c, t, c.mask(rim), rim, atrophy, rng)
    _cerebellum(c, t, cx + 0.36, by0 + 0.14, 0.23, 0.18, rng)
    sella = (cx - rng.uniform(0.12, 0.18), by0 + rng.uniform(0.0, 0.06))
    fat = rng.uniform(0.6, 1.1) + 1.1 * atrophy
    if level == "side":
        if rng.random() < 0.5:
            c.ellipse(cx + 0.02, cy + 0.06, 0.26, 0.035 * fat, t["csf"], -0.25)
            c.ellipse(cx + 0.2, cy + 0.14, 0.05 * fat, 0.1, t["csf"], 0.5)
        c.capsule(cx - 0.3, by0 - 0.14, cx + 0.16, by0 - 0.24, 0.012 + 0.014 * atrophy, t["csf"], 1.5)
        c.ellipse(cx - 0.14, by0 + 0.02, 0.22, 0.1, t["grey"], soft=2.0)
        if rng.random() < 0.7:
            c.ellipse(cx - rx + 0.16, by0 - 0.02, 0.16, 0.11, t["fat"])
            c.ellipse(cx - rx + 0.13, by0 - 0.02, 0.09, 0.09, t["eye"])
        return Brain(cx, cy, bx, by, sella, -1)
    c.ellipse(cx + 0.02, cy + 0.1, 0.31, 0.19, t["white"])
    c.ellipse(cx + 0.02, cy + 0.13, 0.265, 0.16, t["grey"])
    c.ellipse(cx - 0.03, cy + 0.08, 0.2, 0.045 * fat, t["csf"], -0.12)
    c.ellipse(cx + 0.05, cy + 0.19, 0.13, 0.075, t["grey"])
    c.ellipse(cx + 0.03, cy + 0.33, 0.22, 0.06, t["csf"], 0.3, opacity=0.8)
    c.capsule(cx + 0.08, cy + 0.26, cx + 0.17, by0 + 0.24, 0.065, t["white"])
    c.ellipse(cx + 0.09, by0 + 0.08, 0.085, 0.11, t["white"])
    c.capsule(cx + 0.2, by0 + 0.02, cx + 0.24, by0 + 0.16, 0.016, t["csf"])
    c.capsule(cx + 0.2, by0 + 0.3, cx + 0.28, 1.05, 0.07, t["csf"])
    c.capsule(cx + 0.18, by0 + 0.24, cx + 0.28, 1.05, 0.036, t["white"])
    for k in range(4):
        c.ellipse(cx + 0.12 + 0.02 * k, by0 + 0.36 + 0.15 * k, 0.05, 0.055, t["marrow"], soft=2.0)
    c.ellipse(sella[0] - 0.13, sella[1] + 0.11, 0.11, 0.075, t["air"], 0.3, soft=1.5)
    c.ellipse(sella[0] + 0.04, sella[1] + 0.14, 0.06, 0.1, t["marrow"], -0.6, soft=1.5)
    c.ellipse(sella[0], sella[1] + 0.01, 0.045, 0.032, t["gland"])
    c.ellipse(cx - 0.42, by0 + 0.24, 0.16, 0.1, t["air"], 0.1, soft=3.0, opacity=0.7)
    c.capsule(cx - 0.12, by0 + 0.28, cx - 0.02, 1.0, 0.035, t["air"], 2.0)
    c.ellipse(cx - 0.32, by0 + 0.52, 0.2, 0.14, t["muscle"], soft=1.5)
    return Brain(cx, cy, bx, by, sella, -1)
