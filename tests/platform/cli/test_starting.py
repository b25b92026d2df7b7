"""What keeps every start from working is said first, before a folder is read or a passphrase is asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.cli import running
from wardround.platform.engines.nvflare.hardening import FLARE_VERSION
from wardround.platform.service import machine_checks, status_board
from wardround.platform.service.logs import LOG_FILE

Cli = Callable[..., Any]
STARTS = [("site", "start", "--home", "nowhere"), ("coordinator", "start", "nowhere")]


@pytest.mark.parametrize("words", STARTS)
def test_flare_is_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(machine_checks, "version", version)
    cli(*words).assert_explains("nvflare is not installed", "pip install 'wardround[deploy]'")


@pytest.mark.parametrize("words", STARTS)
def test_flare_is_listed_and_cannot_be_imported(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(machine_checks, "version", lambda name: FLARE_VERSION)
    monkeypatch.setattr(machine_checks, "find_spec", lambda name: None)
    cli(*words).assert_explains("nvflare is not installed", "pip install 'wardround[deploy]'")


@pytest.mark.parametrize("other", ["2.9.1", "2.10.0", "2.8.0", "3.0"])
def test_flare_is_of_another_version(cli: Cli, monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    monkeypatch.setattr(machine_checks, "version", lambda name: other)
    monkeypatch.setattr(machine_checks, "find_spec", lambda name: object())
    check = machine_checks.flare_check()
    assert not check.sound
    assert FLARE_VERSION in check.found
    for words in STARTS:
        cli(*words).assert_explains(f"nvflare {other}", FLARE_VERSION, "pip install 'wardround[deploy]'")


@pytest.mark.parametrize("words", STARTS)
def test_the_system_is_another(cli: Cli, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    cli(*words).assert_explains("Linux only", "wardround run")


def test_nothing_of_flare_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    if not machine_checks.flare_check().sound:
        pytest.skip("FLARE is not installed")
    monkeypatch.setitem(sys.modules, "nvflare", None)
    assert not machine_checks.flare_check().sound  # found missing, and not by an exception


def test_a_status_that_cannot_be_written_is_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Study:
        name, rounds = "brain", 3

        def digest(self) -> str:
            return "ab" * 32

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(status_board, "write_atomic", full)
    monkeypatch.setattr("wardround.platform.service.runtime.guard_memory", lambda: None)
    with running._shown(Study(), tmp_path / "status.json", tmp_path / "logs", "site", "amber", [], 0):  # type: ignore[arg-type]
        pass
    lines = [json.loads(line) for line in (tmp_path / "logs" / LOG_FILE).read_text().splitlines()]
    (line,) = [line for line in lines if line["event"] == "status-not-written"]
    assert line["errno"] == 28
