"""Adversarial domain adaptation: a domain classifier behind a gradient reversal.

Source: Ganin and Lempitsky 2015, arXiv 1409.7495, as used by FAA-CLIP (arXiv 2503.05776, equations 6-8).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .adapters import draw_linear

HIDDEN = 512


class ReverseGradient(torch.autograd.Function):
    """Identity forward; the gradient times -coefficient backward."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, coefficient: float) -> Tensor:
        """(…) -> the same."""
        ctx.coefficient = coefficient
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """(…) -> the same, reversed; nothing for the coefficient."""
        return -ctx.coefficient * gradients[0], None


def reverse_gradient(features: Tensor, coefficient: float = 1.0) -> Tensor:
    """What the classifier learns to tell apart, the adapter learns to hide: the papers' coefficient is 1."""
    return ReverseGradient.apply(features, coefficient)  # type: ignore[no-any-return]


class DomainClassifier(nn.Module):
    """Linear - Linear - norm - ReLU - Linear - norm - ReLU - Linear: does a feature come from the reference set?

    At width 512: 527,873 parameters. BatchNorm here always takes the moments of the batch, of both domains together:
    with each domain on its own it would remove the very shift that is looked for. So there are no running statistics,
    and nothing of the reference set reaches those of the adapter.

    Args:
        width: feature dimension D.
        seed: start values are drawn from a generator of this seed alone.
        layer_norm: LayerNorm instead of BatchNorm, for batches of one.
    """

    def __init__(self, width: int, *, seed: int, layer_norm: bool = False) -> None:
        super().__init__()

        def norm() -> nn.Module:
            return nn.LayerNorm(HIDDEN) if layer_norm else nn.BatchNorm1d(HIDDEN, track_running_stats=False)

        self.layers = nn.Sequential(
            nn.Linear(width, HIDDEN),
            norm(),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            norm(),
            nn.ReLU(),
            nn.Linear(HIDDEN, 1),
        )
        draw_linear(self, seed)

    def forward(self, features: Tensor) -> Tensor:
        """Logit of "from the reference set": (B, D) -> (B,)."""
        return self.layers(features).squeeze(1)  # type: ignore[no-any-return]


def adversarial_loss(domain: nn.Module, source: Tensor, reference: Tensor) -> Tensor:
    """Mean of the two domains' binary cross-entropies, the source's gradient reversed.

    Args:
        domain: a :class:`DomainClassifier`.
        source: (B, D) adapted features of the site, label 0; its gradient is reversed.
        reference: (M, D) adapted features of the reference set, label 1; constants.

    Returns:
        Scalar; log 2 where the classifier cannot tell them apart.
    """
    logits = domain(torch.cat([reverse_gradient(source), reference.detach()]))
    own, other = logits[: len(source)], logits[len(source) :]
    return 0.5 * (
        F.binary_cross_entropy_with_logits(own, torch.zeros_like(own))
        + F.binary_cross_entropy_with_logits(other, torch.ones_like(other))
    )
