"""LoRA: the tower with factors beside one whose weights are written out, and what is covered in each kind of tower."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.factory import get_model_config
from torch import nn
from wardround.platform.adapters import load_state, state_of, trained_tensors
from wardround.platform.backbone import load_backbone
from wardround.platform.errors import MethodError
from wardround.platform.methods.clip_inputs import CHUNK, clip_inputs
from wardround.platform.methods.lora import Lora
from wardround.platform.methods.low_rank import LowRankTower, projections, tower_of
from wardround.platform.methods.method import Method, SharedInputs

from .tiny_clips import (
    NAMES,
    TEXT,
    VIT,
    Before,
    inputs_of,
    pictures,
    shaken,
    shared_of,
    slow_cross_entropy,
    slow_image_features,
    step_of,
    tiny_clip,
    train_once,
)

BLOCK = {"attn.in_proj_weight": 3, "attn.out_proj.weight": 1, "mlp.c_fc.weight": 1, "mlp.c_proj.weight": 1}


def slow_tower(module: LowRankTower, tower: nn.Module, factor: float) -> nn.Module:
    """A copy of the tower with W + factor * B A written into it entry by entry, projection by projection."""
    made = copy.deepcopy(tower)
    for key, pair in module.lora.items():
        name = key.replace("/", ".")
        weight = tower.get_parameter(name).numpy().copy()
        down, up = (pair.get_parameter(side).detach().numpy() for side in ("down", "up"))
        flat = weight.reshape(weight.shape[0], -1)
        height = len(flat) // len(down)
        for row in range(len(flat)):
            for column in range(flat.shape[1]):
                part = row // height
                terms = (up[part, row % height, r] * down[part, r, column] for r in range(down.shape[1]))
                flat[row, column] += factor * sum(terms)
        with torch.no_grad():
            made.get_parameter(name).copy_(torch.from_numpy(weight))
    return made


@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_loss_and_logits_equal_explicit_weights(tower: str) -> None:
    shared = shared_of(tiny_clip(tower))
    assert shared.clip is not None
    method = Lora(rank=2, alpha=3.0)
    module = method.new_module(shared, seed=0)
    shaken(module, by=0.2)
    changed: Any = copy.deepcopy(shared.clip.model)
    changed.visual = slow_tower(module, changed.visual, 1.5)
    step = step_of(pictures(5))
    features = slow_image_features(changed, step.batch.inputs)
    assert np.abs(features - slow_image_features(shared.clip.model, step.batch.inputs)).max() > 1e-3
    expected = shared.scale * features @ shared.text.numpy().T
    found = method.logits(module, step.batch.inputs, shared)
    assert found.dtype == torch.float64
    assert np.abs(found.numpy() - expected).max() < 1e-9
    loss = method.loss(module, step, shared)
    assert float(loss.detach()) == pytest.approx(slow_cross_entropy(expected, step.batch.labels), abs=1e-9)


def test_one_layer_is_the_formula_of_the_paper() -> None:
    tower = nn.Sequential(nn.Linear(5, 7)).double().requires_grad_(False)
    module = LowRankTower(tower, rank=2, alpha=6.0, seed=0)
    shaken(module)
    pair, x = module.lora["0/weight"], torch.randn((4, 5), generator=torch.Generator().manual_seed(0)).double()
    low = x @ pair.get_parameter("down")[0].T @ pair.get_parameter("up")[0].T
    expected = tower(x) + 6.0 / 2 * low
    assert torch.allclose(module.merged(tower)(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_merged_gives_equal_outputs(tower: str) -> None:
    shared = shared_of(tiny_clip(tower))
    assert shared.clip is not None
    frozen = Before.of(shared.clip.model)
    method = Lora()
    module = method.new_module(shared, seed=0)
    shaken(module)
    merged = module.merged(tower_of(shared.clip))
    images = merged(shared.clip.normalise(pictures(4)).double())
    images = images / images.norm(dim=1, keepdim=True)
    expected = method.logits(module, pictures(4), shared)
    assert torch.allclose(shared.scale * images @ shared.text.T, expected, rtol=0, atol=1e-9)
    assert not any(parameter.requires_grad for parameter in merged.parameters())
    assert frozen.unlike(shared.clip.model) == set()


@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_before_training_it_is_the_frozen_clip(tower: str) -> None:
    shared = shared_of(tiny_clip(tower))
    assert shared.clip is not None
    model: Any = shared.clip.model
    module = Lora().new_module(shared, seed=5)
    weights = module.weights(tower_of(shared.clip))
    assert all(torch.equal(weight, model.visual.get_parameter(name)) for name, weight in weights.items())
    images = model.encode_image(shared.clip.normalise(pictures(3)).double(), normalize=True)
    expected = shared.scale * images @ shared.text.T
    assert torch.allclose(Lora().logits(module, pictures(3), shared), expected, rtol=0, atol=1e-9)


def test_what_is_covered_in_a_vit_and_in_a_resnet() -> None:
    vit = {name: stacked for name, _, stacked in projections(tower_of(inputs_of(tiny_clip("vit"))))}
    assert vit == {f"transformer.resblocks.{k}.{name}": n for k in (0, 1) for name, n in BLOCK.items()}
    resnet = {name: weight for name, weight, _ in projections(tower_of(inputs_of(tiny_clip("resnet"))))}
    attention = {f"attnpool.{name}_proj.weight" for name in "kqvc"}
    blocks = {f"layer{k}.0.{name}.weight" for k in (1, 2, 3, 4) for name in ("conv1", "conv3", "downsample.0")}
    assert set(resnet) == attention | blocks
    assert all(weight.shape[2:] in ((), (1, 1)) for weight in resnet.values())


def test_what_is_covered_in_other_attentions() -> None:
    custom = open_clip.CLIP(embed_dim=32, vision_cfg={**VIT, "qk_norm": True}, text_cfg=TEXT)
    found = {name: stacked for name, _, stacked in projections(custom.visual)}
    assert found == {f"transformer.resblocks.{k}.{name}": n for k in (0, 1) for name, n in BLOCK.items()}
    pooled = {name: stacked for name, _, stacked in projections(nn.MultiheadAttention(8, 2, kdim=6, vdim=4))}
    assert pooled == {"q_proj_weight": 1, "k_proj_weight": 1, "v_proj_weight": 1, "out_proj.weight": 1}
    grouped = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 4, 3), nn.Embedding(3, 4), nn.BatchNorm1d(4))
    assert list(projections(grouped)) == []


def test_a_tower_of_timm() -> None:
    vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "token", "timm_proj": "linear", "image_size": 224}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.CLIP(embed_dim=32, vision_cfg=vision, text_cfg=TEXT).eval().requires_grad_(False).double()
    covered = {name: stacked for name, _, stacked in projections(model.visual)}
    assert covered["trunk.blocks.0.attn.qkv.weight"] == 3
    assert covered["trunk.blocks.11.mlp.fc2.weight"] == covered["head.proj.weight"] == 1
    assert len(covered) == 12 * 4 + 1
    shared, method = shared_of(model), Lora(rank=2)
    module = method.new_module(shared, seed=0)
    shaken(module)
    batch = pictures(1, size=224)
    assert shared.clip is not None
    images = module.merged(model.visual)(shared.clip.normalise(batch).double())
    expected = shared.scale * images / images.norm(dim=1, keepdim=True) @ shared.text.T
    assert torch.allclose(method.logits(module, batch, shared), expected, rtol=0, atol=1e-9)


def test_the_size_for_vit_b_32() -> None:
    config = {key: value for key, value in get_model_config("ViT-B-32").items() if key != "custom_text"}
    with torch.device("meta"):
        tower = open_clip.CLIP(**config).visual
    assert sum(parameter.numel() for parameter in tower.parameters()) == 87_849_216
    module = LowRankTower(tower, rank=4, alpha=8.0, seed=0)
    trained = trained_tensors(module)
    assert sum(tensor.numel() for tensor in trained.values()) == 663_552
    assert {name.split(".")[0] for name in trained} == {"lora"}


@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_a_step_moves_the_factors_and_nothing_else(tower: str) -> None:
    shared = shared_of(tiny_clip(tower))
    assert shared.clip is not None
    frozen = Before.of(shared.clip.model)
    method = Lora(rank=2)
    module = method.new_module(shared, seed=0)
    assert {name for name, _ in module.named_parameters()} == set(state_of(module))
    assert [name for name, _ in module.named_children()] == ["lora"]
    shaken(module, by=0.01)  # with B = 0 no gradient reaches A
    start = Before.of(module)
    step = step_of(pictures(6))
    losses = [float(train_once(method, module, step, shared, lr=1e-4)) for _ in range(4)]
    assert losses[-1] < losses[0]
    assert start.unlike(module) == set(state_of(module))
    assert frozen.unlike(shared.clip.model) == set()
    assert not any(p.requires_grad or p.grad is not None for p in shared.clip.model.parameters())


@pytest.mark.parametrize("width", [512, 640, 768, 1024])
def test_every_width_of_feature(width: int) -> None:
    shared = shared_of(tiny_clip("resnet", width=width))
    method = Lora()
    module = method.new_module(shared, seed=0)
    assert torch.isfinite(train_once(method, module, step_of(pictures(3)), shared))
    assert method.logits(module, pictures(3), shared).shape == (3, len(NAMES))


def test_chunks_change_nothing_and_no_picture_gives_no_row() -> None:
    shared = shared_of(tiny_clip())
    module = Lora().new_module(shared, seed=0)
    batch = pictures(CHUNK + 2)
    whole = Lora().logits(module, batch, shared)
    assert torch.allclose(Lora().logits(module, batch[-3:], shared), whole[-3:], rtol=0, atol=1e-9)
    assert Lora().logits(module, batch[:0], shared).shape == (0, len(NAMES))


def test_start_values_depend_on_the_seed_alone() -> None:
    shared = shared_of(tiny_clip())
    first, again, other = (Lora().new_module(shared, seed=seed) for seed in (1, 1, 2))
    assert Before.of(first).unlike(again) == set()
    assert Before.of(first).unlike(other) == {name for name in state_of(first) if name.endswith("down")}
    shaken(other)
    load_state(first, state_of(other))
    assert Before.of(first).unlike(other) == set()


def test_a_rank_above_a_weights_smaller_side_is_that_side() -> None:
    tower = nn.Sequential(nn.Linear(3, 50), nn.Linear(50, 40)).requires_grad_(False)
    module = LowRankTower(tower, rank=16, alpha=16.0, seed=0)
    assert module.lora["0/weight"].get_parameter("down").shape == (1, 3, 3)
    assert module.lora["1/weight"].get_parameter("up").shape == (1, 40, 16)


def test_what_the_method_says_of_itself() -> None:
    method: Method = Lora()
    assert (method.name, method.consumes, method.exchange) == ("lora", "pixels", "federated")
    assert (method.weighting, method.lr, method.local, method.anchors) == ("weighted", 1e-3, (), False)
    assert (method.options()["rank"], method.options()["alpha"]) == (4, 8.0)


@pytest.mark.parametrize("options", [{"rank": 0}, {"rank": 257}, {"alpha": 0.0}, {"alpha": 1e4}, {"lr": -1.0}])
def test_an_option_out_of_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(MethodError, match=f"{next(iter(options))} = "):
        Lora(**options)


def test_without_the_clip_or_without_a_layer_to_adapt_it_is_refused() -> None:
    with pytest.raises(MethodError, match="lora"):
        Lora().new_module(SharedInputs(torch.eye(3), 10.0, torch.zeros((0, 3))), seed=0)
    model: Any = tiny_clip()
    shared = shared_of(model)
    model.visual = nn.Conv2d(3, 4, 3)
    with pytest.raises(MethodError, match="no linear layer"):
        Lora().new_module(shared, seed=0)


def test_the_embedded_model() -> None:
    backbone = load_backbone(device="cpu")
    classes = [["a glioma"], ["a healthy brain"], ["a meningioma"]]
    text = torch.from_numpy(backbone.encode_prompts(classes))
    inputs = clip_inputs(backbone, classes, ["Glioma", "No tumour", "Meningioma"])
    shared = SharedInputs(text, backbone.logit_scale, torch.zeros((0, 512)), clip=inputs)
    frozen = Before.of(backbone.model)
    method = Lora()
    module = method.new_module(shared, seed=0)
    covered = [name for name, _, _ in projections(tower_of(inputs))]
    assert "project.weight" in covered
    assert sum("conv1" in name or "conv3" in name for name in covered) == 2 * 8
    batch = pictures(6, size=128)
    expected = backbone.logit_scale * backbone.encode_images(batch.numpy()).astype(np.float64) @ text.double().numpy().T
    assert np.abs(method.logits(module, batch, shared).numpy() - expected).max() < 1e-3
    losses = [float(train_once(method, module, step_of(batch), shared, lr=1e-4)) for _ in range(3)]
    assert losses[-1] < losses[0]
    assert frozen.unlike(backbone.model) == set()
