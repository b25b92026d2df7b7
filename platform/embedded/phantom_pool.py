"""Pretraining pictures: clean phantoms with tokenised captions, drawn once into memory by spawned workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ...medical_datasets.synthetic import brain, skin
from ...medical_datasets.synthetic.appearance import (
    PRETRAINING_BRAIN,
    PRETRAINING_SKIN,
    BrainAppearance,
    SkinAppearance,
    draw,
    photograph,
    scan,
)
from .architecture import load_tokenizer
from .attributes import ATTRIBUTES, attributes
from .captions import caption
from .textures import texture

_Given = TypeVar("_Given")
_Drawn = TypeVar("_Drawn")
CAPTIONS_EACH = 3
_CHUNK = 400
# Dark skin is rare in dermoscopy collections and must not be unknown to the model. The demo's tones lie between.
_DARK_TONE, _DARK_SHARE = (0.55, 0.95), 0.12
# A slice is framed once; hair, ruler marks and the like are layers of their own; the rest comes fresh with every batch.
_FRAMED = BrainAppearance(
    crop=PRETRAINING_BRAIN.crop, ghosting=PRETRAINING_BRAIN.ghosting, ringing=PRETRAINING_BRAIN.ringing
)
_LAID_OVER = SkinAppearance(
    hairs=PRETRAINING_SKIN.hairs,
    marks=PRETRAINING_SKIN.marks,
    field=PRETRAINING_SKIN.field,
    bubbles=PRETRAINING_SKIN.bubbles,
)


@dataclass(frozen=True, slots=True)
class Pool:
    """Pictures of one modality.

    Attributes:
        images: uint8 (n, C, size, size), C is 1 for brain and 3 for skin.
        truth: int64 (n, A), attributes in the order of ``attributes.ATTRIBUTES``.
        tokens: int64 (n, CAPTIONS_EACH, context_length).
        states: int64 (n, CAPTIONS_EACH, A), what each caption states.
    """

    images: NDArray[np.uint8]
    truth: NDArray[np.int64]
    tokens: NDArray[np.int64]
    states: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Order:
    kind: str
    seed: int
    start: int
    count: int
    size: int
    context_length: int
    folder: Path


def draw_pool(kind: str, count: int, *, seed: int, size: int, context_length: int, folder: Path, workers: int) -> Pool:
    """Draw ``count`` captioned phantoms of ``kind`` ("brain" or "skin"); the result does not depend on ``workers``.

    Args:
        folder: where the vocabulary lies.
        workers: processes; 0 draws in this one.
    """
    orders = [
        _Order(kind, seed, start, min(_CHUNK, count - start), size, context_length, folder)
        for start in range(0, count, _CHUNK)
    ]
    parts = _in_order(_draw_chunk, orders, workers)
    return Pool(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.tokens for part in parts]),
        np.concatenate([part.states for part in parts]),
    )


def draw_textures(count: int, *, seed: int, size: int, workers: int) -> NDArray[np.uint8]:
    """Draw ``count`` pictures of nothing: uint8 (count, 3, size, size), the same for any number of workers."""
    if count == 0:
        return np.empty((0, 3, size, size), dtype=np.uint8)
    orders = [(seed, start, min(_CHUNK, count - start), size) for start in range(0, count, _CHUNK)]
    return np.concatenate(_in_order(_draw_texture_chunk, orders, workers))


def draw_overlays(count: int, *, seed: int, size: int) -> NDArray[np.uint8]:
    """Layers of hair and the like: uint8 (count, 4, size, size), three colours times opacity, and opacity.

    A layer is found by photographing a black and a white card with the same draws: what black turns into is the
    layer's own light, and what white loses beyond that is its opacity.
    """
    layers = np.empty((count, 4, size, size), dtype=np.uint8)
    cards = [np.full((size, size, 3), value, dtype=np.uint8) for value in (0, 255)]
    for index in range(count):
        black, white = (
            photograph(card, _LAID_OVER, np.random.default_rng((seed, 3, index))).astype(np.int16) for card in cards
        )
        layers[index, :3] = black.transpose(2, 0, 1)
        layers[index, 3] = np.clip(255 - (white - black).mean(axis=2).round(), 0, 255)
    return layers


def _in_order(draw: Callable[[_Given], _Drawn], orders: Sequence[_Given], workers: int) -> list[_Drawn]:
    if workers == 0:
        return [draw(order) for order in orders]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(draw, orders))


def _draw_texture_chunk(order: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    seed, start, count, size = order
    pictures = [texture(size, np.random.default_rng((seed, 2, start + row))) for row in range(count)]
    return np.stack(pictures).transpose(0, 3, 1, 2)


def _draw_chunk(order: _Order) -> Pool:
    tokenizer = load_tokenizer(order.folder, context_length=order.context_length)
    on_skin = order.kind == "skin"
    classes = skin.PRETRAINING_CLASSES if on_skin else brain.CLASSES
    images = np.empty((order.count, 3 if on_skin else 1, order.size, order.size), dtype=np.uint8)
    truth = np.empty((order.count, len(ATTRIBUTES)), dtype=np.int64)
    states = np.empty((order.count, CAPTIONS_EACH, len(ATTRIBUTES)), dtype=np.int64)
    texts: list[str] = []
    for row in range(order.count):
        index = order.start + row
        rng = np.random.default_rng((order.seed, int(on_skin), index))
        label, age = classes[index % len(classes)], float(rng.uniform(18.0, 90.0))
        phantom: brain.BrainPhantom | skin.SkinPhantom
        if on_skin:
            tone = _DARK_TONE if rng.random() < _DARK_SHARE else PRETRAINING_SKIN.tone
            phantom = skin.draw_skin(label, rng, age=age, tone=tone)
            images[row] = skin.render_skin(phantom, rng, order.size).transpose(2, 0, 1)
        else:
            phantom = brain.draw_brain(label, rng, age=age)
            phantom = replace(phantom, uptake=draw(PRETRAINING_BRAIN.uptake, rng))
            images[row, 0] = scan(brain.render_brain(phantom, rng, order.size), _FRAMED, rng)[:, :, 0]
        truth[row] = attributes(phantom)
        for k in range(CAPTIONS_EACH):
            said = caption(phantom, rng)
            texts.append(said.text)
            states[row, k] = said.states
    tokens = tokenizer(texts).numpy().reshape(order.count, CAPTIONS_EACH, order.context_length)
    return Pool(images, truth, tokens, states)
