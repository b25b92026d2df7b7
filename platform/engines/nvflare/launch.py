"""Runs one FLARE process under its owner's life: ``python -m …nvflare.launch MODULE ARGUMENTS``.

Standard input is a pipe that the owner holds open. When it closes, because the owner ended in whatever way, this
process and the job processes that FLARE started, which lead sessions of their own, are killed. (Linux can also send a
signal when the parent dies, but means the thread that started the child, and spares the job processes.)
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

from .confinement import confine

MARK = "WARDROUND_FLARE_MARK"
"""Environment variable that marks a FLARE process and everything it starts."""
_ALLOWED = frozenset(
    {
        "nvflare.private.fed.app.server.server_train",
        "nvflare.private.fed.app.client.client_train",
        "nvflare.private.fed.app.client.worker_process",
    }
)


def marked(mark: str) -> list[int]:
    """Process ids of this user's processes that carry the mark, this process left out."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{entry.name}/environ", "rb") as stream:
                if wanted in stream.read().split(b"\0"):
                    found.append(int(entry.name))
    return found


def kill_marked(mark: str, number: int = signal.SIGKILL) -> list[int]:
    """Send a signal to every process that carries the mark; which ones got it."""
    found = marked(mark)
    for process in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, number)
    return found


def _watch(mark: str) -> None:
    while os.read(0, 1):
        pass
    until = time.monotonic() + 10.0
    while kill_marked(mark) and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Become the FLARE process that the command line names."""
    module, *arguments = sys.argv[1:]
    if module not in _ALLOWED:
        sys.exit(f"{module} is no process of FLARE that is started here")
    os.umask(0o077)
    if not module.endswith(".worker_process"):  # which inherits it
        kit, extra = Path(arguments[arguments.index("-m") + 1]), os.environ.get("PYTHONPATH")
        socket = os.environ.get("WARDROUND_RELAY") or os.environ["WARDROUND_COURIER"]
        confined = confine([kit, *([Path(extra)] if extra else [])], [Path(socket).parent])
        os.write(1, b"confined to its own files\n" if confined else b"this kernel cannot confine processes\n")
    threading.Thread(target=_watch, args=(os.environ[MARK],), daemon=True, name="lifeline").start()
    if ".client." in module:
        from .guard import close_remote_control  # FLARE is only imported here, after the lifeline is held

        close_remote_control()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
