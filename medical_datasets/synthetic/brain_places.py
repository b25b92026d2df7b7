"""Where tumours of brain phantoms lie: in which slices a place is seen, and where in a slice."""

from __future__ import annotations

import numpy as np

from .brain_frame import Brain, Point
from .brain_phantom import CLASSES, PLACES, BrainPhantom

Odds = tuple[tuple[str, float], ...]
Box = tuple[float, float, float, float]

# Slices in which each place is seen, with odds: axial, coronal, sagittal.
_SEEN: dict[str, tuple[Odds, Odds, Odds]] = {
    "deep": (
        (("middle", 3), ("deep", 5), ("midbrain", 1)),
        (("front", 3), ("mid", 4)),
        (("midline", 2), ("paramedian", 5)),
    ),
    "lobar": (
        (("vertex", 1), ("high", 3), ("middle", 4), ("deep", 3), ("midbrain", 2)),
        (("frontal", 2), ("front", 2), ("mid", 2), ("back", 2)),
        (("midline", 1), ("paramedian", 3), ("side", 4)),
    ),
    "callosal": (
        (("middle", 6), ("deep", 4), ("high", 1)),
        (("front", 4), ("mid", 4), ("frontal", 1)),
        (("midline", 5), ("paramedian", 2)),
    ),
    "frontal": (
        (("vertex", 1), ("high", 3), ("middle", 4), ("deep", 3), ("midbrain", 1)),
        (("frontal", 5), ("front", 3)),
        (("midline", 1), ("paramedian", 4), ("side", 4)),
    ),
    "temporal": ((("deep", 3), ("midbrain", 5), ("low", 3)), (("front", 4), ("mid", 5)), (("side", 1),)),
    "parietal": (
        (("vertex", 2), ("high", 5), ("middle", 4)),
        (("mid", 4), ("back", 4)),
        (("midline", 1), ("paramedian", 4), ("side", 4)),
    ),
    "occipital": ((("middle", 4), ("deep", 5)), (("back", 1),), (("midline", 1), ("paramedian", 4), ("side", 2))),
    "brainstem": (
        (("midbrain", 3), ("low", 4), ("posterior fossa", 3)),
        (("mid", 1),),
        (("midline", 5), ("paramedian", 2)),
    ),
    "cerebellar": (
        (("low", 3), ("posterior fossa", 6)),
        (("back", 1),),
        (("midline", 3), ("paramedian", 4), ("side", 2)),
    ),
    "convexity": (
        (("vertex", 1), ("high", 4), ("middle", 4), ("deep", 3)),
        (("frontal", 2), ("front", 3), ("mid", 3), ("back", 2)),
        (("paramedian", 3), ("side", 4)),
    ),
    "falx": (
        (("vertex", 3), ("high", 5), ("middle", 3)),
        (("frontal", 3), ("front", 3), ("mid", 3), ("back", 2)),
        (("midline", 4), ("paramedian", 3)),
    ),
    "skull base": (
        (("midbrain", 4), ("low", 4)),
        (("frontal", 1), ("front", 5)),
        (("midline", 3), ("paramedian", 4), ("side", 2)),
    ),
    "sphenoid wing": ((("deep", 1), ("midbrain", 5), ("low", 4)), (("front", 1),), (("paramedian", 2), ("side", 4))),
    "olfactory groove": ((("midbrain", 5), ("low", 4)), (("frontal", 1),), (("midline", 5), ("paramedian", 2))),
    "tentorial": (
        (("midbrain", 4), ("low", 3), ("posterior fossa", 2)),
        (("back", 1),),
        (("midline", 2), ("paramedian", 3), ("side", 3)),
    ),
    "cerebellopontine": (
        (("low", 3), ("posterior fossa", 5)),
        (("mid", 4), ("back", 1)),
        (("paramedian", 3), ("side", 3)),
    ),
    "intraventricular": ((("middle", 5), ("deep", 5)), (("back", 4), ("mid", 2)), (("paramedian", 4), ("side", 1))),
    "sella": ((("midbrain", 4), ("low", 6)), (("front", 9), ("mid", 1)), (("midline", 8), ("paramedian", 2))),
}
# Boxes (u low, u high, v low, v high) in fractions of the brain's half axes: axial, coronal, sagittal. u grows away
# from the middle (sagittal: backwards), v downwards (axial: backwards).
_BOXES: dict[str, tuple[Box, Box, Box]] = {
    "deep": ((0.12, 0.34, -0.15, 0.2), (0.1, 0.34, 0.05, 0.35), (-0.15, 0.25, 0.1, 0.35)),
    "frontal": ((0.22, 0.58, -0.68, -0.32), (0.2, 0.6, -0.55, 0.1), (-0.68, -0.32, -0.4, 0.15)),
    "temporal": ((0.5, 0.72, -0.15, 0.25), (0.5, 0.7, 0.4, 0.6), (-0.3, 0.2, 0.45, 0.6)),
    "parietal": ((0.25, 0.6, 0.1, 0.5), (0.25, 0.62, -0.6, -0.1), (0.05, 0.5, -0.6, -0.15)),
    "occipital": ((0.2, 0.48, 0.5, 0.72), (0.25, 0.6, -0.35, 0.1), (0.5, 0.74, -0.1, 0.3)),
}
_LOBES = ("frontal", "temporal", "parietal", "occipital")
# Angles (degrees, 0 to the tumour's side, -90 up) at which masses sit on the surface: axial, coronal, sagittal.
_ANGLES: dict[str, tuple[Point, Point, Point]] = {
    "convexity": ((-65.0, 65.0), (-70.0, 5.0), (-170.0, -10.0)),
    "skull base": ((-65.0, -20.0), (35.0, 60.0), (120.0, 150.0)),
    "sphenoid wing": ((-40.0, -12.0), (30.0, 50.0), (120.0, 150.0)),
    "olfactory groove": ((-88.0, -72.0), (65.0, 88.0), (140.0, 165.0)),
    "tentorial": ((30.0, 60.0), (20.0, 60.0), (20.0, 45.0)),
    "cerebellopontine": ((10.0, 30.0), (40.0, 60.0), (50.0, 70.0)),
}
_MARKS = {
    "sphenoid wing": "wing", "skull base": "wing", "tentorial": "tentorium", "cerebellopontine": "cpa",
    "intraventricular": "atrium", "brainstem": "stem", "cerebellar": "cerebellum", "olfactory groove": "olfactory",
}  # fmt: skip
_INDEX = {"axial": 0, "coronal": 1, "sagittal": 2}


def draw_level(place: str, view: str, rng: np.random.Generator) -> str:
    """A level of ``view`` in which ``place`` is seen.

    Without a tumour ("none") the levels are those of a tumour of any class, so that the level tells nothing.
    """
    if place == "none":
        label = str(rng.choice([name for name in CLASSES if name != "notumor"]))
        place = str(rng.choice(PLACES[label]))
    names, odds = zip(*_SEEN[place][_INDEX[view]], strict=True)
    return str(rng.choice(names, p=np.asarray(odds) / np.sum(odds)))


def spot(p: BrainPhantom, frame: Brain, rng: np.random.Generator) -> Point:
    """The middle of the tumour in canvas coordinates.

    A slice that cannot show the place (a caller may ask for any level) gets the nearest that it can.
    """
    size, two = p.size, frame.facing > 0
    side = p.side if two else 1
    jitter = (float(rng.uniform(-0.02, 0.02)), float(rng.uniform(-0.02, 0.02)))
    if p.label == "pituitary":
        x, y = frame.marks["sella"]
        rise = size * rng.uniform(0.0, 0.25) if p.view == "axial" else size * rng.uniform(0.15, 0.7)
        return x + 0.5 * jitter[0], y - float(rise)
    place = p.place
    if place == "lobar":
        seen = [name for name in _LOBES if any(p.level == level for level, _ in _SEEN[name][_INDEX[p.view]])]
        place = str(rng.choice(seen or ["parietal"]))
    if place == "callosal":
        names = [name for name in ("genu", "splenium", "callosum") if name in frame.marks]
        x, y = frame.marks[str(rng.choice(names))] if names else frame.at(0.0, 0.0)
        off = 0.0 if p.kind == "butterfly" or not two else side * size * float(rng.uniform(0.2, 0.7))
        return x + off + 0.5 * jitter[0], y + jitter[1]
    mark = _MARKS.get(place, "")
    if mark in frame.marks:
        x, y = frame.marks[mark]
        if place == "cerebellar" and two:
            x += side * frame.rx * float(rng.uniform(0.1, 0.42))
        elif two:
            x = side * x
        elif place == "cerebellar":
            x += float(rng.uniform(-0.08, 0.06))
        if place in ("olfactory groove", "sphenoid wing") and p.view != "axial":
            y -= 0.4 * size
        return x + jitter[0], y + jitter[1]
    if place == "falx":
        return _on_falx(p, frame, rng)
    if place in _ANGLES:
        low, high = _ANGLES[place][_INDEX[p.view]]
        return _on_surface(frame, side, size, np.deg2rad(rng.uniform(low, high)))
    fallback = {"cerebellar": "occipital", "brainstem": "deep", "intraventricular": "deep"}
    box = _BOXES[fallback.get(place, place)][_INDEX[p.view]]
    u, v = float(rng.uniform(box[0], box[1])), float(rng.uniform(box[2], box[3]))
    return frame.at(side * u, v)


def _on_falx(p: BrainPhantom, frame: Brain, rng: np.random.Generator) -> Point:
    lean = p.side * p.size * 0.7
    if p.view == "axial":
        v = float(rng.uniform(0.3, 0.85)) * (1.0 if rng.random() < 0.4 else -1.0)
        return frame.cx + lean, frame.cy + v * frame.ry
    if p.view == "coronal":
        return frame.cx + lean, frame.cy - frame.ry * float(rng.uniform(0.4, 1.0)) + 0.6 * p.size
    return _on_surface(frame, 1, p.size, np.deg2rad(rng.uniform(-150.0, -30.0)))


def _on_surface(frame: Brain, side: int, size: float, angle: float) -> Point:
    """The middle of a mass that sits with a broad base on the dura, in the direction ``angle`` from the middle."""
    dx, dy = side * float(np.cos(angle)), float(np.sin(angle))
    steps = np.linspace(0.2, 1.3, 56, dtype=np.float32)
    rows, columns = frame.pixels(
        frame.cx + steps * np.float32(dx * frame.rx), frame.cy + steps * np.float32(dy * frame.ry)
    )
    within = frame.inside[rows, columns] > 0.0
    edge = float(steps[within].max()) if within.any() else 1.0
    far = edge - 0.6 * size / float(np.hypot(dx * frame.rx, dy * frame.ry))
    return frame.cx + far * dx * frame.rx, frame.cy + far * dy * frame.ry
