"""The coordinator's state machine: it hands out the global adapter, collects a secure sum, makes the next adapter.

Bytes in, sealed parcels out. It sees masked vectors and their sum, never a site's update. A round that released
nothing is asked for again by `Coordinator.begin`: while nobody has signed a survivor set, as a new attempt with fresh
keys; after that, in the same session, because every site signs one set a round. Where a study aligns to class means,
their one sum comes before the first round (`Coordinator.means_due`); figures come after the last (`begin_figures`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..privacy.egress import Gate, Sealed
from ..privacy.errors import DecodeError, ProtocolError, Refusal
from ..privacy.messages import (
    STAGE,
    TO_COORDINATOR,
    Agreement,
    Limits,
    Message,
    RoundEnd,
    RoundStart,
    StudyEnd,
    UnmaskAnswer,
    tag_of,
)
from ..privacy.secure_aggregation.coordinator import CoordinatorSession
from ..privacy.secure_aggregation.roster import PinnedRoster
from ..privacy.secure_aggregation.session import Purpose, SessionId, bind
from ..privacy.secure_aggregation.unmasking import SecureSum
from .accusations import Accusations, unopenable
from .adapter_file import AdapterInfo, dump_adapter
from .adapters import State
from .checkpoint import Checkpoints
from .class_means import CLASS_MEANS, PURPOSE, comes_before, means_of
from .cosigning import Cosigning
from .errors import RoundError
from .method_sections import ServerSection
from .released import Released
from .round_outcome import RoundOutcome
from .round_store import RoundStore
from .server import apply_mean, means
from .site_machine import round_settings
from .update import METRICS, Layout

Names = tuple[str, ...]


@dataclass
class Coordinator:
    """One study's coordinator.

    Attributes:
        roster: pinned.
        gate: the only way out; it writes the coordinator's own ledger.
        layout: of the adapter.
        info: study, method and backbone of the adapter; ``round`` counts completed rounds.
        state: the current global adapter.
        server: what is made of the mean update.
        memory: the server optimiser's moments.
        cosigning: has ledgers cosigned after each round; None without.
        constants: what is sent along with every adapter and nobody trains: the class means; empty until they are known.
        figures: the sum of figures that was released last, by block, until `end_figures`; empty otherwise.
        checkpoints: where each round's adapter is kept.
        unfinished: where a round is kept from its survivor set on.
        limits: largest size of each message, to read back what is kept.
        clock: monotonic seconds.
        patience: seconds that one stage of a round waits for silent sites; whoever carries the messages calls
            `expire` when they are over.
        retries: how often a round that released nothing is begun again.
    """

    roster: PinnedRoster
    gate: Gate
    layout: Layout
    info: AdapterInfo
    state: State
    checkpoints: Checkpoints
    unfinished: RoundStore
    limits: Limits
    clock: Callable[[], float]
    patience: float = 600.0
    retries: int = 2
    server: ServerSection = field(default_factory=ServerSection)
    memory: State = field(default_factory=dict)
    constants: State = field(default_factory=dict)
    cosigning: Cosigning | None = None
    figures: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    outcome: RoundOutcome | None = None
    _asking: tuple[Purpose, bytes] | None = None
    _session: CoordinatorSession | None = None
    _released: Released = field(default_factory=Released)
    _marks: list[tuple[str, float]] = field(default_factory=list)
    _accusations: Accusations = field(default_factory=Accusations)
    _begun: int = 0
    _position: tuple[int, int] = (0, 0)
    _taken_up: bool = False
    _up: int = 0
    _down: int = 0

    def begin(self) -> Iterable[Sealed]:
        """Start the next round, or go on with the one that is unfinished, also after a restart."""
        self.outcome, self._released, self.figures, self._up, self._down = None, Released(), {}, 0, 0
        self._marks = [("begin", self.clock())]
        if self.cosigning is not None:
            self.cosigning.abandon()
        self._begun += 1
        self._position = (0 if self.means_due else self.info.round + 1, self._begun - 1)
        if self.layout.constants and not self.means_due:
            self.unfinished.of(PURPOSE).clear()  # the stop came after their checkpoint and before the clearing
        self._taken_up = False
        if self._session is None or not self._session.answerable:
            self._session = self._kept_session()
        if self._session is None:
            return self._new_attempt()
        again = self._session.revive()
        # Where everything had come before the stop, there is nobody to ask and to wait for.
        return self._release(again) if self._session.waiting() else self._close(self._session)

    @property
    def means_due(self) -> bool:
        """Whether the study's class means are still to be summed: what `begin` begins is that sum then, not a round."""
        return bool(self.layout.constants) and not self.constants

    def begin_figures(self, purpose: Purpose, settings: bytes) -> Iterable[Sealed]:
        """Start or go on with a sum of figures of the final adapter; it is what `begin` begins until `end_figures`.

        Args:
            purpose: ``temperature`` or ``evaluation``. settings: what sites must agree on for it.
        """
        self._asking = (purpose, settings)
        return self.begin()

    def end_figures(self) -> None:
        """A sum of figures is over, released or given up: nothing of it is asked again, and nothing of it is kept here.

        Sites are not told: the next sum, or the end of the study, ends what they have open.
        """
        if self._asking is not None:
            self.unfinished.of(self._asking[0]).clear()
        self._asking, self._session, self._begun, self.figures = None, None, 0, {}

    @property
    def purpose(self) -> Purpose:
        """What `begin` sums."""
        return PURPOSE if self.means_due else self._asking[0] if self._asking else "update"

    @property
    def _number(self) -> int:
        """The round of its session: figures belong to the last one, all else to the next."""
        return self.info.round + (self._asking is None)

    @property
    def _store(self) -> RoundStore:
        return self.unfinished if self.purpose == "update" else self.unfinished.of(self.purpose)

    def _kept_session(self) -> CoordinatorSession | None:
        """The session of this round that a stop interrupted after its survivor set was named."""
        session = self._store.load(self.roster, self.limits)
        if session is not None and session.session.round != self._number:
            self._store.clear()  # its adapter was checkpointed; the stop came before the clearing
            return None
        self._taken_up = session is not None
        return session

    def _new_attempt(self) -> list[Sealed]:
        """Fresh keys, the global adapter to every site that is asked."""
        number, purpose = self._number, self.purpose
        named = self._store.named(number)
        asked = named or self._asked()
        attempt = self.checkpoints.next_attempt(number, purpose)
        session = SessionId(self.roster.roster.study, number, purpose, 0, attempt)
        adapter = self.sent(self.state)
        settings = self._asking[1] if self._asking else round_settings(self.info.study, number)
        self._session = CoordinatorSession(self.roster, session, bind(adapter, settings), asked, named)
        return self._release(self._starts(dict.fromkeys(asked, RoundStart(session, adapter, settings))))

    def sent(self, state: State) -> bytes:
        """The bytes of an adapter as sites get it: with the study's constants, zeros before these are known."""
        return dump_adapter({**state, **(self.constants or self.layout.blank())}, self.info)

    def _starts(self, starts: Mapping[str, RoundStart]) -> Mapping[str, Message]:
        """What opens an attempt: the same to every site."""
        return starts

    @property
    def position(self) -> tuple[int, int]:
        """The round begun last (class means: 0; figures: one past the last), and how often it was before, from 0."""
        return self._position

    def _asked(self) -> tuple[str, ...]:
        """All sites, without those whose shares others could not use in this round, where enough are left.

        All other sums are over one cohort, so nobody is left out there.
        """
        if self.purpose != "update":
            return self.roster.roster.evaluation_cohort
        names, left_out = self.roster.roster.names, self._accusations.left_out()
        rest = tuple(name for name in names if name not in left_out)
        enough = sum(name in self.roster.confirmed for name in rest) >= self.roster.roster.thresholds.least
        return rest if enough else names

    @property
    def deadline(self) -> float | None:
        """When the stage under way ends without those still silent, on `clock`; None when nobody is waited for."""
        if self.cosigning is not None and self.cosigning.deadline is not None:
            return self.cosigning.deadline
        return self._marks[-1][1] + self.patience if self._session is not None and self.outcome is None else None

    def expire(self, gone: Collection[str] | None = None) -> Iterable[Sealed]:
        """Go on without the silent ones, or end the attempt with too few.

        Args:
            gone: sites that cannot answer, as their connection says; None: the stage's deadline has passed for all.
        """
        if self.cosigning is not None and self.cosigning.deadline is not None:
            return self.cosigning.expire(gone)
        session = self._session if self.outcome is None else None
        if session is None or (gone is not None and session.waiting().isdisjoint(gone)):
            return []
        for site in sorted(session.waiting() if gone is None else session.waiting() & set(gone)):
            session.drop(site, "timeout")
        return [] if session.waiting() else self._close(session)

    def handle(self, sender: str, wire: bytes) -> Iterable[Sealed]:
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
        if self.cosigning is not None and self.cosigning.concerns(message):
            return self.cosigning.handle(sender, message)
        if session is None or (message is not None and comes_before(message, session.session)):
            return []
        try:
            if message is None:
                self._give_up(session, sender, "malformed")
            elif session.feed(sender, message) and isinstance(message, Agreement | UnmaskAnswer):  # type: ignore[arg-type]
                self._store.save_reply(message)
                if isinstance(message, Agreement) and session.stage == "unmask":  # late, and as good as the others
                    return self._release(session.request([sender]))
        except ProtocolError as error:
            # Whether enough sites are left shows when the stage closes. What is of another stage is a late repetition.
            if message is not None and STAGE[tag_of(message)] in (session.stage, "refusal"):
                self._give_up(session, sender, str(error.code))
        return [] if session.waiting() else self._close(session)

    @staticmethod
    def _give_up(session: CoordinatorSession, sender: str, reason: str) -> None:
        """Drop a site that is waited for; one that was heard keeps its first message."""
        if sender in session.waiting():
            session.drop(sender, reason)

    def _close(self, session: CoordinatorSession) -> Iterable[Sealed]:
        """Everybody of this stage was heard or given up: go on, release, or abort."""
        stage = session.stage
        try:
            if stage == "share":
                deliveries = session.close_share()
                self._marks.append((stage, self.clock()))
                return self._release_each(deliveries)
            if stage != "unmask":
                messages = self._close_stage(session)
                self._marks.append((stage, self.clock()))
                return self._release(messages)
            loss = self._take(session.finish())
        except ProtocolError as error:
            self._marks.append((stage, self.clock()))
            whose = "" if error.site is None else f" ({error.site})"
            self._end(False, f"{error.code} at stage {error.stage}: {error.what}{whose}", (), session.dropped, None)
            if not session.answerable or session.hopeless:
                signed_another = any(why == str(Refusal.SECOND_SURVIVOR_SET) for _, why in session.dropped.values())
                if signed_another and self._store.named(session.session.round) is None:
                    self._store.clear()  # this set can never be signed; the one that was is not known here
                elif session.survivors:
                    self._store.abandon(session.session.round, session.survivors)
                self._session = None
            return []
        self._marks.append((stage, self.clock()))
        self._end(True, "", session.survivors, session.dropped, loss)
        return []

    def _take(self, total: SecureSum) -> float | None:
        """Make of the sum what it is for; the mean training loss where it is of updates.

        Raises:
            ProtocolError: OUT_OF_BOUND, where class sums are none of images.
        """
        if self._asking is not None:
            self.figures = total.values
            return None
        if self.means_due:
            shape, blocks = self.layout.constants[CLASS_MEANS], self.roster.roster.blocks(PURPOSE)
            self._released.constants = {CLASS_MEANS: means_of(total.values, shape, blocks, len(total.survivors))}
            return None
        mean = means(total, self.roster.roster)
        self._released = Released(*apply_mean(self.layout, self.state, mean, self.server, self.memory))
        return float(total.values[METRICS][0] / total.weight) if self.layout.metrics else None

    def _close_stage(self, session: CoordinatorSession) -> Mapping[str, Message]:
        """The requests of the next stage; what a restart needs is on disk before they leave."""
        if session.stage == "advertise":
            return session.close_advertise()
        if session.stage == "mask":
            if self.purpose == "update":
                self._note_accusations(session)
            survivors = session.close_mask()
            self._store.save_session(session)
            return survivors
        return session.close_agree()

    def _note_accusations(self, session: CoordinatorSession) -> None:
        """End the attempt before its survivor set is named, where another can do without who is accused.

        Raises:
            ProtocolError: UNOPENABLE_SHARE, naming the first accused.
        """
        fresh = self._accusations.fresh(session.accused)
        named = self.unfinished.named(session.session.round) is not None
        if fresh and not named and self._begun <= self.retries and len(self._asked()) < len(self.roster.roster.names):
            raise unopenable(fresh)

    def _end(
        self, released: bool, reason: str, survivors: Names, dropped: Mapping[str, tuple[str, str]], loss: float | None
    ) -> None:
        seconds = RoundOutcome.seconds_of(self._marks)
        attempt = self._session.session.attempt if self._session is not None else 0
        self.outcome = RoundOutcome(
            self._taken_up, attempt, released, reason, survivors, dict(dropped), seconds, self._up, self._down, loss
        )

    @property
    def next_state(self) -> State:
        """The released adapter before it is committed; RoundError where there is none."""
        return self._released.state_after(self.info.round + 1, self.outcome)

    @property
    def next_constants(self) -> State:
        """The released class means before they are committed; RoundError where there are none."""
        return self._released.class_means(self.outcome)

    def commit(self) -> list[Sealed]:
        """Make the released adapter the global one: checkpoint first, then tell the sites.

        Class means make the start adapter one that has them: its checkpoint is that of round 0.
        """
        session, done = self._session, self.info.round
        if self.means_due:
            state, constants = self.state, self.next_constants
        else:
            state, constants, done = self.next_state, self.constants, done + 1
        if session is None:
            raise RoundError("no round was run")
        info = AdapterInfo(self.info.study, self.info.method, done, self.info.backbone)
        memory = self._released.memory
        digest = self.checkpoints.save({**state, **constants}, info, memory)
        self._store.clear()
        self._accusations.clear()
        self._begun = 0
        self.state, self.info, self.memory, self.constants = state, info, memory, constants
        self._session, self._released = None, Released()
        end = RoundEnd(session.session, "released", bytes.fromhex(digest))
        if self.cosigning is not None:  # sites answer with the checkpoint of their ledger
            self.cosigning.begin(session.session.round, closing=False)
        return self._release(dict.fromkeys(self.roster.roster.names, end))

    def finish(self, *, aborted: bool = False) -> list[Sealed]:
        """Send every site the final adapter, or none; what was kept of unfinished sums goes, also after a stop."""
        self.unfinished.clear_all()
        self._session = None
        status: Literal["completed", "aborted"] = "aborted" if aborted else "completed"
        end = StudyEnd(self.roster.roster.study, status, b"" if aborted else self.sent(self.state))
        if self.cosigning is not None:  # sites answer with the checkpoint of their ledger
            self.cosigning.begin(self.info.round, closing=True)
        return self._release(dict.fromkeys(self.roster.roster.names, end))

    def _release_each(self, messages: Iterable[tuple[str, Message]]) -> Iterator[Sealed]:
        """Let messages out as they are asked for: n deliveries of n shares each need not be there all at once."""
        for peer, message in messages:
            yield from self._release({peer: message})

    def _release(self, messages: Mapping[str, Message]) -> list[Sealed]:
        parcels = self.gate.release_many(list(messages.items()))
        self._down += sum(len(parcel.wire) for parcel in parcels)
        return parcels
