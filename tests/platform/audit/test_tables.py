"""The flat table and the plain lines give back what the ledger says, and no cell of the table is a formula."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wardround.platform.audit.tables import COLUMNS, NESTED, csv_chunks, guarded, jsonl_chunks, read_both, unguarded
from wardround.privacy.errors import LedgerError
from wardround.privacy.ledger.entries import Entry

from .shown_ledgers import AFTER, HOSTILE, entry, write_ledger, write_raw

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(HOSTILE)
NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=3)
WORDS = (
    *("study", "stage", "peer", "peer_key", "message_id", "message_type", "codec", "wire_sha256", "model"),
    *("commitment", "purpose", "legal_basis", "policy_sha256", "software", "rule", "time", "owner", "previous"),
)
ENTRIES = st.builds(
    entry,
    **dict.fromkeys(WORDS, TEXTS),
    kind=st.sampled_from(["open", "close", "message", "budget", "key", "sign", "forget", "purge", "note", "enrol"]),
    outcome=st.sampled_from(["sent", "retried", "refused", "received", "failed", "noted"]),
    direction=st.sampled_from(["out", "in", "none"]),
    round=NUMBERS,
    number=NUMBERS,
    wire_bytes=NUMBERS,
    retention_days=NUMBERS,
    sequence=NUMBERS,
    schema=st.lists(OBJECTS, max_size=3),
    masking=st.none() | OBJECTS,
    clip=st.none() | st.dictionaries(TEXTS, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    dp=st.none() | OBJECTS,
    facts=st.none() | st.dictionaries(TEXTS, NUMBERS | TEXTS, max_size=3),
)


def table(entries: list[Entry]) -> bytes:
    return b"".join(csv_chunks((each.line(), each) for each in entries))


def rows(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))


def entry_of(row: dict[str, str]) -> Entry:
    """A row back as an entry, by the rules of the module's docstring alone."""
    numbers = {"sequence", "round", "number", "wire_bytes", "retention_days", "version"}
    values: dict[str, Any] = {}
    for name, cell in row.items():
        if name in NESTED:
            values[name] = json.loads(cell) if cell else None
        elif name in numbers:
            values[name] = int(cell)
        elif name != "entry_sha256":
            values[name] = unguarded(cell)
    return msgspec.convert(values, Entry)


def test_every_field_of_an_entry_has_its_column() -> None:
    assert set(COLUMNS) == {*Entry.__struct_fields__, "entry_sha256"}
    assert len(set(COLUMNS)) == len(COLUMNS)


def test_a_ledger_as_a_table(tmp_path: Path) -> None:
    path = write_ledger(tmp_path, after=AFTER)
    data = b"".join(csv_chunks(read_both(path)))
    read = rows(data)
    assert tuple(read[0]) == COLUMNS
    lines = path.read_bytes().splitlines()
    assert len(read) == 1 + len(lines)
    for number, (row, line) in enumerate(zip(read[1:], lines, strict=True)):
        cells = dict(zip(COLUMNS, row, strict=True))
        assert cells["entry_sha256"] == hashlib.sha256(line).hexdigest()
        assert cells["sequence"] == str(number)
        assert entry_of(cells).line() == line
    masked = dict(zip(COLUMNS, read[4], strict=True))
    assert masked["clip"] == '{"update":0.5}'
    assert masked["legal_basis"] == "GDPR 9(2)(j)"
    assert data.count(b"\r\n") == data.count(b"\n") == len(read)


@given(st.lists(ENTRIES, max_size=4))
def test_a_table_gives_every_entry_back(entries: list[Entry]) -> None:
    read = rows(table(entries))
    assert [entry_of(dict(zip(COLUMNS, row, strict=True))) for row in read[1:]] == entries


@given(ENTRIES)
def test_no_text_in_a_table_begins_a_formula(each: Entry) -> None:
    for name, cell in zip(COLUMNS, rows(table([each]))[1], strict=True):
        if isinstance(getattr(each, name, ""), int) and name not in NESTED:
            assert cell.lstrip("-").isdigit()
        else:
            assert not cell.strip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
            assert not cell.startswith(("\t", "\r", "\n"))


@given(TEXTS)
def test_the_guard_can_be_taken_off(text: str) -> None:
    assert unguarded(guarded(text)) == text


@pytest.mark.parametrize("text", ["", "amber", "a=b", "2026-01-01T00:00:01Z", "0" * 64, "messages.advert"])
def test_what_is_no_formula_stays(text: str) -> None:
    assert guarded(text) == text


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@A", "\t1", "\r1", "\n1", " =1", "\u00a0=1", "＝1", "'1"])
def test_what_could_be_a_formula_gets_an_apostrophe(text: str) -> None:
    assert guarded(text) == f"'{text}"


@given(st.lists(ENTRIES, min_size=1, max_size=4))
def test_lines_are_the_ledgers_own(tmp_path_factory: pytest.TempPathFactory, entries: list[Entry]) -> None:
    path = write_raw(tmp_path_factory.mktemp("lines") / "ledger.jsonl", *entries)
    data = b"".join(jsonl_chunks(read_both(path)))
    assert data == path.read_bytes()
    assert [msgspec.json.decode(line, type=Entry) for line in data.split(b"\n")[:-1]] == entries


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = write_ledger(tmp_path)
    good = path.read_bytes()
    path.write_bytes(good + good[:40])
    assert b"".join(jsonl_chunks(read_both(path))) == good


def test_a_line_that_is_no_entry_is_named(tmp_path: Path) -> None:
    path = write_ledger(tmp_path)
    path.write_bytes(path.read_bytes() + b'{"owner":"\\ud800"}\n')
    with pytest.raises(LedgerError, match="line 9 is no ledger entry"):
        list(read_both(path))
