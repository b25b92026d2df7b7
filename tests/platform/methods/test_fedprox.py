"""FedProx on the whole CLIP: cross-entropy plus the proximal term, each beside a slow one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from wardround.platform.adapters import state_of
from wardround.platform.backbone import load_backbone
from wardround.platform.errors import MethodError
from wardround.platform.methods.clip_inputs import clip_inputs
from wardround.platform.methods.fedavg import Fedavg
from wardround.platform.methods.fedprox import Fedprox
from wardround.platform.methods.method import Method, SharedInputs

from .tiny_clips import (
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
@pytest.mark.parametrize("mu", [0.01, 3.0])
def test_loss_and_gradient_equal_the_slow_formula(tower: str, mu: float) -> None:
    shared = shared_of(tiny_clip(tower))
    method = Fedprox(mu=mu)
    module = method.new_module(shared, seed=0)
    received = state_of(module)
    shaken(module)
    step = step_of(pictures(5), received)
    distance = 0.0
    for name, tensor in received.items():
        distance += float(((module.get_parameter(name).detach().numpy() - tensor.numpy()) ** 2).sum())
    assert distance > 1.0
    entropy = slow_cross_entropy(slow_logits(module.clip, step.batch.inputs), step.batch.labels)
    loss = method.loss(module, step, shared)
    assert float(loss.detach()) == pytest.approx(entropy + mu / 2 * distance, abs=1e-9)
    loss.backward()  # type: ignore[no-untyped-call]
    found = {name: parameter.grad.clone() for name, parameter in module.named_parameters()}  # type: ignore[union-attr]
    module.zero_grad()
    Fedavg().loss(module, step, shared).backward()  # type: ignore[no-untyped-call]
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        expected = parameter.grad + mu * (parameter.detach() - received[name])
        assert torch.allclose(found[name], expected, rtol=0, atol=1e-9), name


def test_at_the_received_model_and_with_mu_0_it_is_fedavg() -> None:
    shared = shared_of(tiny_clip())
    module = Fedprox().new_module(shared, seed=0)
    step = step_of(pictures(4), state_of(module))
    assert torch.equal(Fedprox(mu=7.0).loss(module, step, shared), Fedavg().loss(module, step, shared))
    shaken(module)
    assert torch.equal(Fedprox(mu=0.0).loss(module, step, shared), Fedavg().loss(module, step, shared))


def test_a_large_mu_holds_the_model() -> None:
    shared = shared_of(tiny_clip())
    assert shared.clip is not None
    moved = []
    for mu in (0.0, 1000.0):
        method = Fedprox(mu=mu)
        module = method.new_module(shared, seed=0)
        received = state_of(module)
        step = step_of(pictures(6), received)
        for _ in range(6):
            train_once(method, module, step, shared)
        moved.append(sum(float((p.detach() - received[n]).square().sum()) for n, p in module.named_parameters()))
    assert moved[1] < moved[0] / 2
    assert Before.of(tiny_clip()).unlike(shared.clip.model) == set()


def test_what_the_method_says_of_itself() -> None:
    method: Method = Fedprox()
    assert (method.name, method.consumes, method.exchange) == ("fedprox", "pixels", "federated")
    assert (method.weighting, method.lr, method.local, method.anchors) == ("weighted", 1e-5, (), False)
    assert method.options()["mu"] == 0.01


@pytest.mark.parametrize("options", [{"mu": -0.1}, {"mu": 1001.0}, {"mu": float("nan")}, {"lr": 2.0}])
def test_an_option_out_of_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(MethodError, match=f"{next(iter(options))} = "):
        Fedprox(**options)


def test_without_the_clip_it_is_refused() -> None:
    with pytest.raises(MethodError, match="fedprox"):
        Fedprox().new_module(SharedInputs(torch.eye(3), 10.0, torch.zeros((0, 3))), seed=0)


def test_the_embedded_model() -> None:
    backbone = load_backbone(device="cpu")
    classes = [["a glioma"], ["a healthy brain"], ["a meningioma"]]
    text = torch.from_numpy(backbone.encode_prompts(classes))
    inputs = clip_inputs(backbone, classes, ["Glioma", "No tumour", "Meningioma"])
    shared = SharedInputs(text, backbone.logit_scale, torch.zeros((0, 512)), clip=inputs)
    method = Fedprox(mu=1.0)
    module = method.new_module(shared, seed=0)
    received = state_of(module)
    step = step_of(pictures(4, size=128), received)
    train_once(method, module, step, shared)
    away = sum(float((p.detach() - received[n]).double().square().sum()) for n, p in module.named_parameters())
    assert away > 0.0
    with torch.no_grad():
        added = float(method.loss(module, step, shared) - Fedavg().loss(module, step, shared))
    assert added == pytest.approx(away / 2, rel=1e-2)
