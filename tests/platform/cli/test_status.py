"""``wardround site status`` and ``stop``, ``coordinator status``: for people, for scripts, and while it runs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from wardround.platform.cli import app as app_module
from wardround.platform.cli import coordinator_status, site_status, status_commands
from wardround.platform.service import folders
from wardround.platform.service.folders import ConsortiumPlace
from wardround.platform.service.running import Life
from wardround.platform.service.status import Seen, read_status
from wardround.platform.service.status_board import StatusBoard
from wardround.platform.service.status_view import View, facts_of

Cli = Callable[..., Any]
DIGEST, OTHER = "ab" * 32, "cd" * 32

SERVE = """
import signal, sys, threading
from pathlib import Path
from wardround.platform.service.status_board import StatusBoard
asked = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: asked.set())
with StatusBoard(Path(sys.argv[1]), "site", "brain", "ab" * 32, 5, owner="amber", parties=["coordinator"]) as board:
    board.state("running")
    board.at(2, "advert")
    print("ready", flush=True)
    asked.wait(60)
    if sys.argv[2] == "deaf":
        threading.Event().wait(60)
"""


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands on an application of their own, so that these tests do not depend on where they are hung."""
    app, site, coordinator = (typer.Typer(pretty_exceptions_enable=False) for _ in range(3))
    site.command("status")(site_status.site_status)
    site.command("stop")(site_status.site_stop)
    coordinator.command("status")(coordinator_status.coordinator_status)
    coordinator.callback()(lambda: None)
    app.add_typer(site, name="site")
    app.add_typer(coordinator, name="coordinator")
    monkeypatch.setattr(app_module, "app", app)
    monkeypatch.setattr(status_commands, "EVERY", 0.05)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one home of this machine, with a consortium that was joined and not approved."""
    monkeypatch.setenv("WARDROUND_HOME", str(tmp_path))
    found = tmp_path / "sites" / "amber"
    join(found, DIGEST)
    (found / "identity.pem").touch()
    return found


def join(home: Path, digest: str) -> Path:
    folder = home / "consortia" / digest
    folder.mkdir(parents=True)
    for name in ("invitation", "request", "kit"):
        (folder / f"{name}.json").touch()
    return folder


@contextmanager
def running(folder: Path, manner: str = "good") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SERVE, str(folder / "status.json"), manner]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        until = time.monotonic() + 10
        while True:
            seen = read_status(folder / "status.json")
            if seen is not None and (seen.status.process.pid, seen.status.round) == (child.pid, 2):
                break
            assert time.monotonic() < until
            time.sleep(0.02)
        yield child
    finally:
        child.kill()
        child.wait(timeout=10)
        if child.stdout is not None:
            child.stdout.close()


def test_before_the_first_start_it_says_what_is_missing(cli: Cli, home: Path) -> None:
    ended = cli("site", "status")
    assert ended.code == 0
    assert "not started; 3 steps to do before" in ended.out
    assert re.search(r"kit +done", ended.out)
    assert re.search(r"approval +missing", ended.out)
    assert "do: wardround site approve" in ended.out
    for name in ("approval", "signed-roster", "pinned"):
        (home / "consortia" / DIGEST / f"{name}.json").touch()
    ended = cli("site", "status")
    assert "not started" in ended.out
    assert "then: wardround site start" in ended.out
    (home / "state" / DIGEST).mkdir(parents=True)
    (home / "state" / DIGEST / "left.json").touch()
    assert "left the study" in cli("site", "status").out


def test_a_running_site_for_people_and_scripts(cli: Cli, home: Path) -> None:
    with running(home / "consortia" / DIGEST) as child:
        people, scripts = cli("site", "status"), cli("site", "status", "--json", DIGEST[:8], "--home", home)
    assert people.code == scripts.code == 0
    assert re.search(r"state +running", people.out)
    assert re.search(r"round +2 of 5, stage advertise", people.out)
    assert re.search(r"coordinator +unknown +never", people.out)
    (row,) = json.loads(scripts.out)
    assert (row["state"], row["process"], row["died"], row["wrong"]) == ("running", "runs", False, False)
    assert row["status"]["process"]["pid"] == child.pid


def test_a_killed_site_is_said_to_be_dead(cli: Cli, home: Path) -> None:
    with running(home / "consortia" / DIGEST) as child:
        child.kill()
        child.wait(timeout=10)
        ended = cli("site", "status")
        assert ended.code == 1
        assert "stopped without saying so; it said 'running' last" in ended.out
        assert "do: wardround site start: a round that was under way is taken up" in ended.out
        assert cli("site", "status", "--json").code == 1
        cli("site", "stop").assert_explains("no process of this site runs")


def test_watching_ends_with_the_process(cli: Cli, home: Path) -> None:
    for words in (("--watch",), ("--watch", "--json")):
        with running(home / "consortia" / DIGEST) as child:
            timer = threading.Timer(0.4, child.terminate)
            timer.start()
            try:
                ended = cli("site", "status", *words)
            finally:
                timer.join(timeout=10)
        assert ended.code == 0
        assert "stopped" in ended.out
        if "--json" in words:
            states = [json.loads(line)[0]["state"] for line in ended.out.splitlines()]
            assert (states[0], states[-1]) == ("running", "stopped")


def test_stop_ends_the_process_and_says_what_came_of_it(cli: Cli, home: Path) -> None:
    join(home, OTHER)
    with running(home / "consortia" / DIGEST) as child:
        ended = cli("site", "stop", "--wait", "20")
        assert ended.code == 0
        assert f"process {child.pid} of study" in ended.out
        assert "has ended: stopped. Round 2 is taken up at the next start." in ended.out
        assert child.wait(timeout=10) == 0
    with running(home / "consortia" / DIGEST) as child:
        told = json.loads(cli("site", "stop", "--json").out)
        assert told == {"study": DIGEST[:16], "process": child.pid, "ended": True, "state": "stopped"}


def test_one_that_does_not_end_in_time_is_said_to_run(cli: Cli, home: Path) -> None:
    with running(home / "consortia" / DIGEST, "deaf") as child:
        ended = cli("site", "stop", "--wait", "0.3")
        assert ended.code == 1
        assert "was asked to end and still runs" in ended.out
        assert child.poll() is None


def test_a_number_that_was_given_out_again_is_not_ended(cli: Cli, home: Path) -> None:
    folder = home / "consortia" / DIGEST
    with running(folder) as child:
        told = json.loads((folder / "status.json").read_bytes())
        bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        try:
            for changes in ({"pid": bystander.pid}, {"command": "0" * 64}):
                child.send_signal(signal.SIGSTOP)  # it writes nothing meanwhile
                spoiled = {**told, "process": {**told["process"], **changes}}
                (folder / "status.json").write_text(json.dumps(spoiled))
                ended = cli("site", "stop", "--wait", "0")
                ended.assert_explains("no process of this site runs" if "pid" in changes else "not the one that wrote")
            assert bystander.poll() is None
            assert child.poll() is None
        finally:
            bystander.kill()
            bystander.wait(timeout=10)


def test_another_container_is_not_guessed_about(cli: Cli, home: Path) -> None:
    folder = home / "consortia" / DIGEST
    with running(folder):
        told = json.loads((folder / "status.json").read_bytes())
    (folder / "status.json").write_text(
        json.dumps({**told, "state": "running", "process": {**told["process"], "namespace": "pid:[7]"}})
    )
    ended = cli("site", "status")
    assert ended.code == 0
    assert "cannot be seen from here" in " ".join(ended.out.split())
    cli("site", "stop").assert_explains("in another container", "systemctl stop")


def test_a_failure_shows(cli: Cli, home: Path) -> None:
    folder = home / "consortia" / DIGEST
    with StatusBoard(folder / "status.json", "site", "brain", DIGEST, 5, owner="amber") as board:
        board.privacy(1.0, 0.5, 1e-5)
        board.refused()
        board.state("failed", "the ledger cannot be written")
    ended = cli("site", "status")
    assert ended.code == 1
    assert "the ledger cannot be written" in ended.out
    assert "epsilon 1 spent, 0.5 left at delta 1e-05" in ended.out
    assert "wardround doctor --kit" in ended.out


def test_silence_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    with StatusBoard(path, "site", "brain", DIGEST, 5, owner="amber") as board:
        board.state("running")
        status = board.snapshot()
    told = json.loads(path.read_bytes()) | {"written": "2026-01-01T00:00:00Z", "state": "running"}
    path.write_text(json.dumps(told))
    seen = read_status(path)
    assert seen is not None
    view = View(ConsortiumPlace(tmp_path, "site", "brain"), seen, [])
    assert "it hangs, or its disk is full" in view.words
    assert facts_of(view)["status"]["round"] == status.round
    assert View(view.place, Seen(seen.status, Life.GONE), []).wrong


def test_errors_say_what_to_do(cli: Cli, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("site", "status", "nonsense").assert_explains("no study that is called 'nonsense'")
    cli("site", "status", "--home", tmp_path / "nowhere").assert_explains("no site's home")
    (home / "consortia" / DIGEST / "status.json").write_text("{")
    cli("site", "status").assert_explains("the status is damaged", "the process writes a new one")
    monkeypatch.setenv("WARDROUND_HOME", str(tmp_path / "empty"))
    cli("site", "status").assert_explains("no site has its home here")
    cli("coordinator", "status", tmp_path).assert_explains("no consortium in this folder")


def test_a_coordinator(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [folders.Step("requests: 1 of 3", False, "Wait for the requests of birch"), folders.Step("drawn", False)]
    place = ConsortiumPlace(tmp_path, "coordinator", "brain")
    monkeypatch.setattr(folders, "coordinator_place", lambda _: place)
    monkeypatch.setattr(folders, "_coordinator_steps", lambda _: steps)
    monkeypatch.setattr(folders.ConsortiumFolder, "load", lambda _: None)
    ended = cli("coordinator", "status", tmp_path)
    assert ended.code == 0
    assert "do: Wait for the requests of birch" in ended.out
    with StatusBoard(tmp_path / "status.json", "coordinator", "brain", DIGEST, 5, parties=["amber", "birch"]) as board:
        board.state("running")
        board.at(1, "advert")
        board.party("amber", "present")
        board.party("birch", "dropped")
        board.message("advert", 250_000, "in", "amber")
        until = time.monotonic() + 10
        while (seen := read_status(place.status)) is None or not seen.status.incoming.bytes:
            assert time.monotonic() < until
            time.sleep(0.02)
        ended = cli("coordinator", "status", tmp_path)
    assert ended.code == 0
    assert re.search(r"amber +present +\d+ seconds ago", ended.out)
    assert re.search(r"birch +dropped +never", ended.out)
    assert "1 message, 0.2 MB" in ended.out
