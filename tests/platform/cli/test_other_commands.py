"""``wardround data``, ``predict``, ``report``, ``doctor`` and the options of the program itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from wardround import __version__
from wardround.platform.cli import data as data_commands

Cli = Callable[..., Any]


# --- the program ---------------------------------------------------------------------------------------------------


def test_the_module_is_the_program() -> None:
    """One real process: the version comes quickly, on standard output, with nothing else."""
    ended = subprocess.run(
        [sys.executable, "-m", "wardround.platform.cli.app", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"wardround {__version__}\n", "")


def test_without_a_command_it_shows_help(cli: Cli) -> None:
    ended = cli()
    assert ended.code == 2
    assert "Example" in ended.out + ended.err


def test_help_is_no_error(cli: Cli) -> None:
    for words in (("--help",), ("run", "--help"), ("data", "check", "--help")):
        ended = cli(*words)
        assert (ended.code, ended.err) == (0, "")
        assert "Example" in ended.out


# --- data ----------------------------------------------------------------------------------------------------------


def test_data_list_for_people_and_scripts(cli: Cli) -> None:
    people, scripts = cli("data", "list"), cli("data", "list", "--json")
    assert people.code == scripts.code == 0
    rows = json.loads(scripts.out)
    assert {"brain-mri", "ham10000", "isic"} <= {row["key"] for row in rows}
    for row in rows:
        assert row["key"] in people.out
        assert row["licence"]
        assert len(row["classes"]) >= 2 or row["key"] in ("brats", "csv", "dicom-folder", "domains", "nifti-folder")


def test_data_list_of_one_that_is_not_there_says_which_may_be_meant_or_why(cli: Cli) -> None:
    cli("data", "list", "brain").assert_explains("did you mean 'brain-mri'?")
    cli("data", "list", "isic2019").assert_explains("did you mean 'isic-2019'?")
    cli("data", "list", "DermaMNIST").assert_explains("did you mean 'dermamnist'?")
    refused = cli("data", "list", "chestmnist", "--json")
    refused.assert_explains("'chestmnist' is not read", "several of 14 findings")
    assert "did you mean" not in refused.err


def test_data_list_fits_a_narrow_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Console(width=80, force_terminal=True, no_color=True, soft_wrap=True, highlight=False)
    monkeypatch.setattr(data_commands, "OUT", shown)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in cli("data", "list").out.splitlines()]
    assert max(map(len, lines[:-1])) <= 80
    assert sum(line.startswith("  isic-2019 ") for line in lines) == 1


def test_data_check_of_sound_images(cli: Cli, images: Callable[..., Path]) -> None:
    ended = cli("data", "check", images(6), "--json")
    report = json.loads(ended.out)
    assert ended.code == 0, ended.out
    assert report["readable"] == report["images"] == 24


def test_data_check_names_an_unreadable_file(cli: Cli, images: Callable[..., Path]) -> None:
    root = images(6)
    (root / "glioma" / "004.png").write_bytes(b"no picture")
    people, scripts = cli("data", "check", root), cli("data", "check", root, "--json")
    assert "004.png" in people.out
    assert json.loads(scripts.out)["readable"] == 23
    assert people.code == scripts.code
    assert "Traceback" not in people.err


def test_data_check_of_a_study_file(
    cli: Cli, images: Callable[..., Path], study_file: Callable[..., Path], phantom_study: Path
) -> None:
    images(6)
    assert json.loads(cli("data", "check", study_file(), "--json").out)["images"] == 24
    cli("data", "check", phantom_study).assert_explains("generates its images")


def test_data_check_of_nothing(cli: Cli, tmp_path: Path) -> None:
    cli("data", "check", tmp_path / "nowhere").assert_explains("nowhere")
    cli("data", "check", tmp_path / "nowhere.toml").assert_explains("nowhere.toml")


# --- predict -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scans(finished_run: Path) -> list[Path]:
    return sorted((finished_run / "phantoms").rglob("*.png"))[:3]


def test_predict_gives_probabilities_or_abstains(cli: Cli, finished_run: Path, scans: list[Path]) -> None:
    ended = cli("predict", finished_run, *scans, "--json")
    assert ended.code == 0, ended.err
    rows = json.loads(ended.out)
    assert len(rows) == 3
    for row in rows:
        values = list(row["probabilities"].values())
        assert sum(values) == pytest.approx(1.0, abs=1e-6)
        assert row["answer"] is None or row["answer"] in row["probabilities"]
        assert (row["answer"] is None) == (max(values) < 0.5)
    people = cli("predict", finished_run, scans[0])
    assert people.code == 0
    assert "not for diagnosis" in people.out
    assert "synthetic" in people.out


def test_predict_says_which_image_it_could_not_read(
    cli: Cli, finished_run: Path, scans: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    ended = cli("predict", finished_run, scans[0], bad, tmp_path / "missing.png", "--json")
    assert ended.code == 1
    rows = json.loads(ended.out)
    assert [row["probabilities"] is None for row in rows] == [False, True, True]
    assert "Traceback" not in ended.err


def test_a_file_name_is_no_terminal_command_and_no_second_line(
    cli: Cli, finished_run: Path, scans: list[Path], tmp_path: Path
) -> None:
    odd = Path(shutil.copy(scans[0], tmp_path / "a\x1b[2J\nb ü.png"))
    people = cli("predict", finished_run, odd)
    assert people.code == 0
    assert "a\\x1b[2J\\nb ü.png: " in people.out
    scripts = cli("predict", finished_run, odd, "--json")
    assert json.loads(scripts.out)[0]["image"] == str(odd)
    cli("run", tmp_path / "c\x1bd.toml", "--out", tmp_path / "run").assert_explains("c\\x1bd.toml")


@pytest.mark.parametrize("charset", ["ascii", "latin-1"])
def test_a_character_set_without_our_signs_stops_nothing(charset: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "wardround.platform.cli.app", "run", tmp_path / "日本.toml", "--out", tmp_path / "run"],
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": charset},
    )
    assert ended.returncode == 1
    assert b"\\u65e5\\u672c.toml" in ended.stderr
    assert b"internal error" not in ended.stderr


def test_predict_without_a_run(cli: Cli, tmp_path: Path) -> None:
    cli("predict", tmp_path, "x.png").assert_explains("no run here")


def copied(run: Path, folder: Path) -> Path:
    """A run that may be damaged, without its homes and phantoms."""
    return Path(shutil.copytree(run, folder / "run", ignore=shutil.ignore_patterns("homes", "phantoms")))


def test_predict_with_a_damaged_model(cli: Cli, finished_run: Path, scans: list[Path], tmp_path: Path) -> None:
    run = copied(finished_run, tmp_path)
    adapter = run / "model" / "adapter.safetensors"
    good = adapter.read_bytes()
    adapter.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    cli("predict", run, scans[0]).assert_explains("adapter.safetensors", "checksum")
    adapter.unlink()
    cli("predict", run, scans[0]).assert_explains("adapter.safetensors")
    adapter.write_bytes(good)
    (run / "model" / "card.json").write_text("{}")
    cli("predict", run, scans[0]).assert_explains("card.json")


def test_predict_with_an_adapter_of_another_backbone(
    cli: Cli, finished_run: Path, scans: list[Path], tmp_path: Path
) -> None:
    from wardround.platform.adapter_file import AdapterInfo, read_adapter, write_adapter

    run = copied(finished_run, tmp_path)
    path = run / "model" / "adapter.safetensors"
    state, info = read_adapter(path)
    write_adapter(path, state, AdapterInfo(info.study, info.method, info.round, "ab" * 32))
    cli("predict", run, scans[0]).assert_explains("backbone", "fingerprint")


# --- report --------------------------------------------------------------------------------------------------------


def test_report_build_gives_the_same_bytes(cli: Cli, finished_run: Path, tmp_path: Path) -> None:
    run = copied(finished_run, tmp_path)
    pages = {path: path.read_bytes() for path in run.rglob("*.html")}
    assert len(pages) == 7
    for path in pages:
        path.unlink()
    ended = cli("report", "build", run)
    assert ended.code == 0, ended.err
    assert {path: path.read_bytes() for path in run.rglob("*.html")} == pages
    twins = [*run.glob("sites/*/report-figures.*"), run / "coordinator" / "report.csv"]
    assert len(twins) == 9
    assert sorted(ended.out.split()) == sorted(map(str, [*pages, *twins, run / "dpia-annex.md"]))


def test_report_build_of_a_damaged_run_changes_nothing(cli: Cli, finished_run: Path, tmp_path: Path) -> None:
    run = copied(finished_run, tmp_path)
    pages = {path: path.read_bytes() for path in run.rglob("*.html")}
    report = next(run.glob("sites/*/report.json"))
    report.write_bytes(report.read_bytes()[:-20])
    ended = cli("report", "build", run)
    assert ended.code == 1
    assert "error: " in ended.err
    assert "internal error" not in ended.err
    assert "Traceback" not in ended.err
    assert {path: path.read_bytes() for path in run.rglob("*.html")} == pages


def test_report_build_without_a_run(cli: Cli, tmp_path: Path) -> None:
    cli("report", "build", tmp_path / "none").assert_explains("no run here")


# --- doctor --------------------------------------------------------------------------------------------------------


def test_doctor_examines_this_machine(cli: Cli) -> None:
    ended = cli("doctor", "--json")
    rows = json.loads(ended.out)
    assert ended.code == (0 if all(row["sound"] for row in rows) else 1)
    assert len(rows) >= 3
    people = cli("doctor")
    assert people.code == ended.code
    for row in rows:
        assert row["name"] in people.out


def test_bench_backbone_for_people_and_scripts(cli: Cli, images: Callable[..., Path]) -> None:
    folder = images(4)
    (folder / "glioma" / "000.png").write_bytes(b"no picture")
    shown = cli("bench", "backbone", folder)
    assert shown.code == 0, shown.err
    assert "15 images in 15 groups, 4 classes of brain-mri" in shown.out
    for words in (
        "linear probe, balanced accuracy",
        "zero-shot, balanced accuracy",
        "fingerprint ",
        "left out: 1 files",
    ):
        assert words in shown.out
    written = cli("bench", "backbone", folder, "--backbone", "embedded", "--json")
    document = json.loads(written.out)
    assert document["n"] == 15
    assert 0.0 <= document["knn_accuracy"] <= 1.0
    assert document["intervals"]["probe_accuracy"][0] <= document["probe_accuracy"]
    assert document["fingerprint"] in shown.out


def test_bench_backbone_says_what_is_missing(cli: Cli, images: Callable[..., Path], tmp_path: Path) -> None:
    cli("bench", "backbone", tmp_path / "nowhere").assert_explains("nowhere")
    cli("bench", "backbone", images(2)).assert_explains("'glioma' form 2 groups", "3 folds need 3 groups")
    cli("bench", "backbone", images(2), "--dataset", "brain-mir").assert_explains("brain-mri")
    for name, part in (("ViT-B-23", "did you mean ViT-B-32"), ("ViT-B-32", "no weights were given")):
        refused = cli("bench", "backbone", images(2), "--backbone", name)
        assert refused.code == 1
        assert part in refused.err
        assert "Traceback" not in refused.err
