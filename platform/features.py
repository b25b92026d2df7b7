"""Paths of images to a table of features: each distinct image is encoded once, ever, for one backbone.

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
from ..medical_datasets.errors import UnreadableImageError
from .backbone import Backbone, fixed_numerics
from .feature_cache import CacheIssue, CacheKey, FeatureCache

SHARD_ROWS = 4096  # rows encoded before a shard is written, so that an interruption costs little
MAX_WORKERS = 8
AHEAD = 4  # batches that may be decoded and not yet encoded

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Features in the order of the paths they were asked for.

    Attributes:
        features: float32 (n_kept, D), rows of norm 1.
        kept: int64 (n_kept,), ascending indices into the paths.
        skipped: (path, reason) of images that could not be read. For local people only: it names files.
        hashes: SHA-256 of each kept file's bytes, in hexadecimal.
        reused: distinct images whose feature was in the cache.
        encoded: distinct images that were encoded now.
        issues: cache shards that were damaged or stale, and were removed and made again.
    """

    features: NDArray[np.float32]
    kept: NDArray[np.int64]
    skipped: tuple[tuple[Path, str], ...]
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
    paths: Sequence[Path],
    backbone: Backbone,
    *,
    cache: Path,
    progress: Progress | None = None,
    read: Callable[[Path], NDArray[np.uint8]] = pixels.read_rgb,
    hash_file: Callable[[Path], str] = pixels.content_hash,
    workers: int | None = None,
) -> FeatureTable:
    """Encode images, or take their features from the cache.

    The bits of a feature depend on the image's content and the backbone alone: not on the order, the count, the other
    images, the number of workers, or on whether it came from the cache.

    Args:
        paths: image files, n >= 0; files of equal content are encoded once.
        backbone: the frozen encoder.
        cache: the cache folder, see :func:`default_cache`.
        progress: called with (images done, images in all, images per second) after every batch and at the end.
        read: decodes a file to uint8 (H, W, 3); raises UnreadableImageError for one that is skipped.
        hash_file: SHA-256 of a file's bytes in hexadecimal; may raise UnreadableImageError as well.
        workers: threads; None takes one per core that this process may use, at most 8.

    Raises:
        CacheError: the cache cannot be written.
        BackboneError: a feature is not finite.
    """
    store = FeatureCache(cache, cache_key(backbone))
    work = _Work(backbone, store, read, hash_file)
    meter = _Meter(len(paths), progress)
    with fixed_numerics():
        work.run(paths, workers or default_workers(), meter)
    names = [work.names[path] for path in paths]
    kept = [at for at, name in enumerate(names) if name is not None and name not in work.unreadable]
    hashes = tuple(name for name in (names[at] for at in kept) if name is not None)
    features = np.zeros((len(kept), backbone.embed_dim), dtype=np.float32)
    for at, name in enumerate(hashes):
        features[at] = store.row(name)
    whole = set(kept)
    return FeatureTable(
        features=features,
        kept=np.asarray(kept, dtype=np.int64),
        skipped=tuple((path, work.reason(path)) for at, path in enumerate(paths) if at not in whole),
        hashes=hashes,
        reused=len(set(hashes) - work.claimed),
        encoded=len(set(hashes) & work.claimed),
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
        backbone: Backbone,
        store: FeatureCache,
        read: Callable[[Path], NDArray[np.uint8]],
        hash_file: Callable[[Path], str],
    ) -> None:
        self._backbone, self._store, self._read, self._hash_file = backbone, store, read, hash_file
        self._lock = threading.Lock()
        self.names: dict[Path, str | None] = {}
        self.claimed: set[str] = set()
        self.unreadable: dict[str, str] = {}  # content hash -> reason
        self._unhashed: dict[Path, str] = {}  # path -> reason

    def reason(self, path: Path) -> str:
        """Why a path was skipped."""
        name = self.names[path]
        return self._unhashed[path] if name is None else self.unreadable[name]

    def prepare(self, path: Path) -> tuple[str, NDArray[np.uint8]] | None:
        """Hash one file; decode and resize it when nobody has. Runs in a worker."""
        try:
            name = self._hash_file(path)
        except UnreadableImageError as error:
            self._unhashed[path] = error.what
            self.names[path] = None
            return None
        self.names[path] = name
        with self._lock:
            if name in self._store or name in self.claimed:
                return None
            self.claimed.add(name)
        try:
            return name, self._backbone.prepare(self._read(path))
        except UnreadableImageError as error:
            self.unreadable[name] = error.what
            return None

    def encode(self, batch: list[tuple[str, NDArray[np.uint8]]]) -> dict[str, NDArray[np.float32]]:
        """Encode one batch. Runs in a worker."""
        rows = self._backbone.encode_prepared(torch.from_numpy(np.stack([pixel for _, pixel in batch])))
        return {name: row for (name, _), row in zip(batch, rows, strict=True)}

    def run(self, paths: Sequence[Path], workers: int, meter: _Meter) -> None:
        """Fill the store; what was encoded when an exception (Ctrl-C too) arrives is written before it goes on."""
        size = self._backbone.batch_size
        waiting: deque[Future[tuple[str, NDArray[np.uint8]] | None]] = deque()
        batches: deque[Future[dict[str, NDArray[np.float32]]]] = deque()
        ready: list[tuple[str, NDArray[np.uint8]]] = []
        fresh: dict[str, NDArray[np.float32]] = {}
        coming = iter(paths)

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
                    path = next(coming, None)
                    exhausted = path is None
                    if path is not None:
                        waiting.append(pool.submit(self.prepare, path))
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
            if not paths:
                meter.add(0)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            if single is not None:
                single.shutdown(wait=True, cancel_futures=True)
            for batch in batches:
                if batch.done() and not batch.cancelled() and batch.exception() is None:
                    fresh.update(batch.result())
            self._store.add(fresh)
