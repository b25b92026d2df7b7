"""Images to a table of features: each distinct image is encoded once, ever, for one backbone.

Hashing and decoding run in a small pool of threads, ahead of the encoder but never more than a few batches, and on a
CPU the batches themselves are encoded in the same pool, so every core is busy whatever the pictures cost to decode.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..medical_datasets import pixels
from ..medical_datasets.cohort import Picture
from ..medical_datasets.errors import UnreadableImageError
from .backbone import Backbone, fixed_numerics
from .feature_cache import CacheIssue, FeatureCache
from .feature_shard import CacheKey

SHARD_ROWS = 4096  # rows encoded before a shard is written, so that an interruption costs little
MAX_WORKERS = 8
AHEAD = 4  # batches that may be decoded and not yet encoded

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Features in the order of the images they were asked for.

    Attributes:
        features: float32 (n_kept, D), rows of norm 1.
        kept: int64 (n_kept,), ascending indices into the images.
        skipped: (image, reason) of those that could not be read. For local people only: it names files.
        hashes: what each kept image is known by, 64 hexadecimal digits.
        reused: distinct images whose feature was in the cache.
        encoded: distinct images that were encoded now.
        issues: cache shards that were damaged or stale, and were removed and made again.
    """

    features: NDArray[np.float32]
    kept: NDArray[np.int64]
    skipped: tuple[tuple[Picture, str], ...]
    hashes: tuple[str, ...]
    reused: int = 0
    encoded: int = 0
    issues: tuple[CacheIssue, ...] = ()


def default_cache() -> Path:
    """WARDROUND_CACHE, or ``~/.cache/wardround``."""
    chosen = os.environ.get("WARDROUND_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "wardround"


def default_workers() -> int:
    """Threads that encode and decode: one per core that this process may use, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MAX_WORKERS, cores)


def cache_key(backbone: Backbone) -> CacheKey:
    """What a cached feature must have been made with to stand for one made now."""
    from importlib.metadata import version

    numerics = (
        f"{backbone.device.type} batch {backbone.batch_size} torch {torch.__version__} "
        f"torchvision {version('torchvision')} pillow {version('pillow')}"
    )
    return CacheKey(backbone.fingerprint, numerics, backbone.embed_dim)


def encode(
    images: Sequence[Picture],
    backbone: Backbone,
    *,
    cache: Path,
    progress: Progress | None = None,
    read: Callable[[Picture], NDArray[np.uint8]] = pixels.read_rgb,
    hash_file: Callable[[Picture], str] = pixels.content_hash,
    workers: int | None = None,
) -> FeatureTable:
    """Encode images, or take their features from the cache.

    The bits of a feature depend on the image's content and the backbone alone: not on the order, the count, the other
    images, the number of workers, or on whether it came from the cache. In memory are the table, some hundred bytes an
    image, and a few batches of pixels; what was encoded is in the cache at most ``SHARD_ROWS`` images later, and when
    an exception ends the work.

    Args:
        images: files or parts of files, n >= 0; images of equal content are encoded once.
        backbone: the frozen encoder.
        cache: the cache folder, see :func:`default_cache`.
        progress: called with (images done, images in all, images per second) after every batch and at the end.
        read: decodes an image to uint8 (H, W, 3); raises UnreadableImageError for one that is skipped.
        hash_file: what an image is known by, 64 hexadecimal digits, e.g. an index's ``content_hash``; called in several
            threads, may raise UnreadableImageError as well.
        workers: threads; None takes one per core that this process may use, at most 8.

    Raises:
        CacheError: the cache cannot be written.
        BackboneError: a feature is not finite.
    """
    store = FeatureCache(cache, cache_key(backbone))
    work = _Work(images, backbone, store, read, hash_file)
    meter = _Meter(len(images), progress)
    with fixed_numerics():
        work.run(workers or default_workers(), meter)
    kept = [at for at, name in enumerate(work.names) if name and name not in work.unreadable]
    hashes = tuple(work.names[at] for at in kept)
    features = np.zeros((len(kept), backbone.embed_dim), dtype=np.float32)
    for at, name in enumerate(hashes):
        features[at] = store.row(name)
    whole, used = set(kept), set(hashes)
    return FeatureTable(
        features=features,
        kept=np.asarray(kept, dtype=np.int64),
        skipped=tuple((image, work.reason(at)) for at, image in enumerate(images) if at not in whole),
        hashes=hashes,
        reused=len(used - work.claimed),
        encoded=len(used & work.claimed),
        issues=tuple(store.issues),
    )


class _Meter:
    """Counts finished images and reports the rate since the start."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self._done, self._started = 0, time.perf_counter()

    def add(self, images: int) -> None:
        self._done += images
        if self._progress is not None and (images or not self._total):
            seconds = max(time.perf_counter() - self._started, 1e-9)
            self._progress(self._done, self._total, self._done / seconds)


class _Work:
    """One call of :func:`encode`: what was hashed, claimed, decoded and encoded so far."""

    def __init__(
        self,
        images: Sequence[Picture],
        backbone: Backbone,
        store: FeatureCache,
        read: Callable[[Picture], NDArray[np.uint8]],
        hash_file: Callable[[Picture], str],
    ) -> None:
        self._images = images
        self._backbone, self._store, self._read, self._hash_file = backbone, store, read, hash_file
        self._lock = threading.Lock()
        self.names = [""] * len(images)  # content hashes; empty where there is none
        self.claimed: set[str] = set()
        self.unreadable: dict[str, str] = {}  # content hash -> reason
        self._unhashed: dict[int, str] = {}  # number of the image -> reason

    def reason(self, at: int) -> str:
        """Why an image was skipped."""
        name = self.names[at]
        return self.unreadable[name] if name else self._unhashed[at]

    def prepare(self, at: int) -> tuple[str, NDArray[np.uint8]] | None:
        """Hash one image; decode and resize it when nobody has. Runs in a worker."""
        image = self._images[at]
        try:
            name = self._hash_file(image)
        except UnreadableImageError as error:
            self._unhashed[at] = error.what
            return None
        self.names[at] = name
        with self._lock:
            if name in self._store or name in self.claimed:
                return None
            self.claimed.add(name)
        try:
            return name, self._backbone.prepare(self._read(image))
        except UnreadableImageError as error:
            self.unreadable[name] = error.what
            return None

    def encode(self, batch: list[tuple[str, NDArray[np.uint8]]]) -> dict[str, NDArray[np.float32]]:
        """Encode one batch. Runs in a worker."""
        rows = self._backbone.encode_prepared(torch.from_numpy(np.stack([pixel for _, pixel in batch])))
        return {name: row for (name, _), row in zip(batch, rows, strict=True)}

    def run(self, workers: int, meter: _Meter) -> None:
        """Fill the store; what was encoded when an exception (Ctrl-C too) arrives is written before it goes on."""
        size = self._backbone.batch_size
        waiting: deque[Future[tuple[str, NDArray[np.uint8]] | None]] = deque()
        batches: deque[Future[dict[str, NDArray[np.float32]]]] = deque()
        ready: list[tuple[str, NDArray[np.uint8]]] = []
        fresh: dict[str, NDArray[np.float32]] = {}
        coming = iter(range(len(self._images)))

        def collect(most: int) -> None:
            """Take finished batches, waiting for the oldest while more than ``most`` are under way."""
            while batches and (len(batches) > most or batches[0].done()):
                rows = batches.popleft().result()
                fresh.update(rows)
                meter.add(len(rows))
                if len(fresh) >= SHARD_ROWS:
                    self._store.add(fresh)
                    fresh.clear()

        # OpenMP counts threads per thread, so each worker says again that an operation has one.
        pool = ThreadPoolExecutor(workers, "encode", initializer=torch.set_num_threads, initargs=(1,))
        # A GPU takes one batch at a time; CPU batches share the pool with the decoding.
        single = ThreadPoolExecutor(1, "encode-gpu") if self._backbone.device.type != "cpu" else None
        try:
            exhausted = False
            while not exhausted or waiting:
                while not exhausted and len(waiting) < AHEAD * size:
                    at = next(coming, None)
                    exhausted = at is None
                    if at is not None:
                        waiting.append(pool.submit(self.prepare, at))
                if waiting:
                    item = waiting.popleft().result()
                    if item is None:
                        meter.add(1)
                    else:
                        ready.append(item)
                if len(ready) == size or (ready and exhausted and not waiting):
                    batches.append((single or pool).submit(self.encode, ready))
                    ready = []
                    collect(most=workers)
            collect(most=0)
            if not self._images:
                meter.add(0)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            if single is not None:
                single.shutdown(wait=True, cancel_futures=True)
            for batch in batches:
                if batch.done() and not batch.cancelled() and batch.exception() is None:
                    fresh.update(batch.result())
            self._store.add(fresh)
