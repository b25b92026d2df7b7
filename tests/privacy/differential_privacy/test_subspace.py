"""Public directions: what they keep of a gradient, that they are a projection, and what it does to noise."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from wardround.privacy.differential_privacy.clipping import clipped_sum
from wardround.privacy.differential_privacy.subspace import Subspace
from wardround.privacy.errors import MechanismError

NAMES = ("tanh", "attention-5", "attention-8", "joint-5", "joint-8", "plain-layers")
ROWS = 5  # fewer than the layers are wide, so that directions are missing


def subspace_of(case, directions: int, rows=None) -> Subspace:
    return Subspace.of(case.module, lambda: case.losses(rows), trained=case.trained, directions=directions)


def like(case, seed: int, *, dtype=torch.float64) -> dict[str, torch.Tensor]:
    """A gradient that lies anywhere."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(p.shape, generator=generator, dtype=torch.float64).to(dtype)
        for name, p in case.module.named_parameters()
    }


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_the_public_rows_are_kept(cases, name):
    case = cases.build(name, ROWS)
    space, rows = subspace_of(case, ROWS), case.row_gradients()
    for row in range(ROWS):
        own = {key: gradient[row] for key, gradient in rows.items()}
        for key, kept in space.project(own).items():
            torch.testing.assert_close(kept, own[key], rtol=1e-8, atol=1e-8)
    total = clipped_sum(case.module, case.losses, clip=0.3, trained=case.trained)
    assert cases.apart(total, type(total)(space.project(total.gradients), 0)) < 1e-8


@pytest.mark.parametrize("directions", [1, 3, 40])
@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_projection(cases, name, directions):
    case = cases.build(name, ROWS, seed=2)
    space, first, second = subspace_of(case, directions), like(case, 1), like(case, 2)
    once = space.project(first)
    combined = space.project({key: 2.0 * first[key] - 3.0 * second[key] for key in first})
    for key, again in space.project(once).items():
        torch.testing.assert_close(again, once[key], rtol=1e-9, atol=1e-9)  # idempotent
        linear = 2.0 * once[key] - 3.0 * space.project(second)[key]
        torch.testing.assert_close(combined[key], linear, rtol=1e-9, atol=1e-9)
        # What is taken away is at right angles to what stays, so nothing grows.
        assert abs(float(((first[key] - once[key]) * once[key]).sum())) < 1e-8
        assert float(once[key].norm()) <= float(first[key].norm()) * (1 + 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_no_norm_grows_in_either_type(cases, name, dtype):
    case = cases.build(name, 30, dtype=dtype)
    space = subspace_of(case, 12)
    rounding = 1.0 + 100 * torch.finfo(dtype).eps
    for seed in range(5):
        gradient = like(case, seed, dtype=dtype)
        kept = space.project(gradient)
        assert set(kept) == set(gradient)
        assert all(value.dtype == dtype for value in kept.values())
        assert float(cases.flat(kept).norm()) <= float(cases.flat(gradient).norm()) * rounding


@pytest.mark.parametrize("name", NAMES)
def test_directions_are_orthonormal_and_no_more_than_asked_for(cases, name):
    case = cases.build(name, ROWS)
    for directions in (1, 3, 40):
        space = subspace_of(case, directions)
        matrices = {key for key, p in case.module.named_parameters() if p.ndim == 2}
        assert set(space.left) == set(case.trained)
        assert set(space.right) == matrices
        for rows in (*space.left.values(), *space.right.values()):
            assert len(rows) <= min(directions, ROWS)
            torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)).double(), rtol=0, atol=1e-10)


def test_it_takes_away_as_much_noise_as_it_has_no_directions_for(cases):
    case = cases.build("attention-5", 30)
    space, draws = subspace_of(case, 2), 400
    name = "adapter.project_in.weight"
    shape = case.module.get_parameter(name).shape
    noise = torch.randn((draws, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kept = sum(float(space.project({name: row})[name].square().sum()) for row in noise) / draws
    assert kept == pytest.approx(4.0, rel=0.15)  # 2 x 2 of the width's square


def test_the_strongest_directions_stay():
    layer = nn.Linear(4, 3, bias=False).double()
    inputs = torch.diag(torch.tensor([5.0, 3.0, 1.0, 0.1], dtype=torch.float64))
    space = Subspace.of(layer, lambda: layer(inputs).sum(dim=1), trained=["weight"], directions=2)
    seen = space.right["weight"].abs()
    assert torch.equal((seen > 0.5).any(dim=0), torch.tensor([True, True, False, False]))


def test_a_name_that_it_does_not_know_stays_as_it_is(cases):
    case = cases.build("tanh", ROWS)
    other = torch.arange(4.0)
    assert subspace_of(case, 2).project({"other": other})["other"] is other


def test_only_the_directions_are_looked_at_and_nothing_is_changed(cases):
    case = cases.build("joint-5", ROWS)
    before = {name: p.detach().clone() for name, p in case.module.named_parameters()}
    subspace_of(case, 3)
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in case.module.named_parameters())
    assert not any(module._forward_hooks for module in case.module.modules())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_public_rows_whose_gradients_are_not_finite_are_refused(cases, value):
    case = cases.build("tanh", ROWS)
    with torch.no_grad():
        case.module.get_parameter("adapter.project_out.weight").fill_(value)
    with pytest.raises(MechanismError, match="not finite") as caught:
        subspace_of(case, 3)
    assert caught.value.remedy


def test_losses_of_another_form_are_refused(cases):
    case = cases.build("tanh", ROWS)
    with pytest.raises(MechanismError, match="losses of shape"):
        Subspace.of(case.module, lambda: case.losses().sum(), trained=case.trained, directions=2)
