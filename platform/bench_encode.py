"""What the way from a file to a cached feature costs over the bare encoder, measured in one process.

Both sides use the same batches and the same number of threads; on one side ready tensors replace reading, hashing,
decoding, resizing, normalising and writing. The measurements alternate, so that a busy machine slows both.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..medical_datasets import pixels
from .backbone import Backbone, fixed_numerics
from .errors import PlatformError
from .features import default_workers, encode


@dataclass(frozen=True, slots=True)
class EncodeBench:
    """Medians over the repetitions.

    Attributes:
        images: files encoded in each repetition, half PNG and half JPEG, all different.
        bare_ms_per_image: the encoder alone on normalised float32 tensors, milliseconds.
        cached_path_ms_per_image: the whole way with an empty cache, milliseconds.
        overhead_ratio: whole way over bare, >= about 1; the goal is at most 1.15.
        images_per_second: of the whole way.
        warm_ms_per_image: the whole way when every feature is in the cache, milliseconds.
    """

    images: int
    bare_ms_per_image: float
    cached_path_ms_per_image: float
    overhead_ratio: float
    images_per_second: float
    warm_ms_per_image: float

    def as_dict(self) -> dict[str, int | float]:
        """The figures under the names that ``--json`` prints."""
        return asdict(self)


def measure(
    images: int,
    size: int,
    backbone: Backbone,
    *,
    repeats: int = 5,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EncodeBench:
    """Measure on procedurally drawn grey pictures in a temporary folder; the user's cache is not touched.

    Args:
        images: how many files, >= 1.
        size: height and width of the files in pixels, >= 8.
        backbone: the encoder to measure.
        repeats: repetitions of each measurement, >= 1.
        seed: of the pictures.
        workers: threads on both sides; None as in :func:`features.encode`.
        progress: called with (repetitions done, repetitions in all).

    Raises:
        PlatformError: an argument is out of its range.
    """
    if images < 1 or size < 8 or repeats < 1:
        raise PlatformError(
            f"cannot measure {images} images of {size} pixels {repeats} times",
            remedy="use at least 1 image, 8 pixels and 1 repetition",
        )
    threads = workers or default_workers()
    with tempfile.TemporaryDirectory(prefix="wardround-bench-") as folder:
        root = Path(folder)
        paths = draw_files(root / "images", images, size, seed)
        ready = _ready_batches(paths, backbone)
        _bare(backbone, ready[:threads], threads)  # first calls allocate and choose kernels
        bare: list[float] = []
        whole: list[float] = []
        warm: list[float] = []
        for turn in range(repeats):
            cache = root / f"cache-{turn}"
            bare.append(_seconds(partial(_bare, backbone, ready, threads)))
            for series in (whole, warm):
                series.append(_seconds(partial(encode, paths, backbone, cache=cache, workers=threads)))
            if progress is not None:
                progress(turn + 1, repeats)
    each = 1000.0 / images
    return EncodeBench(
        images=images,
        bare_ms_per_image=statistics.median(bare) * each,
        cached_path_ms_per_image=statistics.median(whole) * each,
        overhead_ratio=statistics.median(whole) / statistics.median(bare),
        images_per_second=images / statistics.median(whole),
        warm_ms_per_image=statistics.median(warm) * each,
    )


def draw_files(folder: Path, images: int, size: int, seed: int) -> list[Path]:
    """Different grey pictures, PNG and JPEG in turn, that compress about as MRI slices do.

    Slices of a public brain MRI set take 0.43 bytes a pixel as PNG; these take about as much.
    """
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    paths = []
    for number in range(images):
        path = folder / f"{number:06d}{'.png' if number % 2 == 0 else '.jpg'}"
        Image.fromarray(_picture(generator, size)).save(path)
        paths.append(path)
    return paths


def _picture(generator: np.random.Generator, size: int) -> NDArray[np.uint8]:
    coarse = generator.integers(0, 256, (8, 8), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64)
    noisy = np.clip(smooth + generator.normal(0.0, 3.0, (size, size)), 0, 255)
    axis = np.linspace(-1.0, 1.0, size)
    inside = (axis[:, None] / 0.95) ** 2 + (axis[None, :] / 0.85) ** 2 <= 1.0
    return np.where(inside, noisy, 0.0).astype(np.uint8)


def _ready_batches(paths: list[Path], backbone: Backbone) -> list[torch.Tensor]:
    batches = []
    for at in range(0, len(paths), backbone.batch_size):
        pixel = np.stack([backbone.prepare(pixels.read_rgb(path)) for path in paths[at : at + backbone.batch_size]])
        batches.append(backbone.preprocessing.normalise(torch.from_numpy(pixel)))
    return batches


def _bare(backbone: Backbone, batches: list[torch.Tensor], threads: int) -> None:
    workers = threads if backbone.device.type == "cpu" else 1
    with (
        fixed_numerics(),
        ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        for _ in pool.map(backbone.encode_prepared, batches):
            continue


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
