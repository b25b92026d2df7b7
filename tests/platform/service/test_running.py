"""A process is known by more than its number, and only the very one that wrote the status is ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import msgspec
import pytest
from wardround.platform.service import running
from wardround.platform.service.running import Life, Process, RunningError, ask_to_end, look, this_process

TELL = (
    "import msgspec, sys, time; from wardround.platform.service.running import this_process; "
    "print(msgspec.json.encode(this_process()).decode(), flush=True); {then}; time.sleep(60)"
)


def started(then: str = "pass") -> tuple[subprocess.Popen[str], Process]:
    child = subprocess.Popen([sys.executable, "-c", TELL.format(then=then)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    return child, msgspec.json.decode(child.stdout.readline(), type=Process)


@pytest.fixture
def child() -> Iterator[tuple[subprocess.Popen[str], Process]]:
    found = started()
    yield found
    end(found[0])


def end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait(timeout=10)
    if child.stdout is not None:
        child.stdout.close()


def test_this_process_runs() -> None:
    process = this_process()
    assert process.pid == os.getpid()
    assert look(process) is Life.RUNS


@pytest.mark.parametrize(
    ("changes", "life"),
    [
        ({"started": 1}, Life.GONE),  # the number was given out again
        ({"boot": "another"}, Life.GONE),
        ({"pid": 2**22 + 1}, Life.GONE),
        ({"namespace": "pid:[1]"}, Life.UNKNOWN),  # in another container
        ({"started": 0}, Life.UNKNOWN),
    ],
)
def test_another_process_is_told_apart(changes: dict[str, object], life: Life) -> None:
    assert look(msgspec.structs.replace(this_process(), **changes)) is life


def test_a_killed_process_is_gone_even_while_nobody_has_taken_note(
    child: tuple[subprocess.Popen[str], Process],
) -> None:
    popen, process = child
    assert look(process) is Life.RUNS
    popen.kill()
    until = time.monotonic() + 10
    while look(process) is Life.RUNS and time.monotonic() < until:
        time.sleep(0.02)
    assert look(process) is Life.GONE  # a zombie: nobody has waited for it yet


def test_the_process_is_asked_and_waited_for(child: tuple[subprocess.Popen[str], Process]) -> None:
    popen, process = child
    assert ask_to_end(process, 10.0)
    assert popen.wait(timeout=10) == -15


@pytest.mark.parametrize("changes", [{"started": 7}, {"command": "0" * 64}, {"namespace": "pid:[1]"}])
def test_nobody_else_is_ended(child: tuple[subprocess.Popen[str], Process], changes: dict[str, object]) -> None:
    popen, process = child
    with pytest.raises(RunningError) as refused:
        ask_to_end(msgspec.structs.replace(process, **changes), 0.1)
    assert "not the one" in refused.value.what
    assert "Nothing was sent" in refused.value.remedy
    assert popen.poll() is None


def test_one_that_does_not_end_is_said_to_run() -> None:
    popen, process = started("import signal; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True)")
    try:
        assert popen.stdout is not None
        popen.stdout.readline()
        began = time.monotonic()
        assert not ask_to_end(process, 0.3)
        assert 0.25 < time.monotonic() - began < 5
    finally:
        end(popen)


def test_one_that_has_ended_is_no_longer_there(child: tuple[subprocess.Popen[str], Process]) -> None:
    popen, process = child
    end(popen)
    with pytest.raises(RunningError, match="has ended already"):
        ask_to_end(process, 0.1)


@pytest.mark.parametrize("missing", [(running.os, "pidfd_open"), (running.signal, "pidfd_send_signal")])
def test_a_system_without_such_signals_is_said(monkeypatch: pytest.MonkeyPatch, missing: tuple[object, str]) -> None:
    monkeypatch.delattr(*missing)
    with pytest.raises(RunningError, match="cannot end exactly one process") as refused:
        ask_to_end(this_process(), 0.1)
    assert "Linux" in refused.value.remedy
