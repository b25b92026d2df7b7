"""Adaptation image by image under differential privacy: no proxies, the loss itself is clipped and noised.

- FACMIC: LMMD in random Fourier features phi (Rahimi and Recht 2007) is ||m_c - mu_c||^2 summed over classes, m_c and
  mu_c the means of phi over the site's and the reference set's images of class c. With the gap m_c - mu_c held at
  its last noisy release, its gradient is that of 2 <phi(z_i), gap_c>, linear in each image: each share can be clipped.
- FAA-CLIP: the domain classifier is trained within the same joint clip as the adapter; the reference set's half of the
  loss is public and added after the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..domain import reverse_gradient
from ..lmmd import FACTOR, KERNELS
from .adapted_clip import clip_of
from .faa_clip import FaaClip
from .facmic import Facmic
from .method import SharedInputs, TrainingPart
from .private import Alignment, ClassPrompt, PublicStep, names_under, reference_of


@dataclass(frozen=True, slots=True)
class FacmicByFourier(ClassPrompt):
    """FACMIC with LMMD in random Fourier features, linear in each image.

    Attributes:
        method: its options.
    """

    method: Facmic = field(default_factory=lambda: Facmic(normalisation="layer"))

    def losses(
        self, module: nn.Module, batch: TrainingPart, shared: SharedInputs, alignment: Alignment | None, expected: int
    ) -> Tensor:
        """(R,) cross-entropy + weight * 2 * kernels / classes * <phi(z), gap of its class> / share of its class."""
        adapted = clip_of(module).adapter.adapt(batch.inputs)
        plain = self._row_losses(adapted, batch, shared)
        if alignment is None or alignment.gap.numel() == 0:
            return plain
        used = (alignment.gap != 0).any(dim=1)
        classes = int(used.sum())
        if classes == 0:
            return plain
        per_class = torch.where(used, 1.0 / alignment.shares.clamp_min(1e-6), torch.zeros_like(alignment.shares))
        weight = 2.0 * KERNELS / classes * per_class.to(adapted)[batch.labels]
        phi = fourier_features(adapted, alignment.frequencies.to(adapted))
        pull = (phi * alignment.gap.to(adapted)[batch.labels]).sum(dim=1)
        return plain + self.method.weight(expected) * weight * pull


@dataclass(frozen=True, slots=True)
class FaaClipJointly(ClassPrompt):
    """FAA-CLIP with the domain classifier under the same clip as the adapter.

    Attributes:
        method: its options.
    """

    method: FaaClip = field(default_factory=lambda: FaaClip(normalisation="layer"))

    def noised(self, module: nn.Module) -> frozenset[str]:
        """Adapter and domain classifier."""
        return names_under(module, ("adapter.", "domain."))

    def losses(
        self, module: nn.Module, batch: TrainingPart, shared: SharedInputs, alignment: Alignment | None, expected: int
    ) -> Tensor:
        """(R,) cross-entropy + weight / 2 * binary cross-entropy of "from the site", its gradient reversed."""
        own = clip_of(module)
        adapted = own.adapter.adapt(batch.inputs)
        plain = self._row_losses(adapted, batch, shared)
        if own.domain is None:
            return plain
        logits = own.domain(reverse_gradient(adapted))
        told = F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits), reduction="none")
        return plain + 0.5 * self.method.weight(expected) * told

    def public_loss(
        self, module: nn.Module, step: PublicStep, shared: SharedInputs, alignment: Alignment | None
    ) -> Tensor | None:
        """weight / 2 * binary cross-entropy of "from the reference set"; its features are constants."""
        own = clip_of(module)
        reference = reference_of(own, shared, step.reference_rows)
        if own.domain is None or reference is None:
            return None
        aligned = reference[0] if self.method.reference_through_adapter else shared.reference[step.reference_rows]
        logits = own.domain(aligned)
        told = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
        return 0.5 * self.method.weight(step.expected) * told

    def public_weight(self, expected: int) -> float:
        """The method's adaptation weight."""
        return self.method.weight(expected)


def fourier_features(points: Tensor, frequencies: Tensor) -> Tensor:
    """(B, D) and (F, D) -> (B, 2F): cosines and sines / sqrt F, so every row has norm 1 exactly.

    Their inner product estimates the mean of the kernels that the frequencies were drawn for.
    """
    angles = points @ frequencies.T
    return torch.cat([angles.cos(), angles.sin()], dim=1) / math.sqrt(frequencies.shape[0])


def draw_frequencies(reference: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Frequencies of LMMD's five Gaussian kernels around the reference set's mean squared distance: (F, D) float32.

    exp(-d^2 / b) has frequencies of variance 2 / b. Each one takes the next of the five bandwidths in turn.

    Args:
        reference: (M, D) public features, M >= 2. count: F. generator: public; every site and run draws the same.
    """
    centred = reference.double() - reference.double().mean(dim=0)
    middle = 2.0 * float(centred.square().sum(dim=1).mean()) * len(reference) / max(len(reference) - 1, 1)
    powers = torch.arange(count) % KERNELS - KERNELS // 2
    widths = max(middle, torch.finfo(torch.float32).tiny ** 0.5) * FACTOR ** powers.double()
    drawn = torch.randn((count, reference.shape[1]), generator=generator, dtype=torch.float64)
    scaled: Tensor = drawn * (2.0 / widths).sqrt()[:, None]
    return scaled.float()
