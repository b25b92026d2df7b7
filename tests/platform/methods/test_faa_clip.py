"""FAA-CLIP's loss beside a slow float64 computation; its gradient has the reversed sign before the classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from wardround.platform import domain
from wardround.platform.adapters import state_of
from wardround.platform.errors import MethodError
from wardround.platform.methods.faa_clip import FaaClip
from wardround.platform.methods.facmic import Facmic
from wardround.platform.methods.method import SharedInputs, Step
from wardround.platform.methods.table import method_of

from .. import slow_methods as slow
from .small_steps import (
    SCALE,
    Numbers,
    check_gradient,
    module_of,
    numbers,
    shared_of,
    slow_contrast,
    slow_reference,
    step_of,
)


@pytest.fixture(autouse=True)
def six_hidden_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """A domain classifier small enough to be gone through number by number."""
    monkeypatch.setattr(domain, "HIDDEN", 6)


def slow_parts(
    p: Numbers, step: Step, shared: SharedInputs, method: FaaClip, constants: dict[str, Any]
) -> tuple[float, float]:
    """The contrast, and the weighted adversarial loss; ``constants`` keeps the reference side."""
    contrast = slow_contrast(p, step, shared, method.loss_kind)
    moved, _ = constants.setdefault("reference", slow_reference(p, step, shared))
    aligned = moved if method.reference_through_adapter else shared.reference.numpy()[step.reference_rows.numpy()]
    adapted = slow.adapt(step.batch.inputs.numpy(), p, "adapter.", running=False)
    layered = {**p, "layer_norm": np.ones(1)} if method.normalisation == "layer" else p
    rows = len(step.batch.labels)
    smaller = rows / 32 if method.rescale_adaptation and rows < 32 else 1.0
    return contrast, method.adaptation_weight * smaller * slow.adversarial(adapted, aligned, layered)


VARIANTS = {
    "default": FaaClip(),
    "not rescaled": FaaClip(rescale_adaptation=False),
    "as the published code": FaaClip(loss_kind="in-batch", rescale_adaptation=False),
    "reference past the adapter": FaaClip(reference_through_adapter=False, rescale_adaptation=False),
    "heavier": FaaClip(adaptation_weight=3.0, rescale_adaptation=False),
    "text adapter": FaaClip(text_adapter=True, rescale_adaptation=False),
    "depth 8": FaaClip(depth=8, rescale_adaptation=False),
    "LayerNorm": FaaClip(normalisation="layer", rescale_adaptation=False),
    "norms at the site": FaaClip(normalisation="batch-local", rescale_adaptation=False),
    "shared classifier": FaaClip(domain_classifier="shared", rescale_adaptation=False),
}


def assert_equal_to_the_slow_formula(method: FaaClip, step: Step, shared: SharedInputs) -> None:
    module = module_of(method, shared, step)
    loss = method.loss(module, step, shared)
    loss.backward()  # type: ignore[no-untyped-call]
    constants: dict[str, Any] = {}
    contrast, adversarial = slow_parts(numbers(module), step, shared, method, constants)
    assert adversarial > 0.0
    assert float(loss.detach()) == pytest.approx(contrast + adversarial, abs=1e-9)

    def slope(name: str) -> Callable[[Numbers], float]:
        def value(p: Numbers) -> float:
            contrast, adversarial = slow_parts(p, step, shared, method, constants)
            return adversarial if name.startswith("domain.") else contrast - adversarial

        return value

    check_gradient(module, slope)


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_and_gradient_equal_the_slow_formula(variant: str) -> None:
    assert_equal_to_the_slow_formula(VARIANTS[variant], step_of(), shared_of())


def test_adjusted_logits() -> None:
    assert_equal_to_the_slow_formula(FaaClip(), step_of(adjustment=(-0.3, -1.5, -2.0)), shared_of())


def test_one_image_beside_one_reference_image() -> None:
    method = FaaClip(normalisation="layer", rescale_adaptation=False)
    assert_equal_to_the_slow_formula(method, step_of(labels=(1,), rows=(2,)), shared_of())


def test_labels_of_the_reference_set_do_not_matter() -> None:
    method, step, shared = FaaClip(), step_of(), shared_of()
    module = module_of(method, shared, step)
    known = shared_of(known=(0, 1, 2, 0, 1, 2))
    assert torch.equal(method.loss(module, step, shared), method.loss(module, step, known))


@pytest.mark.parametrize("rows", [2, 8, 32, 40])
def test_small_batches_weigh_adaptation_by_their_size(rows: int) -> None:
    step, shared = step_of(labels=tuple(i % 3 for i in range(rows))), shared_of()
    module = module_of(FaaClip(), shared, step)

    def loss(**options: Any) -> float:
        return float(FaaClip(**options).loss(module, step, shared).detach())

    contrast = float(Facmic(adaptation_weight=0.0).loss(module, step, shared).detach())
    whole = loss(rescale_adaptation=False) - contrast
    assert loss() - contrast == pytest.approx(whole * min(1.0, rows / 32), abs=1e-9)


def test_the_reference_set_and_the_classifier_leave_the_adapters_statistics_alone() -> None:
    method, step, shared = FaaClip(text_adapter=True), step_of(), shared_of()
    module = module_of(method, shared, step)
    before = numbers(module)
    method.loss(module, step, shared).backward()  # type: ignore[no-untyped-call]
    after = numbers(module)
    statistics = [name for name in before if "running" in name]
    assert {name.split(".")[0] for name in statistics} == {"adapter", "text_adapter"}
    assert all(np.array_equal(before[name], after[name]) for name in statistics)
    assert all(layer.training for layer in module.modules())


def test_no_gradient_reaches_the_reference_set() -> None:
    method, step, shared = FaaClip(reference_through_adapter=False), step_of(), shared_of()
    shared.reference.requires_grad_(True)
    method.loss(module_of(method, shared, step), step, shared).backward()  # type: ignore[no-untyped-call]
    assert shared.reference.grad is None or not shared.reference.grad.any()


def test_without_a_reference_set_the_loss_is_the_contrast_and_the_classifier_stands_still() -> None:
    method, step, shared = FaaClip(), step_of(rows=()), shared_of()
    module = module_of(method, shared, step)
    loss = method.loss(module, step, shared)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(slow_contrast(numbers(module), step, shared, "class-prompt"), abs=1e-9)
    assert module.domain is not None
    assert all(p.grad is not None and not p.grad.any() for p in module.domain.parameters())


def test_with_adaptation_off_there_is_no_classifier_and_nothing_local() -> None:
    method = FaaClip(adaptation_weight=0.0)
    assert method.new_module(shared_of(), 0).domain is None
    assert method.local == ()
    assert method.options()["adaptation"] == "off"


def test_what_stays_at_the_site() -> None:
    assert FaaClip().local == ("domain.",)
    assert FaaClip(domain_classifier="shared").local == ()
    assert FaaClip(normalisation="batch-local").local == ("domain.", "adapter.norm.", "adapter.norm_between.")
    assert FaaClip(normalisation="batch-local", domain_classifier="shared").local == (
        "adapter.norm.",
        "adapter.norm_between.",
    )


def test_the_classifier_takes_no_part_in_predictions() -> None:
    method, shared, step = FaaClip(), shared_of(), step_of()
    module = module_of(method, shared, step)
    before = method.logits(module, step.batch.inputs, shared)
    assert module.domain is not None
    with torch.no_grad():
        for parameter in module.domain.parameters():
            parameter.fill_(torch.nan)
    assert torch.equal(method.logits(module, step.batch.inputs, shared), before)


def test_the_published_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domain, "HIDDEN", 512)
    shared = SharedInputs(torch.eye(3, 512), SCALE, torch.zeros((0, 512)))
    state = state_of(FaaClip().new_module(shared, seed=0))
    sizes = {
        child: sum(t.numel() for name, t in state.items() if name.startswith(child) and "running" not in name)
        for child in ("adapter.", "domain.")
    }
    assert sizes == {"adapter.": 526_336, "domain.": 527_873}


def test_what_it_is() -> None:
    method = FaaClip()
    assert (method.name, method.consumes, method.exchange, method.weighting) == (
        "faa-clip",
        "features",
        "federated",
        "uniform",
    )
    assert (method.smallest_batch, FaaClip(normalisation="layer").smallest_batch, method.anchors) == (2, 1, False)
    assert method.options() == {
        **Facmic().options(),
        "adaptation": "adversarial",
        "adaptation_weight": 0.5,
        "domain_classifier": "local",
    }


@pytest.mark.parametrize("weight", [-0.1, 100.5, float("nan")])
def test_a_weight_out_of_range_is_refused(weight: float) -> None:
    with pytest.raises(MethodError, match="adaptation_weight"):
        FaaClip(adaptation_weight=weight)


def test_the_table_passes_the_studys_options(toy_study: Callable[..., Any]) -> None:
    assert method_of(toy_study(method="faa-clip")) == FaaClip()
    options = {
        "lr": 0.125,
        "loss": "in-batch",
        "text_adapter": True,
        "depth": 8,
        "normalisation": "layer",
        "adaptation_weight": 2.0,
        "reference_through_adapter": False,
        "rescale_adaptation": False,
        "domain_classifier": "shared",
    }
    study = toy_study(method="faa-clip", faa_clip=options, calibration={"method": "federated-head"})
    expected = replace(
        FaaClip(lr=0.125, loss_kind="in-batch", text_adapter=True, depth=8, normalisation="layer", head=True),
        adaptation_weight=2.0,
        reference_through_adapter=False,
        rescale_adaptation=False,
        domain_classifier="shared",
    )
    assert method_of(study) == expected
