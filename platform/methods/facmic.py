"""FACMIC (arXiv 2410.14707, MICCAI 2024): attention adapter, contrastive cross-entropy and LMMD.

Loss of one step: CE(s I* T', y) + weight * LMMD(I*_site, I*_reference), equation 6. Two choices differ from the
published code: the contrast is with the class prompts rather than with the texts of the batch (two images of one class
are no negatives of one another), and the reference set is a public one rather than the unseen site's test images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..lmmd import lmmd
from .adapted_clip import AdaptedClip, adapted_reference, clip_of, contrastive_loss
from .attention import AttentionMethod, attention_module, attention_options, local_norms
from .method import SharedInputs, Step, Weighting


@dataclass(frozen=True, slots=True)
class Facmic(AttentionMethod):
    """FACMIC's options: those of :class:`.attention.AttentionMethod`, with LMMD at weight 1 as in the paper."""

    adaptation_weight: float = 1.0

    name: ClassVar[str] = "facmic"
    published_weight: ClassVar[float] = 1.0
    weighting: ClassVar[Weighting] = "weighted"

    @property
    def local(self) -> tuple[str, ...]:
        """The norms, where they are the site's own."""
        return local_norms(self.normalisation)

    def new_module(self, shared: SharedInputs, seed: int) -> AdaptedClip:
        """The published adapter: 526,336 parameters at width 512 and depth 5, 790,016 at depth 8."""
        return attention_module(self, shared, seed)

    def loss(self, module: nn.Module, step: Step, shared: SharedInputs) -> Tensor:
        """Contrastive cross-entropy + weight * LMMD over one batch; a scalar."""
        own = clip_of(module)
        adapted = own.adapter.adapt(step.batch.inputs)
        labels, text = step.batch.labels, own.text(shared)
        loss = contrastive_loss(adapted, labels, text, shared.scale, self.loss_kind, step.adjustment)
        if self.adaptation_weight == 0.0:
            return loss
        reference = adapted_reference(own, shared, step)
        if reference is None:
            return loss
        target, probabilities = reference
        aligned = target if self.reference_through_adapter else shared.reference[step.reference_rows]
        return loss + self.weight(len(adapted)) * lmmd(adapted, labels, aligned, probabilities)

    def options(self) -> dict[str, str | float | bool]:
        """What the model card prints."""
        return attention_options(self, "lmmd")
