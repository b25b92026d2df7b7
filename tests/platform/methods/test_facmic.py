"""FACMIC's loss beside a slow float64 computation, with its gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from wardround.platform.adapters import AttentionAdapter, set_statistics
from wardround.platform.errors import MethodError
from wardround.platform.methods.facmic import Facmic
from wardround.platform.methods.method import SharedInputs, TrainingPart, batches
from wardround.platform.methods.table import method_of

Array = NDArray[np.float64]
WIDTH, CLASSES, SCALE = 5, 3, 12.0
ROWS = torch.tensor([4, 0, 3, 1])


def inputs() -> tuple[AttentionAdapter, TrainingPart, SharedInputs]:
    generator = np.random.default_rng(11)

    def unit(count: int) -> torch.Tensor:
        drawn = generator.normal(size=(count, WIDTH))
        return torch.from_numpy(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))

    adapter = AttentionAdapter(WIDTH, seed=2).double()
    part = TrainingPart(unit(7), torch.tensor([0, 1, 2, 0, 1, 2, 2]))
    shared = SharedInputs(unit(CLASSES), SCALE, unit(6))
    set_statistics(adapter, part.features)
    with torch.no_grad():  # away from the batch's own moments, to tell running statistics from batch statistics
        adapter.norm.get_buffer("running_mean").add_(0.05)
        adapter.norm.get_buffer("running_var").mul_(1.3)
    return adapter.train(), part, shared


def parameters_of(adapter: AttentionAdapter) -> dict[str, Array]:
    named = [*adapter.named_parameters(), *adapter.named_buffers()]
    return {name: tensor.detach().numpy().astype(np.float64).copy() for name, tensor in named}


def slow_adapt(p: dict[str, Array], x: Array, mean: Array, variance: Array) -> Array:
    hidden = x @ p["project_in.weight"].T + p["project_in.bias"]
    hidden = (hidden - mean) / np.sqrt(variance + 1e-5) * p["norm.weight"] + p["norm.bias"]
    hidden = np.where(hidden > 0, hidden, 0.01 * hidden) @ p["project_out.weight"].T + p["project_out.bias"]
    attention = np.exp(hidden) / np.exp(hidden).sum(axis=1, keepdims=True)
    adapted = attention * x
    return adapted / np.linalg.norm(adapted, axis=1, keepdims=True)


def softmax(z: Array) -> Array:
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def slow_loss(
    p: dict[str, Array],
    part: TrainingPart,
    shared: SharedInputs,
    weight: float,
    through: bool,
    constants: dict[str, Array],
) -> float:
    """Equation 6; ``constants`` keeps what no gradient passes through: the reference side and the bandwidth."""
    x, labels, text = part.features.numpy(), part.labels.tolist(), shared.text.numpy()
    hidden = x @ p["project_in.weight"].T + p["project_in.bias"]
    adapted = slow_adapt(p, x, hidden.mean(axis=0), hidden.var(axis=0))
    chosen = softmax(SCALE * adapted @ text.T)
    cross_entropy = -sum(math.log(chosen[i, y]) for i, y in enumerate(labels)) / len(labels)
    if weight == 0.0:
        return cross_entropy
    reference = shared.reference.numpy()[ROWS.numpy()]
    moved = constants.setdefault("moved", slow_adapt(p, reference, p["norm.running_mean"], p["norm.running_var"]))
    probabilities = constants.setdefault("probabilities", softmax(SCALE * moved @ text.T))
    both = np.concatenate([adapted, moved if through else reference])
    distances = np.square(both[:, None] - both[None]).sum(axis=2)
    count = len(both)
    bandwidth = constants.setdefault("bandwidth", np.array(distances.sum() / (count * count - count) / 4.0))
    kernel = sum(np.exp(-distances / (bandwidth * 2.0**k)) for k in range(5))
    common = sorted(set(labels) & set(probabilities.argmax(axis=1).tolist()))
    total = 0.0
    for c in common:
        ours = np.array([y == c for y in labels]) / labels.count(c)
        theirs = probabilities[:, c] / probabilities[:, c].sum()
        signed = np.concatenate([ours, -theirs])
        total += float(signed @ kernel @ signed)
    return cross_entropy + weight * total / max(len(common), 1)


@pytest.mark.parametrize(("weight", "through"), [(0.0, True), (1.0, True), (1.0, False), (2.5, True)])
def test_loss_and_gradient_equal_the_slow_formula(weight: float, through: bool) -> None:
    adapter, part, shared = inputs()
    loss = Facmic(weight, through).loss(adapter, part, shared, ROWS)
    loss.backward()  # type: ignore[no-untyped-call]
    p, constants = parameters_of(adapter), {}
    assert float(loss.detach()) == pytest.approx(slow_loss(p, part, shared, weight, through, constants), abs=1e-9)
    generator = np.random.default_rng(0)
    for name, parameter in adapter.named_parameters():
        direction = generator.normal(size=parameter.shape)
        ends = []
        for sign in (1.0, -1.0):
            moved = {**p, name: p[name] + sign * 1e-6 * direction}
            ends.append(slow_loss(moved, part, shared, weight, through, constants))
        assert parameter.grad is not None
        along = float((parameter.grad.numpy() * direction).sum())
        assert along == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=2e-7), name


def test_the_reference_leaves_running_statistics_and_mode_alone() -> None:
    adapter, part, shared = inputs()
    before = parameters_of(adapter)
    Facmic().loss(adapter, part, shared, ROWS)
    after = parameters_of(adapter)
    assert adapter.training
    for name in ("norm.running_mean", "norm.running_var"):
        assert np.array_equal(before[name], after[name])


def test_without_a_reference_set_the_loss_is_the_cross_entropy() -> None:
    adapter, part, shared = inputs()
    without = SharedInputs(shared.text, SCALE, torch.zeros((0, WIDTH), dtype=torch.float64))
    nothing = torch.zeros(0, dtype=torch.int64)
    expected = Facmic(0.0).loss(adapter, part, shared, ROWS).detach()
    assert torch.equal(Facmic(1.0).loss(adapter, part, without, nothing).detach(), expected)


def test_the_published_size_and_what_the_card_prints() -> None:
    assert sum(p.numel() for p in Facmic().new_adapter(512, seed=0).parameters()) == 526_336
    assert Facmic().options()["adaptation"] == "lmmd"
    assert Facmic(0.0).options()["adaptation"] == "off"
    assert Facmic(reference_through_adapter=False).options()["reference_through_adapter"] is False
    assert Facmic().options()["reference_gradient"] is False


@pytest.mark.parametrize("weight", [-0.1, 100.5, float("nan")])
def test_a_weight_out_of_range_is_refused(weight: float) -> None:
    with pytest.raises(MethodError, match="adaptation_weight"):
        Facmic(weight)


def test_the_table_passes_the_studys_options(toy_study) -> None:  # type: ignore[no-untyped-def]
    method = method_of(toy_study(facmic={"adaptation_weight": 0.25, "reference_through_adapter": False}))
    assert method == Facmic(0.25, False)
    assert method.name == "facmic"


def test_batches_depend_on_the_generator_alone() -> None:
    def drawn(seed: int) -> list[list[int]]:
        return [rows.tolist() for rows in batches(20, 6, torch.Generator().manual_seed(seed))]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
