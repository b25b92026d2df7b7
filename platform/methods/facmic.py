"""FACMIC (arXiv 2410.14707, MICCAI 2024): attention adapter, class-prompt cross-entropy and LMMD.

Loss of one step: CE(s I* T', y) + weight * LMMD(I*_site, I*_reference), equation 6. Two choices differ from the
published code: the contrast is with the class prompts rather than with the texts of the batch (two images of one class
are no negatives of one another), and the reference set is a public one rather than the unseen site's test images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..adapters import AttentionAdapter, class_logits, source_statistics_only
from ..errors import MethodError
from ..lmmd import lmmd
from .method import SharedInputs, TrainingPart


@dataclass(frozen=True, slots=True)
class Facmic:
    """FACMIC's options.

    Attributes:
        adaptation_weight: weight of LMMD, 1 in the paper; 0 switches adaptation off.
        reference_through_adapter: adapt the reference features too (the paper's formula), or compare with the frozen
            ones (its code).
    """

    adaptation_weight: float = 1.0
    reference_through_adapter: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.adaptation_weight <= 100.0:
            raise MethodError(
                f"adaptation_weight = {self.adaptation_weight:g} is not in [0, 100]",
                where="facmic",
                remedy="The paper uses 1; 0 switches adaptation off",
            )

    @property
    def name(self) -> str:
        """Key in studies and on the command line."""
        return "facmic"

    def new_adapter(self, width: int, seed: int) -> AttentionAdapter:
        """The published adapter: 526,336 parameters at width 512."""
        return AttentionAdapter(width, seed=seed)

    def loss(
        self, adapter: AttentionAdapter, batch: TrainingPart, shared: SharedInputs, reference_rows: Tensor
    ) -> Tensor:
        """CE + weight * LMMD over one batch; a scalar."""
        adapted = adapter.adapt(batch.features)
        loss = F.cross_entropy(class_logits(adapted, shared.text, shared.scale), batch.labels)
        if self.adaptation_weight == 0.0 or shared.reference.shape[0] == 0:
            return loss
        reference = shared.reference[reference_rows]
        # The reference is a target to align to, so no gradient flows through it: with one, the adapter can lower
        # LMMD by making every feature alike (docs/decisions/0005).
        with source_statistics_only(adapter), torch.no_grad():
            adapted_reference = adapter.adapt(reference)
        probabilities = class_logits(adapted_reference, shared.text, shared.scale).softmax(dim=1)
        aligned = adapted_reference if self.reference_through_adapter else reference
        return loss + self.adaptation_weight * lmmd(adapted, batch.labels, aligned, probabilities)

    def options(self) -> dict[str, str | float | bool]:
        """What the model card prints."""
        return {
            "loss": "class_prompt",
            "adaptation": "lmmd" if self.adaptation_weight > 0 else "off",
            "adaptation_weight": self.adaptation_weight,
            "reference_through_adapter": self.reference_through_adapter,
            "reference_gradient": False,
            "normalisation": "batch, exact site moments, shared",
        }
