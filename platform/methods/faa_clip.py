"""FAA-CLIP (arXiv 2503.05776): FACMIC's adapter with an adversarial loss against a domain classifier.

Loss of one step: CE(s I* T', y) + weight * adversarial(I*_site, I*_reference), weight 0.5, reversal coefficient 1. The
domain classifier stays at its site. Sites are averaged alike, whatever their size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from ..adapters import Normalisation
from ..domain import DomainClassifier, adversarial_loss
from .adapted_clip import (
    AdaptedClip,
    Loss,
    adaptation_factor,
    adapted_reference,
    check_range,
    clip_of,
    contrastive_loss,
    predicted_logits,
)
from .attention import attention_module, attention_options, local_norms
from .method import Consumes, Exchange, SharedInputs, Step, Weighting


@dataclass(frozen=True, slots=True)
class FaaClip:
    """FAA-CLIP's options.

    Attributes:
        lr: Adam step size; 0 for the study's.
        loss_kind: ``class-prompt`` or ``in-batch``; named ``loss`` in studies.
        text_adapter: adapt the class prompts too.
        depth: modules of the adapter, 5 or 8.
        normalisation: ``batch`` (shared), ``batch-local`` or ``layer``.
        adaptation_weight: weight of the adversarial loss, 0.5 in the paper; 0 switches adaptation off.
        reference_through_adapter: adapt the reference features too (the paper), or compare with the frozen ones.
        rescale_adaptation: scale the adversarial loss of a batch under 32 rows by rows / 32.
        domain_classifier: ``local`` (the paper), or ``shared``: averaged and sent like the adapter.
        head: carry a temperature.
    """

    lr: float = 0.0
    loss_kind: Loss = "class-prompt"
    text_adapter: bool = False
    depth: Literal[5, 8] = 5
    normalisation: Normalisation = "batch"
    adaptation_weight: float = 0.5
    reference_through_adapter: bool = True
    rescale_adaptation: bool = True
    domain_classifier: Literal["local", "shared"] = "local"
    head: bool = False

    name: ClassVar[str] = "faa-clip"
    consumes: ClassVar[Consumes] = "features"
    exchange: ClassVar[Exchange] = "federated"
    weighting: ClassVar[Weighting] = "uniform"
    anchors: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_range(
            "faa-clip",
            "adaptation_weight",
            self.adaptation_weight,
            0.0,
            100.0,
            "The paper uses 0.5; 0 switches adaptation off",
        )

    @property
    def local(self) -> tuple[str, ...]:
        """The domain classifier, and the norms where they are the site's own."""
        domain = ("domain.",) if self.domain_classifier == "local" and self.adaptation_weight > 0 else ()
        return (*domain, *local_norms(self.normalisation))

    @property
    def smallest_batch(self) -> int:
        """2 with BatchNorm, and where rows of a batch are contrasted with one another."""
        return 1 if self.normalisation == "layer" and self.loss_kind == "class-prompt" else 2

    def new_module(self, shared: SharedInputs, seed: int) -> AdaptedClip:
        """FACMIC's adapter, 526,336 parameters at width 512, and a domain classifier of 527,873."""
        domain = None
        if self.adaptation_weight > 0:
            width = shared.text.shape[1]
            domain = DomainClassifier(width, seed=seed ^ 2, layer_norm=self.normalisation == "layer")
        return attention_module(self, shared, seed, head=self.head, domain=domain)

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
        weight = adaptation_factor(self.adaptation_weight, self.rescale_adaptation, len(adapted))
        return loss + weight * adversarial_loss(own.domain, adapted, aligned)

    def logits(self, module: nn.Module, inputs: Tensor, shared: SharedInputs) -> Tensor:
        """(n, D) float32 -> (n, K) float64."""
        return predicted_logits(module, inputs, shared)

    def options(self) -> dict[str, str | float | bool]:
        """What the model card prints."""
        return {
            **attention_options(self),
            "adaptation": "adversarial" if self.adaptation_weight > 0 else "off",
            "adaptation_weight": self.adaptation_weight,
            "domain_classifier": self.domain_classifier,
        }
