"""The two stages of training, a step at a time."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from itertools import accumulate, pairwise
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...privacy.atomic import write_atomic
from .architecture import CONFIG, VOCABULARY, build_model
from .attributes import ATTRIBUTES, SIGN_PREFIX, WIDTHS
from .batches import KINDS, Batch, Batches
from .captions import corpus, described
from .image_tower import ImageTower
from .losses import agreement, contrastive, crowding
from .pooling import spread
from .recipe import Recipe
from .vocabulary import learn_merges, vocabulary_bytes, vocabulary_size

NAMED = tuple(name for name in ATTRIBUTES if name != "modality")
# How much each attribute's head counts; diagnosis and look most, each of the many signs little.
_HEAD_WEIGHTS = {"label": 4.0, "kind": 3.0, "subtype": 2.0} | {
    name: 0.25 for name in NAMED if name.startswith(SIGN_PREFIX)
}
_SSL_WIDTH = 128


class Heads(nn.Module):
    """What is thrown away after training: attribute names, and the space in which two views must find each other."""

    def __init__(self, pooled: int, hidden: int) -> None:
        super().__init__()
        self.edges = tuple(pairwise(accumulate((WIDTHS[name] for name in NAMED), initial=0)))
        self.names = nn.Linear(pooled, self.edges[-1][1])
        self.views = nn.Sequential(nn.Linear(pooled, hidden), nn.ReLU(), nn.Linear(hidden, _SSL_WIDTH))

    def naming(self, described_: Tensor, truth: Tensor, smoothing: float) -> tuple[Tensor, float]:
        """Weighted mean cross-entropy over the attributes, and the share of right diagnoses.

        Args:
            described_: float (n, pooled). truth: int64 (n, A), in the order of ``attributes.ATTRIBUTES``.
            smoothing: label smoothing.
        """
        logits = self.names(described_)
        total, weight, correct = logits.new_zeros(()), 0.0, 0.0
        for name, (start, stop) in zip(NAMED, self.edges, strict=True):
            part, facts = logits[:, start:stop], truth[:, ATTRIBUTES.index(name)]
            factor = _HEAD_WEIGHTS.get(name, 1.0)
            total = total + factor * F.cross_entropy(part, facts, label_smoothing=smoothing)
            weight += factor
            if name == "label":
                correct = float((part.argmax(1) == facts).float().mean())
        return total / weight, correct


class Trainer:
    """A model, its optimiser and its pictures; :meth:`step` is one step of the recipe."""

    def __init__(self, recipe: Recipe, out: Path, *, workers: int) -> None:
        recipe.check()
        self.recipe = recipe
        out.mkdir(parents=True, exist_ok=True)
        merges = learn_merges(corpus(recipe.seed), recipe.merges)
        write_atomic(out / VOCABULARY, vocabulary_bytes(merges), mode=0o644)
        self.config = recipe.model_config(vocabulary_size(merges))
        document = {"model": self.config, "preprocess": recipe.preprocess(), "recipe": asdict(recipe)}
        write_atomic(out / CONFIG, (json.dumps(document, indent=1) + "\n").encode(), mode=0o644)
        self.batches = Batches(recipe, out, workers=workers)
        torch.manual_seed(recipe.seed)
        self.model: open_clip.CLIP = build_model(self.config).to(memory_format=torch.channels_last)
        self.tower: ImageTower = self.model.visual
        self.heads = Heads(self.tower.project.in_features, recipe.embed_dim)
        self.aligning = False
        self.done = 0
        self.optimiser = self._optimiser([*self.model.parameters(), *self.heads.parameters()])

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
        self.tower.eval()
        for parameter in self.tower.parameters():
            parameter.requires_grad_(False)
        pooled: list[Tensor] = []
        while sum(len(part) for part in pooled) < self.recipe.align_pictures:
            batch = self.batches.next()
            with torch.no_grad(), self._precision():
                pooled.append(self.tower.describe(batch.images[batch.captioned]).float())
        spread(self.tower, torch.cat(pooled))
        self.optimiser = self._optimiser([p for p in self.model.parameters() if p.requires_grad])

    def _precision(self) -> torch.autocast:
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.recipe.bf16)

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
        """One optimiser step; returns the losses and the share of correctly named diagnoses."""
        r, batch = self.recipe, self.batches.next()
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        images = batch.images[batch.captioned] if self.aligning else batch.images
        # The fused attention kernel is several times slower than plain products on sequences this short.
        with self._precision(), sdpa_kernel(SDPBackend.MATH):
            with torch.set_grad_enabled(not self.aligning):
                pooled = self.tower.describe(images)
                told = pooled if self.aligning else pooled[batch.captioned]
                image_features = self.tower.project(told)
            text_features = self.model.encode_text(batch.tokens)
            naming, correct = self.heads.naming(told, torch.from_numpy(batch.truth), r.smoothing)
            views = None if self.aligning else self.heads.views(pooled[self._agreeing(batch).repeat(2)])
        image_features = image_features.float()
        positive = torch.from_numpy(described(batch.truth, batch.states)).float()
        total = contrast = contrastive(image_features, text_features.float(), self.model.logit_scale.exp(), positive)
        agreed = torch.zeros(())
        if views is not None:
            agreed = agreement(views.float(), batch.kinds[self._agreeing(batch)], r.temperature)
            total = contrast + r.heads * naming + r.agreement * agreed
        self.optimiser.zero_grad(set_to_none=True)
        with sdpa_kernel(SDPBackend.MATH):
            total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([p for group in self.optimiser.param_groups for p in group["params"]], 1.0)
        self.optimiser.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0.0, math.log(100.0))
        self.done += 1
        return {
            "loss": float(total.detach()),
            "contrast": float(contrast.detach()),
            "naming": float(naming.detach()),
            "agreement": float(agreed.detach()),
            "correct": correct,
            "directions": math.exp(-float(crowding(image_features.detach()))),
        }

    def _agreeing(self, batch: Batch) -> Tensor:
        """bool (n,): the pictures that the self-supervised term looks at."""
        wanted = torch.tensor([kind in self.recipe.agree_on for kind in KINDS])
        return wanted[batch.kinds]

    def weights(self) -> bytes:
        """The safetensors file: float16, contiguous, in the model's own names."""
        tensors = {
            name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
            for name, tensor in self.model.state_dict().items()
        }
        return save(tensors)
