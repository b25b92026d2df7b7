"""A site's kept session on disk: one encrypted file, replaced whole, gone when the session is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .atomic import sync_folder, write_atomic
from .errors import DecryptionError, HomeError
from .identity import Identity
from .secure_aggregation.primitives import LABEL_STORE
from .secure_aggregation.session import transcript

SESSION_FILE = "session.bin"
DAMAGED_SUFFIX = ".damaged"


@dataclass(frozen=True)
class SessionStore:
    """The kept session of one site in one study.

    Attributes:
        folder: the site's state folder for the study.
        identity: seals the file; another identity cannot open it.
        study: the study's SHA-256, 32 bytes.
        random: fresh random bytes for nonces (``os.urandom``).
    """

    folder: Path
    identity: Identity
    study: bytes
    random: Callable[[int], bytes]

    @property
    def path(self) -> Path:
        """The file; it is there only while a session is kept."""
        return self.folder / SESSION_FILE

    def save(self, data: bytes) -> None:
        """Replace what is kept; safely on disk when this returns.

        Raises:
            OSError: the disk refuses; what was kept before is still there.
        """
        write_atomic(self.path, self.identity.seal(LABEL_STORE, self._header, data, self.random(12)))

    def load(self) -> bytes | None:
        """What was kept last; None when nothing is.

        Raises:
            HomeError: the file cannot be opened. It was set aside, so the site goes on as one that lost its session:
                it counts as dropped until the next one begins.
        """
        if not self.path.is_file():
            return None
        try:
            return self.identity.unseal(LABEL_STORE, self._header, self.path.read_bytes())
        except DecryptionError:
            aside = self.set_aside()
            raise HomeError("the kept session is damaged", where=str(aside), remedy=_REMEDY) from None

    def set_aside(self) -> Path:
        """Move a file that cannot be used out of the way, for whoever looks into it; returns where it is."""
        aside = self.path.with_name(SESSION_FILE + DAMAGED_SUFFIX)
        self.path.replace(aside)
        sync_folder(self.folder)
        return aside

    def erase(self) -> None:
        """Forget the session; nothing happens when none is kept."""
        if self.path.is_file():
            self.path.unlink()
            sync_folder(self.folder)

    @property
    def _header(self) -> bytes:
        return transcript(LABEL_STORE, self.study)


_REMEDY = "The site takes part again from the next attempt on. Check the disk; the file may be deleted."
