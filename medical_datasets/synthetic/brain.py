"""Brain-MRI phantoms: one slice, drawn from parameters, with or without a tumour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .brain_anatomy import CONTRASTS, VIEWS, Scene, anatomy, strip, tissues
from .brain_cortex import white_matter_spots
from .brain_mass import press_of
from .brain_phantom import BORDERS, CLASSES, ENHANCEMENTS, KINDS, LEVELS, PLACES, BrainPhantom
from .brain_places import draw_level
from .brain_tumours import draw_tumour
from .canvas import Canvas

__all__ = [
    "BORDERS", "CLASSES", "CONTRASTS", "ENHANCEMENTS", "KINDS", "LEVELS", "PLACES", "VIEWS", "BrainPhantom",
    "another_slice", "draw_brain", "render_brain",
]  # fmt: skip

# The same for every class, so that neither contrast nor view tells anything.
_CONTRAST_ODDS = {"t1": 0.24, "t1c": 0.42, "t2": 0.16, "flair": 0.14, "dwi": 0.04}
_VIEW_ODDS = (0.42, 0.27, 0.31)
_STRIPPED, _FAT_SUPPRESSED = 0.1, 0.18
_OLD, _SPOTTED = 0.17, 0.28  # atrophy and white-matter spots beside a tumour, about as often as without one
_KIND_ODDS = {
    "glioma": (0.32, 0.18, 0.18, 0.1, 0.06, 0.08, 0.08),
    "meningioma": (0.36, 0.24, 0.12, 0.1, 0.1, 0.08),
    "notumor": (0.6, 0.2, 0.2),
    "pituitary": (0.36, 0.14, 0.16, 0.1, 0.12, 0.12),
}
_PLACE_ODDS = {
    "glioma": (0.12, 0.14, 0.06, 0.19, 0.16, 0.12, 0.07, 0.06, 0.08),
    "meningioma": (0.3, 0.2, 0.07, 0.13, 0.09, 0.08, 0.09, 0.04),
    "notumor": (1.0,),
    "pituitary": (1.0,),
}
# Mean of the logarithm, spread and bounds of the radius.
_SIZES = {
    "glioma": (0.165, 0.38, 0.06, 0.34),
    "meningioma": (0.15, 0.4, 0.05, 0.32),
    "pituitary": (0.095, 0.35, 0.05, 0.2),
}
# How kinds take up contrast agent, with odds.
_UPTAKE: dict[str, dict[str, float]] = {
    "ring": {"rim": 1.0}, "patchy": {"heterogeneous": 1.0}, "infiltrating": {"none": 0.8, "heterogeneous": 0.2},
    "cystic": {"rim": 0.6, "heterogeneous": 0.4}, "butterfly": {"rim": 0.6, "heterogeneous": 0.4},
    "multifocal": {"rim": 0.6, "heterogeneous": 0.4}, "haemorrhagic": {"rim": 0.6, "heterogeneous": 0.4},
    "round": {"homogeneous": 0.93, "heterogeneous": 0.07}, "lobulated": {"homogeneous": 0.85, "heterogeneous": 0.15},
    "plaque": {"homogeneous": 1.0}, "calcified": {"heterogeneous": 1.0}, "part cystic": {"heterogeneous": 1.0},
    "hyperostosis": {"homogeneous": 1.0}, "solid": {"homogeneous": 0.8, "heterogeneous": 0.2},
    "necrotic": {"rim": 1.0}, "snowman": {"homogeneous": 0.7, "heterogeneous": 0.3}, "micro": {"none": 1.0},
    "invasive": {"homogeneous": 0.6, "heterogeneous": 0.4},
}  # fmt: skip


def draw_brain(
    label: str, rng: np.random.Generator, *, age: float = 50.0, views: tuple[float, float, float] = _VIEW_ODDS
) -> BrainPhantom:
    """Draw the parameters of a slice of class ``label``; ``views`` are odds of axial, coronal and sagittal."""
    kind = str(rng.choice(KINDS[label], p=_KIND_ODDS[label]))
    place = str(rng.choice(PLACES[label], p=_PLACE_ODDS[label]))
    atrophy = float(np.clip((age - 35.0) / 60.0 + 0.15 * rng.standard_normal(), 0.0, 1.0))
    if kind == "butterfly":
        place = "callosal"
    elif kind in ("plaque", "hyperostosis") and place in ("falx", "tentorial", "cerebellopontine", "intraventricular"):
        place = "convexity"
    if kind == "atrophic" or (label != "notumor" and rng.random() < _OLD):
        atrophy = max(atrophy, float(rng.uniform(0.55, 1.0)))
    size = _draw_size(label, kind, place, rng)
    swelling = {"glioma": (0.75, 0.25, 1.3), "meningioma": (0.35, 0.15, 0.9)}.get(label, (0.0, 0.0, 0.0))
    oedema = float(rng.uniform(*swelling[1:])) if rng.random() < swelling[0] else 0.0
    if kind == "infiltrating":
        oedema = 0.0  # what looks swollen there is tumour
    phantom = BrainPhantom(
        label=label,
        view="axial",
        level="middle",
        contrast=str(rng.choice(list(_CONTRAST_ODDS), p=list(_CONTRAST_ODDS.values()))),
        kind=kind,
        place=place,
        side=int(rng.choice((-1, 1))),
        size=size,
        oedema=oedema,
        atrophy=atrophy,
        mass_effect=_draw_mass_effect(label, size, oedema, rng),
        enhancement=_draw_enhancement(label, kind, rng),
        border=_draw_border(label, kind, rng),
        stripped=bool(rng.random() < _STRIPPED),
        fat_suppressed=bool(rng.random() < _FAT_SUPPRESSED),
    )
    return another_slice(phantom, rng, views=views)


def _draw_size(label: str, kind: str, place: str, rng: np.random.Generator) -> float:
    if label == "notumor":
        return 0.0
    if kind == "micro":
        return float(rng.uniform(0.034, 0.055))
    middle, spread, low, high = _SIZES[label]
    size = float(np.clip(middle * np.exp(spread * rng.standard_normal()), low, high))
    if kind == "infiltrating":
        size = min(1.2 * size, high)
    if place in ("brainstem", "cerebellar", "cerebellopontine", "intraventricular"):
        size = max(0.68 * size, low)
    return size


def _draw_mass_effect(label: str, size: float, oedema: float, rng: np.random.Generator) -> float:
    if label == "notumor" or rng.random() < 0.15:
        return 0.0
    full = {"glioma": 0.26, "meningioma": 0.3, "pituitary": 0.5}[label]
    return float(np.clip(size / full * rng.uniform(0.4, 1.1) + 0.15 * oedema * rng.random(), 0.0, 1.0))


def _draw_enhancement(label: str, kind: str, rng: np.random.Generator) -> str:
    if label == "notumor":
        return "none"
    odds = {"rim": 1.0} if (label, kind) == ("pituitary", "cystic") else _UPTAKE[kind]
    return str(rng.choice(list(odds), p=list(odds.values())))


def _draw_border(label: str, kind: str, rng: np.random.Generator) -> str:
    vague = {"glioma": 0.55, "meningioma": 0.08, "pituitary": 0.12}.get(label, 0.0)
    vague = {"infiltrating": 0.85, "cystic": 0.15, "ring": 0.45}.get(kind, vague)
    return "ill-defined" if rng.random() < vague else "sharp"


def another_slice(
    phantom: BrainPhantom, rng: np.random.Generator, *, views: tuple[float, float, float] = _VIEW_ODDS
) -> BrainPhantom:
    """The same head and tumour seen again: another view and level, a slightly other cut through the tumour."""
    view = str(rng.choice(VIEWS, p=np.asarray(views) / np.sum(views)))
    level = draw_level(phantom.place, view, rng)
    return replace(phantom, view=view, level=level, size=phantom.size * float(rng.uniform(0.8, 1.1)))


def render_brain(phantom: BrainPhantom, rng: np.random.Generator, size: int = 112) -> NDArray[np.uint8]:
    """Draw a slice as a clean scanner would give it.

    The anatomy does not depend on the tumour: with ``size=0`` the same generator state gives the same head without
    it.

    Args:
        phantom: what to draw.
        rng: source of everything that the parameters leave open.
        size: pixels per side, at least 32.

    Returns:
        uint8 array of shape (size, size, 3); the three channels are equal.
    """
    head, lesion = (np.random.default_rng(int(seed)) for seed in rng.integers(0, 2**63, 2))
    c = Canvas(size)
    c.margin = 0.12  # heads are bent more than the canvas expects
    t = tissues(phantom.contrast, head, atrophy=phantom.atrophy, fat_suppressed=phantom.fat_suppressed)
    s = Scene(c, t, head, phantom.level, phantom.atrophy, press_of(phantom))
    frame = anatomy(s, phantom.view)
    chance, spotted = head.random(2)
    if phantom.kind == "white-matter spots":
        white_matter_spots(s, frame, 0.6 + 0.6 * float(head.random()))
    elif spotted < (_SPOTTED if phantom.label != "notumor" else 0.2 * float(phantom.atrophy > 0.35)):
        white_matter_spots(s, frame, float(head.random()))
    mask = np.zeros((size, size), dtype=np.float32)
    if phantom.size > 0.0:
        mask = draw_tumour(s, frame, phantom, lesion)
    if phantom.stripped:
        strip(s, frame, mask)
    window = np.float32(0.88 + 0.34 * chance)  # display window: brain tissue from dim to bright
    grey = (np.clip(c.image * window, 0.0, 1.0) * np.float32(255.0)).astype(np.uint8)
    if phantom.view == "sagittal" and phantom.side > 0:
        grey = np.ascontiguousarray(grey[:, ::-1])
    return np.repeat(grey[:, :, None], 3, axis=2)
