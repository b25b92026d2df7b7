"""The trainable copy of CLIP: equal to the frozen one before training, and to formulas written out after it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.factory import get_model_config
from torch import nn
from wardround.platform.adapters import state_of
from wardround.platform.backbone import load_backbone
from wardround.platform.errors import MethodError
from wardround.platform.methods.clip_inputs import CHUNK, clip_inputs
from wardround.platform.methods.fedavg import Fedavg
from wardround.platform.methods.method import ClipInputs, SharedInputs
from wardround.platform.methods.whole_clip import WholeClip, class_prompt_loss, whole_clip_logits

from .tiny_clips import (
    NAMES,
    Before,
    inputs_of,
    pictures,
    shaken,
    shared_of,
    slow_cross_entropy,
    slow_logits,
    step_of,
    tiny_bert_clip,
    tiny_clip,
)


@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_logits_and_loss_are_those_of_the_formula(tower: str) -> None:
    shared = shared_of(tiny_clip(tower))
    assert shared.clip is not None
    module = WholeClip(shared.clip)
    shaken(module)
    batch = pictures(5)
    expected = slow_logits(module.clip, batch)
    found = whole_clip_logits(module, batch, shared, "m")
    assert found.dtype == torch.float64
    assert np.abs(found.numpy() - expected).max() < 1e-9
    step = step_of(batch)
    loss, features = class_prompt_loss(module.train(), step, shared, "m")
    assert float(loss.detach()) == pytest.approx(slow_cross_entropy(expected, step.batch.labels), abs=1e-9)
    assert features.shape == (5, 32)


@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_before_training_it_is_the_frozen_clip(tower: str) -> None:
    shared = shared_of(tiny_clip(tower))
    assert shared.clip is not None
    module = WholeClip(shared.clip)
    frozen: Any = shared.clip.model
    images = frozen.encode_image(shared.clip.normalise(pictures(4)).double(), normalize=True)
    expected = shared.scale * images @ shared.text.T
    assert torch.allclose(whole_clip_logits(module, pictures(4), shared, "m"), expected, rtol=0, atol=1e-9)
    assert torch.equal(state_of(module)["clip.logit_scale"], frozen.logit_scale)


def test_chunks_change_nothing_and_no_picture_gives_no_row() -> None:
    shared = shared_of(tiny_clip())
    assert shared.clip is not None
    module = WholeClip(shared.clip)
    batch = pictures(CHUNK + 3)
    whole = whole_clip_logits(module, batch, shared, "m")
    assert whole.shape == (CHUNK + 3, len(NAMES))
    for at in (0, CHUNK - 1, CHUNK, CHUNK + 2):
        alone = whole_clip_logits(module, batch[at : at + 1], shared, "m")
        assert torch.allclose(alone, whole[at : at + 1], rtol=0, atol=1e-9)
    none = whole_clip_logits(module, batch[:0], shared, "m")
    assert none.shape == (0, len(NAMES))
    assert none.dtype == torch.float64


def test_every_weight_of_vit_b_32_is_sent_as_one_block() -> None:
    config = {key: value for key, value in get_model_config("ViT-B-32").items() if key != "custom_text"}
    with torch.device("meta"):
        model = open_clip.CLIP(**config).requires_grad_(False)
    tokens = torch.zeros((2, 77), dtype=torch.int64, device="meta")
    inputs = ClipInputs(model, lambda batch: batch.float().permute(0, 3, 1, 2), tokens, tokens[:, 0], tokens)
    module = WholeClip(inputs)
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trained.values()) == 151_277_313
    assert {name.split(".")[0] for name in trained} == {"clip"}
    assert len(list(module.children())) == 1


@pytest.mark.parametrize("mode", [True, False])
def test_the_backbones_batch_norm_keeps_its_statistics(mode: bool) -> None:
    shared = shared_of(tiny_clip("resnet"))
    assert shared.clip is not None
    module = WholeClip(shared.clip).train(mode)
    assert module.training is mode
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms
    assert not any(layer.training for layer in norms)
    before = Before.of(module)
    loss, _ = class_prompt_loss(module, step_of(pictures(4)), shared, "m")
    loss.backward()  # type: ignore[no-untyped-call]
    assert before.unlike(module) == set()
    assert all(layer.weight.grad is not None and layer.bias.grad is not None for layer in norms)
    assert not any("running" in name for name in state_of(module))


def test_dropout_is_off_while_it_is_trained() -> None:
    model: Any = tiny_clip()
    model.visual.patch_dropout = nn.Dropout(0.5)
    shared = shared_of(model)
    assert shared.clip is not None
    module = WholeClip(shared.clip).train()
    first, second = (class_prompt_loss(module, step_of(pictures(3)), shared, "m")[0] for _ in range(2))
    assert torch.equal(first, second)


def test_parameters_that_no_output_depends_on_are_not_trained() -> None:
    model: Any = tiny_clip()
    model.logit_bias = nn.Parameter(torch.zeros(()).double(), requires_grad=False)
    model.visual.spare = nn.Linear(3, 3).double().requires_grad_(False)
    shared = shared_of(model)
    assert shared.clip is not None
    module = WholeClip(shared.clip)
    idle = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    assert idle == {"clip.logit_bias", "clip.visual.spare.weight", "clip.visual.spare.bias"}
    loss, _ = class_prompt_loss(module, step_of(pictures(3)), shared, "m")
    loss.backward()  # type: ignore[no-untyped-call]
    reached = {name for name, parameter in module.named_parameters() if parameter.grad is not None}
    assert reached == set(state_of(module)) == {name for name, _ in module.named_parameters()} - idle


def test_a_text_tower_of_the_transformers_library() -> None:
    shared = shared_of(tiny_bert_clip())
    assert shared.clip is not None
    module = WholeClip(shared.clip).train()
    first, second = (class_prompt_loss(module, step_of(pictures(3)), shared, "m")[0] for _ in range(2))
    assert torch.equal(first, second)  # BERT's dropout is off
    first.backward()  # type: ignore[no-untyped-call]
    reached = {name for name, parameter in module.named_parameters() if parameter.grad is not None}
    assert reached == set(state_of(module))
    assert any("text.transformer.encoder" in name for name in reached)


@pytest.mark.parametrize("tower", ["vit", "resnet"])
@pytest.mark.parametrize("width", [512, 640, 768, 1024])
def test_every_width_of_feature(tower: str, width: int) -> None:
    shared = shared_of(tiny_clip(tower, width=width))
    assert shared.clip is not None
    module = WholeClip(shared.clip)
    loss, features = class_prompt_loss(module, step_of(pictures(3)), shared, "m")
    loss.backward()  # type: ignore[no-untyped-call]
    assert features.shape == (3, width)
    assert all(p.grad is not None for p in module.parameters() if p.requires_grad)
    assert whole_clip_logits(module, pictures(3), shared, "m").shape == (3, len(NAMES))


def test_a_copy_is_a_module_of_its_own() -> None:
    inputs = inputs_of(tiny_clip())
    module = WholeClip(inputs)
    other = copy.deepcopy(module)
    shaken(other)
    assert Before.of(module).unlike(other) == set(state_of(module))
    assert Before.of(inputs.model).unlike(module.clip) == set()


def test_features_in_the_place_of_pictures_are_refused() -> None:
    shared = shared_of(tiny_clip())
    assert shared.clip is not None
    with pytest.raises(MethodError, match="no uint8"):
        whole_clip_logits(WholeClip(shared.clip), torch.zeros((3, 32)), shared, "m")


def test_without_the_clip_it_is_refused() -> None:
    shared = SharedInputs(torch.eye(3), 10.0, torch.zeros((0, 3)))
    with pytest.raises(MethodError, match="fedavg"):
        Fedavg().new_module(shared, seed=0)


def test_the_embedded_model() -> None:
    backbone = load_backbone(device="cpu")
    classes = [["a brain with a glioma", "a glioma"], ["a healthy brain"], ["a meningioma"]]
    inputs = clip_inputs(backbone, classes, ["Glioma", "No tumour", "Meningioma"])
    text = torch.from_numpy(backbone.encode_prompts(classes))
    shared = SharedInputs(text, backbone.logit_scale, torch.zeros((0, 512)), clip=inputs)
    before = Before.of(backbone.model)
    module = WholeClip(inputs).train()
    batch = pictures(4, size=128)
    expected = backbone.logit_scale * backbone.encode_images(batch.numpy()).astype(np.float64) @ text.double().numpy().T
    assert np.abs(whole_clip_logits(module, batch, shared, "m").numpy() - expected).max() < 1e-3
    started = Before.of(module)
    loss, _ = class_prompt_loss(module, step_of(batch), shared, "m")
    loss.backward()  # type: ignore[no-untyped-call]
    assert started.unlike(module) == set()  # among them BatchNorm1d's and BatchNorm2d's statistics
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert before.unlike(backbone.model) == set()
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
