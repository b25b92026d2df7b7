"""Is the process that wrote a status file still the one that has its number? Linux tells by /proc."""

from __future__ import annotations

import enum
import os
import select
import signal
import time
from hashlib import sha256
from pathlib import Path

import msgspec

from ..errors import PlatformError

_PROC = Path("/proc")
_STARTED = 19  # place of the start time behind the process' name in /proc/PID/stat


class RunningError(PlatformError):
    """A process that cannot be ended, because it is not there or may be another one."""


class Life(enum.StrEnum):
    """What is known of a process that once was."""

    RUNS = "runs"
    GONE = "gone"
    UNKNOWN = "unknown"
    """It is in another container, or the system hides it."""


class Process(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names one process for good: numbers are given out again, and start over with each boot.

    Attributes:
        pid: its number.
        started: clock ticks from the boot to its start.
        boot: the system's name for that boot.
        namespace: which numbering the number is of; containers have their own.
        command: SHA-256 of its command line, hexadecimal.
    """

    pid: int
    started: int
    boot: str
    namespace: str
    command: str


def this_process() -> Process:
    """The process that asks; zeros and empty texts where the system does not say."""
    pid = os.getpid()
    return Process(pid, _started(pid) or 0, _boot(), _namespace(), _command(pid))


def look(process: Process) -> Life:
    """Whether the process still runs, and is not another one under its number."""
    here = (_boot(), _namespace())
    if not process.started or not all(here) or not process.namespace:
        return Life.UNKNOWN
    if process.boot != here[0]:
        return Life.GONE
    if process.namespace != here[1]:
        return Life.UNKNOWN
    started = _started(process.pid)
    if started is None:
        return Life.UNKNOWN if _hidden(process.pid) else Life.GONE
    return Life.RUNS if started == process.started else Life.GONE


def ask_to_end(process: Process, seconds: float) -> bool:
    """Send SIGTERM to exactly this process, and wait.

    Args:
        process: as it wrote itself down. seconds: to wait at most; 0 only asks.

    Returns:
        Whether it has ended within the time.

    Raises:
        RunningError: it does not run, is another user's, cannot be told from another process, or this is not Linux.
    """
    if not hasattr(os, "pidfd_open") or not hasattr(signal, "pidfd_send_signal"):
        raise RunningError(
            "this system cannot end exactly one process",
            where=f"process {process.pid}",
            remedy="Sites and coordinators run on Linux; run this command on the machine that runs the process",
        )
    refused = "Look for it with: ps -o pid,lstart,args -p"
    try:
        # A descriptor stays this process's: its number could be given out anew between the look and the signal.
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        raise RunningError("the process has ended already", where=f"process {process.pid}") from None
    except OSError as error:
        raise RunningError(
            f"the process cannot be reached: {error.strerror}",
            where=f"process {process.pid}",
            remedy=f"{refused} {process.pid}",
        ) from None
    try:
        if look(process) is not Life.RUNS or _command(process.pid) != process.command:
            raise RunningError(
                "the process with this number is not the one that wrote the status",
                where=f"process {process.pid}",
                remedy=f"Nothing was sent to it. {refused} {process.pid}",
            )
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        except ProcessLookupError:
            return True
        except PermissionError:
            raise RunningError(
                "the process is another user's",
                where=f"process {process.pid}",
                remedy="Run this command as the user that started it, or use: systemctl stop",
            ) from None
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        until = time.monotonic() + seconds
        while True:
            left = until - time.monotonic()
            if poll.poll(max(0.0, left) * 1000):
                return True
            if left <= 0:
                return False
    finally:
        os.close(descriptor)


def _started(pid: int) -> int | None:
    """Start time in clock ticks; None where no such process is seen, or it has ended and nobody has taken note yet."""
    try:
        # The name in brackets may hold anything, brackets too: what follows the last one is numbers.
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[_STARTED])
    except (OSError, ValueError, IndexError):
        return None


def _hidden(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not (_PROC / str(pid)).exists()  # a zombie is seen, and is gone


def _boot() -> str:
    try:
        return (_PROC / "sys" / "kernel" / "random" / "boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink(_PROC / "self" / "ns" / "pid")
    except OSError:
        return ""


def _command(pid: int) -> str:
    try:
        return sha256((_PROC / str(pid) / "cmdline").read_bytes()).hexdigest()
    except OSError:
        return ""
