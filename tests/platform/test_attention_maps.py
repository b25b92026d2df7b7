"""Occlusion maps through an encoder: against a slow oracle, and a patch that an encoder depends on is found."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from wardround.evaluation.arrays import softmax
from wardround.platform import attention_maps as module
from wardround.platform.attention_maps import attention_maps
from wardround.platform.backbone import Backbone


def oracle(picture: np.ndarray, called: int, backbone: Backbone, answer: Callable[..., Any], grid: int) -> np.ndarray:
    """One square at a time, one encoding at a time, as the docstring says."""

    def odds(rgb: np.ndarray) -> float:
        p = answer(torch.from_numpy(backbone.encode_images(rgb[None])))[0]
        return float(np.log(p[called]) - np.log(sum(p[k] for k in range(len(p)) if k != called)))

    height, width = picture.shape[:2]
    mean = [round(float(picture[:, :, c].mean())) for c in range(3)]
    found = np.zeros((grid, grid))
    for r in range(grid):
        for c in range(grid):
            other = picture.copy()
            other[r * height // grid : (r + 1) * height // grid, c * width // grid : (c + 1) * width // grid] = mean
            found[r, c] = odds(picture) - odds(other)
    return found


@pytest.mark.parametrize("workers", [1, 3])
def test_maps_are_those_of_the_slow_way(
    tiny_backbone: Callable[[int], Backbone], monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(module, "default_workers", lambda: workers)
    backbone = tiny_backbone(16)
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(16, 3)) * 5
    pictures = [generator.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(3)]

    def answer(features: torch.Tensor) -> Any:
        return softmax(features.numpy().astype(np.float64) @ weights, 1.7)

    told: list[tuple[int, int]] = []
    found = attention_maps(
        pictures, [0, 1, 2], backbone, answer, grid=5, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
    for picture, called, made in zip(pictures, (0, 1, 2), found, strict=True):
        expected = oracle(picture, called, backbone, answer, 5)
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(made.drops, expected, atol=1e-9)
        before = answer(torch.from_numpy(backbone.encode_images(picture[None])))[0, called]
        assert made.before == pytest.approx(before, abs=1e-12)
        assert np.log(made.before / (1 - made.before)) - np.log(made.after / (1 - made.after)) == pytest.approx(
            expected.max(), abs=1e-9
        )


def test_a_planted_patch_is_found_whatever_the_method_consumes() -> None:
    """An encoder that looks at one bright patch alone: its square has all of the drop, and no other has any."""
    picture = np.full((28, 28, 3), 60, dtype=np.uint8)
    picture[8:12, 20:24] = 250  # row 2, column 5 of seven

    def encode_prepared(rows: torch.Tensor) -> Any:
        bright = rows[:, 8:12, 20:24].float().mean(dim=(1, 2, 3)) / 255
        return torch.stack([bright, 1 - bright], dim=1).numpy()

    def answer(inputs: torch.Tensor) -> Any:
        features = encode_prepared(inputs) if inputs.dtype == torch.uint8 else inputs.numpy()
        return softmax(5 * features.astype(np.float64))

    backbone: Any = SimpleNamespace(encode_prepared=encode_prepared, batch_size=16, device=torch.device("cpu"))
    for consumes in ("features", "pixels"):
        (made,) = attention_maps([picture], [0], backbone, answer, consumes=consumes)  # type: ignore[arg-type]
        drops = np.array(made.drops)
        assert np.unravel_index(drops.argmax(), drops.shape) == (2, 5)
        assert drops[2, 5] > 3
        drops[2, 5] = 0
        assert np.abs(drops).max() < 1e-9
        assert made.before > 0.98 > 0.2 > made.after


def test_no_pictures_give_no_maps(tiny_backbone: Callable[[int], Backbone]) -> None:
    assert attention_maps([], [], tiny_backbone(16), lambda rows: rows.numpy()) == []
