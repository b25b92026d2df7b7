"""``wardround data check`` as a person and a script call it."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console
from wardround.platform.cli import data_check as command
from wardround.platform.data_check_page import MADE_BY
from wardround.privacy import atomic

from ..foreign_pictures import foreign

Cli = Callable[..., Any]
Images = Callable[..., Path]

LONG = "x" * 190 + ".png"


def damage(root: Path, count: int = 7) -> list[str]:
    """Break the first pictures of a class, one of them with a name of 194 characters."""
    names = []
    for number in range(count):
        path = root / "glioma" / f"{number:03d}.png"
        path.write_bytes(b"no picture")
        if number == 0:
            path = path.rename(path.with_name(LONG))
        names.append(f"glioma/{path.name}")
    return names


def test_every_file_is_named_on_a_line_of_its_own_when_the_output_is_no_terminal(cli: Cli, images: Images) -> None:
    root = images(9)
    names = damage(root)
    ended = cli("data", "check", root, "--no-encoder")
    assert ended.code == 1
    lines = ended.out.splitlines()
    for name in names:
        assert sum(line.startswith(f"    {name}: ") for line in lines) == 1
    assert "--all" not in ended.out


def test_a_real_process_with_a_narrow_pipe_breaks_no_line(images: Images) -> None:
    root = images(9)
    names = damage(root)
    ended = subprocess.run(
        [sys.executable, "-m", "wardround.platform.cli.app", "data", "check", str(root), "--no-encoder"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "40"},
    )
    assert ended.returncode == 1
    assert all(any(line.startswith(f"    {name}: ") for line in ended.stdout.splitlines()) for name in names)
    assert "Traceback" not in ended.stderr


def test_on_a_terminal_five_are_named_and_all_on_request(
    cli: Cli, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = images(9)
    names = damage(root)
    for extra, shown in (((), 5), (("--all",), 7)):
        screen = Console(file=io.StringIO(), force_terminal=True, color_system=None, highlight=False, soft_wrap=True)
        monkeypatch.setattr(command, "OUT", screen)
        assert cli("data", "check", root, "--no-encoder", *extra).code == 1
        said = screen.file.getvalue()  # type: ignore[attr-defined]
        assert sum(name in said for name in names) == shown
        assert ("… and 2 more: --all" in said) == (shown == 5)


@pytest.mark.parametrize("sites", [1, 9])
def test_on_80_columns_and_piped_no_figure_is_lost(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sites: int
) -> None:
    names = {f"a hospital of long name {number}" for number in range(sites)}
    for number, site in enumerate(sorted(names)):
        for at, label in enumerate(("glioma", "notumor")):
            for copy in range(1 + at):
                path = tmp_path / "images" / site / label / f"{copy}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(foreign("popcorn", 100 * number + 10 * at + copy)).save(path)
    (path.parent / "none.png").write_bytes(b"")
    screen = Console(
        file=io.StringIO(), force_terminal=True, color_system=None, highlight=False, soft_wrap=True, width=80
    )
    with monkeypatch.context() as patch:
        patch.setattr(command, "OUT", screen)
        cli("data", "check", tmp_path / "images", "--no-encoder")
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    piped = cli("data", "check", tmp_path / "images", "--no-encoder").out
    for said in (shown, piped):
        assert f"{3 * sites} of {3 * sites + 1} images readable" in said
        assert all(said.count(name) for name in (names if sites > 1 else ["glioma", "notumor"]))
    table = [line for line in shown.splitlines() if "│" in line]
    assert max(len(line) for line in table) <= 80
    assert all(len(line) <= 80 for line in shown.splitlines() if line.startswith(("error", "warning", "info")))
    assert "cannot be decoded, and so left out by loaders [unreadable]" in piped


def test_a_name_is_no_terminal_command_and_no_second_line(cli: Cli, images: Images) -> None:
    root = images(9)
    (root / "glioma" / "000.png").rename(root / "glioma" / "red\x1b[31m\nerror: no.png")
    (root / "glioma" / "red\x1b[31m\nerror: no.png").write_bytes(b"")
    out = cli("data", "check", root, "--no-encoder").out
    assert "\x1b" not in out
    assert "glioma/red\\x1b[31m\\nerror: no.png: the file is empty" in out


def test_json_names_everything(cli: Cli, images: Images) -> None:
    root = images(9)
    names = damage(root)
    ended = cli("data", "check", root, "--no-encoder", "--json")
    report = json.loads(ended.out)
    assert ended.code == report["exit_code"] == 1
    (unreadable,) = [problem for problem in report["problems"] if problem["code"] == "unreadable"]
    assert [line.split(": ")[0] for line in unreadable["names"]] == sorted(names)
    assert unreadable["count"] == 7


def test_exit_codes(cli: Cli, images: Images, study_file: Callable[..., Path]) -> None:
    root = images(9)
    assert cli("data", "check", root, "--no-encoder").code == 0
    assert cli("data", "check").code == 2
    assert cli("data", "check", root, "--nonsense").code == 2
    for option in (("--dataset", "isic"), ("--labels", "labels.csv")):
        ended = cli("data", "check", study_file(), *option)
        assert ended.code == 2
        assert option[0] in ended.err
        assert "Traceback" not in ended.err


def test_the_data_set_can_be_named(cli: Cli, images: Images) -> None:
    root = images(9)
    report = json.loads(cli("data", "check", root, "--dataset", "isic", "--no-encoder", "--json").out)
    assert report["dataset"] == "isic"
    assert "no-class-folder" in {problem["code"] for problem in report["problems"]}
    cli("data", "check", root, "--dataset", "isik").assert_explains("isik", "isic")


def test_the_page_is_written_and_said_to_be_local(cli: Cli, images: Images, tmp_path: Path) -> None:
    page = tmp_path / "check.html"
    ended = cli("data", "check", images(9), "--no-encoder", "--html", page)
    assert ended.code == 0
    assert f"Written: {page}" in ended.out
    assert "Local only" in ended.err
    assert MADE_BY in page.read_bytes()
    page.write_text("mine", encoding="utf-8")
    cli("data", "check", tmp_path / "images", "--html", page).assert_explains("not written over", str(page))
    assert page.read_text(encoding="utf-8") == "mine"


def test_a_page_that_cannot_be_written_costs_nothing_that_was_found(
    cli: Cli, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    root = images(9)
    (tmp_path / "out").mkdir()
    page = tmp_path / "out" / "check.html"
    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", full)
        ended = cli("data", "check", root, "--no-encoder", "--html", page)
    assert ended.code == 1
    assert "error: the page of" in ended.err
    assert "No space left" in ended.err
    assert f"where: {page}" in ended.err
    assert "Traceback" not in ended.err
    assert "36 of 36 images readable" in ended.out
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.setattr("wardround.platform.data_check.list_images", None)  # nothing is read before this is said
    cli("data", "check", root, "--html", tmp_path / "nowhere" / "a.html").assert_explains("no such folder", "nowhere")


def test_an_option_without_effect_is_refused_and_errors_name_options(cli: Cli, images: Images, tmp_path: Path) -> None:
    root = images(9)
    for named in ((), ("--dataset", "ham10000")):
        ended = cli("data", "check", root, "--labels", "mine.csv", *named)
        ended.assert_explains("--labels mine.csv would have no effect", "dicom-folder")
    ended = cli("data", "check", root, "--labels", "mine.csv", "--dataset", "csv")
    ended.assert_explains("mine.csv", "--labels FILE")
    for name in ("nope", "images/glioma/000.png"):
        ended = cli("data", "check", tmp_path / name)
        ended.assert_explains(name)
        assert "MRI" not in ended.err


def test_a_joined_study_is_checked_source_by_source(cli: Cli, images: Images, tmp_path: Path) -> None:
    images(9)
    file = tmp_path / "joined.toml"
    source = '[[data.sources]]\ndataset = "brain-mri"\npath = "images"\n'
    file.write_text(f'name = "two"\n[data]\ndataset = "brain-mri"\nsource = "joined"\n{source}{source}')
    ended = cli("data", "check", file, "--no-encoder", "--json", "--html", tmp_path / "two.html")
    report = json.loads(ended.out)
    assert ended.code == report["exit_code"] == 0
    assert [each["images"] for each in report["sources"]] == [36, 36]
    assert ended.out.count('"name"') == 2
    assert (tmp_path / "two.html").read_text(encoding="utf-8").count("Readable images of each class") == 2


def test_foreign_pictures_are_looked_for_unless_told_not_to(cli: Cli, images: Images) -> None:
    root = images(18)
    with_encoder = cli("data", "check", root, "--json")
    without = cli("data", "check", root, "--no-encoder", "--json")
    assert "encoding" in with_encoder.err
    assert "encoding" not in without.err
    assert json.loads(with_encoder.out)["readable"] == json.loads(without.out)["readable"] == 72
