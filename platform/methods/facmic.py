"""FACMIC (arXiv 2410.14707, MICCAI 2024): attention adapter, contrastive cross-entropy and LMMD.

Loss of one step: CE(s I* T', y) + weight * LMMD(I*_site, I*_reference), equation 6. Two choices differ from the
published code: the contrast is with the class prompts rather than with the texts of the batch (two images of one class
are no negatives of one another), and the reference set is a public one rather than the unseen site's test images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from ..adapters import Normalisation
from ..lmmd import lmmd
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
class Facmic:
    """FACMIC's options.

    Attributes:
        lr: Adam step size; 0 for the study's.
        loss_kind: ``class-prompt`` or ``in-batch``; named ``loss`` in studies.
        text_adapter: adapt the class prompts too.
        depth: modules of the adapter, 5 or 8.
        normalisation: ``batch`` (shared), ``batch-local`` or ``layer``.
        adaptation_weight: weight of LMMD, 1 in the paper; 0 switches adaptation off.
        reference_through_adapter: adapt the reference features too (the paper's formula), or compare with the frozen
            ones (its code).
        rescale_adaptation: scale LMMD of a batch under 32 rows by rows / 32.
        head: carry a temperature.
    """

    lr: float = 0.0
    loss_kind: Loss = "class-prompt"
    text_adapter: bool = False
    depth: Literal[5, 8] = 5
    normalisation: Normalisation = "batch"
    adaptation_weight: float = 1.0
    reference_through_adapter: bool = True
    rescale_adaptation: bool = True
    head: bool = False

    name: ClassVar[str] = "facmic"
    consumes: ClassVar[Consumes] = "features"
    exchange: ClassVar[Exchange] = "federated"
    weighting: ClassVar[Weighting] = "weighted"
    anchors: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_range(
            "facmic",
            "adaptation_weight",
            self.adaptation_weight,
            0.0,
            100.0,
            "The paper uses 1; 0 switches adaptation off",
        )

    @property
    def local(self) -> tuple[str, ...]:
        """The norms, where they are the site's own."""
        return local_norms(self.normalisation)

    @property
    def smallest_batch(self) -> int:
        """2 with BatchNorm, and where rows of a batch are contrasted with one another."""
        return 1 if self.normalisation == "layer" and self.loss_kind == "class-prompt" else 2

    def new_module(self, shared: SharedInputs, seed: int) -> AdaptedClip:
        """The published adapter: 526,336 parameters at width 512 and depth 5, 790,016 at depth 8."""
        return attention_module(self, shared, seed, head=self.head)

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
        weight = adaptation_factor(self.adaptation_weight, self.rescale_adaptation, len(adapted))
        return loss + weight * lmmd(adapted, labels, aligned, probabilities)

    def logits(self, module: nn.Module, inputs: Tensor, shared: SharedInputs) -> Tensor:
        """(n, D) float32 -> (n, K) float64."""
        return predicted_logits(module, inputs, shared)

    def options(self) -> dict[str, str | float | bool]:
        """What the model card prints."""
        return {
            **attention_options(self),
            "adaptation": "lmmd" if self.adaptation_weight > 0 else "off",
            "adaptation_weight": self.adaptation_weight,
        }
