"""FedCLIP (arXiv 2302.13485): an attention adapter on frozen CLIP features; only the adapter is sent.

Adapter: Linear - Tanh - Linear - Softmax. Its published loss contrasts the images of a batch with one another's texts
(``in-batch``); the default contrasts with the class prompts, where two images of one class are no negatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..adapters import TanhAdapter
from .adapted_clip import AdaptedClip, Loss, clip_of, contrastive_loss, predicted_logits
from .method import Consumes, Exchange, SharedInputs, Step, Weighting


@dataclass(frozen=True, slots=True)
class FedClip:
    """FedCLIP's options.

    Attributes:
        lr: Adam step size; 0 for the study's.
        loss_kind: ``class-prompt`` or ``in-batch``; named ``loss`` in studies.
        text_adapter: adapt the class prompts too.
        head: carry a temperature.
    """

    lr: float = 0.0
    loss_kind: Loss = "class-prompt"
    text_adapter: bool = False
    head: bool = False

    name: ClassVar[str] = "fedclip"
    consumes: ClassVar[Consumes] = "features"
    exchange: ClassVar[Exchange] = "federated"
    weighting: ClassVar[Weighting] = "weighted"  # equation 9
    local: ClassVar[tuple[str, ...]] = ()
    anchors: ClassVar[bool] = False

    @property
    def smallest_batch(self) -> int:
        """2 where rows of a batch are contrasted with one another."""
        return 2 if self.loss_kind == "in-batch" else 1

    def new_module(self, shared: SharedInputs, seed: int) -> AdaptedClip:
        """525,312 parameters at width 512; twice as many with a text adapter."""
        width = shared.text.shape[1]
        text = TanhAdapter(width, seed=seed ^ 1) if self.text_adapter else None
        return AdaptedClip(TanhAdapter(width, seed=seed), text_adapter=text, head=self.head)

    def loss(self, module: nn.Module, step: Step, shared: SharedInputs) -> Tensor:
        """Contrastive cross-entropy of one batch; a scalar."""
        own = clip_of(module)
        adapted = own.adapter.adapt(step.batch.inputs)
        labels, text = step.batch.labels, own.text(shared)
        return contrastive_loss(adapted, labels, text, shared.scale, self.loss_kind, step.adjustment)

    def logits(self, module: nn.Module, inputs: Tensor, shared: SharedInputs) -> Tensor:
        """(n, D) float32 -> (n, K) float64."""
        return predicted_logits(module, inputs, shared)

    def options(self) -> dict[str, str | float | bool]:
        """What the model card prints."""
        return {"loss": self.loss_kind, "text_adapter": self.text_adapter, "normalisation": "none", "adaptation": "off"}
