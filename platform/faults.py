"""Scripted faults of a simulation: sites that fall silent or answer late, a coordinator that lies, a site that cheats.

A lying coordinator is this one with some messages changed before they pass its own gate; a cheating site likewise.
Nothing in ``privacy`` is switched off for them: what refuses their messages is what refuses them in earnest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import torch

from ..privacy.messages import (
    STAGE,
    AdvertList,
    Message,
    RoundStart,
    SealedShares,
    SurvivorSet,
    UnmaskAnswer,
    UnmaskRequest,
)
from ..privacy.secure_aggregation import primitives, statements
from ..privacy.secure_aggregation.coordinator import CoordinatorSession
from .coordinator import Coordinator
from .faults_section import FaultsSection, Lie, ShareFault
from .site_machine import Site

# The stage that a request opens at a site, in the order of a round; what comes after the last is never answered.
_ASKED = {
    "round-start": "advertise",
    "advert-list": "share",
    "share-delivery": "mask",
    "survivor-set": "agree",
    "unmask-request": "unmask",
}
_ORDER = ("advertise", "share", "mask", "agree", "unmask", "end")


class SimulatedClock:
    """Monotonic seconds that can be put forward.

    Attributes:
        skipped: seconds that were waited in the simulation only.
    """

    def __init__(self) -> None:
        self.skipped = 0.0

    def __call__(self) -> float:
        """Seconds since some fixed moment, what was skipped included."""
        return time.monotonic() + self.skipped

    def put_forward(self, when: float) -> None:
        """Stand at ``when``, unless it is past it."""
        self.skipped += max(0.0, when - self())


@dataclass
class ScriptedNetwork:
    """A network that loses and delays what the study's script says; an `engines.local.Network`.

    Attributes:
        script: the faults.
        coordinator: tells which round and try is under way.
        clock: the coordinator's.
    """

    script: FaultsSection
    coordinator: Coordinator
    clock: SimulatedClock

    def reaches(self, site: str, tag: str) -> bool:
        """False from the stage on at which the script drops the site, until the round's next try."""
        stage = _ASKED.get(tag, "end")
        return not any(
            _ORDER.index(stage) >= _ORDER.index(fault.stage)
            for fault in self.script.drop
            if fault.site == site and fault.applies(*self.coordinator.position)
        )

    def delay(self, site: str, tag: str) -> float:
        """The script's delay of this site's message of this stage, in seconds; 0 where there is none."""
        return sum(
            fault.seconds
            for fault in self.script.slow
            if (fault.site, fault.stage) == (site, STAGE[tag]) and fault.applies(*self.coordinator.position)
        )

    def now(self) -> float:
        """Seconds on the coordinator's clock."""
        return self.clock()

    def wait_until(self, when: float) -> None:
        """Put the clock forward."""
        self.clock.put_forward(when)


@dataclass
class LyingCoordinator(Coordinator):
    """A coordinator that tells the script's lies, each once in the try it is scripted for, and then carries on.

    Attributes:
        script: the lies.
        told: what it did, for whoever watches: (round, lie).
    """

    script: FaultsSection = field(default_factory=FaultsSection)
    told: list[tuple[int, Lie]] = field(default_factory=list)
    _last: tuple[int, int, Lie] | None = None

    def _lie(self, *, of: frozenset[Lie]) -> Lie | None:
        """The lie to tell now; None when there is none, or when it was told in this try."""
        number, attempt = self.position
        for fault in self.script.lying_coordinator:
            if fault.lie in of and fault.applies(number, attempt) and self._last != (number, attempt, fault.lie):
                self._last = (number, attempt, fault.lie)
                self.told.append((number, fault.lie))
                return fault.lie
        return None

    def _starts(self, starts: Mapping[str, RoundStart]) -> Mapping[str, Message]:
        """Two adapters: the true one for the first site only, a dead one for all others."""
        if self._lie(of=frozenset({"two-adapters"})) is None:
            return starts
        dead = self.sent({name: torch.zeros_like(tensor) for name, tensor in self.state.items()})
        first = min(starts)
        return {
            name: start if name == first else msgspec.structs.replace(start, adapter=dead)
            for name, start in starts.items()
        }

    def _close_stage(self, session: CoordinatorSession) -> Mapping[str, Message]:
        of: dict[str, frozenset[Lie]] = {
            "advertise": frozenset({"substituted-key"}),
            "mask": frozenset({"small-cohort", "two-survivor-sets"}),
            "agree": frozenset({"changed-unmask"}),
        }
        lie = self._lie(of=of.get(session.stage, frozenset()))
        honest = super()._close_stage(session)
        return honest if lie is None else {name: _twisted(lie, name, honest) for name in honest}


def _twisted(lie: Lie, to: str, honest: Mapping[str, Message]) -> Message:
    """What the liar sends to ``to`` in the place of its honest message."""
    message, names = honest[to], sorted(honest)
    if isinstance(message, AdvertList):
        # The mask key of one site is the liar's own, so that it would know that site's pair mask.
        forged = tuple(
            msgspec.structs.replace(advert, mask_key=os.urandom(32)) if advert.site == names[-1] else advert
            for advert in message.adverts
        )
        return msgspec.structs.replace(message, adverts=forged)
    if isinstance(message, SurvivorSet) and lie == "small-cohort":
        other = names[0] if to != names[0] else names[1]
        return msgspec.structs.replace(message, survivors=tuple(sorted((to, other))))
    if isinstance(message, SurvivorSet):
        # One half signs the set with the last site, the other half the set without it.
        without = names.index(to) < len(names) // 2
        return msgspec.structs.replace(message, survivors=message.survivors[:-1]) if without else message
    if isinstance(message, UnmaskRequest):
        return msgspec.structs.replace(message, survivors=message.survivors[1:])
    return message


@dataclass
class DishonestSite(Site):
    """A site that cheats with shares in the rounds that the script names.

    Attributes:
        script: what it does.
    """

    script: tuple[ShareFault, ...] = ()

    def _fault(self, session_round: int, attempt: int) -> str:
        return next((fault.kind for fault in self.script if fault.applies(session_round, attempt)), "")

    def _answer(self, message: Message) -> Message | None:
        session = self._session
        in_round = session is not None and session.session.purpose == "update"
        kind = self._fault(session.session.round, session.session.attempt) if session is not None and in_round else ""
        if session is not None and kind == "secret" and isinstance(message, AdvertList):
            secrets = session._secrets  # a cheat reaches into its own state
            if secrets is not None and session.stage == "share":
                secrets.b = os.urandom(32)  # deals shares of something else than it committed to
        reply = super()._answer(message)
        context = statements.signing_context(self.roster, session.session) if session is not None else None
        if context is None:
            return reply
        if kind == "dealt" and isinstance(reply, SealedShares) and isinstance(message, AdvertList):
            victim = next(share.site for share in reply.shares if share.site != self.name)
            shares = tuple(
                msgspec.structs.replace(share, box=_flipped(share.box)) if share.site == victim else share
                for share in reply.shares
            )
            content = (statements.adverts_digest(message.adverts), statements.tree_of(shares).root)
            signature = self.identity.sign(primitives.LABEL_SHARES, context, self.name, *content)
            return msgspec.structs.replace(reply, shares=shares, signature=signature)
        if kind == "opened" and isinstance(reply, UnmaskAnswer):
            first = msgspec.structs.replace(reply.shares[0], share=_flipped(reply.shares[0].share))
            opened = (first, *reply.shares[1:])
            parts = statements.answer_parts(opened)
            signature = self.identity.sign(primitives.LABEL_ANSWER, context, self.name, *parts)
            return msgspec.structs.replace(reply, shares=opened, signature=signature)
        return reply


def _flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])
