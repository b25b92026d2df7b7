"""Updates: flattened, averaged and applied without losing anything."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from wardround.platform import domain
from wardround.platform.adapters import AttentionAdapter, State, set_statistics, state_of
from wardround.platform.errors import CheckpointError
from wardround.platform.methods.adapted_clip import AdaptedClip
from wardround.platform.methods.faa_clip import FaaClip
from wardround.platform.methods.facmic import Facmic
from wardround.platform.methods.fedclip import FedClip
from wardround.platform.methods.method import Method, SharedInputs
from wardround.platform.server import apply_mean
from wardround.platform.update import BUFFERS, METRICS, Layout, Update, mean_statistics, mean_step

WIDTH = 6


def new_module(width: int = WIDTH, seed: int = 0) -> AdaptedClip:
    return AdaptedClip(AttentionAdapter(width, seed=seed))


def drawn_state(generator: np.random.Generator, spread: float = 1.0, module: nn.Module | None = None) -> State:
    state = state_of(module or new_module())
    drawn = {name: torch.from_numpy(generator.normal(size=t.shape) * spread).float() for name, t in state.items()}
    return {name: t.abs() + 1e-3 if name.endswith("running_var") else t for name, t in drawn.items()}


def weighted(
    updates: list[Update], weights: list[float]
) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    total = sum(weights)
    return {
        name: sum(w * u.blocks[name].astype(np.float64) for w, u in zip(weights, updates, strict=True)) / total
        for name in updates[0].blocks
    }  # type: ignore[return-value]


def applied(layout: Layout, state: State, mean: dict[str, np.ndarray]) -> State:  # type: ignore[type-arg]
    """The next global adapter by plain averaging, which keeps no memory."""
    moved, memory = apply_mean(layout, state, mean)
    assert memory == {}
    return moved


LAYOUT = Layout.of(new_module())
(ADAPTER,) = LAYOUT.blocks


def test_sizes_at_width_512() -> None:
    sizes = Layout.of(new_module(512)).sizes()
    assert sizes == {"adapter": 526_336, BUFFERS: 1024, METRICS: 1}


def test_the_flat_vector_has_the_layouts_order() -> None:
    state = drawn_state(np.random.default_rng(0))
    names = [name for name, _ in LAYOUT.parameters]
    assert names[0] == "adapter.project_in.weight"
    expected = np.concatenate([state[name].numpy().ravel() for name in names])
    assert np.array_equal(LAYOUT.flatten(ADAPTER, state), expected)
    assert len(expected) == LAYOUT.sizes()["adapter"] == ADAPTER.size
    assert LAYOUT.norms == (("adapter.norm", WIDTH),)


def test_a_module_without_batch_norm_has_no_buffers() -> None:
    plain = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))  # a backbone's own norm is not an adapter's
    layout = Layout.of(plain)
    assert layout.sizes() == {"0": 9, "1": 6, METRICS: 1}
    assert layout.norms == ()
    state = state_of(plain)
    update = Update.between(layout, state, state, 0.5)
    assert update.blocks.keys() == layout.sizes().keys()
    assert layout.moments(state).shape == (0,)
    moved = applied(layout, state, {name: values.astype(np.float64) for name, values in update.blocks.items()})
    assert moved.keys() == state.keys()
    assert all(torch.equal(moved[name], state[name]) for name in state)


def test_blocks_are_flat_float32() -> None:
    generator = np.random.default_rng(1)
    update = Update.between(LAYOUT, drawn_state(generator), drawn_state(generator), 1.25)
    assert update.blocks.keys() == {"adapter", BUFFERS, METRICS}
    for name, values in update.blocks.items():
        assert values.dtype == np.float32
        assert values.shape == (LAYOUT.sizes()[name],)
    assert update.blocks[METRICS].tolist() == [1.25]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([1e-3, 1.0, 50.0]))
def test_one_sites_update_applied_gives_that_sites_state(seed: int, spread: float) -> None:
    generator = np.random.default_rng(seed)
    before, after = drawn_state(generator, spread), drawn_state(generator, spread)
    moved = applied(LAYOUT, before, weighted([Update.between(LAYOUT, before, after, 0.0)], [3.0]))
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
    moved = applied(LAYOUT, before, weighted([Update.between(LAYOUT, before, a, 0.0) for a in after], weights))
    for name, _ in LAYOUT.parameters:
        expected = sum(w * a[name].double() for w, a in zip(weights, after, strict=True)) / sum(weights)
        np.testing.assert_allclose(moved[name].numpy(), expected.numpy(), rtol=1e-4, atol=1e-6)  # type: ignore[union-attr]
    assert all(torch.equal(before[name], kept[name]) for name in kept)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), counts=st.lists(st.integers(2, 40), min_size=2, max_size=4))
def test_federated_batch_norm_statistics_are_those_of_the_pooled_data(seed: int, counts: list[int]) -> None:
    generator = np.random.default_rng(seed)
    start = state_of(new_module(seed=1))

    def with_statistics_of(features: torch.Tensor) -> State:
        module = new_module(seed=1)
        set_statistics(module.adapter, features)
        return state_of(module)

    parts = [  # sites whose means lie far apart: a mean of variances would miss the spread between them
        torch.from_numpy(generator.normal(size=(n, WIDTH)) + generator.normal(size=WIDTH) * 3.0).float() for n in counts
    ]
    updates = [Update.between(LAYOUT, start, with_statistics_of(part), 0.0) for part in parts]
    moved = applied(LAYOUT, start, weighted(updates, [float(n) for n in counts]))
    pooled = with_statistics_of(torch.cat(parts))
    for name in ("adapter.norm.running_mean", "adapter.norm.running_var"):
        np.testing.assert_allclose(moved[name].numpy(), pooled[name].numpy(), rtol=2e-5, atol=2e-5)


def test_a_mean_of_variances_would_be_wrong() -> None:
    hidden = [np.zeros((10, WIDTH)), np.full((10, WIDTH), 2.0)]
    assert np.concatenate(hidden).var(axis=0) == pytest.approx(1.0)
    state = drawn_state(np.random.default_rng(0))
    updates = []
    for values in hidden:
        after = {**state, "adapter.norm.running_mean": torch.from_numpy(values.mean(axis=0)).float()}
        after["adapter.norm.running_var"] = torch.from_numpy(values.var(axis=0)).float()
        updates.append(Update.between(LAYOUT, state, after, 0.0))
    moved = applied(LAYOUT, state, weighted(updates, [1.0, 1.0]))
    assert moved["adapter.norm.running_mean"].tolist() == pytest.approx([1.0] * WIDTH)
    assert moved["adapter.norm.running_var"].tolist() == pytest.approx([1.0] * WIDTH)


def test_rounding_below_zero_variance_is_clamped() -> None:
    state = drawn_state(np.random.default_rng(0))
    mean = {
        "adapter": np.zeros(ADAPTER.size),
        BUFFERS: np.concatenate([np.ones(WIDTH), np.full(WIDTH, 1.0 - 1e-9)]),
        METRICS: np.zeros(1),
    }
    assert applied(LAYOUT, state, mean)["adapter.norm.running_var"].tolist() == [0.0] * WIDTH


# --- blocks by the module's children ---------------------------------------------------------------------------------


SHARED = SharedInputs(torch.eye(3, WIDTH), 10.0, torch.zeros((0, WIDTH)))
METHODS: dict[str, Method] = {
    "fedclip": FedClip(),
    "fedclip, everything": FedClip(text_adapter=True, head=True),
    "facmic": Facmic(),
    "facmic, depth 8": Facmic(depth=8, text_adapter=True),
    "facmic, LayerNorm": Facmic(normalisation="layer", head=True),
    "facmic, norms at the site": Facmic(depth=8, normalisation="batch-local", text_adapter=True),
    "faa-clip": FaaClip(),
    "faa-clip, shared classifier": FaaClip(domain_classifier="shared", head=True),
}


def layout_of(method: Method) -> tuple[Layout, nn.Module]:
    module = method.new_module(SHARED, seed=1)
    return Layout.of(module, local=method.local), module


@pytest.fixture(autouse=True, scope="module")
def small_classifier() -> Iterator[None]:
    """FAA-CLIP with a classifier of eight hidden units: its parameters are many, and none is special."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(domain, "HIDDEN", 8)
        yield


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("fedclip", ["adapter", METRICS]),
        ("fedclip, everything", ["log_temperature", "adapter", "text_adapter", METRICS]),
        ("facmic", ["adapter", BUFFERS, METRICS]),
        ("facmic, depth 8", ["adapter", "text_adapter", BUFFERS, METRICS]),
        ("facmic, LayerNorm", ["log_temperature", "adapter", METRICS]),
        ("facmic, norms at the site", ["adapter", "text_adapter", BUFFERS, METRICS]),
        ("faa-clip", ["adapter", BUFFERS, METRICS]),
        ("faa-clip, shared classifier", ["log_temperature", "adapter", "domain", BUFFERS, METRICS]),
    ],
)
def test_blocks_are_the_modules_children(name: str, blocks: list[str]) -> None:
    layout, module = layout_of(METHODS[name])
    assert list(layout.sizes()) == blocks
    state = state_of(module)
    for block in layout.blocks:
        names = [tensor for tensor, _ in block.tensors]
        assert all(tensor == block.name or tensor.startswith(f"{block.name}.") for tensor in names)
        assert layout.sizes()[block.name] == sum(state[tensor].numel() for tensor in names)


@pytest.mark.parametrize("name", METHODS)
def test_what_is_sent_and_what_is_local_are_the_whole_state_and_have_nothing_in_common(name: str) -> None:
    method = METHODS[name]
    layout, module = layout_of(method)
    state = state_of(module)
    shared = layout.shared(state)
    local = {tensor for tensor in state if tensor.startswith(method.local)} if method.local else set()
    assert shared.keys() == state.keys() - local
    layout.check(shared)
    assert all(shared[tensor] is state[tensor] for tensor in shared)
    for wrong in ({**shared, "domain.more": torch.zeros(1)}, dict(list(shared.items())[1:])):
        with pytest.raises(CheckpointError):
            layout.check(wrong)
    for tensor in local:
        with pytest.raises(CheckpointError, match=f"'{tensor}' is unknown"):
            layout.check({**shared, tensor: state[tensor]})


def test_norms_that_stay_at_the_site_are_in_no_block() -> None:
    layout, _ = layout_of(METHODS["facmic, norms at the site"])
    assert layout.norms == (("text_adapter.norm", WIDTH), ("text_adapter.norm_between", WIDTH))
    assert not any(name.startswith("adapter.norm") for name, _ in layout.parameters)
    assert layout.sizes()["adapter"] == 3 * (WIDTH * WIDTH + WIDTH)
    assert layout.sizes()[BUFFERS] == 4 * WIDTH


def test_the_order_of_two_norms_in_the_buffers_is_kept() -> None:
    layout, module = layout_of(METHODS["facmic, depth 8"])
    state = drawn_state(np.random.default_rng(4), module=module)
    back = mean_statistics(layout, {BUFFERS: layout.moments(state).astype(np.float64)})
    assert len(back) == 8
    for name, tensor in back.items():
        np.testing.assert_allclose(tensor.numpy(), state[name].numpy(), rtol=1e-4, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(METHODS)), seed=st.integers(0, 2**32 - 1))
def test_flattened_and_put_back_every_tensor_is_itself(name: str, seed: int) -> None:
    layout, module = layout_of(METHODS[name])
    state = drawn_state(np.random.default_rng(seed), module=module)
    flat = {block.name: layout.flatten(block, state).astype(np.float64) for block in layout.blocks}
    back = mean_step(layout, flat)
    assert set(back) == {tensor for tensor, _ in layout.parameters}
    for tensor, value in back.items():
        assert value.dtype == torch.float64
        assert torch.equal(value.float(), state[tensor])


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(METHODS)), seed=st.integers(0, 2**32 - 1))
def test_one_sites_update_of_any_method_gives_that_sites_shared_state(name: str, seed: int) -> None:
    layout, module = layout_of(METHODS[name])
    generator = np.random.default_rng(seed)
    before = layout.shared(drawn_state(generator, module=module))
    after = drawn_state(generator, module=module)
    update = Update.between(layout, before, after, 0.5)
    assert {block: len(values) for block, values in update.blocks.items()} == layout.sizes()
    moved = applied(layout, before, weighted([update], [2.0]))
    layout.check(moved)
    for tensor in moved:
        np.testing.assert_allclose(moved[tensor].numpy(), after[tensor].numpy(), rtol=1e-4, atol=1e-5)
