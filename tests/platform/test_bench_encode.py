"""The measurement measures what it says, on files that differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from wardround.medical_datasets import pixels
from wardround.medical_datasets.errors import UnreadableImageError
from wardround.platform import bench_encode
from wardround.platform.backbone import Backbone
from wardround.platform.bench_encode import draw_files, measure
from wardround.platform.errors import PlatformError
from wardround.platform.preprocessing import Preprocessing


def tiny() -> Backbone:
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 8, "vocab_size": 100, "width": 16, "heads": 2, "layers": 1},
    }
    look = Preprocessing(32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return Backbone(
        open_clip.CLIP(**config),
        lambda _: torch.zeros(0),
        name="tiny",
        weights="random",
        config=config,
        preprocessing=look,
        device=torch.device("cpu"),
    )


def test_figures_belong_together() -> None:
    turns: list[tuple[int, int]] = []
    bench = measure(20, 40, tiny(), repeats=3, progress=lambda *turn: turns.append(turn))
    assert turns == [(1, 3), (2, 3), (3, 3)]
    figures = bench.as_dict()
    assert set(figures) == {
        "images",
        "bare_ms_per_image",
        "cached_path_ms_per_image",
        "overhead_ratio",
        "images_per_second",
        "warm_ms_per_image",
        "cpu_share",
        "peak_rss_growth_mb",
        "reader_images_per_second",
        "index_cold_ms_per_image",
        "index_warm_ms_per_image",
    }
    assert bench.images == 20
    assert figures.pop("peak_rss_growth_mb") >= 0
    assert all(value > 0 for value in figures.values())
    assert bench.cpu_share <= 1.5  # threads that start and end are counted too
    assert bench.overhead_ratio == pytest.approx(bench.cached_path_ms_per_image / bench.bare_ms_per_image)
    assert bench.images_per_second == pytest.approx(1000 / bench.cached_path_ms_per_image)


def test_files_differ_repeat_and_can_be_read(tmp_path: Path) -> None:
    one, two = draw_files(tmp_path / "a", 6, 24, seed=3), draw_files(tmp_path / "b", 6, 24, seed=3)
    assert [path.suffix for path in one] == [".png", ".jpg"] * 3
    assert len({pixels.content_hash(path) for path in one}) == 6
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    picture = pixels.read_rgb(one[0])
    assert picture.shape == (24, 24, 3)
    assert np.ptp(picture) > 50


@pytest.mark.parametrize(("images", "size", "repeats"), [(0, 32, 1), (1, 7, 1), (1, 32, 0)])
def test_senseless_sizes_are_refused(images: int, size: int, repeats: int) -> None:
    with pytest.raises(PlatformError, match="cannot measure"):
        measure(images, size, tiny(), repeats=repeats)


def test_memory_is_watched_from_the_first_fifth(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([50.0, 70.0, 60.0])
    monkeypatch.setattr(bench_encode, "resident_mb", lambda: next(seen))
    memory = bench_encode.Memory()
    for done in (1, 2, 3, 10):  # of ten, the first is before the first fifth
        memory.watch(done, 10, 1.0)
    assert (memory.base, memory.peak, memory.growth) == (50.0, 70.0, 20.0)


def test_resident_memory_grows_with_what_is_held() -> None:
    before = bench_encode.resident_mb()
    held = np.ones(80_000_000, dtype=np.uint8)  # more than any allocator keeps of what was freed before
    assert bench_encode.resident_mb() > before + 60
    assert len(held) == 80_000_000


def test_the_index_answers_the_second_time_and_refuses_what_is_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = draw_files(tmp_path / "images", 4, 24, seed=0)
    bench_encode.index_all(paths, tmp_path / "index")
    for name in ("check_header", "content_hash"):
        monkeypatch.setattr(pixels, name, lambda _: pytest.fail("a file was read again"))
    bench_encode.index_all(paths, tmp_path / "index")
    monkeypatch.undo()
    paths[0].write_bytes(b"")
    with pytest.raises(UnreadableImageError, match="empty"):
        bench_encode.index_all(paths, tmp_path / "index")
