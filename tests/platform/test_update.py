"""Updates: flattened, averaged and applied without losing anything."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.platform.adapters import AttentionAdapter, set_statistics, state_of
from wardround.platform.update import BUFFERS, METRICS, UPDATE, Layout, State, Update, apply_mean

WIDTH = 6


def drawn_state(generator: np.random.Generator, spread: float = 1.0) -> State:
    state = state_of(AttentionAdapter(WIDTH, seed=0))
    drawn = {name: torch.from_numpy(generator.normal(size=t.shape) * spread).float() for name, t in state.items()}
    drawn["norm.running_var"] = drawn["norm.running_var"].abs() + 1e-3
    return drawn


def weighted(
    updates: list[Update], weights: list[float]
) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    total = sum(weights)
    return {
        name: sum(w * u.blocks[name].astype(np.float64) for w, u in zip(weights, updates, strict=True)) / total
        for name in (UPDATE, BUFFERS, METRICS)
    }  # type: ignore[return-value]


LAYOUT = Layout.of(AttentionAdapter(WIDTH, seed=0))


def test_sizes_at_width_512() -> None:
    sizes = Layout.of(AttentionAdapter(512, seed=0)).sizes()
    assert sizes == {UPDATE: 526_336, BUFFERS: 1024, METRICS: 1}


def test_the_flat_vector_has_the_layouts_order() -> None:
    state = drawn_state(np.random.default_rng(0))
    names = [name for name, _ in LAYOUT.parameters]
    assert names[0] == "project_in.weight"
    expected = np.concatenate([state[name].numpy().ravel() for name in names])
    assert np.array_equal(LAYOUT.flatten(state), expected)
    assert len(expected) == LAYOUT.sizes()[UPDATE]
    assert LAYOUT.norms == (("norm", WIDTH),)


def test_a_module_without_batch_norm_has_no_buffers() -> None:
    plain = torch.nn.Linear(2, 3)
    layout = Layout.of(plain)
    assert layout.sizes() == {UPDATE: 9, BUFFERS: 0, METRICS: 1}
    state = state_of(plain)
    update = Update.between(layout, state, state, 0.5)
    assert update.blocks[BUFFERS].shape == (0,)
    moved = apply_mean(layout, state, {name: values.astype(np.float64) for name, values in update.blocks.items()})
    assert all(torch.equal(moved[name], state[name]) for name in state)


def test_blocks_are_flat_float32() -> None:
    generator = np.random.default_rng(1)
    update = Update.between(LAYOUT, drawn_state(generator), drawn_state(generator), 1.25)
    assert update.blocks.keys() == {UPDATE, BUFFERS, METRICS}
    for name, values in update.blocks.items():
        assert values.dtype == np.float32
        assert values.shape == (LAYOUT.sizes()[name],)
    assert update.blocks[METRICS].tolist() == [1.25]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([1e-3, 1.0, 50.0]))
def test_one_sites_update_applied_gives_that_sites_state(seed: int, spread: float) -> None:
    generator = np.random.default_rng(seed)
    before, after = drawn_state(generator, spread), drawn_state(generator, spread)
    moved = apply_mean(LAYOUT, before, weighted([Update.between(LAYOUT, before, after, 0.0)], [3.0]))
    assert moved.keys() == before.keys()
    for name in after:
        assert moved[name].dtype == torch.float32
        assert moved[name].shape == after[name].shape
        np.testing.assert_allclose(moved[name].numpy(), after[name].numpy(), rtol=1e-5, atol=2e-6 * spread**2 + 1e-7)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), sites=st.integers(2, 5))
def test_the_mean_of_updates_is_the_mean_of_parameters(seed: int, sites: int) -> None:
    generator = np.random.default_rng(seed)
    before = drawn_state(generator)
    after = [drawn_state(generator) for _ in range(sites)]
    weights = generator.uniform(0.1, 4.0, size=sites).tolist()
    kept = {name: tensor.clone() for name, tensor in before.items()}
    moved = apply_mean(LAYOUT, before, weighted([Update.between(LAYOUT, before, a, 0.0) for a in after], weights))
    for name, _ in LAYOUT.parameters:
        expected = sum(w * a[name].double() for w, a in zip(weights, after, strict=True)) / sum(weights)
        np.testing.assert_allclose(moved[name].numpy(), expected.numpy(), rtol=1e-4, atol=1e-6)  # type: ignore[union-attr]
    assert all(torch.equal(before[name], kept[name]) for name in kept)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), counts=st.lists(st.integers(2, 40), min_size=2, max_size=4))
def test_federated_batch_norm_statistics_are_those_of_the_pooled_data(seed: int, counts: list[int]) -> None:
    generator = np.random.default_rng(seed)
    start = state_of(AttentionAdapter(WIDTH, seed=1))

    def with_statistics_of(features: torch.Tensor) -> State:
        adapter = AttentionAdapter(WIDTH, seed=1)
        set_statistics(adapter, features)
        return state_of(adapter)

    parts = [  # sites whose means lie far apart: a mean of variances would miss the spread between them
        torch.from_numpy(generator.normal(size=(n, WIDTH)) + generator.normal(size=WIDTH) * 3.0).float() for n in counts
    ]
    updates = [Update.between(LAYOUT, start, with_statistics_of(part), 0.0) for part in parts]
    moved = apply_mean(LAYOUT, start, weighted(updates, [float(n) for n in counts]))
    pooled = with_statistics_of(torch.cat(parts))
    for name in ("norm.running_mean", "norm.running_var"):
        np.testing.assert_allclose(moved[name].numpy(), pooled[name].numpy(), rtol=2e-5, atol=2e-5)


def test_a_mean_of_variances_would_be_wrong() -> None:
    hidden = [np.zeros((10, WIDTH)), np.full((10, WIDTH), 2.0)]
    assert np.concatenate(hidden).var(axis=0) == pytest.approx(1.0)
    state = drawn_state(np.random.default_rng(0))
    updates = []
    for values in hidden:
        after = {**state, "norm.running_mean": torch.from_numpy(values.mean(axis=0)).float()}
        after["norm.running_var"] = torch.from_numpy(values.var(axis=0)).float()
        updates.append(Update.between(LAYOUT, state, after, 0.0))
    moved = apply_mean(LAYOUT, state, weighted(updates, [1.0, 1.0]))
    assert moved["norm.running_mean"].tolist() == pytest.approx([1.0] * WIDTH)
    assert moved["norm.running_var"].tolist() == pytest.approx([1.0] * WIDTH)


def test_rounding_below_zero_variance_is_clamped() -> None:
    state = drawn_state(np.random.default_rng(0))
    mean = {
        UPDATE: np.zeros(LAYOUT.sizes()[UPDATE]),
        BUFFERS: np.concatenate([np.ones(WIDTH), np.full(WIDTH, 1.0 - 1e-9)]),
        METRICS: np.zeros(1),
    }
    assert apply_mean(LAYOUT, state, mean)["norm.running_var"].tolist() == [0.0] * WIDTH
