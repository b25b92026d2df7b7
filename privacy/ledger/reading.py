"""Reading a ledger's entries, without judging them: `verifying.verify` says whether they can be believed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..errors import LedgerError
from .entries import Entry

_decoder = msgspec.json.Decoder(Entry)


def read_lines(path: Path) -> Iterator[bytes]:
    """The whole lines of a ledger in order, without their newlines; a torn last line is left out.

    Raises:
        LedgerError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    yield line[:-1]
    except OSError as error:
        raise LedgerError(f"the ledger cannot be read: {error.strerror}", where=str(path)) from None


def read_entries(path: Path) -> Iterator[Entry]:
    """The entries of a ledger in order.

    Raises:
        LedgerError: the file cannot be read, or a line of it is no entry; it is named.
    """
    for number, line in enumerate(read_lines(path), start=1):
        try:
            yield _decoder.decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise LedgerError(
                f"line {number} is no ledger entry",
                where=str(path),
                remedy="See what else is wrong with it: wardround audit verify",
            ) from None


def read_good(path: Path) -> Iterator[Entry]:
    """The entries up to the first line that is none, which verification names."""
    try:
        yield from read_entries(path)
    except LedgerError:
        return
