"""Run folders: made once, never over something else, resumed with the same study only."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from wardround.platform import run_folder as module
from wardround.platform.config import Study
from wardround.platform.errors import RunFolderError
from wardround.platform.run_folder import RunFolder
from wardround.platform.study_file import load_study

Make = Callable[..., Study]


def test_it_is_made_with_the_whole_study_and_for_the_owner_alone(tmp_path: Path, toy_study: Make) -> None:
    study = toy_study()
    run = RunFolder.create(tmp_path / "deep" / "run", study)
    assert load_study(run.study) == study
    assert run.root.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in run.root.iterdir()] == ["study.toml"]
    opened, again = RunFolder.open(run.root)
    assert opened == run
    assert again == study


def test_an_empty_folder_may_be_used(tmp_path: Path, toy_study: Make) -> None:
    assert RunFolder.create(tmp_path, toy_study()).study.is_file()


def test_an_existing_run_is_refused_with_both_ways_out(tmp_path: Path, toy_study: Make) -> None:
    run = RunFolder.create(tmp_path / "run", toy_study())
    before = run.study.read_bytes()
    with pytest.raises(RunFolderError, match="already holds a run") as caught:
        RunFolder.create(run.root, toy_study(rounds=9))
    assert "--out" in caught.value.remedy
    assert "--resume" in caught.value.remedy
    assert run.study.read_bytes() == before


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_no_run_is_never_written_into(tmp_path: Path, toy_study: Make, kind: str) -> None:
    taken = tmp_path / "taken"
    if kind == "folder":
        taken.mkdir()
        (taken / "thesis.txt").write_text("years of work")
    else:
        taken.write_text("years of work")
    with pytest.raises(RunFolderError, match="exists and is not empty") as caught:
        RunFolder.create(taken, toy_study())
    assert "--resume" not in caught.value.remedy
    assert not (taken / "study.toml").exists()


def test_a_file_in_the_place_of_a_parent(tmp_path: Path, toy_study: Make) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="this is a file") as caught:
        RunFolder.create(tmp_path / "file" / "run", toy_study())
    assert caught.value.where == str(tmp_path / "file")


def test_a_folder_without_the_right_to_write(tmp_path: Path, toy_study: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def access(path: Path, mode: int) -> bool:
        asked.append((Path(path), mode))
        return False

    monkeypatch.setattr(module.os, "access", access)  # permission bits do not bind root
    with pytest.raises(RunFolderError, match="no right to write") as caught:
        RunFolder.create(tmp_path / "new" / "run", toy_study())
    assert asked == [(tmp_path, os.W_OK | os.X_OK)]
    assert caught.value.remedy
    assert not (tmp_path / "new").exists()


def test_a_write_that_fails_leaves_nothing_half_made(
    tmp_path: Path, toy_study: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_atomic", full)
    with pytest.raises(RunFolderError, match="No space left on device"):
        RunFolder.create(tmp_path / "run", toy_study())
    assert list(tmp_path.iterdir()) == []


def test_open_needs_a_run_with_a_readable_study(tmp_path: Path, toy_study: Make) -> None:
    with pytest.raises(RunFolderError, match=r"study\.toml is missing"):
        RunFolder.open(tmp_path)
    run = RunFolder.create(tmp_path, toy_study())
    run.study.write_text("name = ")
    with pytest.raises(RunFolderError, match="cannot be read: not valid TOML") as caught:
        RunFolder.open(tmp_path)
    assert caught.value.where == str(run.study)


def test_resuming_with_another_study_names_every_changed_key(tmp_path: Path, toy_study: Make) -> None:
    run = RunFolder.create(tmp_path, toy_study())
    other = toy_study(rounds=4, training={"lr": 2e-3}, data={"path": "/moved"}, device="cpu")
    with pytest.raises(RunFolderError, match="another study") as caught:
        RunFolder.resume(run.root, other)
    assert caught.value.what.endswith("different: rounds, training.lr")


def test_resuming_elsewhere_on_another_device_is_the_same_study(tmp_path: Path, toy_study: Make) -> None:
    run = RunFolder.create(tmp_path, toy_study())
    assert RunFolder.resume(run.root, toy_study(data={"path": "/moved"}, device="cpu")) == run


def test_rounds_are_written_whole_and_a_torn_last_line_is_left_out(tmp_path: Path, toy_study: Make) -> None:
    run = RunFolder.create(tmp_path, toy_study())
    assert run.read_rounds() == []
    records = [{"round": 1, "train_loss": 0.5}, {"round": 2, "train_loss": None}]
    run.write_rounds(records)
    assert run.read_rounds() == records
    raw = run.rounds.read_bytes()
    assert raw.count(b"\n") == 2
    for cut in range(raw.index(b"\n") + 1, len(raw)):
        run.rounds.write_bytes(raw[:cut])
        assert run.read_rounds() == records[:1]
    run.write_rounds(records[:1])
    assert run.read_rounds() == records[:1]
    run.write_rounds([])
    assert run.read_rounds() == []


@pytest.mark.parametrize("line", [b'{"round"', b"{}", b"[]", b"3", b'{"round":"2"}', b"\xff\xfe"])
def test_a_damaged_complete_line_is_named(tmp_path: Path, toy_study: Make, line: bytes) -> None:
    run = RunFolder.create(tmp_path, toy_study())
    run.rounds.write_bytes(b'{"round":1}\n' + line + b'\n{"round":3}\n')
    with pytest.raises(RunFolderError, match="damaged") as caught:
        run.read_rounds()
    assert caught.value.where == f"{run.rounds}, line 2"


def test_the_paths_of_the_contract(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    found = [run.study, run.rounds, run.adapter, run.card, run.coordinator, run.site("elm"), run.summary, run.index]
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "study.toml",
        "rounds.jsonl",
        "model/adapter.safetensors",
        "model/card.json",
        "coordinator",
        "sites/elm",
        "summary.json",
        "index.html",
    ]
