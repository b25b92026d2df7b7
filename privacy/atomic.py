"""Files that are either the old one or the new one, never half of one, after a crash as well."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

import rfc8785


def sync_folder(folder: Path) -> None:
    """Make renames and new names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def canonical_json(value: Any) -> bytes:
    """The one byte string of a JSON value (RFC 8785): what gets hashed and signed."""
    return rfc8785.dumps(value)


def write_json(path: Path, value: Any, mode: int = 0o600) -> None:
    """Write ``value`` as canonical JSON and a newline, atomically."""
    write_atomic(path, canonical_json(value) + b"\n", mode)
