"""``wardround doctor --kit``: findings for people and scripts, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.doctor import Check
from wardround.platform.service import preflight

Cli = Callable[..., Any]
SOUND = Check("clock", True, "12:00 UTC")
FAULT = Check("certificate", False, "it expired on 2026-01-01\n\x1b[2J", "Ask the coordinator for a new one")


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """What the checks find; each test fills it."""
    found: list[Check] = []

    def examine(folder: Path, *, data: bool = False) -> Iterator[Check]:
        yield from found
        yield Check("asked", True, f"{folder.name} data={data}")

    monkeypatch.setattr(preflight, "examine_kit", examine)
    return found


def test_all_is_well(cli: Cli, findings: list[Check], tmp_path: Path) -> None:
    findings.append(SOUND)
    ended = cli("doctor", "--kit", tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == ["ok    clock: 12:00 UTC", f"ok    asked: {tmp_path.name} data=False"]


def test_a_fault_comes_with_its_remedy_and_the_others_go_on(cli: Cli, findings: list[Check], tmp_path: Path) -> None:
    findings += [FAULT, SOUND]
    ended = cli("doctor", "--kit", tmp_path, "--data")
    assert ended.code == 1
    lines = ended.out.splitlines()
    assert lines[0].startswith("fault certificate: it expired on 2026-01-01")
    assert "\x1b" not in ended.out
    assert lines[1] == "      do: Ask the coordinator for a new one"
    assert lines[2:] == ["ok    clock: 12:00 UTC", f"ok    asked: {tmp_path.name} data=True"]


def test_for_scripts(cli: Cli, findings: list[Check], tmp_path: Path) -> None:
    findings.append(FAULT)
    ended = cli("doctor", "--kit", tmp_path, "--json")
    assert ended.code == 1
    rows = json.loads(ended.out)
    assert rows[0]["name"] == "certificate"
    assert rows[0]["sound"] is False
    assert rows[0]["remedy"] == FAULT.remedy
    assert len(rows) == 2


def test_a_folder_that_is_no_consortium(cli: Cli, tmp_path: Path) -> None:
    cli("doctor", "--kit", tmp_path).assert_explains("no consortium's folder", "HOME/consortia/HASH")
    cli("doctor", "--kit", tmp_path / "missing").assert_explains("no such folder")


def test_a_home_before_anything_was_joined(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "amber" / "consortia" / ("ab" * 32)
    folder.mkdir(parents=True, mode=0o700)
    ended = cli("doctor", "--kit", folder)
    assert ended.code == 1
    assert "fault invitation: not there yet" in ended.out
    assert "wardround site join invitation.json" in ended.out


def test_data_alone_is_wrong_usage(cli: Cli) -> None:
    ended = cli("doctor", "--data")
    assert ended.code == 2
    assert "--kit" in ended.err
