"""Ledgers as a flat table for spreadsheets (CSV), and as they are (JSON lines).

The table is RFC 4180: UTF-8, lines end in CR LF, every text is quoted. The first row names the columns (`COLUMNS`),
which never change order; each further row is one entry, by the ledger's own names and in its own order:

    owner .. outcome        whose ledger; number, UTC time, kind and outcome of the entry
    direction .. number     where a message went or came from, its type, study (SHA-256), round and stage; of a batch
                            of checkpoints its number; -1 where there is none
    message_id .. rule      its name, bytes and SHA-256 on the wire, and the rule that refused it
    purpose .. retention_days   from the policy in force, and the policy's SHA-256
    commitment .. model     of a masked vector; versions of software and model
    schema .. facts         nested values, as compact JSON with sorted keys; empty where there is none
    version .. previous     form of the entry, its random salt, and SHA-256 of the entry before it
    entry_sha256            SHA-256 of the entry itself, as the next one names it

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, and what stands in a ledger may
come from elsewhere. Such a text gets an apostrophe in front, as does one that has an apostrophe there, so that taking
one off gives every text back; see `guarded`. Numbers and JSON cannot begin a formula.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ...privacy.ledger.entries import Entry
from ...privacy.ledger.reading import read_entries, read_lines

COLUMNS = (
    "owner",
    "sequence",
    "time",
    "kind",
    "outcome",
    "direction",
    "peer",
    "peer_key",
    "message_type",
    "study",
    "round",
    "stage",
    "number",
    "message_id",
    "codec",
    "wire_bytes",
    "wire_sha256",
    "rule",
    "purpose",
    "legal_basis",
    "policy_sha256",
    "retention_days",
    "commitment",
    "software",
    "model",
    "schema",
    "masking",
    "clip",
    "dp",
    "facts",
    "version",
    "salt",
    "previous",
    "entry_sha256",
)
NESTED = frozenset({"schema", "masking", "clip", "dp", "facts"})
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def read_both(path: Path) -> Iterator[tuple[bytes, Entry]]:
    """The lines of a ledger, without their newlines, and the entries in them.

    Raises:
        LedgerError: the file cannot be read, or a line of it is no entry; it is named.
    """
    return zip(read_lines(path), read_entries(path), strict=False)  # a line may be added between the two readings


def guarded(text: str) -> str:
    """A text that no spreadsheet takes for a formula; `unguarded` gives it back."""
    return f"'{text}" if text.startswith("'") or text.lstrip().startswith(_FORMULA) or text[:1] in _FORMULA else text


def unguarded(text: str) -> str:
    """What `guarded` was given."""
    return text.removeprefix("'")


def csv_chunks(lines: Iterable[tuple[bytes, Entry]]) -> Iterator[bytes]:
    """The table, row by row, the names of the columns first.

    Args:
        lines: entries with the lines that they stand in.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")

    def row(cells: Iterable[str | int]) -> bytes:
        writer.writerow(cells)
        text = buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        return text.encode()

    yield row(COLUMNS)
    for line, entry in lines:
        digest = hashlib.sha256(line).hexdigest()
        yield row([*(_cell(name, getattr(entry, name)) for name in COLUMNS[:-1]), digest])


def jsonl_chunks(lines: Iterable[tuple[bytes, Entry]]) -> Iterator[bytes]:
    """The entries byte for byte as the ledger has them, one a line; each names the ledger's owner."""
    for line, _ in lines:
        yield line + b"\n"


def _cell(name: str, value: Any) -> str | int:
    if name in NESTED:
        return "" if value is None else msgspec.json.encode(value, order="sorted").decode()
    return guarded(value) if isinstance(value, str) else int(value)
