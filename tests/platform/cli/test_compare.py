"""``wardround compare`` through the real entry point: the table, the files, the exit code, and every mistake."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.compare import runner
from wardround.platform.compare.cohort_cache import CohortCache
from wardround.platform.errors import MethodError
from wardround.platform.study_file import load_study
from wardround.platform.study_parts import study_backbone

Cli = Callable[..., Any]
METHODS = "zero-shot,local-only,prompt-fl"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tiny phantom sites and an unseen one."""
    path = tmp_path_factory.mktemp("study") / "tiny.toml"
    path.write_text(
        'name = "tiny"\nrounds = 2\n[data]\ndataset = "brain-mri"\nsource = "phantoms"\nimages_per_site = 24\n'
        "split = [0.6, 0.2, 0.2]\n"
    )
    return path


@pytest.fixture(scope="module", autouse=True)
def made_once(tmp_path_factory: pytest.TempPathFactory, study: Path) -> Iterator[None]:
    """The same backbone and pictures for all tests in this process; the one with Ctrl-C makes its own."""
    backbone, cohorts = study_backbone(load_study(study)), CohortCache(tmp_path_factory.mktemp("phantoms"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "study_backbone", lambda study: backbone)
        patch.setattr(runner, "CohortCache", lambda folder: cohorts)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the comparison that the first test makes."""
    return tmp_path_factory.mktemp("comparison") / "out"


@pytest.fixture
def compared(cli: Cli, study: Path, folder: Path) -> Any:
    """The same comparison, run by whichever test comes first."""
    return cli("compare", study, "--methods", METHODS, "--out", folder)


def test_the_table_and_the_files(compared: Any, folder: Path, cli: Cli, study: Path) -> None:
    assert compared.code == 0, compared.err
    for word in ("personalisation", "generalisation", *METHODS.split(","), "bytes/site/round", "phantom", "index.html"):
        assert word in compared.out
    assert "transductive" not in compared.out
    assert "3 cells, " in compared.err
    assert "threshold" not in compared.err
    assert "local-only (facmic adapter): without adaptation." in compared.out
    assert json.loads((folder / "compare.json").read_bytes())["study"] == "tiny"
    lines = list(csv.DictReader((folder / "compare.csv").read_text().splitlines()))
    assert len(lines) == 6
    assert (folder / "index.html").read_text().startswith("<!doctype html>")

    # A second time nothing runs, the figures are the same, and JSON is what the file holds.
    again = cli("compare", study, "--methods", METHODS, "--out", folder, "--json")
    assert "3 cells, 3 finished already; 0 rounds to run" in again.err
    assert json.loads(again.out) == json.loads((folder / "compare.json").read_bytes())
    # One more method: only it is run.
    more = cli("compare", study, "--methods", f"{METHODS},pooled", "--out", folder)
    assert more.code == 0
    assert "4 cells, 3 finished already; 2 rounds to run" in more.err
    assert "1/1 pooled, seed 0, without harbour" in more.err
    assert "pooled" in more.out


def test_a_damaged_or_foreign_cell_is_refused(
    compared: Any, cli: Cli, study: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    cell = out / "cells" / "local-only__seed-0__out-harbour" / "cell.json"
    good = cell.read_bytes()
    cell.write_bytes(good[:100])
    cli("compare", study, "--methods", METHODS, "--out", out).assert_explains("damaged", str(cell), "delete")
    cell.write_bytes(good)
    other = tmp_path / "other.toml"
    other.write_text(study.read_text().replace("rounds = 2", "rounds = 3"))
    ended = cli("compare", other, "--methods", METHODS, "--out", out)
    ended.assert_explains("zero-shot, seed 0", "another study", "rounds")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--methods", "facmik"), ("facmik", "did you mean 'facmic'", "--methods")),
        (("--methods", ","), ("no method",)),
        (("--methods", "facmic", "--ablation", "dept"), ("did you mean 'depth'", "feature-shift")),
        (("--methods", "fedclip", "--ablation", "depth"), ("depth of the adapter", "fedclip", "facmic, faa-clip")),
        (("--methods", "facmic", "--ablation", "alpha"), ("come with its images",)),
    ],
)
def test_mistakes_are_explained_before_anything_is_made(
    cli: Cli, study: Path, tmp_path: Path, words: tuple[str, ...], said: tuple[str, ...]
) -> None:
    cli("compare", study, *words, "--out", tmp_path / "out").assert_explains(*said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [(), ("--methods", "facmic"), ("--methods", "facmic", "--out", "d", "--seeds", "0")])
def test_wrong_usage_is_two(cli: Cli, study: Path, tmp_path: Path, monkeypatch: Any, words: tuple[str, ...]) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("compare", study, *words).code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else(cli: Cli, study: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    cli("compare", study, "--methods", "zero-shot", "--out", tmp_path).assert_explains("not empty")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_failed_cell_is_said_and_the_exit_code_is_one(
    cli: Cli, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = runner.run_cell

    def failing(study: Any, *rest: Any) -> Any:
        if study.method == "local-only":
            raise MethodError("the training loss is not finite", remedy="Lower training.lr")
        return real(study, *rest)

    monkeypatch.setattr(runner, "run_cell", failing)
    ended = cli("compare", study, "--methods", "zero-shot,local-only", "--out", tmp_path / "out")
    assert ended.code == 1
    assert "zero-shot" in ended.out
    assert "0 of 1" in ended.out
    assert "failed: the training loss is not finite" in ended.err
    assert "Lower training.lr" in ended.err
    assert "failed: local-only__seed-0__out-harbour: MethodError: A method was given" in ended.err
    assert "tries failed cells again" in ended.err
    assert "Traceback" not in ended.err


def test_a_full_disk_keeps_what_is_finished(
    cli: Cli, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wardround.platform.compare.runner.run_cell", full)
    ended = cli("compare", study, "--methods", "zero-shot", "--out", tmp_path / "out")
    ended.assert_explains("No space left", "same command again")


def test_ctrl_c_leaves_a_comparison_that_goes_on(
    cli: Cli, study: Path, cache: Path, compared: Any, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["compare", str(study), "--methods", METHODS, "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "wardround.platform.cli.app", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "WARDROUND_CACHE": str(cache), "COLUMNS": "120"},
        # Started by a shell in the background, a process is born deaf to Ctrl-C, and so would be its children.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 120
        while not (out / "cells" / "zero-shot__seed-0__out-harbour" / "cell.json").exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert "a comparison and everything else, with the same command again" in stderr
    assert "Traceback" not in stderr
    ended = cli(*words)
    assert ended.code == 0, ended.err
    for name in METHODS.split(","):
        cell = f"cells/{name}__seed-0__out-harbour/cell.json"
        first, second = (json.loads((root / cell).read_bytes())["result"] for root in (folder, out))
        assert first["answers"] == second["answers"]
        assert first["curve"] == second["curve"]


@pytest.mark.slow
def test_an_ablation_with_a_transductive_column(cli: Cli, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    quick = tmp_path / "quick.toml"
    quick.write_text(study.read_text().replace("rounds = 2", "rounds = 1"))
    ended = cli("compare", quick, "--methods", "facmic", "--ablation", "transductive", "--out", out)
    assert ended.code == 0, ended.err
    assert "transductive" in ended.out
    rows = {row["variant"]: row for row in json.loads((out / "compare.json").read_bytes())["rows"]}
    assert rows["public"]["transductive"]["accuracy"]["mean"] is None
    assert rows["unseen"]["generalisation"]["accuracy"]["mean"] is None
    assert rows["unseen"]["transductive"]["accuracy"]["mean"] is not None
    assert "not a forecast for a new site" in (out / "index.html").read_text()


def test_a_folder_of_images_with_every_site_left_out(
    cli: Cli, images: Callable[..., Path], study_file: Callable[..., Path], tmp_path: Path
) -> None:
    root = images(24)
    file = study_file("split = [0.6, 0.2, 0.2]\n[sites]\nalpha = 100.0")
    words = ("compare", file, "--methods", "zero-shot", "--leave-one-out", "--seeds", "2", "--out", tmp_path / "out")
    ended = cli(*words)
    assert ended.code == 0, ended.err
    comparison = json.loads((tmp_path / "out" / "compare.json").read_bytes())
    assert comparison["folds"] == ["site-1", "site-2", "site-3", "unseen"]
    assert comparison["synthetic"] is False
    assert (comparison["rows"][0]["finished"], comparison["rows"][0]["seeds"]) == (8, 2)
    assert "phantom" not in ended.out
    # One picture less: these would not be figures of the same images.
    next(iter(sorted((root / "glioma").iterdir()))).unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "CohortCache", CohortCache)
        cli(*words).assert_explains("another list of images", "zero-shot, seed 0, without site-1")
