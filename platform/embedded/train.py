"""Train the embedded CLIP model from nothing but phantoms.

Usage: ``python -m wardround.platform.embedded.train --out FOLDER``.

Seeded and offline. Captions and pictures are drawn by this package; no outside image or text is used. The loss is the
contrastive one of CLIP (Radford et al. 2021, section 2.3) with several positives per row, as in UniCL (Yang et al.
2022, equation 3): every caption that is true of a picture is a positive. Linear heads that name the picture's
attributes help the image tower along and are thrown away at the end.

The contrastive loss leaves the features in a dozen directions, because the captions differ in no more, and an
adapter then finds little else to learn from. So a second, short stage freezes the image tower, replaces its learnt
attention pooling by the mean over positions and a ridge-whitened projection (fitted on phantoms, ``pooling.spread``),
and lets the text tower and the temperature learn to speak to these features.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...privacy.atomic import write_atomic
from .architecture import CONFIG, VOCABULARY, WEIGHTS, build_model
from .augment import augment_brain, augment_skin
from .captions import ATTRIBUTES, WIDTHS, corpus, described
from .losses import contrastive, crowding
from .phantom_pool import Pool, draw_pool
from .pooling import spread
from .vocabulary import learn_merges, vocabulary_bytes, vocabulary_size

Report = Callable[[int, dict[str, float]], None]
MEAN, STD = (0.4, 0.4, 0.4), (0.25, 0.25, 0.25)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, but for the number of threads and the processor.

    Attributes:
        seed: of the pictures, captions, initial weights, batches and augmentation.
        brain, skin: pictures drawn of each modality.
        steps: optimiser steps; batch: pictures a step, of which ``brain_share`` are brains.
        lr: peak learning rate of AdamW; warmup: steps of linear rise, then a cosine to 0.
        decay: weight decay on matrices and kernels.
        heads: weight of the attribute heads against the contrastive loss.
        smoothing: label smoothing of the heads.
        bf16: run the towers in bfloat16 (twice as fast on processors that have it).
        align_steps, align_lr: length and peak learning rate of the second stage.
        align_pictures: augmented phantoms that the projection is fitted on.
        layers, width, image_size, embed_dim: image tower (stages of a ModifiedResNet).
        text_width, text_layers, context_length, merges: text tower and vocabulary.
    """

    seed: int = 0
    brain: int = 24_000
    skin: int = 12_000
    steps: int = 1_500
    batch: int = 128
    brain_share: float = 0.65
    lr: float = 2e-3
    warmup: int = 200
    decay: float = 0.05
    heads: float = 0.5
    smoothing: float = 0.05
    bf16: bool = True
    align_steps: int = 400
    align_lr: float = 2e-3
    align_pictures: int = 4_096
    layers: tuple[int, int, int, int] = (2, 2, 2, 2)
    width: int = 32
    image_size: int = 112
    embed_dim: int = 512
    text_width: int = 64
    text_layers: int = 2
    context_length: int = 48
    merges: int = 1_500

    def model_config(self, vocab_size: int) -> dict[str, Any]:
        """open_clip's model configuration."""
        vision = {"layers": list(self.layers), "width": self.width, "head_width": 64, "image_size": self.image_size}
        text = {
            "context_length": self.context_length,
            "vocab_size": vocab_size,
            "width": self.text_width,
            "heads": max(1, self.text_width // 16),
            "layers": self.text_layers,
        }
        return {"embed_dim": self.embed_dim, "vision_cfg": vision, "text_cfg": text}


class Trainer:
    """A model, its optimiser and its pictures; :meth:`step` is one step of the recipe."""

    def __init__(self, recipe: Recipe, out: Path, *, workers: int) -> None:
        self.recipe = recipe
        out.mkdir(parents=True, exist_ok=True)
        merges = learn_merges(corpus(recipe.seed), recipe.merges)
        write_atomic(out / VOCABULARY, vocabulary_bytes(merges), mode=0o644)
        self.config = recipe.model_config(vocabulary_size(merges))
        preprocess = {
            "size": recipe.image_size,
            "mean": MEAN,
            "std": STD,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        }
        document = {"model": self.config, "preprocess": preprocess, "recipe": asdict(recipe)}
        write_atomic(out / CONFIG, (json.dumps(document, indent=1) + "\n").encode(), mode=0o644)
        pools = [
            draw_pool(
                kind,
                count,
                seed=recipe.seed,
                size=recipe.image_size,
                context_length=recipe.context_length,
                folder=out,
                workers=workers,
            )
            for kind, count in (("brain", recipe.brain), ("skin", recipe.skin))
        ]
        self.brain, self.skin = pools
        torch.manual_seed(recipe.seed)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.rng = np.random.default_rng(recipe.seed)
        self.model: open_clip.CLIP = build_model(self.config).to(memory_format=torch.channels_last)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(recipe.embed_dim, WIDTHS[name]) for name in ATTRIBUTES if name != "modality"}
        )
        self.aligning = False
        self.done = 0
        self.optimiser = self._optimiser([*self.model.parameters(), *self.heads.parameters()])
        self._queues: dict[str, list[int]] = {"brain": [], "skin": []}

    def _optimiser(self, parameters: list[nn.Parameter]) -> torch.optim.AdamW:
        """AdamW; biases, norms and the temperature are not decayed."""
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": self.recipe.decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.recipe.lr, betas=(0.9, 0.98))

    def begin_aligning(self) -> None:
        """Enter the second stage: freeze the image tower, spread its features, start a fresh optimiser."""
        self.aligning, self.done = True, 0
        tower = self.model.visual.eval()
        for parameter in tower.parameters():
            parameter.requires_grad_(False)
        pooled: list[Tensor] = []
        while sum(len(part) for part in pooled) < self.recipe.align_pictures:
            images = self._batch()[0]
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.recipe.bf16):
                maps = tower.layer4(tower.layer3(tower.layer2(tower.layer1(tower.stem(images)))))
            pooled.append(maps.float().mean((2, 3)))
        spread(tower.attnpool, torch.cat(pooled))
        self.optimiser = self._optimiser([p for p in self.model.parameters() if p.requires_grad])

    def rate(self) -> float:
        """Learning rate of the coming step."""
        r = self.recipe
        steps, peak = (r.align_steps, r.align_lr) if self.aligning else (r.steps, r.lr)
        warmup = min(r.warmup, steps // 10) if self.aligning else r.warmup
        if self.done < warmup:
            return peak * (self.done + 1) / warmup
        along = (self.done - warmup) / max(1, steps - warmup)
        return peak * 0.5 * (1.0 + math.cos(math.pi * min(along, 1.0)))

    def step(self) -> dict[str, float]:
        """One optimiser step; returns the losses and the share of correctly named classes."""
        images, truth, tokens, states = self._batch()
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        # The fused attention kernel is several times slower than plain products on sequences this short.
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.recipe.bf16), sdpa_kernel(SDPBackend.MATH):
            with torch.set_grad_enabled(not self.aligning):
                image_features = self.model.encode_image(images)
            text_features = self.model.encode_text(tokens)
        image_features = image_features.float()
        positive = torch.from_numpy(described(truth, states)).float()
        contrast = contrastive(image_features, text_features.float(), self.model.logit_scale.exp(), positive)
        naming = torch.zeros(())
        facts = torch.from_numpy(truth)
        correct = 0.0
        unit = F.normalize(image_features, dim=1) * math.sqrt(self.recipe.embed_dim)
        for column, name in enumerate(ATTRIBUTES):
            if name == "modality":
                continue
            logits = self.heads[name](unit)
            loss = F.cross_entropy(logits, facts[:, column], label_smoothing=self.recipe.smoothing)
            naming = naming + loss * (2.0 if name in ("label", "kind") else 1.0) / 8.0
            if name == "label":
                correct = float((logits.argmax(1) == facts[:, column]).float().mean())
        crowded = crowding(image_features)
        total = contrast if self.aligning else contrast + self.recipe.heads * naming
        self.optimiser.zero_grad(set_to_none=True)
        with sdpa_kernel(SDPBackend.MATH):
            total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0.0, math.log(100.0))
        self.done += 1
        return {
            "loss": float(total.detach()),
            "contrast": float(contrast.detach()),
            "naming": float(naming.detach()),
            "correct": correct,
            "directions": math.exp(-float(crowded.detach())),
        }

    def _batch(self) -> tuple[Tensor, NDArray[np.int64], Tensor, NDArray[np.int64]]:
        """Normalised pictures, what is true of them, a caption's tokens for each, and what the captions state."""
        brains = round(self.recipe.batch * self.recipe.brain_share)
        parts = [self._take("brain", self.brain, brains), self._take("skin", self.skin, self.recipe.batch - brains)]
        images = torch.cat([part[0] for part in parts])
        images = ((images - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)).contiguous(
            memory_format=torch.channels_last
        )
        truth = np.concatenate([part[1] for part in parts])
        tokens = torch.from_numpy(np.concatenate([part[2] for part in parts]))
        states = np.concatenate([part[3] for part in parts])
        return images, truth, tokens, states

    def _take(
        self, name: str, pool: Pool, count: int
    ) -> tuple[Tensor, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        queue = self._queues[name]
        while len(queue) < count:
            queue.extend(self.rng.permutation(len(pool.images)).tolist())
        rows = np.array([queue.pop() for _ in range(count)], dtype=np.int64)
        which = self.rng.integers(pool.tokens.shape[1], size=count)
        clean = torch.from_numpy(pool.images[rows])
        seen = augment_brain(clean, self.generator) if name == "brain" else augment_skin(clean, self.generator)
        return seen, pool.truth[rows], pool.tokens[rows, which], pool.states[rows, which]

    def weights(self) -> bytes:
        """The safetensors file: float16, contiguous, in the model's own names."""
        tensors = {
            name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
            for name, tensor in self.model.state_dict().items()
        }
        return save(tensors)


def train(
    recipe: Recipe,
    out: Path,
    *,
    workers: int = 2,
    start: Path | None = None,
    save_every: int = 0,
    report: Report | None = None,
) -> Trainer:
    """Train by a recipe and write weights, vocabulary and configuration into ``out``.

    Args:
        recipe: what to do.
        out: folder, made if it is missing.
        workers: processes that draw pictures; 0 draws in this one.
        start: weights that the first stage of the same recipe wrote; it is then skipped.
        save_every: also write the weights every so many steps; 0 only after each stage.
        report: called as ``report(step, figures)`` after every step; steps count through both stages.

    Returns:
        The trainer after the last step.
    """
    trainer = Trainer(recipe, out, workers=workers)
    trainer.model.train()
    if start is not None:
        trainer.model.load_state_dict(load_file(start))  # copied into the float32 parameters
    for step in range(1 if start is None else recipe.steps + 1, recipe.steps + recipe.align_steps + 1):
        if step > recipe.steps and not trainer.aligning:
            trainer.begin_aligning()
        figures = trainer.step()
        if report is not None:
            report(step, figures)
        if step == recipe.steps or (save_every and step % save_every == 0):
            write_atomic(out / WEIGHTS, trainer.weights(), mode=0o644)
    write_atomic(out / WEIGHTS, trainer.weights(), mode=0o644)
    return trainer


def main() -> None:
    """Command line of the training script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, vocabulary and configuration")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--brain", type=int, default=Recipe.brain)
    parser.add_argument("--skin", type=int, default=Recipe.skin)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--lr", type=float, default=Recipe.lr)
    parser.add_argument("--align-steps", type=int, default=Recipe.align_steps)
    parser.add_argument("--start", type=Path, help="weights of the first stage, to do only the second")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that draw the pictures")
    parser.add_argument("--save-every", type=int, default=250)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = Recipe(
        seed=options.seed,
        brain=options.brain,
        skin=options.skin,
        steps=options.steps,
        lr=options.lr,
        align_steps=options.align_steps,
    )
    begun = time.monotonic()
    sums: dict[str, float] = {}

    def report(step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            sums[name] = sums.get(name, 0.0) + value
        if step % 25 == 0:
            text = " ".join(f"{name} {value / 25:.3f}" for name, value in sums.items())
            sys.stderr.write(f"step {step}/{recipe.steps} {text} seconds {time.monotonic() - begun:.0f}\n")
            sys.stderr.flush()
            sums.clear()

    train(
        recipe, options.out, workers=options.workers, start=options.start, save_every=options.save_every, report=report
    )


if __name__ == "__main__":
    main()
