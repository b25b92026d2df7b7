"""Files that are either the old one or the new one, never half of one, after a crash as well."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from pathlib import Path
from typing import Any

import rfc8785

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")


def sync_folder(folder: Path) -> None:
    """Make renames and new names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private(folder: Path) -> None:
    """Make a folder and whatever is missing above it, each mode 0700 and durable; one that exists is left as it is.

    Raises:
        OSError: as the file system reports it; NotADirectoryError when a file is in the way.
    """
    missing = []
    level = folder.absolute()
    while not level.exists():
        missing.append(level)
        level = level.parent
    for level in reversed(missing):
        level.mkdir(mode=0o700, exist_ok=True)
        level.chmod(0o700)  # whatever the process' umask took away
        # A file's own sync does not promise that the name of a new folder above it survives a power cut.
        sync_folder(level.parent)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write ``data`` to ``path`` whole or not at all.

    The bytes go to a temporary name in the same folder (a rename across file systems is not atomic), are synced,
    and take the name only then; the folder is synced last, so that the name survives too.

    Args:
        path: where the file shall be; its folder must exist.
        data: the whole content.
        mode: permission bits of the new file, not loosened by an older file's.

    Raises:
        OSError: as the file system reports it; nothing is left behind and an older file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        # O_EXCL: never follow or reuse a name that somebody else has put there.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)  # the process' umask must not decide who can read a key
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def sweep(folder: Path) -> int:
    """Remove what `write_atomic` left behind when its process was killed, here and in all folders below.

    Half a file can hold a key or what was learned from patients, and nobody would look for it under such a name. Call
    it only where nobody else writes what matters, such as under a home's lock. A file that vanishes meanwhile was
    somebody's who is alive.

    Returns:
        How many files were removed.
    """
    left = [path for path in folder.rglob(".*.tmp") if _TEMPORARY.fullmatch(path.name) and path.is_file()]
    for path in left:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            sync_folder(path.parent)
    return len(left)


def canonical_json(value: Any) -> bytes:
    """The one byte string of a JSON value (RFC 8785): what gets hashed and signed."""
    return rfc8785.dumps(value)


def write_json(path: Path, value: Any, mode: int = 0o600) -> None:
    """Write ``value`` as canonical JSON and a newline, atomically."""
    write_atomic(path, canonical_json(value) + b"\n", mode)
