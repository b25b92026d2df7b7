"""Speaks to FLARE's administration, in a process of its own: no FLARE code runs beside the coordinator's keys.

``python -m wardround.platform.engines.nvflare.admin DESCRIPTOR KIT`` is started by `AdminProcess`; it answers one
question at a time on the socket that it inherits, and ends with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from .frames import (
    FROM_ADMIN,
    TO_ADMIN,
    Abort,
    Client,
    Done,
    Failed,
    Frame,
    Poll,
    Polled,
    RelayError,
    Submit,
    Submitted,
)
from .processes import clean_environment
from .relay import Link

SESSION_SECONDS = 10.0
GRACE_SECONDS = 3.0


class AdminProcess:
    """The child process, as the coordinator process sees it.

    Args:
        kit: FLARE's kit of the administrator (the folder with ``startup``).
        log: what FLARE's code prints goes here; mode 0600.
    """

    def __init__(self, kit: Path, log: Path) -> None:
        self._asking = threading.Lock()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", __spec__.name if __spec__ else __name__, str(theirs.fileno()), str(kit)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
                env=clean_environment() | {"HOME": str(kit), "PYTHONSAFEPATH": "1"},
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(output)
        self._link = Link(ours, FROM_ADMIN)

    def ask(self, frame: Submit | Abort | Poll, timeout: float) -> Frame:
        """The answer to one question; `Failed` also where the child is gone or does not answer in time."""
        with self._asking:
            try:
                self._link.send(frame)
                answer = self._link.receive(timeout)
            except RelayError:
                return Failed("ended")
            if answer is None:
                self.close()  # an answer that comes later would be taken for the next question's
                return Failed("ended")
            return answer

    @property
    def ended(self) -> bool:
        """Whether it must be started again."""
        return self._link.closed or self._process.poll() is not None

    def close(self) -> None:
        """End it, by force if it does not go."""
        self._link.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_SECONDS)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class _Administration:
    """One session with FLARE's server, opened again when it broke."""

    def __init__(self, kit: Path) -> None:
        settings = json.loads((kit / "startup" / "fed_admin.json").read_text(encoding="utf-8"))
        self._kit, self._user = kit, str(settings["admin"]["username"])
        self._session: Any = None

    def handle(self, frame: Frame) -> Frame:
        """Do what is asked for; FLARE's own exceptions become a word."""
        from nvflare.fuel.flare_api.api_spec import NoConnection

        try:
            return self._do(self._connected(), frame)
        except NoConnection:
            reason = "unreachable"
        except Exception as error:  # FLARE raises many kinds; the log, on this machine, has the whole of it
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            reason = "refused"
        self._disconnect()
        return Failed(reason)

    def _connected(self) -> Any:
        from nvflare.fuel.flare_api.flare_api import new_secure_session

        if self._session is None:
            self._session = new_secure_session(
                self._user, str(self._kit), timeout=SESSION_SECONDS, auto_login_max_tries=2
            )
        return self._session

    def _disconnect(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(Exception):
                session.close()

    @staticmethod
    def _do(session: Any, frame: Frame) -> Frame:
        if isinstance(frame, Submit):
            return Submitted(str(session.submit_job(frame.folder)))
        if isinstance(frame, Abort):
            session.abort_job(frame.job)
            return Done()
        if isinstance(frame, Poll):
            clients = session.get_connected_client_list()
            status = session.get_job_status(frame.job) if frame.job else ""
            return Polled(tuple(Client(c.name, float(c.last_connect_time)) for c in clients), str(status or ""))
        raise RelayError("an unknown question")


def main(arguments: list[str]) -> int:
    """Answer until the coordinator process is gone."""
    link = Link(socket.socket(fileno=int(arguments[0])), TO_ADMIN)
    administration = _Administration(Path(arguments[1]))
    while True:
        try:
            frame = link.receive(None)
            if frame is not None:
                link.send(administration.handle(frame))
        except RelayError:
            return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # FLARE's threads are no reason to stay
