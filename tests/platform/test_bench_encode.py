"""The measurement measures what it says, on files that differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from wardround.medical_datasets import pixels
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
    }
    assert bench.images == 20
    assert all(value > 0 for value in figures.values())
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
