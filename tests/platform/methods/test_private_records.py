"""Adaptation image by image: clipped sums beside torch.func, and what the linear loss has to do with the real one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from wardround.platform import domain
from wardround.platform.lmmd import gaussian_kernels
from wardround.platform.methods.adapted_clip import clip_of
from wardround.platform.methods.method import Step
from wardround.platform.methods.private import PublicStep
from wardround.platform.methods.private_records import (
    FaaClipJointly,
    FacmicByFourier,
    draw_frequencies,
    fourier_features,
)

from ..private_steps import HIDDEN, check_sum, private, unit_rows

FOURIER = ("facmic by record", "facmic by record, depth 8")
JOINT = ("faa-clip by record", "faa-clip by record, depth 8")
UNITS = {
    "records": None,
    "records by number": list(range(10)),
    "patients": [0, 0, 1, 1, 1, 2, 2, 2, 2, 4],
    "one patient": [0] * 10,
}


@pytest.fixture(autouse=True)
def small_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domain, "HIDDEN", HIDDEN)


@pytest.mark.parametrize("clip", [0.1, 1e6], ids=["clipped", "whole"])
@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("kind", [*FOURIER, *JOINT])
def test_a_clipped_sum_is_that_of_gradients_made_one_by_one(kind: str, units: str, clip: float) -> None:
    check_sum(private(kind), UNITS[units], clip=clip)


@pytest.mark.parametrize("expected", [1, 31, 32, 100])
@pytest.mark.parametrize("kind", [*FOURIER, *JOINT])
def test_the_expected_batch_weighs_adaptation_and_the_real_one_does_not(kind: str, expected: int) -> None:
    for rows in (1, 5):
        check_sum(private(kind, rows), None, clip=1e6, seed=1, expected=expected)


@pytest.mark.parametrize("kind", [*FOURIER, *JOINT])
def test_classes_may_be_missing_and_a_batch_may_be_one_row(kind: str) -> None:
    for present in (1, 2):
        check_sum(private(kind, present=present, seed=4), UNITS["patients"], clip=0.5, seed=1)
    check_sum(private(kind, 1), None, clip=0.5, seed=2)
    check_sum(private(kind, 1), [0], clip=0.5, seed=2)


@pytest.mark.parametrize("kind", [*FOURIER, *JOINT])
def test_an_empty_sample_gives_zeros_of_every_trained_parameter(kind: str) -> None:
    case, none = private(kind, 0), torch.zeros(0, dtype=torch.int64)
    module = case.module()
    for units in (0, 3):
        found = case.form.clipped(module, case.part, none, units, 1.0, case.shared, case.alignment, 8)
        assert set(found.gradients) == set(case.form.noised(module))
        assert not any(bool(gradient.any()) for gradient in found.gradients.values())


# --- FACMIC ----------------------------------------------------------------------------------------------------------


def test_without_a_gap_facmics_loss_is_the_cross_entropy() -> None:
    case, plain = private("facmic by record"), private("fedclip")
    module = case.module()
    assert case.alignment is not None
    nowhere = replace(case.alignment, gap=torch.zeros_like(case.alignment.gap))
    unreleased = replace(case.alignment, gap=torch.zeros(0, 0), frequencies=torch.zeros(0, 0))
    alone = plain.form.losses(module, case.part, case.shared, None, 8)
    for alignment in (None, nowhere, unreleased):
        assert torch.equal(case.form.losses(module, case.part, case.shared, alignment, 8), alone)


def test_an_unknown_class_is_not_pulled() -> None:
    case = private("facmic by record", 12, present=4)
    module = case.module()
    plain = case.form.losses(module, case.part, case.shared, None, 32)
    pulled = case.form.losses(module, case.part, case.shared, case.alignment, 32)
    unknown = case.part.labels == 3
    assert bool(unknown.any())
    assert torch.equal(pulled[unknown], plain[unknown])
    assert bool((pulled[~unknown] != plain[~unknown]).all())


def test_with_the_exact_gap_its_gradient_is_that_of_the_squared_distance_of_means() -> None:
    """Sum over rows of the linear loss / rows has the gradient of kernels / classes * sum of |m_c - mu_c|^2."""
    case = private("facmic by record", 40, seed=9, present=3)
    module, method, labels = case.module(2), case.method, case.part.labels
    assert case.alignment is not None
    frequencies = case.alignment.frequencies.double()
    counts = torch.bincount(labels, minlength=4).double()
    goal = 0.1 * torch.randn((4, 2 * len(frequencies)), generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def means() -> torch.Tensor:
        phi = fourier_features(clip_of(module).adapter.adapt(case.part.inputs), frequencies)
        return torch.stack([phi[labels == c].mean(dim=0) for c in range(3)])

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        names = sorted(case.form.noised(module))
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, [module.get_parameter(n) for n in names])])

    gap = torch.cat([means().detach() - goal[:3], torch.zeros(1, goal.shape[1])])
    exact = replace(case.alignment, gap=gap, shares=counts / 40)
    linear = case.form.losses(module, case.part, case.shared, exact, 32) - case.form.losses(
        module, case.part, case.shared, None, 32
    )
    squared = 5 / 3 * (means() - goal[:3]).square().sum()
    assert method.weight(32) == 1.0  # type: ignore[attr-defined]
    torch.testing.assert_close(gradient(linear.mean()), gradient(squared), rtol=1e-6, atol=1e-9)


def test_nothing_of_facmics_private_form_is_public() -> None:
    case, rows = private("facmic by record"), torch.arange(6)
    module = case.module()
    assert isinstance(case.form, FacmicByFourier)
    assert case.form.public_loss(module, PublicStep(rows, rows, 8), case.shared, case.alignment) is None
    assert case.form.public_weight(8) == 0.0
    assert case.form.noised(module) == {n for n, _ in module.named_parameters()}


# --- random Fourier features -----------------------------------------------------------------------------------------


def test_fourier_features_have_norm_one_and_estimate_the_kernels_mean() -> None:
    reference = unit_rows(200, 1, width=16)
    frequencies = draw_frequencies(reference, 20_000, torch.Generator().manual_seed(3)).double()
    points = reference[:30]
    phi = fourier_features(points, frequencies)
    torch.testing.assert_close(phi.norm(dim=1), torch.ones(30).double(), rtol=1e-12, atol=1e-12)
    # LMMD's bandwidth is the mean distance of the points that it is given: here of the whole set.
    kernel = gaussian_kernels(reference)[:30, :30] / 5
    assert float((phi @ phi.T - kernel).abs().max()) < 0.04
    assert float((phi @ phi.T - kernel).abs().mean()) < 0.01


def test_frequencies_follow_the_generator_and_the_public_set_alone() -> None:
    reference = unit_rows(20, 1).float()

    def drawn(seed: int, rows: torch.Tensor = reference) -> torch.Tensor:
        return draw_frequencies(rows, 24, torch.Generator().manual_seed(seed))

    assert drawn(1).dtype == torch.float32
    assert drawn(1).shape == (24, 12)
    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    torch.testing.assert_close(drawn(1, reference / 2), 2 * drawn(1), rtol=1e-5, atol=1e-6)  # as wide as the set is


@pytest.mark.parametrize("rows", [torch.ones(5, 12) / math.sqrt(12), torch.ones(1, 12), 1e-20 * torch.eye(12)])
def test_frequencies_of_a_set_without_width_are_finite(rows: torch.Tensor) -> None:
    drawn = draw_frequencies(rows, 10, torch.Generator().manual_seed(0))
    assert bool(torch.isfinite(drawn).all())
    assert bool(torch.isfinite(fourier_features(unit_rows(4, 1).float(), drawn)).all())


# --- FAA-CLIP --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("through", [True, False])
@pytest.mark.parametrize("kind", JOINT)
def test_private_and_public_half_together_are_the_methods_own_gradient(kind: str, through: bool) -> None:
    """Without a bound, and with a batch as large as the expected one."""
    case = private(kind, 9, faa_clip={"reference_through_adapter": through})
    module, rows = case.module(4), torch.arange(11)
    assert isinstance(case.form, FaaClipJointly)
    assert case.form.noised(module) == {n for n, _ in module.named_parameters()}
    summed = case.form.clipped(module, case.part, None, 9, 1e6, case.shared, None, 9)
    public = case.form.public_loss(module, PublicStep(rows, rows[:0], 9), case.shared, None)
    assert public is not None
    public.backward()  # type: ignore[no-untyped-call]
    found = {name: module.get_parameter(name).grad for name in summed.gradients}
    assert all(gradient is None for name, gradient in found.items() if name.startswith("adapter."))  # constants
    both = {name: g / 9 + (0 if found[name] is None else found[name]) for name, g in summed.gradients.items()}
    module.zero_grad()
    case.method.loss(module, Step(case.part, rows, {}), case.shared).backward()  # type: ignore[no-untyped-call]
    for name, gradient in both.items():
        torch.testing.assert_close(gradient, module.get_parameter(name).grad, rtol=1e-10, atol=1e-12)


def test_the_classifiers_pull_is_reversed_for_the_adapter_and_not_for_itself() -> None:
    case = private("faa-clip by record")
    module = case.module()

    def told() -> float:
        losses = case.form.losses(module, case.part, case.shared, None, 32)
        plain = private("fedclip").form.losses(module, case.part, case.shared, None, 32)
        return float((losses - plain).detach().mean())

    before = told()
    plain = private("fedclip").form.losses(module, case.part, case.shared, None, 32).sum()
    losses = case.form.losses(module, case.part, case.shared, None, 32).sum() - plain
    named = dict(module.named_parameters())
    gradients = dict(zip(named, torch.autograd.grad(losses, list(named.values())), strict=True))
    for prefix, falls in (("domain.", True), ("adapter.", False)):
        with torch.no_grad():
            for name, parameter in named.items():
                parameter -= 1e-4 * gradients[name] * name.startswith(prefix)
        assert (told() < before) == falls
        with torch.no_grad():
            for name, parameter in named.items():
                parameter += 1e-4 * gradients[name] * name.startswith(prefix)


def test_without_reference_rows_nothing_is_public() -> None:
    case = private("faa-clip by record")
    none = torch.zeros(0, dtype=torch.int64)
    assert case.form.public_loss(case.module(), PublicStep(none, none, 8), case.shared, None) is None
    assert case.form.public_weight(8) == 0.5 * 8 / 32
    assert np.isclose(case.form.public_weight(64), 0.5)
