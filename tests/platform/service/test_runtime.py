"""The ground of long-running processes: a private folder for sockets, signals heard, memory that is guarded."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from wardround.platform.service import runtime
from wardround.platform.service.runtime import ServiceError, check_system, runtime_folder, until_signalled

PATIENCE = 20


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's runtime folder."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def test_the_folder_is_private_and_the_same_again(base: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = runtime_folder(tmp_path / "owner")
    finally:
        os.umask(before)
    assert folder.parent == base
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "kept").touch()
    assert runtime_folder(tmp_path / "owner") == folder
    assert (folder / "kept").exists()
    assert runtime_folder(tmp_path / "another") != folder


def test_a_relative_owner_is_the_same_one(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base)
    assert runtime_folder(Path("owner")) == runtime_folder(base / "owner")


def test_where_it_lies(base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first, second = tmp_path / "systemd", tmp_path / "more"
    first.mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{first}:{second}")
    assert runtime_folder(tmp_path).parent == first
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    assert runtime_folder(tmp_path).parent == base
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    monkeypatch.setattr(tempfile, "tempdir", str(second))
    second.mkdir()
    assert runtime_folder(tmp_path).parent == second


def test_a_socket_fits_into_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However long the owner's own path is."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="w") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        folder = runtime_folder(tmp_path / ("long" * 60))
        path = folder / "courier.sock.key"
        assert len(os.fsencode(path)) < 100
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))


def test_a_folder_that_somebody_else_made_is_refused(
    base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = os.geteuid()
    monkeypatch.setattr(runtime.os, "geteuid", lambda: own + 1)
    with pytest.raises(ServiceError, match="not this user's alone") as refused:
        runtime_folder(tmp_path / "owner")  # made by the real user, looked at by another
    assert f"wardround-{own + 1}-" in refused.value.where
    assert refused.value.remedy


@pytest.mark.parametrize("what", ["open to others", "a link", "a link to nowhere", "a file"])
def test_what_stands_in_its_place_is_refused(base: Path, tmp_path: Path, what: str) -> None:
    folder = runtime_folder(tmp_path / "owner")
    if what == "open to others":
        folder.chmod(0o755)
    else:
        folder.rmdir()
        target = tmp_path / "elsewhere"
        if what == "a file":
            folder.touch()
        else:
            folder.symlink_to(target)
        if what == "a link":
            target.mkdir(mode=0o700)
    with pytest.raises(ServiceError, match="not this user's alone") as refused:
        runtime_folder(tmp_path / "owner")
    assert refused.value.where == str(folder)
    assert not list(tmp_path.glob("elsewhere/*"))


def test_a_folder_that_cannot_be_made_is_said(base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runtime, "make_private", full)
    with pytest.raises(ServiceError, match="No space left on device"):
        runtime_folder(tmp_path / "owner")


# --- signals --------------------------------------------------------------------------------------------------------

CHILD = """
import os, sys, time
from wardround.platform.service.runtime import until_signalled
with until_signalled() as asked:
    print("ready", flush=True)
    until = time.monotonic() + 20
    while time.monotonic() < until and not asked.is_set():
        time.sleep(0.01)
    print("asked", asked.is_set(), flush=True)
    if len(sys.argv) > 1:
        time.sleep(20)
print("ended", flush=True)
"""


def start(code: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True)


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def end(child: subprocess.Popen[str]) -> None:
    """End it, whatever it is doing, and close what it was spoken to through."""
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_asks_the_process_to_end(number: signal.Signals) -> None:
    child = start(CHILD)
    try:
        assert line(child) == "ready"
        child.send_signal(number)
        rest, _ = child.communicate(timeout=PATIENCE)
        assert rest.split() == ["asked", "True", "ended"]
        assert child.returncode == 0
    finally:
        end(child)


def test_a_second_signal_ends_it_at_once() -> None:
    child = start(CHILD, "stay")
    try:
        assert line(child) == "ready"
        child.send_signal(signal.SIGTERM)
        assert line(child) == "asked True"
        child.send_signal(signal.SIGINT)
        rest, _ = child.communicate(timeout=PATIENCE)
        assert rest == ""
        assert child.returncode == -signal.SIGINT
    finally:
        end(child)


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in runtime.ENDING]
    with until_signalled() as asked:
        assert not asked.is_set()
        os.kill(os.getpid(), signal.SIGHUP)
        assert asked.wait(PATIENCE)
    assert [signal.getsignal(number) for number in runtime.ENDING] == before


# --- memory ---------------------------------------------------------------------------------------------------------

GUARDED = """
import ctypes, json, os, resource, sys
from wardround.platform.service.runtime import guard_memory
guard_memory()
umask = os.umask(0)
print(json.dumps({
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
    "umask": umask,
}), flush=True)
sys.stdin.read()
"""


def test_memory_is_guarded() -> None:
    child = subprocess.Popen([sys.executable, "-c", GUARDED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert json.loads(line(child)) == {"core": [0, 0], "dumpable": 0, "umask": 0o077}
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and os.stat(f"/proc/{child.pid}/mem").st_uid != 0:
            time.sleep(0.01)
        # The kernel gives what shows a process's memory to root, whoever runs it.
        assert os.stat(f"/proc/{child.pid}/mem").st_uid == 0
    finally:
        end(child)


# --- other systems --------------------------------------------------------------------------------------------------

ELSEWHERE = """
import signal, sys
sys.modules["resource"] = None
del signal.SIGHUP
from wardround.platform.service import machine_checks, running, runtime
print(*(signal.Signals(number).name for number in runtime.ENDING))
"""


def test_these_modules_load_where_they_cannot_be_used() -> None:
    told = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, timeout=PATIENCE * 3, check=True
    )
    assert told.stdout.split() == ["SIGTERM", "SIGINT"]


def test_another_system_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    check_system()
    monkeypatch.setattr(runtime.sys, "platform", "darwin")
    with pytest.raises(ServiceError, match="Linux only") as refused:
        check_system()
    assert refused.value.where == "darwin"
    assert refused.value.remedy
