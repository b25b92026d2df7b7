"""Fixed point: the fast path against one coordinate at a time, bounds, clipping, refusals."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.privacy.errors import EncodingError
from wardround.privacy.secure_aggregation.encoding import decode_sum, encode
from wardround.privacy.secure_aggregation.parameters import Block

BLOCKS = (Block("update", 7, 0.5, 20), Block("counts", 2, 1000.0, 0, weighted=False))


def slow(value: float, block: Block, weight: float) -> int:
    """One coordinate, exactly: clip, then round the float64 product half to even."""
    clipped = min(max(value, -block.clip), block.clip)
    scale = (weight if block.weighted else 1.0) * 2.0**block.fraction_bits
    return round(Fraction(clipped * scale)) % 2**32


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-3, 3, width=32), min_size=7, max_size=7),
    st.lists(st.integers(-1200, 1200), min_size=2, max_size=2),
    st.floats(0.01, 4),
)
def test_encoding_equals_the_slow_reference(update, counts, weight):
    parts = {"update": np.array(update, dtype=np.float32), "counts": np.array(counts, dtype=np.float64)}
    encoded = encode(parts, BLOCKS, weight)
    expected = [slow(float(v), BLOCKS[0], weight) for v in parts["update"]]
    expected += [slow(float(v), BLOCKS[1], weight) for v in counts]
    assert encoded.words.tolist() == expected
    assert encoded.clipped == {
        "update": sum(abs(v) > 0.5 for v in update),
        "counts": sum(abs(v) > 1000 for v in counts),
    }


def test_chunks_do_not_show():
    block = Block("x", 50_000, 1.0, 18)
    values = np.random.default_rng(0).normal(0, 0.7, 50_000).astype(np.float32)
    encoded = encode({"x": values}, (block,), 1.7)
    assert encoded.words[::997].tolist() == [slow(float(v), block, 1.7) for v in values[::997]]
    assert encoded.clipped["x"] == int((np.abs(values) > 1).sum())


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**31))
def test_decoded_sum_is_within_half_a_step_a_site(sites, seed):
    draw = np.random.default_rng(seed)
    weights = draw.uniform(0.1, 4, sites)
    rows = draw.uniform(-0.5, 0.5, (sites, 7))
    counts = draw.integers(0, 1000, (sites, 2)).astype(np.float64)
    total = np.zeros(9, dtype=np.uint32)
    for row, count, weight in zip(rows, counts, weights, strict=True):
        total += encode({"update": row, "counts": count}, BLOCKS, weight).words
    values = decode_sum(total, BLOCKS, weights.tolist(), len(weights))
    assert np.abs(values["update"] - (weights[:, None] * rows).sum(0)).max() <= sites * 2.0**-21 * 1.001
    assert (values["counts"] == counts.sum(0)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 3, 6])
def test_nan_and_infinity_are_refused_by_place(bad, position):
    values = np.zeros(7, dtype=np.float32)
    values[position] = bad
    with pytest.raises(EncodingError, match=rf"not finite. block update, coordinate {position}"):
        encode({"update": values, "counts": np.zeros(2)}, BLOCKS, 1.0)


@pytest.mark.parametrize(
    "parts",
    [
        {"update": np.zeros(7)},
        {"update": np.zeros(7), "counts": np.zeros(2), "more": np.zeros(1)},
        {"update": np.zeros(6), "counts": np.zeros(2)},
        {"update": np.zeros((7, 1)), "counts": np.zeros(2)},
        {"update": np.zeros(7, dtype=np.int64), "counts": np.zeros(2)},
    ],
)
def test_other_blocks_shapes_and_types_are_refused(parts):
    with pytest.raises(EncodingError, match=r"block"):
        encode(parts, BLOCKS, 1.0)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_beyond_its_bound_is_refused(sign):
    limit = 2 * BLOCKS[0].limit(1.0)
    total = np.zeros(9, dtype=np.int32)
    total[4] = sign * limit
    assert decode_sum(total.view(np.uint32), BLOCKS, [1.0, 1.0], 2)["update"][4] == sign * limit / 2**20
    total[4] += sign
    with pytest.raises(EncodingError, match=r"beyond its bound. block update"):
        decode_sum(total.view(np.uint32), BLOCKS, [1.0, 1.0], 2)


def test_the_largest_honest_sum_is_within_the_bound():
    weights = [0.37, 1.9999, 4.0]
    top = {"update": np.full(7, 9.0), "counts": np.full(2, 1000.0)}
    total = np.zeros(9, dtype=np.uint32)
    for weight in weights:
        total += encode(top, BLOCKS, weight).words
    assert decode_sum(total, BLOCKS, weights, len(weights))["counts"].tolist() == [3000.0, 3000.0]


@pytest.mark.parametrize("weight", [-1.0, 2048.0, 1e300, float("nan"), float("inf")])
def test_a_weight_that_could_leave_the_ring_is_refused(weight):
    with pytest.raises(EncodingError, match="does not fit the ring"):
        encode({"update": np.ones(3)}, [Block("update", 3, 1.0)], weight)


def test_an_unweighted_block_does_not_look_at_the_weight():
    block = Block("counts", 1, 100.0, 0, weighted=False)
    assert encode({"counts": np.array([7.0])}, [block], 1e300).words.tolist() == [7]
