"""What the way from a file to a cached feature costs over the bare encoder, and the reader alone, in one process.

Both sides use the same batches and the same number of threads; on one side ready tensors replace reading, hashing,
decoding, resizing, normalising and writing. The measurements alternate, so that a busy machine slows both.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..medical_datasets import pixels
from ..medical_datasets.errors import UnreadableImageError
from ..medical_datasets.index import RACY_NS, Index
from ..medical_datasets.reading import each as ask_each
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
        cpu_share: of the whole way, share of the threads' time in which they computed, 0 to about 1; less where the
            machine has other work too.
        peak_rss_growth_mb: resident memory of the first whole way, its peak after the first fifth of the images less
            what it was then, in 10^6 bytes; flat when it does not grow with the images.
        reader_images_per_second: JPEG files decoded alone, with as many threads.
        index_cold_ms_per_image: header looked at and content hashed, written to a new image index, milliseconds.
        index_warm_ms_per_image: the same, answered by the index.
    """

    images: int
    bare_ms_per_image: float
    cached_path_ms_per_image: float
    overhead_ratio: float
    images_per_second: float
    warm_ms_per_image: float
    cpu_share: float
    peak_rss_growth_mb: float
    reader_images_per_second: float
    index_cold_ms_per_image: float
    index_warm_ms_per_image: float

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
        busy: list[float] = []
        reader: list[float] = []
        cold_index: list[float] = []
        warm_index: list[float] = []
        memory = Memory()
        pictures = [path for path in paths if path.suffix == ".jpg"] or paths
        for turn in range(repeats):
            cache = root / f"cache-{turn}"
            bare.append(_seconds(partial(_bare, backbone, ready, threads)))
            computed = time.process_time()
            way = partial(encode, paths, backbone, cache=cache, workers=threads)
            whole.append(_seconds(partial(way, progress=memory.watch) if turn == 0 else way))
            busy.append((time.process_time() - computed) / (whole[-1] * threads))
            warm.append(_seconds(way))
            reader.append(_seconds(partial(read_all, pictures, threads)))
            for series in (cold_index, warm_index):
                series.append(_seconds(partial(index_all, paths, root / f"index-{turn}")))
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
        cpu_share=statistics.median(busy),
        peak_rss_growth_mb=memory.growth,
        reader_images_per_second=len(pictures) / statistics.median(reader),
        index_cold_ms_per_image=statistics.median(cold_index) * each,
        index_warm_ms_per_image=statistics.median(warm_index) * each,
    )


class Memory:
    """Resident memory while images are encoded, as a progress callback.

    Attributes:
        base: 10^6 bytes when a fifth of the images was done; 0: not yet.
        peak: the most since then.
    """

    def __init__(self) -> None:
        self.base = self.peak = 0.0

    def watch(self, done: int, total: int, rate: float) -> None:
        """Look at it."""
        if 5 * done >= total:
            now = resident_mb()
            self.base = self.base or now
            self.peak = max(self.peak, now)

    @property
    def growth(self) -> float:
        """10^6 bytes by which the peak is above the base, >= 0."""
        return self.peak - self.base


def resident_mb() -> float:
    """Resident memory of this process in 10^6 bytes; where it cannot be asked for, the most there ever was."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6
    return pages * resource.getpagesize() / 1e6


def read_all(paths: Sequence[Path], threads: int) -> None:
    """Decode every file, as fast as the reader can."""
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(pixels.read_rgb, paths):
            continue


def index_all(paths: Sequence[Path], folder: Path) -> None:
    """Look at headers and hash contents through an index that is in ``folder``, or begins there."""

    # The files were drawn a moment ago, and nobody will change them: no need to wait until their clock is sure of it.
    def later() -> int:
        return time.time_ns() + RACY_NS

    with Index.open(folder, now=later) as index:
        for ask in (index.check_header, index.content_hash):
            for answer in ask_each(paths, ask):
                if isinstance(answer, UnreadableImageError):
                    raise answer


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
