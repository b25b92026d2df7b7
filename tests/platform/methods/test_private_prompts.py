"""PromptFL's private form: through the shared Jacobian, beside plain autograd, unit by unit."""

from __future__ import annotations

import pytest
import torch
from wardround.platform.methods.method import Step, TrainingPart
from wardround.platform.methods.private import PublicStep
from wardround.platform.methods.private_prompts import PromptsByJacobian
from wardround.platform.methods.prompt_fl import PromptFl

from ..private_steps import Private, private

NAME = "context.vectors"


def unit_gradients(case: Private, module: torch.nn.Module, owners: list[int], units: int) -> list[torch.Tensor]:
    """The gradient of each unit's summed loss: one pass through the text tower for each of them."""
    found = []
    for unit in range(units):
        rows = torch.tensor([row for row, owner in enumerate(owners) if owner == unit], dtype=torch.int64)
        vectors = module.get_parameter(NAME)
        if len(rows) == 0:
            found.append(torch.zeros_like(vectors))
            continue
        part = TrainingPart(case.part.inputs[rows], case.part.labels[rows])
        loss = len(rows) * PromptFl().loss(module, Step(part, torch.zeros(0, dtype=torch.int64), {}), case.shared)
        found.append(torch.autograd.grad(loss, vectors)[0])
    return found


def clipped_slowly(gradients: list[torch.Tensor], clip: float) -> torch.Tensor:
    return torch.stack([g * min(1.0, clip / max(float(g.norm()), 1e-300)) for g in gradients]).sum(dim=0)


@pytest.mark.parametrize("clip", [0.05, 1e6], ids=["clipped", "whole"])
@pytest.mark.parametrize(
    "owners", [None, list(range(7)), [0, 0, 1, 1, 1, 3, 3], [0] * 7, [4, 0, 1, 4, 1, 0, 2]], ids=str
)
def test_a_clipped_sum_is_that_of_gradients_made_one_by_one(owners: list[int] | None, clip: float) -> None:
    case = private("prompt-fl", 7)
    module = case.module(1)
    unit_of = None if owners is None else torch.tensor(owners)
    own = owners or list(range(7))
    units = max(own) + (1 if owners is None else 2)
    found = case.form.clipped(module, case.part, unit_of, units, clip, case.shared, None, 8)
    wanted = clipped_slowly(unit_gradients(case, module, own, units), clip)
    assert set(found.gradients) == {NAME}
    torch.testing.assert_close(found.gradients[NAME], wanted, rtol=1e-8, atol=1e-8)
    assert found.dropped == 0
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("present", [1, 2])
@pytest.mark.parametrize("rows", [1, 5])
def test_classes_may_be_missing_and_a_batch_may_be_one_row(rows: int, present: int) -> None:
    case = private("prompt-fl", rows, present=present, seed=3)
    module, own = case.module(2), [0] * (rows - 1) + [1]
    found = case.form.clipped(module, case.part, torch.tensor(own), 2, 0.3, case.shared, None, 8)
    wanted = clipped_slowly(unit_gradients(case, module, own, 2), 0.3)
    torch.testing.assert_close(found.gradients[NAME], wanted, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("units", [0, 3])
def test_an_empty_sample_gives_zeros(units: int) -> None:
    case = private("prompt-fl", 0)
    found = case.form.clipped(
        case.module(), case.part, torch.zeros(0, dtype=torch.int64), units, 1.0, case.shared, None, 8
    )
    assert found.gradients[NAME].shape == (3, 12)
    assert not bool(found.gradients[NAME].any())


def test_the_context_vectors_are_what_is_noised() -> None:
    case = private("prompt-fl")
    module = case.module()
    assert case.form.noised(module) == {NAME} == {name for name, _ in module.named_parameters()}


def test_its_losses_are_the_methods_row_by_row() -> None:
    case = private("prompt-fl", 5)
    module = case.module(1)
    losses = case.form.losses(module, case.part, case.shared, None, 8)
    step = Step(case.part, torch.zeros(0, dtype=torch.int64), {})
    assert losses.shape == (5,)
    assert float(losses.detach().mean()) == pytest.approx(float(case.method.loss(module, step, case.shared).detach()))


def test_a_unit_whose_gradient_is_not_finite_gives_nothing() -> None:
    case = private("prompt-fl", 6)
    module, owners = case.module(1), torch.tensor([0, 0, 1, 1, 2, 2])
    bad = case.part.inputs.clone()
    bad[3, 2] = float("inf")
    part = TrainingPart(bad, case.part.labels)
    found = case.form.clipped(module, part, owners, 3, 0.2, case.shared, None, 8)
    kept = unit_gradients(case, module, [0, 0, 9, 9, 2, 2], 3)
    assert found.dropped == 1
    torch.testing.assert_close(found.gradients[NAME], clipped_slowly(kept, 0.2), rtol=1e-8, atol=1e-8)


def test_nothing_is_public_and_no_layer_is_probed() -> None:
    form, rows = PromptsByJacobian(), torch.arange(4)
    case = private("prompt-fl")
    assert form.public_loss(case.module(), PublicStep(rows, rows, 8), case.shared, None) is None
    assert form.public_weight(8) == 0.0
    assert not form.independent
