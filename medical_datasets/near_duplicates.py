"""Near-duplicate images: the same picture saved twice, resized, re-compressed or shifted in brightness.

Each image becomes a 32 x 32 grey thumbnail. A 64-bit perceptual hash (signs of the low DCT coefficients against
their median; C. Zauner, Implementation and benchmarking of perceptual image hash functions, 2010) proposes pairs by
Hamming distance; a pair counts only if the thumbnails' Pearson correlation confirms it. The hash alone is not
enough for one organ seen many times: on 3,264 brain MRI slices a radius of 8 bits chained 835 slices into one
cluster, while the confirmed pairs never made a cluster above 10.

Every pair is compared, tile by tile in a few threads, so memory is that of the thumbnails and of what is found.

Not found: mirrored, rotated or heavily cropped copies, and other slices of the same patient.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .errors import DataError

HASH_RADIUS: Final = 12  # bits of 64; wide, because the correlation decides
MIN_CORRELATION: Final = 0.97
WORKERS: Final = 2
_FLAT: Final = 0.5  # standard deviation in grey levels under which a thumbnail shows nothing
_TILE: Final = (128, 8192)  # rows and columns compared at a time: 8 MB of differences, which stays in the cache
_CHUNK: Final = 2048  # pairs confirmed, and thumbnails hashed, at a time: 2048 x 1024 floats, 8 MB a side

Thumbnails = NDArray[np.float32] | NDArray[np.uint8]


def perceptual_hashes(thumbnails: Thumbnails) -> NDArray[np.uint64]:
    """64-bit perceptual hashes.

    Args:
        thumbnails: float32 or uint8 array of shape (n, 32, 32), values 0 to 255.

    Returns:
        uint64 array of shape (n,); similar images differ in few bits.
    """
    if thumbnails.ndim != 3 or thumbnails.shape[1] < 8 or thumbnails.shape[2] < 8:
        raise DataError(f"thumbnails must have the shape (n, >= 8, >= 8), not {thumbnails.shape}")
    hashes = np.empty(len(thumbnails), dtype=np.uint64)
    for start in range(0, len(thumbnails), _CHUNK):
        part = thumbnails[start : start + _CHUNK].astype(np.float32)
        spectrum = dctn(part, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(len(part), 64)
        # The first coefficient is the mean brightness; it must not move the median.
        middle = np.median(spectrum[:, 1:], axis=1, keepdims=True)
        bits = np.packbits(spectrum > middle, axis=1)
        hashes[start : start + _CHUNK] = np.ascontiguousarray(bits).view(np.uint64).ravel()
    return hashes


def flat(thumbnails: Thumbnails) -> NDArray[np.bool_]:
    """Which thumbnails (n, h, w) show nothing: their grey levels spread by less than half a level."""
    spread = [
        thumbnails[start : start + _CHUNK].reshape(-1, thumbnails[0].size).astype(np.float32).std(axis=1)
        for start in range(0, len(thumbnails), _CHUNK)
    ]
    return np.concatenate(spread) < _FLAT if spread else np.zeros(0, dtype=np.bool_)


def near_duplicate_pairs(
    thumbnails: Thumbnails,
    *,
    radius: int = HASH_RADIUS,
    min_correlation: float = MIN_CORRELATION,
    workers: int = WORKERS,
) -> NDArray[np.int64]:
    """All pairs of images that show the same picture.

    Args:
        thumbnails: float32 or uint8 array of shape (n, 32, 32), values 0 to 255.
        radius: largest Hamming distance of the perceptual hashes, 0 to 64.
        min_correlation: smallest Pearson correlation of the thumbnails, -1 to 1. Thumbnails without contrast
            have none: two of them pair with each other and with nothing else.
        workers: threads, >= 1; the result does not depend on it.

    Returns:
        int64 array of shape (pairs, 2), rows (i, j) with i < j in rising order.
    """
    count = len(thumbnails)
    if count < 2:
        return np.zeros((0, 2), dtype=np.int64)
    hashes, blank = perceptual_hashes(thumbnails), flat(thumbnails)
    rows, columns = _TILE

    def tile(at: tuple[int, int]) -> NDArray[np.int64]:
        pairs = _candidates(hashes, blank, radius, *at)
        return _confirmed(pairs, thumbnails, blank, min_correlation)

    tiles = ((i, j) for i in range(0, count, rows) for j in range(i - i % columns, count, columns))
    waiting: deque[Future[NDArray[np.int64]]] = deque()
    found: list[NDArray[np.int64]] = []
    with ThreadPoolExecutor(workers, "pairs") as pool:
        for at in tiles:
            waiting.append(pool.submit(tile, at))
            if len(waiting) > 4 * workers:
                found.append(waiting.popleft().result())
        found += [each.result() for each in waiting]
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def clusters(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cluster numbers, int64 of shape (count,), of items joined directly or in chains by ``pairs`` (m, 2)."""
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    links = coo_matrix((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, numbers = connected_components(links, directed=False)
    return np.asarray(numbers, dtype=np.int64)


def pairs_by_key(keys: Sequence[Hashable | None]) -> NDArray[np.int64]:
    """Pairs (m, 2) that join all items of equal key into one chain; None joins nothing."""
    return np.array(list(_chain(keys)), dtype=np.int64).reshape(-1, 2)


def _chain(keys: Sequence[Hashable | None]) -> Iterator[tuple[int, int]]:
    last: dict[Hashable, int] = {}
    for index, key in enumerate(keys):
        if key is None:
            continue
        if key in last:
            yield last[key], index
        last[key] = index


def _candidates(
    hashes: NDArray[np.uint64], blank: NDArray[np.bool_], radius: int, start: int, left: int
) -> NDArray[np.int64]:
    """Pairs (m, 2) of one tile, the first index smaller: near in hash, or both flat."""
    rows, columns = slice(start, start + _TILE[0]), slice(left, left + _TILE[1])
    near = np.bitwise_count(hashes[rows, None] ^ hashes[None, columns]) <= radius
    if blank[rows].any():
        near |= blank[rows, None] & blank[None, columns]
    first, second = np.divmod(np.flatnonzero(near), near.shape[1])
    pairs = np.stack([first + start, second + left], axis=1).astype(np.int64)
    return pairs[pairs[:, 0] < pairs[:, 1]]


def _confirmed(
    pairs: NDArray[np.int64], thumbnails: Thumbnails, blank: NDArray[np.bool_], min_correlation: float
) -> NDArray[np.int64]:
    keep = np.zeros(len(pairs), dtype=np.bool_)
    for start in range(0, len(pairs), _CHUNK):
        part = pairs[start : start + _CHUNK]
        images, places = np.unique(part, return_inverse=True)
        centred = _unit(thumbnails[images])
        first, second = places.reshape(part.shape).T
        correlation = np.einsum("ij,ij->i", centred[first], centred[second])
        either, both = blank[part].any(axis=1), blank[part].all(axis=1)
        keep[start : start + _CHUNK] = np.where(either, both, correlation >= min_correlation)
    return pairs[keep]


def _unit(thumbnails: Thumbnails) -> NDArray[np.float32]:
    """Thumbnails (n, h, w) as rows of mean 0 and norm 1, whose products are correlations; 0 without contrast."""
    rows = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    rows = rows - rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1.0), dtype=np.float32)
