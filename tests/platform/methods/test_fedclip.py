"""FedCLIP's loss beside a slow float64 computation, with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from wardround.platform.adapters import state_of
from wardround.platform.methods.fedclip import FedClip
from wardround.platform.methods.method import SharedInputs
from wardround.platform.methods.table import method_of

from .. import slow_methods as slow
from .small_steps import SCALE, check_gradient, module_of, numbers, shared_of, slow_contrast, slow_text, step_of


@pytest.mark.parametrize("labels", [(0, 1, 2, 0, 1, 2, 2), (1, 1, 1), (2,)])
@pytest.mark.parametrize("text_adapter", [False, True])
@pytest.mark.parametrize("kind", ["class-prompt", "in-batch"])
def test_loss_and_gradient_equal_the_slow_formula(kind: Any, text_adapter: bool, labels: tuple[int, ...]) -> None:
    method, shared = FedClip(loss_kind=kind, text_adapter=text_adapter), shared_of()
    step = step_of(labels=labels)
    module = module_of(method, shared, step)
    loss = method.loss(module, step, shared)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(slow_contrast(numbers(module), step, shared, kind), abs=1e-9)
    check_gradient(module, lambda _: lambda p: slow_contrast(p, step, shared, kind))


def test_an_adjustment_enters_the_loss_and_no_prediction() -> None:
    method, shared, step = FedClip(), shared_of(), step_of(adjustment=(-0.3, -1.5, -2.0))
    module = module_of(method, shared, step)
    loss = method.loss(module, step, shared)
    loss.backward()  # type: ignore[no-untyped-call]
    expected = slow_contrast(numbers(module), step, shared, "class-prompt")
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-9)
    assert float(loss.detach()) != pytest.approx(float(method.loss(module, step_of(), shared).detach()), abs=1e-3)
    check_gradient(module, lambda _: lambda p: slow_contrast(p, step, shared, "class-prompt"))
    p = numbers(module)
    adapted = slow.adapt(step.batch.inputs.numpy(), p, "adapter.", running=True)
    plain = slow.cosine_logits(adapted, shared.text.numpy(), SCALE)
    np.testing.assert_allclose(method.logits(module, step.batch.inputs, shared).numpy(), plain, rtol=0, atol=1e-9)


def test_the_reference_set_plays_no_part() -> None:
    method, step = FedClip(), step_of()
    shared = shared_of()
    module = module_of(method, shared, step)
    other = replace(shared, reference=-shared.reference)
    assert torch.equal(method.loss(module, step, shared), method.loss(module, step, other))
    assert torch.equal(method.loss(module, step, shared), method.loss(module, step_of(rows=()), shared))


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("text_adapter", [False, True])
def test_logits_equal_the_slow_formula(text_adapter: bool, head: bool) -> None:
    method, shared, step = FedClip(text_adapter=text_adapter, head=head), shared_of(), step_of()
    module = module_of(method, shared, step)
    p = numbers(module)
    adapted = slow.adapt(step.batch.inputs.numpy(), p, "adapter.", running=True)
    expected = slow.cosine_logits(adapted, slow_text(p, shared), SCALE)
    if head:
        assert p["log_temperature"][0] != 0.0
        expected = expected / np.exp(p["log_temperature"])
    np.testing.assert_allclose(method.logits(module, step.batch.inputs, shared).numpy(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("method", "size"), [(FedClip(), 525_312), (FedClip(text_adapter=True), 1_050_624)])
def test_the_published_size(method: FedClip, size: int) -> None:
    shared = SharedInputs(torch.eye(3, 512), SCALE, torch.zeros((0, 512)))
    assert sum(p.numel() for p in method.new_module(shared, seed=0).parameters()) == size


def test_what_it_is() -> None:
    method = FedClip()
    assert (method.name, method.consumes, method.exchange, method.weighting) == (
        "fedclip",
        "features",
        "federated",
        "weighted",
    )
    assert (method.local, method.anchors, method.smallest_batch) == ((), False, 1)
    assert method.options() == {
        "loss": "class-prompt",
        "text_adapter": False,
        "normalisation": "none",
        "adaptation": "off",
    }
    names = state_of(method.new_module(shared_of(), 0))
    assert not any("running" in name for name in names)


def test_the_table_passes_the_studys_options(toy_study: Callable[..., Any]) -> None:
    assert method_of(toy_study(method="fedclip")) == FedClip()
    options = {"lr": 0.25, "loss": "in-batch", "text_adapter": True}
    study = toy_study(method="fedclip", fedclip=options, calibration={"method": "federated-head"})
    assert method_of(study) == FedClip(lr=0.25, loss_kind="in-batch", text_adapter=True, head=True)
