"""Small pictures and trees for the tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def pattern(seed: int, side: int = 96, *, colour: bool = False) -> NDArray[np.uint8]:
    """A smooth random picture, uint8 (side, side, 3); another seed gives one that does not look alike."""
    generator = np.random.default_rng(seed)
    channels = 3 if colour else 1
    coarse = generator.integers(0, 256, size=(6, 6, channels), dtype=np.uint8)
    smooth = [
        np.asarray(Image.fromarray(coarse[:, :, k]).resize((side, side), Image.Resampling.BICUBIC))
        for k in range(channels)
    ]
    return np.stack(smooth * (3 // channels), axis=2)


def save(path: Path, pixels: NDArray[Any] | int, **options: int) -> Path:
    """Write pixels, or the pattern of a seed, to a path; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = pattern(pixels) if isinstance(pixels, int) else pixels
    Image.fromarray(array).save(path, None, **options)
    return path


def brain_tree(root: Path, per_class: int = 3, *, variant: str = "plain", first_seed: int = 0) -> Path:
    """The four brain MRI classes under Training and Testing; ``variant`` is ``plain`` or ``tumor``."""
    names = {
        "plain": ("glioma", "meningioma", "notumor", "pituitary"),
        "tumor": ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor"),
    }[variant]
    seed = first_seed
    for split in ("Training", "Testing"):
        for name in names:
            for index in range(per_class):
                save(root / split / name / f"image({index}).jpg", seed)
                seed += 1
    return root
