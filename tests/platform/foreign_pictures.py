"""Pictures that belong in no medical set: popcorn, doughnuts, charts and text, drawn in grey or colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

KINDS = ("popcorn", "doughnuts", "chart", "text")


def foreign(kind: str, seed: int, side: int = 128) -> NDArray[np.uint8]:
    """One picture, uint8 (side, side, 3), grey."""
    generator = np.random.default_rng((seed, KINDS.index(kind)))
    down, across = np.mgrid[:side, :side] / side
    if kind == "popcorn":
        grey = np.full((side, side), generator.uniform(20, 60))
        for _ in range(int(generator.integers(25, 45))):
            x, y = generator.uniform(0, 1, 2)
            radius = generator.uniform(0.05, 0.1)
            for _ in range(5):
                right, below = generator.normal(0, 0.6 * radius, 2)
                distance = np.hypot(across - x - right, down - y - below) / radius
                lit = (250 - 120 * distance**2) * generator.uniform(0.8, 1)
                grey = np.where(distance < 1, lit, grey)
    elif kind == "doughnuts":
        grey = np.full((side, side), generator.uniform(180, 240))
        for _ in range(int(generator.integers(2, 6))):
            x, y = generator.uniform(0.2, 0.8, 2)
            radius = generator.uniform(0.12, 0.2)
            off = np.hypot(across - x, down - y) - radius
            grey = np.where(np.abs(off) < 0.45 * radius, 90 + 80 * np.cos(3 * off / radius), grey)
    else:
        page = Image.new("L", (side, side), 250)
        pen = ImageDraw.Draw(page)
        for line in range(10):
            if kind == "text":
                letters = "".join(chr(c) for c in generator.integers(97, 123, 20).tolist())
                pen.text((4, 4 + 12 * line), letters, fill=int(generator.integers(0, 60)))
            else:
                height = int(generator.uniform(0.1, 0.9) * side)
                pen.rectangle(
                    (4 + 12 * line, side - height, 12 + 12 * line, side), fill=int(generator.uniform(30, 160))
                )
        grey = np.asarray(page, dtype=np.float64)
    noisy = np.clip(grey + generator.normal(0, 3, grey.shape), 0, 255).astype(np.uint8)
    return np.repeat(noisy[:, :, None], 3, axis=2)
