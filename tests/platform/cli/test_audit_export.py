"""``wardround audit export``: to standard output or to a new file, whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from wardround.platform.audit.exporting import FORMATS, write_new
from wardround.platform.audit.tables import COLUMNS
from wardround.platform.errors import PlatformError

from ..audit.shown_ledgers import entry, whole, write_raw

Cli = Callable[..., Any]
OWNERS = ("amber", "birch", "coordinator")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return whole(tmp_path / "all")


def lines_of(root: Path) -> list[bytes]:
    return [line for owner in OWNERS for line in (root / owner / "ledger.jsonl").read_bytes().splitlines(keepends=True)]


def check(form: str, text: str, root: Path) -> None:
    """All entries of the three ledgers, in order."""
    lines = lines_of(root)
    if form == "jsonl":
        assert text.encode() == b"".join(lines)
    elif form == "csv":
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        assert tuple(rows[0]) == COLUMNS
        entries = [json.loads(line) for line in lines]
        assert [(row[0], int(row[1])) for row in rows[1:]] == [(each["owner"], each["sequence"]) for each in entries]
    else:
        Bundle.model_validate_json(text)
        content = json.loads(text)
        assert [item["resource"]["recorded"] for item in content["entry"]] == [
            json.loads(line)["time"] for line in lines
        ]
        assert "Surname" not in text


@pytest.mark.parametrize("form", list(FORMATS))
def test_to_standard_output(cli: Cli, root: Path, form: str) -> None:
    ended = cli("audit", "export", root, "--format", form)
    assert (ended.code, ended.err) == (0, "")
    check(form, ended.out, root)


@pytest.mark.parametrize("form", list(FORMATS))
def test_to_a_file(cli: Cli, root: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "out" / "export"
    out.parent.mkdir()
    ended = cli("audit", "export", root, "--format", form, "--out", out)
    assert (ended.code, ended.out) == (0, "")
    assert f"3 ledgers as {form}" in ended.err
    assert out.read_bytes().decode() == cli("audit", "export", root, "--format", form).out
    check(form, out.read_bytes().decode(), root)
    assert out.stat().st_mode & 0o777 == 0o600
    assert list(out.parent.iterdir()) == [out]


def test_several_paths(cli: Cli, root: Path) -> None:
    paths = [root / "coordinator", root / "amber" / "ledger.jsonl"]
    exported = cli("audit", "export", *paths, "--format", "jsonl").out
    assert [json.loads(line)["owner"] for line in exported.splitlines()] == ["amber"] * 12 + ["coordinator"] * 4


def test_nothing_is_written_over(cli: Cli, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "there"
    out.write_text("mine")
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    for name in (out, dangling, tmp_path):
        cli("audit", "export", root, "--format", "csv", "--out", name).assert_explains("exists", str(name), "new name")
    assert out.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_that_is_not_there(cli: Cli, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "none" / "file.csv"
    cli("audit", "export", root, "--format", "csv", "--out", out).assert_explains("no such folder", str(out.parent))


@pytest.mark.parametrize("form", list(FORMATS))
def test_a_broken_ledger_leaves_nothing(cli: Cli, root: Path, tmp_path: Path, form: str) -> None:
    path = root / "coordinator" / "ledger.jsonl"
    path.write_bytes(path.read_bytes() + b"{}\n")
    out = tmp_path / "out" / "export"
    out.parent.mkdir()
    for words in ((), ("--out", out)):
        ended = cli("audit", "export", root, "--format", form, *words)
        ended.assert_explains("line 5 is no ledger entry", str(path), "audit verify")
    assert list(out.parent.iterdir()) == []


def test_a_time_that_is_none_stops_fhir_alone(cli: Cli, tmp_path: Path) -> None:
    path = write_raw(tmp_path / "ledger.jsonl", entry(), entry(sequence=1, time="once"))
    cli("audit", "export", path, "--format", "fhir").assert_explains("the time of entry 1", "amber", "audit verify")
    assert cli("audit", "export", path, "--format", "csv").code == 0


def test_what_cannot_be_exported(cli: Cli, root: Path, tmp_path: Path) -> None:
    cli("audit", "export", tmp_path / "none", "--format", "csv").assert_explains("no such file or folder")
    cli("audit", "export", root, root / "birch", "--format", "fhir").assert_explains("copies of one ledger")
    assert cli("audit", "export", root).code == 2
    unknown = cli("audit", "export", root, "--format", "xml")
    assert unknown.code == 2
    assert "fhir" in unknown.err


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_new(tmp_path / "file", chunks())
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_meanwhile_is_left(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"ours"
        (tmp_path / "file").write_text("theirs")

    with pytest.raises(PlatformError, match="exists"):
        write_new(tmp_path / "file", chunks())
    assert [path.read_text() for path in tmp_path.iterdir()] == ["theirs"]
