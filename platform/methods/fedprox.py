"""FedProx (Li et al. 2020, arXiv 1812.06127) on the whole CLIP: FedAvg that is held near the received model.

Loss of one step, equation 2: CE(s I T', y) + mu / 2 * ||w - w_received||^2 over all that is trained and sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from .adapted_clip import check_range
from .method import Consumes, Exchange, SharedInputs, Step, Weighting
from .proximal import proximal_term
from .whole_clip import WholeClip, class_prompt_loss, new_whole_clip, whole_clip_logits


@dataclass(frozen=True, slots=True)
class Fedprox:
    """FedProx's options.

    Attributes:
        lr: Adam step size, in [0, 1]; 0 for the study's.
        mu: weight of the proximal term, in [0, 1000]; 0 makes it FedAvg.
    """

    lr: float = 1e-5
    mu: float = 0.01

    name: ClassVar[str] = "fedprox"
    consumes: ClassVar[Consumes] = "pixels"
    exchange: ClassVar[Exchange] = "federated"
    weighting: ClassVar[Weighting] = "weighted"
    local: ClassVar[tuple[str, ...]] = ()
    anchors: ClassVar[bool] = False
    smallest_batch: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range(self.name, "lr", self.lr, 0.0, 1.0, "1e-5 suits a whole CLIP")
        check_range(self.name, "mu", self.mu, 0.0, 1000.0, "The paper tries 0.001 to 1; 0 makes it FedAvg")

    def new_module(self, shared: SharedInputs, seed: int) -> WholeClip:
        """A copy of the study's CLIP, whatever the seed; MethodError without one."""
        return new_whole_clip(shared, self.name)

    def loss(self, module: nn.Module, step: Step, shared: SharedInputs) -> Tensor:
        """Cross-entropy of one batch of pictures + mu / 2 * proximal term; a scalar."""
        loss, _ = class_prompt_loss(module, step, shared, self.name)
        return loss if self.mu == 0.0 else loss + self.mu / 2 * proximal_term(module, step.received)

    def logits(self, module: nn.Module, inputs: Tensor, shared: SharedInputs) -> Tensor:
        """uint8 (n, H, W, 3) -> (n, K) float64."""
        return whole_clip_logits(module, inputs, shared, self.name)

    def options(self) -> dict[str, str | float | bool]:
        """What the model card prints."""
        return {
            "loss": "class-prompt + proximal",
            "mu": self.mu,
            "trained": "both towers",
            "normalisation": "pretrained statistics",
        }
