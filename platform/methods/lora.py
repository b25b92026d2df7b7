"""LoRA (Hu et al. 2021, arXiv 2106.09685) on the image tower: low-rank factors are trained and sent, nothing else.

Loss of one step: CE(s I T', y) against the frozen class prompts T, with I from the tower whose weights are
W + alpha / r * B A.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..adapters import class_logits
from ..errors import MethodError
from .adapted_clip import check_range
from .clip_inputs import in_chunks, required_clip
from .low_rank import LowRankTower, tower_of
from .method import Consumes, Exchange, SharedInputs, Step, Weighting, class_cross_entropy


@dataclass(frozen=True, slots=True)
class Lora:
    """LoRA's options.

    Attributes:
        lr: Adam step size, in [0, 1]; 0 for the study's.
        rank: r of each factor pair, from 1 to 256; a smaller weight gets its own smaller side.
        alpha: factors are scaled by alpha / r, in (0, 1024].
    """

    lr: float = 1e-3
    rank: int = 4
    alpha: float = 8.0

    name: ClassVar[str] = "lora"
    consumes: ClassVar[Consumes] = "pixels"
    exchange: ClassVar[Exchange] = "federated"
    weighting: ClassVar[Weighting] = "weighted"
    local: ClassVar[tuple[str, ...]] = ()
    anchors: ClassVar[bool] = False
    smallest_batch: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range(self.name, "lr", self.lr, 0.0, 1.0, "1e-3 suits low-rank factors")
        check_range(self.name, "rank", self.rank, 1, 256, "The paper uses 1 to 64")
        if not 0.0 < self.alpha <= 1024.0:
            raise MethodError(
                f"alpha = {self.alpha:g} is not in (0, 1024]", where=self.name, remedy="Twice the rank is usual"
            )

    def new_module(self, shared: SharedInputs, seed: int) -> LowRankTower:
        """The factors; 663,552 parameters for ViT-B/32 at rank 4.

        Raises:
            MethodError: the shared inputs come without the CLIP, or its image tower has no weight that is covered.
        """
        tower = tower_of(required_clip(shared, self.name))
        module = LowRankTower(tower, rank=self.rank, alpha=self.alpha, seed=seed)
        if not module.lora:
            raise MethodError(
                f"the image tower {type(tower).__name__} has no linear layer, attention or 1x1 convolution",
                where=self.name,
                remedy="Choose another backbone, or a method that trains an adapter",
            )
        return module

    def loss(self, module: nn.Module, step: Step, shared: SharedInputs) -> Tensor:
        """Cross-entropy of one batch of pictures; a scalar."""
        own, inputs = _factors_of(module), required_clip(shared, self.name)
        features = own.image_features(step.batch.inputs, inputs, own.weights(tower_of(inputs)))
        logits = class_logits(features, shared.text.to(features), shared.scale)
        return class_cross_entropy(logits, step.batch.labels, step.adjustment)

    def logits(self, module: nn.Module, inputs: Tensor, shared: SharedInputs) -> Tensor:
        """uint8 (n, H, W, 3) -> (n, K) float64."""
        own, clip = _factors_of(module), required_clip(shared, self.name)
        with torch.no_grad():
            weights = own.weights(tower_of(clip))
            images = in_chunks(lambda rows: own.image_features(rows, clip, weights).cpu(), inputs, shared.text.shape[1])
            return class_logits(images, shared.text.double().cpu(), shared.scale)

    def options(self) -> dict[str, str | float | bool]:
        """What the model card prints."""
        return {
            "loss": "class-prompt",
            "rank": self.rank,
            "alpha": self.alpha,
            "trained": "image tower: linear layers, attention projections, 1x1 convolutions",
            "normalisation": "pretrained statistics",
        }


def _factors_of(module: nn.Module) -> LowRankTower:
    """The module as what it must be."""
    if not isinstance(module, LowRankTower):
        raise TypeError(f"a LowRankTower is needed, not {type(module).__name__}")
    return module
