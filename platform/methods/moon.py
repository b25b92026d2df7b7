"""MOON (Li et al. 2021, arXiv 2103.16049) on the whole CLIP: features are drawn to the global model's, and away from
those of the site's own last model.

Loss of one step, equations 3 to 5: CE(s I T', y) + mu * l_con, where for one picture with feature z,
l_con = -log(exp(sim(z, z_glob) / tau) / (exp(sim(z, z_glob) / tau) + exp(sim(z, z_prev) / tau))). The paper puts a
projection head of its own behind the network; here z is CLIP's image feature, which is such a projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import MethodError
from .adapted_clip import check_range
from .clip_inputs import required_clip
from .method import Consumes, Exchange, SharedInputs, Step, Weighting
from .whole_clip import WholeClip, class_prompt_loss, new_whole_clip, whole_clip_logits, whole_clip_of


@dataclass(frozen=True, slots=True)
class Moon:
    """MOON's options.

    Attributes:
        lr: Adam step size, in [0, 1]; 0 for the study's.
        mu: weight of the contrastive term, in [0, 1000]; 0 makes it FedAvg.
        temperature: tau, in (0, 100].
    """

    lr: float = 1e-5
    mu: float = 1.0
    temperature: float = 0.5

    name: ClassVar[str] = "moon"
    consumes: ClassVar[Consumes] = "pixels"
    exchange: ClassVar[Exchange] = "federated"
    weighting: ClassVar[Weighting] = "weighted"
    local: ClassVar[tuple[str, ...]] = ()
    anchors: ClassVar[bool] = True
    smallest_batch: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range(self.name, "lr", self.lr, 0.0, 1.0, "1e-5 suits a whole CLIP")
        check_range(self.name, "mu", self.mu, 0.0, 1000.0, "The paper tries 0.1 to 10; 0 makes it FedAvg")
        if not 0.0 < self.temperature <= 100.0:
            raise MethodError(
                f"temperature = {self.temperature:g} is not in (0, 100]", where=self.name, remedy="The paper uses 0.5"
            )

    def new_module(self, shared: SharedInputs, seed: int) -> WholeClip:
        """A copy of the study's CLIP, whatever the seed; MethodError without one."""
        return new_whole_clip(shared, self.name)

    def loss(self, module: nn.Module, step: Step, shared: SharedInputs) -> Tensor:
        """Cross-entropy of one batch of pictures + mu * contrastive term; a scalar.

        Without a previous model (a site's first round) there is nothing to draw away from, and the term is left out.

        Raises:
            MethodError: there is a previous model and no received one.
        """
        loss, features = class_prompt_loss(module, step, shared, self.name)
        if self.mu == 0.0 or step.previous_module is None:
            return loss
        if step.received_module is None:
            raise MethodError("the received model is missing", where=self.name, remedy="Train it with anchors")
        inputs = required_clip(shared, self.name)
        with torch.no_grad():
            towards = whole_clip_of(step.received_module).image_features(step.batch.inputs, inputs)
            away = whole_clip_of(step.previous_module).image_features(step.batch.inputs, inputs)
        return loss + self.mu * contrastive_term(features, towards, away, self.temperature)

    def logits(self, module: nn.Module, inputs: Tensor, shared: SharedInputs) -> Tensor:
        """uint8 (n, H, W, 3) -> (n, K) float64."""
        return whole_clip_logits(module, inputs, shared, self.name)

    def options(self) -> dict[str, str | float | bool]:
        """What the model card prints."""
        return {
            "loss": "class-prompt + model-contrastive",
            "mu": self.mu,
            "temperature": self.temperature,
            "trained": "both towers",
            "normalisation": "pretrained statistics",
        }


def contrastive_term(features: Tensor, towards: Tensor, away: Tensor, temperature: float) -> Tensor:
    """Equation 3, mean over the batch: a two-way choice of whom a feature resembles, by cosine.

    Args:
        features: (B, D) of the model that is trained.
        towards: (B, D) of the received model; constants.
        away: (B, D) of the site's previous model; constants.
        temperature: tau > 0.

    Returns:
        A scalar > 0; log 2 where the two models agree.
    """
    similarity = torch.stack(
        [F.cosine_similarity(features, towards, dim=1), F.cosine_similarity(features, away, dim=1)], dim=1
    )
    first = torch.zeros(len(features), dtype=torch.int64, device=features.device)
    return F.cross_entropy(similarity / temperature, first)
