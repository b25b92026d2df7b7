"""The adapter: its published size, exact statistics, and states that are checked before they are loaded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from wardround.platform.adapters import (
    AttentionAdapter,
    class_logits,
    load_state,
    set_statistics,
    source_statistics_only,
    state_of,
)
from wardround.platform.errors import CheckpointError


def features(count: int, width: int = 8, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return nn.functional.normalize(drawn, dim=1)


def test_it_has_its_published_size() -> None:
    assert sum(p.numel() for p in AttentionAdapter(512, seed=0).parameters()) == 526_336


def test_start_values_follow_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = state_of(AttentionAdapter(8, seed=3))
    torch.manual_seed(2)
    second, other = state_of(AttentionAdapter(8, seed=3)), state_of(AttentionAdapter(8, seed=4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["project_in.weight"], other["project_in.weight"])
    assert float(first["project_out.weight"].abs().max()) <= 8**-0.5


def test_the_formula_of_the_paper() -> None:
    adapter = AttentionAdapter(8, seed=0)
    set_statistics(adapter, features(40))
    adapter.eval()
    x = features(5, seed=1)
    s = {name: tensor.double().numpy() for name, tensor in state_of(adapter).items()}
    hidden = x.double().numpy() @ s["project_in.weight"].T + s["project_in.bias"]
    hidden = (hidden - s["norm.running_mean"]) / np.sqrt(s["norm.running_var"] + 1e-5)
    hidden = hidden * s["norm.weight"] + s["norm.bias"]
    hidden = np.where(hidden > 0, hidden, 0.01 * hidden) @ s["project_out.weight"].T + s["project_out.bias"]
    attention = np.exp(hidden) / np.exp(hidden).sum(axis=1, keepdims=True)
    expected = attention * x.double().numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(adapter(x).detach().numpy(), attention, atol=1e-6)
    np.testing.assert_allclose(adapter.adapt(x).detach().numpy(), expected, atol=1e-6)
    text = features(3, seed=2)
    np.testing.assert_allclose(
        class_logits(adapter.adapt(x), text, 20.0).detach().numpy(), 20.0 * expected @ text.numpy().T, atol=1e-4
    )


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
    stack = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4), nn.BatchNorm1d(4))
    x = features(20, 4) * 7.0 + 3.0
    set_statistics(stack, x)
    stack.eval()
    with torch.no_grad():
        out = stack(x)
    np.testing.assert_allclose(out.mean(dim=0).numpy(), np.zeros(4), atol=1e-5)
    np.testing.assert_allclose(out.var(dim=0, unbiased=False).numpy(), np.ones(4), atol=1e-3)


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
