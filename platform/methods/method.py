"""The seam: what a federated method must say of itself. One file a method beside this one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..adapters import AttentionAdapter


@dataclass(frozen=True, slots=True)
class TrainingPart:
    """A site's training features on the device that trains.

    Attributes:
        features: (n, D) float32, unit-norm rows.
        labels: (n,) int64 class indices.
    """

    features: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class SharedInputs:
    """What every site of the study has alike.

    Attributes:
        text: (K, D) float32, unit-norm class-prompt features.
        scale: CLIP's logit scale s.
        reference: (M, D) float32 features of the public unlabelled set; M may be 0.
    """

    text: Tensor
    scale: float
    reference: Tensor


class Method(Protocol):
    """A federated method: which adapter, which loss."""

    @property
    def name(self) -> str:
        """Key in studies and on the command line."""

    def new_adapter(self, width: int, seed: int) -> AttentionAdapter:
        """The adapter before round 1; the same for every site and for the coordinator."""

    def loss(
        self,
        adapter: AttentionAdapter,
        batch: TrainingPart,
        shared: SharedInputs,
        reference_rows: Tensor,
    ) -> Tensor:
        """Scalar loss of one step; ``reference_rows`` (B,) int64 picks rows of ``shared.reference``."""

    def options(self) -> dict[str, str | float | bool]:
        """What the model card prints of the method's choices."""


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Shuffled index batches over ``count`` rows; a last batch of one row joins the batch before it.

    BatchNorm cannot train on one row, and dropping that row would mean that an image is never learned from.
    ``size`` is at least 2; with ``count`` 1 there is no batch to join, so callers refuse such a part beforehand.
    """
    order = torch.randperm(count, generator=generator)
    start = 0
    while start < count:
        stop = start + size
        if count - stop == 1:
            stop = count
        yield order[start:stop]
        start = stop
