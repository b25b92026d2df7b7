"""The frozen CLIP as methods take it: made from a backbone, demanded of a study, fed with pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..backbone import Backbone
from ..errors import MethodError
from .method import ClipInputs, SharedInputs

CHUNK = 64  # pictures that are encoded at once where no gradient is kept: bounds memory, not results


def clip_inputs(backbone: Backbone, prompts: Sequence[Sequence[str]], names: Sequence[str]) -> ClipInputs:
    """What a method that trains a copy or a part of CLIP needs of it.

    Args:
        backbone: the frozen model; it is referred to, not copied.
        prompts: K classes of at least one sentence each, in class order.
        names: the K classes' clinical names.

    Raises:
        MethodError: no class, a class without a prompt or with an empty one, or not as many names as classes.
    """
    if not prompts or len(prompts) != len(names):
        raise MethodError(
            f"{len(names)} class names and prompts for {len(prompts)} classes do not fit",
            where="class prompts",
            remedy="Give every class one clinical name and at least one prompt",
        )
    for name, sentences in zip(names, prompts, strict=True):
        if isinstance(sentences, str) or not sentences or not all(line.strip() for line in (*sentences, name)):
            raise MethodError(
                f"class '{name}' needs a name and a list of prompts, none of them empty",
                where="class prompts",
                remedy="Give every class one clinical name and at least one prompt",
            )
    counts = torch.tensor([len(sentences) for sentences in prompts])
    return ClipInputs(
        model=backbone.model,
        normalise=backbone.preprocessing.normalise,
        prompt_tokens=backbone.tokenize([line for sentences in prompts for line in sentences]).to(backbone.device),
        prompt_classes=torch.repeat_interleave(torch.arange(len(prompts)), counts).to(backbone.device),
        name_tokens=backbone.tokenize(names).to(backbone.device),
    )


def required_clip(shared: SharedInputs, method: str) -> ClipInputs:
    """The CLIP that ``method`` cannot do without.

    Raises:
        MethodError: the study's shared inputs come without it.
    """
    if shared.clip is None:
        raise MethodError(
            "the method needs the CLIP itself, and only features were given",
            where=method,
            remedy="Load the backbone with the study, or choose a method that trains on features alone",
        )
    return shared.clip


def pixels_of(pictures: Tensor, clip: ClipInputs, like: Tensor) -> Tensor:
    """uint8 (n, H, W, 3) pictures -> float (n, 3, H, W) as the image tower takes them, of ``like``'s type and place.

    Raises:
        MethodError: something else than uint8 pictures, e.g. cached features.
    """
    if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
        raise MethodError(
            f"{pictures.dtype} {tuple(pictures.shape)} are no uint8 (n, H, W, 3) pictures",
            where="training part",
            remedy="Give a method that consumes pixels the pictures and not their features",
        )
    return clip.normalise(pictures.to(like.device)).to(like)


def unit_features(raw: Tensor | tuple[Tensor, ...]) -> Tensor:
    """What a tower returns, as unit-norm rows; of a tower that returns its patches too, the pooled part."""
    return F.normalize(raw if isinstance(raw, Tensor) else raw[0], dim=1)


def in_chunks(encode: Callable[[Tensor], Tensor], rows: Tensor, width: int) -> Tensor:
    """``encode`` over at most :data:`CHUNK` rows at a time: (n, …) -> (n, width) float64; n may be 0."""
    parts: list[Any] = [encode(rows[at : at + CHUNK]).double() for at in range(0, len(rows), CHUNK)]
    return torch.cat(parts) if parts else torch.zeros((0, width), dtype=torch.float64)
