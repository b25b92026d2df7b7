"""Both towers of CLIP, trained and sent whole: what FedAvg, FedProx and MOON have in common."""

from __future__ import annotations

import copy
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..adapters import class_logits
from .clip_inputs import in_chunks, pixels_of, required_clip, unit_features
from .method import ClipInputs, SharedInputs, Step, class_cross_entropy


class WholeClip(nn.Module):
    """A trainable copy of the frozen CLIP; its one child ``clip`` is the block that is sent.

    For ViT-B/32 that are 151,277,313 floats. The copy stays in eval mode while it is trained: BatchNorm layers of the
    backbone normalise with their pretrained statistics, of which a site's few pictures would make something else, and
    only their scale and shift are trained; nothing is dropped out. Parameters that no output depends on, such as a
    pooling layer that is not called, or the bias of SigLIP's sigmoid loss, are not trained and not sent.

    Args:
        inputs: whose model is copied; it stays as it is.
    """

    def __init__(self, inputs: ClipInputs) -> None:
        super().__init__()
        self.clip: Any = copy.deepcopy(inputs.model).eval()
        for parameter in self.clip.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        reached = _reached(self._probe(inputs))
        for parameter in self.clip.parameters():
            parameter.requires_grad_(id(parameter) in reached)

    def train(self, mode: bool = True) -> Self:
        """As every module's, but the copy of CLIP stays in eval mode."""
        super().train(mode)
        self.clip.eval()
        return self

    def scale(self) -> Tensor:
        """The copy's logit scale s, exponential applied; a scalar."""
        return self.clip.logit_scale.exp().reshape(())  # type: ignore[no-any-return]

    def image_features(self, pictures: Tensor, inputs: ClipInputs) -> Tensor:
        """uint8 (n, H, W, 3) pictures -> (n, D) float, unit-norm rows."""
        return unit_features(self.clip.encode_image(pixels_of(pictures, inputs, self.clip.logit_scale)))

    def text_features(self, inputs: ClipInputs) -> Tensor:
        """Per class the mean of its prompts' unit-norm features, normalised again: (K, D) float."""
        prompts = unit_features(self.clip.encode_text(inputs.prompt_tokens))
        members = F.one_hot(inputs.prompt_classes).T.to(prompts)
        return F.normalize(members @ prompts / members.sum(dim=1, keepdim=True), dim=1)

    def _probe(self, inputs: ClipInputs) -> Tensor:
        """A number that depends on all that any prediction can depend on; its value means nothing."""
        size = self.clip.visual.image_size
        height, width = (size, size) if isinstance(size, int) else size
        black = torch.zeros((1, height, width, 3), dtype=torch.uint8)
        with torch.enable_grad():
            text = unit_features(self.clip.encode_text(inputs.prompt_tokens[:1]))
            return (self.scale() * self.image_features(black, inputs) @ text.T).sum()


def _reached(output: Tensor) -> frozenset[int]:
    """Identities of the leaves that a gradient of ``output`` would reach."""
    found: set[int] = set()
    seen: set[Any] = set()
    waiting: list[Any] = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [child for child, _ in node.next_functions]
    return frozenset(found)


def new_whole_clip(shared: SharedInputs, method: str) -> WholeClip:
    """A fresh copy of the study's CLIP; no seed is needed, because training starts from its weights.

    Raises:
        MethodError: the shared inputs come without the CLIP.
    """
    return WholeClip(required_clip(shared, method))


def whole_clip_of(module: nn.Module) -> WholeClip:
    """The module as what it must be."""
    if not isinstance(module, WholeClip):
        raise TypeError(f"a WholeClip is needed, not {type(module).__name__}")
    return module


def class_prompt_loss(module: nn.Module, step: Step, shared: SharedInputs, method: str) -> tuple[Tensor, Tensor]:
    """Cross-entropy of s I T' against the classes' prompts, both towers trained; and the image features (B, D)."""
    own, inputs = whole_clip_of(module), required_clip(shared, method)
    features = own.image_features(step.batch.inputs, inputs)
    logits = class_logits(features, own.text_features(inputs), own.scale())
    return class_cross_entropy(logits, step.batch.labels, step.adjustment), features


def whole_clip_logits(module: nn.Module, pictures: Tensor, shared: SharedInputs, method: str) -> Tensor:
    """Class logits, without gradient: uint8 (n, H, W, 3) -> (n, K) float64 on the CPU; n may be 0."""
    own, inputs = whole_clip_of(module), required_clip(shared, method)
    with torch.no_grad():
        text = own.text_features(inputs).double().cpu()
        images = in_chunks(lambda rows: own.image_features(rows, inputs).cpu(), pictures, text.shape[1])
        return class_logits(images, text, own.scale().double().cpu())
