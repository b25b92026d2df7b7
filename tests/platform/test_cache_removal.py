"""Rows leave the feature cache by content hash; every other row stays, bit for bit, and every shard verifies."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.platform import feature_cache
from wardround.platform.errors import CacheError
from wardround.platform.feature_cache import (
    CacheKey,
    FeatureCache,
    cache_files,
    cached_names,
    read_shard,
    remove_rows,
    shards_with,
)

KEYS = (
    CacheKey("1" * 64, "cpu batch 8 torch 1", 4),
    CacheKey("1" * 64, "cuda batch 8 torch 1", 4),
    CacheKey("2" * 64, "cpu batch 8 torch 1", 6),
)


def name(number: int) -> str:
    return f"{number:064x}"


def row(number: int, key: CacheKey) -> np.ndarray:
    return np.random.default_rng([number, key.width]).normal(size=key.width).astype(np.float32)


def fill(root: Path, shards: list[list[int]]) -> None:
    for key in KEYS:
        cache = FeatureCache(root, key)
        for numbers in shards:
            cache.add({name(n): row(n, key) for n in numbers})


def content(root: Path) -> dict[str, list[str]]:
    """The rows of each backbone and device by a fresh reader, which verifies every shard."""
    found = {}
    for key in KEYS:
        cache = FeatureCache(root, key)
        assert cache.issues == []
        numbers = [n for n in range(12) if name(n) in cache]
        assert all(np.array_equal(cache.row(name(n)), row(n, key)) for n in numbers)
        assert len(cache) == len(numbers)
        found[f"{key.fingerprint[:1]} {key.numerics[:4]}"] = [name(n) for n in numbers]
    return found


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=5, unique=True), min_size=1, max_size=5),
    st.sets(st.integers(0, 15), max_size=6),
)
def test_all_of_these_rows_go_and_none_of_the_others(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[int]], gone: set[int]
) -> None:
    root = tmp_path_factory.mktemp("cache")
    fill(root, shards)
    there = {n for numbers in shards for n in numbers}
    names = [name(n) for n in gone]
    planned = shards_with(root, names)
    rows, files = remove_rows(root, names)
    assert (rows, files) == (sum(planned.values()), len(planned))
    left = sorted(name(n) for n in there - gone)
    assert all(names == left for names in content(root).values())
    assert cached_names(root) == set(left)
    assert remove_rows(root, names) == (0, 0)


def test_a_shard_of_another_library_version_is_gone_through_as_well(tmp_path: Path) -> None:
    fill(tmp_path, [[1, 2]])
    older = CacheKey("1" * 64, "cpu batch 8 torch 0.9", 4)
    folder = tmp_path / ("1" * 16) / "cpu"
    hashes = np.frombuffer(bytes.fromhex(name(1) + name(3)), np.uint8).reshape(2, 32)
    path = feature_cache._write_shard(folder, older, hashes, np.ones((2, 4), np.float32))
    assert remove_rows(tmp_path, [name(1)]) == (4, 4)
    assert not path.exists()
    assert name(1) not in cached_names(tmp_path)
    kept = [shard for p in folder.iterdir() if (shard := feature_cache._own_shard(p)) is not None and shard[0] == older]
    assert [shard[1].tobytes().hex() for shard in kept] == [name(3)]


def test_what_nobody_can_look_into_goes_whole(tmp_path: Path) -> None:
    fill(tmp_path, [[1], [2]])
    folder = tmp_path / ("2" * 16) / "cpu"
    damaged = sorted(folder.iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (folder / ".half.part").write_bytes(b"half of a shard")
    (tmp_path / "folder" / "cpu").mkdir(parents=True)
    foreign = tmp_path / "folder" / "cpu" / f"{'a' * 32}.safetensors"
    foreign.write_text("none of ours")
    assert remove_rows(tmp_path, []) == (0, 0)
    assert damaged.exists()
    remove_rows(tmp_path, [name(9)])
    assert not damaged.exists()
    assert not (folder / ".half.part").exists()
    assert foreign.exists()


@pytest.mark.parametrize("where", ["_write_shard", "_sync", "unlink"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_step_nothing_of_others_is_lost_and_the_next_call_ends_it(
    tmp_path: Path, where: str, after: bool
) -> None:
    fill(tmp_path, [[1, 2, 3], [4, 5], [6]])
    child = os.fork()
    if child == 0:
        try:
            place: Any = Path if where == "unlink" else feature_cache
            real = getattr(place, where)

            def dying(*arguments: Any, **options: Any) -> Any:
                if after:
                    real(*arguments, **options)
                os.kill(os.getpid(), signal.SIGKILL)

            setattr(place, where, dying)
            remove_rows(tmp_path, [name(1), name(6)])
        finally:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    others = [name(n) for n in (2, 3, 4, 5)]
    assert all(set(others) <= set(names) for names in content(tmp_path).values())
    remove_rows(tmp_path, [name(1), name(6)])
    assert all(names == others for names in content(tmp_path).values())
    assert not list(tmp_path.rglob("*.part"))


def test_a_shard_that_another_process_merged_meanwhile_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, [[1, 2], [3]])
    folder = tmp_path / ("1" * 16) / "cpu"
    real, done = feature_cache._own_shard, []

    def merging(path: Path) -> Any:
        if path.parent == folder and not done:
            done.append(path)
            numbers = [1, 2, 3]
            for old in folder.iterdir():
                old.unlink()
            FeatureCache(tmp_path, KEYS[0]).add({name(n): row(n, KEYS[0]) for n in numbers})
        return real(path)

    monkeypatch.setattr(feature_cache, "_own_shard", merging)
    remove_rows(tmp_path, [name(1)])
    monkeypatch.undo()
    assert all(names == [name(2), name(3)] for names in content(tmp_path).values())


def test_a_cache_that_is_not_there_is_empty_and_stays_so(tmp_path: Path) -> None:
    assert remove_rows(tmp_path / "nothing", [name(1)]) == (0, 0)
    assert cached_names(tmp_path / "nothing") == set()
    assert cache_files(tmp_path / "nothing") == []
    assert not (tmp_path / "nothing").exists()


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, [[1, 2]])

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_cache, "write_atomically", full)
    with pytest.raises(CacheError, match="No space left"):
        remove_rows(tmp_path, [name(1)])
    monkeypatch.undo()
    assert all(names == [name(1), name(2)] for names in content(tmp_path).values())


def test_read_shard_still_refuses_another_key(tmp_path: Path) -> None:
    fill(tmp_path, [[1]])
    path = cache_files(tmp_path)[0]
    with pytest.raises(CacheError, match="stale"):
        read_shard(path.read_bytes(), CacheKey("3" * 64, "cpu", 4))
