"""A hospital's state machine: bytes in, sealed parcels out.

It trains when a round starts, follows the five stages of the secure sum, and answers whatever it refuses with a typed
refusal. It knows no engine, opens no connection and reads no pixels. Everything it sends has passed the egress gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..privacy.atomic import canonical_json, write_atomic
from ..privacy.egress import COORDINATOR, Gate, Sealed
from ..privacy.errors import (
    AccountError,
    BudgetError,
    DecodeError,
    EgressRefusedError,
    EncodingError,
    HomeError,
    MechanismError,
    ProtocolError,
    Refusal,
    RosterError,
)
from ..privacy.identity import Identity
from ..privacy.ledger.site_witness import SiteWitness
from ..privacy.messages import (
    REFUSED_AT,
    STAGE,
    TO_SITE,
    AdvertList,
    Batch,
    Cosignature,
    Cosigned,
    MaskedVector,
    Message,
    Receipt,
    RoundEnd,
    RoundStart,
    ShareDelivery,
    StudyEnd,
    SurvivorSet,
    UnmaskRequest,
    tag_of,
)
from ..privacy.secure_aggregation.encoding import encode
from ..privacy.secure_aggregation.memory import SurvivorMemory
from ..privacy.secure_aggregation.primitives import rounding_key
from ..privacy.secure_aggregation.roster import PinnedRoster
from ..privacy.secure_aggregation.session import Binding, Purpose, SessionId, bind
from ..privacy.secure_aggregation.site import SiteSession
from ..privacy.secure_aggregation.statements import refusal
from ..privacy.session_store import SessionStore
from .adapter_file import AdapterInfo, parse_adapter
from .adapters import State
from .class_means import CLASS_MEANS, PURPOSE
from .errors import CheckpointError, MethodError
from .held_out import HELD_OUT, HeldOut
from .held_out_memory import HeldOutMemory
from .lost_state import SURVIVORS_FILE, refuse_loss
from .means_memory import MeansMemory
from .one_off_sums import ClassMeansSum, HeldOutSum, OneOffSum
from .progress import Progress
from .state_files import read_state
from .trainer import LocalTrainer

FINAL_FILE = "adapter.safetensors"


def round_settings(study: str, number: int) -> bytes:
    """What coordinator and sites must agree on for a round, as canonical JSON; no attempt and no deadline in it."""
    return canonical_json({"study": study, "round": number})


@dataclass
class Site:
    """One site in one study.

    Attributes:
        name: as in the roster.
        identity: its signing key.
        roster: pinned.
        gate: the only way out.
        trainer: trains its part and keeps what must survive a restart.
        backbone: fingerprint of the frozen CLIP that its features come from.
        folder: its state folder for this study.
        rounds: number of rounds of the study; it takes part in no later one.
        random: secret uniform bytes (``os.urandom``).
        witness: has this site's ledger cosigned after each round; None without.
        held_out: what its validation and test parts say of the final model; None where no figures are summed.
        clipped: coordinates cut by the clip in the last update, by block; shown locally, never sent.
        failure: why the last round could not be trained or encoded here; shown locally, never sent. Empty otherwise.
        notice: what a person should know of a round that was trained all the same; shown locally, never sent.
    """

    name: str
    identity: Identity
    roster: PinnedRoster
    gate: Gate
    trainer: LocalTrainer
    backbone: str
    folder: Path
    rounds: int
    random: Callable[[int], bytes]
    witness: SiteWitness | None = None
    held_out: HeldOut | None = None
    clipped: dict[str, int] = field(default_factory=dict)
    failure: str = ""
    notice: str = ""

    def __post_init__(self) -> None:
        self._session: SiteSession | None = None
        self._binding: Binding | None = None
        self._encoded: NDArray[np.uint32] | None = None
        self._plain = b""  # SHA-256 of what is to be masked; the ledger commits to it
        roster = self.roster.roster
        self._sums_means = PURPOSE in roster.vectors
        if self._sums_means != (CLASS_MEANS in self.trainer.layout.constants):
            raise RosterError("the roster and this site's study disagree on whether class means are summed")
        if set(roster.vectors) & set(HELD_OUT) != set(self.held_out.layouts if self.held_out else ()):
            raise RosterError("the roster and this site's study disagree on which figures are summed")
        if roster.thresholds.private != (self.trainer.private is not None):
            raise RosterError("the roster and this site's training disagree on differential privacy")
        self._progress = Progress(self.folder)
        member = self.name in roster.evaluation_cohort
        self._means = MeansMemory(self.folder, member)
        self._figures = HeldOutMemory(self.folder, member, self.rounds, self.folder / FINAL_FILE)
        self._once = self._one_off_sums()
        signed = read_state(self.folder / SURVIVORS_FILE)
        refuse_loss(signed, self._progress, self._means, self._figures, sums_means=self._sums_means)
        self._memory = SurvivorMemory(
            signed,
            lambda known: write_atomic(self.folder / SURVIVORS_FILE, canonical_json(known)),
            private=roster.thresholds.private,
        )
        self._store = SessionStore(self.folder, self.identity, roster.study, self.random)
        self._take_up()

    def _one_off_sums(self) -> dict[Purpose, OneOffSum]:
        """What is summed once in this study, beside its rounds."""
        means = self._means if self._sums_means else None
        once: dict[Purpose, OneOffSum] = {}
        if means is not None:
            plain = round_settings(self.roster.roster.study.hex(), 1)
            once[PURPOSE] = ClassMeansSum(means, self.trainer, plain)
        if self.held_out is not None:
            once |= dict.fromkeys(self.held_out.layouts, HeldOutSum(self._figures, self.held_out, means))
        return once

    def _has_memory(self) -> bool:
        return (self.folder / SURVIVORS_FILE).is_file()

    def _take_up(self) -> None:
        """Go on with the session that a stop interrupted after this site had signed its survivor set.

        One that is damaged is set aside: this site then counts as dropped until the next session begins.
        """
        try:
            kept = self._store.load()
            if kept is not None:
                self._session = SiteSession.resume(self.roster, self.identity, self.name, kept, self._store.save)
        except HomeError as error:
            self.failure = str(error)
        except (DecodeError, RosterError) as error:
            self.failure = f"{error} ({self._store.set_aside()})"

    @property
    def last_round(self) -> int:
        """The last round that this site opened a session for; 0 before the first."""
        return self._progress.last()[0]

    def handle(self, wire: bytes) -> tuple[Sealed, ...]:
        """Take one message from the coordinator; returns what is to be sent, at most one parcel.

        Whatever is wrong with a message becomes a refusal with a code; nothing else leaves because of it.

        Raises:
            LedgerError: this site's own ledger cannot be written; nothing was released.
            CheckpointError, OSError: this site's own state is damaged or its disk refuses.
        """
        try:
            message = self.gate.admit(wire, peer=COORDINATOR, expected=TO_SITE)
        except DecodeError:
            live = self._session
            return self._refuse(live.session, Refusal.MALFORMED, live.stage) if live is not None else ()
        if self.witness is not None and self.witness.over and not isinstance(message, StudyEnd | Batch | Cosigned):
            return ()  # nothing of a study leaves after its close but the closing exchange
        session, stage = self._session_of(message), STAGE[tag_of(message)]
        try:
            reply = self._answer(message)
            stage = STAGE["receipt"] if isinstance(reply, Receipt) else stage
            return () if reply is None else (self._release(reply),)
        except ProtocolError as error:
            return self._refuse(session, error.code, stage, error.site)
        except EgressRefusedError as error:
            self.failure = str(error)
            return self._refuse(session, Refusal.POLICY, stage)
        except (MethodError, EncodingError, BudgetError, AccountError, MechanismError) as error:
            # The round cannot be trained or encoded here; the reason is shown at the site and does not leave.
            self.failure = str(error)
            self._end_session()
            return self._refuse(session, Refusal.LOCAL_FAILURE, stage)

    def _release(self, reply: Message) -> Sealed:
        """Let a reply out, with what its entry says of it beside."""
        if isinstance(reply, MaskedVector):
            return self.gate.release(reply, peer=COORDINATOR, plain=self._plain)
        if isinstance(reply, Cosignature) and self.witness is not None:
            return self.gate.release(reply, peer=COORDINATOR, facts=self.witness.facts)
        return self.gate.release(reply, peer=COORDINATOR)

    def _session_of(self, message: Message) -> SessionId | None:
        """The session that a refusal of this message would name; batches belong to the update of their round."""
        if isinstance(message, Batch | Cosigned | StudyEnd):
            return SessionId(message.study, self.rounds if isinstance(message, StudyEnd) else message.round, "update")
        session = getattr(message, "session", None)
        return session if isinstance(session, SessionId) else None

    def _answer(self, message: Message) -> Message | None:
        match message:
            case RoundStart():
                return self._start(message)
            case AdvertList():
                return self._live().share(message)
            case ShareDelivery():
                if self._encoded is None:
                    raise ProtocolError("no update is ready", code=Refusal.OUT_OF_ORDER, stage="mask")
                return self._live().mask(message, self._encoded)
            case SurvivorSet():
                return self._live().agree(message)
            case UnmaskRequest():
                return self._live().unmask(message)
            case RoundEnd():
                if self._session is not None and self._session.session == message.session:
                    self._end_session()
                if message.session.round > max(1, self.last_round):
                    raise ProtocolError("the end of a round to come", code=Refusal.WRONG_SESSION, stage="witness")
                return self.witness.receipt(message.session.round, closing=False) if self.witness else None
            case StudyEnd():
                return self._finish(message)
            case Batch():
                return self._witnessing().cosign(message)
            case Cosigned():
                self._witnessing().keep(message)
        return None

    def _start(self, message: RoundStart) -> Message:
        """Check what was received, train, and open a session with fresh keys."""
        session = message.session
        binding = bind(message.adapter, message.settings)
        if self._session is not None and self._session.session == session:
            if binding != self._binding:
                raise ProtocolError("another start of this session", code=Refusal.CHANGED_REQUEST, stage="start")
            return self._session.advertise()  # asked again: the same advert
        adapter, once = binding.adapter.hex(), self._once.get(session.purpose)
        self._check_session(session, adapter, message.settings)
        # Figures are about the adapter that their round ended with, all else about the one that it began with.
        state = self._global_adapter(message.adapter, session.round - (session.purpose not in HELD_OUT))
        means = ""
        if once is not None:
            once.check_state(state)
        elif self._sums_means:
            means = self._means.check_means(state[CLASS_MEANS], summed=True)
        # Only a start that holds ends what was under way: a replayed one must not cost a running session its keys.
        self._end_session()
        self.failure = self.notice = ""
        if not self._has_memory():
            write_atomic(self.folder / SURVIVORS_FILE, canonical_json({}))  # from here on, its absence is a loss
        blocks: Mapping[str, NDArray[np.floating]]
        if once is None:
            blocks = self._trained(session, adapter, state, means)
        else:
            blocks = once.blocks(session, state, message.settings)
        roster = self.roster.roster
        rounding = rounding_key(session, self.name)
        encoded = encode(blocks, roster.blocks(session.purpose), roster.weight_of(self.name), rounding)
        self.clipped = dict(encoded.clipped)
        self._plain = sha256(encoded.words.data).digest()
        if once is None:
            self._progress.same_vector(self._plain.hex())
        else:
            once.enter(session, adapter, message.settings, self._plain.hex())
        opened = SiteSession(
            self.roster, self.identity, self.name, session, binding, self.random, self._memory, self._store.save
        )
        advert = opened.advertise()
        self._session, self._binding, self._encoded = opened, binding, encoded.words
        return advert

    def _trained(
        self, session: SessionId, adapter: str, state: State, means: str
    ) -> Mapping[str, NDArray[np.floating]]:
        """Enter the round, on disk, and train; the update's blocks."""
        if self._sums_means:
            self._means.keep_means(means)
        followed = self._progress.enter(session, adapter)
        if followed and not self.trainer.keeps(session.round - 1):
            self.notice = (
                f"the stored update of round {session.round - 1} is gone, and {self.trainer.carries} with it: round "
                f"{session.round} was trained without them, and the adapter differs from that of an undisturbed run"
            )
        return self.trainer.update(session.round, state, adapter).blocks

    def _check_session(self, session: SessionId, adapter: str, settings: bytes) -> None:
        """Rounds and attempts only go up, and all attempts at a round are about one adapter.

        An older one, or the same round from other bytes, would let a coordinator ask for a second sum of one update.
        """
        known = {"update", *self._once}
        if session.study != self.roster.roster.study or session.purpose not in known or session.sequence != 0:
            raise ProtocolError("a session of another study", code=Refusal.WRONG_SESSION, stage="start")
        before = self._progress.last()
        once = self._once.get(session.purpose)
        if once is not None:
            once.check(session, adapter, settings, before[0])
            return
        if session.round > self.rounds or self._figures.begun:
            raise ProtocolError("a round beyond the study's last", code=Refusal.WRONG_SESSION, stage="start")
        if session.round < 1 or (session.round, session.attempt) <= before[:2]:
            raise ProtocolError(
                f"round {session.round}, attempt {session.attempt} is not after round {before[0]}, attempt {before[1]}",
                code=Refusal.WRONG_SESSION,
                stage="start",
            )
        if session.round == before[0] and adapter != before[2]:
            raise ProtocolError("another adapter in the same round", code=Refusal.OTHER_ADAPTER, stage="start")
        if settings != round_settings(session.study.hex(), session.round):
            raise ProtocolError("other round settings than the study's", code=Refusal.OTHER_ADAPTER, stage="start")

    def _global_adapter(self, data: bytes, rounds: int) -> State:
        """The received adapter, if it is this study's, of this method and backbone, after ``rounds`` rounds."""
        try:
            state, info = parse_adapter(data, where="the coordinator's message")
            if info != AdapterInfo(self.roster.roster.study.hex(), self.trainer.method.name, rounds, self.backbone):
                raise CheckpointError("the adapter is of another study, method, round or backbone")
            self.trainer.layout.check(state)
        except CheckpointError as error:
            raise ProtocolError(str(error), code=Refusal.OTHER_ADAPTER, stage="start") from None
        return state

    def _finish(self, message: StudyEnd) -> Message | None:
        """Keep the final adapter, which is the one after the study's last round, and forget the updates behind it.

        Updates go only when this site has entered the last round: a coordinator that ended a study early could
        otherwise have a round trained anew, without the moments that its first update came from.
        """
        if message.status == "completed":
            final = self._global_adapter(message.adapter, self.rounds)
            if self._sums_means:
                self._means.check_means(final[CLASS_MEANS], summed=True)
            path = self.folder / FINAL_FILE
            figured = self._figures.adapter
            if path.is_file() and path.read_bytes() != message.adapter:
                raise ProtocolError("another final adapter", code=Refusal.CHANGED_REQUEST, stage="start")
            if figured and figured != sha256(message.adapter).hexdigest():
                raise ProtocolError("not the adapter of the figures", code=Refusal.CHANGED_REQUEST, stage="start")
            write_atomic(path, message.adapter)
            self.trainer.keep_personal(final)  # also of a site that missed the last rounds: from what it kept
            if self.last_round >= self.rounds or self._figures.begun:
                self.trainer.forget()
        self._end_session()
        if self.witness is None:
            return None
        self.witness.close_study()
        return self.witness.receipt(self.last_round if message.status == "aborted" else self.rounds, closing=True)

    def _witnessing(self) -> SiteWitness:
        if self.witness is None:
            raise ProtocolError("no ledger is cosigned here", code=Refusal.OUT_OF_ORDER, stage="witness")
        return self.witness

    def _live(self) -> SiteSession:
        if self._session is None:
            raise ProtocolError("no session is open", code=Refusal.OUT_OF_ORDER, stage="start")
        return self._session

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.erase()
        self._store.erase()
        self._session, self._encoded = None, None

    def _refuse(
        self, session: SessionId | None, code: Refusal, stage: str, peer: str | None = None
    ) -> tuple[Sealed, ...]:
        """A refusal of what was asked in ``session`` at ``stage``; without a session there is nothing to answer to."""
        if session is None or stage not in REFUSED_AT or (self.witness is not None and not self.witness.may_refuse):
            return ()
        refused = ProtocolError("refused", code=code, stage=stage, site=peer)
        notice = refusal(session, self.name, refused, self.roster)
        try:
            return (self.gate.release(notice, peer=COORDINATOR),)
        except EgressRefusedError:
            return ()  # the policy lets no refusal out; that is in the ledger
