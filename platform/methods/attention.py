"""What FACMIC and FAA-CLIP have in common: the attention adapter with its options, and a reference set to align to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from ..adapters import AttentionAdapter, Normalisation
from .adapted_clip import AdaptedClip, Loss, adaptation_factor, check_range, predicted_logits
from .method import Consumes, Exchange, SharedInputs

HEAVIEST = 100.0
CARD_WORDS: dict[Normalisation, str] = {
    "batch": "batch, exact site moments, shared",
    "batch-local": "batch, exact site moments, kept at the site",
    "layer": "layer",
}


@dataclass(frozen=True, slots=True)
class AttentionMethod:
    """The options of both methods; each adds its name, its weighting and its loss.

    Attributes:
        lr: Adam step size; 0 for the study's.
        loss_kind: ``class-prompt`` or ``in-batch``; named ``loss`` in studies.
        text_adapter: adapt the class prompts too.
        depth: modules of the adapter, 5 or 8.
        normalisation: ``batch`` (shared), ``batch-local`` or ``layer``.
        adaptation_weight: weight of the adaptation loss, in [0, 100]; 0 switches adaptation off.
        reference_through_adapter: adapt the reference features too (the papers' formula), or compare with the frozen
            ones (FACMIC's code).
        rescale_adaptation: scale the adaptation loss of a batch under 32 rows by rows / 32.
        head: carry a temperature.

    Raises:
        MethodError: the weight is outside its range.
    """

    lr: float = 0.0
    loss_kind: Loss = "class-prompt"
    text_adapter: bool = False
    depth: Literal[5, 8] = 5
    normalisation: Normalisation = "batch"
    adaptation_weight: float = 0.0
    reference_through_adapter: bool = True
    rescale_adaptation: bool = True
    head: bool = False

    name: ClassVar[str]
    published_weight: ClassVar[float]
    consumes: ClassVar[Consumes] = "features"
    exchange: ClassVar[Exchange] = "federated"
    anchors: ClassVar[bool] = False

    def __post_init__(self) -> None:
        remedy = f"The paper uses {self.published_weight:g}; 0 switches adaptation off"
        check_range(self.name, "adaptation_weight", self.adaptation_weight, 0.0, HEAVIEST, remedy)

    @property
    def smallest_batch(self) -> int:
        """2 with BatchNorm, and where rows of a batch are contrasted with one another."""
        return 1 if self.normalisation == "layer" and self.loss_kind == "class-prompt" else 2

    def weight(self, rows: int) -> float:
        """Weight of the adaptation loss of a batch of ``rows``."""
        return adaptation_factor(self.adaptation_weight, self.rescale_adaptation, rows)

    def logits(self, module: nn.Module, inputs: Tensor, shared: SharedInputs) -> Tensor:
        """(n, D) float32 -> (n, K) float64."""
        return predicted_logits(module, inputs, shared)


def attention_module(
    options: AttentionMethod, shared: SharedInputs, seed: int, *, domain: nn.Module | None = None
) -> AdaptedClip:
    """The published adapter on the image side, and what the options add; D is the width of ``shared.text``."""
    width = shared.text.shape[1]

    def adapter(number: int) -> AttentionAdapter:
        return AttentionAdapter(width, seed=number, depth=options.depth, normalisation=options.normalisation)

    text = adapter(seed ^ 1) if options.text_adapter else None
    return AdaptedClip(adapter(seed), text_adapter=text, domain=domain, head=options.head)


def local_norms(normalisation: Normalisation) -> tuple[str, ...]:
    """Prefixes of what a site keeps of its adapter: all of its BatchNorm layers, parameters and statistics (FedBN).

    Source: Li et al. 2021, "FedBN", arXiv 2102.07623. The text side sees the same prompts everywhere and is shared.
    """
    return ("adapter.norm.", "adapter.norm_between.") if normalisation == "batch-local" else ()


def attention_options(options: AttentionMethod, adaptation: str) -> dict[str, str | float | bool]:
    """The common part of both methods' model cards; ``adaptation`` names the loss, where it has a weight."""
    return {
        "loss": options.loss_kind,
        "text_adapter": options.text_adapter,
        "depth": options.depth,
        "normalisation": CARD_WORDS[options.normalisation],
        "reference_through_adapter": options.reference_through_adapter,
        "reference_gradient": False,
        "rescale_adaptation": options.rescale_adaptation,
        "adaptation": adaptation if options.adaptation_weight > 0 else "off",
        "adaptation_weight": options.adaptation_weight,
    }
