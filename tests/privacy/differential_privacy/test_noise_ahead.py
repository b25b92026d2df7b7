"""Noise drawn ahead is the stream's own noise, in its order, and never more or less than was promised."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.privacy.differential_privacy.noise_ahead import NoiseAhead
from wardround.privacy.differential_privacy.randomness import SecretStream
from wardround.privacy.errors import MechanismError

KEY = bytes(range(32))


@settings(max_examples=25, deadline=None)
@given(count=st.integers(0, 300), draws=st.integers(1, 6), scale=st.sampled_from([0.0, 1e-3, 1.0, 50.0]))
def test_it_is_what_the_stream_gives_without_a_thread(count, draws, scale):
    plain = SecretStream(KEY)
    with NoiseAhead(SecretStream(KEY), count=count, scale=scale, draws=draws) as ahead:
        for _ in range(draws):
            expected = plain.normals(np.empty(count, dtype=np.float32), scale)
            np.testing.assert_array_equal(ahead.take(count, scale), expected)


def test_a_vector_is_left_alone_while_the_next_is_drawn():
    plain = SecretStream(KEY)
    with NoiseAhead(SecretStream(KEY), count=50_000, scale=1.0, draws=3) as ahead:
        for _ in range(3):
            noise = ahead.take(50_000, 1.0)
            noise += 1.0  # as a step does that adds its sum
            expected = plain.normals(np.empty(50_000, dtype=np.float32), 1.0) + np.float32(1.0)
            np.testing.assert_array_equal(noise, expected)


@pytest.mark.parametrize(("count", "scale"), [(11, 1.0), (9, 1.0), (10, 2.0)])
def test_other_noise_than_was_promised_is_refused(count, scale):
    with NoiseAhead(SecretStream(KEY), count=10, scale=1.0, draws=2) as ahead:
        with pytest.raises(MechanismError, match=r"10 of 1\.0 are drawn"):
            ahead.take(count, scale)
        assert len(ahead.take(10, 1.0)) == 10


def test_more_noise_than_was_promised_is_refused():
    with NoiseAhead(SecretStream(KEY), count=10, scale=1.0, draws=1) as ahead:
        ahead.take(10, 1.0)
        with pytest.raises(MechanismError, match="more noise"):
            ahead.take(10, 1.0)


def test_a_fault_while_drawing_reaches_the_step_that_needs_it():
    source = NoiseAhead(SecretStream(KEY), count=10, scale=1e20, draws=1)
    with source as ahead, pytest.raises(MechanismError, match="standard deviation"):
        ahead.take(10, 1e20)


def test_a_split_stream_is_another_one():
    one, other = SecretStream(KEY), SecretStream(KEY)
    first, second = one.split(), one.split()
    draws = [stream.words(8).tolist() for stream in (first, second, one)]
    assert len({tuple(draw) for draw in draws}) == 3
    assert other.split().words(8).tolist() == draws[0]  # a function of the key
