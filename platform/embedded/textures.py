"""Pictures of nothing: overlapping leaves, clouds, waves, cells and threads, for the self-supervised part of training.

Features that must tell such pictures apart learn edges, scales, orientations and colours that phantoms lack. Learning
from noise of this kind: Baradad et al. 2021, "Learning to See by Looking at Noise" (dead leaves and spectra); Lee,
Mumford and Huang 2001 for dead leaves.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from scipy.spatial import cKDTree

from ...medical_datasets.synthetic.canvas import Array, ridges, smooth_noise

Field = Callable[[int, np.random.Generator], Array]
_GREY_SHARE = 0.5


def texture(size: int, rng: np.random.Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Draw one picture: two fields in two palettes, one laid over the other through the mask of a third.

    Args:
        size: pixels per side, at least 16.
        rng: source of everything.

    Returns:
        uint8 (size, size, 3); half of them grey.
    """
    under, over = (_coloured(size, rng) for _ in range(2))
    mask = np.clip((smooth_noise(rng, size, int(rng.integers(1, 7))) - rng.normal(0.0, 0.5)) * rng.uniform(1, 20), 0, 1)
    out = under + (over - under) * mask[:, :, None].astype(np.float32)
    if rng.random() < _GREY_SHARE:
        out = np.broadcast_to(out @ rng.dirichlet((3.0, 3.0, 3.0)).astype(np.float32)[:, None], out.shape)
    low, high = np.sort(rng.uniform(0.0, 1.0, 2)) if rng.random() < 0.3 else (0.0, 1.0)
    return np.asarray((np.clip(low + (high - low) * out, 0.0, 1.0) * 255.0).astype(np.uint8))


def _coloured(size: int, rng: np.random.Generator) -> Array:
    """A field seen through a palette of random colours: float32 (size, size, 3)."""
    field = FIELDS[int(rng.integers(len(FIELDS)))](size, rng)
    knots = int(rng.integers(2, 7))
    palette = np.clip(rng.normal(0.5, 0.3, 3) + rng.normal(0.0, rng.uniform(0.05, 0.4), (knots, 3)), 0.0, 1.0)
    at = np.linspace(0.0, 1.0, knots)
    return np.stack([np.interp(field, at, palette[:, k]) for k in range(3)], axis=2).astype(np.float32)


def _unit(field: Array) -> Array:
    low, high = float(field.min()), float(field.max())
    out: Array = (field - np.float32(low)) / np.float32(max(high - low, 1e-6))
    return out


def leaves(size: int, rng: np.random.Generator) -> Array:
    """Dead leaves: shapes of many sizes, each covering those before; float32 (size, size) in [0, 1]."""
    image = Image.new("L", (size, size), int(rng.integers(256)))
    pen = ImageDraw.Draw(image)
    kind, turn = int(rng.integers(3)), rng.uniform(0.0, np.pi)
    for _ in range(int(rng.integers(30, 220))):
        radius = size * 0.6 * float(rng.uniform(0.12, 1.0)) ** 3 + 1.0
        x, y = rng.uniform(0.0, size, 2)
        corners = {0: 24, 1: int(rng.integers(3, 7)), 2: 4}[kind]
        angles = np.linspace(0.0, 2.0 * np.pi, corners, endpoint=False) + (turn if kind == 2 else rng.uniform(0, 6.3))
        reach = radius * (rng.uniform(0.5, 1.0, corners) if kind == 1 else np.ones(corners))
        flat = rng.uniform(0.3, 1.0)
        points = np.stack([x + reach * np.cos(angles), y + flat * reach * np.sin(angles)], axis=1)
        pen.polygon([tuple(point) for point in points.tolist()], fill=int(rng.integers(256)))
    shaded = np.asarray(image, dtype=np.float32) / np.float32(255.0)
    return _unit(shaded + np.float32(rng.uniform(0.0, 0.15)) * smooth_noise(rng, size, int(rng.integers(3, 40))))


def clouds(size: int, rng: np.random.Generator) -> Array:
    """Noise of several scales with a random slope of its spectrum; float32 (size, size) in [0, 1]."""
    slope = rng.uniform(0.2, 1.6)
    total = np.zeros((size, size), dtype=np.float32)
    for cells in (2, 4, 8, 16, 32, 56):
        total += np.float32(cells**-slope) * smooth_noise(rng, size, min(cells, size))
    return _unit(total)


def waves(size: int, rng: np.random.Generator) -> Array:
    """Bent gratings, one or two crossing; float32 (size, size) in [0, 1]."""
    axis = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    x = axis[None, :] + np.float32(rng.uniform(0.0, 0.2)) * smooth_noise(rng, size, int(rng.integers(1, 8)))
    y = axis[:, None] + np.float32(rng.uniform(0.0, 0.2)) * smooth_noise(rng, size, int(rng.integers(1, 8)))
    total = np.zeros((size, size), dtype=np.float32)
    for _ in range(int(rng.integers(1, 4))):
        angle, pitch = rng.uniform(0.0, np.pi), rng.uniform(3.0, 60.0)
        total += np.sin(np.float32(pitch) * (x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))))
    return _unit(total)


def cells(size: int, rng: np.random.Generator) -> Array:
    """Distance to the nearest of scattered points, or the step between nearest and second; in [0, 1]."""
    points = rng.uniform(-0.1, 1.1, (int(rng.integers(6, 160)), 2))
    axis = (np.arange(size) + 0.5) / size
    grid = np.stack(np.meshgrid(axis, axis), axis=2).reshape(-1, 2)
    near, which = cKDTree(points).query(grid, k=2)
    choice = int(rng.integers(3))
    values = near[:, 0] if choice == 0 else near[:, 1] - near[:, 0] if choice == 1 else (which[:, 0] * 37 % 101) / 101.0
    return _unit(values.reshape(size, size).astype(np.float32))


def threads(size: int, rng: np.random.Generator) -> Array:
    """Winding lines on a soft ground; float32 (size, size) in [0, 1]."""
    lines = np.zeros((size, size), dtype=np.float32)
    for _ in range(int(rng.integers(1, 4))):
        lines = np.maximum(lines, ridges(smooth_noise(rng, size, int(rng.integers(3, 24))), rng.uniform(0.05, 0.5)))
    return _unit(lines + np.float32(rng.uniform(0.0, 0.5)) * smooth_noise(rng, size, 5))


FIELDS: tuple[Field, ...] = (leaves, leaves, clouds, waves, cells, threads)
