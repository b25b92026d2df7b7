"""Dermoscopy phantoms: lesions on skin, drawn from parameters by a small model of pigment and blood.

What a phantom shows is drawn first (:func:`draw_skin`), so that it can be stated, and then rendered
(:func:`render_skin`). Looks and their odds are in ``skin_looks``, colours and absorbers in ``skin_layers``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas
from .skin_around import skin_around
from .skin_layers import develop
from .skin_lesions import draw_lesion
from .skin_looks import COLOUR_OF, COLOURS, LOOKS, STRAY, STRAY_ODDS, STRUCTURES, Odds
from .skin_outlines import BORDERS, SHAPES, outline

__all__ = [
    "BORDERS", "CLASSES", "COLOURS", "KINDS", "PRETRAINING_CLASSES", "SHAPES", "STRUCTURES", "SkinPhantom",
    "another_photograph", "draw_skin", "render_skin",
]  # fmt: skip

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
PRETRAINING_CLASSES = (*CLASSES, "scc")
KINDS: dict[str, tuple[str, ...]] = {label: tuple(LOOKS[label]) for label in PRETRAINING_CLASSES}
_SIZES = {"df": (0.24, 0.6), "vasc": (0.18, 0.65), "nv": (0.24, 0.72)}


@dataclass(frozen=True, slots=True)
class SkinPhantom:
    """Everything that decides a photograph before the camera touches it.

    Attributes:
        label: one of :data:`PRETRAINING_CLASSES`.
        kind: one of ``KINDS[label]``.
        size: lesion radius as a fraction of half the picture; above 0.9 it fills the picture.
        tone: melanin of the skin around it, in [0, 1]; 0 is the fairest.
        redness: blood in the skin around it, in [0, 1].
        damage: sun damage in [0, 1]: spots and uneven colour, grows with age.
        strength: how much pigment or blood the lesion holds, about 1.
        structures: which of :data:`STRUCTURES` it shows, in that order.
        colours: one to four of :data:`COLOURS`, the ground's first.
        border: one of :data:`BORDERS`.
        shape: one of :data:`SHAPES`.
        symmetry: of outline and colour, in [0, 1]; 1 is the most symmetrical.
    """

    label: str
    kind: str
    size: float
    tone: float
    redness: float
    damage: float
    strength: float
    structures: tuple[str, ...]
    colours: tuple[str, ...]
    border: str
    shape: str
    symmetry: float


def draw_skin(
    label: str,
    rng: np.random.Generator,
    *,
    age: float = 50.0,
    tone: tuple[float, float] = (0.0, 0.5),
    kinds: tuple[str, ...] | None = None,
) -> SkinPhantom:
    """Draw the parameters of a photograph of class ``label``.

    Args:
        label: one of :data:`PRETRAINING_CLASSES`.
        rng: source of every draw.
        age: in years; older skin has more sun damage.
        tone: bounds of the skin's melanin, in [0, 1].
        kinds: some of ``KINDS[label]`` to draw from; None for all of them.
    """
    looks = {name: look for name, look in LOOKS[label].items() if kinds is None or name in kinds}
    total = sum(look.share for look in looks.values())
    kind = _pick({name: look.share / total for name, look in looks.items()}, rng)
    look = looks[kind]
    odds = {name: max(look.signs.get(name, 0.0), STRAY_ODDS if name in STRAY else 0.0) for name in STRUCTURES}
    structures = tuple(name for name in STRUCTURES if rng.random() < odds[name])
    main = _pick(look.main, rng)
    further = [name for name, often in look.also.items() if rng.random() < often]
    brought = [COLOUR_OF[name] for name in structures if name in COLOUR_OF]
    colours = tuple(dict.fromkeys((main, *brought, *further)))[:4]
    shape = _pick(look.shapes, rng)
    low, high = _SIZES.get(label, (0.28, 0.8))
    size = rng.uniform(0.85, 1.35) if shape == "filling" else rng.uniform(low, high)
    return SkinPhantom(
        label=label,
        kind=kind,
        size=float(size),
        tone=float(rng.uniform(*tone)),
        redness=float(rng.beta(1.6, 2.6)),
        damage=float(np.clip((age - 30.0) / 70.0 + 0.15 * rng.standard_normal(), 0.0, 1.0)),
        strength=float(rng.uniform(0.65, 1.3)),
        structures=structures,
        colours=colours,
        border=_pick(look.borders, rng),
        shape=shape,
        symmetry=float(rng.uniform(*look.symmetry)),
    )


def _pick(odds: Odds, rng: np.random.Generator) -> str:
    names = list(odds)
    return names[int(rng.choice(len(names), p=list(odds.values())))]


def another_photograph(phantom: SkinPhantom, rng: np.random.Generator) -> SkinPhantom:
    """The same lesion photographed again: another distance and pressure."""
    return replace(
        phantom,
        size=float(np.clip(phantom.size * rng.uniform(0.85, 1.15), 0.12, 1.5)),
        redness=float(np.clip(phantom.redness + rng.uniform(-0.1, 0.1), 0.0, 1.0)),
    )


def render_skin(phantom: SkinPhantom, rng: np.random.Generator, size: int = 112) -> NDArray[np.uint8]:
    """Draw a lesion as a clean camera would give it.

    The skin, the outline, every structure and the light have random numbers of their own: the same ``rng`` and a
    phantom that differs in one structure give pictures that differ by that structure only.

    Args:
        phantom: what to draw.
        rng: source of everything that the parameters leave open.
        size: pixels per side, at least 32.

    Returns:
        uint8 RGB array of shape (size, size, 3).
    """
    around, lay, lesion, light = (np.random.default_rng(seed) for seed in rng.integers(0, 2**62, 4))
    c = Canvas(size)
    layers = skin_around(c, phantom.tone, phantom.redness, phantom.damage, around)
    placed = outline(c, phantom.shape, phantom.border, phantom.size, phantom.symmetry, phantom.strength, lay)
    draw_lesion(placed, layers, phantom.colours, phantom.structures, lesion)
    return develop(layers, light)
