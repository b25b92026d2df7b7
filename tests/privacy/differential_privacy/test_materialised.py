"""Clipping of gradients that were made whole: the slow sum, the bound, and what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.privacy.differential_privacy.clipping import clipped_sum
from wardround.privacy.differential_privacy.materialised import clip_materialised
from wardround.privacy.errors import MechanismError


def drawn(units: int, *, seed: int = 0, dtype: torch.dtype = torch.float64, spread: float = 1.0):
    generator = torch.Generator().manual_seed(seed)

    def values(*shape: int):
        return (spread * torch.randn((units, *shape), generator=generator, dtype=torch.float64)).to(dtype)

    return {"context": values(3, 4), "scale": values(), "more": values(5)}


@settings(max_examples=60, deadline=None)
@given(units=st.integers(1, 8), power=st.floats(-6, 6), seed=st.integers(0, 2**20))
def test_a_sum_is_that_of_units_clipped_one_by_one(cases, units, power, seed):
    gradients, clip = drawn(units, seed=seed), 10.0**power
    found = clip_materialised(gradients, clip)
    expected = cases.clip_slowly(gradients, clip)
    assert found.dropped == 0
    assert set(found.gradients) == set(gradients)
    for name, gradient in expected.items():
        assert found.gradients[name].shape == gradient.shape
        torch.testing.assert_close(found.gradients[name], gradient, rtol=1e-10, atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from((torch.float32, torch.float64)),
    power=st.floats(-8, 4),
    spread=st.floats(-6, 6),
    seed=st.integers(0, 2**20),
)
def test_one_unit_never_gives_more_than_the_clip(cases, dtype, power, spread, seed):
    clip = 10.0**power
    found = clip_materialised(drawn(1, seed=seed, dtype=dtype, spread=10.0**spread), clip)
    assert float(cases.flat(dict(found.gradients)).double().norm()) <= clip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_taking_a_unit_out_changes_at_most_the_clip(cases, dtype):
    gradients = drawn(6, seed=3, dtype=dtype, spread=4.0)
    gradients["context"][1] *= 1e6
    gradients["more"][2] *= 1e-9
    whole = clip_materialised(gradients, 0.7)
    for unit in range(6):
        others = {name: values[torch.arange(6) != unit] for name, values in gradients.items()}
        assert cases.apart(whole, clip_materialised(others, 0.7)) <= 0.7 * (1.0 + 1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_units_that_are_not_finite_give_nothing(value):
    gradients = drawn(4, seed=5)
    gradients["more"][2, 1] = value
    found = clip_materialised(gradients, 0.5)
    kept = clip_materialised({name: values[[0, 1, 3]] for name, values in gradients.items()}, 0.5)
    assert (found.dropped, kept.dropped) == (1, 0)
    for name, gradient in kept.gradients.items():
        torch.testing.assert_close(found.gradients[name], gradient, rtol=1e-12, atol=1e-12)


def test_a_gradient_too_large_for_its_square_is_dropped_or_clipped(cases):
    for dtype in (torch.float32, torch.float64):
        largest = torch.finfo(dtype).max
        found = clip_materialised({"context": torch.full((1, 4), largest, dtype=dtype)}, 1.0)
        assert float(cases.flat(dict(found.gradients)).norm()) <= 1.0
        assert bool(torch.isfinite(found.gradients["context"]).all())


def test_no_unit_gives_zeros_of_the_right_shape():
    found = clip_materialised(drawn(0), 1.0)
    assert {name: tuple(gradient.shape) for name, gradient in found.gradients.items()} == {
        "context": (3, 4),
        "scale": (),
        "more": (5,),
    }
    assert not any(bool(gradient.any()) for gradient in found.gradients.values())


def test_a_gradient_of_zero_stays_zero():
    found = clip_materialised({"context": torch.zeros(3, 2, 2)}, 1.0)
    assert torch.equal(found.gradients["context"], torch.zeros(2, 2))


@pytest.mark.parametrize("name", ["tanh", "attention-5", "joint-8"])
def test_the_closed_form_and_this_one_agree(cases, name):
    case, owners = cases.build(name, 7), torch.tensor([0, 0, 1, 2, 2, 2, 3])
    rows = case.row_gradients()
    by_unit = {n: torch.zeros((4, *g.shape[1:])).double().index_add_(0, owners, g) for n, g in rows.items()}
    closed = clipped_sum(case.module, case.losses, clip=0.6, trained=case.trained, owners=owners)
    assert cases.apart(closed, clip_materialised(by_unit, 0.6)) < 1e-10


@pytest.mark.parametrize("clip", [0.0, -1.0, float("inf"), float("nan")])
def test_a_clip_is_a_positive_number(clip):
    with pytest.raises(MechanismError, match="clip"):
        clip_materialised(drawn(2), clip)


def test_every_name_has_as_many_units():
    with pytest.raises(MechanismError, match=r"gradients of \[2, 3\] units"):
        clip_materialised({"a": torch.zeros(2, 4), "b": torch.zeros(3, 4)}, 1.0)
    with pytest.raises(MechanismError, match="units"):
        clip_materialised({}, 1.0)
