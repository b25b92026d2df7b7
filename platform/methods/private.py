"""How each method is trained under differential privacy: a loss of every image on its own, and a public part.

A clipped, noised gradient is only as private as stated when an image's loss depends on that image, on the parameters,
and on what is public or already noised. So each form has two parts:

- the private one: a loss for each row, whose gradients are clipped unit by unit, summed and noised;
- the public one: a loss on public rows and on proxies that were made from noisy sums. It is post-processing: any loss
  is legal there, and it costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...privacy.differential_privacy.clipping import ClippedSum, clipped_sum
from ..adapters import class_logits, trained_tensors
from ..calibration import FITTED
from ..domain import adversarial_loss
from ..errors import MethodError
from ..lmmd import lmmd
from .adapted_clip import AdaptedClip, adapted_reference, clip_of
from .faa_clip import FaaClip
from .facmic import Facmic
from .fedclip import FedClip
from .method import SharedInputs, Step, TrainingPart


@dataclass(frozen=True, slots=True)
class Alignment:
    """What a site knows of its own classes by noisy releases; post-processing, and never sent.

    Attributes:
        proxies: (P, D) float32 unit-norm features that stand for the site's images; P may be 0.
        proxy_labels: (P,) int64.
        shares: (K,) float32, each class's noisy share of the site's units; 0 where too few are left above the noise.
        gap: (K, 2F) float32, the site's mean Fourier features minus the reference set's, by class; empty without.
        frequencies: (F, D) float32 of the random Fourier features; empty without.
    """

    proxies: Tensor
    proxy_labels: Tensor
    shares: Tensor
    gap: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    frequencies: Tensor = field(default_factory=lambda: torch.zeros(0, 0))


@dataclass(frozen=True, slots=True)
class PublicStep:
    """What one step's public loss may look at.

    Attributes:
        reference_rows: (B,) int64 rows of ``shared.reference``. proxy_rows: (B',) int64 rows of the proxies.
        expected: images of an average step; public, unlike those of this one.
    """

    reference_rows: Tensor
    proxy_rows: Tensor
    expected: int


class PrivateForm(Protocol):
    """One method under differential privacy."""

    @property
    def independent(self) -> bool:
        """Whether the loss of one row is computed by itself in layers, so that it can be probed and clipped there."""

    def noised(self, module: nn.Module) -> frozenset[str]:
        """Names of the parameters that the private loss reaches; exactly these are clipped and noised together."""

    def losses(
        self, module: nn.Module, batch: TrainingPart, shared: SharedInputs, alignment: Alignment | None, expected: int
    ) -> Tensor:
        """(R,) loss of each row of a batch."""

    def clipped(
        self,
        module: nn.Module,
        batch: TrainingPart,
        owners: Tensor | None,
        units: int,
        clip: float,
        shared: SharedInputs,
        alignment: Alignment | None,
        expected: int,
    ) -> ClippedSum:
        """Sum over units of their clipped gradients."""

    def public_loss(
        self, module: nn.Module, step: PublicStep, shared: SharedInputs, alignment: Alignment | None
    ) -> Tensor | None:
        """A scalar on public rows and proxies; None where there is nothing of it."""

    def public_weight(self, expected: int) -> float:
        """Weight of the public loss beside a private one of 1; it also bounds its gradient, in units of the clip."""


class NothingPublic:
    """A form without a public part."""

    __slots__ = ()

    def public_loss(
        self, module: nn.Module, step: PublicStep, shared: SharedInputs, alignment: Alignment | None
    ) -> Tensor | None:
        """Nothing."""
        return None

    def public_weight(self, expected: int) -> float:
        """0."""
        return 0.0


@dataclass(frozen=True, slots=True)
class ClassPrompt(NothingPublic):
    """FedCLIP, and every adapter without adaptation: cross-entropy of each image with the class prompts."""

    independent: ClassVar[bool] = True

    def noised(self, module: nn.Module) -> frozenset[str]:
        """The image-side adapter's parameters."""
        return names_under(module, ("adapter.",))

    def losses(
        self, module: nn.Module, batch: TrainingPart, shared: SharedInputs, alignment: Alignment | None, expected: int
    ) -> Tensor:
        """(R,) cross-entropy."""
        return self._row_losses(clip_of(module).adapter.adapt(batch.inputs), batch, shared)

    @staticmethod
    def _row_losses(adapted: Tensor, batch: TrainingPart, shared: SharedInputs) -> Tensor:
        logits = class_logits(adapted, shared.text.to(adapted), shared.scale)
        return F.cross_entropy(logits, batch.labels, reduction="none")

    def clipped(
        self,
        module: nn.Module,
        batch: TrainingPart,
        owners: Tensor | None,
        units: int,
        clip: float,
        shared: SharedInputs,
        alignment: Alignment | None,
        expected: int,
    ) -> ClippedSum:
        """By the closed form, layer by layer."""
        losses = partial(self.losses, module, batch, shared, alignment, expected)
        return clipped_sum(module, losses, clip=clip, trained=self.noised(module), owners=owners, units=units)


@dataclass(frozen=True, slots=True)
class FacmicByProxies(ClassPrompt):
    """FACMIC: cross-entropy is private; LMMD is between proxies and the reference set, both public.

    Attributes:
        method: its options.
    """

    method: Facmic = field(default_factory=lambda: Facmic(normalisation="layer"))

    def public_loss(
        self, module: nn.Module, step: PublicStep, shared: SharedInputs, alignment: Alignment | None
    ) -> Tensor | None:
        """weight * LMMD(proxies, reference)."""
        own, pair = clip_of(module), _proxies_and_reference(self.method, module, step, shared, alignment)
        if pair is None or alignment is None:
            return None
        proxies, aligned, probabilities = pair
        labels = alignment.proxy_labels[step.proxy_rows]
        return self.method.weight(step.expected) * lmmd(own.adapter.adapt(proxies), labels, aligned, probabilities)

    def public_weight(self, expected: int) -> float:
        """The method's adaptation weight."""
        return self.method.weight(expected)


@dataclass(frozen=True, slots=True)
class FaaClipByProxies(ClassPrompt):
    """FAA-CLIP: cross-entropy is private; the domain classifier sees proxies and the reference set, both public.

    Attributes:
        method: its options.
    """

    method: FaaClip = field(default_factory=lambda: FaaClip(normalisation="layer"))

    def public_loss(
        self, module: nn.Module, step: PublicStep, shared: SharedInputs, alignment: Alignment | None
    ) -> Tensor | None:
        """weight * adversarial(proxies, reference)."""
        own, pair = clip_of(module), _proxies_and_reference(self.method, module, step, shared, alignment)
        if pair is None or own.domain is None:
            return None
        proxies, aligned, _ = pair
        adversarial = adversarial_loss(own.domain, own.adapter.adapt(proxies), aligned)
        return self.method.weight(step.expected) * adversarial

    def public_weight(self, expected: int) -> float:
        """The method's adaptation weight."""
        return self.method.weight(expected)


def _proxies_and_reference(
    method: Facmic | FaaClip, module: nn.Module, step: PublicStep, shared: SharedInputs, alignment: Alignment | None
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Proxies, reference features to align to and their class probabilities; None where either side is empty."""
    if alignment is None or len(step.proxy_rows) == 0 or len(step.reference_rows) == 0:
        return None
    reference = reference_of(clip_of(module), shared, step.reference_rows)
    if reference is None:
        return None
    aligned = reference[0] if method.reference_through_adapter else shared.reference[step.reference_rows]
    return alignment.proxies[step.proxy_rows], aligned, reference[1]


def reference_of(own: AdaptedClip, shared: SharedInputs, rows: Tensor) -> tuple[Tensor, Tensor] | None:
    """Adapted reference rows and their class probabilities, both constants; see :func:`.adapted_clip`."""
    nothing = TrainingPart(shared.reference[:0], torch.zeros(0, dtype=torch.int64))
    received: Mapping[str, Tensor] = {}
    return adapted_reference(own, shared, Step(nothing, rows, received))


def names_under(module: nn.Module, prefixes: tuple[str, ...]) -> frozenset[str]:
    """Names of the trained parameters under one of the prefixes."""
    return frozenset(n for n in trained_tensors(module) if n.startswith(prefixes) and n not in FITTED)


def refuse_form(method: str) -> MethodError:
    """The error for a method without a legal form."""
    return MethodError(
        f"'{method}' has no differentially private form",
        where="privacy.epsilon",
        remedy="Use fedclip, facmic, faa-clip or prompt-fl; docs/privacy.md says why",
    )


def plain_form(method: FedClip | Facmic | FaaClip) -> ClassPrompt:
    """The form of an adapter method whose private loss is the cross-entropy alone."""
    if isinstance(method, Facmic) and method.adaptation_weight > 0:
        return FacmicByProxies(method)
    if isinstance(method, FaaClip) and method.adaptation_weight > 0:
        return FaaClipByProxies(method)
    return ClassPrompt()
