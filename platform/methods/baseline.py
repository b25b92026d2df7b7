"""A baseline of an adapter method: the same adapter and loss, exchanged in another way or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from .method import Consumes, Method, SharedInputs, Step, Weighting


@dataclass(frozen=True, slots=True)
class Baseline:
    """Everything but name and exchange is the base's.

    Attributes:
        base: whose adapter and loss are trained; without adaptation.
    """

    base: Method

    weighting: ClassVar[Weighting] = "weighted"
    local: ClassVar[tuple[str, ...]] = ()

    @property
    def consumes(self) -> Consumes:
        """As the base."""
        return self.base.consumes

    @property
    def lr(self) -> float:
        """As the base."""
        return self.base.lr

    @property
    def anchors(self) -> bool:
        """As the base."""
        return self.base.anchors

    @property
    def smallest_batch(self) -> int:
        """As the base."""
        return self.base.smallest_batch

    def new_module(self, shared: SharedInputs, seed: int) -> nn.Module:
        """The base's."""
        return self.base.new_module(shared, seed)

    def loss(self, module: nn.Module, step: Step, shared: SharedInputs) -> Tensor:
        """The base's; a scalar."""
        return self.base.loss(module, step, shared)

    def logits(self, module: nn.Module, inputs: Tensor, shared: SharedInputs) -> Tensor:
        """The base's: (n, D) float32 -> (n, K) float64."""
        return self.base.logits(module, inputs, shared)

    def options(self) -> dict[str, str | float | bool]:
        """The base's, and its name."""
        return {"base": self.base.name, **self.base.options()}
