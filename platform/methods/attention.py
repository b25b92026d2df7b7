"""The attention adapter of FACMIC and FAA-CLIP as a module, and what their model cards say of it."""

from __future__ import annotations

from typing import Literal, Protocol

from torch import nn

from ..adapters import AttentionAdapter, Normalisation
from .adapted_clip import AdaptedClip, Loss
from .method import SharedInputs


class AttentionOptions(Protocol):
    """The options that both methods have."""

    @property
    def loss_kind(self) -> Loss:
        """``class-prompt`` or ``in-batch``."""

    @property
    def text_adapter(self) -> bool:
        """Adapt the class prompts too."""

    @property
    def depth(self) -> Literal[5, 8]:
        """Modules of the adapter."""

    @property
    def normalisation(self) -> Normalisation:
        """Shared BatchNorm, local BatchNorm, or LayerNorm."""

    @property
    def reference_through_adapter(self) -> bool:
        """Whether reference features pass the adapter."""

    @property
    def rescale_adaptation(self) -> bool:
        """Whether small batches weigh adaptation less."""


def attention_module(
    options: AttentionOptions, shared: SharedInputs, seed: int, *, head: bool, domain: nn.Module | None = None
) -> AdaptedClip:
    """The published adapter on the image side, and what the options add; D is the width of ``shared.text``."""
    width = shared.text.shape[1]

    def adapter(number: int) -> AttentionAdapter:
        return AttentionAdapter(width, seed=number, depth=options.depth, normalisation=options.normalisation)

    text = adapter(seed ^ 1) if options.text_adapter else None
    return AdaptedClip(adapter(seed), text_adapter=text, domain=domain, head=head)


def local_norms(normalisation: Normalisation) -> tuple[str, ...]:
    """Prefixes of what a site keeps of its adapter: all of its BatchNorm layers, parameters and statistics (FedBN).

    Source: Li et al. 2021, "FedBN", arXiv 2102.07623. The text side sees the same prompts everywhere and is shared.
    """
    return ("adapter.norm.", "adapter.norm_between.") if normalisation == "batch-local" else ()


def attention_options(options: AttentionOptions) -> dict[str, str | float | bool]:
    """The common part of both methods' model cards."""
    meaning = {
        "batch": "batch, exact site moments, shared",
        "batch-local": "batch, exact site moments, kept at the site",
        "layer": "layer",
    }
    return {
        "loss": options.loss_kind,
        "text_adapter": options.text_adapter,
        "depth": options.depth,
        "normalisation": meaning[options.normalisation],
        "reference_through_adapter": options.reference_through_adapter,
        "reference_gradient": False,
        "rescale_adaptation": options.rescale_adaptation,
    }
