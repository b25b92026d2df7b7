"""What a tumour does to the brain round it: displacement, compressed fluid spaces, swelling of white matter."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from .brain_frame import Brain, Point, Scene, depth, ramp
from .brain_phantom import BrainPhantom
from .canvas import Array, smooth_noise

SHIFT = 0.15  # displacement of the midline at full mass effect, in coordinate units (about 15 mm in a head of 15 cm)


def press_of(p: BrainPhantom) -> Point:
    """Width left to the ventricles of the left and right half: the tumour's side is compressed."""
    if p.size <= 0.0 or p.label == "pituitary" or p.view == "sagittal":
        return 1.0, 1.0
    left = 1.0 - 0.75 * p.mass_effect
    return (left, 1.0 + 0.15 * p.mass_effect) if p.side < 0 else (1.0 + 0.15 * p.mass_effect, left)


def displace(s: Scene, frame: Brain, p: BrainPhantom, at: Point) -> None:
    """Push tissue away from the tumour, move the midline to the other side and efface sulci near by."""
    if p.mass_effect <= 0.0:
        return
    c, m = s.c, np.float32(p.mass_effect)
    ox, oy = c.x - np.float32(at[0]), c.y - np.float32(at[1])
    square = ox * ox + oy * oy
    hold = np.clip(frame.inside * np.float32(7.0), 0.0, 1.0)
    reach = 1.6 * p.size
    pull = np.exp(square * np.float32(-0.5 / reach**2)) * hold * (np.float32(0.1) + np.float32(0.3) * m)
    dx, dy = ox * pull, oy * pull
    if frame.facing > 0 and p.label != "pituitary":
        along = np.exp(oy * oy * np.float32(-0.5 / (0.3 + p.size) ** 2))
        across = np.exp((c.x - np.float32(0.35 * at[0])) ** 2 * np.float32(-0.5 / 0.3**2))
        dx = dx - np.float32(SHIFT * p.side) * m * along * across * np.clip(frame.inside * np.float32(4.0), 0.0, 1.0)
    half = np.float32(c.size / 2.0 * c.zoom)
    rows, columns = np.mgrid[0 : c.size, 0 : c.size].astype(np.float32)
    where = np.stack([rows - dy * half, columns - dx * half])
    c.image = map_coordinates(c.image, where, order=1, mode="nearest", output=np.float32)
    frame.sulci = map_coordinates(frame.sulci, where, order=1, mode="nearest", output=np.float32)
    frame.white = map_coordinates(frame.white, where, order=1, mode="nearest", output=np.float32)
    near = np.exp(square * np.float32(-0.5 / (0.16 + 1.5 * p.size) ** 2))
    if frame.facing > 0:
        near = near * ramp(c.x * np.float32(p.side), 0.0, 0.15)
    c.paint(s.whole, np.clip(frame.sulci * near * m * np.float32(1.2), 0.0, 1.0), s.t["grey"])


def swell(
    s: Scene, frame: Brain, p: BrainPhantom, at: Point, radii: Point, angle: float, rng: np.random.Generator
) -> None:
    """Vasogenic oedema: fingers along white matter, the cortex spared."""
    if p.oedema <= 0.0:
        return
    wide = 1.0 + p.oedema
    fingers = np.float32(0.3) * smooth_noise(rng, s.c.size, 9)
    reach = depth(s, at[0], at[1], radii[0] * wide, radii[1] * wide, angle, fingers)
    along = np.clip(gaussian_filter(frame.white, s.c.size / 140.0) * np.float32(1.25) - np.float32(0.1), 0.0, 1.0)
    hold = np.clip(frame.inside * np.float32(12.0), 0.0, 1.0)
    s.c.paint(s.whole, s.c.mask(reach, 3.0) * along * hold * np.float32(rng.uniform(0.75, 1.0)), s.t["oedema"])


def border_of(s: Scene, p: BrainPhantom, rng: np.random.Generator) -> tuple[Array, float]:
    """Roughness (float32, full size) and softness of a tumour's border."""
    sharp = p.border == "sharp"
    rough = np.float32(0.07 if sharp else 0.2) * smooth_noise(rng, s.c.size, 10)
    return rough, 1.0 if sharp else 3.5
