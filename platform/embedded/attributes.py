"""What is true of a phantom, as one row of small integers: the targets of the heads and the facts behind captions."""

from __future__ import annotations

import numpy as np

from ...medical_datasets.synthetic import brain, skin
from ...medical_datasets.synthetic.brain import CONTRASTS, ENHANCEMENTS, VIEWS, BrainPhantom
from ...medical_datasets.synthetic.skin import COLOURS, STRUCTURES, SkinPhantom
from .caption_words import BORDER_WORDS, SUBTYPES

LABELS = brain.CLASSES + skin.PRETRAINING_CLASSES
KINDS = tuple(
    f"{label}/{kind}" for looks in (brain.KINDS, skin.KINDS) for label, kinds in looks.items() for kind in kinds
)
PLACES = (*dict.fromkeys(place for places in brain.PLACES.values() for place in places), "skin")
SIZES = ("small", "medium", "large", "none")
TONES = ("fair skin", "tanned skin", "dark skin")
BORDERS = tuple(BORDER_WORDS)
_MASS_EFFECT = 0.25  # from here on it is called one
_SYMMETRY = (0.4, 0.7)


SIGN_PREFIX = "shows "


def sign(name: str) -> str:
    """The attribute that says whether a colour or structure is there: 0 or 1."""
    return SIGN_PREFIX + name


_SIGNS = tuple(sign(name) for name in (*COLOURS, *STRUCTURES))
# How many values each attribute has; the last is "does not apply" where there is such a thing.
WIDTHS = {
    "modality": 2, "label": len(LABELS), "subtype": len(SUBTYPES) + 1, "view": len(VIEWS) + 1,
    "contrast": len(CONTRASTS) + len(TONES), "kind": len(KINDS), "place": len(PLACES), "size": len(SIZES),
    "border": len(BORDERS) + 1, "enhancement": len(ENHANCEMENTS) + 1, "oedema": 3, "mass effect": 3, "symmetry": 4,
    **dict.fromkeys(_SIGNS, 2),
}  # fmt: skip
ATTRIBUTES = tuple(WIDTHS)


def subtype_of(phantom: BrainPhantom | SkinPhantom) -> str | None:
    """The narrower diagnosis of a phantom's look, if it has a name of its own."""
    look = f"{phantom.label}/{phantom.kind}"
    return next((name for name, (looks, _) in SUBTYPES.items() if look in looks), None)


def attributes(phantom: BrainPhantom | SkinPhantom) -> tuple[int, ...]:
    """What is true of a phantom: one index per name of :data:`ATTRIBUTES`, below its width."""
    none = {name: width - 1 for name, width in WIDTHS.items()} | dict.fromkeys(_SIGNS, 0)
    subtype = subtype_of(phantom)
    both = {
        "label": LABELS.index(phantom.label),
        "kind": KINDS.index(f"{phantom.label}/{phantom.kind}"),
        "subtype": len(SUBTYPES) if subtype is None else list(SUBTYPES).index(subtype),
    }
    own = _of_skin(phantom) if isinstance(phantom, SkinPhantom) else _of_brain(phantom)
    found = none | both | own
    return tuple(found[name] for name in ATTRIBUTES)


def _of_skin(phantom: SkinPhantom) -> dict[str, int]:
    shown = {sign(name): 1 for name in (*phantom.colours, *phantom.structures)}
    return shown | {
        "modality": 1,
        "contrast": len(CONTRASTS) + int(np.digitize(phantom.tone, (0.15, 0.5))),
        "size": int(np.digitize(phantom.size, (0.35, 0.55))),
        "border": BORDERS.index(phantom.border),
        "symmetry": int(np.digitize(phantom.symmetry, _SYMMETRY)),
    }


def _of_brain(phantom: BrainPhantom) -> dict[str, int]:
    found = {
        "modality": 0,
        "view": VIEWS.index(phantom.view),
        "contrast": CONTRASTS.index(phantom.contrast),
        "place": PLACES.index(phantom.place),
    }
    if phantom.size == 0.0:
        return found
    limits = (0.08, 0.11) if phantom.label == "pituitary" else (0.13, 0.19)
    return found | {
        "size": int(np.digitize(phantom.size, limits)),
        "border": BORDERS.index(phantom.border),
        "enhancement": ENHANCEMENTS.index(phantom.seen_enhancement),
        "oedema": int(phantom.oedema > 0.0),
        "mass effect": int(phantom.mass_effect >= _MASS_EFFECT),
    }
