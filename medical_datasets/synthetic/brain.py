"""Brain-MRI phantoms: one slice, drawn from parameters, with or without a tumour."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .brain_anatomy import VIEWS, Brain, Tissues, axial, coronal, sagittal, tissues
from .brain_tumours import draw_tumour, fade, white_matter_spots
from .canvas import Canvas, smooth_noise

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
LEVELS = {"axial": ("high", "middle", "low"), "coronal": ("front", "back"), "sagittal": ("midline", "side")}
KINDS = {
    "glioma": ("ring", "patchy", "infiltrating", "cystic"),
    "meningioma": ("round", "lobulated", "plaque"),
    "notumor": ("none",),
    "pituitary": ("solid", "necrotic", "snowman"),
}
PLACES = {
    "glioma": ("deep", "lobar", "callosal"),
    "meningioma": ("convexity", "falx", "skull base"),
    "notumor": ("none",),
    "pituitary": ("sella",),
}


@dataclass(frozen=True, slots=True)
class BrainPhantom:
    """Everything that decides a slice before the scanner touches it.

    Attributes:
        label: one of :data:`CLASSES`.
        view: one of ``VIEWS``.
        level: one of ``LEVELS[view]``.
        contrast: one of ``CONTRASTS``.
        kind: one of ``KINDS[label]``.
        place: one of ``PLACES[label]``.
        side: -1 left of the picture, +1 right.
        size: tumour radius as a fraction of half the picture; 0 without a tumour.
        oedema: width of the swelling round the tumour, as a multiple of its radius; 0 for none.
        atrophy: in [0, 1]; widens sulci and ventricles, grows with age.
        uptake: how much of the tumour's own grey value shows against healthy tissue; 1 all of it.
    """

    label: str
    view: str
    level: str
    contrast: str
    kind: str
    place: str
    side: int
    size: float
    oedema: float
    atrophy: float
    uptake: float = 1.0


# How often each contrast is seen, with and without a tumour. They overlap, so that contrast alone tells little.
_CONTRAST_ODDS = {
    True: {"t1": 0.12, "t1c": 0.60, "t2": 0.14, "flair": 0.12, "dwi": 0.02},
    False: {"t1": 0.30, "t1c": 0.24, "t2": 0.22, "flair": 0.20, "dwi": 0.04},
}


def draw_brain(
    label: str, rng: np.random.Generator, *, age: float = 50.0, views: tuple[float, float, float] = (0.42, 0.27, 0.31)
) -> BrainPhantom:
    """Draw the parameters of a slice of class ``label``; ``views`` are odds of axial, coronal and sagittal."""
    tumour = label != "notumor"
    odds = _CONTRAST_ODDS[tumour]
    kind = str(rng.choice(KINDS[label]))
    place = str(rng.choice(PLACES[label]))
    size = {
        "glioma": rng.uniform(0.1, 0.27),
        "meningioma": rng.uniform(0.08, 0.24),
        "pituitary": rng.uniform(0.055, 0.15),
        "notumor": 0.0,
    }[label]
    swelling = {"glioma": (0.75, 0.3, 1.0), "meningioma": (0.25, 0.15, 0.5)}.get(label, (0.0, 0.0, 0.0))
    phantom = BrainPhantom(
        label=label,
        view="axial",
        level="middle",
        contrast=str(rng.choice(list(odds), p=list(odds.values()))),
        kind=kind,
        place=place,
        side=int(rng.choice((-1, 1))),
        size=float(size),
        oedema=float(rng.uniform(*swelling[1:])) if rng.random() < swelling[0] else 0.0,
        atrophy=float(np.clip((age - 35.0) / 60.0 + 0.15 * rng.standard_normal(), 0.0, 1.0)),
    )
    return another_slice(phantom, rng, views=views)


def another_slice(
    phantom: BrainPhantom, rng: np.random.Generator, *, views: tuple[float, float, float] = (0.42, 0.27, 0.31)
) -> BrainPhantom:
    """The same head and tumour seen again: another view and level, a slightly other cut through the tumour."""
    view = str(rng.choice(VIEWS, p=np.asarray(views) / np.sum(views)))
    low = {"glioma": 0.25, "meningioma": 0.3, "notumor": 0.25, "pituitary": 1.0}[phantom.label]
    if view == "axial":
        level = "low" if rng.random() < low else str(rng.choice(("high", "middle"), p=(0.3, 0.7)))
    elif view == "coronal":
        level = "front" if phantom.label == "pituitary" or rng.random() < 0.6 else "back"
    else:
        level = "midline" if phantom.label == "pituitary" or rng.random() < 0.5 else "side"
    return replace(phantom, view=view, level=level, size=phantom.size * float(rng.uniform(0.8, 1.1)))


def render_brain(phantom: BrainPhantom, rng: np.random.Generator, size: int = 112) -> NDArray[np.uint8]:
    """Draw a slice as a clean scanner would give it.

    Args:
        phantom: what to draw.
        rng: source of everything that the parameters leave open.
        size: pixels per side, at least 32.

    Returns:
        uint8 array of shape (size, size, 3); the three channels are equal.
    """
    c = Canvas(size)
    t = tissues(phantom.contrast, rng)
    gentle = np.float32(0.018)
    c.bend(gentle * smooth_noise(rng, size, 4), gentle * smooth_noise(rng, size, 4))
    frame = _draw_anatomy(c, t, phantom, rng)
    if phantom.size > 0.0:
        t = fade(t, phantom.uptake)
        draw_tumour(
            c, t, phantom.label, phantom.kind, phantom.place, phantom.side, phantom.size, phantom.oedema, frame, rng
        )
    elif phantom.atrophy > 0.5 and rng.random() < 0.4:
        white_matter_spots(c, t, frame, rng)
    grey = np.clip(c.image, 0.0, 1.0)
    picture = Image.fromarray((grey * np.float32(255.0)).astype(np.uint8))
    if phantom.view == "sagittal" and phantom.side > 0:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.repeat(np.asarray(picture)[:, :, None], 3, axis=2)


def _draw_anatomy(c: Canvas, t: Tissues, phantom: BrainPhantom, rng: np.random.Generator) -> Brain:
    draw = {"axial": axial, "coronal": coronal, "sagittal": sagittal}[phantom.view]
    return draw(c, t, phantom.level, phantom.atrophy, rng)
