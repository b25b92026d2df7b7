"""The seam: what a method must say of itself. One file a method beside this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Consumes = Literal["features", "pixels"]
Exchange = Literal["federated", "alone", "pooled", "nothing"]
Weighting = Literal["weighted", "uniform"]


@dataclass(frozen=True, slots=True)
class TrainingPart:
    """What a method trains on, as tensors.

    Attributes:
        inputs: (n, D) float32 unit-norm image features, or (n, H, W, 3) uint8 pictures, as the method consumes.
        labels: (n,) int64 class indices.
    """

    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class ClipInputs:
    """The frozen CLIP itself, for methods that train a copy or a part of it.

    Attributes:
        model: open_clip's CLIP, frozen, in eval mode. Never train it: copy it.
        normalise: uint8 (n, H, W, 3) pictures -> float32 (n, 3, H, W) as the image tower takes them.
        prompt_tokens: (P, L) int64, the tokens of every prompt of every class.
        prompt_classes: (P,) int64, the class of each prompt; every class has at least one.
        name_tokens: (K, L) int64, the tokens of each class's clinical name alone.
    """

    model: nn.Module
    normalise: Callable[[Tensor], Tensor]
    prompt_tokens: Tensor
    prompt_classes: Tensor
    name_tokens: Tensor


@dataclass(frozen=True, slots=True)
class SharedInputs:
    """What every site of the study has alike.

    Attributes:
        text: (K, D) float32, unit-norm class-prompt features.
        scale: CLIP's logit scale s.
        reference: (M, D) float32 features of the public unlabelled set; M may be 0.
        reference_labels: (M,) int64, only where the study grants them (an oracle, never a result to report as one's
            own), or where the reference set is the federation's own class means; else None.
        clip: the CLIP itself; None for methods that train on features alone.
    """

    text: Tensor
    scale: float
    reference: Tensor
    reference_labels: Tensor | None = None
    clip: ClipInputs | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What one step's loss may look at beside the module that is trained.

    Attributes:
        batch: the site's rows of this step.
        reference_rows: (B,) int64 rows of ``shared.reference``; empty where there is none.
        received: the global tensors that the site received for this round, by name; constants.
        received_module: a frozen module with the received tensors; only for methods that ask for anchors.
        previous_module: a frozen module with this site's own tensors as its last round left them; None before the
            first one, or for methods that do not ask for anchors.
        adjustment: (K,) added to the logits of class-prompt losses: tau * log of the site's own class shares
            (:func:`log_shares`); None for none.
    """

    batch: TrainingPart
    reference_rows: Tensor
    received: Mapping[str, Tensor]
    received_module: nn.Module | None = None
    previous_module: nn.Module | None = None
    adjustment: Tensor | None = None


class Method(Protocol):
    """A method: which module is trained, on what, with which loss, and what of it is sent.

    The module's trained parameters (``requires_grad``) are sent, each top-level child as a block of its own name, and
    with them the exact moments of every :class:`..adapters.AdapterNorm`; except what lies under a prefix in ``local``.
    """

    @property
    def name(self) -> str:
        """Key in studies and on the command line."""

    @property
    def consumes(self) -> Consumes:
        """Cached image features, or pictures."""

    @property
    def exchange(self) -> Exchange:
        """Rounds with other sites; each site alone; all data in one place; or no training at all."""

    @property
    def weighting(self) -> Weighting:
        """The mean that the method's paper takes over sites; a study may say otherwise."""

    @property
    def lr(self) -> float:
        """Adam step size of this method; 0 for that of ``[training]``."""

    @property
    def local(self) -> tuple[str, ...]:
        """Prefixes of tensor names that stay at the site, e.g. ``("domain.",)``."""

    @property
    def anchors(self) -> bool:
        """Whether the loss looks at the received and the site's previous model."""

    @property
    def smallest_batch(self) -> int:
        """2 where a BatchNorm layer needs moments of a batch, else 1."""

    def new_module(self, shared: SharedInputs, seed: int) -> nn.Module:
        """The module before round 1; the same for every site and for the coordinator."""

    def loss(self, module: nn.Module, step: Step, shared: SharedInputs) -> Tensor:
        """Scalar loss of one step."""

    def logits(self, module: nn.Module, inputs: Tensor, shared: SharedInputs) -> Tensor:
        """Class logits in evaluation mode, no gradient needed: (n, …) -> (n, K) float64."""

    def options(self) -> dict[str, str | float | bool]:
        """What the model card prints of the method's choices."""


def class_cross_entropy(logits: Tensor, labels: Tensor, adjustment: Tensor | None) -> Tensor:
    """Mean cross-entropy of class logits (B, K), with a step's adjustment (K,) added where there is one; a scalar."""
    if adjustment is not None:
        logits = logits + adjustment.to(logits.device)
    return F.cross_entropy(logits, labels.to(logits.device))


def log_shares(labels: Tensor, classes: int) -> Tensor:
    """log of each class's share of a site's training images, each class counted half an image more: (K,) float32.

    Added to the logits in training, it makes the model answer as if classes were equally frequent, and a class that the
    site lacks is not pushed away by it. Source: Menon et al. 2021, arXiv 2007.07314, equation 9; under federated label
    skew, Zhang et al. 2022, arXiv 2209.00189.
    """
    counts = torch.bincount(labels, minlength=classes).float() + 0.5
    return torch.log(counts / counts.sum())


def batches(count: int, size: int, generator: torch.Generator, *, smallest: int = 2) -> Iterator[Tensor]:
    """Shuffled index batches over ``count`` rows; a last batch under ``smallest`` rows joins the batch before it.

    BatchNorm cannot train on one row, and dropping that row would mean that an image is never learned from.
    ``size`` is at least ``smallest``; with fewer rows there is no batch to join, so callers refuse such a part.
    """
    order = torch.randperm(count, generator=generator)
    start = 0
    while start < count:
        stop = start + size
        if 0 < count - stop < smallest:
            stop = count
        yield order[start:stop]
        start = stop
