"""What FedCLIP, FACMIC and FAA-CLIP have in common: an attention adapter on frozen features, and how it predicts."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..adapters import Adapter, class_logits, set_statistics, source_statistics_only
from ..errors import MethodError
from .method import SharedInputs, Step, class_cross_entropy

Loss = Literal["class-prompt", "in-batch"]
TRAINING_ONLY = ("domain.",)
"""Prefixes of tensors that no prediction needs."""
FULL_BATCH = 32  # the papers' batch size: smaller batches estimate a discrepancy with a larger bias


class AdaptedClip(nn.Module):
    """An adapter with what a study adds to it; every child is sent as a block of its own name.

    Args:
        adapter: on the image side.
        text_adapter: on the text side; None: prompts stay as they are.
        domain: a domain classifier; None without adversarial adaptation.
        head: whether a temperature is part of the model: ``log_temperature`` (1,), 0 at the start. It is no
            parameter of the training loss; :mod:`..calibration` fits it on held-out images.
    """

    def __init__(
        self,
        adapter: Adapter,
        *,
        text_adapter: Adapter | None = None,
        domain: nn.Module | None = None,
        head: bool = False,
    ) -> None:
        super().__init__()
        self.adapter = adapter
        self.text_adapter = text_adapter
        self.domain = domain
        self.log_temperature = nn.Parameter(torch.zeros(1)) if head else None

    def text(self, shared: SharedInputs) -> Tensor:
        """Class-prompt features, adapted where there is a text adapter: (K, D), unit-norm rows."""
        return shared.text if self.text_adapter is None else self.text_adapter.adapt(shared.text)

    def forward(self, features: Tensor) -> Tensor:
        """Adapted image features: (B, D) -> (B, D)."""
        return self.adapter.adapt(features)


def contrastive_loss(
    adapted: Tensor, labels: Tensor, text: Tensor, scale: float, kind: Loss, adjustment: Tensor | None = None
) -> Tensor:
    """Cross-entropy against every class's prompt, or CLIP's symmetric one against the texts of the batch.

    In the batch (FedCLIP, equations 5-7; Radford et al. 2021, figure 3) row i belongs to the text of its own class and
    to no other row, although rows of one class have one text: with K classes and B rows the loss cannot fall much under
    log(B / K).

    Args:
        adapted: (B, D), unit-norm rows. labels: (B,) int64. text: (K, D), unit-norm rows. scale: s.
        kind: ``class-prompt`` or ``in-batch``.
        adjustment: (K,) added to the logits of ``class-prompt``; see :class:`.method.Step`.
    """
    if kind == "class-prompt":
        return class_cross_entropy(class_logits(adapted, text, scale), labels, adjustment)
    logits = class_logits(adapted, text[labels], scale)
    targets = torch.arange(len(labels))
    return 0.5 * (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets))


def predicted_logits(module: nn.Module, inputs: Tensor, shared: SharedInputs) -> Tensor:
    """Class logits of an :class:`AdaptedClip` in evaluation mode: (n, D) float32 -> (n, K) float64."""
    own = clip_of(module)
    with source_statistics_only(own), torch.no_grad():
        cosine = own.adapter.adapt(inputs).double() @ own.text(shared).double().T
        scaled = shared.scale * cosine
        return scaled if own.log_temperature is None else scaled / own.log_temperature.double().exp()


def adapted_reference(module: AdaptedClip, shared: SharedInputs, step: Step) -> tuple[Tensor, Tensor] | None:
    """Adapted reference rows of a step and their class probabilities, both constants; None without a reference set.

    The reference is a target to align to, so no gradient flows through it: with one, the adapter can lower a
    discrepancy by making every feature alike (docs/decisions/0005). Its rows pass with the site's own statistics.

    Returns:
        (M, D) adapted features and (M, K) probabilities: the adapter's own, or one-hot where labels are known.
    """
    if len(step.reference_rows) == 0:
        return None
    rows = shared.reference[step.reference_rows]
    with source_statistics_only(module), torch.no_grad():
        adapted = module.adapter.adapt(rows)
        text = module.text(shared)
    if shared.reference_labels is not None:
        known = F.one_hot(shared.reference_labels[step.reference_rows], text.shape[0])
        return adapted, known.to(adapted.dtype)
    return adapted, class_logits(adapted, text, shared.scale).softmax(dim=1)


def adaptation_factor(weight: float, rescale: bool, rows: int) -> float:
    """Weight of an adaptation loss for a batch of ``rows``: scaled by rows / 32 under 32 rows, where asked."""
    return weight * min(1.0, rows / FULL_BATCH) if rescale else weight


def refresh_statistics(module: nn.Module, inputs: Tensor, shared: SharedInputs) -> None:
    """Set the BatchNorm of both sides to the exact moments of ``inputs`` (n, D) and of the class prompts.

    Modules without an adapter are left as they are.
    """
    if isinstance(module, AdaptedClip):
        set_statistics(module.adapter, inputs)
        if module.text_adapter is not None:
            set_statistics(module.text_adapter, shared.text)


def clip_of(module: nn.Module) -> AdaptedClip:
    """The module as what it must be."""
    if not isinstance(module, AdaptedClip):
        raise TypeError(f"an AdaptedClip is needed, not {type(module).__name__}")
    return module


def check_range(name: str, key: str, value: float, low: float, high: float, remedy: str) -> None:
    """Refuse an option outside its range.

    Raises:
        MethodError: names method, option and value.
    """
    if not low <= value <= high:
        raise MethodError(f"{key} = {value:g} is not in [{low:g}, {high:g}]", where=name, remedy=remedy)
