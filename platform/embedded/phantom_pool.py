"""Pretraining pictures: clean phantoms with tokenised captions, drawn once into memory by spawned workers."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...medical_datasets.synthetic import brain, skin
from ...medical_datasets.synthetic.appearance import (
    PRETRAINING_BRAIN,
    PRETRAINING_SKIN,
    SkinAppearance,
    draw,
    photograph,
)
from .architecture import load_tokenizer
from .captions import ATTRIBUTES, attributes, caption

CAPTIONS_EACH = 3
_CHUNK = 400
# Hair and ruler marks are drawn here; framing, cast, blur and noise come fresh with every batch (augment.py).
_DRAWN_ON_SKIN = SkinAppearance(hairs=PRETRAINING_SKIN.hairs, marks=PRETRAINING_SKIN.marks)


@dataclass(frozen=True, slots=True)
class Pool:
    """Pictures of one modality.

    Attributes:
        images: uint8 (n, C, size, size), C is 1 for brain and 3 for skin.
        truth: int64 (n, A), attributes in the order of ``captions.ATTRIBUTES``.
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
    if workers == 0:
        parts = [_draw_chunk(order) for order in orders]
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            parts = list(pool.map(_draw_chunk, orders))
    return Pool(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.tokens for part in parts]),
        np.concatenate([part.states for part in parts]),
    )


def _draw_chunk(order: _Order) -> Pool:
    tokenizer = load_tokenizer(order.folder, context_length=order.context_length)
    on_skin = order.kind == "skin"
    classes = skin.CLASSES if on_skin else brain.CLASSES
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
            phantom = skin.draw_skin(label, rng, age=age, tone=PRETRAINING_SKIN.tone)
            picture = photograph(skin.render_skin(phantom, rng, order.size), _DRAWN_ON_SKIN, rng)
            images[row] = picture.transpose(2, 0, 1)
        else:
            phantom = brain.draw_brain(label, rng, age=age)
            phantom = replace(phantom, uptake=draw(PRETRAINING_BRAIN.uptake, rng))
            images[row, 0] = brain.render_brain(phantom, rng, order.size)[:, :, 0]
        truth[row] = attributes(phantom)
        for k in range(CAPTIONS_EACH):
            said = caption(phantom, rng)
            texts.append(said.text)
            states[row, k] = said.states
    tokens = tokenizer(texts).numpy().reshape(order.count, CAPTIONS_EACH, order.context_length)
    return Pool(images, truth, tokens, states)
