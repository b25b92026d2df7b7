"""PromptFL: the learned words beside a text tower written out in numpy, and beside real words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import erf
from torch import nn
from wardround.platform.adapters import load_state, state_of
from wardround.platform.backbone import load_backbone
from wardround.platform.errors import MethodError
from wardround.platform.methods.clip_inputs import clip_inputs
from wardround.platform.methods.method import Method, SharedInputs
from wardround.platform.methods.prompt_context import PromptContext
from wardround.platform.methods.prompt_fl import PromptFl

from .tiny_clips import (
    END,
    LENGTH,
    NAMES,
    START,
    TEXT,
    VIT,
    Before,
    inputs_of,
    shaken,
    shared_of,
    slow_cross_entropy,
    step_of,
    tiny_bert_clip,
    tiny_clip,
    tokens_of,
    train_once,
    unit,
)

Array = NDArray[np.float64]


def features(count: int, width: int = 32) -> torch.Tensor:
    drawn = np.random.default_rng(6).normal(size=(count, width))
    return torch.from_numpy(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    mean, variance = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
    result: Array = (x - mean) / np.sqrt(variance + 1e-5) * weight + bias
    return result


def slow_text_feature(model: nn.Module, vectors: Array, name: list[int]) -> Array:
    """[start] vectors [name] [end] through CLIP's text tower, position by position and head by head."""
    p = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    words = p["token_embedding.weight"]
    x = np.concatenate([words[[START]], vectors, words[name], words[[END]]])
    count, width, heads = len(x), x.shape[1], TEXT["heads"]
    x = x + p["positional_embedding"][:count]
    for layer in range(2):
        b = {
            key.split(f"resblocks.{layer}.")[1]: v
            for key, v in p.items()
            if key.startswith(f"transformer.resblocks.{layer}.")
        }
        h = layer_norm(x, b["ln_1.weight"], b["ln_1.bias"])
        q, k, v = np.split(h @ b["attn.in_proj_weight"].T + b["attn.in_proj_bias"], 3, axis=1)
        mixed = np.zeros_like(x)
        size = width // heads
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            for i in range(count):
                weights = np.exp([float(q[i, own] @ k[j, own]) / math.sqrt(size) for j in range(i + 1)])
                mixed[i, own] = (weights / weights.sum()) @ v[: i + 1, own]
        x = x + mixed @ b["attn.out_proj.weight"].T + b["attn.out_proj.bias"]
        h = layer_norm(x, b["ln_2.weight"], b["ln_2.bias"]) @ b["mlp.c_fc.weight"].T + b["mlp.c_fc.bias"]
        x = x + (0.5 * h * (1 + erf(h / math.sqrt(2)))) @ b["mlp.c_proj.weight"].T + b["mlp.c_proj.bias"]
    feature = layer_norm(x[-1:], p["ln_final.weight"], p["ln_final.bias"])[0] @ p["text_projection"]
    result: Array = feature / np.linalg.norm(feature)
    return result


def slow_text(model: nn.Module, module: PromptContext) -> Array:
    vectors = module.vectors.detach().numpy()
    return np.stack([slow_text_feature(model, vectors, name) for name in NAMES])


@pytest.mark.parametrize("count", [1, 4, 10])
def test_text_loss_and_logits_equal_the_slow_formula(count: int) -> None:
    model = tiny_clip()
    shared, method = shared_of(model), PromptFl(context=count)
    assert shared.clip is not None
    module = method.new_module(shared, seed=0)
    shaken(module, by=0.5)
    text = slow_text(model, module)
    assert np.abs(module.text_features(shared.clip).detach().numpy() - text).max() < 1e-9
    step = step_of(features(7))
    expected = shared.scale * step.batch.inputs.numpy() @ text.T
    found = method.logits(module, step.batch.inputs, shared)
    assert found.dtype == torch.float64
    assert np.abs(found.numpy() - expected).max() < 1e-9
    loss = method.loss(module, step, shared)
    assert float(loss.detach()) == pytest.approx(slow_cross_entropy(expected, step.batch.labels), abs=1e-9)


def test_the_gradient_is_that_of_the_slow_formula() -> None:
    model = tiny_clip()
    shared, method = shared_of(model), PromptFl(context=3)
    module = method.new_module(shared, seed=0)
    step = step_of(features(5))
    method.loss(module, step, shared).backward()  # type: ignore[no-untyped-call]
    gradient = module.vectors.grad
    assert gradient is not None
    direction = np.random.default_rng(2).normal(size=tuple(gradient.shape))
    ends = []
    for sign in (1.0, -1.0):
        vectors = module.vectors.detach().numpy() + sign * 1e-6 * direction
        text = np.stack([slow_text_feature(model, vectors, name) for name in NAMES])
        logits = shared.scale * step.batch.inputs.numpy() @ text.T
        ends.append(slow_cross_entropy(logits, step.batch.labels))
    assert float((gradient.numpy() * direction).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "custom"),
    [({}, False), ({}, True), ({"no_causal_mask": True}, True), ({"pool_type": "eos", "eos_id": END}, True)],
)
def test_with_real_words_it_is_the_encoding_of_the_sentence(text: dict[str, Any], custom: bool) -> None:
    words = [3, 1, 5, 2]
    model: Any = tiny_clip()
    if custom:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = open_clip.CustomTextCLIP(embed_dim=32, vision_cfg=VIT, text_cfg={**TEXT, **text})
            model = model.double().eval().requires_grad_(False)
    inputs = inputs_of(model)
    module = PromptContext(inputs, count=4, init="random", seed=0)
    tower = model.text if custom else model
    load_state(module, {"context.vectors": tower.token_embedding.weight[words]})
    sentences = model.encode_text(tokens_of([[*words, *name] for name in NAMES]))
    if text.get("no_causal_mask"):
        # Such a tower also reads what lies after the end, where both have zeros.
        assert tower.attn_mask is None
    expected = np.stack([unit(row) for row in sentences])
    assert np.abs(module.text_features(inputs).detach().numpy() - expected).max() < 1e-9


def test_only_the_context_is_trained() -> None:
    model = tiny_clip()
    shared, method = shared_of(model), PromptFl(context=4)
    frozen = Before.of(model)
    module = method.new_module(shared, seed=0)
    assert {name: tuple(tensor.shape) for name, tensor in state_of(module).items()} == {"context.vectors": (4, 12)}
    assert [name for name, _ in module.named_children()] == ["context"]
    start = Before.of(module)
    losses = [float(train_once(method, module, step_of(features(6)), shared)) for _ in range(4)]
    assert losses[-1] < losses[0]
    assert start.unlike(module) == {"context.vectors"}
    assert frozen.unlike(model) == set()
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())


def test_the_random_start() -> None:
    shared = shared_of(tiny_clip(text={"width": 512, "heads": 1, "layers": 1}))
    first, again, other = (PromptFl(context=8).new_module(shared, seed=seed).vectors.detach() for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.std()) == pytest.approx(0.02, rel=0.05)
    assert abs(float(first.mean())) < 1e-3


@pytest.mark.parametrize(("count", "words"), [(1, [2]), (2, [1, 2]), (4, [1, 2])])
def test_the_start_from_words_that_prompts_begin_with_alike(count: int, words: list[int]) -> None:
    shared = shared_of(tiny_clip())
    assert shared.clip is not None
    embeddings = shared.clip.model.get_parameter("token_embedding.weight")
    vectors = PromptFl(context=count, init="text").new_module(shared, seed=0).vectors.detach()
    drawn = PromptFl(context=count).new_module(shared, seed=0).vectors.detach()
    assert torch.equal(vectors[count - len(words) :], embeddings[words])
    assert torch.equal(vectors[: count - len(words)], drawn[: count - len(words)])


def test_prompts_that_begin_unlike_have_no_words_to_start_from() -> None:
    shared = shared_of(tiny_clip())
    assert shared.clip is not None
    shared.clip.prompt_tokens[:, 1] = torch.arange(1, 1 + len(shared.clip.prompt_tokens))
    with pytest.raises(MethodError, match="random"):
        PromptFl(context=4, init="text").new_module(shared, seed=0)


def test_a_name_without_room_is_refused_by_its_number() -> None:
    shared = shared_of(tiny_clip())
    longest = LENGTH - 2 - max(map(len, NAMES))
    PromptFl(context=longest).new_module(shared, seed=0)
    with pytest.raises(MethodError, match=rf"{longest + 1} context vectors.*class number 1, 2 tokens long"):
        PromptFl(context=longest + 1).new_module(shared, seed=0)


def test_towers_of_other_libraries_and_kinds_are_refused() -> None:
    coca = open_clip.CustomTextCLIP(embed_dim=32, vision_cfg=VIT, text_cfg={**TEXT, "embed_cls": True})
    siglip = open_clip.CustomTextCLIP(embed_dim=32, vision_cfg=VIT, text_cfg={**TEXT, "pool_type": "last"})
    for model in (tiny_bert_clip(), coca, siglip):
        with pytest.raises(MethodError, match="ViT-B-32"):
            PromptContext(inputs_of(model), count=4, init="random", seed=0)


@pytest.mark.parametrize("width", [512, 640, 768, 1024])
def test_every_width_of_feature(width: int) -> None:
    shared = shared_of(tiny_clip(width=width))
    method = PromptFl(context=4)
    module = method.new_module(shared, seed=0)
    assert torch.isfinite(train_once(method, module, step_of(features(5, width)), shared))
    assert method.logits(module, features(5, width), shared).shape == (5, len(NAMES))
    assert method.logits(module, features(5, width)[:0], shared).shape == (0, len(NAMES))


def test_what_the_method_says_of_itself() -> None:
    method: Method = PromptFl()
    assert (method.name, method.consumes, method.exchange) == ("prompt-fl", "features", "federated")
    assert (method.weighting, method.lr, method.local, method.anchors) == ("weighted", 2e-3, (), False)
    assert (method.options()["context"], method.options()["init"]) == (16, "random")


@pytest.mark.parametrize("options", [{"context": 0}, {"context": 65}, {"init": "zeros"}, {"lr": 2.0}])
def test_an_option_out_of_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(MethodError, match=f"{next(iter(options))} = "):
        PromptFl(**options)


def test_without_the_clip_it_is_refused() -> None:
    with pytest.raises(MethodError, match="prompt-fl"):
        PromptFl().new_module(SharedInputs(torch.eye(3), 10.0, torch.zeros((0, 3))), seed=0)


def test_the_embedded_model() -> None:
    backbone = load_backbone(device="cpu")
    names = ["glioma", "no tumour", "meningioma"]
    classes = [[f"a photo of a {name}"] for name in names]
    text = torch.from_numpy(backbone.encode_prompts(classes))
    shared = SharedInputs(text, backbone.logit_scale, torch.zeros((0, 512)), clip=clip_inputs(backbone, classes, names))
    assert shared.clip is not None
    frozen = Before.of(backbone.model)
    words = int((shared.clip.prompt_tokens[0] > 0).sum() - (shared.clip.name_tokens[0] > 0).sum())
    written = PromptFl(context=words, init="text").new_module(shared, seed=0)
    assert torch.allclose(written.text_features(shared.clip), text, rtol=0, atol=1e-5)
    method = PromptFl()
    module = method.new_module(shared, seed=0)
    batch = features(9, 512).float()
    losses = [float(train_once(method, module, step_of(batch), shared)) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert frozen.unlike(backbone.model) == set()
