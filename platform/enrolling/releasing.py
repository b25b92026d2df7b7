"""A file that is given out takes its name after the ledger says so, and never the other way round."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ...privacy.atomic import sync_folder, write_atomic


def release_file(path: Path, data: bytes, note: Callable[[], object]) -> None:
    """Let a file take its name only after the ledger says so; killed anywhere, the same call does the rest.

    Args:
        path: of the file; its folder exists.
        data: the whole content, the same in every attempt.
        note: writes the ledger's entry, synced, unless it is there.

    Raises:
        OSError: as the file system reports it. Whatever ``note`` raises; the file has no name then.
    """
    pending = pending_path(path)
    write_atomic(pending, data)
    note()
    os.replace(pending, path)
    sync_folder(path.parent)


def complete_release(path: Path, named: Callable[[bytes], bool]) -> None:
    """Finish a release that was interrupted after its entry was written; one before it is undone.

    Args:
        path: of the file. named: whether the ledger names a file of these bytes.

    Raises:
        OSError: as the file system reports it.
    """
    pending = pending_path(path)
    if not pending.exists():
        return
    if named(pending.read_bytes()):
        os.replace(pending, path)
        sync_folder(path.parent)
    else:
        pending.unlink()


def pending_path(path: Path) -> Path:
    """What a file is called until it takes its name."""
    return path.with_name(f".{path.name}.pending")
