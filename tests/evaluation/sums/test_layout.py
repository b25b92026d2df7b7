"""The vector of integers: what goes in comes out, sums of vectors are vectors of sums, and nothing wraps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.evaluation.errors import InvalidPredictionsError
from wardround.evaluation.sums.layout import (
    SCORE_BINS,
    SHARE_BINS,
    Field,
    VectorLayout,
    bits_for,
    evaluation_layout,
    score_bin,
    temperature_layout,
)

COUNTS_AND_REALS = VectorLayout((Field("n", ()), Field("table", (2, 2)), Field("loss", (3,), "real")), bits=24)
REALS = st.floats(0.0, 1e6, allow_nan=False)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.lists(REALS, min_size=3, max_size=3)),
        min_size=1,
        max_size=9,
    )
)
def test_the_sum_of_vectors_is_the_vector_of_sums(sites: list[tuple[int, list[float]]]) -> None:
    given_ = [
        {"n": np.array(float(n)), "table": np.full((2, 2), float(n)), "loss": np.array(losses)} for n, losses in sites
    ]
    total = np.sum([COUNTS_AND_REALS.pack(fields) for fields in given_], axis=0)
    found = COUNTS_AND_REALS.unpack(total)
    assert found["n"] == sum(n for n, _ in sites)
    assert (found["table"] == sum(n for n, _ in sites)).all()
    expected = np.sum([losses for _, losses in sites], axis=0)
    assert np.abs(found["loss"] - expected).max() <= len(sites) * 2.0**-25 + 1e-9 * expected.max()


def test_every_entry_is_an_integer_below_the_bound() -> None:
    packed = COUNTS_AND_REALS.pack(
        {"n": np.array(3.0), "table": np.ones((2, 2)), "loss": np.array([0.5, 7.0, 1 - 2e-9])}
    )
    assert (packed == np.rint(packed)).all()
    assert packed.max() < 2**24
    assert packed[5:8].tolist() == [0.0, 7.0, 1.0]  # the last fraction rounds up into the whole part
    assert packed[8:].tolist() == [2.0**23, 0.0, 0.0]


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, 2.0**24, 0.5])
def test_what_is_no_count_is_refused(value: float) -> None:
    fields = {"n": np.array(value), "table": np.ones((2, 2)), "loss": np.zeros(3)}
    with pytest.raises(InvalidPredictionsError):
        COUNTS_AND_REALS.pack(fields)


def test_missing_and_misshapen_fields_are_refused() -> None:
    with pytest.raises(InvalidPredictionsError, match="do not make up"):
        COUNTS_AND_REALS.pack({"n": np.array(1.0)})
    with pytest.raises(InvalidPredictionsError, match="shape"):
        COUNTS_AND_REALS.pack({"n": np.array(1.0), "table": np.ones(4), "loss": np.zeros(3)})


@pytest.mark.parametrize("vector", [np.zeros(10), np.full(11, -1.0), np.full(11, 0.5), np.full(11, np.nan)])
def test_what_no_sum_of_vectors_can_be_is_refused(vector: np.ndarray) -> None:
    with pytest.raises(InvalidPredictionsError):
        COUNTS_AND_REALS.unpack(vector)


@pytest.mark.parametrize("sites", [1, 2, 3, 100, 127, 128, 999, 1000])
def test_no_sum_over_the_sites_can_wrap(sites: int) -> None:
    bits = bits_for(sites)
    assert sites * 2**bits < 2**31
    assert bits == 24 or sites * 2 ** (bits + 1) >= 2**31


def test_layouts_have_their_documented_sizes() -> None:
    k, t = 4, 3
    assert temperature_layout(24).size == 1 + 2 * 64
    tops = 2 * (10 + 10 + 20)
    expected = k * k + tops + k * 40 + 2 * k * SCORE_BINS + 2 * k * t + 6 + (k + 3) * SHARE_BINS
    assert evaluation_layout(k, {}, t, 24).size == expected
    with_levels = evaluation_layout(k, {"sex": ("f", "m")}, t, 24).size
    assert with_levels == expected + 2 * 4 * k + 4


def test_bins_are_even_open_at_the_ends_and_ascending() -> None:
    odds = np.array([-1e9, -16.0, -15.99, 0.0, 15.99, 16.0, 1e9])
    found = score_bin(odds)
    assert found.tolist() == sorted(found.tolist())
    assert found[0] == 0
    assert found[-1] == SCORE_BINS - 1
