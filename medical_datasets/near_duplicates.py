"""Near-duplicate images: the same picture saved twice, resized, re-compressed or shifted in brightness.

Each image becomes a 32 x 32 grey thumbnail. A 64-bit perceptual hash (signs of the low DCT coefficients against
their median; C. Zauner, Implementation and benchmarking of perceptual image hash functions, 2010) proposes pairs by
Hamming distance; a pair counts only if the thumbnails' Pearson correlation confirms it. The hash alone is not
enough for one organ seen many times: on 3,264 brain MRI slices a radius of 8 bits chained 835 slices into one
cluster, while the confirmed pairs never made a cluster above 10.

Not found: mirrored, rotated or heavily cropped copies, and other slices of the same patient.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .errors import DataError

HASH_RADIUS: Final = 12  # bits of 64; wide, because the correlation decides
MIN_CORRELATION: Final = 0.97
_FLAT: Final = 0.5  # standard deviation in grey levels under which a thumbnail shows nothing
_BLOCK: Final = 512  # rows compared at a time: 512 x n distances, 5 MB at n = 10,000


def perceptual_hashes(thumbnails: NDArray[np.float32]) -> NDArray[np.uint64]:
    """64-bit perceptual hashes.

    Args:
        thumbnails: float32 array of shape (n, 32, 32), values 0 to 255.

    Returns:
        uint64 array of shape (n,); similar images differ in few bits.
    """
    if thumbnails.ndim != 3 or thumbnails.shape[1] < 8 or thumbnails.shape[2] < 8:
        raise DataError(f"thumbnails must have the shape (n, >= 8, >= 8), not {thumbnails.shape}")
    spectrum = dctn(thumbnails, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(len(thumbnails), 64)
    # The first coefficient is the mean brightness; it must not move the median.
    middle = np.median(spectrum[:, 1:], axis=1, keepdims=True)
    bits = np.packbits(spectrum > middle, axis=1)
    return np.ascontiguousarray(bits).view(np.uint64).ravel()


def near_duplicate_pairs(
    thumbnails: NDArray[np.float32],
    *,
    radius: int = HASH_RADIUS,
    min_correlation: float = MIN_CORRELATION,
) -> NDArray[np.int64]:
    """All pairs of images that show the same picture.

    Args:
        thumbnails: float32 array of shape (n, 32, 32), values 0 to 255.
        radius: largest Hamming distance of the perceptual hashes, 0 to 64.
        min_correlation: smallest Pearson correlation of the thumbnails, -1 to 1. Thumbnails without contrast
            have none: two of them pair with each other and with nothing else.

    Returns:
        int64 array of shape (pairs, 2), rows (i, j) with i < j in rising order.
    """
    count = len(thumbnails)
    if count < 2:
        return np.zeros((0, 2), dtype=np.int64)
    hashes = perceptual_hashes(thumbnails)
    centred = thumbnails.reshape(count, -1).astype(np.float32)
    centred = centred - centred.mean(axis=1, keepdims=True)
    flat = centred.std(axis=1) < _FLAT
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    centred = centred / np.where(norms > 0, norms, 1.0)
    found = [_confirmed(pairs, centred, flat, min_correlation) for pairs in _candidates(hashes, flat, radius)]
    return np.concatenate(found) if found else np.zeros((0, 2), dtype=np.int64)


def clusters(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cluster numbers, int64 of shape (count,), of items joined directly or in chains by ``pairs`` (m, 2)."""
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    links = coo_matrix((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, numbers = connected_components(links, directed=False)
    return np.asarray(numbers, dtype=np.int64)


def pairs_by_key(keys: Sequence[Hashable | None]) -> NDArray[np.int64]:
    """Pairs (m, 2) that join all items of equal key into one chain; None joins nothing."""
    last: dict[Hashable, int] = {}
    joined: list[tuple[int, int]] = []
    for index, key in enumerate(keys):
        if key is None:
            continue
        if key in last:
            joined.append((last[key], index))
        last[key] = index
    return np.array(joined, dtype=np.int64).reshape(-1, 2)


def _candidates(hashes: NDArray[np.uint64], flat: NDArray[np.bool_], radius: int) -> Iterator[NDArray[np.int64]]:
    """Pairs (m, 2) near in hash, or both flat, a block of rows at a time."""
    for start in range(0, len(hashes), _BLOCK):
        stop = min(start + _BLOCK, len(hashes))
        distance = np.bitwise_count(hashes[start:stop, None] ^ hashes[None, start:])
        near = (distance <= radius) | (flat[start:stop, None] & flat[None, start:])
        first, second = np.nonzero(np.triu(near, 1))
        yield np.stack([first + start, second + start], axis=1).astype(np.int64)


def _confirmed(
    pairs: NDArray[np.int64], centred: NDArray[np.float32], flat: NDArray[np.bool_], min_correlation: float
) -> NDArray[np.int64]:
    keep = np.zeros(len(pairs), dtype=np.bool_)
    for start in range(0, len(pairs), 8192):  # 8192 x 1024 floats, 32 MB a side
        first, second = pairs[start : start + 8192].T
        correlation = np.einsum("ij,ij->i", centred[first], centred[second])
        either = flat[first] | flat[second]
        both = flat[first] & flat[second]
        keep[start : start + 8192] = np.where(either, both, correlation >= min_correlation)
    return pairs[keep]
