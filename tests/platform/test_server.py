"""Server optimisers beside the papers' algorithms in plain numbers, over rounds and over a restart."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from wardround.platform.adapter_file import dump_adapter
from wardround.platform.adapters import AttentionAdapter, State, state_of
from wardround.platform.consortium import open_consortium
from wardround.platform.engines.local import carry
from wardround.platform.errors import CheckpointError
from wardround.platform.method_sections import ServerSection
from wardround.platform.methods.adapted_clip import AdaptedClip
from wardround.platform.server import apply_mean
from wardround.platform.update import BUFFERS, METRICS, Layout

WIDTH = 2
MODULE = AdaptedClip(AttentionAdapter(WIDTH, seed=0), head=True)
LAYOUT = Layout.of(MODULE)
Mean = dict[str, NDArray[np.float64]]
SETTINGS = [
    ServerSection(),
    ServerSection(lr=0.5),
    ServerSection(optimiser="fedavgm"),
    ServerSection(optimiser="fedavgm", lr=0.3, beta1=0.5),
    ServerSection(optimiser="fedadam", lr=0.1),
    ServerSection(optimiser="fedadam", lr=2.0, beta1=0.0, beta2=0.5, tau=0.25),
]


def drawn_means(rounds: int, seed: int = 0) -> list[Mean]:
    """Mean updates of some rounds, of very different sizes."""
    draw = np.random.default_rng(seed)
    means = []
    for number in range(rounds):
        mean: Mean = {block.name: draw.normal(size=block.size) * 10.0**-number for block in LAYOUT.blocks}
        first = draw.normal(size=WIDTH)
        mean[BUFFERS] = np.concatenate([first, first**2 + draw.uniform(0.1, 1.0, size=WIDTH)])
        means.append({**mean, METRICS: np.zeros(1)})
    return means


def slow_moves(deltas: list[float], server: ServerSection) -> list[float]:
    """How far one coordinate moves in each round.

    Plain averaging; Hsu et al. 2019, section 4.1 (v = beta v + d, x += lr v); Reddi et al. 2021, algorithm 2 with
    Adam's second moment: m = b1 m + (1 - b1) d, v = b2 v + (1 - b2) d^2 from v = tau^2, x += lr m / (sqrt v + tau).
    """
    momentum, m, v, moves = 0.0, 0.0, server.tau**2, []
    for d in deltas:
        momentum = server.beta1 * momentum + d
        m = server.beta1 * m + (1.0 - server.beta1) * d
        v = server.beta2 * v + (1.0 - server.beta2) * d * d
        step = {"mean": d, "fedavgm": momentum, "fedadam": m / (math.sqrt(v) + server.tau)}[server.optimiser]
        moves.append(server.lr * step)
    return moves


@pytest.mark.parametrize("server", SETTINGS, ids=lambda s: f"{s.optimiser} {s.lr} {s.beta1}")
def test_it_is_the_papers_algorithm_coordinate_by_coordinate(server: ServerSection) -> None:
    means, state, memory = drawn_means(6), state_of(MODULE), State()
    positions = {name: state[name].double().numpy().ravel().copy() for name, _ in LAYOUT.parameters}
    for mean in means:
        before = {name: tensor.clone() for name, tensor in state.items()}
        state, memory = apply_mean(LAYOUT, state, mean, server, memory)
        assert state.keys() == before.keys()
        assert all(tensor.dtype == torch.float32 for tensor in state.values())
    for block in LAYOUT.blocks:
        at = 0
        for name, shape in block.tensors:
            for place in range(math.prod(shape)):
                deltas = [float(mean[block.name][at + place]) for mean in means]
                moves = deltas if name == "log_temperature" else slow_moves(deltas, server)
                expected = positions[name][place] + math.fsum(moves)
                assert float(state[name].ravel()[place]) == pytest.approx(expected, rel=1e-5, abs=2e-6), name
            at += math.prod(shape)


@pytest.mark.parametrize("server", SETTINGS, ids=lambda s: f"{s.optimiser} {s.lr} {s.beta1}")
def test_a_single_step_is_exact_before_it_is_rounded(server: ServerSection) -> None:
    """Float32 rounds the adapter itself; from zeros, the step is what is seen, to its last float32 bit."""
    zeros = {name: torch.zeros_like(tensor) for name, tensor in state_of(MODULE).items()}
    (mean,) = drawn_means(1, seed=3)
    moved, _ = apply_mean(LAYOUT, zeros, mean, server)
    name = "adapter.project_in.weight"
    deltas = mean["adapter"][: WIDTH * WIDTH].tolist()
    expected = [np.float32(slow_moves([d], server)[0]) for d in deltas]
    np.testing.assert_allclose(moved[name].ravel().numpy(), np.array(expected), rtol=2e-7, atol=0)


def test_statistics_and_temperature_are_replaced_by_the_sites_mean() -> None:
    server = ServerSection(optimiser="fedadam", lr=3.0)
    state, memory, log_temperature = state_of(MODULE), State(), 0.0
    for mean in drawn_means(4, seed=2):
        state, memory = apply_mean(LAYOUT, state, mean, server, memory)
        first, second = mean[BUFFERS][:WIDTH], mean[BUFFERS][WIDTH:]
        np.testing.assert_allclose(state["adapter.norm.running_mean"].numpy(), first, rtol=1e-6)
        np.testing.assert_allclose(state["adapter.norm.running_var"].numpy(), second - first**2, rtol=1e-5)
        log_temperature += float(mean["log_temperature"][0])
        assert float(state["log_temperature"]) == pytest.approx(log_temperature, abs=1e-6)
    assert not any("log_temperature" in name or "running" in name for name in memory)


@pytest.mark.parametrize(
    ("optimiser", "kinds"), [("mean", set()), ("fedavgm", {"first"}), ("fedadam", {"first", "second"})]
)
def test_it_keeps_what_the_next_round_needs_and_changes_nothing_it_was_given(optimiser: Any, kinds: set[str]) -> None:
    server, (first, second) = ServerSection(optimiser=optimiser), drawn_means(2)
    state = state_of(MODULE)
    held = {name: tensor.clone() for name, tensor in state.items()}
    state_1, memory_1 = apply_mean(LAYOUT, state, first, server, {})
    assert all(torch.equal(state[name], held[name]) for name in held)
    assert {name.split(".")[0] for name in memory_1} == kinds
    held = {name: tensor.clone() for name, tensor in memory_1.items()}
    apply_mean(LAYOUT, state_1, second, server, memory_1)
    assert all(torch.equal(memory_1[name], held[name]) for name in held)
    assert all(tensor.dtype == torch.float64 for tensor in memory_1.values())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), lr=st.floats(0.01, 10.0))
def test_without_momentum_fedavgm_is_the_mean(seed: int, lr: float) -> None:
    state, memory = state_of(MODULE), State()
    for mean in drawn_means(3, seed):
        plain, _ = apply_mean(LAYOUT, state, mean, ServerSection(lr=lr))
        state, memory = apply_mean(LAYOUT, state, mean, ServerSection(optimiser="fedavgm", beta1=0.0, lr=lr), memory)
        assert all(torch.equal(state[name], plain[name]) for name in plain)


# --- through the protocol --------------------------------------------------------------------------------------------


def rounds(made: Any, fingerprint: str, count: int) -> tuple[bytes, dict[str, torch.Tensor]]:
    """Run ``count`` rounds in a consortium opened for them; the adapter's bytes and the server's moments."""
    with open_consortium(made.study, made.method, made.data, fingerprint, made.run) as consortium:
        coordinator = consortium.coordinator
        for _ in range(count):
            carry(coordinator, consortium.sites, coordinator.begin())
            carry(coordinator, consortium.sites, coordinator.commit())
        return dump_adapter(coordinator.state, coordinator.info), dict(coordinator.memory)


@pytest.mark.parametrize("optimiser", ["fedavgm", "fedadam"])
def test_resumed_in_the_middle_it_ends_with_the_same_bytes(
    toy: Callable[..., Any], tmp_path: Path, BACKBONE: str, optimiser: str
) -> None:
    changes = {"rounds": 4, "server": {"optimiser": optimiser, "lr": 0.05}, "method": "fedclip"}
    whole, moments = rounds(toy(tmp_path / "whole", **changes), BACKBONE, 4)
    made = toy(tmp_path / "stopped", **changes)
    for count in (1, 2, 1):
        last, again = rounds(made, BACKBONE, count)
    assert last == whole
    assert again.keys() == moments.keys()
    assert all(torch.equal(again[name], moments[name]) for name in moments)
    plain, none = rounds(toy(tmp_path / "plain", rounds=4, method="fedclip"), BACKBONE, 4)
    assert plain != whole
    assert none == {}
    assert not list((tmp_path / "plain" / "coordinator" / "checkpoint").glob("server-*"))


@pytest.mark.parametrize("fault", ["missing", "flipped"])
def test_moments_that_are_gone_or_damaged_stop_the_resume(
    toy: Callable[..., Any], tmp_path: Path, BACKBONE: str, fault: str
) -> None:
    made = toy(tmp_path / "run", rounds=4, server={"optimiser": "fedadam", "lr": 0.05})
    rounds(made, BACKBONE, 2)
    path = made.run.coordinator / "checkpoint" / "server-00002.safetensors"
    good = path.read_bytes()
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(good[:-5] + bytes([good[-5] ^ 4]) + good[-4:])
    with pytest.raises(CheckpointError) as caught:
        rounds(made, BACKBONE, 1)
    assert caught.value.where == str(path)
    path.write_bytes(good)
    rounds(made, BACKBONE, 1)


def test_moments_are_pruned_with_their_checkpoints(toy: Callable[..., Any], tmp_path: Path, BACKBONE: str) -> None:
    made = toy(tmp_path / "run", rounds=5, server={"optimiser": "fedavgm", "lr": 0.05})
    rounds(made, BACKBONE, 5)
    names = sorted(path.name for path in (made.run.coordinator / "checkpoint").glob("*.safetensors"))
    assert names == [f"{kind}-{n:05d}.safetensors" for kind in ("round", "server") for n in (3, 4, 5)]
