"""Learned words for a text tower: vectors in the place of token embeddings, and the tower's pass around them.

CoOp (Zhou et al. 2022, arXiv 2109.01134), section 3.2.1: a class's prompt is [v_1] … [v_M] [class name], the vectors
shared by all classes, the tower frozen.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import MethodError
from .method import ClipInputs

Init = Literal["random", "text"]
SPREAD = 0.02  # standard deviation of a random start, as CoOp's and as of CLIP's token embeddings


class PromptContext(nn.Module):
    """The context vectors; their one child ``context`` is the block that is sent.

    Args:
        inputs: the frozen CLIP; it is no part of the module.
        count: M >= 1.
        init: ``random``, or ``text``: the words that the classes' first prompts begin with alike, such as "a photo of
            a", right before the class name. Where they are fewer than M, the vectors before them are random; where
            they are more, their last M are taken.
        seed: of the random vectors; every site draws the same.

    Raises:
        MethodError: the text tower is of another kind, a class name leaves no room for M vectors, or ``text`` where
            the classes' first prompts do not begin alike.
    """

    def __init__(self, inputs: ClipInputs, *, count: int, init: Init, seed: int) -> None:
        super().__init__()
        tower = text_tower(inputs.model)
        embeddings: Tensor = tower.token_embedding.weight
        _check_room(_ends(tower, inputs.name_tokens), inputs.name_tokens.shape[1], count)
        generator = torch.Generator().manual_seed(seed)
        vectors = torch.randn((count, embeddings.shape[1]), generator=generator).to(embeddings) * SPREAD
        if init == "text":
            words = _common_start(inputs, _ends(tower, inputs.prompt_tokens))[-count:]
            vectors[count - len(words) :] = embeddings[words].detach()
        self.context = nn.Module()
        self.context.vectors = nn.Parameter(vectors)

    @property
    def vectors(self) -> Tensor:
        """(M, width of the text tower) float."""
        return self.context.get_parameter("vectors")

    def text_features(self, inputs: ClipInputs) -> Tensor:
        """Features of [start] v_1 … v_M [class name] [end]: (K, D) float, unit-norm rows."""
        tower, names = text_tower(inputs.model), inputs.name_tokens
        vectors = self.vectors
        count, ends = len(vectors), _ends(tower, names) + len(vectors)
        embedded = tower.token_embedding(names)
        shared = vectors.expand(len(names), -1, -1)
        words = torch.cat([embedded[:, :1], shared, embedded[:, 1 : names.shape[1] - count]], dim=1)
        mask = tower.attn_mask
        if mask is not None:
            # No token sees what comes after it, so what comes after the longest prompt need not be computed.
            words = words[:, : int(ends.max()) + 1]
            mask = mask[: words.shape[1], : words.shape[1]]
        hidden = tower.transformer(words + tower.positional_embedding[: words.shape[1]], attn_mask=mask)
        pooled = tower.ln_final(hidden)[torch.arange(len(names), device=hidden.device), ends]
        projection = tower.text_projection
        if projection is not None:
            pooled = projection(pooled) if isinstance(projection, nn.Module) else pooled @ projection
        return F.normalize(pooled, dim=1)


def text_tower(model: nn.Module) -> Any:
    """The part of an open_clip model that has the text tower's layers.

    Raises:
        MethodError: the tower comes from another library, has a class token, or reads its feature elsewhere than at
            the end token.
    """
    tower: Any = getattr(model, "text", model)
    layers = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection", "attn_mask")
    whole = all(hasattr(tower, layer) for layer in layers)
    plain = getattr(tower, "cls_emb", None) is None and not getattr(tower, "use_pad_mask", False)
    if not whole or not plain or _pooling(tower) not in ("argmax", "eos"):
        raise MethodError(
            f"the text tower {type(tower).__name__} cannot take learned words",
            where="prompt-fl",
            remedy="Use a backbone whose text tower is CLIP's own, such as the embedded one, ViT-B-32, ViT-B-16, "
            "ViT-L-14 or RN50; towers of the transformers library (BiomedCLIP's), CoCa's and SigLIP's are not such",
        )
    return tower


def _ends(tower: Any, tokens: Tensor) -> Tensor:
    """(K,) place of each row's end token, where the tower reads its feature."""
    if _pooling(tower) == "eos":
        end: int = tower.text_eos_id if hasattr(tower, "text_eos_id") else tower.eos_id
        return torch.eq(tokens, end).int().argmax(dim=1)
    return tokens.argmax(dim=1)


def _pooling(tower: Any) -> Any:
    """Where the tower reads its feature, by open_clip's name; None where it does not say."""
    return getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))


def _check_room(ends: Tensor, length: int, count: int) -> None:
    for number, end in enumerate(ends.tolist()):
        if end + count >= length:
            raise MethodError(
                f"{count} context vectors and the name of class number {number}, {end - 1} tokens long, do not fit "
                f"into the {length} tokens of the text tower, two of which mark start and end",
                where=f"prompt-fl, class number {number}",
                remedy="Lower prompt_fl.context, or shorten the class's clinical name",
            )


def _common_start(inputs: ClipInputs, ends: Tensor) -> Tensor:
    """Tokens that the first prompts of all classes begin with alike, the start token left out."""
    classes = inputs.prompt_classes.tolist()
    firsts = [classes.index(number) for number in range(len(inputs.name_tokens))]
    rows = inputs.prompt_tokens[firsts]
    equal = (rows == rows[0]).all(dim=0)
    alike = int(equal.int().cumprod(dim=0).sum())
    words = rows[0, 1 : min(alike, int(ends[firsts].min()))]
    if len(words) == 0:
        raise MethodError(
            "the classes' first prompts do not begin with the same word",
            where="prompt-fl",
            remedy='Start from noise: prompt_fl.init = "random"; or begin every class\'s first prompt alike',
        )
    return words
