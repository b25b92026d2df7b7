"""Lets a FLARE process see its own kit, its socket and the programs of this machine, and no other file (Landlock).

A second wall behind `guard`: should somebody find a way to run code in FLARE's processes, the hospital's pictures, keys
and ledger are not there for it. Linux 5.13 and newer can do this without any privilege; elsewhere nothing happens.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

from ...errors import PlatformError

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_VERSION, _BENEATH = 1, 1
_NO_NEW_PRIVILEGES = 38
_EXECUTE, _READ_FILE, _READ_FOLDER = 1 << 0, 1 << 2, 1 << 3
_FILE_RIGHTS = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15  # execute, write, read, truncate, device control
_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
# Not /dev/shm: training processes keep pictures there. Of this user's other processes /proc gives no files and no
# memory, but it does give their environment, unless they forbid it themselves (PR_SET_DUMPABLE).
_SYSTEM = (
    "/bin",
    "/dev/random",
    "/dev/urandom",
    "/dev/zero",
    "/lib",
    "/lib32",
    "/lib64",
    "/proc",
    "/sbin",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/usr",
    "/etc/alternatives",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
    "/run/systemd/resolve",
)


class ConfinementError(PlatformError):
    """The kernel can confine a process, but did not."""


def landlock_version() -> int:
    """Version of the kernel's Landlock; 0 where it has none, or where it is switched off."""
    found = _call(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    return max(found, 0)


def confine(writable: Iterable[Path], readable: Iterable[Path]) -> bool:
    """Take every file from this thread, and from all that it starts, but these, Python's own and the system's.

    Call it before other threads are started: those keep what they have.

    Args:
        writable: folders in which everything is allowed but to run programs.
        readable: files and folders that may be read.

    Returns:
        Whether it was done; False where the kernel cannot.

    Raises:
        ConfinementError: the kernel refused what it says that it can do.
    """
    version = landlock_version()
    if version < 1:
        return False
    every = _RIGHTS[min(version, max(_RIGHTS))]
    rules = _call(_CREATE, struct.pack("=Q", every), ctypes.c_size_t(8), ctypes.c_uint32(0))
    _expect(rules >= 0)
    try:
        for path in {*map(str, readable), *_python()}:
            _allow(rules, path, _EXECUTE | _READ_FILE | _READ_FOLDER)
        for path in _SYSTEM:
            _allow(rules, path, _EXECUTE | _READ_FILE | _READ_FOLDER)
        _allow(rules, "/dev/null", every)
        for folder in writable:
            _allow(rules, str(folder), every & ~_EXECUTE)
        _expect(ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0)
        _expect(_call(_RESTRICT, ctypes.c_int(rules), ctypes.c_uint32(0)) == 0)
    finally:
        os.close(rules)
    return True


def _python() -> set[str]:
    """Where this interpreter finds itself and its modules; never the root folder or a home as a whole."""
    program = Path(sys.executable)
    found = {sys.prefix, sys.base_prefix, sys.exec_prefix, str(program.parent), str(program.resolve().parent)}
    found |= {path for path in sys.path if path and os.path.exists(path)}
    found.add(str(Path(__file__).resolve().parents[3]))
    return found - {"/", os.path.expanduser("~")}


def _allow(rules: int, path: str, rights: int) -> None:
    if os.path.realpath(path) == "/":
        return  # a socket that lies in no folder of its own gets nothing from this
    with contextlib.suppress(FileNotFoundError, PermissionError, NotADirectoryError):
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            rights = rights if os.path.isdir(path) else rights & _FILE_RIGHTS
            rule = struct.pack("=Qi", rights, opened)
            _expect(_call(_ADD, ctypes.c_int(rules), ctypes.c_int(_BENEATH), rule, ctypes.c_uint32(0)) == 0)
        finally:
            os.close(opened)


def _call(number: int, *arguments: object) -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *arguments))


def _expect(done: bool) -> None:
    if not done:
        raise ConfinementError(
            f"the kernel did not confine FLARE's process: {os.strerror(ctypes.get_errno())}",
            remedy="Report this with the version of the kernel (`uname -r`).",
        )
