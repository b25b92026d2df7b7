"""What the adapter methods share: both contrastive losses, the text side, and what the reference set may touch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from wardround.platform.adapters import AttentionAdapter, TanhAdapter, state_of
from wardround.platform.errors import MethodError
from wardround.platform.methods.adapted_clip import (
    AdaptedClip,
    adaptation_factor,
    adapted_reference,
    check_range,
    clip_of,
    contrastive_loss,
    refresh_statistics,
)

from .. import slow_methods as slow
from .small_steps import SCALE, WIDTH, numbers, shared_of, step_of, unit

TEXT = unit(3, 1)


@pytest.mark.parametrize("labels", [(0, 1, 2), (2, 2, 2, 2), (0,), (1, 0, 2, 1, 1, 0, 2, 2), (0, 1)])
def test_both_losses_equal_the_slow_formula(labels: tuple[int, ...]) -> None:
    adapted, chosen = unit(len(labels), 5), torch.tensor(labels)
    for kind, formula in (("class-prompt", slow.class_prompt), ("in-batch", slow.in_batch)):
        value = contrastive_loss(adapted, chosen, TEXT, SCALE, kind)  # type: ignore[arg-type]
        assert float(value) == pytest.approx(formula(adapted.numpy(), labels, TEXT.numpy(), SCALE), abs=1e-9)


@pytest.mark.parametrize(("classes", "rows"), [(3, 24), (4, 32), (2, 2), (3, 3)])
def test_in_the_batch_a_perfect_model_still_pays_for_every_duplicate_of_a_class(classes: int, rows: int) -> None:
    """Each of the B / K rows of a class has the same text, so the target has one share in B / K: log(B / K)."""
    text, labels = torch.eye(classes, dtype=torch.float64), torch.arange(rows) % classes
    perfect = text[labels]
    floor = float(contrastive_loss(perfect, labels, text, 1000.0, "in-batch"))
    assert floor == pytest.approx(math.log(rows / classes), abs=1e-9)
    assert float(contrastive_loss(perfect, labels, text, 1000.0, "class-prompt")) == pytest.approx(0.0, abs=1e-9)


def test_in_the_batch_the_order_of_rows_does_not_matter_and_the_batch_does() -> None:
    adapted, labels = unit(6, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    order = torch.tensor([3, 0, 5, 1, 4, 2])

    def loss(rows: torch.Tensor) -> float:
        return float(contrastive_loss(adapted[rows], labels[rows], TEXT, SCALE, "in-batch"))

    whole = torch.arange(6)
    assert loss(order) == pytest.approx(loss(whole), abs=1e-12)
    assert (loss(whole[:3]) + loss(whole[3:])) / 2 != pytest.approx(loss(whole), abs=1e-3)


def test_without_a_text_adapter_the_prompts_are_the_shared_ones() -> None:
    shared = shared_of()
    assert AdaptedClip(TanhAdapter(WIDTH, seed=0)).text(shared) is shared.text
    module = AdaptedClip(TanhAdapter(WIDTH, seed=0), text_adapter=TanhAdapter(WIDTH, seed=1)).double()
    expected = slow.adapt(shared.text.numpy(), numbers(module), "text_adapter.", running=True)
    np.testing.assert_allclose(module.text(shared).detach().numpy(), expected, rtol=0, atol=1e-9)


def test_its_children_are_what_is_there() -> None:
    adapter = TanhAdapter(WIDTH, seed=0)
    plain = AdaptedClip(adapter)
    assert {name for name, _ in plain.named_children()} == {"adapter"}
    assert "log_temperature" not in state_of(plain)
    full = AdaptedClip(adapter, text_adapter=TanhAdapter(WIDTH, seed=1), domain=nn.Linear(WIDTH, 1), head=True)
    assert {name.split(".")[0] for name in state_of(full)} == {"adapter", "text_adapter", "domain", "log_temperature"}
    assert state_of(full)["log_temperature"].tolist() == [0.0]


def test_statistics_of_both_sides_are_refreshed_each_by_its_own() -> None:
    shared, inputs = shared_of(), unit(9, 6)
    module = AdaptedClip(AttentionAdapter(WIDTH, seed=0), text_adapter=AttentionAdapter(WIDTH, seed=1)).double()
    refresh_statistics(module, inputs, shared)
    p = numbers(module)
    for side, seen in (("adapter", inputs), ("text_adapter", shared.text)):
        mean, variance = slow.moments(slow.linear(seen.numpy(), p, f"{side}.project_in"))
        np.testing.assert_allclose(p[f"{side}.norm.running_mean"], mean, rtol=0, atol=1e-9)
        np.testing.assert_allclose(p[f"{side}.norm.running_var"], variance, rtol=0, atol=1e-9)


def test_modules_without_an_adapter_keep_their_statistics() -> None:
    other = nn.Sequential(nn.BatchNorm1d(WIDTH)).double()
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    refresh_statistics(other, unit(9, 6), shared_of())
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())
    with pytest.raises(TypeError, match="Sequential"):
        clip_of(other)


def test_known_labels_become_one_hot_probabilities_of_the_chosen_rows() -> None:
    shared, step = shared_of(known=(0, 1, 2, 2, 1, 0)), step_of(rows=(5, 2, 2))
    found = adapted_reference(AdaptedClip(TanhAdapter(WIDTH, seed=0)).double(), shared, step)
    assert found is not None
    assert found[1].tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]
    assert not any(tensor.requires_grad for tensor in found)


def test_guessed_probabilities_are_those_of_the_adapter_and_constants() -> None:
    shared, step = shared_of(), step_of()
    module = AdaptedClip(TanhAdapter(WIDTH, seed=0)).double()
    found = adapted_reference(module, shared, step)
    assert found is not None
    moved = slow.adapt(shared.reference[step.reference_rows].numpy(), numbers(module), "adapter.", running=True)
    expected = slow.softmax(slow.cosine_logits(moved, shared.text.numpy(), SCALE))
    np.testing.assert_allclose(found[0].numpy(), moved, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found[1].numpy(), expected, rtol=0, atol=1e-9)
    assert not any(tensor.requires_grad for tensor in found)
    assert adapted_reference(module, shared, step_of(rows=())) is None


@pytest.mark.parametrize(
    ("rows", "rescale", "factor"),
    [(1, True, 1 / 32), (8, True, 0.25), (32, True, 1.0), (64, True, 1.0), (8, False, 1.0)],
)
def test_the_weight_of_adaptation_in_small_batches(rows: int, rescale: bool, factor: float) -> None:
    assert adaptation_factor(0.5, rescale, rows) == pytest.approx(0.5 * factor)


@pytest.mark.parametrize("value", [-1.0, 2.1, float("nan"), float("inf")])
def test_a_refusal_names_method_option_value_and_remedy(value: float) -> None:
    check_range("here", "mu", 0.0, 0.0, 2.0, "Use less")
    check_range("here", "mu", 2.0, 0.0, 2.0, "Use less")
    with pytest.raises(MethodError, match=rf"mu = {value:g} is not in \[0, 2\]") as caught:
        check_range("here", "mu", value, 0.0, 2.0, "Use less")
    assert (caught.value.where, caught.value.remedy) == ("here", "Use less")
