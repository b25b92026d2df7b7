"""A site's home: the folder with its keys, policy, budget, ledger and state, held by one process at a time."""

from __future__ import annotations

import fcntl
import os
import re
import stat
from pathlib import Path
from types import TracebackType

from .atomic import make_private, sweep
from .errors import HomeError

_SITE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_STUDY = re.compile(r"[0-9a-f]{8,64}")


class SiteHome:
    """``<root>/<site>/``, locked. Made by `SiteHome.open`; use it as a context manager or call `close`.

    Attributes:
        site: the site's name.
        folder: the home itself, mode 0700.
    """

    def __init__(self, site: str, folder: Path, lock: int) -> None:
        self.site = site
        self.folder = folder
        self._lock = lock

    @classmethod
    def open(cls, root: Path, site: str) -> SiteHome:
        """Make the home where there is none, and take its lock; remove what a killed process left half-written.

        Args:
            root: folder of homes; made with its parents.
            site: name of the site: lower-case letters, digits, ``.``, ``_``, ``-``; at most 64.

        Raises:
            HomeError: when the name is no site name, the folder cannot be made, is a link or another user's, others
                may enter it, or another process holds it (whose process id is named).
        """
        if not _SITE.fullmatch(site):
            raise HomeError(
                f"{site!r} is no site name", remedy="Use lower-case letters, digits, '.', '_' and '-', at most 64."
            )
        folder = root / site
        try:
            make_private(folder)
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                # Where others may write to ``root``, they could put a link there, or a folder that is theirs to read.
                raise HomeError(
                    "the home is a link, or not this user's folder",
                    where=str(folder),
                    remedy="Find out who put it there; choose another folder for the homes.",
                )
            mode = found.st_mode & 0o777
            if mode & 0o077:
                raise HomeError(
                    f"the home can be entered by others (mode {mode:03o})", where=str(folder), remedy="chmod 700 it."
                )
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise HomeError(f"the home cannot be opened: {error.strerror}", where=str(folder)) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(lock, 32, 0).decode("ascii", errors="replace").strip() or "unknown"
            os.close(lock)
            raise HomeError(
                f"the home is in use by process {holder}", where=str(folder), remedy="Wait for it, or end it."
            ) from None
        try:
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
            sweep(folder)
        except OSError as error:
            os.close(lock)
            raise HomeError(f"the home cannot be written: {error.strerror}", where=str(folder)) from None
        return cls(site, folder, lock)

    @property
    def identity(self) -> Path:
        """The encrypted Ed25519 key."""
        return self.folder / "identity.pem"

    @property
    def policy(self) -> Path:
        """The site's own egress policy."""
        return self.folder / "policy.toml"

    @property
    def budget(self) -> Path:
        """The privacy budget spent, over all studies."""
        return self.folder / "budget.json"

    @property
    def ledger(self) -> Path:
        """The transmission ledger, over all studies."""
        return self.folder / "ledger.jsonl"

    @property
    def purging(self) -> Path:
        """The list of a purge that was begun; gone when it is finished."""
        return self.folder / "purge.json"

    def check_whole(self) -> None:
        """Refuse a home from which a purge has taken only a part.

        Raises:
            HomeError: says how to finish it.
        """
        if self.purging.exists():
            raise HomeError(
                "a purge of this home was interrupted",
                where=str(self.purging),
                remedy="Run it again: wardround site purge",
            )

    def state(self, study: str) -> Path:
        """The folder of a study's state, made where there is none.

        Args:
            study: the study's SHA-256, hexadecimal.

        Raises:
            HomeError: for anything that is no hash, so that no path can be smuggled in; when it cannot be made.
        """
        if not _STUDY.fullmatch(study):
            raise HomeError("the study's hash is not hexadecimal", where=str(self.folder))
        state = self.folder / "state" / study
        try:
            make_private(state)
        except OSError as error:
            raise HomeError(f"the state cannot be kept: {error.strerror}", where=str(state)) from None
        return state

    def close(self) -> None:
        """Give the lock back; calling it twice does no harm."""
        if self._lock >= 0:
            # The file stays: removing it would let two processes lock two files of one name.
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> SiteHome:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
