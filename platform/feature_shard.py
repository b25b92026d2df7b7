"""One shard of encoded features: how its bytes are checked, and how its rows are looked at without being held."""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from .errors import CacheError

FORMAT = "wardround-features-1"


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What every row of a shard was made with.

    Attributes:
        fingerprint: the backbone's, 64 hexadecimal digits.
        numerics: device kind, batch shape and library versions, because they decide the last bits.
        width: columns D of the features.
    """

    fingerprint: str
    numerics: str
    width: int


def read_shard(content: bytes, key: CacheKey) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Decode and verify one shard: hashes uint8 (n, 32) and features float32 (n, D).

    Raises:
        CacheError: ``what`` starts with "damaged" (any bit of it differs from what was written) or "stale" (whole, but
            made by another backbone, device or library version).
    """
    try:
        tensors = load(content)
        metadata = shard_metadata(content)
        hashes, features = tensors["hashes"], tensors["features"]
        written = CacheKey(metadata["fingerprint"], metadata["numerics"], features.shape[1])
        checksum = metadata["sha256"]
        shapes = hashes.dtype == np.uint8 and features.dtype == np.float32 and hashes.shape == (len(features), 32)
    except (SafetensorError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise CacheError(f"damaged: {type(error).__name__}") from error
    if not shapes or metadata.get("format") != FORMAT or len(tensors) != 2:
        raise CacheError("damaged: it does not hold what a shard holds")
    if payload_checksum(written, hashes, features) != checksum:
        raise CacheError("damaged: the checksum does not fit")
    if written != key:
        what = "backbone" if written.fingerprint != key.fingerprint else "device or library version"
        raise CacheError(f"stale: made with another {what}")
    return hashes, features


def map_features(path: Path) -> NDArray[np.float32]:
    """The features (n, D) of a shard as they are in the file, which stays readable when its name is gone.

    Only for a file that was verified or written by this process: a shard is never changed under its name.
    """
    with open(path, "rb") as stream:
        content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    (length,) = struct.unpack("<Q", content[:8])
    shape, (start, end) = (json.loads(content[8 : 8 + length])["features"][name] for name in ("shape", "data_offsets"))
    offset = 8 + length + start
    return np.frombuffer(content, np.float32, (end - start) // 4, offset).reshape(shape)


def payload_checksum(key: CacheKey, hashes: NDArray[np.uint8], features: NDArray[np.float32]) -> str:
    """SHA-256 in hexadecimal over the key, the hashes and the features, each with its length before it."""
    digest = hashlib.sha256()
    for block in (
        FORMAT.encode(),
        key.fingerprint.encode(),
        key.numerics.encode(),
        str(features.shape[1]).encode(),
        np.ascontiguousarray(hashes).data.cast("B"),
        np.ascontiguousarray(features).data.cast("B"),
    ):
        digest.update(struct.pack("<Q", len(block)))
        digest.update(block)
    return digest.hexdigest()


def shard_metadata(content: bytes) -> Mapping[str, str]:
    """The ``__metadata__`` of a safetensors file in memory; the library only reads it from files."""
    (length,) = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    if not all(isinstance(metadata[name], str) for name in ("fingerprint", "numerics", "sha256")):
        raise ValueError("metadata are not text")
    return dict(metadata)
