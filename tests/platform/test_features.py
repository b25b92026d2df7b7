"""Each picture is encoded once; the cache is trusted only when every bit of it is as written."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from wardround.medical_datasets import pixels
from wardround.medical_datasets.cohort import ImageRef
from wardround.medical_datasets.errors import UnreadableImageError
from wardround.medical_datasets.index import RACY_NS, Index
from wardround.platform import feature_cache, features
from wardround.platform.backbone import Backbone
from wardround.platform.errors import BackboneError, CacheError
from wardround.platform.feature_cache import CacheKey, FeatureCache
from wardround.platform.preprocessing import Preprocessing

CONFIG: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 100, "width": 16, "heads": 2, "layers": 1},
}


def make(seed: int = 0) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**CONFIG)
    look = Preprocessing(32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    cpu = torch.device("cpu")
    return Backbone(
        model, lambda _: torch.zeros(0), name="t", weights="", config=CONFIG, preprocessing=look, device=cpu
    )


BACKBONE = make()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """48 different pictures of different sizes, grey and colour."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    paths = []
    for number in range(48):
        height, width = generator.integers(20, 60, 2)
        shape = (height, width) if number % 2 else (height, width, 3)
        path = folder / f"patient-{number:02d}.png"
        Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).save(path)
        paths.append(path)
    return paths


def encode(paths: list[Path], cache: Path, backbone: Backbone = BACKBONE, **options: Any) -> features.FeatureTable:
    return features.encode(paths, backbone, cache=cache, **options)


def shards(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.safetensors"))


def slow_oracle(paths: list[Path]) -> np.ndarray:
    """One picture at a time, no threads, no cache."""
    return np.concatenate([BACKBONE.encode_images(BACKBONE.prepare(pixels.read_rgb(path))[None]) for path in paths])


def test_the_table_is_what_one_picture_at_a_time_gives(pictures: list[Path], tmp_path: Path) -> None:
    table = encode(pictures, tmp_path)
    assert np.array_equal(table.features, slow_oracle(pictures))
    assert table.features.dtype == np.float32
    assert np.array_equal(table.kept, np.arange(48))
    assert table.kept.dtype == np.int64
    assert table.hashes == tuple(pixels.content_hash(path) for path in pictures)
    assert (table.encoded, table.reused, table.skipped, table.issues) == (48, 0, (), ())


def test_bits_do_not_depend_on_count_order_workers_or_cache(pictures: list[Path], tmp_path: Path) -> None:
    whole = encode(pictures, tmp_path / "a", workers=1).features
    assert np.array_equal(encode(pictures[:17], tmp_path / "b").features, whole[:17])
    assert np.array_equal(encode(pictures, tmp_path / "b", workers=4).features, whole)  # 17 from the cache
    assert np.array_equal(encode(pictures[::-1], tmp_path / "c", workers=3).features, whole[::-1])
    again = encode(pictures, tmp_path / "c")
    assert np.array_equal(again.features, whole)
    assert (again.encoded, again.reused) == (0, 48)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 47), max_size=40), st.integers(1, 3))
def test_order_and_repetitions_are_kept(pictures: list[Path], chosen: list[int], workers: int) -> None:
    paths = [pictures[number] for number in chosen]
    expected = slow_table(pictures)
    with tempfile.TemporaryDirectory() as folder:
        table = encode(paths, Path(folder), workers=workers)
    assert np.array_equal(table.features, expected[chosen] if chosen else np.zeros((0, 24), np.float32))
    assert table.encoded == len(set(chosen))


_TABLES: dict[str, np.ndarray] = {}


def slow_table(paths: list[Path]) -> np.ndarray:
    return _TABLES.setdefault(str(paths[0]), slow_oracle(paths))


def test_equal_content_is_encoded_once(pictures: list[Path], tmp_path: Path) -> None:
    copies = [Path(shutil.copy(pictures[0], tmp_path / f"copy-{number}.png")) for number in range(5)]
    read: list[Path] = []

    def reader(path: Path) -> np.ndarray:
        read.append(path)
        return pixels.read_rgb(path)

    table = encode([*copies, pictures[1], pictures[1]], tmp_path / "cache", read=reader, workers=4)
    assert len(read) == table.encoded == 2
    assert len(table.features) == 7
    assert np.array_equal(table.features[:5], np.repeat(table.features[:1], 5, axis=0))
    read.clear()
    encode(copies, tmp_path / "cache", read=reader)
    assert read == []


def test_unreadable_pictures_are_skipped_with_a_reason(pictures: list[Path], tmp_path: Path) -> None:
    cut, cut_again, text = (tmp_path / name for name in ("cut.png", "cut2.png", "text.png"))
    for path in (cut, cut_again):
        path.write_bytes(pictures[0].read_bytes()[:200])
    text.write_text("no picture")
    missing = tmp_path / "missing.png"
    paths = [cut, pictures[1], missing, cut_again, pictures[2], text]
    table = encode(paths, tmp_path / "cache")
    assert np.array_equal(table.kept, [1, 4])
    assert np.array_equal(table.features, slow_oracle([pictures[1], pictures[2]]))
    assert [path for path, _ in table.skipped] == [cut, missing, cut_again, text]
    assert all(len(reason) > 10 for _, reason in table.skipped)
    nothing = encode([text, missing], tmp_path / "cache")
    assert nothing.features.shape == (0, 24)
    assert len(nothing.skipped) == 2


def test_other_errors_of_the_reader_are_not_hidden(pictures: list[Path], tmp_path: Path) -> None:
    def reader(path: Path) -> np.ndarray:
        raise RuntimeError(f"a bug in {path.suffix}")

    with pytest.raises(RuntimeError, match="a bug"):
        encode(pictures, tmp_path, read=reader)


def test_progress_counts_every_path_once(pictures: list[Path], tmp_path: Path) -> None:
    calls: list[tuple[int, int, float]] = []
    (tmp_path / "bad.png").write_text("x")
    paths = [*pictures, pictures[0], tmp_path / "bad.png"]
    encode(paths, tmp_path / "cache", progress=lambda *call: calls.append(call))
    assert calls[-1][:2] == (50, 50)
    assert all(one[0] < two[0] for one, two in itertools.pairwise(calls))
    assert all(rate > 0 for _, _, rate in calls)
    calls.clear()
    encode([], tmp_path / "cache", progress=lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(0, 0)]


def test_the_cache_is_private_and_names_no_file(pictures: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "cache"
    encode(pictures, cache)
    (shard,) = shards(cache)
    assert shard.parent == cache / BACKBONE.fingerprint[:16] / "cpu"
    for folder in (cache, shard.parent.parent, shard.parent):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert shard.stat().st_mode & 0o777 == 0o600
    assert b"patient" not in shard.read_bytes()
    assert str(tmp_path).encode() not in shard.read_bytes()
    assert [path for path in cache.rglob("*") if path.is_file()] == [shard]


@pytest.fixture(scope="module")
def sound(pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, np.ndarray, CacheKey]:
    cache = tmp_path_factory.mktemp("sound")
    table = encode(pictures[:5], cache)
    return shards(cache)[0].read_bytes(), table.features, features.cache_key(BACKBONE)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_flipped_bit_and_no_cut_passes(sound: tuple[bytes, np.ndarray, CacheKey], data: st.DataObject) -> None:
    content, _, key = sound
    damaged = bytearray(content)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(content) * 8 - 1))
        damaged[at // 8] ^= 1 << (at % 8)
    else:
        del damaged[data.draw(st.integers(0, len(content) - 1)) :]
    refusal = ""
    try:
        hashes, rows = feature_cache.read_shard(bytes(damaged), key)
    except CacheError as error:
        refusal = error.what
    if refusal:
        assert refusal.startswith(("damaged", "stale"))
        return
    # A flip in white space of the header changes nothing that is read.
    whole_hashes, whole = feature_cache.read_shard(content, key)
    assert np.array_equal(rows, whole)
    assert np.array_equal(hashes, whole_hashes)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_shard_is_removed_reported_and_made_again(pictures: list[Path], tmp_path: Path, damage: str) -> None:
    before = encode(pictures, tmp_path)
    (shard,) = shards(tmp_path)
    content = bytearray(shard.read_bytes())
    if damage == "flip":
        content[-40] ^= 4
    shard.write_bytes(bytes(content) if damage == "flip" else bytes(content[:-7]) if damage == "cut" else b"")
    after = encode(pictures, tmp_path)
    assert [(issue.shard, issue.reason.split(":")[0]) for issue in after.issues] == [(shard.name, "damaged")]
    assert after.encoded == 48
    assert np.array_equal(after.features, before.features)
    third = encode(pictures, tmp_path)
    assert (third.encoded, third.issues) == (0, ())


def test_a_stale_shard_is_removed_reported_and_made_again(pictures: list[Path], tmp_path: Path) -> None:
    other = make(seed=1)
    encode(pictures[:3], tmp_path / "other", other)
    wanted = tmp_path / "cache" / BACKBONE.fingerprint[:16] / "cpu"
    shutil.copytree(shards(tmp_path / "other")[0].parent, wanted)
    table = encode(pictures[:3], tmp_path / "cache")
    assert [issue.reason for issue in table.issues] == ["stale: made with another backbone"]
    assert np.array_equal(table.features, slow_oracle(pictures[:3]))
    assert len(shards(tmp_path / "cache")) == 1


def test_another_library_version_makes_a_shard_stale(tmp_path: Path) -> None:
    key = features.cache_key(BACKBONE)
    row = {"ab" * 32: np.ones(24, dtype=np.float32)}
    FeatureCache(tmp_path, CacheKey(key.fingerprint, key.numerics + "1", 24)).add(row)
    cache = FeatureCache(tmp_path, key)
    assert "device or library version" in cache.issues[0].reason
    assert len(cache) == 0


def test_backbones_do_not_share_features(pictures: list[Path], tmp_path: Path) -> None:
    one, two = encode(pictures, tmp_path), encode(pictures, tmp_path, make(seed=1))
    assert two.encoded == 48
    assert not np.array_equal(one.features, two.features)
    assert encode(pictures, tmp_path).encoded == 0


def test_an_interruption_keeps_what_was_encoded_and_nothing_half_made(pictures: list[Path], tmp_path: Path) -> None:
    def stop(done: int, total: int, rate: float) -> None:
        if done >= 16:
            raise KeyboardInterrupt

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        encode(pictures, tmp_path, progress=stop)
    assert threading.active_count() == threads
    assert not list(tmp_path.rglob("*.part"))
    table = encode(pictures, tmp_path)
    assert table.issues == ()
    assert table.reused >= 16
    assert table.reused + table.encoded == 48
    assert np.array_equal(table.features, slow_oracle(pictures))


def test_a_feature_that_is_not_finite_stops_the_work(pictures: list[Path], tmp_path: Path) -> None:
    broken = make(seed=2)
    broken._model.visual.proj.data[0, 0] = torch.nan
    with pytest.raises(BackboneError, match="not finite"):
        encode(pictures, tmp_path, broken)
    assert shards(tmp_path) == []


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    cache = FeatureCache(tmp_path, CacheKey("f" * 64, "cpu", 2))
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CacheError, match="No space left"):
        cache.add({"00" * 32: np.ones(2, dtype=np.float32)})
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_a_killed_writer_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    key = CacheKey("a" * 64, "cpu", 3)
    folder = FeatureCache(tmp_path, key).folder
    old, young = folder / ".old.part", folder / ".young.part"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1.0, 1.0))
    FeatureCache(tmp_path, key)
    assert not old.exists()
    assert young.exists()  # its writer may still be at work


def test_a_cache_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="cannot be used") as caught:
        encode([], tmp_path / "file")
    assert "WARDROUND_CACHE" in caught.value.remedy


def test_concurrent_writers_do_not_harm_each_other(pictures: list[Path], tmp_path: Path) -> None:
    expected = slow_oracle(pictures)

    def work(start: int) -> bool:
        table = encode(pictures[start:], tmp_path, workers=1)
        return np.array_equal(table.features, expected[start:]) and not table.issues

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, [0, 0, 10, 20, 30, 0]))
    assert encode(pictures, tmp_path).encoded == 0


def rows_of(numbers: range) -> dict[str, np.ndarray]:
    return {f"{number:064x}": np.full(3, number, dtype=np.float32) for number in numbers}


def test_many_small_shards_become_one(tmp_path: Path) -> None:
    key = CacheKey("a" * 64, "cpu", 3)
    writer = FeatureCache(tmp_path, key)
    for number in range(feature_cache.MANY_SHARDS + 3):
        writer.add(rows_of(range(number, number + 2)))
    assert len(shards(tmp_path)) == feature_cache.MANY_SHARDS + 3
    merged = FeatureCache(tmp_path, key)
    assert len(shards(tmp_path)) == 1
    for again in (merged, FeatureCache(tmp_path, key)):
        assert len(again) == feature_cache.MANY_SHARDS + 4
        assert again.issues == []
        assert all(again.row(name)[0] == number for number, name in enumerate(rows_of(range(len(again)))))


def test_a_shard_that_vanishes_while_reading_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = CacheKey("a" * 64, "cpu", 3)
    FeatureCache(tmp_path, key).add(rows_of(range(2)))
    real: Callable[[Path], bytes] = Path.read_bytes

    def vanish(path: Path) -> bytes:
        path.unlink()
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", vanish)
    cache = FeatureCache(tmp_path, key)
    assert (len(cache), cache.issues) == (0, [])


def test_default_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WARDROUND_CACHE", str(tmp_path))
    assert features.default_cache() == tmp_path
    monkeypatch.delenv("WARDROUND_CACHE")
    monkeypatch.setenv("HOME", "/home/someone")
    assert features.default_cache() == Path("/home/someone/.cache/wardround")


def test_only_unreadable_images_are_a_reason_to_skip(pictures: list[Path], tmp_path: Path) -> None:
    def hasher(path: Path) -> str:
        if path == pictures[1]:
            raise UnreadableImageError("locked by another program", where=str(path))
        return pixels.content_hash(path)

    table = encode(pictures[:3], tmp_path, hash_file=hasher)
    assert np.array_equal(table.kept, [0, 2])
    assert "locked" in table.skipped[0][1]


def test_references_and_paths_are_the_same_pictures(pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("x")
    asked = [ImageRef(pictures[0]), pictures[0], ImageRef(tmp_path / "bad.png"), ImageRef(pictures[1])]
    table = features.encode(asked, BACKBONE, cache=tmp_path / "cache")
    assert np.array_equal(table.features, slow_oracle([pictures[0], pictures[0], pictures[1]]))
    assert table.encoded == 2
    assert [image for image, _ in table.skipped] == [ImageRef(tmp_path / "bad.png")]


def test_through_an_index_files_are_hashed_once(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def later() -> int:
        return time.time_ns() + RACY_NS

    with Index.open(feature_cache.index_folder(tmp_path), now=later) as index:
        first = encode(pictures, tmp_path, hash_file=index.content_hash, workers=4)
    monkeypatch.setattr(pixels, "content_hash", lambda _: pytest.fail("a file was read again"))
    with Index.open(feature_cache.index_folder(tmp_path), now=later) as index:
        again = encode(pictures, tmp_path, hash_file=index.content_hash, workers=4)
    assert (again.encoded, again.reused) == (0, 48)
    assert again.hashes == first.hashes
    assert np.array_equal(again.features, slow_oracle(pictures))
    names = sorted(path.name for path in feature_cache.cache_files(tmp_path))
    assert names == sorted([shards(tmp_path)[0].name, "images.sqlite", "secret"])
    assert all(b"patient" not in path.read_bytes() for path in feature_cache.cache_files(tmp_path))


def test_rows_leave_the_shards_and_not_the_index(pictures: list[Path], tmp_path: Path) -> None:
    table = encode(pictures[:4], tmp_path)
    with Index.open(feature_cache.index_folder(tmp_path)):
        files = feature_cache.index_files(feature_cache.index_folder(tmp_path))
        assert len(files) == 4  # database, log, its index, secret
        assert feature_cache.remove_rows(tmp_path, table.hashes[:1]) == (1, 1)
        assert feature_cache.cached_names(tmp_path) == set(table.hashes[1:])
        assert feature_cache.index_files(feature_cache.index_folder(tmp_path)) == files


@pytest.mark.parametrize("failure", [OSError(5, "Input/output error"), MemoryError(), KeyboardInterrupt()])
def test_a_failure_in_the_middle_keeps_what_was_encoded(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    encoded = threading.Event()
    real = BACKBONE.encode_prepared

    def encoding(batch: torch.Tensor) -> np.ndarray:
        rows = real(batch)
        encoded.set()
        return rows

    monkeypatch.setattr(BACKBONE, "encode_prepared", encoding)

    def reader(path: Path) -> np.ndarray:
        if path == pictures[40]:
            encoded.wait(20)  # the disk goes away once a batch is through
            raise failure
        return pixels.read_rgb(path)

    with pytest.raises(type(failure)):
        encode(pictures, tmp_path, read=reader, workers=2)
    table = encode(pictures, tmp_path)
    assert table.reused >= BACKBONE.batch_size
    assert table.reused + table.encoded == 48
    assert np.array_equal(table.features, slow_oracle(pictures))


def test_rows_stay_readable_when_their_shard_is_gone(tmp_path: Path) -> None:
    key = CacheKey("a" * 64, "cpu", 3)
    cache = FeatureCache(tmp_path, key)
    cache.add(rows_of(range(5)))
    opened = FeatureCache(tmp_path, key)
    for path in shards(tmp_path):
        path.unlink()
    for one in (cache, opened):
        assert all(np.array_equal(one.row(name), row) for name, row in rows_of(range(5)).items())
        assert not one.row(f"{0:064x}").flags.writeable


def test_with_too_many_open_files_rows_are_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> np.ndarray:
        raise OSError(24, "Too many open files", str(path))

    monkeypatch.setattr(feature_cache, "map_features", refuse)
    key = CacheKey("a" * 64, "cpu", 3)
    cache = FeatureCache(tmp_path, key)
    for number in range(3):
        cache.add(rows_of(range(number, number + 2)))
    for one in (cache, FeatureCache(tmp_path, key)):
        assert all(np.array_equal(one.row(name), row) for name, row in rows_of(range(4)).items())
