"""The adapters: published sizes, formulas, exact statistics, and states that are checked before they are loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from wardround.platform.adapters import (
    AdapterNorm,
    AttentionAdapter,
    TanhAdapter,
    class_logits,
    load_state,
    set_statistics,
    source_statistics_only,
    state_of,
    trained_tensors,
    under,
)
from wardround.platform.errors import CheckpointError, MethodError

from . import slow_methods as slow

Array = NDArray[np.float64]


def features(count: int, width: int = 8, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return nn.functional.normalize(drawn, dim=1)


def numbers(module: nn.Module) -> dict[str, Array]:
    """Parameters and statistics in float64."""
    return {name: tensor.double().numpy().copy() for name, tensor in state_of(module).items()}


def shaken(module: nn.Module, seed: int = 5) -> nn.Module:
    """A float64 module whose parameters and statistics are all away from their start values."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for name, tensor in trained_tensors(module).items():
            drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.copy_(tensor + 0.4 * (drawn - 0.5) if "running_var" not in name else 0.1 + drawn)
    return module


SIZES: list[tuple[str, Callable[[int], nn.Module], int]] = [
    ("FedCLIP", lambda width: TanhAdapter(width, seed=0), 525_312),
    ("FACMIC and FAA-CLIP", lambda width: AttentionAdapter(width, seed=0), 526_336),
    ("kept at the site", lambda width: AttentionAdapter(width, seed=0, normalisation="batch-local"), 526_336),
    ("LayerNorm", lambda width: AttentionAdapter(width, seed=0, normalisation="layer"), 526_336),
    ("depth 8", lambda width: AttentionAdapter(width, seed=0, depth=8), 790_016),
    ("depth 8, LayerNorm", lambda width: AttentionAdapter(width, seed=0, depth=8, normalisation="layer"), 790_016),
]
IDS = [name for name, _, _ in SIZES]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("make", "size"), [(make, size) for _, make, size in SIZES], ids=IDS)
def test_it_has_its_published_size(make: Callable[[int], nn.Module], size: int) -> None:
    assert count(make(512)) == size


@pytest.mark.parametrize("make", [make for _, make, _ in SIZES], ids=IDS)
@pytest.mark.parametrize("width", [512, 640, 768, 1024])
def test_any_width_of_a_backbone_fits(make: Callable[[int], nn.Module], width: int) -> None:
    adapter = make(width)
    linears = [layer for layer in adapter.modules() if isinstance(layer, nn.Linear)]
    norms = [layer for layer in adapter.modules() if isinstance(layer, AdapterNorm | nn.LayerNorm)]
    assert count(adapter) == len(linears) * (width * width + width) + len(norms) * 2 * width
    assert len(norms) == {2: len(norms), 3: 2}[len(linears)]
    adapted = adapter.eval().adapt(features(3, width))  # type: ignore[operator]
    assert adapted.shape == (3, width)
    torch.testing.assert_close(adapted.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("make", [make for _, make, _ in SIZES], ids=IDS)
def test_start_values_follow_from_the_seed_alone(make: Callable[[int], nn.Module]) -> None:
    torch.manual_seed(1)
    first = state_of(make(8))
    torch.manual_seed(2)
    second = state_of(make(8))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert 0.5 * 8**-0.5 < float(first["project_out.weight"].abs().max()) <= 8**-0.5


def test_another_seed_gives_other_start_values() -> None:
    for make in (TanhAdapter, AttentionAdapter):
        first, other = state_of(make(8, seed=3)), state_of(make(8, seed=4))
        assert not torch.equal(first["project_in.weight"], other["project_in.weight"])


@pytest.mark.parametrize("depth", [0, 4, 6, 7, 11])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(MethodError, match=f"depth = {depth}") as caught:
        AttentionAdapter(8, seed=0, depth=depth)  # type: ignore[arg-type]
    assert "5" in caught.value.remedy


@pytest.mark.parametrize("rows", [1, 2, 6])
def test_fedclips_formula(rows: int) -> None:
    adapter = shaken(TanhAdapter(5, seed=0))
    x = features(rows, 5, seed=1).double()
    p = numbers(adapter)
    np.testing.assert_allclose(adapter(x).detach().numpy(), slow.tanh_attention(x.numpy(), p), rtol=0, atol=1e-9)
    adapted = adapter.adapt(x).detach().numpy()  # type: ignore[operator]
    np.testing.assert_allclose(adapted, slow.adapt(x.numpy(), p, running=True), rtol=0, atol=1e-9)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("normalisation", ["batch", "batch-local", "layer"])
@pytest.mark.parametrize("depth", [5, 8])
def test_the_formula_of_facmic_and_faa_clip(depth: Any, normalisation: Any, mode: str) -> None:
    adapter = shaken(AttentionAdapter(5, seed=0, depth=depth, normalisation=normalisation)).train(mode == "train")
    x = features(6, 5, seed=1).double()
    p = numbers(adapter)
    assert ("project_between.weight" in p) == (depth == 8)
    assert ("norm.running_mean" in p) == (normalisation != "layer")
    running = mode == "eval"
    attention = slow.attention(x.numpy(), p, running=running)
    np.testing.assert_allclose(adapter(x).detach().numpy(), attention, rtol=0, atol=1e-9)
    np.testing.assert_allclose(attention.sum(axis=1), 1.0, atol=1e-12)
    adapted = adapter.adapt(x).detach()  # type: ignore[operator]
    np.testing.assert_allclose(adapted.numpy(), slow.adapt(x.numpy(), p, running=running), rtol=0, atol=1e-9)
    text = features(3, 5, seed=2).double()
    logits = class_logits(adapted, text, 20.0).numpy()
    np.testing.assert_allclose(logits, slow.cosine_logits(adapted.numpy(), text.numpy(), 20.0), rtol=0, atol=1e-9)


def test_only_batch_norm_looks_at_other_rows() -> None:
    x = features(6, seed=3)
    for normalisation, alone in (("batch", False), ("layer", True)):
        adapter = AttentionAdapter(8, seed=0, normalisation=normalisation).train()  # type: ignore[arg-type]
        assert torch.allclose(adapter(x[:3]), adapter(x)[:3], atol=1e-6) == alone


def test_statistics_are_the_exact_moments_and_the_mode_is_kept() -> None:
    adapter = AttentionAdapter(8, seed=0)
    x = features(31)
    for mode in (True, False):
        adapter.train(mode)
        set_statistics(adapter, x)
        assert adapter.training is mode
    hidden = adapter.project_in(x).detach().double().numpy()
    np.testing.assert_allclose(adapter.norm.running_mean.numpy(), hidden.mean(axis=0), rtol=1e-6)  # type: ignore[union-attr]
    np.testing.assert_allclose(adapter.norm.running_var.numpy(), hidden.var(axis=0), rtol=1e-6)  # type: ignore[union-attr]


def test_statistics_of_stacked_layers_see_their_predecessors() -> None:
    stack = nn.Sequential(AdapterNorm(4), nn.Linear(4, 4), AdapterNorm(4))
    x = features(20, 4) * 7.0 + 3.0
    set_statistics(stack, x)
    stack.eval()
    with torch.no_grad():
        out = stack(x)
    np.testing.assert_allclose(out.mean(dim=0).numpy(), np.zeros(4), atol=1e-5)
    np.testing.assert_allclose(out.var(dim=0, unbiased=False).numpy(), np.ones(4), atol=1e-3)


def test_both_norms_of_depth_8_get_the_exact_moments_of_what_they_see() -> None:
    adapter = shaken(AttentionAdapter(5, seed=0, depth=8))
    x = features(9, 5, seed=4).double()
    set_statistics(adapter, x)
    p = numbers(adapter)
    hidden = slow.linear(x.numpy(), p, "project_in")
    for name in ("norm", "norm_between"):
        mean, variance = slow.moments(hidden)
        np.testing.assert_allclose(p[f"{name}.running_mean"], mean, rtol=0, atol=1e-9)
        np.testing.assert_allclose(p[f"{name}.running_var"], variance, rtol=0, atol=1e-9)
        active = slow.each(slow.batch_norm(hidden, p, name, running=True), lambda v: v if v > 0 else 0.01 * v)
        hidden = slow.linear(active, p, "project_between")


def test_norms_of_a_backbone_are_no_adapters_norms() -> None:
    stack = nn.Sequential(nn.BatchNorm1d(4), AdapterNorm(4))
    set_statistics(stack, features(20, 4) * 7.0 + 3.0)
    assert stack[0].running_mean.tolist() == [0.0] * 4
    assert min(stack[1].running_mean.tolist()) > 1.0
    assert {"1.running_mean", "1.running_var"} < trained_tensors(stack).keys()
    assert not any(name.startswith("0.running") for name in trained_tensors(stack))


def test_training_batches_do_not_move_the_running_statistics() -> None:
    adapter = AttentionAdapter(8, seed=0)
    set_statistics(adapter, features(31))
    before = state_of(adapter)
    adapter.train()
    adapter(features(6, seed=9) + 5.0)
    after = state_of(adapter)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_source_statistics_only_keeps_them_and_uses_them() -> None:
    adapter = AttentionAdapter(8, seed=0)
    set_statistics(adapter, features(31))
    before = state_of(adapter)
    adapter.train()
    other = features(6, seed=9) + 5.0
    with source_statistics_only(adapter):
        alone = torch.cat([adapter(row[None]) for row in other])
        together = adapter(other)
    assert adapter.training
    torch.testing.assert_close(alone, together)  # rows do not see each other: no batch moments
    after = state_of(adapter)
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(RuntimeError, match="inside"), source_statistics_only(adapter):
        raise RuntimeError("inside")
    assert adapter.training


def test_a_state_is_copied_and_put_back() -> None:
    adapter = AttentionAdapter(8, seed=0)
    set_statistics(adapter, features(31))
    state = state_of(adapter)
    assert not any("num_batches" in name for name in state)
    other = AttentionAdapter(8, seed=5)
    load_state(other, state)
    assert all(torch.equal(state[name], tensor) for name, tensor in state_of(other).items())
    with torch.no_grad():
        other.project_in.weight.zero_()
    assert state["project_in.weight"].any()


def test_frozen_parameters_are_no_state() -> None:
    adapter = AttentionAdapter(8, seed=0)
    adapter.project_in.requires_grad_(False)
    names = state_of(adapter).keys()
    assert "project_in.weight" not in names
    assert {"project_out.weight", "norm.weight", "norm.running_mean"} <= names


def test_local_tensors_keep_their_values_when_the_rest_is_loaded() -> None:
    adapter, other = AttentionAdapter(8, seed=0), AttentionAdapter(8, seed=5)
    set_statistics(adapter, features(31))
    shared = {name: tensor for name, tensor in state_of(other).items() if not under(name, ("norm.",))}
    before = state_of(adapter)
    load_state(adapter, shared, without=("norm.",))
    for name, tensor in state_of(adapter).items():
        assert torch.equal(tensor, (before if name.startswith("norm.") else shared)[name])
    with pytest.raises(CheckpointError, match=r"'norm\.bias' is missing"):
        load_state(adapter, shared)
    with pytest.raises(CheckpointError, match=r"'norm\.bias' is unknown"):
        load_state(adapter, before, without=("norm.",))


@pytest.mark.parametrize(
    ("name", "inside"),
    [("domain.a", True), ("domains.a", False), ("adapter.norm.x", True), ("adapter.norm_between", False)],
)
def test_a_prefix_ends_at_a_dot(name: str, inside: bool) -> None:
    assert under(name, ("domain.", "adapter.norm.")) == inside


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("norm.weight", None, "'norm.weight' is missing"),
        ("norm.more", torch.zeros(8), "'norm.more' is unknown"),
        ("norm.weight", torch.zeros(9), r"\(9,\), not torch.float32 \(8,\)"),
        ("norm.weight", torch.zeros(8, dtype=torch.float64), "float64"),
        ("norm.weight", torch.full((8,), torch.nan), "not finite"),
        ("norm.running_var", torch.full((8,), torch.inf), "not finite"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(
    name: str, tensor: torch.Tensor | None, said: str
) -> None:
    adapter = AttentionAdapter(8, seed=0)
    before = state_of(adapter)
    state = {key: value + 1.0 for key, value in before.items()}
    if tensor is None:
        del state[name]
    else:
        state[name] = tensor
    with pytest.raises(CheckpointError, match=said):
        load_state(adapter, state)
    assert all(torch.equal(before[key], value) for key, value in state_of(adapter).items())
