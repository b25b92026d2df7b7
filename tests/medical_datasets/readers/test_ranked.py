from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from wardround.medical_datasets.readers import intensity, ranked

TYPES = ("u1", "i1", "<u2", ">i2", "<u4", ">i4", "i8", "u8", "f2", "<f4", ">f4", "f8")


def slow_values(values: NDArray[Any], left_out: float | None) -> list[float]:
    """The values that count, in order, one by one."""
    return sorted(float(value) for value in values.ravel() if np.isfinite(value) and value != left_out)


@settings(max_examples=200, deadline=None)
@given(
    dtype=st.sampled_from(TYPES),
    numbers=st.lists(st.integers(-300, 300), min_size=1, max_size=60),
    left_out=st.sampled_from([None, 0.0, 7.0]),
    scale=st.sampled_from([1, 1000]),
    odd=st.booleans(),
)
def test_every_rank_by_sorting(dtype: str, numbers: list[int], left_out: float | None, scale: int, odd: bool) -> None:
    wide = np.array(numbers, dtype=np.int64) * scale
    if np.dtype(dtype).kind == "f":
        values = np.clip(wide / 3, -60_000, 60_000).astype(dtype)  # as far as 16 bits go
        if odd:
            values[:3] = np.array([np.nan, np.inf, -0.0])[: values.size]
    else:
        values = wide.astype(dtype)  # wraps round, so that all bits are met
    expected = slow_values(values, left_out)
    count, found = ranked.values_at(values, left_out, range)
    assert count == len(expected)
    assert found == dict(enumerate(expected))


@pytest.mark.parametrize("dtype", TYPES)
def test_ends_of_every_type(dtype: str) -> None:
    made = np.dtype(dtype)
    ends = np.finfo(made) if made.kind == "f" else np.iinfo(made)
    values = np.array([ends.max, 0, ends.min, 1], dtype=made)
    assert ranked.values_at(values, None, range)[1] == dict(enumerate(slow_values(values, None)))


@pytest.mark.parametrize("dtype", ["u1", ">i2", "f4", "f8"])
@pytest.mark.parametrize("chunk", [1 << 20, 300, 7])
def test_the_window_is_the_same_without_a_copy(dtype: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(90, 30, size=(14, 9, 11)).clip(0, 250).astype(dtype)
    values[:3] = values[-3:] = 0
    for seen in (
        values,
        np.asfortranarray(values)[::-1, :, ::-1].transpose(2, 0, 1),
        values[5, 4],
        values[5:6, :, 2:3],
    ):
        expected = intensity.grey_window(seen)
        with monkeypatch.context() as patch:
            patch.setattr(intensity, "_COPIED", 0)
            patch.setattr(ranked, "_CHUNK", chunk)
            assert intensity.grey_window(seen) == expected
    monkeypatch.setattr(intensity, "_COPIED", 0)
    assert intensity.grey_window(np.full((3, 4, 5), 7, dtype=dtype)) == (7.0, 7.0)
    mask = np.zeros((4, 4, 4), dtype=dtype)
    mask[1:3, 1:3, 1:3] = 3
    assert intensity.grey_window(mask) == (0.0, 3.0)


def test_a_window_without_any_finite_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intensity, "_COPIED", 0)
    assert intensity.grey_window(np.full((3, 3, 3), np.nan, dtype=np.float32)) is None


@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_the_window_of_a_large_volume_takes_little_memory(dtype: str) -> None:
    values = np.zeros((256, 256, 200), dtype=dtype)
    values[100:110] = 5
    values[110:140] = 9
    tracemalloc.start()
    assert intensity.grey_window(values) == (5.0, 9.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * ranked._CHUNK  # whatever the size: some copies of one chunk
