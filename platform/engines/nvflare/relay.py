"""Frames over a Unix socket that only the same user can open: how Wardround's processes reach FLARE's beside them.

Each frame is four bytes of length and that many of msgpack. Both ends ask the kernel who the other one is. Whatever a
peer does, dying in the middle of a frame too, ends in `RelayError` or in nothing lost.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import select
import socket
import stat
import struct
import threading
import time
from pathlib import Path

from ....privacy.atomic import make_private, write_atomic
from .frames import MAX_FRAME, Codec, Frame, RelayError

PATH_LIMIT = 107
"""Longest path of a Unix socket, in bytes: the kernel's structure has 108, the last of them zero."""

SECRET_BYTES = 32
PROOF_SECONDS = 2.0
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
                raise _gone() from None
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
                    raise _gone() from None

    def _wait(self, event: int, until: float | None) -> bool:
        poll = select.poll()
        number = self._socket.fileno()
        if number < 0:
            raise _gone()
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
                    raise _gone()
                self._buffer += data
        except OSError:
            self.close()
            raise _gone() from None
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


def _gone() -> RelayError:
    return RelayError("the other end of a relay is gone")


def _checked(path: Path) -> Path:
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


class Listener:
    """Accepts links on a socket file, mode 0600 in a folder of mode 0700; both are made where they are missing.

    Beside it lie 32 random bytes, new each time, that whoever connects must show first: only who can read this user's
    private files can. A socket file that a killed process left behind is replaced; one still listened on is not.

    Args:
        path: of the socket; at most `PATH_LIMIT` bytes, in any private folder.
        kinds: the frames that may arrive.
        limit: largest frame in bytes.
        uid: the user whose processes may connect; this one's by default.

    Raises:
        RelayError: when the path is too long, its folder is open to others, or another process listens there.
    """

    def __init__(
        self, path: Path, kinds: tuple[type[Frame], ...], *, limit: int = MAX_FRAME, uid: int | None = None
    ) -> None:
        self.path, self._kinds, self._limit, self._uid = _checked(path), kinds, limit, uid
        self._secret = os.urandom(SECRET_BYTES)
        try:
            make_private(self.path.parent)
        except OSError as error:
            raise RelayError("the folder of a relay cannot be made", where=f"{path.parent}: {error.strerror}") from None
        check_folder(self.path.parent)
        self._clear()
        write_atomic(secret_path(self.path), self._secret)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(str(self.path))
            self.path.chmod(0o600)
            self._socket.listen(8)
            self._inode = self.path.lstat().st_ino
        except OSError as error:
            self._socket.close()
            raise RelayError("the socket of a relay cannot be made", where=f"{path}: {error.strerror}") from None

    def _clear(self) -> None:
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(status.st_mode):
            raise RelayError("a file is where a relay's socket belongs", where=str(self.path), remedy="Move it away.")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(2.0)
            try:
                probe.connect(str(self.path))
            except (ConnectionRefusedError, FileNotFoundError):
                self.path.unlink(missing_ok=True)
                return
            except OSError:
                pass  # whoever does not accept now is there all the same
        raise RelayError(
            "another process listens on this relay", where=str(self.path), remedy="Stop the one that runs already."
        )

    def accept(self, timeout: float | None = None) -> Link | None:
        """The next link; None when nobody came within ``timeout`` seconds, or somebody who may not.

        Raises:
            RelayError: when the listener is closed.
        """
        try:
            self._socket.settimeout(timeout)
            connection, _ = self._socket.accept()
        except TimeoutError:
            return None
        except OSError:
            raise _gone() from None
        with contextlib.suppress(RelayError, OSError):
            if self._proves(connection):
                return Link(connection, self._kinds, limit=self._limit, uid=self._uid)
        connection.close()
        return None

    def _proves(self, connection: socket.socket) -> bool:
        connection.settimeout(PROOF_SECONDS)
        shown = b""
        while len(shown) < SECRET_BYTES:
            part = connection.recv(SECRET_BYTES - len(shown))
            if not part:
                return False
            shown += part
        return hmac.compare_digest(shown, self._secret)

    def close(self) -> None:
        """Stop listening and remove the socket file, unless it is another's by now."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(OSError):
            if self.path.lstat().st_ino == self._inode:
                self.path.unlink()
                secret_path(self.path).unlink(missing_ok=True)


def connect(path: Path, kinds: tuple[type[Frame], ...], *, limit: int = MAX_FRAME, uid: int | None = None) -> Link:
    """A link to whoever listens at ``path``; see `Listener`.

    Raises:
        RelayError: when nobody does, or the path, its folder or its owner is not as it must be.
    """
    path = _checked(path)
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
