"""Ledgers written for other programs, entry by entry, to a new file that is whole or not there."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ...privacy.atomic import sync_folder
from ...privacy.ledger.entries import Entry
from ..errors import PlatformError
from .fhir import bundle_chunks
from .sources import Source
from .tables import csv_chunks, jsonl_chunks, read_both

FORMATS: dict[str, Callable[[Iterable[tuple[bytes, Entry]]], Iterator[bytes]]] = {
    "fhir": bundle_chunks,
    "csv": csv_chunks,
    "jsonl": jsonl_chunks,
}


def export_chunks(sources: Sequence[Source], form: str) -> Iterator[bytes]:
    """All entries of some ledgers in one form of `FORMATS`, ledger by ledger, in order.

    Args:
        sources: each ledger once, see `showing.distinct_sources`.
        form: ``fhir``, ``csv`` or ``jsonl``.

    Raises:
        LedgerError: a ledger cannot be read, or a line of it is no entry.
    """
    return FORMATS[form](pair for source in sources for pair in read_both(source.ledger))


def check_new(path: Path) -> None:
    """Refuse to write over anything.

    Raises:
        PlatformError: the name is taken, or its folder is missing.
    """
    if os.path.lexists(path):
        raise PlatformError("this file exists and is not written over", where=str(path), remedy="Give --out a new name")
    if not path.parent.is_dir():
        raise PlatformError("there is no such folder", where=str(path.parent), remedy="Make it, or give --out another")


def write_new(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a new file, mode 0600, whole or not at all: `privacy.atomic.write_atomic` for what is not held in memory.

    Raises:
        PlatformError: as `check_new`; nothing is left behind.
        OSError: as the file system reports it; nothing is left behind.
    """
    check_new(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")  # a name that `atomic.sweep` knows
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            for chunk in chunks:
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        check_new(path)  # somebody else may have taken the name meanwhile
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)
