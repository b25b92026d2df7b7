"""MOON on the whole CLIP: its contrastive term beside numpy, and which models it looks at."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from wardround.platform.adapters import state_of
from wardround.platform.backbone import load_backbone
from wardround.platform.errors import MethodError
from wardround.platform.methods.clip_inputs import clip_inputs
from wardround.platform.methods.fedavg import Fedavg
from wardround.platform.methods.method import Method, SharedInputs
from wardround.platform.methods.moon import Moon, contrastive_term
from wardround.platform.methods.whole_clip import WholeClip

from .tiny_clips import (
    Before,
    pictures,
    shaken,
    shared_of,
    slow_cross_entropy,
    slow_image_features,
    slow_logits,
    step_of,
    tiny_clip,
    train_once,
)

Array = NDArray[np.float64]


def slow_term(z: Array, towards: Array, away: Array, temperature: float) -> float:
    """Equation 3, row by row."""

    def similarity(a: Array, b: Array) -> float:
        return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))

    total = 0.0
    for row, to, fro in zip(z, towards, away, strict=True):
        near, far = (math.exp(similarity(row, other) / temperature) for other in (to, fro))
        total -= math.log(near / (near + far))
    return total / len(z)


def anchors_of(module: nn.Module) -> tuple[WholeClip, WholeClip]:
    """A received and a previous model: frozen, and unlike the module and one another."""
    made = [shaken(copy.deepcopy(module), seed=seed).requires_grad_(False) for seed in (21, 22)]
    assert all(isinstance(one, WholeClip) for one in made)
    return made[0], made[1]  # type: ignore[return-value]


@pytest.mark.parametrize("temperature", [0.01, 0.5, 5.0])
def test_the_contrastive_term_is_equation_3(temperature: float) -> None:
    generator = np.random.default_rng(4)
    z, towards, away = (generator.normal(size=(6, 9)) for _ in range(3))
    found = contrastive_term(torch.from_numpy(z), torch.from_numpy(towards), torch.from_numpy(away), temperature)
    assert float(found) == pytest.approx(slow_term(z, towards, away, temperature), abs=1e-9)
    alike = contrastive_term(torch.from_numpy(z), torch.from_numpy(away), torch.from_numpy(away), temperature)
    assert float(alike) == pytest.approx(math.log(2), abs=1e-12)


@pytest.mark.parametrize("tower", ["vit", "resnet"])
@pytest.mark.parametrize(("mu", "temperature"), [(1.0, 0.5), (5.0, 0.1)])
def test_the_loss_equals_the_slow_formula(tower: str, mu: float, temperature: float) -> None:
    shared = shared_of(tiny_clip(tower))
    method = Moon(mu=mu, temperature=temperature)
    module = method.new_module(shared, seed=0)
    received, previous = anchors_of(module)
    step = step_of(pictures(5), received_module=received, previous_module=previous)
    batch = step.batch.inputs
    z, towards, away = (slow_image_features(one.clip, batch) for one in (module, received, previous))
    expected = slow_cross_entropy(slow_logits(module.clip, batch), step.batch.labels)
    expected += mu * slow_term(z, towards, away, temperature)
    loss = method.loss(module, step, shared)
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-9)


def test_the_gradient_is_that_of_the_slow_formula() -> None:
    shared = shared_of(tiny_clip())
    method = Moon(mu=2.0)
    module = method.new_module(shared, seed=0)
    received, previous = anchors_of(module)
    step = step_of(pictures(4), received_module=received, previous_module=previous)
    method.loss(module, step, shared).backward()  # type: ignore[no-untyped-call]
    towards, away = (slow_image_features(one.clip, step.batch.inputs) for one in (received, previous))
    for name in ("clip.visual.proj", "clip.visual.transformer.resblocks.0.mlp.c_fc.weight", "clip.text_projection"):
        parameter = module.get_parameter(name)
        direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)).double()
        ends = []
        for sign in (1.0, -1.0):
            moved = copy.deepcopy(module)
            with torch.no_grad():
                moved.get_parameter(name).add_(sign * 1e-6 * direction)
            value = slow_cross_entropy(slow_logits(moved.clip, step.batch.inputs), step.batch.labels)
            ends.append(value + 2.0 * slow_term(slow_image_features(moved.clip, step.batch.inputs), towards, away, 0.5))
        assert parameter.grad is not None
        along = float((parameter.grad * direction).sum())
        assert along == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6), name


def test_in_a_first_round_and_with_mu_0_it_is_fedavg() -> None:
    shared = shared_of(tiny_clip())
    module = Moon().new_module(shared, seed=0)
    received, previous = anchors_of(module)
    plain = Fedavg().loss(module, step_of(pictures(4)), shared)
    first = step_of(pictures(4), received_module=received)
    assert torch.equal(Moon().loss(module, first, shared), plain)
    later = step_of(pictures(4), received_module=received, previous_module=previous)
    assert torch.equal(Moon(mu=0.0).loss(module, later, shared), plain)
    assert not torch.equal(Moon().loss(module, later, shared), plain)


def test_a_step_leaves_the_anchors_and_the_frozen_clip_alone() -> None:
    shared = shared_of(tiny_clip("resnet"))
    assert shared.clip is not None
    method = Moon()
    module = method.new_module(shared, seed=0)
    received, previous = anchors_of(module)
    modules = (received, previous, shared.clip.model)
    before = [Before.of(one) for one in modules]
    start = Before.of(module)
    train_once(method, module, step_of(pictures(4), received_module=received, previous_module=previous), shared)
    assert start.unlike(module) == set(state_of(module))
    assert [kept.unlike(one) for kept, one in zip(before, modules, strict=True)] == [set(), set(), set()]
    assert all(parameter.grad is None for one in modules for parameter in one.parameters())


def test_a_missing_received_model_is_refused() -> None:
    shared = shared_of(tiny_clip())
    module = Moon().new_module(shared, seed=0)
    with pytest.raises(MethodError, match="received model"):
        Moon().loss(module, step_of(pictures(2), previous_module=anchors_of(module)[1]), shared)


def test_what_the_method_says_of_itself() -> None:
    method: Method = Moon()
    assert (method.name, method.consumes, method.exchange) == ("moon", "pixels", "federated")
    assert (method.weighting, method.lr, method.local, method.anchors) == ("weighted", 1e-5, (), True)
    assert (method.options()["mu"], method.options()["temperature"]) == (1.0, 0.5)


@pytest.mark.parametrize(
    "options",
    [{"mu": -1.0}, {"mu": 1e4}, {"temperature": 0.0}, {"temperature": 101.0}, {"temperature": math.nan}, {"lr": -1.0}],
)
def test_an_option_out_of_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(MethodError, match=f"{next(iter(options))} = "):
        Moon(**options)


def test_the_embedded_model() -> None:
    backbone = load_backbone(device="cpu")
    classes = [["a glioma"], ["a healthy brain"], ["a meningioma"]]
    text = torch.from_numpy(backbone.encode_prompts(classes))
    inputs = clip_inputs(backbone, classes, ["Glioma", "No tumour", "Meningioma"])
    shared = SharedInputs(text, backbone.logit_scale, torch.zeros((0, 512)), clip=inputs)
    method = Moon()
    module = method.new_module(shared, seed=0)
    same = copy.deepcopy(module).requires_grad_(False)
    step = step_of(pictures(4, size=128), received_module=same, previous_module=same)
    loss = train_once(method, module, step, shared)
    plain = Fedavg().loss(same, step, shared)
    # Two anchors that agree say nothing: log 2.
    assert float(loss - plain) == pytest.approx(math.log(2), abs=1e-5)
