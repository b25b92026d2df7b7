"""The image tower: statistics of its stages, and the whitened projection that is written into it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from wardround.platform.embedded.image_tower import ImageTower
from wardround.platform.embedded.pooling import spread, whitening


def tower(stages: tuple[int, ...] = (2, 3, 4), output: int = 16) -> ImageTower:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ImageTower([1, 1, 1, 1], 8, 32, output, stages)


def test_statistics_are_mean_and_deviation_of_each_stage() -> None:
    made = tower().eval()
    pictures = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = made.describe(pictures)
        maps, expected = made.trunk.stem(pictures), []
        for stage in (1, 2, 3, 4):
            maps = getattr(made.trunk, f"layer{stage}")(maps)
            if stage > 1:
                for picture in maps.numpy():
                    for channel in picture:
                        expected.append((channel.mean(), np.sqrt(channel.var() + 1e-5)))
    assert found.shape == (3, 2 * (64 + 128 + 256))
    at = 0
    flat = iter(expected)
    unscaled = found * torch.sqrt(made.level.running_var + made.level.eps) + made.level.running_mean
    for channels in (64, 128, 256):
        for row in range(3):
            for channel in range(channels):
                mean, deviation = next(flat)
                assert float(unscaled[row, at + channel]) == pytest.approx(float(mean), abs=1e-4)
                assert float(unscaled[row, at + channels + channel]) == pytest.approx(float(deviation), abs=1e-4)
        at += 2 * channels
    assert made(pictures).shape == (3, 16)


def test_stages_after_the_last_that_is_pooled_are_not_run() -> None:
    made = tower((1, 2)).eval()

    def fail(*_: object) -> None:
        raise AssertionError("stage 3 was run")

    made.trunk.layer3.forward = fail
    assert made.describe(torch.zeros(1, 3, 32, 32)).shape == (1, 2 * (32 + 64))


@pytest.mark.parametrize("stages", [(), (3, 2), (2, 2), (0, 1), (4, 5)])
def test_stages_that_make_no_sense_are_refused(stages: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="stages must be rising"):
        tower(stages)


def test_a_flat_picture_has_a_gradient() -> None:
    """The deviation of a constant map is a root at 0, whose slope is infinite without the floor."""
    made = tower()
    made.describe(torch.zeros(2, 3, 32, 32)).sum().backward()
    gradients = [p.grad for p in made.trunk.parameters() if p.grad is not None]
    assert gradients
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def test_spread_writes_the_whitening_into_the_projection() -> None:
    made = tower(output=12)
    rows = torch.randn(1000, 896, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.1, 2.0, 896)
    spread(made, rows)
    matrix, offset = whitening(rows, 12)
    with torch.no_grad():
        out = made.project(rows)
    assert torch.allclose(out, (rows @ matrix.T + offset) / 12**0.5, atol=1e-4)
    assert float(out.mean(0).abs().max()) < 1e-4


def test_whitening_agrees_with_the_singular_values() -> None:
    rows = np.random.default_rng(0).normal(size=(80, 6)) @ np.diag([5, 3, 2, 1, 0.1, 0.01])
    matrix, offset = whitening(torch.from_numpy(rows).float(), 4)
    out = rows @ matrix.numpy().T + offset.numpy()
    assert np.abs(out.mean(0)).max() < 1e-4
    covariance = out.T @ out / len(rows)
    variance = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2 / len(rows)
    expected = variance[:4] / (variance[:4] + variance.mean())
    assert np.allclose(covariance, np.diag(expected), atol=1e-3)
