"""Shards of encoded features on disk: found by content hash, verified on load, written whole or not at all.

A shard is one safetensors file with ``features`` float32 (n, D) and ``hashes`` uint8 (n, 32), and in its metadata the
backbone's fingerprint, the numerics it was made with, and a SHA-256 over all of it. Shards are named by that checksum,
so two processes that write the same rows write the same file. There are no image names or paths in the cache; its
folders are 0700 all the same, because features count as patient data. An open cache maps its shards instead of
holding them: in memory are 32 bytes and a number for each row, whatever else the folder has.
"""

from __future__ import annotations

import os
import re
import struct
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..medical_datasets.index_file import index_files
from .errors import CacheError
from .feature_shard import FORMAT, CacheKey, map_features, payload_checksum, read_shard, shard_metadata

SUFFIX = ".safetensors"
SMALL_SHARD = 4096  # rows; smaller shards are merged when there are many
MANY_SHARDS = 32
LARGEST_MERGE = 16_384  # rows; a shard is checked in memory, 32 MB of it at D = 512
INDEX = "index"  # the folder of the image index in the cache folder
_FINGERPRINT, _OURS = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9a-f]{32}\.safetensors|\..*\.part")
_SHIFT = 32
_ROW = (1 << _SHIFT) - 1
ABANDONED = 3600.0  # seconds after which a half-written file has no writer any more


@dataclass(frozen=True, slots=True)
class CacheIssue:
    """A shard that was removed because it could not be trusted; its images are encoded again.

    Attributes:
        shard: file name in the cache folder.
        reason: "damaged" or "stale", and why.
    """

    shard: str
    reason: str


class FeatureCache:
    """The shards of one backbone on one kind of device, verified when opened and mapped into memory.

    Args:
        root: the cache folder; made (0700) when it is missing.
        key: what rows must have been made with.

    Attributes:
        folder: where the shards are: ``root/<fingerprint[:16]>/<device kind>``.
        issues: shards that were removed while opening.

    Raises:
        CacheError: the folder cannot be made or read.
    """

    def __init__(self, root: Path, key: CacheKey) -> None:
        self.key = key
        self.folder = root / key.fingerprint[:16] / key.numerics.partition(" ")[0]
        self.issues: list[CacheIssue] = []
        self._rows: dict[bytes, int] = {}  # name -> shard << _SHIFT | row
        self._shards: list[NDArray[np.float32]] = []
        try:
            for level in (root, self.folder.parent, self.folder):
                level.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep()
            shards = self._read_all()
        except OSError as error:
            raise _unusable(self.folder, error) from error
        self._merge(shards)

    def __contains__(self, content_hash: str) -> bool:
        return bytes.fromhex(content_hash) in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, content_hash: str) -> NDArray[np.float32]:
        """The feature of one image, float32 (D,), read-only; KeyError when there is none."""
        place = self._rows[bytes.fromhex(content_hash)]
        row: NDArray[np.float32] = self._shards[place >> _SHIFT][place & _ROW]
        return row

    def add(self, rows: Mapping[str, NDArray[np.float32]]) -> None:
        """Write rows as one shard, durable when this returns.

        Raises:
            CacheError: the disk is full or the folder cannot be written; nothing half-made stays.
        """
        if not rows:
            return
        names = sorted(rows)
        hashes = np.frombuffer(bytes.fromhex("".join(names)), dtype=np.uint8).reshape(len(names), 32)
        features = np.stack([rows[name] for name in names]).astype(np.float32, copy=False)
        self._keep(self._write(hashes, features), hashes, features)

    def _keep(self, path: Path, hashes: NDArray[np.uint8], features: NDArray[np.float32]) -> None:
        first = len(self._shards) << _SHIFT
        try:
            self._shards.append(map_features(path))
        except OSError:
            # Merged away by another process meanwhile, or too many open files: then in memory.
            self._shards.append(features)
        self._rows.update((key.tobytes(), first | at) for at, key in enumerate(hashes))

    def _sweep(self) -> None:
        """Remove what a killed writer left; a young file may belong to a writer that is still at work."""
        for path in self.folder.glob(".*.part"):
            try:
                if time.time() - path.stat().st_mtime > ABANDONED:
                    path.unlink()
            except FileNotFoundError:
                continue  # its writer finished, or another process swept it

    def _read_all(self) -> list[tuple[Path, int]]:
        """Index every sound shard, remove the others; (path, rows) of the sound ones."""
        sound = []
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            try:
                hashes, features = read_shard(path.read_bytes(), self.key)
            except FileNotFoundError:
                continue  # another process merged it away between the listing and now: its rows cost one encoding
            except CacheError as error:
                self.issues.append(CacheIssue(path.name, error.what))
                path.unlink(missing_ok=True)
                continue
            self._keep(path, hashes, features)
            sound.append((path, len(hashes)))
        return sound

    def _merge(self, shards: list[tuple[Path, int]]) -> None:
        """Write many small shards as one, then remove them; safe beside other readers and writers.

        The merged shard is durable before the first small one goes, and only what was merged is removed.
        """
        small = [(path, rows) for path, rows in shards if rows < SMALL_SHARD]
        if len(small) < MANY_SHARDS:
            return
        merged: dict[bytes, NDArray[np.float32]] = {}
        gone = []
        for path, rows in small:
            if len(merged) + rows > LARGEST_MERGE:
                break
            try:
                hashes, features = read_shard(path.read_bytes(), self.key)
            except (FileNotFoundError, CacheError):
                continue  # gone since, or dealt with when it is next read
            merged.update((key.tobytes(), row) for key, row in zip(hashes, features, strict=True))
            gone.append(path)
        if not merged:
            return
        order = sorted(merged)
        hashes = np.frombuffer(b"".join(order), dtype=np.uint8).reshape(len(order), 32)
        written = self._write(hashes, np.stack([merged[key] for key in order]))
        for path in gone:
            if path != written:
                path.unlink(missing_ok=True)

    def _write(self, hashes: NDArray[np.uint8], features: NDArray[np.float32]) -> Path:
        try:
            return _write_shard(self.folder, self.key, hashes, features)
        except OSError as error:
            raise _unusable(self.folder, error) from error


def _write_shard(folder: Path, key: CacheKey, hashes: NDArray[np.uint8], features: NDArray[np.float32]) -> Path:
    """One shard, named by its checksum, durable when this returns."""
    checksum = payload_checksum(key, hashes, features)
    metadata = {"format": FORMAT, "fingerprint": key.fingerprint, "numerics": key.numerics, "sha256": checksum}
    content = save({"hashes": np.ascontiguousarray(hashes), "features": np.ascontiguousarray(features)}, metadata)
    path = folder / f"{checksum[:32]}{SUFFIX}"
    write_atomically(path, content)
    return path


def index_folder(root: Path) -> Path:
    """Where the image index of a cache folder is."""
    return root / INDEX


def cache_files(root: Path) -> list[Path]:
    """Every file of ours under a cache folder: shards, half-written ones, and those of the image index.

    Raises:
        CacheError: the folder cannot be read.
    """
    try:
        return sorted([*shard_files(root), *index_files(index_folder(root))])
    except OSError as error:
        raise _unusable(root, error) from error


def shard_files(root: Path) -> list[Path]:
    """Every shard and every half-written one under a cache folder, of all backbones and devices; nothing else in it.

    Raises:
        CacheError: the folder cannot be read.
    """
    try:
        folders = [folder for folder in root.glob("*/*") if _is_ours(folder)]
        return sorted(path for folder in folders for path in folder.iterdir() if _OURS.fullmatch(path.name))
    except OSError as error:
        raise _unusable(root, error) from error


def _is_ours(folder: Path) -> bool:
    return _FINGERPRINT.fullmatch(folder.parent.name) is not None and folder.is_dir()


def cached_names(root: Path) -> set[str]:
    """The names of all rows in a cache folder, hexadecimal: hashes of contents, or of content and camera."""
    shards = (_own_shard(path) for path in shard_files(root))
    return {row.tobytes().hex() for shard in shards if shard is not None for row in shard[1]}


def shards_with(root: Path, names: Collection[str]) -> dict[Path, int]:
    """The shards that hold rows of these names, and how many rows of each."""
    wanted = {bytes.fromhex(name) for name in names}
    found = {}
    for path in shard_files(root):
        shard = _own_shard(path)
        rows = 0 if shard is None else sum(row.tobytes() in wanted for row in shard[1])
        if rows:
            found[path] = rows
    return found


def remove_rows(root: Path, names: Collection[str]) -> tuple[int, int]:
    """Take rows out of every shard of every backbone under a cache folder; all other rows stay, bit for bit.

    What is left of a shard is durable before the shard goes. Killed in between, nothing of other images is lost, and
    called again it ends what it began. A shard that is damaged goes whole, because nobody can tell whose rows it has;
    so does a half-written one, whose writer, if it lives, is told that the cache cannot be written.

    Args:
        root: the cache folder; nothing happens when it is not there.
        names: what rows are found by, hexadecimal, see :func:`cached_names`.

    Returns:
        Rows that were removed, and files that were changed or removed.

    Raises:
        CacheError: the cache cannot be read or written.
    """
    wanted = {bytes.fromhex(name) for name in names}
    rows = files = 0
    if not wanted:
        return 0, 0
    try:
        while True:  # again, because another process may have merged shards meanwhile
            before = files
            for path in shard_files(root):
                shard = _own_shard(path)
                keep = None if shard is None else np.array([row.tobytes() not in wanted for row in shard[1]], bool)
                if shard is not None and keep is not None:
                    if keep.all():
                        continue
                    key, hashes, features = shard
                    if keep.any():
                        _write_shard(path.parent, key, hashes[keep], features[keep])
                    rows += int((~keep).sum())
                files += path.exists()
                path.unlink(missing_ok=True)
                _sync(path.parent)
            if files == before:
                return rows, files
    except OSError as error:
        raise _unusable(root, error) from error


def _own_shard(path: Path) -> tuple[CacheKey, NDArray[np.uint8], NDArray[np.float32]] | None:
    """A shard by the key that it states itself; None where it is damaged, half-written or gone."""
    try:
        content = path.read_bytes()
        if path.suffix != SUFFIX:
            return None
        metadata = shard_metadata(content)
        width = load(content)["features"].shape[1]
        key = CacheKey(metadata["fingerprint"], metadata["numerics"], width)
        return key, *read_shard(content, key)
    except (FileNotFoundError, CacheError, SafetensorError, struct.error, ValueError, KeyError, TypeError, IndexError):
        return None


def write_atomically(path: Path, content: bytes) -> None:
    """Write under a name of its own in the same folder, sync, rename, sync the folder; 0600.

    An interruption leaves no file under ``path`` that was not written whole.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(folder: Path, error: OSError) -> CacheError:
    return CacheError(
        f"the feature cache cannot be used: {error.strerror or error}",
        where=str(folder),
        remedy="make room, or set WARDROUND_CACHE to a folder that you can write to",
    )
