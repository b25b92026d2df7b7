"""Folded tissue of brain phantoms: cortex with sulci, the fissure between the hemispheres, cerebellum, vessels."""

from __future__ import annotations

import numpy as np

from .brain_frame import Brain, Scene, depth, ramp
from .canvas import Array, ridges, smooth_noise

Ellipse = tuple[float, float, float, float]


def cortex(
    s: Scene,
    rim: Array,
    e: Ellipse,
    facing: int = 1,
    *,
    folds: int = 20,
    reach: float = 0.24,
    inner: float = 0.0,
    cleft: Array | None = None,
) -> Brain:
    """Paint grey and white matter with sulci that run inwards from the surface.

    Args:
        rim: float32 (size, size), depth under the surface, positive inside.
        e: (cx, cy, rx, ry) of the brain.
        facing: as in :class:`Brain`.
        folds: half the number of sulci round the brain.
        reach: how deep sulci go, in coordinate units.
        inner: in [0, 1]; how many winding folds there are away from the surface.
        cleft: float32 (size, size), 1 where the fissure between the hemispheres lies open.
    """
    c, t, rng, size = s.c, s.t, s.rng, s.c.size
    cx, cy, rx, ry = e
    ox, oy = (c.x - np.float32(cx)) / np.float32(rx), (c.y - np.float32(cy)) / np.float32(ry)
    theta = np.arctan2(oy, ox)
    radius = np.sqrt(ox * ox + oy * oy) * np.float32(0.5 * (rx + ry))
    slow, fast = smooth_noise(rng, size, 6), smooth_noise(rng, size, 13)
    wave = np.sin(np.float32(folds) * theta + np.float32(s.u(1.4, 2.6)) * slow + np.float32(0.8) * fast)
    radial = np.abs(wave) * radius * np.float32(1.0 / folds)
    loops = np.abs(smooth_noise(rng, size, int(rng.integers(11, 17)))) * np.float32(1.0 / 13.0)
    depths = np.float32(reach) * np.clip(1.0 + 0.5 * smooth_noise(rng, size, 11), 0.15, 1.8).astype(np.float32)
    gap = s.u(0.002, 0.009) + 0.016 * s.atrophy
    sheet = s.u(0.032, 0.048) - 0.008 * s.atrophy
    soft = np.float32(1.0 / (0.8 * c.edge))
    # Sulci narrow towards their ends; some run inwards, some wind along under the surface.
    taper = np.sqrt(np.clip(np.float32(1.0) - rim / depths, 0.0, 1.0))
    wide = np.sqrt(np.clip(np.float32(1.0) - (rim - np.float32(sheet)) / depths, 0.0, 1.0))
    some = np.clip(smooth_noise(rng, size, 8) * np.float32(0.05), 0.0, 1.0)
    near = np.minimum(radial + some, loops)
    sulci = np.clip((np.float32(gap) * taper - near) * soft + np.float32(0.5), 0.0, 1.0) * np.minimum(taper * 2, 1.0)
    blurred = soft * np.float32(0.55)  # the border between grey and white matter is less sharp than a sulcus
    grey = np.clip((np.float32(gap + sheet) * wide - near) * blurred + np.float32(0.5), 0.0, 1.0)
    grey = grey * np.minimum(wide * np.float32(2.0), np.float32(1.0))
    if inner > 0.0:
        grey = np.maximum(grey, np.clip((np.float32(sheet) - loops) * soft, 0.0, 1.0) * np.float32(inner))
        sulci = np.maximum(
            sulci, np.clip((np.float32(gap) - loops) * soft + np.float32(0.5), 0.0, 1.0) * np.float32(inner)
        )
    grey = np.maximum(grey, np.clip((np.float32(sheet) - rim) * soft + np.float32(0.5), 0.0, 1.0))
    if cleft is not None:
        off = np.abs(c.x - np.float32(cx) + np.float32(0.009) * smooth_noise(rng, size, 8))
        line = np.clip((np.float32(gap + 0.004) - off) * soft + np.float32(0.5), 0.0, 1.0) * cleft
        sulci = np.maximum(sulci, line)
        grey = np.maximum(grey, np.clip((np.float32(gap + sheet) - off) * soft + 0.5, 0.0, 1.0) * cleft)
    sulci = sulci * (np.float32(1.0) + np.float32(0.2) * fast)
    sulci = np.clip(sulci, 0.0, 1.0) * np.float32(s.u(0.6, 0.95))
    mask = c.mask(rim)
    texture = np.float32(1.0) + np.float32(0.04) * smooth_noise(rng, size, 9) + np.float32(0.025) * slow
    tissue = (np.float32(t["white"]) + np.float32(t["grey"] - t["white"]) * grey) * texture
    tissue += (np.float32(t["csf"]) - tissue) * sulci
    c.image += (tissue - c.image) * mask
    view = (c.zoom, c.origin)
    return Brain(cx, cy, rx, ry, facing, rim.copy(), sulci * mask, (np.float32(1.0) - grey) * mask, view)


def falx(s: Scene, where: Array, cx: float = 0.0) -> None:
    """The dural sheet in the fissure between the hemispheres, where ``where`` is 1."""
    off = np.abs(s.c.x - np.float32(cx) + np.float32(0.004) * smooth_noise(s.rng, s.c.size, 4))
    s.c.paint(s.whole, s.c.mask(np.float32(0.005) - off) * where * np.float32(s.u(0.2, 0.8)), s.t["dura"])


def cerebellum(s: Scene, frame: Brain, e: Ellipse, angle: float = 0.0, *, halves: bool = True) -> None:
    """Leaves round white cores; ``halves`` draws two cores with a vermis between, otherwise a branching one."""
    c, t, rng = s.c, s.t, s.rng
    cx, cy, rx, ry = e
    body = depth(s, cx, cy, rx, ry, angle, np.float32(0.05) * smooth_noise(rng, c.size, 7))
    uneven = np.float32(0.055) * smooth_noise(rng, c.size, 8)
    slant = (c.y - np.float32(cy)) * np.float32(s.u(0.2, 0.6))
    bow = np.hypot(c.x - np.float32(cx), (c.y - np.float32(cy - 1.1 * ry)) * np.float32(1.3))
    leaves = np.sin((bow + uneven + slant) * np.float32(s.u(75, 110)))
    if not halves:  # leaves fan out from the fourth ventricle
        theta = np.arctan2(c.y - np.float32(cy + 0.1 * ry), c.x - np.float32(cx - 0.75 * rx))
        leaves = np.sin(np.float32(s.u(18, 28)) * theta + np.float32(20.0) * uneven)
    value = np.float32(t["grey"]) + np.float32(s.u(0.08, 0.22) * (t["csf"] - t["grey"])) * np.clip(leaves, 0.0, 1.0)
    value = value + np.float32(0.5 * (t["white"] - t["grey"])) * np.clip(-leaves, 0.0, 1.0)
    c.paint(s.whole, c.mask(body), value)
    if halves:
        for side in (-1, 1):
            c.ellipse(cx + side * 0.45 * rx, cy, rx * 0.32, ry * 0.42, t["white"], side * 0.3, 5.0, 0.75)
        c.ellipse(cx, cy + 0.1 * ry, rx * 0.12, ry * 0.7, t["grey"], 0.0, 3.0, 0.6)
    else:
        c.ellipse(cx - 0.4 * rx, cy, rx * 0.4, ry * 0.3, t["white"], angle, 4.0, 0.7)
    frame.add(body)
    frame.white = np.maximum(frame.white, ramp(body, 0.06, 0.08))
    frame.marks["cerebellum"] = (cx, cy)


def vessels(s: Scene, frame: Brain, share: float) -> None:
    """Thin winding vessels on and in the brain: dark flow voids, bright with contrast agent."""
    lines = np.clip(ridges(smooth_noise(s.rng, s.c.size, 8), 0.07) * np.float32(2.0), 0.0, 1.0)
    some = np.clip(smooth_noise(s.rng, s.c.size, 7) - np.float32(1.6 - share), 0.0, 1.0)
    shallow = np.clip(np.float32(1.2) - frame.inside * np.float32(4.0), 0.2, 1.0)
    s.c.paint(s.whole, lines * some * shallow * s.c.mask(frame.inside + np.float32(0.02)), s.t["vessel"])


def white_matter_spots(s: Scene, frame: Brain, strength: float) -> None:
    """Spots and caps of ageing in deep white matter (bright on T2 and FLAIR), so that not every spot is a tumour."""
    deep = ramp(frame.inside, 0.16, 0.1) * frame.white
    spots = ramp(smooth_noise(s.rng, s.c.size, 24), 2.3 - 0.8 * strength, 0.7)
    caps = ramp(smooth_noise(s.rng, s.c.size, 9), 2.5 - 0.7 * strength, 1.0) * np.float32(0.8)
    s.c.paint(s.whole, np.maximum(spots, caps) * deep, s.t["oedema"])
