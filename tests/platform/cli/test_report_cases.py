"""The command: what it passes on, what it prints, and that its errors reach the user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner
from wardround.platform import case_review
from wardround.platform.cli.report_cases import cases
from wardround.platform.errors import RunFolderError
from wardround.platform.run_folder import RunFolder


def test_it_builds_the_page_and_says_that_it_is_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def build(run: RunFolder, site: str, **options: Any) -> Path:
        asked.append((run.root, site, {k: v for k, v in options.items() if k != "say"}))
        options["say"]("images: 1 of 2")
        return run.site(site) / "cases.html"

    monkeypatch.setattr(RunFolder, "open", classmethod(lambda cls, root: (cls(root), None)))
    monkeypatch.setattr(case_review, "build_cases", build)
    app = typer.Typer()
    app.command()(cases)
    result = CliRunner().invoke(app, [str(tmp_path), "--site", "amber", "--maps", "3", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert asked == [(tmp_path, "amber", {"maps": 3, "most": 200, "device": "cpu"})]
    assert str(tmp_path / "sites" / "amber" / "cases.html") in result.output.replace("\n", "")
    assert "It must not leave this site." in result.output
    assert CliRunner().invoke(app, [str(tmp_path)]).exit_code == 2
    assert CliRunner().invoke(app, [str(tmp_path), "--site", "amber", "--maps", "-1"]).exit_code == 2


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(cases)
    result = CliRunner().invoke(app, [str(tmp_path), "--site", "amber"])
    assert isinstance(result.exception, RunFolderError)
