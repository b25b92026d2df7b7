"""The ground that a long-running process stands on: a short private folder for sockets, signals, a guarded memory."""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from ...privacy.atomic import make_private
from ..errors import PlatformError

_PR_SET_DUMPABLE = 4
_NAME = 16  # hexadecimal digits: the path of a socket may have 107 bytes
ENDING = tuple(signal.Signals[name] for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))


class ServiceError(PlatformError):
    """A process that runs for days cannot start, or must end."""


def check_system() -> None:
    """Refuse a system that cannot guard what a long-running process holds.

    Raises:
        ServiceError: it is not Linux.
    """
    if not sys.platform.startswith("linux"):
        raise ServiceError(
            "sites and coordinators run on Linux only: their memory, sockets and processes are guarded by its kernel",
            where=sys.platform,
            remedy="Use a Linux machine, or a container or virtual machine; simulations run here: wardround run",
        )


def runtime_folder(owner: Path) -> Path:
    """A private folder with a short path for the sockets of whoever owns ``owner``; the same at each start.

    It lies in systemd's ``RuntimeDirectory``, else in the user's runtime folder, else among temporary files.

    Raises:
        ServiceError: somebody else has made something of that name, or the folder cannot be made.
    """
    given = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or os.environ.get("XDG_RUNTIME_DIR", "")
    base = Path(given) if given and Path(given).is_dir() else Path(tempfile.gettempdir())
    folder = base / f"wardround-{os.geteuid()}-{sha256(os.fsencode(owner.absolute())).hexdigest()[:_NAME]}"
    try:
        make_private(folder)
        found = folder.lstat()
    except (FileExistsError, NotADirectoryError):  # a link to nowhere, or a file
        found = None
    except OSError as error:
        raise ServiceError(
            f"the folder for sockets cannot be made: {error.strerror}",
            where=str(folder),
            remedy="Make room there; or set XDG_RUNTIME_DIR to a folder of this user",
        ) from None
    own = found is not None and stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if found is None or not own or found.st_mode & 0o077:
        raise ServiceError(
            "the folder for sockets is not this user's alone",
            where=str(folder),
            remedy="Find out who made it and remove it; or set XDG_RUNTIME_DIR to a folder of this user",
        )
    return folder


def guard_memory() -> None:
    """No core files, nothing readable for others, and no process of the same user may look into this one's memory."""
    import resource  # other systems have no such module

    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


@contextmanager
def until_signalled() -> Iterator[threading.Event]:
    """An event that is set when the process is asked to end; a second signal ends it at once."""
    asked = threading.Event()
    heard: list[int] = []  # not the event: its lock may be held by the very call that a second signal interrupts

    def ask(number: int, _frame: object) -> None:
        if heard:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        heard.append(number)
        asked.set()

    before = {number: signal.signal(number, ask) for number in ENDING}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
