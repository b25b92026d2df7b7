"""Batches of the training: two augmented views of each picture, with captions for the phantoms among them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .augment import augment_brain, augment_skin, augment_texture, lay_over
from .phantom_pool import Pool, draw_overlays, draw_pool, draw_textures
from .recipe import MEAN, STD, Recipe

KINDS = ("brain", "skin", "texture")


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's input.

    Attributes:
        images: float32 (2 n, 3, size, size), normalised; rows k and n + k are two views of picture k; textures last in
            each half.
        kinds: int64 (n,), index into :data:`KINDS`.
        captioned: int64 (2 m,), the rows that show phantoms.
        truth: int64 (2 m, A), what is true of those rows.
        tokens: int64 (2 m, context_length), a caption for each of them.
        states: int64 (2 m, A), what the captions state.
    """

    images: Tensor
    kinds: Tensor
    captioned: Tensor
    truth: NDArray[np.int64]
    tokens: Tensor
    states: NDArray[np.int64]


class Batches:
    """Draws all pictures once, then batches of them for ever; every picture of a kind before any a second time."""

    def __init__(self, recipe: Recipe, folder: Path, *, workers: int) -> None:
        self._recipe = recipe
        size, length, seed = recipe.image_size, recipe.context_length, recipe.seed
        self._pools: dict[str, Pool] = {
            kind: draw_pool(kind, count, seed=seed, size=size, context_length=length, folder=folder, workers=workers)
            for kind, count in (("brain", recipe.brain), ("skin", recipe.skin))
        }
        self._textures = draw_textures(recipe.textures, seed=seed, size=size, workers=workers)
        self._overlays = torch.from_numpy(draw_overlays(recipe.overlays, seed=seed, size=size))
        self._generator = torch.Generator().manual_seed(seed)
        self._rng = np.random.default_rng(seed)
        self._queues: dict[str, list[int]] = {kind: [] for kind in KINDS}
        self._mean = torch.tensor(MEAN).view(1, 3, 1, 1)
        self._std = torch.tensor(STD).view(1, 3, 1, 1)

    def next(self) -> Batch:
        """The next batch."""
        counts = self._recipe.counts()
        rows = {kind: self._take(kind, count) for kind, count in counts.items()}
        views = [torch.cat([self._seen(kind, rows[kind]) for kind in KINDS if counts[kind]]) for _ in range(2)]
        images = ((torch.cat(views) - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        kinds = torch.cat([torch.full((counts[kind],), at) for at, kind in enumerate(KINDS)])
        told = counts["brain"] + counts["skin"]
        first = torch.arange(told)
        truth: list[NDArray[np.int64]] = []
        tokens: list[NDArray[np.int64]] = []
        states: list[NDArray[np.int64]] = []
        for _ in range(2):
            for kind, pool in self._pools.items():
                own = rows[kind]
                which = self._rng.integers(pool.tokens.shape[1], size=len(own))
                truth.append(pool.truth[own])
                tokens.append(pool.tokens[own, which])
                states.append(pool.states[own, which])
        return Batch(
            images=images,
            kinds=kinds,
            captioned=torch.cat([first, first + len(kinds)]),
            truth=np.concatenate(truth),
            tokens=torch.from_numpy(np.concatenate(tokens)),
            states=np.concatenate(states),
        )

    def _take(self, kind: str, count: int) -> NDArray[np.int64]:
        queue = self._queues[kind]
        length = len(self._textures) if kind == "texture" else len(self._pools[kind].images)
        while len(queue) < count:
            queue.extend(self._rng.permutation(length).tolist())
        return np.array([queue.pop() for _ in range(count)], dtype=np.int64)

    def _seen(self, kind: str, rows: NDArray[np.int64]) -> Tensor:
        if kind == "texture":
            return augment_texture(torch.from_numpy(self._textures[rows]), self._generator)
        clean = torch.from_numpy(self._pools[kind].images[rows])
        if kind == "brain":
            return augment_brain(clean, self._generator)
        return augment_skin(lay_over(clean, self._overlays, self._generator), self._generator)
