"""Which round a site entered last, with which adapter and which vector; on disk before anything of the round leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..privacy.atomic import canonical_json, write_atomic
from ..privacy.secure_aggregation.session import SessionId
from .errors import MethodError
from .state_files import damaged, read_state

PROGRESS_FILE = "progress.json"


class Progress:
    """The file ``progress.json`` of a site's state folder.

    Args:
        folder: the state folder of a study.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / PROGRESS_FILE

    @property
    def begun(self) -> bool:
        """Whether a round was ever entered."""
        return self.path.is_file()

    def last(self) -> tuple[int, int, str]:
        """Round, attempt and SHA-256 of the adapter of the last session that was opened; (0, -1, "") before the first.

        Raises:
            CheckpointError: the file is damaged.
        """
        known = read_state(self.path)
        try:
            return int(known.get("round", 0)), int(known.get("attempt", -1)), str(known.get("adapter", ""))
        except (TypeError, ValueError):
            raise damaged(self.path) from None

    def enter(self, session: SessionId, adapter: str) -> bool:
        """Write down that a round is entered.

        Args:
            session: of the round. adapter: SHA-256 of the global adapter, hexadecimal.

        Returns:
            Whether the round before was finished here, so that what it left should still be stored.

        Raises:
            CheckpointError: the file is damaged.
        """
        before = read_state(self.path)
        now: dict[str, Any] = {"round": session.round, "attempt": session.attempt, "adapter": adapter}
        if before.get("round") == session.round and "vector" in before:
            now["vector"] = before["vector"]
        write_atomic(self.path, canonical_json(now))
        return before.get("round") == session.round - 1 and "vector" in before

    def same_vector(self, vector: str) -> None:
        """All attempts at a round are about one vector: sums of two would show what training anew changed.

        Args:
            vector: SHA-256 of what is to be masked, hexadecimal.

        Raises:
            MethodError: this round was entered with another one; the stored update of it is gone.
        """
        known = read_state(self.path)
        if known.setdefault("vector", vector) != vector:
            raise MethodError(
                f"round {known['round']} was entered with another update, which is no longer stored",
                where=str(self.path.parent),
                remedy="This site sits the round out; restore its state from a backup to take part",
            )
        write_atomic(self.path, canonical_json(known))
