"""Waits on a Unix socket for FLARE's processes of the same user, and lets in who can read that user's private files."""

from __future__ import annotations

import contextlib
import hmac
import os
import socket
import stat
import threading
import time
from pathlib import Path

from ....privacy.atomic import make_private, write_atomic
from .frames import MAX_FRAME, Frame, RelayError
from .relay import Link, check_folder, checked_path, gone, secret_path

SECRET_BYTES = 32
PROOF_SECONDS = 2.0
"""Until all of the secret is shown: whoever shows it byte by byte keeps nobody else waiting longer."""
PAUSE_SECONDS = 0.2
"""How long a listener rests after the system could not give it a connection, as when too many files are open."""


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
        self.path, self._kinds, self._limit, self._uid = checked_path(path), kinds, limit, uid
        self._secret, self._closed = os.urandom(SECRET_BYTES), threading.Event()
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
        """The next link; None when nobody came within ``timeout`` seconds, somebody who may not, or the system had no
        room for one.

        Raises:
            RelayError: when the listener is closed.
        """
        try:
            self._socket.settimeout(timeout)
            connection, _ = self._socket.accept()
        except TimeoutError:
            return None
        except OSError:
            if self._closed.wait(PAUSE_SECONDS):
                raise gone() from None
            return None
        with contextlib.suppress(RelayError, OSError):
            if self._proves(connection):
                return Link(connection, self._kinds, limit=self._limit, uid=self._uid)
        connection.close()
        return None

    def _proves(self, connection: socket.socket) -> bool:
        until, shown = time.monotonic() + PROOF_SECONDS, b""
        while len(shown) < SECRET_BYTES:
            left = until - time.monotonic()
            if left <= 0:
                return False
            connection.settimeout(left)
            part = connection.recv(SECRET_BYTES - len(shown))
            if not part:
                return False
            shown += part
        return hmac.compare_digest(shown, self._secret)

    def close(self) -> None:
        """Stop listening and remove the socket file, unless it is another's by now."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(OSError):
            if self.path.lstat().st_ino == self._inode:
                self.path.unlink()
                secret_path(self.path).unlink(missing_ok=True)
