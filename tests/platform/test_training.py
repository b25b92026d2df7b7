"""Local training: every row once, the same bits every time, statistics and moments as documented."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torch import nn
from torch.nn import functional as F
from wardround.platform.adapters import State, load_state, set_statistics, state_of, under
from wardround.platform.config import Study
from wardround.platform.errors import CheckpointError, MethodError
from wardround.platform.methods.adapted_clip import AdaptedClip
from wardround.platform.methods.faa_clip import FaaClip
from wardround.platform.methods.facmic import Facmic
from wardround.platform.methods.fedclip import FedClip
from wardround.platform.methods.method import Method, SharedInputs, Step, TrainingPart, batches, log_shares
from wardround.platform.methods.zero_shot import ZeroShot
from wardround.platform.study_data import StudyData
from wardround.platform.terms import start_state
from wardround.platform.training import (
    Carried,
    LocalResult,
    derive_seed,
    one_thread,
    predict_logits,
    ready_module,
    served_state,
    train_locally,
    zero_shot_logits,
)

WIDTH = 16
Train = Callable[..., LocalResult]


def same(left: State, right: State) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def new_module(shared: SharedInputs, seed: int = 0) -> AdaptedClip:
    return Facmic().new_module(shared, seed)


@pytest.fixture
def start(toy_data: Callable[..., StudyData]) -> State:
    return state_of(new_module(toy_data().shared, seed=7))


@pytest.fixture
def train(toy_study: Callable[..., Study], toy_data: Callable[..., StudyData], start: State) -> Train:
    """``train(seed=…, moments=…, data=…, **training)`` trains the first site from the start values."""

    def trained(
        seed: int = 1,
        moments: State | None = None,
        part: TrainingPart | None = None,
        shared: SharedInputs | None = None,
        **training: object,
    ) -> LocalResult:
        data = toy_data()
        study = toy_study(training=training)
        chosen = part or data.sites[0].train.training()
        carried = None if moments is None else Carried(moments)
        return train_locally(Facmic(), start, chosen, shared or data.shared, study.training, seed=seed, carried=carried)

    return trained


@settings(max_examples=200, deadline=None)
@given(count=st.integers(1, 200), size=st.integers(2, 64), seed=st.integers(0, 2**31))
def test_batches_cover_every_row_once_and_never_hold_a_single_one(count: int, size: int, seed: int) -> None:
    drawn = [rows.tolist() for rows in batches(count, size, torch.Generator().manual_seed(seed))]
    assert sorted(row for rows in drawn for row in rows) == list(range(count))
    if count == 1:  # nothing to join: train_locally refuses such a part before it asks for batches
        assert drawn == [[0]]
    else:
        assert all(2 <= len(rows) <= size + 1 for rows in drawn)
        assert all(len(rows) == size for rows in drawn[:-1])


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_rows_are_refused(count: int, train: Train) -> None:
    part = TrainingPart(torch.zeros(count, WIDTH), torch.zeros(count, dtype=torch.int64))
    with pytest.raises(MethodError, match=f"{count} training record") as caught:
        train(part=part)
    assert caught.value.remedy


def test_the_smallest_part_trains(train: Train) -> None:
    part = TrainingPart(F.normalize(torch.eye(2, WIDTH), dim=1), torch.tensor([0, 1]))
    assert np.isfinite(train(part=part, batch_size=2).loss)


def test_it_repeats_bit_for_bit_and_depends_on_the_seed(train: Train) -> None:
    before = torch.get_num_threads()
    first = train(seed=1)
    torch.manual_seed(99)  # the global generator has no say
    second = train(seed=1)
    assert same(first.state, second.state)
    assert same(first.moments, second.moments)
    assert first.loss == second.loss
    assert not same(first.state, train(seed=2).state)
    assert torch.get_num_threads() == before


def test_the_start_is_not_changed(train: Train, start: State) -> None:
    kept = {name: tensor.clone() for name, tensor in start.items()}
    train()
    assert same(kept, start)


def test_one_thread_is_given_back_after_an_error() -> None:
    before = torch.get_num_threads()
    inside = []

    def fails() -> None:
        with one_thread():
            inside.append(torch.get_num_threads())
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fails()
    assert inside == [1]
    assert torch.get_num_threads() == before


def test_it_learns(train: Train, toy_data: Callable[..., StudyData]) -> None:
    assert train(local_epochs=20, lr=5e-3).loss < train(local_epochs=1, lr=5e-3).loss
    data = toy_data()
    part = data.sites[0].train
    state = train(local_epochs=30, lr=1e-2).state
    logits = predict_logits(Facmic(), state, torch.from_numpy(part.features), data.shared).numpy()
    assert (logits.argmax(axis=1) == part.labels).mean() > 0.9


def test_statistics_after_training_are_the_exact_moments_of_the_part(
    train: Train, toy_data: Callable[..., StudyData]
) -> None:
    result, data = train(), toy_data()
    part, state = data.sites[0].train.training(), result.state
    module = new_module(data.shared)
    load_state(module, state)
    hidden = module.adapter.get_submodule("project_in")(part.inputs).detach().double()
    mean, variance = hidden.mean(dim=0), hidden.var(dim=0, unbiased=False)
    torch.testing.assert_close(state["adapter.norm.running_mean"].double(), mean, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(state["adapter.norm.running_var"].double(), variance, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize(("proximal", "tau"), [(0.0, 0.0), (3.0, 0.0), (0.0, 1.5), (0.5, 1.0)])
def test_it_is_adam_with_the_studys_settings(
    train: Train, start: State, toy_data: Callable[..., StudyData], proximal: float, tau: float
) -> None:
    """Adam in plain numpy (Kingma and Ba 2015, algorithm 1, with L2 in the gradient) beside torch's.

    The proximal term's gradient is proximal * (w - received), and the logits get tau times the log class shares.
    """
    data = toy_data()
    part, method = data.sites[0].train.training(), Facmic()
    lr, b1, b2, eps, decay = 2e-3, 0.7, 0.95, 1e-4, 0.1
    extras = {"proximal": proximal, "logit_adjustment": tau}
    result = train(seed=4, batch_size=9, lr=lr, beta1=b1, beta2=b2, eps=eps, weight_decay=decay, **extras)
    adjustment = tau * log_shares(part.labels, 3) if tau else None
    adapter = new_module(data.shared)
    load_state(adapter, start)
    set_statistics(adapter, part.inputs)
    adapter.train()
    generator = torch.Generator().manual_seed(4)
    first = {name: np.zeros(p.shape) for name, p in adapter.named_parameters()}
    second = {name: np.zeros(p.shape) for name, p in adapter.named_parameters()}
    losses = []
    with one_thread():
        for step, rows in enumerate(batches(len(part.labels), 9, generator), start=1):
            reference = torch.randperm(data.reference_n, generator=generator)[: len(rows)]
            adapter.zero_grad()
            batch = TrainingPart(part.inputs[rows], part.labels[rows])
            loss = method.loss(adapter, Step(batch, reference, start, adjustment=adjustment), data.shared)
            loss.backward()  # type: ignore[no-untyped-call]
            away = {n: p.detach().double().numpy() - start[n].double().numpy() for n, p in adapter.named_parameters()}
            held = 0.5 * proximal * sum(float((distance**2).sum()) for distance in away.values())
            losses.append((float(loss.detach()) + held, len(rows)))
            for name, p in adapter.named_parameters():
                assert p.grad is not None
                gradient = p.grad.double().numpy() + decay * p.detach().double().numpy() + proximal * away[name]
                first[name] = b1 * first[name] + (1 - b1) * gradient
                second[name] = b2 * second[name] + (1 - b2) * gradient**2
                move = first[name] / (1 - b1**step) / (np.sqrt(second[name] / (1 - b2**step)) + eps)
                with torch.no_grad():
                    p.copy_(torch.from_numpy(p.double().numpy() - lr * move).float())
    assert result.loss == pytest.approx(sum(value * n for value, n in losses) / len(part.labels), rel=1e-5)
    for name, p in adapter.named_parameters():
        np.testing.assert_allclose(result.state[name].numpy(), p.detach().numpy(), atol=2e-5)
        assert float(result.moments[f"{name}.step"]) == len(losses)


def test_moments_are_used_and_go_on_counting(train: Train) -> None:
    first = train()
    kept = train(moments=first.moments)
    assert not same(kept.state, first.state)
    assert float(kept.moments["adapter.norm.weight.step"]) == 2 * float(first.moments["adapter.norm.weight.step"])
    before = {name: tensor.clone() for name, tensor in first.moments.items()}
    train(moments=first.moments)
    assert same(before, first.moments)


def test_a_loss_that_is_not_finite_is_refused(train: Train, toy_data: Callable[..., StudyData]) -> None:
    shared = replace(toy_data().shared, scale=float("nan"))
    with pytest.raises(MethodError, match="not finite"):
        train(shared=shared)


def test_a_reference_set_smaller_than_a_batch_or_empty_trains(train: Train, toy_data: Callable[..., StudyData]) -> None:
    shared = toy_data().shared
    assert np.isfinite(train(shared=replace(shared, reference=shared.reference[:3])).loss)
    assert np.isfinite(train(shared=replace(shared, reference=shared.reference[:0])).loss)


def test_seeds_of_unequal_parts_differ() -> None:
    seeds = [
        derive_seed(*parts)
        for parts in (("a", "b", 1), ("a", "b", 2), ("a", "c", 1), ("ab", 1), ("a", "b1"), ("a", 1, "b"))
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed("a", 1) == derive_seed("a", "1")


def test_predictions_do_not_see_each_other(start: State, toy_data: Callable[..., StudyData]) -> None:
    data = toy_data()
    features = torch.from_numpy(data.sites[0].test.features)
    together = predict_logits(Facmic(), start, features, data.shared)
    alone = torch.cat([predict_logits(Facmic(), start, row[None], data.shared) for row in features])
    assert together.dtype == torch.float64
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert predict_logits(Facmic(), start, features[:0], data.shared).shape == (0, 3)
    expected = data.shared.scale * features.double().numpy() @ data.shared.text.double().numpy().T
    np.testing.assert_allclose(zero_shot_logits(features, data.shared).numpy(), expected, atol=1e-12)


# --- what a method and a study add to local training -----------------------------------------------------------------


def trained_by(
    method: Method, data: StudyData, study: Study, *, number: int = 1, carried: Carried | None = None, **options: Any
) -> LocalResult:
    """One round of a method at the first site, from the study's start values."""
    site = data.sites[0]
    return train_locally(
        method,
        options.pop("start", None) or start_state(study, method, data.shared),
        options.pop("part", None) or site.train.training(),
        data.shared,
        study.training,
        seed=number,
        carried=carried,
        held_out=options.pop("held_out", None) or site.validation.training(),
        **options,
    )


def test_the_methods_own_step_size_goes_before_the_studys(
    toy_study: Callable[..., Study], toy_data: Callable[..., StudyData]
) -> None:
    data = toy_data()
    slow, fast = (toy_study(training={"lr": lr}) for lr in (1e-4, 1e-2))
    own, none = Facmic(lr=1e-2), Facmic()
    assert same(trained_by(own, data, slow).state, trained_by(none, data, fast).state)
    assert not same(trained_by(none, data, slow).state, trained_by(none, data, fast).state)


@pytest.mark.parametrize("method", [FedClip(), Facmic(normalisation="layer"), FaaClip(normalisation="layer")])
def test_without_batch_norm_a_single_image_trains(
    toy_study: Callable[..., Study], toy_data: Callable[..., StudyData], method: Method
) -> None:
    data, part = toy_data(), TrainingPart(torch.eye(1, WIDTH), torch.tensor([1]))
    study = toy_study(method=method.name, **{method.name.replace("-", "_"): {}}, training={"local_epochs": 2})
    result = trained_by(method, data, study, part=part)
    assert np.isfinite(result.loss)
    assert float(result.moments["adapter.project_in.weight.step"]) == 2
    with pytest.raises(MethodError, match="0 training record") as caught:
        trained_by(method, data, study, part=TrainingPart(torch.zeros(0, WIDTH), torch.zeros(0, dtype=torch.int64)))
    assert "1 training image" in caught.value.remedy


@pytest.mark.parametrize("method", [FedClip(head=True), Facmic(head=True), FaaClip(head=True)], ids=lambda m: m.name)
def test_the_temperature_is_fitted_on_the_held_out_part_with_the_adapter_held_still(
    toy_study: Callable[..., Study], toy_data: Callable[..., StudyData], method: Method
) -> None:
    data, study = toy_data(), toy_study()
    held_out = data.sites[0].validation.training()
    wrong = TrainingPart(held_out.inputs, (held_out.labels + (torch.arange(12) % 4 == 0)) % 3)
    result = trained_by(method, data, study, held_out=wrong, head_steps=50)
    plain = {name: tensor for name, tensor in result.state.items() if name != "log_temperature"}
    bare = replace(method, head=False)  # type: ignore[type-var]
    assert same(plain, trained_by(bare, data, study).state)  # the fit changes nothing else
    logits = predict_logits(bare, plain, wrong.inputs, data.shared).numpy()

    def nll(t: float) -> float:
        return float(-log_softmax(logits / np.exp(t), axis=1)[np.arange(12), wrong.labels.numpy()].mean())

    best = minimize_scalar(nll, bounds=(-2.9, 2.9), method="bounded", options={"xatol": 1e-9}).x
    found = float(result.state["log_temperature"])
    assert found == pytest.approx(best, abs=1e-3)
    assert abs(found) > 0.05
    predicted = predict_logits(method, result.state, wrong.inputs, data.shared).numpy()
    np.testing.assert_allclose(predicted, logits / np.exp(found), rtol=1e-6)


@pytest.mark.parametrize("proximal", [0.0, 2.0])
def test_without_held_out_images_the_temperature_stays_as_it_was_received(
    toy_study: Callable[..., Study], toy_data: Callable[..., StudyData], proximal: float
) -> None:
    data, study, method = toy_data(), toy_study(training={"proximal": proximal}), FedClip(head=True)
    start = {**start_state(study, method, data.shared), "log_temperature": torch.tensor([0.75])}
    empty = TrainingPart(torch.zeros(0, WIDTH), torch.zeros(0, dtype=torch.int64))
    result = trained_by(method, data, study, start=start, held_out=empty)
    assert result.state["log_temperature"].tolist() == [0.75]
    assert not any("log_temperature" in name for name in result.moments)


@dataclass(frozen=True)
class Anchored:
    """FAA-CLIP that asks for anchors and notes what it was given; everything else is FAA-CLIP's."""

    base: FaaClip
    seen: list[Step]
    anchors: bool = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.base, name)

    def loss(self, module: nn.Module, step: Step, shared: SharedInputs) -> torch.Tensor:
        self.seen.append(step)
        return self.base.loss(module, step, shared)


@pytest.mark.parametrize("local", [True, False])
def test_anchors_are_the_received_model_and_the_sites_own_last_one(
    toy_study: Callable[..., Study], toy_data: Callable[..., StudyData], local: bool
) -> None:
    """With local tensors too: the received model has the site's own ones, which nobody could have sent."""
    data, study = toy_data(), toy_study(method="faa-clip")
    method = Anchored(FaaClip(domain_classifier="local" if local else "shared"), [])
    start = start_state(study, method, data.shared)  # type: ignore[arg-type]
    first = trained_by(method, data, study, start=start)  # type: ignore[arg-type]
    assert all(step.previous_module is None for step in method.seen)
    step = method.seen[0]
    assert step.received_module is not None
    assert all(torch.equal(state_of_frozen(step.received_module)[name], start[name]) for name in start)
    own = {name: tensor for name, tensor in first.state.items() if name.startswith(method.local)} if local else {}
    assert bool(own) == local
    method.seen.clear()
    other = {name: tensor + 0.01 for name, tensor in start.items()}
    carried = Carried(None, own, first.state)
    trained_by(method, data, study, start=other, carried=carried, number=2)  # type: ignore[arg-type]
    for step in method.seen:
        assert step.previous_module is not None
        assert step.received_module is not None
        assert same(state_of_frozen(step.previous_module), first.state)
        assert same(state_of_frozen(step.received_module), {**other, **own})
        for module in (step.previous_module, step.received_module):
            assert not any(parameter.requires_grad for parameter in module.parameters())
            assert not any(layer.training for layer in module.modules())
    assert step.received == other


def state_of_frozen(module: nn.Module) -> State:
    """Parameters and adapters' statistics of a module whose parameters have no gradient."""
    buffers = {name: tensor for name, tensor in module.named_buffers() if not name.endswith("num_batches_tracked")}
    return {**dict(module.named_parameters()), **buffers}


# --- from a state to a model that predicts ---------------------------------------------------------------------------

ADAPTED: dict[str, Method] = {
    "fedclip": FedClip(text_adapter=True),
    "facmic": Facmic(),
    "facmic, depth 8, head": Facmic(depth=8, head=True),
    "facmic, LayerNorm, text": Facmic(normalisation="layer", text_adapter=True),
    "facmic, norms at the site": Facmic(normalisation="batch-local"),
    "faa-clip": FaaClip(),
    "faa-clip, shared classifier": FaaClip(domain_classifier="shared", text_adapter=True),
    "faa-clip, all at the site": FaaClip(normalisation="batch-local", depth=8),
}


def drawn(method: Method, shared: SharedInputs, seed: int) -> State:
    """All tensors of a method's module, away from their start values."""
    generator = torch.Generator().manual_seed(seed)
    state = state_of(method.new_module(shared, seed=0))
    moved = {name: t + 0.2 * torch.rand(t.shape, generator=generator) for name, t in state.items()}
    return {name: tensor.abs() + 1e-3 if "running_var" in name else tensor for name, tensor in moved.items()}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(ADAPTED)), seed=st.integers(0, 2**31))
def test_a_whole_state_is_served_and_read_back_as_it_predicts(
    toy_data: Callable[..., StudyData], name: str, seed: int
) -> None:
    """A site's own model: nothing is refreshed, nothing is lost but what no prediction needs."""
    data, method = toy_data(), ADAPTED[name]
    state = drawn(method, data.shared, seed)
    served = served_state(method, state, data.shared)
    assert same(served, {key: tensor for key, tensor in state.items() if not key.startswith("domain.")})
    x = data.sites[0].test.training().inputs
    elsewhere = SharedInputs(data.shared.text, data.shared.scale, torch.zeros((0, WIDTH)))  # without a reference set
    for again in (state, served, served_state(method, served, elsewhere)):
        assert torch.equal(predict_logits(method, again, x, elsewhere), predict_logits(method, state, x, data.shared))
    assert not ready_module(method, served, elsewhere).training


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(ADAPTED)), seed=st.integers(0, 2**31))
def test_a_global_state_is_served_whole_and_predicts_the_same_anywhere(
    toy_data: Callable[..., StudyData], name: str, seed: int
) -> None:
    data, method = toy_data(), ADAPTED[name]
    state = drawn(method, data.shared, seed)
    shared_part = {key: tensor for key, tensor in state.items() if not under(key, method.local)}
    served = served_state(method, shared_part, data.shared)
    assert served.keys() == {key for key in state if not key.startswith("domain.")}
    kept = [key for key in shared_part if "running" not in key and not key.startswith("domain.")]
    assert all(torch.equal(served[key], state[key]) for key in kept)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in served.values())
    elsewhere = SharedInputs(data.shared.text, data.shared.scale, torch.zeros((0, WIDTH)))
    x = data.sites[0].test.training().inputs
    first = predict_logits(method, shared_part, x, data.shared)
    assert torch.equal(predict_logits(method, served, x, elsewhere), first)


@pytest.mark.parametrize("method", [Facmic(normalisation="batch-local"), FaaClip(normalisation="batch-local", depth=8)])
def test_where_norms_stay_at_the_sites_those_of_the_reference_set_stand_in(
    toy_data: Callable[..., StudyData], method: Method
) -> None:
    data = toy_data()
    state = drawn(method, data.shared, 3)
    shared_part = {key: tensor for key, tensor in state.items() if not under(key, method.local)}
    served = served_state(method, shared_part, data.shared)
    hidden = data.shared.reference @ served["adapter.project_in.weight"].T + served["adapter.project_in.bias"]
    torch.testing.assert_close(served["adapter.norm.running_mean"], hidden.mean(dim=0), rtol=1e-5, atol=1e-6)
    variance = hidden.var(dim=0, unbiased=False)
    torch.testing.assert_close(served["adapter.norm.running_var"], variance, rtol=1e-4, atol=1e-7)
    assert served["adapter.norm.weight"].tolist() == [1.0] * WIDTH
    assert served["adapter.norm.bias"].tolist() == [0.0] * WIDTH
    other = replace(data.shared, reference=-data.shared.reference)
    assert not same(served_state(method, shared_part, other), served)


@pytest.mark.parametrize("name", ADAPTED)
def test_a_state_that_does_not_fit_is_refused(toy_data: Callable[..., StudyData], name: str) -> None:
    data, method = toy_data(), ADAPTED[name]
    state = drawn(method, data.shared, 1)
    without = {key: tensor for key, tensor in state.items() if key != "adapter.project_in.bias"}
    for wrong, said in (
        (without, "is missing"),
        ({**state, "adapter.more": torch.zeros(1)}, "is unknown"),
        ({**state, "adapter.project_in.bias": torch.full((WIDTH,), torch.nan)}, "not finite"),
    ):
        with pytest.raises(CheckpointError, match=said):
            ready_module(method, wrong, data.shared)


def test_zero_shot_needs_no_state(toy_data: Callable[..., StudyData]) -> None:
    data = toy_data()
    x = data.sites[0].test.training().inputs
    assert served_state(ZeroShot(), {}, data.shared) == {}
    assert torch.equal(predict_logits(ZeroShot(), {}, x, data.shared), zero_shot_logits(x, data.shared))
