"""Coronal slices of brain phantoms, from the frontal lobes back to the cerebellum."""

from __future__ import annotations

import numpy as np

from .brain_cortex import cerebellum, cortex, falx
from .brain_frame import Brain, Scene, depth, ramp
from .brain_skull import cavity, dural_sinus, eyes, neck, shell, speckle
from .canvas import smooth_noise

CORONAL_LEVELS = ("frontal", "front", "mid", "back")


def coronal(s: Scene) -> Brain:
    """Draw the slice ``s.level``, one of :data:`CORONAL_LEVELS`; the vertex is up."""
    c, level = s.c, s.level
    shrink = {"frontal": s.u(0.78, 0.92), "back": s.u(0.84, 1.0)}.get(level, 1.0)
    rx, ry = s.u(0.55, 0.68) * shrink, s.u(0.54, 0.64) * shrink
    cy = s.u(-0.36, -0.24)
    neck(s, 0.0, s.u(0.3, 0.44) if level == "back" else s.u(0.42, 0.56), cy + 0.35)
    if level in ("front", "mid") and s.rng.random() < 0.6:  # temporal muscles and ears
        s.pair((rx * 0.86, cy + ry * 0.55), (0.045, 0.16), "muscle", 0.1, 1.5)
    rough = np.float32(0.012) * smooth_noise(s.rng, c.size, 4)
    rim = shell(s, depth(s, 0.0, cy, rx, ry, 0.0, rough), s.u(0.6, 1.2))
    inset = 0.11
    bx, by = rx - inset, ry - inset
    base = cy + by * {"frontal": s.u(0.5, 0.7), "back": s.u(0.15, 0.3)}.get(level, s.u(0.5, 0.62))
    # The floor: temporal lobes hang lower than the middle, except in front of and behind them.
    hang = 0.0 if level == "frontal" else 0.05 if level == "back" else s.u(0.14, 0.22)
    floor = np.float32(base) + np.float32(hang) * ramp(np.abs(c.x), 0.2, 0.22) - c.y
    rim = np.minimum(rim, floor)
    below = ramp(c.y, base + 0.02, 0.06) * c.mask(depth(s, 0.0, cy, rx, ry) - np.float32(0.1)) * c.mask(-rim)
    c.paint(s.whole, below, s.t["bone"])
    cleft = ramp(-c.y, -(cy - (0.0 if level == "frontal" else 0.14)), 0.06)
    if level in ("frontal", "back"):
        cleft = np.maximum(cleft, ramp(-c.y, -(base - 0.02), 0.05))
    frame = cortex(s, rim, (0.0, cy, bx, by), folds=int(s.rng.integers(12, 18)), reach=s.u(0.14, 0.24), cleft=cleft)
    falx(s, cleft * c.mask(rim))
    dural_sinus(s, (0.0, cy - by - 0.015), s.u(0.025, 0.045))
    {"frontal": _frontal, "front": _sellar, "mid": _mid, "back": _occipital}[level](s, frame, base)
    frame.marks.setdefault("sella", (0.0, base + 0.02))
    return frame


def _frontal(s: Scene, frame: Brain, base: float) -> None:
    if s.rng.random() < 0.5:
        wide = s.u(0.5, 1.0) + s.atrophy
        s.pair((0.06, frame.cy + 0.08), (0.022 + 0.015 * wide, 0.06), "csf", 0.5, fluid=True)
        s.c.ellipse(0.0, frame.cy + 0.05, 0.09, 0.03, s.t["white"], 0.0, 2.0)
    _face(s, base, frame.rx)
    frame.marks |= {"genu": (0.0, frame.cy + 0.05), "olfactory": (0.0, base - 0.02)}


def _face(s: Scene, base: float, bx: float) -> None:
    """Orbits, nasal cavity with conchae, maxillary sinuses, palate, tongue and jaw."""
    c, t = s.c, s.t
    eyes(s, base + s.u(0.08, 0.14), bx * s.u(0.42, 0.5), s.u(0.085, 0.11), frontal=True)
    cavity(s, (0.0, base + 0.1), (0.05, 0.08))
    s.pair((0.05, base + 0.34), (0.035, 0.15), "air", 0.1, 1.5)
    s.pair((0.055, base + 0.38), (0.016, 0.06), "mucosa", 0.2)
    c.capsule(0.0, base + 0.1, 0.0, base + 0.5, 0.009, t["mucosa"])
    for side in (-1, 1):
        cavity(s, (side * s.u(0.22, 0.26), base + 0.38), (s.u(0.08, 0.13), s.u(0.09, 0.14)), side * 0.2)
    c.capsule(-0.2, base + 0.54, 0.2, base + 0.54, 0.018, t["bone"], 1.5)
    c.ellipse(0.0, base + 0.72, 0.22, 0.15, t["muscle"], 0.0, 1.5)
    s.pair((0.3, base + 0.78), (0.03, 0.12), "bone", 0.1, 1.5)


def _core(s: Scene, frame: Brain, vy: float) -> None:
    """Callosum, lateral ventricles, deep grey matter, third ventricle and Sylvian fissures."""
    wide = s.u(0.55, 1.2) * (1.0 + 0.3 * max(float(s.rng.standard_normal()), -0.6)) + 1.2 * s.atrophy
    s.pair((0.16, vy + 0.02), (0.12, 0.16), "white", 0.0, 4.0, 0.9)
    s.c.ellipse(0.0, vy - 0.12, 0.15, 0.028, s.t["white"], 0.0, 1.5)
    s.pair((0.09 + 0.01 * wide, vy - 0.05), (0.028 + 0.02 * wide, 0.09), "csf", 0.85, fluid=True)
    s.pair((0.13 + 0.01 * wide, vy + 0.0), (0.035, 0.07), "deep", 0.6, 1.6)
    s.pair((0.08, vy + 0.1), (0.065, 0.065), "deep", 0.0, 1.6)
    s.pair((0.23, vy + 0.08), (0.045, 0.1), "deep", -0.15, 1.6)
    s.c.ellipse(0.0, vy - 0.05, 0.008, 0.07, s.t["white"], 0.0, 1.2)
    s.c.ellipse(0.0, vy + 0.12, 0.008 + 0.01 * wide, 0.075, s.t["csf"])
    gap = 0.011 + 0.014 * s.atrophy
    x = frame.rx * 0.68
    s.lines((frame.rx * 0.98, vy + s.u(0.1, 0.16)), (x, vy + 0.13), gap, "csf", 1.4)
    s.lines((x, vy + 0.03), (x - 0.02, vy + 0.17), gap + 0.022, "grey", 1.5)
    s.lines((x, vy + 0.03), (x - 0.02, vy + 0.17), gap, "csf", 1.4)
    if s.t["vessel"] > 0.4:
        s.pair((x - 0.03, vy + 0.17), (0.014, 0.014), "vessel")
    frame.marks |= {"genu": (0.0, vy - 0.12), "splenium": (0.0, vy - 0.12), "atrium": (0.1, vy - 0.04)}


def _sellar(s: Scene, frame: Brain, base: float) -> None:
    c, t = s.c, s.t
    _core(s, frame, frame.cy + s.u(0.0, 0.08))
    speckle(s, 0.0, base + 0.24, frame.rx * 0.55, 0.14)
    y = base + s.u(0.0, 0.04)
    c.ellipse(0.0, y - 0.07, 0.14, 0.05, t["csf"], 0.0, 2.0, 0.9)
    c.capsule(-0.08, y - 0.1, 0.08, y - 0.1, 0.013, t["white"], 1.2)  # chiasm
    c.capsule(0.0, y - 0.09, 0.0, y, 0.009, t["gland"])  # stalk
    s.pair((0.115, y + 0.02), (0.042, 0.055), "sinus", 0.1, 1.5)  # cavernous sinuses
    c.ellipse(0.0, y + 0.01, s.u(0.065, 0.085), s.u(0.025, 0.045), t["gland"])
    s.pair((0.115, y + 0.03), (0.02, 0.022), "vessel")
    s.pair((0.09, y - 0.04), (0.016, 0.018), "vessel")
    cavity(s, (0.0, y + 0.13), (s.u(0.09, 0.17), s.u(0.055, 0.085)))
    if s.rng.random() < 0.5:
        s.c.capsule(0.0, y + 0.07, 0.0, y + 0.2, 0.006, t["bone"])
    s.pair((frame.rx * 0.66, base - 0.02), (0.1, 0.09), "white", 0.2, 5.0, 0.6)
    if s.rng.random() < 0.5:  # pharynx
        c.ellipse(0.0, y + 0.42, s.u(0.07, 0.13), s.u(0.08, 0.15), t["air"], 0.0, 2.0)
        s.pair((0.27, y + 0.4), (0.07, 0.17), "muscle", 0.3, 2.0)
    else:
        s.pair((0.05, y + 0.42), (0.03, 0.15), "air", 0.0, 1.5)
        if s.rng.random() < 0.5:
            s.pair((0.24, y + 0.42), (0.09, 0.1), "air", 0.2, 1.5)
    c.ellipse(0.0, y + 0.74, 0.2, 0.12, t["muscle"], 0.0, 1.5)
    frame.marks |= {"sella": (0.0, y), "wing": (0.26, base + 0.05)}


def _mid(s: Scene, frame: Brain, base: float) -> None:
    c, t = s.c, s.t
    vy = frame.cy + s.u(0.0, 0.08)
    _core(s, frame, vy)
    fat = s.u(0.4, 1.0) + 1.2 * s.atrophy
    s.pair((0.24, base - 0.02), (0.055, 0.035), "deep", 0.2, 1.3)  # hippocampi
    s.pair((0.29, base - 0.05), (0.035, 0.01 + 0.012 * fat), "csf", 0.5, fluid=True)
    c.ellipse(0.0, base + 0.02, 0.15, 0.1, t["csf"], 0.0, 2.0)
    c.ellipse(0.0, base - 0.04, 0.13, 0.09, t["white"], 0.0, 1.8)
    c.ellipse(0.0, base + 0.1, s.u(0.12, 0.15), s.u(0.09, 0.12), t["white"], 0.0, 1.5)  # pons
    frame.add(depth(s, 0.0, base + 0.1, 0.13, 0.11))
    s.pair((0.11, base + 0.16), (0.05, 0.035), "white", 0.4, 2.0)
    if s.rng.random() < 0.5:
        for side in (-1, 1):
            cerebellum(s, frame, (side * 0.24, base + 0.24, 0.14, 0.1))
    s.lines((0.17, base + 0.14), (0.4, base + 0.2), 0.035, "bone", 2.5)
    c.capsule(0.0, base + 0.2, 0.0, 1.05, s.u(0.07, 0.09), t["csf"], 1.5)
    c.capsule(0.0, base + 0.18, 0.0, 1.05, 0.045, t["white"], 1.5)
    s.pair((0.17, base + 0.4), (0.07, 0.09), "marrow", 0.2, 2.0)
    s.pair((0.3, base + 0.45), (0.06, 0.2), "muscle", 0.0, 2.0)
    s.pair((0.24, base + 0.36), (0.022, 0.05), "vessel", 0.2)
    frame.marks |= {"stem": (0.0, base + 0.08), "cpa": (0.22, base + 0.16), "sella": (0.0, base + 0.02)}


def _occipital(s: Scene, frame: Brain, base: float) -> None:
    c, t = s.c, s.t
    fat = s.u(0.3, 1.0) + 1.1 * s.atrophy
    if s.rng.random() < 0.75:
        at = (s.u(0.16, 0.24), frame.cy + s.u(0.02, 0.1))
        s.pair(at, (0.02 + 0.025 * fat, 0.07 + 0.02 * fat), "csf", -0.3, fluid=True)
        s.pair(at, (0.016, 0.04), "choroid", -0.3, 1.5, 0.8)
        frame.marks["atrium"] = at
        c.ellipse(0.0, frame.cy + 0.02, 0.1, 0.035, t["white"], 0.0, 2.0)
        frame.marks["splenium"] = (0.0, frame.cy + 0.02)
    wide, high = frame.rx * s.u(0.7, 0.84), s.u(0.17, 0.22)
    y = base + 0.03 + high * 0.9
    s.c.ellipse(0.0, y, wide + 0.04, high + 0.05, t["csf"])
    cerebellum(s, frame, (0.0, y, wide, high))
    for side in (-1, 1):  # tentorium: a tent open downwards
        c.capsule(0.0, base - 0.06, side * wide * 0.95, base + 0.1, 0.011, t["dura"], 1.2)
        dural_sinus(s, (side * (wide + 0.01), base + 0.13), s.u(0.025, 0.045))
    dural_sinus(s, (0.0, base - 0.05), s.u(0.015, 0.035))
    if s.rng.random() < 0.6:
        c.ellipse(0.0, y - 0.02, 0.035 + 0.02 * s.atrophy, 0.04, t["csf"])
    c.ellipse(0.0, y + high * 0.95, 0.06, 0.05, t["csf"], 0.0, 1.5)
    c.capsule(0.0, y + high + 0.1, 0.0, 1.05, 0.06, t["csf"], 1.5)
    c.capsule(0.0, y + high + 0.1, 0.0, 1.05, 0.035, t["white"], 1.5)
    s.pair((0.2, y + high + 0.2), (0.09, 0.2), "muscle", 0.0, 2.5)
    frame.marks |= {"tentorium": (wide * 0.5, base + 0.02), "cpa": (wide * 0.8, y - 0.05), "stem": (0.0, y)}
