"""FLARE's processes: what they are started with, and that none of them outlives its owner."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("nvflare")

from wardround.platform.engines.nvflare import processes
from wardround.platform.engines.nvflare.authority import Authority
from wardround.platform.engines.nvflare.certificates import new_request
from wardround.platform.engines.nvflare.confinement import landlock_version
from wardround.platform.engines.nvflare.job import write_job
from wardround.platform.engines.nvflare.kits import check_kit, install
from wardround.platform.engines.nvflare.launch import MARK, marked
from wardround.platform.engines.nvflare.processes import (
    FlareProcess,
    FlareProcessError,
    start_client,
    start_server,
)
from wardround.platform.engines.nvflare.provisioning import ADMIN, Machine, Provisioned, provision

HERE = Path(__file__).parent


@dataclass
class Place:
    folder: Path
    made: Provisioned
    server: FlareProcess
    start: Callable[[str], FlareProcess]


def wait_for(true: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def says(process: FlareProcess, words: str) -> bool:
    return times_said(process, words) > 0


def times_said(process: FlareProcess, words: str) -> int:
    return process.log.read_text().count(words) if process.log.exists() else 0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("consortium")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    requests = {site: new_request(site) for site in ("alpha", "beta", "gamma")}
    machine = Machine("127.0.0.1", port, port)
    made = provision(folder / "c", "demo", machine, {site: csr for site, (_, csr) in requests.items()})
    for site, (key, _) in requests.items():
        install(made.sites[site], key, folder / site)
    started: list[FlareProcess] = []

    def start(site: str) -> FlareProcess:
        started.append(start_client(folder / site, folder / f"{site}.socket"))
        return started[-1]

    try:
        started.append(start_server(made.server, folder / "courier"))
        wait_for(lambda: says(started[0], "Server started"), "no server")
        yield Place(folder, made, started[0], start)
    finally:
        for process in started:
            process.kill()


def environment(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


def test_a_client_and_its_jobs_get_little_and_end_together(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WARDROUND_PASSPHRASE_FILE", "CREDENTIALS_DIRECTORY", "NVFLARE_LOG", "PYTHONPATH", "LD_PRELOAD_X"):
        monkeypatch.setenv(name, "secret")
    client = place.start("alpha")
    wait_for(lambda: says(client, "Successfully registered"), "no client")
    write_job(place.folder / "job", bytes(32), ["alpha"])
    order = json.dumps([["submit", str(place.folder / "job")]])
    with subprocess.Popen(
        [sys.executable, str(HERE / "orders" / "give.py"), str(place.made.admin), ADMIN],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as admin:
        try:
            assert admin.stdin is not None
            admin.stdin.write(order.encode())
            admin.stdin.close()
            wait_for(lambda: client.jobs, "no job process")
            pids = [client.pid, *client.jobs]
            for pid in pids:
                got = environment(pid)
                assert "secret" not in got.values()
                allowed = {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "VIRTUAL_ENV", "HOME", "TMPDIR", MARK}
                # FLARE adds its own token for the job's process, and a path that the guard keeps empty.
                extra = {name for name in got if not name.startswith("NVFLARE_")} - allowed
                assert extra <= {"WARDROUND_RELAY", "PYTHONSAFEPATH", "PYTHONPATH"}
                status = Path(f"/proc/{pid}/status").read_text()
                assert landlock_version() < 1 or "NoNewPrivs:\t1" in status
            confined = (place.folder / "alpha" / "process.log").read_text()
            assert ("confined to its own files" in confined) is (landlock_version() > 0)
            client.stop(5.0)
            assert not client.alive
            assert not client.jobs
        finally:
            admin.kill()
    for path in (place.folder / "alpha").rglob("*"):
        assert path.is_symlink() or path.stat().st_mode & 0o077 == 0, path


def test_flare_dies_with_whoever_started_it(place: Place) -> None:
    code = (
        "import sys, time, threading\nfrom pathlib import Path\n"
        "from wardround.platform.engines.nvflare.processes import start_client\n"
        "made = []\n"
        "thread = threading.Thread(target=lambda: made.append(start_client(Path(sys.argv[1]), Path('/nowhere'))))\n"
        "thread.start(); thread.join()\n"
        "print(made[0].pid, made[0]._mark, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(place.folder / "beta")], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid, mark = owner.stdout.readline().split()
        try:
            log = place.folder / "beta" / "log.txt"
            wait_for(lambda: log.exists() and "Successfully registered" in log.read_text(), "no client")
            assert int(pid) in marked(mark)  # the end of the thread that started it is no reason to end
            owner.send_signal(signal.SIGKILL)
            wait_for(lambda: not marked(mark), "FLARE outlived its owner", 5.0)
        finally:
            owner.kill()
            for left in marked(mark):
                os.kill(left, signal.SIGKILL)


def test_what_cannot_be_killed_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "kill_marked", lambda *_: [1])  # as where a disk that hangs holds a process
    monkeypatch.setattr(processes, "KILL_SECONDS", 0.2)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdin=subprocess.PIPE) as child:
        try:
            began = time.monotonic()
            FlareProcess(child, "mark", tmp_path / "log.txt").kill()
            assert 0.15 < time.monotonic() - began < 5
            assert child.poll() is None
        finally:
            child.kill()


def test_a_client_that_was_killed_is_noticed(place: Place) -> None:
    client = place.start("gamma")
    assert client.alive
    os.kill(client.pid, signal.SIGKILL)
    wait_for(lambda: not client.alive, "a dead process is alive")
    client.stop()


@pytest.mark.parametrize("case", ["expired", "another consortium", "renewed"])
def test_a_kit_that_no_longer_holds_does_not_get_in_and_we_say_why(place: Place, case: str, tmp_path: Path) -> None:
    key, csr = new_request("delta")
    folder = tmp_path / "delta"
    if case == "expired":
        port = json.loads((place.folder / "alpha" / "kit.json").read_bytes())["port"]
        made = provision(place.folder / "c", "demo", Machine("127.0.0.1", port, port), {"delta": csr})
        install(made.sites["delta"], key, folder)
        past = dt.datetime.now(dt.UTC) - dt.timedelta(days=5)
        authority = Authority.load(place.folder / "c" / "authority")
        (folder / "startup" / "client.crt").write_bytes(authority.sign_site(csr, "delta", days=1, now=past))
    else:
        port = json.loads((place.folder / "alpha" / "kit.json").read_bytes())["port"]
        made = provision(tmp_path / "other", "demo", Machine("127.0.0.1", port, port), {"delta": csr})
        install(made.sites["delta"], key, folder)
    problems = check_kit(folder, authority=None if case == "another consortium" else place.made.authority)
    if case == "expired":
        assert ["has expired" in problem.what for problem in problems] == [True]
    elif case == "renewed":
        assert ["authority was renewed" in problem.what for problem in problems] == [True]
        assert "telephone" in problems[0].remedy
    client = start_client(folder, tmp_path / "socket")
    try:
        if case == "expired":  # FLARE says no more than this, for ever
            wait_for(lambda: says(client, "registered aux handler") or not client.alive, "no attempt")
            time.sleep(4.0)
        else:  # it asks for the server's challenge again each time that it gets no answer
            wait_for(lambda: times_said(client, "re-challenge") >= 2 or not client.alive, "no attempt")
        assert not says(client, "Successfully registered")
        assert "delta" not in place.server.log.read_text()
    finally:
        client.kill()


def test_what_is_no_kit_is_not_started(place: Place, tmp_path: Path) -> None:
    with pytest.raises(FlareProcessError, match="no site's kit"):
        start_client(tmp_path, tmp_path / "socket")
    with pytest.raises(FlareProcessError, match="no server's kit"):
        start_server(tmp_path, tmp_path / "socket")
    blank = tmp_path / "my kit"
    (place.folder / "beta").rename(blank)
    try:
        with pytest.raises(FlareProcessError, match="blanks"):
            start_client(blank, tmp_path / "socket")
    finally:
        blank.rename(place.folder / "beta")


CONFINED = """
import json, os, sys
from pathlib import Path
from wardround.platform.engines.nvflare.confinement import confine
own, other, socket = (Path(path) for path in sys.argv[1:])
assert confine([own], [socket])
import multiprocessing, ssl, email
def tried(attempt):
    try:
        attempt()
    except PermissionError:
        return False
    return True
link = own / "link"
link.symlink_to(other / "picture")
print(json.dumps([
    tried(lambda: (own / "a").write_text("a")),
    tried(lambda: (socket / "key").read_text()),
    tried(lambda: Path("/etc/hosts").read_text()),
    tried(lambda: (socket / "key").write_text("")),
    tried(lambda: (other / "picture").read_text()),
    tried(lambda: link.read_text()),
    tried(lambda: (other / "new").write_text("")),
    tried(lambda: list(other.iterdir())),
    tried(lambda: list(Path(f"/proc/{os.getppid()}/cwd").iterdir())),
    tried(lambda: open(f"/proc/{os.getppid()}/mem", "rb")),
]))
"""


@pytest.mark.skipif(landlock_version() < 1, reason="this kernel has no Landlock")
def test_a_confined_process_sees_its_own_files_and_no_others(tmp_path: Path) -> None:
    own, other, sockets = (tmp_path / name for name in ("own", "other", "sockets"))
    for folder in (own, other, sockets):
        folder.mkdir()
    (other / "picture").write_text("a picture")
    (sockets / "key").write_text("key")
    told = subprocess.run(
        [sys.executable, "-c", CONFINED, str(own), str(other), str(sockets)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout) == [True] * 3 + [False] * 7
