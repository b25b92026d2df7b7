"""Starts, watches and ends FLARE's processes: the coordinator's server, or a hospital's client, one at a time."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

from ....privacy.atomic import make_private
from ...errors import PlatformError
from .hardening import HEARTBEAT
from .kits import render
from .launch import MARK, kill_marked, marked

RELAY = "WARDROUND_RELAY"
COURIER = "WARDROUND_COURIER"
_KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "VIRTUAL_ENV")

_POLL = 0.05
KILL_SECONDS = 10.0
"""How long an end by force is waited for: a process that a broken disk holds ends when the disk lets it go."""
_PLAIN = re.compile(r"[\w./+@:,-]+", re.ASCII)


def clean_environment() -> dict[str, str]:
    """What FLARE's processes may know of the starter's environment.

    FLARE takes settings from any variable that begins with its name, and the place of a passphrase may be in there.
    """
    return {name: os.environ[name] for name in _KEPT if name in os.environ}


class FlareProcessError(PlatformError):
    """A process of FLARE that cannot be started."""


class FlareProcess:
    """A running process of FLARE, with all it starts. Made by `start_server` and `start_client`; end it with `stop`.

    It ends, by kill, when the process that started it ends.

    Attributes:
        log: file with FLARE's own words; they stay on this machine.
    """

    def __init__(self, process: subprocess.Popen[bytes], mark: str, log: Path) -> None:
        self._process, self._mark = process, mark
        self.log = log

    @property
    def pid(self) -> int:
        """Process id of FLARE's parent process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether FLARE's parent process runs."""
        return self._process.poll() is None

    @property
    def jobs(self) -> list[int]:
        """Process ids of the job processes, and of anything else that the parent process started."""
        return [process for process in marked(self._mark) if process != self._process.pid]

    def stop(self, timeout: float = 10.0) -> None:
        """End the process and everything it started: SIGTERM, and after ``timeout`` seconds SIGKILL."""
        kill_marked(self._mark, signal.SIGTERM)
        until = time.monotonic() + timeout
        while time.monotonic() < until and (self.alive or self.jobs):
            time.sleep(_POLL)
        self.kill()

    def kill(self) -> None:
        """End it all at once, as a power cut would; after `KILL_SECONDS` what is left is left."""
        until = time.monotonic() + KILL_SECONDS
        while kill_marked(self._mark) and time.monotonic() < until:
            time.sleep(_POLL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(_POLL, until - time.monotonic()))
        if self._process.stdin is not None:
            self._process.stdin.close()


def start_server(kit: Path, courier: Path, *, listen: str = "", python_path: Path | None = None) -> FlareProcess:
    """Start the coordinator's FLARE server.

    Args:
        kit: folder of the server's kit.
        courier: Unix socket at which the coordinator process waits for the job's controller.
        listen: address to listen at, where it is not the one that the kit gives the sites (behind a router).
        python_path: folder with modules that FLARE's processes shall find first; for tests.

    Raises:
        FlareProcessError: the kit is not there, or its path is one that FLARE cannot take.
        OSError: as the system reports it.
    """
    kit = kit.absolute()
    if not (kit / "startup" / "fed_server.json").is_file():
        raise FlareProcessError("this folder holds no server's kit", where=str(kit), remedy="Run `provision`.")
    options = [f"host={listen}"] if listen else []
    return _start("server.server_train", kit, "fed_server.json", options, {COURIER: str(courier)}, python_path)


def start_client(kit: Path, relay: Path, *, python_path: Path | None = None) -> FlareProcess:
    """Start a hospital's FLARE client.

    Args:
        kit: folder that `kits.install` made.
        relay: Unix socket at which the site process waits for the job's executor.
        python_path: folder with modules that FLARE's processes shall find first; for tests.

    Raises:
        FlareProcessError: the kit is not there, or its path is one that FLARE cannot take.
        OSError: as the system reports it.
    """
    kit = kit.absolute()
    if not (kit / "startup" / "client.key").is_file():
        raise FlareProcessError("this folder holds no site's kit", where=str(kit), remedy="Run `site join KIT` first.")
    site = render(kit).site
    options = [f"uid={site}", f"heart_beat_interval={HEARTBEAT}"]
    return _start("client.client_train", kit, "fed_client.json", options, {RELAY: str(relay)}, python_path)


def _start(
    module: str, kit: Path, config: str, options: list[str], extra: dict[str, str], python_path: Path | None
) -> FlareProcess:
    if not _PLAIN.fullmatch(str(kit)) or not _PLAIN.fullmatch(sys.executable):
        raise FlareProcessError(
            "FLARE does not start from a path with blanks or quotes in it",
            where=f"{kit}, {sys.executable}",
            remedy="Move the kit, or Python, to a path of letters, digits and . _ - + @ : ,",
        )
    mark = secrets.token_hex(16)
    scratch = kit / "scratch"
    make_private(scratch)
    command = [sys.executable, "-u", "-m", "wardround.platform.engines.nvflare.launch"]
    command += [f"nvflare.private.fed.app.{module}", "-m", str(kit), "-s", config]
    command += ["--set", "secure_train=true", *options, "org=wardround", "config_folder=config"]
    environment = (
        clean_environment() | extra | {MARK: mark, "HOME": str(kit), "TMPDIR": str(scratch), "PYTHONSAFEPATH": "1"}
    )
    if python_path is not None:
        environment["PYTHONPATH"] = str(python_path)
    log = kit / "process.log"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=descriptor,
            stderr=subprocess.STDOUT,
            cwd=kit,
            env=environment,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    return FlareProcess(process, mark, kit / "log.txt")
