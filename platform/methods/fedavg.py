"""FedAvg (McMahan et al. 2017, arXiv 1602.05629) on the whole CLIP: every weight of both towers is trained and sent.

The papers' fine-tuning baseline. Loss of one step: CE(s I T', y) against the class prompts, I and T from the towers as
they are being trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from .adapted_clip import check_range
from .method import Consumes, Exchange, SharedInputs, Step, Weighting
from .whole_clip import WholeClip, class_prompt_loss, new_whole_clip, whole_clip_logits


@dataclass(frozen=True, slots=True)
class Fedavg:
    """FedAvg's options.

    Attributes:
        lr: Adam step size, in [0, 1]; 0 for the study's. A whole CLIP bears far less than an adapter.
    """

    lr: float = 1e-5

    name: ClassVar[str] = "fedavg"
    consumes: ClassVar[Consumes] = "pixels"
    exchange: ClassVar[Exchange] = "federated"
    weighting: ClassVar[Weighting] = "weighted"
    local: ClassVar[tuple[str, ...]] = ()
    anchors: ClassVar[bool] = False
    smallest_batch: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range(self.name, "lr", self.lr, 0.0, 1.0, "1e-5 suits a whole CLIP")

    def new_module(self, shared: SharedInputs, seed: int) -> WholeClip:
        """A copy of the study's CLIP, whatever the seed; MethodError without one."""
        return new_whole_clip(shared, self.name)

    def loss(self, module: nn.Module, step: Step, shared: SharedInputs) -> Tensor:
        """Cross-entropy of one batch of pictures; a scalar."""
        return class_prompt_loss(module, step, shared, self.name)[0]

    def logits(self, module: nn.Module, inputs: Tensor, shared: SharedInputs) -> Tensor:
        """uint8 (n, H, W, 3) -> (n, K) float64."""
        return whole_clip_logits(module, inputs, shared, self.name)

    def options(self) -> dict[str, str | float | bool]:
        """What the model card prints."""
        return {"loss": "class-prompt", "trained": "both towers", "normalisation": "pretrained statistics"}
