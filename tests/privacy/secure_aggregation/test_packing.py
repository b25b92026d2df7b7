"""Packed rings against integers that are put side by side one by one, as the module's first page says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.privacy.errors import EncodingError, ParameterError, ProtocolError, Refusal
from wardround.privacy.secure_aggregation.encoding import decode_sum, encode
from wardround.privacy.secure_aggregation.packing import (
    add_packed,
    pack,
    packed_bytes,
    padding_is_zero,
    reduce_signed,
    wire_size,
)
from wardround.privacy.secure_aggregation.parameters import Block, check_blocks

from ..conftest import Consortium

KEY = bytes(range(32))


def slow_pack(values: list[int], ring: int) -> bytes:
    """Every column an integer of 32 * ring bits; its words are dealt out to rows."""
    if ring == 32:
        return b"".join(value.to_bytes(4, "little") for value in values)
    width = -(-len(values) // 32)
    padded = [value % 2**ring for value in values] + [0] * (32 * width - len(values))
    words = [0] * (ring * width)
    for j in range(width):
        column = sum(padded[k * width + j] << (k * ring) for k in range(32))
        for w in range(ring):
            words[w * width + j] = (column >> (32 * w)) & 0xFFFFFFFF
    return b"".join(word.to_bytes(4, "little") for word in words)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 32), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_packed_bytes_are_those_of_the_slow_way_and_come_back(ring: int, size: int, seed: int) -> None:
    words = np.random.default_rng(seed).integers(0, 2**32, size, dtype=np.uint32)
    data = pack(words, ring)
    assert data == slow_pack(words.tolist(), ring)
    assert len(data) == packed_bytes(size, ring)
    assert padding_is_zero(memoryview(data), size, ring)
    total = np.zeros(size, dtype="<u4")
    add_packed(memoryview(data), ring, total)
    assert [word % 2**ring for word in total.tolist()] == [word % 2**ring for word in words.tolist()]


@settings(max_examples=60, deadline=None)
@given(st.integers(9, 31), st.integers(1, 100), st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_added_packed_vectors_are_the_sum_in_the_ring(ring: int, size: int, sites: int, seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 2**32, (sites, size), dtype=np.uint32)
    total = np.zeros(size, dtype="<u4")
    for row in rows:
        add_packed(memoryview(pack(row, ring)), ring, total)
    reduce_signed(total, ring)
    half = 2 ** (ring - 1)
    wanted = [(sum(int(word) for word in column) + half) % 2**ring - half for column in rows.T]
    assert total.view(np.int32).tolist() == wanted


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 31), st.integers(1, 70), st.data())
def test_every_bit_beyond_the_coordinates_is_seen(ring: int, size: int, data: st.DataObject) -> None:
    width = -(-size // 32)
    place = data.draw(st.integers(0, 32 * width - 1), label="coordinate")
    bit = data.draw(st.integers(0, ring - 1), label="bit")
    values = np.zeros(32 * width, dtype=np.uint32)
    values[place] = 1 << bit
    packed = pack(values, ring)
    assert padding_is_zero(memoryview(packed), size, ring) == (place < size)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 31), st.integers(1, 100), st.integers(0, 2**32 - 1), st.data())
def test_a_flip_on_the_wire_changes_one_coordinate_or_is_seen_in_the_padding(
    ring: int, size: int, seed: int, data: st.DataObject
) -> None:
    words = np.random.default_rng(seed).integers(0, 2**ring, size, dtype=np.uint32)
    packed = bytearray(pack(words, ring))
    byte, bit = data.draw(st.integers(0, len(packed) - 1)), data.draw(st.integers(0, 7))
    packed[byte] ^= 1 << bit
    # Word w of column j lies at w * width + j; of the column's integer this is bit 32 * w and up.
    width = -(-size // 32)
    row, column = divmod(byte // 4, width)
    k, shift = divmod(32 * row + 8 * (byte % 4) + bit, ring)
    place = k * width + column
    assert padding_is_zero(memoryview(packed), size, ring) == (place < size)
    total = np.zeros(size, dtype="<u4")
    add_packed(memoryview(packed), ring, total)
    wanted = words.copy()
    if place < size:
        wanted[place] ^= 1 << shift
    assert [word % 2**ring for word in total.tolist()] == wanted.tolist()


def packed_consortium(n: int = 5) -> Consortium:
    blocks = (
        Block("update", 37, 1.0, 6, bits=8),
        Block("buffers", 5, 4.0, 20),
        Block("counts", 3, 100.0, 0, weighted=False),
    )
    return Consortium(n, blocks=blocks, weighting="uniform")


def test_a_whole_session_in_mixed_rings_gives_the_plain_sum() -> None:
    consortium = packed_consortium()
    assert consortium.roster.wire_size("update") == wire_size(consortium.roster.blocks("update"), 5)
    play = consortium.play()
    words = play.words()
    released = play.whole(words, mask=list(play.sites)[1:])
    total = np.sum([words[name] for name in released.survivors], axis=0, dtype=np.uint32)
    assert released.ring.tolist() == total.tolist()
    assert len(released.survivors) == 4


def test_a_vector_with_content_in_its_padding_is_refused() -> None:
    consortium = packed_consortium()
    play = consortium.play()
    words = play.words()
    play.advertise()
    play.stage("share")
    name = "site-001"
    site = play.sites[name]
    honest_wire = site._wire

    def smuggle(masked):
        wire = bytearray(honest_wire(masked))
        wire[packed_bytes(37, 11) - 1] |= 0x80  # the highest bit of the last row, which no coordinate has
        return bytes(wire)

    site._wire = smuggle
    message = site.mask(play.out["mask"][name], words[name].copy())
    with pytest.raises(ProtocolError) as refused:
        play.coordinator.feed(name, message)
    assert refused.value.code is Refusal.MALFORMED
    assert not play.coordinator._total.any()


# --- rounding ------------------------------------------------------------------------------------------------------


def test_stochastic_rounding_is_right_in_the_mean_and_off_by_less_than_a_step() -> None:
    block = Block("update", 200_000, 1.0, 6, bits=8)
    values = np.full(block.size, 0.3 / 64, dtype=np.float64)
    rounded = encode({"update": values}, [block], 1.0, KEY).words.view(np.int32)
    assert set(rounded.tolist()) == {0, 1}
    # 200,000 coin tosses at 0.3: five standard deviations are 0.0052.
    assert abs(rounded.mean() - 0.3) < 0.0052
    draw = np.random.default_rng(1).uniform(-1, 1, block.size)
    exact = encode({"update": draw}, [block], 1.0, KEY).words.view(np.int32) - draw * 64
    assert np.abs(exact).max() < 1.0
    assert abs(exact.mean()) < 5 * 0.41 / np.sqrt(block.size)


def test_rounding_is_the_same_for_a_key_and_another_for_another_key_or_block() -> None:
    values = {"a": np.full(500, 0.1), "b": np.full(500, 0.1)}
    blocks = [Block("a", 500, 1.0, 2, bits=8), Block("b", 500, 1.0, 2, bits=8)]
    one, again = (encode(values, blocks, 1.0, KEY).words.tolist() for _ in range(2))
    other = encode(values, blocks, 1.0, bytes(32)).words.tolist()
    assert one == again
    assert one != other
    assert one[:500] != one[500:]


def test_a_packed_block_needs_a_rounding_key() -> None:
    with pytest.raises(EncodingError, match="rounding key"):
        encode({"a": np.zeros(3)}, [Block("a", 3, 1.0, 2, bits=8)], 1.0)


@pytest.mark.parametrize("sign", [1, -1])
def test_values_at_the_clip_stay_within_their_bits(sign: int) -> None:
    block = Block("update", 1000, 127 / 64, 6, bits=8)
    words = encode({"update": np.full(1000, sign * 5.0)}, [block], 1.0, KEY).words
    assert set(words.view(np.int32).tolist()) == {sign * 127}
    total = words * np.uint32(5)
    assert decode_sum(total, [block], [1.0] * 5, 5)["update"].tolist() == [sign * 5 * 127 / 64] * 1000


@pytest.mark.parametrize(
    ("block", "n"),
    [
        (Block("x", 3, 1.0, 7, bits=8), 3),  # 128 does not fit 8 value bits
        (Block("x", 3, 1.0, 2, bits=24), 1000),  # 24 + 10 bits are more than no packing
    ],
)
def test_packed_blocks_that_do_not_fit_are_refused_with_a_remedy(block: Block, n: int) -> None:
    with pytest.raises(ParameterError) as refused:
        check_blocks([block], n, 1.0)
    assert refused.value.where == "block x"
    assert refused.value.remedy


@pytest.mark.parametrize("bits", [0, 7, 25, 31, 33])
def test_other_value_bits_are_refused(bits: int) -> None:
    with pytest.raises(ParameterError, match="value bits"):
        Block("x", 3, 1.0, 2, bits=bits)
