"""Captions for phantoms: many ways to say what a picture shows, and which of its attributes each caption states.

A caption states some attributes and is silent on others. Two pictures that agree on everything a caption states are
both described by it, so the contrastive loss counts both as positives (:func:`described`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...medical_datasets.synthetic import brain, skin
from ...medical_datasets.synthetic.brain import BrainPhantom
from ...medical_datasets.synthetic.brain_anatomy import CONTRASTS, VIEWS
from ...medical_datasets.synthetic.skin import SkinPhantom
from .caption_words import (
    BARE_FRAMES,
    BRAIN_FRAMES,
    CONTRAST_WORDS,
    KIND_WORDS,
    NAMES,
    OTHER_WORDS,
    PLACE_WORDS,
    SKIN_FRAMES,
)

ATTRIBUTES = ("modality", "label", "view", "contrast", "kind", "place", "size")
LABELS = brain.CLASSES + skin.CLASSES
BRAIN_KINDS = tuple(f"{label}/{kind}" for label, kinds in brain.KINDS.items() for kind in kinds)
SKIN_KINDS = tuple(f"{label}/{kind}" for label, kinds in skin.KINDS.items() for kind in kinds)
KINDS = BRAIN_KINDS + SKIN_KINDS
PLACES = ("deep", "lobar", "callosal", "convexity", "falx", "skull base", "none", "sella", "skin")
SIZES = ("small", "medium", "large", "none")
TONES = ("fair skin", "tanned skin")
WIDTHS = {
    "modality": 2, "label": len(LABELS), "view": len(VIEWS) + 1, "contrast": len(CONTRASTS) + len(TONES),
    "kind": len(KINDS), "place": len(PLACES), "size": len(SIZES),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence and the attributes it states: one value per name of :data:`ATTRIBUTES`, -1 where it is silent."""

    text: str
    states: tuple[int, ...]


def attributes(phantom: BrainPhantom | SkinPhantom) -> tuple[int, ...]:
    """What is true of a phantom: one index per name of :data:`ATTRIBUTES`."""
    label = LABELS.index(phantom.label)
    kind = KINDS.index(f"{phantom.label}/{phantom.kind}")
    if isinstance(phantom, SkinPhantom):
        size = int(np.digitize(phantom.size, (0.33, 0.5)))
        tone = len(CONTRASTS) + int(phantom.tone > 0.15)
        return (1, label, len(VIEWS), tone, kind, PLACES.index("skin"), size)
    limits = (0.08, 0.11) if phantom.label == "pituitary" else (0.13, 0.19)
    size = int(np.digitize(phantom.size, limits)) if phantom.size > 0.0 else SIZES.index("none")
    view, contrast = VIEWS.index(phantom.view), CONTRASTS.index(phantom.contrast)
    return (0, label, view, contrast, kind, PLACES.index(phantom.place), size)


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def caption(phantom: BrainPhantom | SkinPhantom, rng: np.random.Generator) -> Caption:
    """Say what a phantom shows, stating a random choice of its attributes; the diagnosis nearly always."""
    truth = dict(zip(ATTRIBUTES, attributes(phantom), strict=True))
    states = dict.fromkeys(ATTRIBUTES, -1)
    states["modality"] = truth["modality"]
    on_skin = isinstance(phantom, SkinPhantom)
    named = rng.random() < 0.85
    name = _pick(NAMES[phantom.label], rng) if named else ("a skin lesion" if on_skin else "the brain")
    if named:
        states["label"] = truth["label"]
    if named and rng.random() < 0.2:
        return _finish(_pick(BARE_FRAMES, rng).format(n=name), states)
    front: list[str] = []
    lesion = phantom.label != "notumor"
    if lesion and named and rng.random() < 0.3:
        states["size"] = truth["size"]
        name = f"{SIZES[truth['size']]} {name.removeprefix('a ').removeprefix('an ')}"
    if lesion and named and rng.random() < 0.3:
        states["kind"] = truth["kind"]
        name = f"{name}, {KIND_WORDS[KINDS[truth['kind']]]}"
    if isinstance(phantom, BrainPhantom):
        if lesion and named and rng.random() < 0.25:
            states["place"] = truth["place"]
            name = f"{name} {PLACE_WORDS[phantom.place]}"
        if rng.random() < 0.5:
            states["view"] = truth["view"]
            front.append(phantom.view)
        if rng.random() < 0.45:
            states["contrast"] = truth["contrast"]
            front.append(_pick(CONTRAST_WORDS[phantom.contrast], rng))
    elif rng.random() < 0.15:
        states["contrast"] = truth["contrast"]
        name = f"{name} on {TONES[truth['contrast'] - len(CONTRASTS)]}"
    words = " ".join(front)
    article = _pick(("a", "an", ""), rng) if not words else _pick(("", "a", "an"), rng)
    frame = _pick(SKIN_FRAMES if on_skin else BRAIN_FRAMES, rng)
    return _finish(frame.format(a=f"{article} {words}".strip(), n=name), states)


def _finish(text: str, states: dict[str, int]) -> Caption:
    return Caption(" ".join(text.split()), tuple(states[name] for name in ATTRIBUTES))


def described(truth: NDArray[np.int64], states: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which captions describe which pictures.

    Args:
        truth: int64 (n, A), attributes of the pictures.
        states: int64 (m, A), what the captions state, -1 where silent.

    Returns:
        bool (n, m): True where everything the caption states is true of the picture.
    """
    agree = (states[None, :, :] == truth[:, None, :]) | (states[None, :, :] == -1)
    return np.asarray(agree.all(axis=2))


def corpus(seed: int = 0, count: int = 4000) -> list[str]:
    """Text to learn the vocabulary from: captions of ``count`` drawn phantoms and general medical words."""
    rng = np.random.default_rng(seed)
    lines = []
    for index in range(count):
        label = LABELS[index % len(LABELS)]
        phantom = brain.draw_brain(label, rng) if label in brain.CLASSES else skin.draw_skin(label, rng)
        lines.append(caption(phantom, rng).text)
    return lines + OTHER_WORDS.split() * 20
