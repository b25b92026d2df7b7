"""Frames over a Unix socket that only the same user can open: how Wardround's processes reach FLARE's beside them.

Each frame is four bytes of length and that many of msgpack. Both ends ask the kernel who the other one is. Whatever a
peer does, dying in the middle of a frame too, ends in `RelayError` or in nothing lost.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import struct
import threading
import time
from pathlib import Path

from .frames import MAX_FRAME, Codec, Frame, RelayError

PATH_LIMIT = 107
"""Longest path of a Unix socket, in bytes: the kernel's structure has 108, the last of them zero."""

SEND_SECONDS = 30.0
"""How long a peer may leave a frame unread before the link is given up."""

_HEAD = struct.Struct(">I")
_CREDENTIALS = struct.Struct("3i")
_CHUNK = 1 << 18


class Link:
    """One connection, frames in both directions. Any thread may send; one thread receives.

    Args:
        connection: a connected stream socket; the link owns it from here on.
        kinds: the frames that may arrive.
        limit: largest frame in bytes, either way.
        uid: the user whose process the other end must be; this one's by default.

    Raises:
        RelayError: when the other end belongs to another user.
    """

    def __init__(
        self,
        connection: socket.socket,
        kinds: tuple[type[Frame], ...],
        *,
        limit: int = MAX_FRAME,
        uid: int | None = None,
    ) -> None:
        self._socket, self._codec, self._limit = connection, Codec(kinds), limit
        self._sending = threading.Lock()
        self._buffer = bytearray()
        self._closed = False
        try:
            self._check_peer(os.geteuid() if uid is None else uid)
        except BaseException:
            connection.close()
            raise
        connection.setblocking(False)

    def _check_peer(self, expected: int) -> None:
        raw = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(raw)
        if uid != expected:
            raise RelayError(
                f"the other end of a relay belongs to user {uid}, not to {expected}",
                remedy="Run Wardround and NVIDIA FLARE as the same user.",
            )

    @property
    def closed(self) -> bool:
        """Whether this end closed the link, or found that the other one did."""
        return self._closed

    def send(self, frame: Frame) -> None:
        """Send a whole frame.

        Raises:
            RelayError: when it is too large, the other end is gone, or does not read for `SEND_SECONDS`; the link is
                closed then, but for a frame that is too large.
        """
        body = self._codec.encode(frame)
        if len(body) > self._limit:
            raise RelayError(f"a frame of {len(body)} bytes is larger than the {self._limit} that a relay carries")
        with self._sending:
            try:
                for part in (_HEAD.pack(len(body)), body):
                    self._write(memoryview(part))
            except OSError:
                self.close()
                raise gone() from None
            except BaseException:
                self.close()  # half a frame is out; nothing can follow it
                raise

    def _write(self, left: memoryview) -> None:
        until = time.monotonic() + SEND_SECONDS
        while left:
            try:
                left = left[self._socket.send(left, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                if not self._wait(select.POLLOUT, until):
                    raise gone() from None

    def _wait(self, event: int, until: float | None) -> bool:
        poll = select.poll()
        number = self._socket.fileno()
        if number < 0:
            raise gone()
        poll.register(number, event)
        seconds = None if until is None else max(0.0, until - time.monotonic())
        return bool(poll.poll(None if seconds is None else seconds * 1000))

    def receive(self, timeout: float | None = None) -> Frame | None:
        """The next frame; None when none was whole within ``timeout`` seconds (what has arrived of it is kept).

        Raises:
            RelayError: when the link is closed, or the other end sent something that is no frame; it is closed then.
        """
        until = None if timeout is None else time.monotonic() + timeout
        try:
            while True:
                frame = self._whole()
                if frame is not None:
                    return frame
                try:
                    data = self._socket.recv(_CHUNK)
                except BlockingIOError:
                    if not self._wait(select.POLLIN, until):
                        return None
                    continue
                if not data:
                    raise gone()
                self._buffer += data
        except OSError:
            self.close()
            raise gone() from None
        except RelayError:
            self.close()
            raise

    def _whole(self) -> Frame | None:
        if len(self._buffer) < _HEAD.size:
            return None
        (length,) = _HEAD.unpack_from(self._buffer)
        if length > self._limit:
            raise RelayError(f"a frame of {length} bytes was announced, more than the {self._limit} that are allowed")
        end = _HEAD.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(memoryview(self._buffer)[_HEAD.size : end])
        del self._buffer[:end]
        return self._codec.decode(body)

    def close(self) -> None:
        """End the link; whoever waits in it, on either side, is woken."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def gone() -> RelayError:
    """What ends a link, or the wait for one."""
    return RelayError("the other end of a relay is gone")


def checked_path(path: Path) -> Path:
    """The absolute path of a socket.

    Raises:
        RelayError: it is longer than the system allows.
    """
    path = path.absolute()
    size = len(os.fsencode(path))
    if size > PATH_LIMIT:
        raise RelayError(
            f"the path of a socket has {size} bytes, the system allows {PATH_LIMIT}",
            where=str(path),
            remedy="Use a folder with a shorter path, e.g. by setting WARDROUND_HOME.",
        )
    return path


def check_folder(folder: Path) -> None:
    """Refuse a folder that others can enter: whoever can, could take a relay's place.

    Raises:
        RelayError: when it is missing, not this user's, or its mode is wider than 0700.
    """
    try:
        status = folder.lstat()
    except OSError:
        raise RelayError("the folder of a relay is missing", where=str(folder)) from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise RelayError(
            "the folder of a relay must be this user's own, with mode 0700",
            where=str(folder),
            remedy=f"Run: chmod 700 {folder}",
        )


def secret_path(path: Path) -> Path:
    """Where the proof lies that whoever connects to the socket ``path`` must show."""
    return path.with_name(path.name + ".key")


def connect(path: Path, kinds: tuple[type[Frame], ...], *, limit: int = MAX_FRAME, uid: int | None = None) -> Link:
    """A link to whoever listens at ``path``; see `listener.Listener`.

    Raises:
        RelayError: when nobody does, or the path, its folder or its owner is not as it must be.
    """
    path = checked_path(path)
    check_folder(path.parent)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(5.0)
        connection.connect(str(path))
        connection.sendall(secret_path(path).read_bytes())
    except OSError:
        connection.close()
        raise RelayError("nobody listens on a relay's socket", where=str(path)) from None
    return Link(connection, kinds, limit=limit, uid=uid)
