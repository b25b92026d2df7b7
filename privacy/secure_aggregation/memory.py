"""What a site remembers across sessions: for one global adapter it signs one survivor set, over all attempts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..errors import ProtocolError, Refusal
from .session import Binding, SessionId


class SurvivorMemory:
    """Which survivor set was signed for which adapter.

    Two sets for one adapter, one site apart, would let a coordinator subtract two sums. While no more than c sites
    collude, two sets cannot both reach t signatures if every honest site signs one only.

    Args:
        known: what `snapshot` gave earlier.
        persist: called with the new snapshot before a claim returns; it must have the snapshot safely on disk when it
            returns, because the signature leaves next.
    """

    def __init__(
        self,
        known: Mapping[str, str] | None = None,
        persist: Callable[[dict[str, str]], None] | None = None,
    ) -> None:
        self._known = dict(known or {})
        self._persist = persist

    def claim(self, session: SessionId, binding: Binding, survivors: bytes) -> None:
        """Commit to a survivor set, given by its digest.

        The key leaves round, sequence, attempt and settings out: the coordinator chooses them, and none of them makes
        the same adapter's update another one.

        Raises:
            ProtocolError: SECOND_SURVIVOR_SET, when another set was signed for this adapter.
        """
        key = f"{session.study.hex()}/{binding.adapter.hex()}/{session.purpose}"
        known = self._known.get(key)
        if known is None:
            updated = {**self._known, key: survivors.hex()}
            if self._persist is not None:
                self._persist(updated)
            self._known = updated
        elif known != survivors.hex():
            raise ProtocolError(
                "another survivor set was signed for this adapter", code=Refusal.SECOND_SURVIVOR_SET, stage="agree"
            )

    def snapshot(self) -> dict[str, str]:
        """A plain mapping to keep and to start from again."""
        return dict(self._known)
