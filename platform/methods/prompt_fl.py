"""PromptFL (Guo et al. 2023, arXiv 2208.11625): context vectors before each class name are learned, and only they sent.

The vectors are CoOp's (arXiv 2109.01134). Loss of one step: CE(s I T', y), I the frozen image features and T the text
features of the learned prompts. Both towers stay frozen; gradients pass through the text tower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..adapters import class_logits
from ..errors import MethodError
from .adapted_clip import check_range
from .clip_inputs import required_clip
from .method import Consumes, Exchange, SharedInputs, Step, Weighting, class_cross_entropy
from .prompt_context import Init, PromptContext


@dataclass(frozen=True, slots=True)
class PromptFl:
    """PromptFL's options.

    Attributes:
        lr: Adam step size, in [0, 1]; 0 for the study's.
        context: number M of context vectors, shared by all classes, from 1 to 64.
        init: ``random``: normal, standard deviation 0.02; or ``text``: the words that the classes' first prompts begin
            with alike.
    """

    lr: float = 2e-3
    context: int = 16
    init: Init = "random"

    name: ClassVar[str] = "prompt-fl"
    consumes: ClassVar[Consumes] = "features"
    exchange: ClassVar[Exchange] = "federated"
    weighting: ClassVar[Weighting] = "weighted"
    local: ClassVar[tuple[str, ...]] = ()
    anchors: ClassVar[bool] = False
    smallest_batch: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range(self.name, "lr", self.lr, 0.0, 1.0, "2e-3 suits context vectors")
        check_range(self.name, "context", self.context, 1, 64, "CoOp uses 4 or 16")
        if self.init not in ("random", "text"):
            raise MethodError(f"init = '{self.init}' is unknown", where=self.name, remedy="Use random or text")

    def new_module(self, shared: SharedInputs, seed: int) -> PromptContext:
        """The context vectors; 8,192 parameters for ViT-B/32 at M = 16.

        Raises:
            MethodError: the shared inputs come without the CLIP, its text tower is of another kind, a class name
                leaves no room, or ``text`` where the classes' first prompts do not begin alike.
        """
        inputs = required_clip(shared, self.name)
        return PromptContext(inputs, count=self.context, init=self.init, seed=seed)

    def loss(self, module: nn.Module, step: Step, shared: SharedInputs) -> Tensor:
        """Cross-entropy of one batch of features; a scalar."""
        text = context_of(module).text_features(required_clip(shared, self.name)).to(step.batch.inputs)
        return class_cross_entropy(
            class_logits(step.batch.inputs, text, shared.scale), step.batch.labels, step.adjustment
        )

    def logits(self, module: nn.Module, inputs: Tensor, shared: SharedInputs) -> Tensor:
        """(n, D) float32 -> (n, K) float64."""
        with torch.no_grad():
            text = context_of(module).text_features(required_clip(shared, self.name))
            return class_logits(inputs.double(), text.to(inputs.device).double(), shared.scale)

    def options(self) -> dict[str, str | float | bool]:
        """What the model card prints."""
        return {"loss": "class-prompt", "context": self.context, "init": self.init, "trained": "context vectors"}


def context_of(module: nn.Module) -> PromptContext:
    """The module as what it must be."""
    if not isinstance(module, PromptContext):
        raise TypeError(f"a PromptContext is needed, not {type(module).__name__}")
    return module
