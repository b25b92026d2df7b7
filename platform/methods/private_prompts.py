"""PromptFL under differential privacy: through the shared Jacobian of the text tower.

The tower runs once a class, so hooks on its layers see classes and not images: clipping there would be void. An
image's loss depends on the context vectors v through the K class features T alone, so its gradient is J' dL_i/dT with
one Jacobian J = dT/dv for all images. dL_i/dT is exact and small, (K, D); the product is one batched backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...privacy.differential_privacy.clipping import ClippedSum
from ...privacy.differential_privacy.materialised import clip_materialised
from .clip_inputs import required_clip
from .method import SharedInputs, TrainingPart
from .private import Alignment, NothingPublic, names_under
from .prompt_fl import PromptFl, context_of


@dataclass(frozen=True, slots=True)
class PromptsByJacobian(NothingPublic):
    """Cross-entropy of each image with the learned prompts."""

    independent: ClassVar[bool] = False  # each image's gradient is made on its own, row by row

    def noised(self, module: nn.Module) -> frozenset[str]:
        """The context vectors."""
        return names_under(module, ("context.",))

    def losses(
        self, module: nn.Module, batch: TrainingPart, shared: SharedInputs, alignment: Alignment | None, expected: int
    ) -> Tensor:
        """(R,) cross-entropy."""
        text = context_of(module).text_features(required_clip(shared, PromptFl.name)).to(batch.inputs)
        logits = shared.scale * batch.inputs @ text.T
        return nn.functional.cross_entropy(logits, batch.labels, reduction="none")

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
        """Each unit's gradient of M x width numbers is made whole, then clipped."""
        context = context_of(module)
        vectors = context.vectors
        name = next(iter(self.noised(module)))
        if len(batch.labels) == 0:
            return ClippedSum({name: torch.zeros_like(vectors)}, 0)
        text = context.text_features(required_clip(shared, PromptFl.name)).to(batch.inputs)
        with torch.no_grad():
            pulls = (shared.scale * batch.inputs @ text.T).softmax(dim=1)
            pulls[torch.arange(len(batch.labels)), batch.labels] -= 1.0  # d cross-entropy / d logits, (R, K)
            outer = shared.scale * pulls[:, :, None] * batch.inputs[:, None, :]  # (R, K, D)
            count = units if owners is not None else len(batch.labels)
            index = owners if owners is not None else torch.arange(count)
            by_unit = torch.zeros((count, *outer.shape[1:]), dtype=outer.dtype).index_add_(0, index, outer)
        (gradients,) = torch.autograd.grad(text, vectors, grad_outputs=by_unit, is_grads_batched=True)
        return clip_materialised({name: gradients}, clip)
