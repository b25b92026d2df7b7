"""Class means as numbers: sums against plain loops, the limit of eleven, bounds that cannot wrap, proxies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.platform.adapters import AttentionAdapter, state_of
from wardround.platform.class_means import (
    CLASS_COUNTS,
    CLASS_MEANS,
    CLASS_SUMS,
    FEWEST,
    FINEST,
    blocks_of_means,
    check_means,
    class_sums,
    constants_of,
    means_of,
    omitted,
    with_proxies,
)
from wardround.platform.errors import CheckpointError
from wardround.platform.methods.adapted_clip import AdaptedClip
from wardround.platform.methods.method import SharedInputs, TrainingPart
from wardround.platform.server import apply_mean
from wardround.platform.update import Layout, Update
from wardround.privacy.errors import ParameterError, ProtocolError, Refusal
from wardround.privacy.secure_aggregation.encoding import decode_sum, encode
from wardround.privacy.secure_aggregation.parameters import check_blocks

CLASSES, WIDTH = 3, 5
SHAPE = (CLASSES, WIDTH)


def part(labels: list[int], seed: int = 0) -> TrainingPart:
    """Unit-norm features of these classes."""
    drawn = np.random.default_rng(seed).normal(size=(len(labels), WIDTH)) + 1.0
    features = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return TrainingPart(torch.from_numpy(features), torch.tensor(labels, dtype=torch.int64))


def summed(parts: list[TrainingPart]) -> tuple[torch.Tensor, Any]:
    """The class means of these sites, through the fixed point of the secure sum; and the blocks."""
    blocks = blocks_of_means(SHAPE, [len(each.labels) for each in parts])
    check_blocks(blocks, len(parts), 1.0)
    words = np.zeros(CLASSES * (WIDTH + 1), dtype="<u4")
    for each in parts:
        encoded = encode(class_sums(each, CLASSES), blocks, 4.0)  # a weight that unweighted blocks must not feel
        assert set(encoded.clipped.values()) == {0}
        words += encoded.words
    total = decode_sum(words, blocks, [4.0] * len(parts), len(parts))
    return means_of(total, SHAPE, blocks, len(parts)), blocks


def pooled(parts: list[TrainingPart], fewest: int) -> list[list[float]]:
    """The slow way: all images on one heap."""
    images = [(x.tolist(), int(y)) for each in parts for x, y in zip(each.inputs, each.labels, strict=True)]
    rows = []
    for c in range(CLASSES):
        own = [x for x, y in images if y == c]
        mean = [sum(x[d] for x in own) / len(own) for d in range(WIDTH)] if own else [0.0] * WIDTH
        length = sum(value**2 for value in mean) ** 0.5
        rows.append([value / length for value in mean] if len(own) >= fewest else [0.0] * WIDTH)
    return rows


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, CLASSES - 1), min_size=2, max_size=30), min_size=3, max_size=6))
def test_the_means_are_those_of_all_images_on_one_heap(labels: list[list[int]]) -> None:
    parts = [part(own, seed) for seed, own in enumerate(labels)]
    means, _ = summed(parts)
    assert means.dtype == torch.float32
    assert torch.allclose(means.double(), torch.tensor(pooled(parts, FEWEST), dtype=torch.float64), atol=2e-6)
    check_means(means)


def test_a_sites_vector_is_sums_and_counts_class_after_class() -> None:
    own = part([2, 0, 2])
    vector = class_sums(own, CLASSES)
    assert vector[CLASS_COUNTS].tolist() == [1.0, 0.0, 2.0]
    rows = vector[CLASS_SUMS].reshape(SHAPE)
    assert np.allclose(rows[0], own.inputs[1].numpy())
    assert rows[1].tolist() == [0.0] * WIDTH
    assert np.allclose(rows[2], (own.inputs[0] + own.inputs[2]).numpy())
    assert {values.dtype for values in vector.values()} == {np.dtype(np.float64)}


@pytest.mark.parametrize(("counts", "kept"), [((4, 3, 3), False), ((4, 4, 3), True), ((0, 0, 10), False)])
def test_ten_images_of_all_sites_are_too_few_and_eleven_are_enough(counts: tuple[int, ...], kept: bool) -> None:
    parts = [part([0] * 12 + [1] * count, seed) for seed, count in enumerate(counts)]
    means, _ = summed(parts)
    assert bool(means[1].any()) is kept
    assert omitted(means, ("a", "b", "c")) == (("c",) if kept else ("b", "c"))


def test_no_class_left_gives_zeros_alone() -> None:
    means, _ = summed([part([0, 1], seed) for seed in range(3)])
    assert not means.any()
    assert omitted(means, ("a", "b", "c")) == ("a", "b", "c")


# --- bounds ------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(1, 200_000), min_size=3, max_size=100))
def test_the_bounds_fit_the_ring_and_no_finer_step_would(samples: list[int]) -> None:
    sums, counts = blocks_of_means((4, 512), samples)
    check_blocks((sums, counts), len(samples), 16.0)  # of the cap of weights they feel nothing
    assert (sums.size, counts.size) == (4 * 512, 4)
    assert not sums.weighted
    assert not counts.weighted
    assert sums.clip == counts.clip == max(samples)
    assert counts.fraction_bits == 0
    if sums.fraction_bits < FINEST:
        reach = int(max(samples) * 2.0 ** (sums.fraction_bits + 1)) + 1
        assert len(samples) * reach >= 2**31


def test_more_images_than_the_ring_can_count_are_refused() -> None:
    with pytest.raises(ParameterError, match="class_sums"):
        check_blocks(blocks_of_means(SHAPE, [2**30] * 3), 3, 1.0)


def total_of(sums: np.ndarray[Any, Any], counts: list[float]) -> dict[str, Any]:
    return {CLASS_SUMS: sums.ravel().astype(np.float64), CLASS_COUNTS: np.array(counts)}


def test_sums_longer_than_their_counts_are_no_images() -> None:
    blocks = blocks_of_means(SHAPE, [100] * 3)
    sums = np.zeros(SHAPE)
    sums[1, 0] = 20.5
    with pytest.raises(ProtocolError) as caught:
        means_of(total_of(sums, [0.0, 20.0, 0.0]), SHAPE, blocks, 3)
    assert caught.value.code is Refusal.OUT_OF_BOUND
    assert "20" not in str(caught.value)  # no count is told
    with pytest.raises(ProtocolError):
        means_of(total_of(np.zeros(SHAPE), [0.0, -5.0, 0.0]), SHAPE, blocks, 3)
    assert means_of(total_of(sums, [0.0, 21.0, 0.0]), SHAPE, blocks, 3)[1].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_a_sum_without_direction_has_no_mean() -> None:
    means = means_of(total_of(np.zeros(SHAPE), [50.0] * 3), SHAPE, blocks_of_means(SHAPE, [100] * 3), 3)
    assert not means.any()


@pytest.mark.parametrize("length", [0.5, 1.001, 2.0, float("nan"), float("inf"), 1e-20])
def test_received_rows_are_of_unit_norm_or_zero(length: float) -> None:
    means = torch.zeros(SHAPE)
    means[0, 2] = 1.0
    check_means(means)
    means[2, 1] = length
    with pytest.raises(CheckpointError, match="class 2"):
        check_means(means)


# --- how they travel ---------------------------------------------------------------------------------------------


def test_a_layout_takes_exactly_its_constants_and_sends_none_of_them() -> None:
    module = AdaptedClip(AttentionAdapter(WIDTH, seed=0))
    plain, layout = Layout.of(module), Layout.of(module, constants={CLASS_MEANS: SHAPE})
    state = state_of(module)
    both = {**state, **layout.blank()}
    layout.check(both)
    plain.check(state)
    for wrong in (state, {**both, "more": torch.zeros(1)}, {**both, CLASS_MEANS: torch.zeros(2, WIDTH)}):
        with pytest.raises(CheckpointError):
            layout.check(wrong)
    with pytest.raises(CheckpointError, match=CLASS_MEANS):
        plain.check(both)
    with pytest.raises(CheckpointError, match="not finite"):
        layout.check({**both, CLASS_MEANS: torch.full(SHAPE, float("nan"))})
    apart, constants = layout.split(both)
    assert apart.keys() == state.keys() == layout.shared(both).keys()
    assert constants.keys() == {CLASS_MEANS}
    assert layout.sizes() == plain.sizes()
    with pytest.raises(CheckpointError, match="missing"):
        layout.split(state)
    # What is sent, and what is made of it, is the same with and without them.
    moved = {name: tensor + 0.5 for name, tensor in state.items()}
    with_them, without = Update.between(layout, both, moved, 1.0), Update.between(plain, state, moved, 1.0)
    assert with_them.blocks.keys() == without.blocks.keys()
    mean = {name: values.astype(np.float64) for name, values in without.blocks.items()}
    result, _ = apply_mean(layout, both, mean)
    assert not result[CLASS_MEANS].any()
    assert all(torch.equal(result[name], tensor) for name, tensor in apply_mean(plain, state, mean)[0].items())


# --- what a site makes of them -----------------------------------------------------------------------------------


def shared() -> SharedInputs:
    text = torch.nn.functional.normalize(torch.ones(SHAPE), dim=1)
    return SharedInputs(text, 20.0, torch.zeros((0, WIDTH)))


def unit(*rows: list[float]) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float32), dim=1)


def test_a_proxy_is_an_images_own_deviation_on_the_federations_mean() -> None:
    own = part([0, 1, 0, 2, 0])
    means = unit([1, 2, 3, 4, 5], [0, 0, 0, 0, 0], [-1, 1, 0, 0, 2])
    made = with_proxies(shared(), own, {CLASS_MEANS: means})
    assert made.reference_labels is not None
    assert made.reference_labels.tolist() == [0, 0, 2, 0]  # class 1 was left out
    x = [row.tolist() for row in own.inputs]
    mean = [sum(x[i][d] for i in (0, 2, 4)) / 3 for d in range(WIDTH)]
    for row, i in zip(made.reference[[0, 1, 3]], (0, 2, 4), strict=True):
        moved = [x[i][d] - mean[d] + float(means[0, d]) for d in range(WIDTH)]
        length = sum(value**2 for value in moved) ** 0.5
        assert np.allclose(row.tolist(), [value / length for value in moved], atol=1e-6)
    # The only image of its class has no deviation: its proxy is the federation's mean itself.
    assert torch.allclose(made.reference[2], means[2], atol=1e-6)
    assert made.reference.dtype == torch.float32
    assert torch.allclose(made.reference.norm(dim=1), torch.ones(4))


def test_a_site_without_a_class_that_is_left_aligns_to_nothing() -> None:
    made = with_proxies(shared(), part([0, 1, 0]), {CLASS_MEANS: unit([0] * 5, [0] * 5, [1] * 5)})
    assert made.reference.shape == (0, WIDTH)
    assert made.reference_labels is not None
    assert made.reference_labels.shape == (0,)


def test_without_constants_nothing_is_changed() -> None:
    before = shared()
    assert with_proxies(before, part([0, 1]), {}) is before


@pytest.mark.parametrize("threads", [1, 2])
def test_proxies_and_sums_do_not_depend_on_threads(threads: int) -> None:
    own, means = part([i % CLASSES for i in range(4001)]), unit([1] * 5, [1, 2, 3, 4, 5], [2, 1, 0, 1, 2])
    before = torch.get_num_threads()
    expected = with_proxies(shared(), own, {CLASS_MEANS: means}), class_sums(own, CLASSES)
    try:
        torch.set_num_threads(threads)
        again = with_proxies(shared(), own, {CLASS_MEANS: means}), class_sums(own, CLASSES)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(expected[0].reference, again[0].reference)
    assert all(np.array_equal(expected[1][name], again[1][name]) for name in expected[1])


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, True),
        ({"method": "faa-clip"}, True),
        ({"method": "faa-clip", "faa_clip": {"adaptation_weight": 0.0}}, False),
        ({"facmic": {"adaptation_weight": 0.0}}, False),
        ({"method": "fedclip"}, False),
        ({"method": "fedavg"}, False),
        ({"method": "local-only"}, False),
        ({"method": "zero-shot"}, False),
    ],
)
def test_means_are_summed_only_for_what_aligns_to_them(
    toy_study: Callable[..., Any], changes: dict[str, Any], wanted: bool
) -> None:
    study = toy_study(reference={"source": "class-means"}, **changes)
    assert constants_of(study, shared()) == ({CLASS_MEANS: SHAPE} if wanted else {})
    assert constants_of(toy_study(**changes), shared()) == {}
