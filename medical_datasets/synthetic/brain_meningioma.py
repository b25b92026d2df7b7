"""Meningiomas of brain phantoms: masses on the dura, outside the brain, mostly of one even grey."""

from __future__ import annotations

import numpy as np

from .brain_frame import Brain, Point, Scene, depth
from .brain_mass import border_of, swell
from .brain_phantom import BrainPhantom
from .canvas import Array, smooth_noise

_FREE = ("intraventricular", "tentorial", "cerebellopontine", "falx")


def meningioma(s: Scene, frame: Brain, p: BrainPhantom, at: Point, rng: np.random.Generator) -> Array:
    """Draw a meningioma of ``p.kind`` round ``at``; returns its mask, float32 (size, size) in [0, 1]."""
    c, t = s.c, s.t
    rough, soft = border_of(s, p, rng)
    # The long axis lies along the dura: tangentially, or along the falx.
    tangent = float(np.arctan2((at[1] - frame.cy) * frame.rx, (at[0] - frame.cx) * frame.ry)) + np.pi / 2
    if p.place == "falx" and frame.facing > 0:
        tangent = np.pi / 2
    rx, ry = p.size * float(rng.uniform(0.95, 1.25)), p.size * float(rng.uniform(0.75, 1.0))
    swell(s, frame, p, at, (rx, ry), tangent, rng)
    slack = 0.05 if p.place in _FREE else 0.022
    within = c.mask(frame.inside + np.float32(slack))
    if not within[frame.pixel(at)] > 0.5:  # skull base: the mass lies below the brain
        within = np.maximum(within, c.mask(depth(s, at[0], at[1], 1.5 * p.size, 1.5 * p.size)))
    body = _body(s, frame, p, at, (rx, ry), tangent, rough * np.float32(0.5), rng)
    if rng.random() < 0.6 and p.border == "sharp":  # fluid cleft between mass and brain
        some = np.clip(smooth_noise(rng, c.size, 5) + np.float32(0.6), 0.0, 1.0)
        c.paint(s.whole, c.mask(body + np.float32(0.024)) * within * some * np.float32(0.8), t["csf"])
    mask = c.mask(body, min(soft, 2.0)) * within
    value = t["solid"] * (np.float32(1.0) + np.float32(0.045) * smooth_noise(rng, c.size, 15))
    if p.enhancement == "heterogeneous":
        patches = np.clip(np.float32(0.8) + np.float32(0.3) * smooth_noise(rng, c.size, 12), 0.0, 1.0)
        value = np.float32(t["lesion"]) + (value - np.float32(t["lesion"])) * patches
    c.paint(s.whole, mask, value)
    if p.kind == "calcified":
        lumps = np.clip(smooth_noise(rng, c.size, 22) * np.float32(1.4) - np.float32(0.4), 0.0, 1.0)
        c.paint(s.whole, lumps * c.mask(body - np.float32(0.015), 2.0) * within, t["calcium"])
    elif p.kind == "part cystic":
        turn = float(rng.uniform(0.0, 2 * np.pi))
        x, y = at[0] + 0.5 * rx * float(np.cos(turn)), at[1] + 0.5 * ry * float(np.sin(turn))
        hole = depth(s, x, y, 0.5 * p.size, 0.42 * p.size, turn, rough * np.float32(2.0))
        c.paint(s.whole, c.mask(hole, 1.5) * mask, t["cyst"])
    elif p.kind == "hyperostosis":
        mask = np.maximum(mask, _thicken_bone(s, frame, p, at, rng))
    if p.place != "intraventricular" and rng.random() < 0.65:  # dural tail
        square = (c.x - np.float32(at[0])) ** 2 + (c.y - np.float32(at[1])) ** 2
        near = np.exp(square * np.float32(-0.5 / (1.3 * p.size + 0.03) ** 2))
        sheet = c.mask(np.float32(0.016) - np.abs(frame.inside + np.float32(0.004)))
        strength = 0.9 if t["solid"] > 0.6 else 0.4
        c.paint(s.whole, np.clip(sheet * near * np.float32(1.5), 0.0, 1.0) * np.float32(strength), t["solid"])
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
    """Depth inside the mass."""
    rx, ry = radii
    if p.kind == "plaque":
        free = p.place in _FREE
        if not free:  # a carpet along the inner table
            square = (s.c.x - np.float32(at[0])) ** 2 + (s.c.y - np.float32(at[1])) ** 2
            near = np.sqrt(square) * np.float32(1.0 / (1.7 * p.size + 0.03))
            thick = np.float32(0.45 * p.size + 0.03) * np.clip(np.float32(1.15) - near**2 + rough, -1.0, 1.0)
            carpet = np.minimum(thick - frame.inside, np.float32(0.5) * frame.inside + np.float32(0.02))
            return np.asarray(np.maximum(carpet, depth(s, at[0], at[1], 0.8 * rx, 0.45 * ry, angle)), dtype=np.float32)
        rx, ry = 1.35 * rx, 0.6 * ry
    body = depth(s, at[0], at[1], rx, ry, angle, rough)
    if p.kind == "lobulated":
        for _ in range(int(rng.integers(2, 5))):
            turn = float(rng.uniform(0.0, 2 * np.pi))
            x, y = at[0] + 0.6 * rx * float(np.cos(turn)), at[1] + 0.6 * ry * float(np.sin(turn))
            own = p.size * float(rng.uniform(0.4, 0.65))
            body = np.maximum(body, depth(s, x, y, own, 0.9 * own, 0.0, rough))
    return body


def _thicken_bone(s: Scene, frame: Brain, p: BrainPhantom, at: Point, rng: np.random.Generator) -> Array:
    """Thick bone over the mass, with tumour in its marrow."""
    square = (s.c.x - np.float32(at[0])) ** 2 + (s.c.y - np.float32(at[1])) ** 2
    near = np.exp(square * np.float32(-0.5 / (1.1 * p.size + 0.04) ** 2))
    outside = -frame.inside
    plate = s.c.mask(outside - np.float32(0.012)) * s.c.mask(np.float32(0.13) * near - outside)
    s.c.paint(s.whole, plate, s.t["bone"])
    inner = s.c.mask(outside - np.float32(0.03)) * s.c.mask(np.float32(0.09) * near - outside)
    value = 0.5 * (s.t["solid"] + s.t["marrow"]) * (1.0 + 0.1 * smooth_noise(rng, s.c.size, 18))
    s.c.paint(s.whole, inner * np.float32(0.9), value)
    return plate
