"""The coordinator's state machine: it hands out the global adapter, collects a secure sum, makes the next adapter.

Bytes in, sealed parcels out. It sees masked vectors and their sum, never a site's update.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..privacy.egress import Gate, Sealed
from ..privacy.errors import DecodeError, ProtocolError
from ..privacy.messages import TO_COORDINATOR, Message, RoundEnd, RoundStart, StudyEnd
from ..privacy.secure_aggregation.coordinator import CoordinatorSession, SecureSum
from ..privacy.secure_aggregation.roster import PinnedRoster
from ..privacy.secure_aggregation.session import SessionId, bind
from .adapter_file import AdapterInfo, dump_adapter
from .checkpoint import Checkpoints
from .errors import RoundError
from .site_machine import round_settings
from .update import METRICS, Layout, State, apply_mean


@dataclass(frozen=True, slots=True)
class RoundOutcome:
    """What became of a round.

    Attributes:
        released: True when there is a new global adapter.
        reason: why there is none; empty otherwise.
        survivors: sites in the sum.
        dropped: site -> (stage, reason code).
        seconds: by stage, and ``total``.
        bytes_up, bytes_down: wire bytes of the round so far.
        train_loss: weighted mean over the survivors, from the secure sum.
    """

    released: bool
    reason: str
    survivors: tuple[str, ...]
    dropped: Mapping[str, tuple[str, str]]
    seconds: Mapping[str, float]
    bytes_up: int
    bytes_down: int
    train_loss: float | None

    def record(self, number: int, validation: Mapping[str, object]) -> dict[str, object]:
        """The round's line in rounds.jsonl."""
        return {
            "round": number,
            "participants": list(self.survivors),
            "dropped": [
                {"site": site, "stage": stage, "reason": reason} for site, (stage, reason) in self.dropped.items()
            ],
            "seconds": {stage: round(value, 4) for stage, value in self.seconds.items()},
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "train_loss": self.train_loss,
            "validation": dict(validation),
        }


@dataclass
class Coordinator:
    """One study's coordinator.

    Attributes:
        roster: pinned.
        gate: the only way out; it writes the coordinator's own ledger.
        layout: of the adapter.
        info: study, method and backbone of the adapter; ``round`` counts completed rounds.
        state: the current global adapter.
        checkpoints: where each round's adapter is kept.
        clock: monotonic seconds.
    """

    roster: PinnedRoster
    gate: Gate
    layout: Layout
    info: AdapterInfo
    state: State
    checkpoints: Checkpoints
    clock: Callable[[], float]
    outcome: RoundOutcome | None = None
    _session: CoordinatorSession | None = None
    _next: State | None = None
    _marks: list[tuple[str, float]] = field(default_factory=list)
    _up: int = 0
    _down: int = 0

    def begin(self) -> list[Sealed]:
        """Start the next round: fresh session, the global adapter to every site."""
        number = self.info.round + 1
        attempt = self.checkpoints.next_attempt(number)
        session = SessionId(self.roster.roster.study, number, "update", 0, attempt)
        adapter, settings = dump_adapter(self.state, self.info), round_settings(self.info.study, number)
        self._session = CoordinatorSession(self.roster, session, bind(adapter, settings))
        self.outcome, self._next, self._up, self._down = None, None, 0, 0
        self._marks = [("begin", self.clock())]
        start = RoundStart(session, adapter, settings)
        return self._release(dict.fromkeys(self.roster.roster.names, start))

    def handle(self, sender: str, wire: bytes) -> list[Sealed]:
        """Take one message from a site; returns what the next stage sends, once everybody was heard.

        Whatever a site sends, nothing is raised because of it: what is not awaited (a late answer, a repetition with
        other content, a message outside a round) is written down and changes nothing; a site whose awaited message is
        refused is dropped.

        Raises:
            LedgerError, EgressRefusedError: this side's own ledger or policy stops the next stage.
        """
        session = self._session if self.outcome is None else None
        self._up += len(wire)
        try:
            message: Message | None = self.gate.admit(wire, peer=sender, expected=TO_COORDINATOR)
        except DecodeError:
            message = None
        if session is None or (message is not None and _before(message, session.session)):
            return []
        try:
            if message is None:
                self._give_up(session, sender, "malformed")
            else:
                session.feed(sender, message)  # type: ignore[arg-type]
        except ProtocolError as error:
            # Whether enough sites are left shows when the stage closes.
            self._give_up(session, sender, str(error.code))
        return [] if session.waiting() else self._close(session)

    @staticmethod
    def _give_up(session: CoordinatorSession, sender: str, reason: str) -> None:
        """Drop a site that is waited for; one that was heard in this stage keeps its first message."""
        if sender in session.waiting():
            session.drop(sender, reason)

    def _close(self, session: CoordinatorSession) -> list[Sealed]:
        """Everybody of this stage was heard or given up: go on, release, or abort."""
        stage = session.stage
        closing: dict[str, Callable[[], Mapping[str, Message]]] = {
            "advertise": session.close_advertise,
            "share": session.close_share,
            "mask": session.close_mask,
            "agree": session.close_agree,
        }
        try:
            if stage in closing:
                messages = closing[stage]()
                self._marks.append((stage, self.clock()))
                return self._release(messages)
            total = session.finish()
        except ProtocolError as error:
            self._marks.append((stage, self.clock()))
            self._end(False, f"{error.code} at stage {error.stage}", (), session.dropped, None)
            return []
        self._next = apply_mean(self.layout, self.state, _means(total))
        self._marks.append((stage, self.clock()))
        loss = float(total.values[METRICS][0] / total.weight)
        self._end(True, "", total.survivors, total.dropped, loss)
        return []

    def _end(
        self,
        released: bool,
        reason: str,
        survivors: tuple[str, ...],
        dropped: Mapping[str, tuple[str, str]],
        loss: float | None,
    ) -> None:
        steps = zip(self._marks, self._marks[1:], strict=False)
        seconds = {stage: end - start for (_, start), (stage, end) in steps}
        seconds["total"] = self._marks[-1][1] - self._marks[0][1]
        self.outcome = RoundOutcome(released, reason, survivors, dict(dropped), seconds, self._up, self._down, loss)

    @property
    def next_state(self) -> State:
        """The released adapter before it is committed.

        Raises:
            RoundError: the round released nothing.
        """
        if self._next is None:
            reason = self.outcome.reason if self.outcome else "the round is not over"
            raise RoundError(
                f"round {self.info.round + 1} released nothing: {reason}",
                remedy="Continue with --resume; the adapter of the round before is kept",
            )
        return self._next

    def commit(self) -> list[Sealed]:
        """Make the released adapter the global one: checkpoint first, then tell the sites."""
        session, state = self._session, self.next_state
        if session is None:
            raise RoundError("no round was run")
        info = AdapterInfo(self.info.study, self.info.method, self.info.round + 1, self.info.backbone)
        digest = self.checkpoints.save(state, info)
        self.state, self.info, self._session, self._next = state, info, None, None
        end = RoundEnd(session.session, "released", bytes.fromhex(digest))
        return self._release(dict.fromkeys(self.roster.roster.names, end))

    def finish(self) -> list[Sealed]:
        """Send every site the final adapter."""
        end = StudyEnd(self.roster.roster.study, "completed", dump_adapter(self.state, self.info))
        return self._release(dict.fromkeys(self.roster.roster.names, end))

    def _release(self, messages: Mapping[str, Message]) -> list[Sealed]:
        parcels = self.gate.release_many(list(messages.items()))
        self._down += sum(len(parcel.wire) for parcel in parcels)
        return parcels


def _before(message: Message, current: SessionId) -> bool:
    """Whether a message belongs to an earlier round or attempt: late, not wrong."""
    session = getattr(message, "session", None)
    if not isinstance(session, SessionId):
        return False
    return (session.round, session.attempt) < (current.round, current.attempt)


def _means(total: SecureSum) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    return {name: values / total.weight for name, values in total.values.items()}
