"""Private forms without adaptation by record: their clipped sums beside torch.func, their public losses written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from wardround.platform import domain
from wardround.platform.errors import MethodError
from wardround.platform.methods.adapted_clip import AdaptedClip
from wardround.platform.methods.faa_clip import FaaClip
from wardround.platform.methods.facmic import Facmic
from wardround.platform.methods.fedclip import FedClip
from wardround.platform.methods.method import Step, TrainingPart
from wardround.platform.methods.private import (
    ClassPrompt,
    FaaClipByProxies,
    FacmicByProxies,
    PublicStep,
    plain_form,
    refuse_form,
)

from .. import slow_methods as slow
from ..private_steps import HIDDEN, SCALE, Private, check_sum, private
from .small_steps import numbers

FORMS = ("fedclip", "facmic", "facmic, depth 8", "facmic, off", "faa-clip", "faa-clip, depth 8")
UNITS = {
    "records": None,
    "records by number": list(range(10)),
    "patients": [0, 0, 1, 1, 1, 2, 2, 2, 2, 4],
    "one patient": [0] * 10,
    "out of order": [4, 0, 1, 4, 1, 0, 2, 2, 4, 0],
}


@pytest.fixture(autouse=True)
def small_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domain, "HIDDEN", HIDDEN)


@pytest.mark.parametrize("clip", [0.1, 1e6], ids=["clipped", "whole"])
@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("kind", FORMS)
def test_a_clipped_sum_is_that_of_gradients_made_one_by_one(kind: str, units: str, clip: float) -> None:
    check_sum(private(kind), UNITS[units], clip=clip)


@pytest.mark.parametrize("kind", FORMS)
def test_classes_may_be_missing_and_a_batch_may_be_one_row(kind: str) -> None:
    for present in (1, 2):
        check_sum(private(kind, present=present, seed=4), UNITS["patients"], clip=0.5, seed=1)
    check_sum(private(kind, 1), None, clip=0.5, seed=2)
    check_sum(private(kind, 1), [0], clip=0.5, seed=2)


@pytest.mark.parametrize("kind", FORMS)
def test_an_empty_sample_gives_zeros_of_every_trained_parameter(kind: str) -> None:
    case, none = private(kind, 0), torch.zeros(0, dtype=torch.int64)
    module = case.module()
    for units in (0, 3):
        found = case.form.clipped(module, case.part, none, units, 1.0, case.shared, case.alignment, 8)
        shapes = {name: module.get_parameter(name).shape for name in case.form.noised(module)}
        assert {name: gradient.shape for name, gradient in found.gradients.items()} == shapes
        assert not any(bool(gradient.any()) for gradient in found.gradients.values())


@pytest.mark.parametrize("kind", FORMS)
def test_exactly_the_image_side_is_noised(kind: str) -> None:
    case = private(kind)
    module = case.module()
    assert case.form.noised(module) == {
        f"adapter.{name}" for name, _ in module.get_submodule("adapter").named_parameters()
    }


def test_a_temperature_is_fitted_and_not_noised() -> None:
    module = FedClip(head=True).new_module(private("fedclip").shared, 0)
    assert "log_temperature" not in ClassPrompt().noised(module)


@pytest.mark.parametrize("kind", ["fedclip", "facmic, off"])
def test_without_a_bound_it_is_the_methods_own_gradient(kind: str) -> None:
    case = private(kind)
    module = case.module()
    found = case.form.clipped(module, case.part, None, 10, 1e6, case.shared, None, 10)
    case.method.loss(module, Step(case.part, torch.zeros(0, dtype=torch.int64), {}), case.shared).backward()  # type: ignore[no-untyped-call]
    for name, gradient in found.gradients.items():
        torch.testing.assert_close(gradient / 10, module.get_parameter(name).grad, rtol=1e-10, atol=1e-12)


# --- the public part -------------------------------------------------------------------------------------------------


STEP = PublicStep(torch.tensor([4, 0, 7, 3, 11]), torch.tensor([1, 2, 0, 9, 5, 8, 14]), 8)


def public_loss(case: Private, module: torch.nn.Module, step: PublicStep = STEP, **changes: Any) -> torch.Tensor | None:
    return case.form.public_loss(module, step, case.shared, changes.get("alignment", case.alignment))


@pytest.mark.parametrize("through", [True, False])
@pytest.mark.parametrize("kind", ["facmic", "facmic, depth 8"])
def test_facmics_public_loss_is_the_discrepancy_of_proxies_and_reference(kind: str, through: bool) -> None:
    case = private(kind, facmic={"reference_through_adapter": through})
    module = case.module(3)
    p, aligned = numbers(module), case.alignment
    assert aligned is not None
    proxies = slow.adapt(aligned.proxies[STEP.proxy_rows].numpy(), p, "adapter.", running=False)
    reference = case.shared.reference[STEP.reference_rows].numpy()
    labels = case.shared.reference_labels
    assert labels is not None
    sure = np.eye(4)[labels[STEP.reference_rows].numpy()]
    target = slow.adapt(reference, p, "adapter.", running=True) if through else reference
    mean = slow.mean_distance(np.concatenate([proxies, target]))
    own = aligned.proxy_labels[STEP.proxy_rows].tolist()
    wanted = 8 / 32 * slow.lmmd(proxies, own, target, sure, mean)
    loss = public_loss(case, module)
    assert loss is not None
    assert float(loss.detach()) == pytest.approx(wanted, abs=1e-10)
    assert case.form.public_weight(8) == 8 / 32


@pytest.mark.parametrize("kind", ["faa-clip", "faa-clip, depth 8"])
def test_faa_clips_public_loss_is_adversarial_on_proxies_and_reference(kind: str) -> None:
    case = private(kind)
    module = case.module(3)
    assert isinstance(module, AdaptedClip)
    assert module.domain is not None
    assert case.alignment is not None
    told = module.domain(module.adapter.adapt(case.alignment.proxies[STEP.proxy_rows])).double()
    moved = module.domain(module.adapter.adapt(case.shared.reference[STEP.reference_rows])).double()
    wanted = 0.5 * 8 / 32 * 0.5 * (torch.log1p(told.exp()).mean() + torch.log1p((-moved).exp()).mean())
    loss = public_loss(case, module)
    assert loss is not None
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), abs=1e-12)
    assert case.form.public_weight(8) == 0.5 * 8 / 32
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in module.parameters())  # adapter and classifier both learn from it


@pytest.mark.parametrize("kind", FORMS)
def test_where_either_side_is_empty_there_is_no_public_loss(kind: str) -> None:
    case, none = private(kind), torch.zeros(0, dtype=torch.int64)
    module = case.module()
    assert public_loss(case, module, PublicStep(none, STEP.proxy_rows, 8)) is None
    assert public_loss(case, module, PublicStep(STEP.reference_rows, none, 8)) is None
    assert public_loss(case, module, alignment=None) is None


@pytest.mark.parametrize("kind", ["fedclip", "facmic, off"])
def test_without_adaptation_nothing_is_public(kind: str) -> None:
    case = private(kind)
    assert public_loss(case, case.module(), alignment=private("facmic").alignment) is None
    assert case.form.public_weight(8) == 0.0


@pytest.mark.parametrize("kind", ["facmic", "faa-clip"])
def test_the_public_weight_knows_the_expected_batch_alone(kind: str) -> None:
    case = private(kind)
    module = case.module()
    values = []
    for rows in (3, 7):
        loss = public_loss(case, module, PublicStep(STEP.reference_rows, STEP.proxy_rows[:rows], 16))
        larger = public_loss(case, module, PublicStep(STEP.reference_rows, STEP.proxy_rows[:rows], 32))
        assert loss is not None
        assert larger is not None
        values.append(float(larger.detach()) / float(loss.detach()))
    assert values == pytest.approx([2.0, 2.0])


def test_each_method_has_its_form() -> None:
    layer = {"normalisation": "layer"}
    assert isinstance(plain_form(Facmic(**layer)), FacmicByProxies)  # type: ignore[arg-type]
    assert isinstance(plain_form(FaaClip(**layer)), FaaClipByProxies)  # type: ignore[arg-type]
    for plain in (FedClip(), Facmic(adaptation_weight=0.0), FaaClip(adaptation_weight=0.0)):
        assert type(plain_form(plain)) is ClassPrompt


def test_a_method_without_a_form_hears_which_have_one() -> None:
    error = refuse_form("moon")
    assert isinstance(error, MethodError)
    assert "'moon'" in error.what
    for name in ("fedclip", "facmic", "faa-clip", "prompt-fl"):
        assert name in error.remedy


def test_the_proxies_do_not_enter_the_private_loss() -> None:
    """The private loss of FACMIC by proxies is FedCLIP's, whatever it is aligned with."""
    case = private("facmic")
    module = case.module()
    rows = TrainingPart(case.part.inputs[:3], case.part.labels[:3])
    with_them = case.form.losses(module, rows, case.shared, case.alignment, 8)
    assert torch.equal(with_them, case.form.losses(module, rows, case.shared, None, 1))
    logits = slow.cosine_logits(
        slow.adapt(rows.inputs.numpy(), numbers(module), "adapter.", running=False), case.shared.text.numpy(), SCALE
    )
    slow_losses = [-np.log(slow.softmax(logits)[i, label]) for i, label in enumerate(rows.labels.tolist())]
    np.testing.assert_allclose(with_them.detach().numpy(), slow_losses, atol=1e-10)
