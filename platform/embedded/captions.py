"""Captions for phantoms: many ways to say what a picture shows, and which of its attributes each caption states.

A caption states some attributes and is silent on others. Two pictures that agree on everything a caption states are
both described by it, so the contrastive loss counts both as positives (:func:`described`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...medical_datasets.synthetic import brain, skin
from ...medical_datasets.synthetic.brain import BrainPhantom
from ...medical_datasets.synthetic.skin import SkinPhantom
from .attributes import ATTRIBUTES, LABELS, SIZES, TONES, attributes, sign, subtype_of
from .caption_words import (
    BARE_FRAMES,
    BORDER_WORDS,
    BRAIN_FRAMES,
    CONTRAST_WORDS,
    ENHANCEMENT_WORDS,
    KIND_WORDS,
    MASS_WORDS,
    NAMES,
    OEDEMA_WORDS,
    OTHER_WORDS,
    PLACE_WORDS,
    SHIFT_WORDS,
    SKIN_FRAMES,
    SUBTYPES,
    SYMMETRY_WORDS,
    UNNAMED_FRAMES,
)

_MOST_DETAILS = 3
_ARTICLE, _VOWEL = re.compile(r"\b(an?) (\w+)"), re.compile(r"[aeiou]|MR")
Detail = tuple[str, str, str]  # attribute that is stated, where the words go ("before" or "after" the name), the words


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence and the attributes it states: one value per name of :data:`ATTRIBUTES`, -1 where it is silent."""

    text: str
    states: tuple[int, ...]


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def caption(phantom: BrainPhantom | SkinPhantom, rng: np.random.Generator) -> Caption:
    """Say what a phantom shows, stating a random choice of its attributes; the diagnosis nearly always."""
    truth = dict(zip(ATTRIBUTES, attributes(phantom), strict=True))
    states = dict.fromkeys(ATTRIBUTES, -1)
    states["modality"] = truth["modality"]
    on_skin = isinstance(phantom, SkinPhantom)
    name = "a skin lesion" if on_skin else "the brain"
    named = rng.random() < 0.85
    subtype = subtype_of(phantom)
    if named and subtype and rng.random() < 0.4:
        name = _pick(SUBTYPES[subtype][1], rng)
        states["subtype"], states["label"] = truth["subtype"], truth["label"]
    elif named:
        name = _pick(NAMES[phantom.label], rng)
        states["label"] = truth["label"]
    if named and rng.random() < 0.2:
        return _finish(_pick(BARE_FRAMES, rng).format(n=name), states)
    if named or on_skin:
        offered = list(_details(phantom, truth, named, rng))
        for at in rng.permutation(len(offered))[: int(rng.integers(_MOST_DETAILS + 1))]:
            attribute, place, words = offered[at]
            states[attribute] = truth[attribute]
            name = f"{words} {_bare(name)}" if place == "before" else f"{name} {words}"
    front: list[str] = []
    if isinstance(phantom, BrainPhantom):
        if rng.random() < 0.5:
            states["view"] = truth["view"]
            front.append(phantom.view)
        if rng.random() < 0.45:
            states["contrast"] = truth["contrast"]
            front.append(_pick(CONTRAST_WORDS[phantom.contrast], rng))
    words = " ".join(front)
    article = _pick(("a", ""), rng)
    frames = (SKIN_FRAMES if on_skin else BRAIN_FRAMES) if named else UNNAMED_FRAMES[int(on_skin)]
    frame = _pick(frames, rng)
    return _finish(frame.format(a=f"{article} {words}".strip(), n=name), states)


def _details(
    phantom: BrainPhantom | SkinPhantom, truth: dict[str, int], named: bool, rng: np.random.Generator
) -> Iterator[Detail]:
    """What may be said of a phantom beside its name; words for a look mean little without the name."""
    if isinstance(phantom, BrainPhantom):
        yield from _brain_details(phantom, truth, rng)
        return
    yield "size", "before", SIZES[truth["size"]]
    if named:
        yield "kind", "after", KIND_WORDS[f"{phantom.label}/{phantom.kind}"]
    yield "border", "after", f"with {BORDER_WORDS[phantom.border]}"
    if SYMMETRY_WORDS[truth["symmetry"]]:
        yield "symmetry", "before", SYMMETRY_WORDS[truth["symmetry"]]
    if rng.random() < 0.3:
        yield "contrast", "after", f"on {TONES[truth['contrast'] - len(brain.CONTRASTS)]}"
    for colour in phantom.colours:
        yield sign(colour), "before", colour
    for structure in phantom.structures:
        yield sign(structure), "after", f"with {structure}"


def _brain_details(phantom: BrainPhantom, truth: dict[str, int], rng: np.random.Generator) -> Iterator[Detail]:
    kind = f"{phantom.label}/{phantom.kind}"
    if kind in KIND_WORDS:
        yield "kind", "after", KIND_WORDS[kind]
    if phantom.size == 0.0:
        return
    yield "size", "before", SIZES[truth["size"]]
    if phantom.place in PLACE_WORDS:
        yield "place", "after", PLACE_WORDS[phantom.place]
    if kind != "pituitary/micro":  # drawn without a border of its own
        yield "border", "after", f"with {BORDER_WORDS[phantom.border]}"
    yield "oedema", "after", _pick(OEDEMA_WORDS[truth["oedema"]], rng)
    # A midline is seen from above and from the front, and a mass in the sella lies on it.
    shifts = truth["mass effect"] == 1 and phantom.view != "sagittal" and phantom.label != "pituitary"
    yield "mass effect", "after", _pick(MASS_WORDS[truth["mass effect"]] + (SHIFT_WORDS,) * shifts, rng)
    if phantom.contrast == "t1c":
        yield "enhancement", "after", _pick(ENHANCEMENT_WORDS[phantom.seen_enhancement], rng)


def _bare(name: str) -> str:
    return name.removeprefix("a ").removeprefix("an ")


def _finish(text: str, states: dict[str, int]) -> Caption:
    text = _ARTICLE.sub(lambda found: f"{'an' if _VOWEL.match(found[2]) else 'a'} {found[2]}", " ".join(text.split()))
    return Caption(text, tuple(states[name] for name in ATTRIBUTES))


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


def drawn(label: str, rng: np.random.Generator) -> BrainPhantom | SkinPhantom:
    """A phantom of any diagnosis, of brain or skin."""
    make: Callable[[str, np.random.Generator], BrainPhantom | SkinPhantom]
    make = brain.draw_brain if label in brain.CLASSES else skin.draw_skin
    return make(label, rng)


def corpus(seed: int = 0, count: int = 6000) -> list[str]:
    """Text to learn the vocabulary from: captions of ``count`` drawn phantoms and general medical words."""
    rng = np.random.default_rng(seed)
    lines = [caption(drawn(LABELS[index % len(LABELS)], rng), rng).text for index in range(count)]
    return lines + OTHER_WORDS.split() * 20
