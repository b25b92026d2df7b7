"""FACMIC's loss beside a slow float64 computation, with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from wardround.platform.adapters import set_statistics
from wardround.platform.errors import MethodError
from wardround.platform.methods.facmic import Facmic
from wardround.platform.methods.method import SharedInputs, Step, batches
from wardround.platform.methods.table import method_of

from .. import slow_methods as slow
from .small_steps import (
    SCALE,
    WIDTH,
    Array,
    Numbers,
    check_gradient,
    module_of,
    numbers,
    shared_of,
    slow_contrast,
    slow_reference,
    step_of,
)


def slow_loss(p: Numbers, step: Step, shared: SharedInputs, method: Facmic, constants: dict[str, Any]) -> float:
    """Equation 6; ``constants`` keeps what no gradient passes through: the reference side and the bandwidth."""
    contrast = slow_contrast(p, step, shared, method.loss_kind)
    if method.adaptation_weight == 0.0:
        return contrast
    moved, probabilities = constants.setdefault("reference", slow_reference(p, step, shared))
    adapted: Array = slow.adapt(step.batch.inputs.numpy(), p, "adapter.", running=False)
    aligned = moved if method.reference_through_adapter else shared.reference.numpy()[step.reference_rows.numpy()]
    mean = constants.setdefault("mean distance", slow.mean_distance(np.concatenate([adapted, aligned])))
    discrepancy = slow.lmmd(adapted, step.batch.labels.tolist(), aligned, probabilities, mean)
    rows = len(step.batch.labels)
    smaller = rows / 32 if method.rescale_adaptation and rows < 32 else 1.0
    return contrast + method.adaptation_weight * smaller * discrepancy


VARIANTS = {
    "off": Facmic(adaptation_weight=0.0),
    "default": Facmic(),
    "not rescaled": Facmic(rescale_adaptation=False),
    "as the published code": Facmic(
        loss_kind="in-batch", reference_through_adapter=False, rescale_adaptation=False, adaptation_weight=1.0
    ),
    "heavier": Facmic(adaptation_weight=2.5, rescale_adaptation=False),
    "in-batch": Facmic(loss_kind="in-batch"),
    "text adapter": Facmic(text_adapter=True, rescale_adaptation=False),
    "text adapter, in-batch": Facmic(text_adapter=True, loss_kind="in-batch"),
    "depth 8": Facmic(depth=8, rescale_adaptation=False),
    "LayerNorm": Facmic(normalisation="layer", rescale_adaptation=False),
    "depth 8, LayerNorm, text": Facmic(depth=8, normalisation="layer", text_adapter=True),
    "norms at the site": Facmic(normalisation="batch-local"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_and_gradient_equal_the_slow_formula(variant: str) -> None:
    method, shared, step = VARIANTS[variant], shared_of(), step_of()
    module = module_of(method, shared, step)
    loss = method.loss(module, step, shared)
    loss.backward()  # type: ignore[no-untyped-call]
    constants: dict[str, Any] = {}
    slow_value = slow_loss(numbers(module), step, shared, method, constants)
    assert float(loss.detach()) == pytest.approx(slow_value, abs=1e-9)
    check_gradient(module, lambda _: lambda p: slow_loss(p, step, shared, method, constants))


LONE = Facmic(rescale_adaptation=False, normalisation="layer")
CASES: dict[str, tuple[Facmic, Step, SharedInputs]] = {
    "adjusted logits": (Facmic(), step_of(adjustment=(-0.3, -1.5, -2.0)), shared_of()),
    "a class only the site has": (Facmic(rescale_adaptation=False), step_of(), shared_of(known=(0, 0, 0, 1, 1, 1))),
    "a class only the reference has": (
        Facmic(rescale_adaptation=False),
        step_of(labels=(0, 0, 1, 0)),
        shared_of(known=(2, 2, 2, 1, 0, 1)),
    ),
    "labels known": (Facmic(rescale_adaptation=False), step_of(), shared_of(known=(0, 1, 2, 0, 1, 2))),
    "one image, one reference image": (LONE, step_of(labels=(1,), rows=(2,)), shared_of(known=(0, 0, 1, 0, 0, 0))),
    "one image, guessed labels": (LONE, step_of(labels=(0,), rows=(2,)), shared_of()),
    "rescaled to a batch of one": (replace(LONE, rescale_adaptation=True), step_of(labels=(2,)), shared_of()),
}


@pytest.mark.parametrize("case", CASES)
def test_unusual_batches_give_the_slow_formula(case: str) -> None:
    method, step, shared = CASES[case]
    module = module_of(method, shared, step)
    loss = method.loss(module, step, shared)
    loss.backward()  # type: ignore[no-untyped-call]
    constants: dict[str, Any] = {}
    expected = slow_loss(numbers(module), step, shared, method, constants)
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-9)
    check_gradient(module, lambda _: lambda p: slow_loss(p, step, shared, method, constants))


def test_without_a_common_class_there_is_the_contrast_alone() -> None:
    method, step, shared = Facmic(), step_of(labels=(0, 1, 0)), shared_of(known=(2,) * 6)
    module = module_of(method, shared, step)
    plain = Facmic(adaptation_weight=0.0).loss(module, step, shared).detach()
    assert torch.equal(method.loss(module, step, shared).detach(), plain)


@pytest.mark.parametrize("rows", [2, 4, 8, 31, 32, 40])
def test_small_batches_weigh_adaptation_by_their_size(rows: int) -> None:
    labels = tuple(i % 3 for i in range(rows))
    step, shared = step_of(labels=labels), shared_of(known=(0, 1, 2, 0, 1, 2))
    module = module_of(Facmic(), shared, step)

    def loss(**options: Any) -> float:
        return float(Facmic(**options).loss(module, step, shared).detach())

    contrast = loss(adaptation_weight=0.0)
    whole = loss(rescale_adaptation=False) - contrast
    assert whole != 0.0
    assert loss() - contrast == pytest.approx(whole * min(1.0, rows / 32), abs=1e-9)


def test_no_gradient_reaches_the_reference_set() -> None:
    method, step = Facmic(rescale_adaptation=False), step_of()
    shared = shared_of()
    shared.reference.requires_grad_(True)
    method.loss(module_of(method, shared, step), step, shared).backward()  # type: ignore[no-untyped-call]
    assert shared.reference.grad is None or not shared.reference.grad.any()


def test_the_reference_leaves_running_statistics_and_mode_alone() -> None:
    method, step, shared = Facmic(text_adapter=True, depth=8), step_of(), shared_of()
    module = module_of(method, shared, step)
    before = numbers(module)
    method.loss(module, step, shared)
    after = numbers(module)
    assert all(layer.training for layer in module.modules())
    statistics = [name for name in before if "running" in name]
    assert len(statistics) == 8
    for name in statistics:
        assert np.array_equal(before[name], after[name])


def test_without_a_reference_set_the_loss_is_the_cross_entropy() -> None:
    step, shared = step_of(), shared_of()
    module = module_of(Facmic(), shared, step)
    without = SharedInputs(shared.text, SCALE, torch.zeros((0, WIDTH), dtype=torch.float64))
    expected = Facmic(adaptation_weight=0.0).loss(module, step, shared).detach()
    assert torch.equal(Facmic().loss(module, step_of(rows=()), without).detach(), expected)


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("variant", ["default", "text adapter", "depth 8", "LayerNorm", "norms at the site"])
def test_logits_are_those_of_the_running_statistics(variant: str, head: bool) -> None:
    method, shared, step = replace(VARIANTS[variant], head=head), shared_of(), step_of()
    module = module_of(method, shared, step)
    x, p = step.batch.inputs[:3], numbers(module)
    text = shared.text.numpy()
    if method.text_adapter:
        text = slow.adapt(text, p, "text_adapter.", running=True)
    expected = slow.cosine_logits(slow.adapt(x.numpy(), p, "adapter.", running=True), text, SCALE)
    if head:
        expected = expected / np.exp(p["log_temperature"])
    logits = method.logits(module, x, shared)
    assert logits.dtype == torch.float64
    assert not logits.requires_grad
    np.testing.assert_allclose(logits.numpy(), expected, rtol=0, atol=1e-9)
    assert module.training
    assert method.logits(module, x[:0], shared).shape == (0, 3)


SIZES = [
    (Facmic(), 526_336),
    (Facmic(depth=8), 790_016),
    (Facmic(normalisation="layer"), 526_336),
    (Facmic(normalisation="batch-local"), 526_336),
    (Facmic(text_adapter=True), 2 * 526_336),
    (Facmic(head=True), 526_337),
]


@pytest.mark.parametrize(("method", "size"), SIZES)
def test_the_published_size(method: Facmic, size: int) -> None:
    shared = SharedInputs(torch.eye(3, 512), SCALE, torch.zeros((0, 512)))
    assert sum(p.numel() for p in method.new_module(shared, seed=0).parameters()) == size


def test_what_the_card_prints() -> None:
    assert Facmic().options() == {
        "loss": "class-prompt",
        "text_adapter": False,
        "depth": 5,
        "normalisation": "batch, exact site moments, shared",
        "reference_through_adapter": True,
        "reference_gradient": False,
        "rescale_adaptation": True,
        "adaptation": "lmmd",
        "adaptation_weight": 1.0,
    }
    assert Facmic(adaptation_weight=0.0).options()["adaptation"] == "off"
    assert Facmic(reference_through_adapter=False).options()["reference_through_adapter"] is False
    assert Facmic(loss_kind="in-batch").options()["loss"] == "in-batch"
    assert Facmic(normalisation="layer").options()["normalisation"] == "layer"
    assert "at the site" in str(Facmic(normalisation="batch-local").options()["normalisation"])


def test_what_stays_at_the_site_and_what_a_batch_must_hold() -> None:
    assert Facmic().local == Facmic(normalisation="layer").local == ()
    assert Facmic(normalisation="batch-local").local == ("adapter.norm.", "adapter.norm_between.")
    assert (Facmic().smallest_batch, Facmic(normalisation="layer").smallest_batch) == (2, 1)


def test_image_and_text_adapter_start_differently_and_from_the_seed() -> None:
    method, shared = Facmic(text_adapter=True), shared_of()
    first, again, other = (numbers(method.new_module(shared, seed).double()) for seed in (7, 7, 8))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    for name in ("adapter.project_in.weight", "text_adapter.project_in.weight"):
        assert not np.array_equal(first[name], other[name])
    assert not np.array_equal(first["adapter.project_in.weight"], first["text_adapter.project_in.weight"])


@pytest.mark.parametrize("weight", [-0.1, 100.5, float("nan")])
def test_a_weight_out_of_range_is_refused(weight: float) -> None:
    with pytest.raises(MethodError, match="adaptation_weight"):
        Facmic(adaptation_weight=weight)


def test_the_table_passes_the_studys_options(toy_study: Callable[..., Any]) -> None:
    method = method_of(toy_study(facmic={"adaptation_weight": 0.25, "reference_through_adapter": False}))
    assert method == Facmic(adaptation_weight=0.25, reference_through_adapter=False)
    assert method.name == "facmic"
    options = {
        "lr": 0.125,
        "loss": "in-batch",
        "text_adapter": True,
        "depth": 8,
        "normalisation": "batch-local",
        "rescale_adaptation": False,
    }
    assert method_of(toy_study(facmic=options, calibration={"method": "federated-head"})) == Facmic(
        lr=0.125,
        loss_kind="in-batch",
        text_adapter=True,
        depth=8,
        normalisation="batch-local",
        rescale_adaptation=False,
        head=True,
    )


def test_batches_depend_on_the_generator_alone() -> None:
    def drawn(seed: int) -> list[list[int]]:
        return [rows.tolist() for rows in batches(20, 6, torch.Generator().manual_seed(seed))]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_statistics_stay_where_the_site_set_them() -> None:
    """The toy of this file is not blind: with other statistics the reference side gives another loss."""
    method, step, shared = Facmic(rescale_adaptation=False), step_of(), shared_of()
    module = module_of(method, shared, step)
    first = float(method.loss(module, step, shared).detach())
    set_statistics(module.adapter, shared.reference)
    assert float(method.loss(module, step, shared).detach()) != pytest.approx(first, abs=1e-6)
