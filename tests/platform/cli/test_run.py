"""``wardround run`` and ``demo``: a whole study, every mistake a person can make, and Ctrl-C."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.cohorts import _unseen_name
from wardround.platform.errors import CheckpointError, StudyFileError
from wardround.platform.run_folder import RunFolder
from wardround.platform.study_cohort import phantom_study as phantom_study_of
from wardround.platform.study_file import load_study, parse_study

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


@pytest.mark.parametrize("method", ["zero-shot", "local-only", "pooled"])
def test_a_method_that_exchanges_nothing(cli: Cli, study_file: StudyFile, tmp_path: Path, method: str) -> None:
    ended = cli("run", study_file(head=f'method = "{method}"'), "--out", tmp_path / "run")
    ended.assert_explains("nothing is exchanged", method, "wardround compare")
    assert not (tmp_path / "run").exists()


def test_an_option_of_another_method(cli: Cli, study_file: StudyFile, tmp_path: Path) -> None:
    ended = cli("run", study_file("[fedclip]\ndepth = 8"), "--out", tmp_path / "run")
    ended.assert_explains("fedclip.depth", "fedclip has no option 'depth'", "facmic and faa_clip have it")
    assert not (tmp_path / "run").exists()


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
        ("demo", "--method", "fedavg"),
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
    ],
)
def test_demo_with_numbers_that_cannot_be(cli: Cli, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    cli("demo", *words, "--out", tmp_path / "demo").assert_explains(said)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_says_where_and_that_the_run_goes_on(
    cli: Cli, phantom_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "study.toml").write_text("begun")
        raise OSError(errno.ENOSPC, "No space left on device")  # as write() raises it: without a file's name

    monkeypatch.setattr("wardround.platform.simulation.simulate", full)
    ended = cli("run", phantom_study, "--out", tmp_path / "run")
    ended.assert_explains("No space left", str(tmp_path / "run"), "--resume")


def test_a_damaged_summary_is_named(cli: Cli, finished_run: Path, phantom_study: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name, text in (("study.toml", (finished_run / "study.toml").read_text()), ("summary.json", "{")):
        (run / name).write_text(text)
    cli("run", phantom_study, "--out", run, "--resume").assert_explains("summary.json", "--resume")
    (run / "summary.json").write_text("{}")
    cli("run", phantom_study, "--out", run, "--resume").assert_explains("summary.json", "--resume")


def test_a_demo_names_the_command_that_continues_it(cli: Cli, finished_run: Path) -> None:
    ended = cli("demo", "--out", finished_run)
    ended.assert_explains(f"wardround run {finished_run}/study.toml --out {finished_run} --resume")


def test_a_narrow_terminal_cuts_no_figure_off(
    cli: Cli, finished_run: Path, phantom_study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardround.platform.cli.console.OUT._width", 50)
    ended = cli("run", phantom_study, "--out", finished_run, "--resume")
    assert "…" not in ended.out
    assert "federated" in ended.out


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
        # Started by a shell in the background, a process is born deaf to Ctrl-C, and so would be its children.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
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
        ended.assert_explains("another process is working on this run", str(process.pid))
        process.send_signal(signal.SIGCONT)
        _, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, stderr
    assert adapter(out) == adapter(finished_run)


def test_rounds_or_checkpoints_that_are_gone_are_missed(cli: Cli, finished_run: Path, tmp_path: Path) -> None:
    study = finished_run / "study.toml"
    for name in ("rounds.jsonl", "coordinator/checkpoint"):
        run = tmp_path / name.replace("/", "-")
        shutil.copytree(finished_run, run)
        (run / "summary.json").unlink()
        gone = run / name
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        cli("run", study, "--out", run, "--resume").assert_explains(name.split("/")[-1], "backup")


def test_two_processes_cannot_work_on_one_run(cli: Cli, finished_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    (run / "summary.json").unlink()
    with RunFolder(run).locked():
        cli("run", run / "study.toml", "--out", run, "--resume").assert_explains("another process", str(run))


def test_phantoms_have_an_unseen_site_of_their_own(phantom_study: Path) -> None:
    study = load_study(phantom_study)
    assert phantom_study_of(study).unseen == study.sites.unseen
    plain = parse_study(
        {"name": "plain", "data": {"dataset": "brain-mri", "source": "phantoms"}}, where=Path("study.toml")
    )
    assert _unseen_name(plain) == phantom_study_of(plain).unseen
    named = plain.model_copy(update={"sites": plain.sites.model_copy(update={"unseen": ""})})
    with pytest.raises(StudyFileError, match="unseen"):
        _unseen_name(named)


def test_the_place_of_local_weights_is_no_part_of_the_study(tmp_path: Path) -> None:
    digests = set()
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "w.safetensors").write_bytes(b"")
        values: dict[str, Any] = {"name": "x", "data": {"dataset": "isic", "path": "p"}}
        values["backbone"] = {"name": "ViT-B-32", "weights": "w.safetensors"}
        study = parse_study(values, where=tmp_path / place / "study.toml")
        assert study.backbone.weights == str(tmp_path / place / "w.safetensors")
        digests.add(study.digest())
    assert len(digests) == 1


@pytest.mark.slow
def test_the_demo_teaches_every_site_and_repeats_in_another_process(tmp_path: Path) -> None:
    adapters = []
    for turn in ("1", "2"):
        command = [sys.executable, "-m", "wardround.platform.cli.app", "demo", "--out", str(tmp_path / turn)]
        env = {**os.environ, "PYTHONHASHSEED": turn, "WARDROUND_CACHE": str(tmp_path / f"cache-{turn}")}
        subprocess.run(command, check=True, env=env, capture_output=True, timeout=280)
        adapters.append((tmp_path / turn / "model" / "adapter.safetensors").read_bytes())
    assert adapters[0] == adapters[1]
    summary = json.loads((tmp_path / "1" / "summary.json").read_bytes())
    zero_shot = summary["baselines"]["zero_shot"]
    for kind in ("sites", "unseen"):
        for name, row in summary[kind].items():
            before = zero_shot[kind][name]["balanced_accuracy"]
            assert 0.40 <= before <= 0.75, name
            assert row["balanced_accuracy"] > before + 0.08, name
