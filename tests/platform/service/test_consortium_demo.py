"""The consortium demo: what it replays, and that nothing it starts outlives it. The whole of it is `slow`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.service import demo_commands
from wardround.platform.service.consortium_demo import taken_back, with_drops
from wardround.platform.service.demo_commands import Commands, DemoError, descendants, free_ports, living
from wardround.platform.study_file import load_study

ROOT = Path(__file__).resolve().parents[3]
STUDY = ROOT / "docs" / "studies" / "consortium.toml"
DEMO = (sys.executable, "-m", "wardround.platform.service.consortium_demo")
SLEEPER = """\
import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], start_new_session=True)
print("ready", flush=True)
signal.signal(signal.SIGTERM, lambda *_: (child.kill(), child.wait(), sys.exit(0)))
time.sleep(120)
"""


def line(number: int, *participants: str, attempt: int = 0, is_released: bool = True, **gone: str) -> dict[str, Any]:
    dropped = [{"site": site, "stage": stage, "reason": "timeout"} for site, stage in gone.items()]
    return {
        "round": number,
        "attempt": attempt,
        "released": is_released,
        "participants": list(participants),
        "dropped": dropped,
    }


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """Runs Python itself instead of Wardround."""
    monkeypatch.setattr(demo_commands, "_PROGRAM", (sys.executable,))
    monkeypatch.setattr(demo_commands, "STOP_SECONDS", 5.0)
    with Commands(tmp_path, tmp_path, {"WARDROUND_CACHE": "here"}) as made:
        yield made


def test_who_fell_silent_is_replayed_at_the_same_stage() -> None:
    study = load_study(STUDY)
    records = [
        line(1, "amber", "birch", "cedar", "dune"),
        line(2, attempt=0, is_released=False, cedar="share", dune="share"),
        line(2, "amber", "birch", "dune", attempt=1, cedar="mask"),
        line(3, "amber", "birch", "cedar", "dune", dune="unmask"),
    ]
    faulty = with_drops(study, records)
    found = [(each.round, each.attempts, each.site, each.stage) for each in faulty.faults.drop]
    assert found == [(2, 2, "cedar", "mask"), (3, 1, "dune", "unmask")]
    assert faulty.digest() == study.digest()


def test_taken_back_needs_a_round_without_and_a_later_one_with() -> None:
    without, together = line(3, "amber", "birch", "cedar"), line(4, "amber", "birch", "cedar", "dune")
    assert taken_back([without, together], "dune")
    assert not taken_back([together], "dune")
    assert not taken_back([line(2, "amber", "dune"), without], "dune")


def test_a_command_that_fails_says_which_and_what_it_said(commands: Commands, tmp_path: Path) -> None:
    program = "import sys; print('the reason', file=sys.stderr); sys.exit(3)"
    with pytest.raises(DemoError, match="the reason") as error:
        commands.run("amber", "-c", program)
    assert "exit code 3" in error.value.what
    assert "import sys" in error.value.what
    assert error.value.where == str(tmp_path / "amber.log")


def test_nothing_of_this_machine_s_own_wardround_reaches_a_command(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDROUND_HOME", "/a/real/home")
    program = "import os; print([v for k, v in os.environ.items() if k.startswith('WARDROUND_')])"
    again = Commands(tmp_path, tmp_path, {"WARDROUND_CACHE": "here"})
    assert again.run("amber", "-c", program, WARDROUND_HOME="own").split() == ["['here',", "'own']"]


def test_the_first_failure_ends_what_runs_beside_it(commands: Commands) -> None:
    began = time.monotonic()
    jobs = [lambda: commands.run("slow", "-c", "import time; time.sleep(60)")] * 3
    with pytest.raises(DemoError, match="exit code 4"):
        commands.together([*jobs[:1], lambda: commands.run("bad", "-c", "import sys; sys.exit(4)"), *jobs[1:]])
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("held", [False, True], ids=["running", "paused"])
def test_what_was_started_is_ended_with_all_that_it_started(commands: Commands, held: bool) -> None:
    running = commands.start("amber", "-c", SLEEPER)
    commands.wait("it is ready", lambda: "ready" in running.last_words(), 20, [running])
    children = descendants(running.process.pid)
    assert len(children) == 1
    if held:
        running.signal(signal.SIGSTOP)
    commands.close()
    assert not running.alive
    assert not living(children)
    with pytest.raises(DemoError):
        commands.start("late", "-c", "pass")


def test_a_kill_that_leaves_something_behind_is_a_failure_and_the_rest_is_ended(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_commands, "STOP_SECONDS", 1.0)
    running = commands.start("amber", "-c", SLEEPER)
    commands.wait("it is ready", lambda: "ready" in running.last_words(), 20, [running])
    children = descendants(running.process.pid)
    with pytest.raises(DemoError, match="amber had started"):
        commands.kill(running)
    assert living(children)
    commands.close()
    assert not living(children)


def test_free_ports_differ() -> None:
    assert len(set(free_ports(8))) == 8


def test_a_folder_that_is_there_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "with blanks"):
        ended = subprocess.run([*DEMO, "--out", str(folder)], capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 1
        assert re.search("error: .*\nwhere: .*\ndo: ", ended.stderr)
        assert not ended.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_hospital_is_taken_back_and_the_adapter_is_that_of_one_process(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*DEMO, "--out", str(tmp_path / "demo")], capture_output=True, text=True, timeout=850, check=False
    )
    print(ended.stderr, ended.stdout)
    assert ended.returncode == 0
    assert "equal, bit for bit" in ended.stdout
    assert not processes_in(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_interrupt_ends_everything(tmp_path: Path) -> None:
    with subprocess.Popen([*DEMO, "--out", str(tmp_path / "demo")], stderr=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stderr is not None
            for text in demo.stderr:
                if "make their keys" in text:
                    break
            time.sleep(2)
            assert processes_in(tmp_path)
            demo.send_signal(signal.SIGINT)
            time.sleep(0.2)
            demo.send_signal(signal.SIGINT)  # impatience does not keep it from ending what it started
            assert "interrupted" in demo.stderr.read()
            assert demo.wait(60) == 130
        finally:
            demo.kill()
    assert not processes_in(tmp_path)


def processes_in(folder: Path) -> list[str]:
    """Command lines that name a folder."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                text = Path(f"/proc/{entry.name}/cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in text and int(entry.name) != os.getpid():
                found.append(text.decode(errors="replace"))
    return found
