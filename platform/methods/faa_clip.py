"""FAA-CLIP (arXiv 2503.05776): FACMIC's adapter with an adversarial loss against a domain classifier.

Loss of one step: CE(s I* T', y) + weight * adversarial(I*_site, I*_reference), weight 0.5, reversal coefficient 1. The
domain classifier stays at its site. Sites are averaged alike, whatever their size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from ..domain import DomainClassifier, adversarial_loss
from .adapted_clip import AdaptedClip, adapted_reference, clip_of, contrastive_loss
from .attention import AttentionMethod, attention_module, attention_options, local_norms
from .method import SharedInputs, Step, Weighting


@dataclass(frozen=True, slots=True)
class FaaClip(AttentionMethod):
    """FAA-CLIP's options: those of :class:`.attention.AttentionMethod`, the adversarial loss at weight 0.5 (the paper).

    Attributes:
        domain_classifier: ``local`` (the paper), or ``shared``: averaged and sent like the adapter.
    """

    adaptation_weight: float = 0.5
    domain_classifier: Literal["local", "shared"] = "local"

    name: ClassVar[str] = "faa-clip"
    published_weight: ClassVar[float] = 0.5
    weighting: ClassVar[Weighting] = "uniform"

    @property
    def local(self) -> tuple[str, ...]:
        """The domain classifier, and the norms where they are the site's own."""
        domain = ("domain.",) if self.domain_classifier == "local" and self.adaptation_weight > 0 else ()
        return (*domain, *local_norms(self.normalisation))

    def new_module(self, shared: SharedInputs, seed: int) -> AdaptedClip:
        """FACMIC's adapter, 526,336 parameters at width 512, and a domain classifier of 527,873."""
        domain = None
        if self.adaptation_weight > 0:
            width = shared.text.shape[1]
            domain = DomainClassifier(width, seed=seed ^ 2, layer_norm=self.normalisation == "layer")
        return attention_module(self, shared, seed, domain=domain)

    def loss(self, module: nn.Module, step: Step, shared: SharedInputs) -> Tensor:
        """Contrastive cross-entropy + weight * adversarial loss over one batch; a scalar."""
        own = clip_of(module)
        adapted = own.adapter.adapt(step.batch.inputs)
        labels, text = step.batch.labels, own.text(shared)
        loss = contrastive_loss(adapted, labels, text, shared.scale, self.loss_kind, step.adjustment)
        if own.domain is None:
            return loss
        reference = adapted_reference(own, shared, step)
        if reference is None:
            return loss + 0.0 * sum(parameter.sum() for parameter in own.domain.parameters())
        aligned = reference[0] if self.reference_through_adapter else shared.reference[step.reference_rows]
        return loss + self.weight(len(adapted)) * adversarial_loss(own.domain, adapted, aligned)

    def options(self) -> dict[str, str | float | bool]:
        """What the model card prints."""
        return {**attention_options(self, "adversarial"), "domain_classifier": self.domain_classifier}
