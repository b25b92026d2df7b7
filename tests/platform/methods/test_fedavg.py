"""FedAvg on the whole CLIP: its loss beside a slow one, and what a step changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from wardround.platform.adapters import state_of
from wardround.platform.backbone import load_backbone
from wardround.platform.errors import MethodError
from wardround.platform.methods.clip_inputs import clip_inputs
from wardround.platform.methods.fedavg import Fedavg
from wardround.platform.methods.method import Method, SharedInputs

from .tiny_clips import (
    NAMES,
    Before,
    pictures,
    shaken,
    shared_of,
    slow_cross_entropy,
    slow_logits,
    step_of,
    tiny_clip,
    train_once,
)


@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_loss_and_logits_equal_the_slow_formula(tower: str) -> None:
    shared = shared_of(tiny_clip(tower))
    method = Fedavg()
    module = method.new_module(shared, seed=0)
    shaken(module)
    step = step_of(pictures(5))
    expected = slow_logits(module.clip, step.batch.inputs)
    assert np.abs(method.logits(module, step.batch.inputs, shared).numpy() - expected).max() < 1e-9
    loss = method.loss(module, step, shared)
    assert float(loss.detach()) == pytest.approx(slow_cross_entropy(expected, step.batch.labels), abs=1e-9)


@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_a_step_moves_every_trained_tensor_and_nothing_else(tower: str) -> None:
    shared = shared_of(tiny_clip(tower))
    assert shared.clip is not None
    frozen = Before.of(shared.clip.model)
    method = Fedavg()
    module = method.new_module(shared, seed=0)
    before = Before.of(module)
    step = step_of(pictures(6))
    losses = [float(train_once(method, module, step, shared, lr=1e-4)) for _ in range(4)]
    assert losses[-1] < losses[0]
    assert before.unlike(module) == set(state_of(module)) == {name for name, _ in module.named_parameters()}
    assert frozen.unlike(shared.clip.model) == set()
    assert all(parameter.grad is None for parameter in shared.clip.model.parameters())


def test_what_the_method_says_of_itself() -> None:
    method: Method = Fedavg()
    assert (method.name, method.consumes, method.exchange, method.weighting) == (
        "fedavg",
        "pixels",
        "federated",
        "weighted",
    )
    assert (method.lr, method.local, method.anchors, method.smallest_batch) == (1e-5, (), False, 1)
    assert method.options()["normalisation"] == "pretrained statistics"
    shared = shared_of(tiny_clip())
    one, other = (method.new_module(shared, seed=seed) for seed in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("lr", [-1e-9, 1.5, float("nan")])
def test_a_step_size_out_of_range_is_refused(lr: float) -> None:
    with pytest.raises(MethodError, match="lr"):
        Fedavg(lr)


def test_another_methods_module_is_no_whole_clip() -> None:
    shared = shared_of(tiny_clip())
    with pytest.raises(TypeError, match="WholeClip"):
        Fedavg().logits(nn.Linear(2, 2), pictures(1), shared)


def test_the_embedded_model_learns() -> None:
    backbone = load_backbone(device="cpu")
    classes = [["a glioma"], ["a healthy brain"], ["a meningioma"]]
    text = torch.from_numpy(backbone.encode_prompts(classes))
    inputs = clip_inputs(backbone, classes, ["Glioma", "No tumour", "Meningioma"])
    shared = SharedInputs(text, backbone.logit_scale, torch.zeros((0, 512)), clip=inputs)
    frozen = Before.of(backbone.model)
    method = Fedavg()
    module = method.new_module(shared, seed=0)
    step = step_of(pictures(6, size=128))
    losses = [float(train_once(method, module, step, shared, lr=1e-5)) for _ in range(3)]
    assert losses[-1] < losses[0]
    assert not any("running" in name or "tracked" in name for name in Before.of(backbone.model).unlike(module.clip))
    assert frozen.unlike(backbone.model) == set()
    assert method.logits(module, step.batch.inputs, shared).shape == (6, len(NAMES))
