"""``wardround run`` and ``demo``: a whole study, every mistake a person can make, and Ctrl-C."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.errors import CheckpointError, StudyFileError

Cli = Callable[..., Any]
Images = Callable[..., Path]
StudyFile = Callable[..., Path]


def adapter(run: Path) -> str:
    return hashlib.sha256((run / "model" / "adapter.safetensors").read_bytes()).hexdigest()


# --- a study that runs ---------------------------------------------------------------------------------------------


def test_a_phantom_study_ends_with_everything_in_its_place(finished_run: Path) -> None:
    names = {path.name for path in finished_run.iterdir()}
    assert names >= {"study.toml", "rounds.jsonl", "model", "coordinator", "sites", "summary.json", "index.html"}
    summary = json.loads((finished_run / "summary.json").read_bytes())
    assert len(summary["sites"]) == 3
    assert len(summary["unseen"]) == 1
    # 526,336 parameters, 4 bytes each, and little beside them.
    per_round = [row["bytes_sent"] / summary["rounds"] / (4 * 526_336) for row in summary["sites"].values()]
    assert all(1.0 < share <= 1.01 for share in per_round)
    assert "synthetic" in (finished_run / "index.html").read_text().lower()


def test_a_finished_run_prints_its_table_again(cli: Cli, finished_run: Path, phantom_study: Path) -> None:
    before = adapter(finished_run)
    ended = cli("run", phantom_study, "--out", finished_run, "--resume")
    assert ended.code == 0
    summary = json.loads((finished_run / "summary.json").read_bytes())
    for site in (*summary["sites"], *summary["unseen"]):
        assert site in ended.out
    for word in ("zero-shot", "local-only", "federated", "ECE", "index.html", "phantom"):
        assert word in ended.out
    assert "nothing to resume" in ended.err
    assert adapter(finished_run) == before


def test_real_folders_with_an_unreadable_image_among_many(
    cli: Cli, images: Images, study_file: StudyFile, tmp_path: Path
) -> None:
    root = images(24)
    (root / "glioma" / "003.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    ended = cli("run", study_file("[sites]\nalpha = 100.0"), "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    assert "003.png" in ended.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_bytes())
    assert summary["rounds"] == 1
    reports = [json.loads(path.read_bytes()) for path in (tmp_path / "run" / "sites").glob("*/report.json")]
    assert len(reports) == 4


# --- mistakes ------------------------------------------------------------------------------------------------------


def test_no_study_file(cli: Cli, tmp_path: Path) -> None:
    cli("run", tmp_path / "none.toml", "--out", tmp_path / "run").assert_explains("none.toml", "no such study file")
    assert list(tmp_path.iterdir()) == []


def test_the_study_is_a_folder(cli: Cli, tmp_path: Path) -> None:
    cli("run", tmp_path, "--out", tmp_path / "run").assert_explains("folder")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("[training]\nlearning = 1", ("training.learning", "known here")),
        ("[training]\nlr = 0", ("training.lr",)),
        ("[trainig]\nlr = 1", ("trainig", "training")),
        ("[sites]\ncount = 2", ("sites.count", "3")),
        ("[sites]\nalfa = 2", ("sites.alfa", "did you mean 'alpha'")),
        ("[training]\nlr = ", ("not valid TOML", "line")),
        ("[secure_aggregation]\nminimum_cohort = 1", ("minimum_cohort",)),
    ],
)
def test_a_mistake_in_the_study_file(
    cli: Cli, study_file: StudyFile, tmp_path: Path, extra: str, words: tuple[str, ...]
) -> None:
    ended = cli("run", study_file(extra), "--out", tmp_path / "run")
    ended.assert_explains("study.toml", *words)
    assert not (tmp_path / "run").exists()


def test_an_unknown_method_names_the_nearest(cli: Cli, study_file: StudyFile, tmp_path: Path) -> None:
    study = study_file(head='method = "facmik"')
    cli("run", study, "--out", tmp_path / "run").assert_explains("facmik", "did you mean 'facmic'")


def test_a_missing_folder_of_images(cli: Cli, study_file: StudyFile, tmp_path: Path) -> None:
    cli("run", study_file(), "--out", tmp_path / "run").assert_explains(str(tmp_path / "images"))
    assert not (tmp_path / "run").exists()


def test_an_empty_class(cli: Cli, images: Images, study_file: StudyFile, tmp_path: Path) -> None:
    root = images()
    for path in (root / "notumor").iterdir():
        path.unlink()
    cli("run", study_file(), "--out", tmp_path / "run").assert_explains("notumor")
    assert not (tmp_path / "run").exists()


def test_an_unknown_class_folder(cli: Cli, images: Images, study_file: StudyFile, tmp_path: Path) -> None:
    root = images()
    (root / "pituitary").rename(root / "abscess")
    cli("run", study_file(), "--out", tmp_path / "run").assert_explains("abscess")
    assert not (tmp_path / "run").exists()


def test_a_class_of_the_study_that_the_data_set_has_not(
    cli: Cli, images: Images, study_file: StudyFile, tmp_path: Path
) -> None:
    images()
    ended = cli("run", study_file('classes = ["glioma", "gliom"]'), "--out", tmp_path / "run")
    ended.assert_explains("gliom")
    assert not (tmp_path / "run").exists()


def test_an_unknown_data_set(cli: Cli, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    for source in ('path = "images"', 'source = "phantoms"'):
        study.write_text(f'name = "x"\n[data]\ndataset = "brain"\n{source}\n')
        cli("run", study, "--out", tmp_path / "run").assert_explains("brain-mri")
        assert not (tmp_path / "run").exists()


def test_fewer_than_three_sites_in_a_column(cli: Cli, images: Images, study_file: StudyFile, tmp_path: Path) -> None:
    images(4)
    ended = cli("run", study_file('[sites]\npartition = "column"\nunseen = ""'), "--out", tmp_path / "run")
    ended.assert_explains("site")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["reference", "unseen"])
def test_a_phantom_site_that_does_not_exist(cli: Cli, phantom_study: Path, tmp_path: Path, key: str) -> None:
    text = phantom_study.read_text()
    lines = []
    for line in text.splitlines():
        if line.startswith("site = ") and key == "reference":
            line = 'site = "nowhere"'
        if line.startswith("unseen = ") and key == "unseen":
            line = 'unseen = "nowhere"'
        lines.append(line)
    study = tmp_path / "study.toml"
    study.write_text("\n".join(lines))
    cli("run", study, "--out", tmp_path / "run").assert_explains("nowhere")
    assert not (tmp_path / "run").exists()


def test_a_threshold_that_cannot_hold(cli: Cli, phantom_study: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(phantom_study.read_text().replace("\nthreshold = 0", "\nthreshold = 9"))
    ended = cli("run", study, "--out", tmp_path / "run")
    assert ended.code == 1
    assert "threshold" in ended.err or "t = 9" in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "run").exists()


def test_an_existing_run_folder(cli: Cli, finished_run: Path, phantom_study: Path) -> None:
    before = sorted(finished_run.rglob("*"))
    cli("run", phantom_study, "--out", finished_run).assert_explains(str(finished_run), "--resume")
    assert sorted(finished_run.rglob("*")) == before


def test_a_folder_with_something_else_in_it(cli: Cli, phantom_study: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    cli("run", phantom_study, "--out", tmp_path).assert_explains("not empty")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_an_out_folder_that_cannot_be_made(cli: Cli, phantom_study: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    cli("run", phantom_study, "--out", file / "run").assert_explains(str(file), "write")
    cli("run", phantom_study, "--out", "/proc/wardround/run").assert_explains("/proc")


def test_nothing_to_resume(cli: Cli, phantom_study: Path, tmp_path: Path) -> None:
    cli("run", phantom_study, "--out", tmp_path / "run", "--resume").assert_explains("no run here")
    assert not (tmp_path / "run").exists()


def test_resumed_with_another_study(cli: Cli, finished_run: Path, phantom_study: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(phantom_study.read_text().replace("\nseed = 3", "\nseed = 4"))
    cli("run", study, "--out", finished_run, "--resume").assert_explains("seed", "another study")


def test_a_pinned_fingerprint_of_another_backbone(cli: Cli, phantom_study: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(phantom_study.read_text().replace('\nfingerprint = ""', f'\nfingerprint = "{"00" * 32}"'))
    cli("run", study, "--out", tmp_path / "run").assert_explains("fingerprint", "00" * 32)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("run",),
        ("run", "x.toml"),
        ("run", "x.toml", "--out", "d", "--rounds", "3"),
        ("demo", "--study", "lung"),
        ("demo", "--rounds", "many"),
        ("nothing",),
        ("data",),
    ],
)
def test_wrong_usage_is_two(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    monkeypatch.chdir(tmp_path)
    ended = cli(*words)
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--sites", "2"), "sites.count"),
        (("--sites", "-1"), "sites.count"),
        (("--rounds", "0"), "rounds"),
        (("--seed", "-1"), "seed"),
        (("--method", "fedavg"), "method"),
    ],
)
def test_demo_with_numbers_that_cannot_be(cli: Cli, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    cli("demo", *words, "--out", tmp_path / "demo").assert_explains(said)
    assert list(tmp_path.iterdir()) == []


def test_a_traceback_only_with_debug(cli: Cli, tmp_path: Path) -> None:
    quiet = cli("run", tmp_path / "none.toml", "--out", tmp_path / "run")
    assert "Traceback" not in quiet.err
    with pytest.raises(StudyFileError):
        cli("--debug", "run", tmp_path / "none.toml", "--out", tmp_path / "run")


# --- killed, interrupted, damaged ------------------------------------------------------------------------------------


def started(study: Path, out: Path, cache: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "wardround.platform.cli.app", *more, "run", str(study), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "WARDROUND_CACHE": str(cache), "COLUMNS": "120"},
    )


@pytest.fixture
def interrupted(finished_run: Path, phantom_study: Path, cache: Path, tmp_path: Path) -> tuple[Path, int, str, str]:
    """A run that got a Ctrl-C after its first round: folder, exit code, both outputs."""
    out = tmp_path / "run"
    process = started(phantom_study, out, cache)
    try:
        deadline = time.monotonic() + 120
        while not list((out / "coordinator" / "checkpoint").glob("round-*.safetensors")):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
    return out, process.returncode, stdout, stderr


def test_ctrl_c_leaves_a_run_that_ends_as_if_untouched(
    interrupted: tuple[Path, int, str, str], cli: Cli, finished_run: Path, phantom_study: Path
) -> None:
    out, code, stdout, stderr = interrupted
    assert code == 130, stderr
    assert stdout == ""
    assert "interrupted" in stderr
    assert "--resume" in stderr
    assert "Traceback" not in stderr
    assert not (out / "summary.json").exists()

    # What can be done with it meanwhile: nothing, and every command says so.
    cli("predict", out, "x.png").assert_explains("not finished", "--resume")
    cli("report", "build", out).assert_explains("--resume")
    cli("run", phantom_study, "--out", out).assert_explains("--resume")

    # A damaged checkpoint is named, and the run goes on once it is well again.
    checkpoint = sorted((out / "coordinator" / "checkpoint").glob("round-*.safetensors"))[-1]
    good = checkpoint.read_bytes()
    checkpoint.write_bytes(good[: len(good) // 2])
    cli("run", phantom_study, "--out", out, "--resume").assert_explains(checkpoint.name)
    with pytest.raises(CheckpointError):
        cli("--debug", "run", phantom_study, "--out", out, "--resume")
    os.environ["WARDROUND_DEBUG"] = "0"
    checkpoint.write_bytes(good)

    ended = cli("run", phantom_study, "--out", out, "--resume")
    assert ended.code == 0, ended.err
    assert "going on after round" in ended.err
    assert adapter(out) == adapter(finished_run)
    rounds = [json.loads(line)["round"] for line in (out / "rounds.jsonl").read_bytes().splitlines()]
    assert rounds == list(range(1, len(rounds) + 1)) == list(range(1, 7))


@pytest.mark.slow
def test_a_second_process_on_one_run_is_refused_by_its_lock(
    cli: Cli, phantom_study: Path, cache: Path, finished_run: Path, tmp_path: Path
) -> None:
    """The first process is stopped in a round, so that the second certainly meets its locks."""
    out = tmp_path / "run"
    process = started(phantom_study, out, cache)
    try:
        deadline = time.monotonic() + 120
        while not (out / "rounds.jsonl").is_file():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGSTOP)
        ended = cli("run", phantom_study, "--out", out, "--resume")
        ended.assert_explains("in use by process", str(process.pid))
        process.send_signal(signal.SIGCONT)
        _, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, stderr
    assert adapter(out) == adapter(finished_run)
