"""Local training: every row once, the same bits every time, statistics and moments as documented."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from wardround.platform.adapters import AttentionAdapter, load_state, set_statistics, state_of
from wardround.platform.config import Study
from wardround.platform.errors import MethodError
from wardround.platform.methods.facmic import Facmic
from wardround.platform.methods.method import SharedInputs, TrainingPart, batches
from wardround.platform.study_data import StudyData
from wardround.platform.training import (
    LocalResult,
    derive_seed,
    one_thread,
    predict_logits,
    train_locally,
    zero_shot_logits,
)
from wardround.platform.update import State

WIDTH = 16
Train = Callable[..., LocalResult]


def same(left: State, right: State) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture
def start() -> State:
    return state_of(AttentionAdapter(WIDTH, seed=7))


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
        return train_locally(Facmic(), start, chosen, shared or data.shared, study.training, seed=seed, moments=moments)

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
    result, part = train(), toy_data().sites[0].train.training()
    adapter = AttentionAdapter(WIDTH, seed=0)
    load_state(adapter, result.state)
    hidden = adapter.project_in(part.features).detach().double()
    torch.testing.assert_close(result.state["norm.running_mean"].double(), hidden.mean(dim=0), rtol=1e-6, atol=1e-8)
    variance = hidden.var(dim=0, unbiased=False)
    torch.testing.assert_close(result.state["norm.running_var"].double(), variance, rtol=1e-6, atol=1e-10)


def test_it_is_adam_with_the_studys_settings(train: Train, start: State, toy_data: Callable[..., StudyData]) -> None:
    """Adam in plain numpy (Kingma and Ba 2015, algorithm 1, with L2 in the gradient) beside torch's."""
    data = toy_data()
    part, method = data.sites[0].train.training(), Facmic()
    lr, b1, b2, eps, decay = 2e-3, 0.7, 0.95, 1e-4, 0.1
    result = train(seed=4, batch_size=9, lr=lr, beta1=b1, beta2=b2, eps=eps, weight_decay=decay)
    adapter = AttentionAdapter(WIDTH, seed=0)
    load_state(adapter, start)
    set_statistics(adapter, part.features)
    adapter.train()
    generator = torch.Generator().manual_seed(4)
    first = {name: np.zeros(p.shape) for name, p in adapter.named_parameters()}
    second = {name: np.zeros(p.shape) for name, p in adapter.named_parameters()}
    losses = []
    with one_thread():
        for step, rows in enumerate(batches(len(part.labels), 9, generator), start=1):
            reference = torch.randperm(data.reference_n, generator=generator)[: len(rows)]
            adapter.zero_grad()
            loss = method.loss(adapter, TrainingPart(part.features[rows], part.labels[rows]), data.shared, reference)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append((float(loss.detach()), len(rows)))
            for name, p in adapter.named_parameters():
                assert p.grad is not None
                gradient = p.grad.double().numpy() + decay * p.detach().double().numpy()
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
    assert float(kept.moments["norm.weight.step"]) == 2 * float(first.moments["norm.weight.step"])
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
