"""Sagittal slices of brain phantoms: midline, beside it, and out through the temporal lobe."""

from __future__ import annotations

import numpy as np

from .brain_cortex import cerebellum, cortex
from .brain_frame import Brain, Scene, depth, ramp
from .brain_skull import cavity, shell, speckle
from .canvas import Array, smooth_noise

SAGITTAL_LEVELS = ("midline", "paramedian", "side")


def sagittal(s: Scene) -> Brain:
    """Draw the slice ``s.level``, one of :data:`SAGITTAL_LEVELS`; the face is on the left."""
    c, t, side = s.c, s.t, s.level == "side"
    cx, cy = s.u(0.02, 0.12), s.u(-0.34, -0.24)
    shrink = s.u(0.86, 1.0) if side else 1.0
    rx, ry = s.u(0.68, 0.8) * shrink, s.u(0.57, 0.66) * shrink
    _below(s, cx, rx)
    rough = np.float32(0.012) * smooth_noise(s.rng, c.size, 4)
    outer = depth(s, cx, cy, rx, ry, s.u(-0.06, 0.1), rough)
    rim = shell(s, outer, s.u(0.6, 1.2))
    bx, by = rx - 0.11, ry - 0.11
    by0 = cy + by * s.u(0.5, 0.6)
    slope = np.float32(by0) + np.float32(0.16) * (c.x - np.float32(cx))
    step = np.float32(0.0 if side else 0.09) * ramp(np.float32(cx - 0.22) - c.x, 0.0, 0.18)
    if side:  # the temporal lobe hangs down in front
        step = -np.float32(0.1) * ramp(np.float32(0.3) - np.abs(c.x - np.float32(cx - 0.08)), 0.0, 0.2)
    vault, floor = rim, slope - step - c.y
    rim = np.minimum(rim, floor)
    under = c.mask(outer - np.float32(0.1)) * c.mask(-floor)
    c.paint(s.whole, under * ramp(np.float32(cx + 0.1) - c.x, 0.0, 0.1), t["bone"])
    speckle(s, cx - 0.25, by0 + 0.1, 0.4, 0.18, 0.15)
    if not side:
        speckle(s, cx - 0.44, by0 - 0.02, 0.2, 0.13, 0.3)
    frame = cortex(
        s,
        rim,
        (cx, cy, bx, by),
        -1,
        folds=int(s.rng.integers(12, 17)),
        reach=s.u(0.14, 0.26) if side else s.u(0.24, 0.36),
        inner=0.0 if side else s.u(0.2, 0.7) if s.level == "midline" else s.u(0.0, 0.3),
    )
    frame.marks["sella"] = (cx - s.u(0.12, 0.18), by0 + s.u(0.0, 0.05))
    if t["sinus"] > 0.5 and s.level == "midline":  # superior sagittal sinus
        line = c.mask(np.float32(s.u(0.006, 0.012)) - np.abs(vault + np.float32(0.016)))
        line = line * ramp(-c.y, -by0 + 0.2, 0.2) * ramp(c.x, cx - s.u(0.2, 0.6), 0.2)
        c.paint(s.whole, line, t["sinus"])
    {"midline": _midline, "paramedian": _paramedian, "side": _side}[s.level](s, frame, by0)
    return frame


def _below(s: Scene, cx: float, rx: float) -> None:
    """Face with nose, neck, jaw."""
    c, t = s.c, s.t
    rough = np.float32(0.05) * smooth_noise(s.rng, c.size, 5)
    for tissue, grow in (("skin", 0.0), ("fat", -0.014), ("muscle", -0.055)):
        c.paint(s.whole, c.mask(depth(s, cx - 0.34, 0.36, 0.34 + grow, 0.54 + grow, 0.12, rough), 1.3), t[tissue])
        c.capsule(cx + 0.24, 0.2, cx + 0.3, 1.2, 0.33 + grow, t[tissue], 1.5)
        c.capsule(cx - 0.2, 0.5, cx + 0.2, 0.9, 0.22 + grow, t[tissue], 1.5)
    if s.level != "side":
        c.ellipse(cx - s.u(0.6, 0.66), s.u(0.2, 0.3), 0.1, 0.06, t["skin"], -0.5, 2.0)
    speckle(s, cx - 0.32, 0.34, 0.3, 0.42)
    speckle(s, cx + 0.26, 0.6, 0.22, 0.36)


def _arc(s: Scene, cx: float, cy: float, rx: float, ry: float, band: float, below: float) -> Array:
    """Soft mask of the upper part of an elliptical ring, ``band`` wide, down to ``below``."""
    inner = depth(s, cx, cy, rx, ry, -0.08)
    ring = np.float32(0.5 * band) - np.abs(inner - np.float32(0.5 * band))
    out: Array = s.c.mask(ring, 1.2) * ramp(np.float32(below) - s.c.y, 0.0, 0.08)
    return out


def _midline(s: Scene, frame: Brain, by0: float) -> None:
    c, t, cx, cy = s.c, s.t, frame.cx, frame.cy
    fat = s.u(0.6, 1.1) + 1.1 * s.atrophy
    rx, ry = s.u(0.28, 0.33), s.u(0.17, 0.21)
    top = cy + s.u(0.1, 0.15)
    s.c.paint(s.whole, c.mask(depth(s, cx + 0.02, top, rx + 0.05, ry + 0.045)) * np.float32(0.75), t["grey"])
    inside = depth(s, cx + 0.02, top, rx, ry)
    c.paint(s.whole, c.mask(inside) * ramp(np.float32(top + 0.12) - c.y, 0.0, 0.1), t["csf" if fat > 1.0 else "white"])
    c.paint(s.whole, _arc(s, cx + 0.02, top, rx, ry, s.u(0.035, 0.055), top + 0.06), t["white"])
    c.ellipse(cx - rx + 0.06, top + 0.03, 0.045, 0.045, t["white"], 0.0, 1.3)
    c.ellipse(cx + rx - 0.03, top + 0.03, 0.05, 0.04, t["white"], 0.0, 1.3)
    c.ellipse(cx - 0.02, top - 0.02, rx * 0.7, 0.03 + 0.035 * fat, t["csf"], -0.1, 1.5)
    c.capsule(cx - 0.1, top + 0.06, cx + 0.16, top + 0.0, 0.014, t["white"], 1.5)  # fornix
    c.ellipse(cx + 0.05, top + 0.09, s.u(0.1, 0.13), 0.06, t["deep"], 0.0, 1.4)
    c.ellipse(cx - 0.06, top + 0.16, 0.05, 0.06, t["csf"], 0.4, 1.6, 0.8)
    sx, sy = frame.marks["sella"]
    c.ellipse(cx - 0.02, by0 - 0.0, 0.16, 0.05, t["csf"], 0.25, 1.6, 0.9)  # suprasellar, interpeduncular cisterns
    c.capsule(sx - 0.06, sy - 0.09, sx + 0.04, sy - 0.11, 0.014, t["white"], 1.2)  # chiasm
    c.capsule(sx + 0.02, sy - 0.1, sx, sy, 0.008, t["gland"])
    # Brainstem: midbrain, pons with its belly, medulla, cord.
    c.ellipse(cx + 0.24, by0 + 0.1, 0.08, 0.12, t["csf"], 0.2, 2.0, 0.8)
    c.capsule(cx + 0.08, top + 0.14, cx + 0.14, by0 + 0.06, s.u(0.055, 0.07), t["white"], 1.3)
    belly = (cx + 0.075, by0 + s.u(0.07, 0.1))
    c.ellipse(belly[0], belly[1], s.u(0.075, 0.095), s.u(0.095, 0.12), t["white"], -0.1, 1.3)
    c.capsule(cx + 0.13, by0 + 0.14, cx + 0.19, by0 + 0.32, 0.045, t["white"], 1.3)
    frame.add(depth(s, belly[0] + 0.03, belly[1] + 0.02, 0.11, 0.2))
    cerebellum(s, frame, (cx + s.u(0.33, 0.37), by0 + 0.09, s.u(0.17, 0.21), s.u(0.14, 0.18)), 0.3, halves=False)
    c.capsule(cx + 0.15, top + 0.16, cx + 0.18, by0 + 0.02, 0.008, t["csf"])
    c.ellipse(cx + 0.2, by0 + 0.09, 0.028 + 0.012 * fat, 0.06, t["csf"], 0.2)
    c.ellipse(cx + 0.17, top + 0.11, 0.022, 0.016, t["choroid"])  # pineal
    c.capsule(cx + 0.18, top + 0.17, cx + 0.2, by0 - 0.04, 0.02, t["deep"], 1.3)
    c.capsule(cx + 0.26, top + 0.1, cx + 0.52, by0 - 0.02, 0.011, t["sinus" if s.rng.random() < 0.7 else "dura"], 1.2)
    c.ellipse(cx + 0.36, by0 + 0.3, 0.08, 0.035, t["csf"], 0.3, 1.5)
    c.capsule(cx + 0.2, by0 + 0.32, cx + 0.28, 1.05, 0.07, t["csf"])
    c.capsule(cx + 0.19, by0 + 0.28, cx + 0.28, 1.05, s.u(0.034, 0.042), t["white"])
    for k in range(4):
        c.ellipse(cx + 0.11 + 0.025 * k, by0 + 0.38 + 0.15 * k, 0.05, 0.058, t["marrow"], 0.1, 1.6)
    c.ellipse(sx + 0.07, sy + 0.14, 0.05, 0.14, t["marrow"], -0.5, 1.5)  # clivus
    c.ellipse(sx, sy + 0.05, 0.07, 0.03, t["marrow"], 0.0, 1.5)
    cavity(s, (sx - s.u(0.1, 0.15), sy + 0.1), (s.u(0.07, 0.12), s.u(0.06, 0.085)), 0.3)
    c.ellipse(sx, sy + 0.01, s.u(0.04, 0.05), s.u(0.024, 0.034), t["gland"])
    if t["vessel"] > 0.4 and s.rng.random() < 0.5:  # anterior cerebral and basilar arteries
        c.paint(s.whole, _arc(s, cx - 0.0, top, rx + 0.045, ry + 0.04, 0.014, top) * ramp(cx - c.x, 0.1, 0.1), 0.75)
        c.capsule(cx - 0.03, by0 + 0.0, cx + 0.0, by0 + 0.16, 0.008, t["vessel"])
    _airway(s, sx, sy)
    frame.marks |= {
        "stem": belly, "genu": (cx - rx + 0.07, top + 0.02), "splenium": (cx + rx - 0.04, top + 0.02),
        "callosum": (cx, top - ry + 0.03), "tentorium": (cx + 0.42, by0 - 0.05), "olfactory": (sx - 0.25, sy - 0.1),
    }  # fmt: skip


def _airway(s: Scene, sx: float, sy: float) -> None:
    """Frontal sinus, nasal cavity, palate, tongue, pharynx, jaw."""
    c, t = s.c, s.t
    cavity(s, (sx - s.u(0.4, 0.46), sy - 0.14), (0.03, s.u(0.04, 0.08)), 0.3)
    c.ellipse(sx - 0.27, sy + 0.2, 0.17, s.u(0.06, 0.1), t["air"], 0.1, 3.0, 0.75)
    c.capsule(sx - 0.38, sy + 0.22, sx - 0.2, sy + 0.2, 0.013, t["mucosa"], 2.0)
    c.capsule(sx - 0.42, sy + 0.34, sx - 0.14, sy + 0.33, 0.018, t["bone"], 1.4)
    c.ellipse(sx - 0.24, sy + 0.47, s.u(0.17, 0.21), s.u(0.1, 0.13), t["muscle"], 0.1, 1.5)
    c.capsule(sx - 0.03, sy + 0.26, sx + 0.06, 1.0, s.u(0.025, 0.04), t["air"], 2.0)
    c.ellipse(sx - 0.4, sy + 0.64, 0.05, 0.06, t["marrow"], 0.4, 1.6)


def _paramedian(s: Scene, frame: Brain, by0: float) -> None:
    c, t, cx, cy = s.c, s.t, frame.cx, frame.cy
    fat = s.u(0.5, 1.1) + 1.2 * s.atrophy
    top = cy + s.u(0.08, 0.14)
    c.ellipse(cx + 0.02, top, 0.34, 0.21, t["white"], -0.05, 4.0)
    c.ellipse(cx + 0.0, top - 0.04, s.u(0.24, 0.29), 0.03 + 0.022 * fat, t["csf"], -0.06)
    if s.rng.random() < 0.6:
        c.ellipse(cx + 0.24, top + 0.04, 0.04 + 0.02 * fat, 0.07, t["csf"], 0.4)
        c.ellipse(cx + 0.22, top + 0.05, 0.025, 0.03, t["choroid"], 0.0, 1.5, 0.8)
    c.ellipse(cx - 0.16, top + 0.03, 0.08, 0.05, t["deep"], -0.3, 1.6)
    c.ellipse(cx + 0.05, top + 0.08, 0.12, 0.075, t["deep"], 0.0, 1.6)
    c.ellipse(cx + 0.06, by0 - 0.02, 0.18, 0.06, t["csf"], 0.3, 2.0, 0.8)
    c.capsule(cx + 0.06, top + 0.12, cx + 0.12, by0 + 0.06, 0.055, t["white"], 2.0)
    c.ellipse(cx + 0.1, by0 + 0.09, 0.07, 0.09, t["white"], 0.0, 1.6)
    frame.add(depth(s, cx + 0.1, by0 + 0.08, 0.09, 0.12))
    cerebellum(s, frame, (cx + 0.35, by0 + 0.09, s.u(0.19, 0.23), s.u(0.14, 0.18)), 0.2, halves=False)
    c.capsule(cx + 0.16, by0 - 0.05, cx + 0.56, by0 - 0.02, 0.01, t["dura"], 1.2)
    sx, sy = frame.marks["sella"]
    c.ellipse(sx, sy + 0.02, 0.06, 0.05, t["sinus"], 0.0, 1.4)
    c.ellipse(sx, sy + 0.02, 0.026, 0.03, t["vessel"])
    cavity(s, (sx - 0.13, sy + 0.12), (0.09, 0.06), 0.2)
    if s.rng.random() < 0.6:
        c.ellipse(sx - 0.33, sy + 0.02, 0.14, 0.09, t["fat"], 0.1)
        c.capsule(sx - 0.36, sy + 0.02, sx - 0.08, sy, 0.014, t["white"])
    _airway(s, sx, sy)
    c.ellipse(cx + 0.2, by0 + 0.5, 0.07, 0.25, t["muscle"], -0.1, 2.0)
    frame.marks |= {
        "stem": (cx + 0.1, by0 + 0.08), "atrium": (cx + 0.24, top + 0.04), "callosum": (cx, top - 0.1),
        "genu": (cx - 0.26, top), "splenium": (cx + 0.28, top), "tentorium": (cx + 0.36, by0 - 0.04),
        "cpa": (cx + 0.18, by0 + 0.1), "olfactory": (sx - 0.25, sy - 0.1), "wing": (sx - 0.1, sy - 0.08),
    }  # fmt: skip


def _side(s: Scene, frame: Brain, by0: float) -> None:
    c, t, cx, cy = s.c, s.t, frame.cx, frame.cy
    fat = s.u(0.5, 1.0) + 1.1 * s.atrophy
    if s.rng.random() < 0.4:
        c.ellipse(cx + 0.16, cy + 0.12, 0.05 * fat, 0.09, t["csf"], 0.5)
        frame.marks["atrium"] = (cx + 0.16, cy + 0.12)
    gap = 0.01 + 0.014 * s.atrophy
    x0, y0, x1, y1 = cx - 0.34, by0 - s.u(0.1, 0.16), cx + 0.2, by0 - s.u(0.2, 0.28)
    c.capsule(x0, y0, x1, y1, gap + 0.024, t["grey"], 1.4)  # Sylvian fissure
    c.capsule(x0, y0, x1, y1, gap, t["csf"], 1.4)
    c.ellipse(cx - 0.1, 0.5 * (y0 + y1) - 0.04, 0.12, 0.05, t["grey"], -0.2, 2.0, 0.8)
    if t["vessel"] > 0.4:
        c.capsule(x0 + 0.05, y0, x1 - 0.1, y1 + 0.03, 0.008, t["vessel"])
    c.ellipse(cx - 0.08, by0 - 0.03, 0.22, 0.05, t["white"], -0.15, 5.0, 0.6)
    cerebellum(s, frame, (cx + 0.34, by0 + 0.1, s.u(0.17, 0.22), s.u(0.12, 0.16)), 0.1, halves=s.rng.random() < 0.5)
    c.capsule(cx + 0.08, by0 - 0.0, cx + 0.55, by0 - 0.0, 0.011, t["dura"], 1.2)
    c.ellipse(cx + 0.5, by0 + 0.05, 0.035, 0.03, t["sinus"])
    c.ellipse(cx + 0.06, by0 + 0.16, s.u(0.08, 0.13), s.u(0.06, 0.09), t["air"], -0.3, 3.0, 0.85)  # mastoid, ear
    if s.rng.random() < 0.7:
        x, y = cx - frame.rx + s.u(0.06, 0.12), by0 + 0.03
        c.ellipse(x + 0.06, y, 0.17, 0.11, t["fat"])
        c.ellipse(x, y, 0.09, 0.09, t["eye"])
        c.capsule(x + 0.08, y, x + 0.22, y, 0.016, t["muscle"])
    cavity(s, (cx - 0.4, by0 + 0.28), (s.u(0.06, 0.11), s.u(0.08, 0.12)))
    c.ellipse(cx - 0.16, by0 + 0.36, 0.08, 0.22, t["muscle"], 0.1, 1.8)
    c.capsule(cx - 0.06, by0 + 0.24, cx - 0.1, by0 + 0.7, 0.03, t["marrow"], 1.5)
    c.ellipse(cx + 0.22, by0 + 0.55, 0.1, 0.28, t["muscle"], -0.1, 2.0)
    frame.marks |= {"wing": (cx - 0.3, by0 - 0.06), "tentorium": (cx + 0.3, by0), "cpa": (cx + 0.16, by0 + 0.1)}
