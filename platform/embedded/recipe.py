"""The recipe of the embedded model: every number that decides its weights."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

MEAN, STD = (0.4, 0.4, 0.4), (0.25, 0.25, 0.25)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, but for the number of threads and the processor.

    Attributes:
        seed: of the pictures, captions, initial weights, batches and augmentation.
        brain, skin, textures: pictures drawn of each kind; textures serve the self-supervised term alone and may be 0.
        overlays: layers of hair, ruler marks and bubbles that are laid over skin at random.
        steps: optimiser steps; batch: rows a step, two views each of batch / 2 pictures.
        skin_share, texture_share: of the pictures of a batch; the rest are brains.
        lr: peak learning rate of AdamW; warmup: steps of linear rise, then a cosine to 0.
        decay: weight decay on matrices and kernels.
        heads: weight of the attribute heads, agreement: of the self-supervised term, against the contrastive loss.
        smoothing: label smoothing of the heads.
        temperature: of the self-supervised term; agree_on: kinds of pictures that it looks at.
        bf16: run the towers in bfloat16 (twice as fast on processors that have it).
        align_steps, align_lr: length and peak learning rate of the second stage.
        align_pictures: augmented phantoms that the projection is fitted on.
        layers, width, stages, image_size, embed_dim: image tower, see ``image_tower.ImageTower``.
        text_width, text_layers, context_length, merges: text tower and vocabulary.
    """

    seed: int = 0
    brain: int = 24_000
    skin: int = 20_000
    textures: int = 8_000
    overlays: int = 800
    steps: int = 2_600
    batch: int = 128
    skin_share: float = 0.36
    texture_share: float = 0.12
    lr: float = 2e-3
    warmup: int = 200
    decay: float = 0.05
    heads: float = 1.0
    agreement: float = 0.5
    smoothing: float = 0.05
    temperature: float = 0.2
    agree_on: tuple[str, ...] = ("brain", "skin", "texture")
    bf16: bool = True
    align_steps: int = 500
    align_lr: float = 2e-3
    align_pictures: int = 8_192
    layers: tuple[int, int, int, int] = (2, 2, 2, 2)
    width: int = 32
    stages: tuple[int, ...] = (2, 3, 4)
    image_size: int = 128
    embed_dim: int = 512
    text_width: int = 64
    text_layers: int = 2
    context_length: int = 56
    merges: int = 2_000

    def check(self) -> None:
        """Refuse numbers that no training can run on, with a ValueError that names them."""
        for name, value in asdict(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} must be a number, not {value}")
        for name in ("skin_share", "texture_share", "smoothing"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is a share from 0 to below 1, not {getattr(self, name)}")
        positive = ("brain", "skin", "steps", "batch", "lr", "temperature", "align_pictures", "width", "embed_dim")
        for name in (*positive, "text_width", "text_layers", "merges"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in (
            "textures",
            "overlays",
            "align_steps",
            "warmup",
            "heads",
            "agreement",
            "decay",
            "smoothing",
            "seed",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be below 0, but is {getattr(self, name)}")
        if self.image_size % 32 or self.image_size < 32:
            raise ValueError(f"image_size must be a multiple of 32, not {self.image_size}")
        if self.context_length < 8:
            raise ValueError(f"context_length must be at least 8, not {self.context_length}")
        few = {kind: count for kind, count in self.counts().items() if count < 2 and (kind != "texture" or count)}
        if few:
            raise ValueError(
                f"a batch needs two pictures of each kind; {self.batch} rows show {self.batch // 2} pictures, and the "
                f"shares give {few}: raise batch, or set textures to 0"
            )

    def counts(self) -> dict[str, int]:
        """Pictures of each kind in a batch."""
        pictures = self.batch // 2
        skin = round(pictures * self.skin_share)
        textures = round(pictures * self.texture_share) if self.textures else 0
        return {"brain": pictures - skin - textures, "skin": skin, "texture": textures}

    def model_config(self, vocab_size: int) -> dict[str, Any]:
        """The model's configuration, see ``architecture.build_model``."""
        vision = {
            "layers": list(self.layers),
            "width": self.width,
            "image_size": self.image_size,
            "stages": list(self.stages),
        }
        text = {
            "context_length": self.context_length,
            "vocab_size": vocab_size,
            "width": self.text_width,
            "heads": max(1, self.text_width // 16),
            "layers": self.text_layers,
        }
        return {"embed_dim": self.embed_dim, "vision_cfg": vision, "text_cfg": text}

    def preprocess(self) -> dict[str, Any]:
        """What the model's input must look like, in open_clip's words."""
        return {
            "size": self.image_size,
            "mean": MEAN,
            "std": STD,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        }
