"""Zero-shot CLIP: the frozen model with the class prompts. Nothing is trained, nothing is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..errors import MethodError
from .method import Consumes, Exchange, SharedInputs, Step, Weighting


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """It has no options."""

    name: ClassVar[str] = "zero-shot"
    consumes: ClassVar[Consumes] = "features"
    exchange: ClassVar[Exchange] = "nothing"
    weighting: ClassVar[Weighting] = "weighted"
    lr: ClassVar[float] = 0.0
    local: ClassVar[tuple[str, ...]] = ()
    anchors: ClassVar[bool] = False
    smallest_batch: ClassVar[int] = 1

    def new_module(self, shared: SharedInputs, seed: int) -> nn.Module:
        """A module without parameters."""
        return nn.Module()

    def loss(self, module: nn.Module, step: Step, shared: SharedInputs) -> Tensor:
        """Raises MethodError: there is nothing to train."""
        raise MethodError("zero-shot trains nothing", where="method", remedy="Choose another method to train")

    def logits(self, module: nn.Module, inputs: Tensor, shared: SharedInputs) -> Tensor:
        """s I T': (n, D) float32, unit-norm -> (n, K) float64."""
        return shared.scale * inputs.double() @ shared.text.double().T

    def options(self) -> dict[str, str | float | bool]:
        """None."""
        return {}
