"""Axial slices of brain phantoms, from the vertex down to the posterior fossa."""

from __future__ import annotations

import numpy as np

from .brain_cortex import cerebellum, cortex, falx
from .brain_frame import Brain, Scene, depth, ramp
from .brain_skull import cavity, dural_sinus, eyes, shell, speckle
from .canvas import Array, smooth_noise

AXIAL_LEVELS = ("vertex", "high", "middle", "deep", "midbrain", "low", "posterior fossa")
_SHRINK = {"vertex": (0.66, 0.86), "high": (0.86, 0.98), "low": (0.92, 1.0), "posterior fossa": (0.86, 0.98)}


def axial(s: Scene) -> Brain:
    """Draw the slice ``s.level``, one of :data:`AXIAL_LEVELS`; the face is up."""
    c = s.c
    scale = s.u(*_SHRINK.get(s.level, (0.96, 1.0)))
    ry = s.u(0.82, 0.94) * scale
    rx = ry * s.u(0.7, 0.88)
    egg = s.u(0.02, 0.08) if s.level in ("low", "posterior fossa") else s.u(0.02, 0.16)
    c.x = c.x * (np.float32(1.0) - c.y * np.float32(egg))
    rough = np.float32(0.012) * smooth_noise(s.rng, c.size, 4)
    thick = s.u(0.6, 1.2) * (1.5 if s.level == "vertex" else 1.0)
    if s.rng.random() < 0.6 and s.level not in ("vertex", "high"):  # ears or temporal muscles
        s.pair((rx * 1.0, s.u(0.0, 0.15)), (0.04, 0.1), "skin", 0.1)
    rim = shell(s, depth(s, 0.0, 0.0, rx, ry, 0.0, rough), thick)
    mid = rim[c.size // 2, c.size // 2]
    inset = max(rx - float(mid), 0.06) if mid > 0 else 0.14
    e = (0.0, 0.0, rx - inset, ry - inset)
    draw = {"vertex": _top, "high": _top, "middle": _ventricular, "deep": _thalamic, "midbrain": _suprasellar}
    frame = draw.get(s.level, _base)(s, rim, e)
    frame.marks.setdefault("sella", (0.0, -0.12))
    if s.level not in ("low", "posterior fossa"):
        dural_sinus(s, (0.0, ry - inset * 0.85), s.u(0.025, 0.045))
        if s.t["sinus"] > 0.5 and s.rng.random() < 0.7:
            dural_sinus(s, (0.0, -ry + inset * 0.85), s.u(0.015, 0.03))
    return frame


def _open_front_and_back(s: Scene, half: float) -> Array:
    front, back = half * s.u(0.85, 1.15), half * s.u(0.75, 1.1)
    return np.maximum(ramp(-s.c.y, front, 0.08), ramp(s.c.y, back, 0.08))


def _top(s: Scene, rim: Array, e: tuple[float, float, float, float]) -> Brain:
    vertex = s.level == "vertex"
    everywhere = np.ones_like(rim)
    frame = cortex(
        s,
        rim,
        e,
        folds=int(s.rng.integers(11, 16) if vertex else s.rng.integers(13, 19)),
        reach=s.u(0.22, 0.36),
        inner=s.u(0.5, 0.9) if vertex else s.u(0.0, 0.25),
        cleft=everywhere,
    )
    if not vertex:  # semioval centres
        for side in (-1, 1):
            core = depth(s, side * e[2] * 0.47, s.u(-0.05, 0.05), e[2] * s.u(0.2, 0.32), e[3] * s.u(0.4, 0.58))
            mask = s.c.mask(core, 6.0) * np.float32(0.8)
            s.c.paint(s.whole, mask, s.t["white"])
            frame.sulci = frame.sulci * (np.float32(1.0) - mask)
            frame.white = np.maximum(frame.white, mask)
    falx(s, everywhere * s.c.mask(rim))
    return frame


def _wide(s: Scene) -> float:
    """Width factor of the ventricles."""
    return s.u(0.55, 1.2) * (1.0 + 0.4 * max(float(s.rng.standard_normal()), -0.6)) + 1.2 * s.atrophy


def _ventricular(s: Scene, rim: Array, e: tuple[float, float, float, float]) -> Brain:
    cleft = _open_front_and_back(s, 0.36)
    frame = cortex(s, rim, e, folds=int(s.rng.integers(14, 20)), reach=s.u(0.16, 0.26), cleft=cleft)
    falx(s, cleft * s.c.mask(rim))
    k, fat, y = s.u(0.85, 1.15), _wide(s), s.u(-0.06, 0.06)
    tilt = s.u(0.1, 0.35)
    s.c.ellipse(0.0, y - 0.26 * k, 0.13, 0.05, s.t["white"], 0.0, 2.0)
    s.c.ellipse(0.0, y + 0.28 * k, 0.15, 0.05, s.t["white"], 0.0, 2.0)
    s.pair((0.11 * k, y - 0.06), (0.07 * k, 0.24 * k), "white", -0.1, 3.0, 0.8)
    s.pair((0.16 * k, y - 0.08), (0.05 * k, 0.15 * k), "deep", -0.25, 2.0, 0.8)
    s.pair((0.075 * k, y - 0.1), (0.03 + 0.018 * fat, 0.17 * k), "csf", -tilt, fluid=True)
    if s.rng.random() < 0.75:
        s.pair((0.12 * k, y + 0.17 * k), (0.026 + 0.022 * fat, 0.13 * k), "csf", 0.45, fluid=True)
        s.pair((0.13 * k, y + 0.18 * k), (0.018, 0.06), "choroid", 0.45, 1.5, 0.8)
    else:  # bodies only
        s.pair((0.07 * k, y + 0.08), (0.02 + 0.016 * fat, 0.2 * k), "csf", 0.12, fluid=True)
    s.c.ellipse(0.0, y - 0.02, 0.008, 0.18 * k, s.t["white"], 0.0, 1.2)
    frame.marks |= {"atrium": (0.14 * k, y + 0.2 * k), "genu": (0.0, y - 0.27 * k), "splenium": (0.0, y + 0.28 * k)}
    return frame


def _insula(s: Scene, frame: Brain, y: float) -> None:
    """Sylvian fissure: a cleft from the side that opens over the insula."""
    gap = 0.01 + 0.016 * s.atrophy + s.u(0.0, 0.006)
    x = frame.rx * s.u(0.64, 0.72)
    s.lines((x + 0.01, y - 0.12), (x - 0.01, y + 0.1), gap + 0.025, "grey", 1.5)
    s.lines((x, y - 0.12), (x - 0.01, y + 0.1), gap, "csf", 1.3)
    s.lines((frame.rx * 0.95, y + s.u(-0.1, 0.05)), (x, y - 0.03), gap, "csf", 1.3)
    if s.t["vessel"] > 0.4:
        s.pair((x, y), (0.013, 0.02), "vessel")


def _thalamic(s: Scene, rim: Array, e: tuple[float, float, float, float]) -> Brain:
    cleft = _open_front_and_back(s, 0.38)
    frame = cortex(s, rim, e, folds=int(s.rng.integers(14, 20)), reach=s.u(0.14, 0.24), cleft=cleft)
    falx(s, cleft * s.c.mask(rim))
    k, fat, y = s.u(0.9, 1.1), _wide(s), s.u(-0.05, 0.05)
    _insula(s, frame, y - 0.04)
    s.pair((0.18 * k, y), (0.13 * k, 0.24 * k), "white", 0.0, 3.0)
    s.pair((0.25 * k, y - 0.07 * k), (0.045 * k, 0.13 * k), "deep", -0.22, 1.6)
    s.pair((0.1 * k, y - 0.17 * k), (0.045 * k, 0.065 * k), "deep", -0.3, 1.6)
    s.pair((0.095 * k, y + 0.08 * k), (0.075 * k, 0.12 * k), "deep", 0.35, 1.6)
    s.c.ellipse(0.0, y - 0.28 * k, 0.12, 0.045, s.t["white"], 0.0, 2.0)
    s.c.ellipse(0.0, y + 0.28 * k, 0.14, 0.05, s.t["white"], 0.0, 2.0)
    s.pair((0.055 * k, y - 0.2 * k), (0.018 + 0.015 * fat, 0.09 * k), "csf", -0.5, fluid=True)
    s.c.ellipse(0.0, y + 0.04, 0.008 + 0.011 * fat, 0.11 * k, s.t["csf"])
    s.c.ellipse(0.0, y + 0.2 * k, 0.05 + 0.02 * s.atrophy, 0.03, s.t["csf"], 0.0, 1.5)
    s.c.ellipse(0.0, y + 0.18 * k, 0.016, 0.02, s.t["choroid"])
    s.pair((0.22 * k, y + 0.27 * k), (0.02 + 0.018 * fat, 0.11 * k), "csf", 0.3, fluid=True)
    s.pair((0.21 * k, y + 0.24 * k), (0.014, 0.045), "choroid", 0.3, 1.5, 0.8)
    if s.rng.random() < 0.4:
        cerebellum(s, frame, (0.0, e[3] * 0.55, 0.16, 0.14))
    if s.t["sinus"] > 0.5:
        s.c.capsule(0.0, y + 0.3 * k, 0.0, y + 0.45 * k, 0.014, s.t["sinus"])
    frame.marks |= {"atrium": (0.22 * k, y + 0.25 * k), "genu": (0.0, y - 0.29 * k), "splenium": (0.0, y + 0.29 * k)}
    return frame


def _suprasellar(s: Scene, rim: Array, e: tuple[float, float, float, float]) -> Brain:
    cleft = ramp(-s.c.y, 0.24, 0.08)
    frame = cortex(s, rim, e, folds=int(s.rng.integers(11, 16)), reach=s.u(0.12, 0.22), cleft=cleft)
    t, y, fat = s.t, s.u(-0.14, -0.02), _wide(s)
    _insula(s, frame, y - 0.12)
    for angle in (0.35, 1.57, 2.79, 3.8, 5.62):  # five-pointed suprasellar cistern
        reach = 0.17 * s.u(0.8, 1.15)
        s.c.capsule(0.0, y, reach * float(np.cos(angle)), y - reach * float(np.sin(angle)), 0.03, t["csf"], 2.0)
    s.c.ellipse(0.0, y, 0.09, 0.07, t["csf"], 0.0, 1.5)
    s.c.capsule(-0.05, y - 0.03, 0.05, y - 0.03, 0.014, t["white"], 1.2)  # chiasm
    for side in (-1, 1):
        s.c.ellipse(side * 0.07, y - 0.02, 0.016, 0.016, t["vessel"])
        s.c.capsule(side * 0.08, y - 0.03, side * 0.26, y - 0.1, 0.009, t["vessel"])
    s.c.ellipse(0.0, y + 0.2, 0.18, 0.14, t["csf"], 0.0, 2.0, 0.8)  # ambient cisterns round the midbrain
    s.c.ellipse(0.0, y + 0.2, 0.135, 0.1, t["white"], 0.0, 1.5)
    s.pair((0.075, y + 0.13), (0.055, 0.07), "white", 0.5)
    s.pair((0.05, y + 0.15), (0.04, 0.012), "deep", 0.5, 2.0, 0.6)
    s.c.ellipse(0.0, y + 0.09, 0.028, 0.04, t["csf"], 0.0, 1.5)
    s.c.ellipse(0.0, y + 0.24, 0.014, 0.014, t["csf"])
    s.pair((0.3, y + 0.12), (0.07, 0.05), "deep", 0.4, 2.0, 0.8)
    s.pair((0.33, y + 0.06), (0.012 + 0.012 * fat, 0.05), "csf", 0.2, fluid=True)
    cerebellum(s, frame, (0.0, y + 0.45, s.u(0.16, 0.3), s.u(0.13, 0.19)))
    if t["sinus"] > 0.5:
        s.lines((0.04, y + 0.31), (0.32, y + 0.52), 0.008, "dura", 1.2)  # tentorial edges
    frame.marks |= {"sella": (0.0, y), "stem": (0.0, y + 0.19), "tentorium": (0.24, y + 0.42)}
    frame.marks |= {"wing": (e[2] * 0.52, y - 0.16), "olfactory": (0.0, y - 0.36)}
    return frame


def _base(s: Scene, rim: Array, e: tuple[float, float, float, float]) -> Brain:
    """Orbits, sella and temporal lobes above; pons or medulla and cerebellum behind."""
    c, t, low = s.c, s.t, s.level == "low"
    bx, by = e[2], e[3]
    frame = cortex(s, rim, e, folds=int(s.rng.integers(11, 16)), reach=s.u(0.1, 0.2))
    y = s.u(-0.24, -0.12)
    face = depth(s, 0.0, y - 0.42, bx * s.u(0.75, 0.95), 0.46)
    frame.inside = np.minimum(frame.inside, -face)
    speckle(s, 0.0, y - 0.38, bx * 0.85, 0.42)
    if low:
        eyes(s, -by + s.u(0.13, 0.24), bx * s.u(0.42, 0.5), s.u(0.09, 0.13))
        s.pair((0.035, y - 0.3), (0.03, 0.16), "air", 0.0, 1.5)
        s.c.capsule(0.0, y - 0.46, 0.0, y - 0.12, 0.008, t["bone"])
    else:
        cavity(s, (0.0, y - 0.1), (s.u(0.07, 0.12), s.u(0.06, 0.1)))
        s.pair((bx * 0.48, y - 0.38), (s.u(0.1, 0.15), s.u(0.12, 0.17)), "air", 0.2, 1.5)
        s.pair((0.04, y - 0.42), (0.025, 0.17), "air", 0.0, 1.5)
        s.c.capsule(0.0, y - 0.55, 0.0, y - 0.2, 0.01, t["mucosa"])
    s.pair((bx * 0.58, y + 0.08), (bx * 0.22, 0.15), "white", 0.35, 5.0, 0.7)
    s.lines((bx * 0.28, y - 0.12), (bx * 0.88, y - 0.2), 0.025, "bone", 2.0)  # sphenoid wings
    for side in (-1, 1):
        if s.rng.random() < 0.85:  # petrous bones with air cells behind the ear
            c.capsule(side * 0.17, y + 0.2, side * bx * 0.88, y + 0.34, s.u(0.035, 0.06), t["bone"], 2.5)
            c.ellipse(side * bx * 0.8, y + 0.36, 0.09, 0.07, t["air"], side * 0.5, 3.0, 0.8)
    hind = min(0.32, (by - y - 0.2) * 0.48)
    cerebellum(s, frame, (0.0, y + 0.27 + hind, bx * s.u(0.66, 0.8), hind))
    c.ellipse(0.0, y + 0.25, 0.2, 0.13, t["csf"], 0.0, 2.0, 0.9)
    stem = (s.u(0.13, 0.16), s.u(0.1, 0.13)) if low else (s.u(0.08, 0.14), s.u(0.07, 0.1))
    c.ellipse(0.0, y + 0.26, stem[0], stem[1], t["white"], 0.0, 1.5)
    s.pair((0.13, y + 0.33), (0.1, 0.04), "white", 0.5, 3.0, 0.8)
    c.ellipse(0.0, y + 0.3 + stem[1], s.u(0.03, 0.06) + 0.02 * s.atrophy, s.u(0.022, 0.04), t["csf"])
    c.ellipse(0.0, y + 0.25 - stem[1] - 0.025, 0.016, 0.016, t["vessel"])  # basilar artery
    if low:
        c.ellipse(0.0, y + 0.06, 0.1, 0.03, t["marrow"], 0.0, 1.5)
        c.ellipse(0.0, y, 0.075, 0.045, t["gland"] if s.rng.random() < 0.7 else t["csf"])
    else:
        c.ellipse(0.0, y + 0.06, 0.1, 0.05, t["marrow"], 0.0, 2.0)
    s.pair((0.105, y + 0.02), (0.028, 0.045), "sinus", 0.0, 1.3)
    s.pair((0.1, y + 0.02), (0.018, 0.02), "vessel")
    s.pair((bx * 0.8, y + 0.48), (0.03, 0.05), "sinus", -0.4, 1.3)  # sigmoid sinuses
    frame.marks |= {
        "sella": (0.0, y), "stem": (0.0, y + 0.26), "cerebellum": (0.0, y + 0.3 + hind), "cpa": (0.24, y + 0.3),
        "tentorium": (bx * 0.7, y + 0.42), "wing": (bx * 0.5, y - 0.06), "olfactory": (0.0, y - 0.16),
    }  # fmt: skip
    return frame
