"""What a site remembers across sessions: for one round, and for one global adapter, it signs one survivor set."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..errors import ProtocolError, Refusal
from .session import Binding, SessionId


class SurvivorMemory:
    """Which survivor set was signed for which round and which adapter.

    Two sets for one update, one site apart, would let a coordinator subtract two sums. While no more than c sites
    collude, two sets cannot both reach t signatures if every honest site signs one only.

    Args:
        known: what `snapshot` gave earlier.
        private: whether every site's training is differentially private; noise then bounds what the difference of two
            sums shows, and a set that is never completed may be replaced by another.
        persist: called with the new snapshot before a claim returns; it must have the snapshot safely on disk when it
            returns, because the signature leaves next.
    """

    def __init__(
        self,
        known: Mapping[str, str] | None = None,
        persist: Callable[[dict[str, str]], None] | None = None,
        *,
        private: bool = False,
    ) -> None:
        self._known = dict(known or {})
        self._persist = persist
        self._private = private

    def claim(self, session: SessionId, binding: Binding, survivors: bytes) -> None:
        """Commit to a survivor set, given by its digest: one a round, and one an adapter.

        Neither rule is enough alone. The coordinator numbers rounds as it likes, so one adapter has one set over all
        of them. It also writes the adapter's bytes: one more space in a header, or one last bit of one weight, is
        another hash and still the same update of the same round, so one round has one set whatever was trained on.
        Sequence, attempt and settings make no room either.

        Raises:
            ProtocolError: SECOND_SURVIVOR_SET, when another set was signed for this round or this adapter.
        """
        study, claimed = session.study.hex(), survivors.hex()
        keys = (
            f"{study}/{binding.adapter.hex()}/{session.purpose}",
            f"{study}/round-{session.round}/{session.purpose}",
        )
        # Only updates carry noise of their own: sums of any other purpose keep their one set.
        replaceable = self._private and session.purpose == "update"
        if not replaceable and any(self._known.get(key, claimed) != claimed for key in keys):
            raise ProtocolError(
                "another survivor set was signed for this round or adapter",
                code=Refusal.SECOND_SURVIVOR_SET,
                stage="agree",
            )
        updated = {**self._known, **dict.fromkeys(keys, claimed)}
        if updated != self._known:
            if self._persist is not None:
                self._persist(updated)
            self._known = updated

    def snapshot(self) -> dict[str, str]:
        """A plain mapping to keep and to start from again."""
        return dict(self._known)
