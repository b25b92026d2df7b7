"""A small consortium with reproducible keys, and drivers that play a session; shared by the tests of this folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray
from wardround.privacy.identity import Identity
from wardround.privacy.messages import (
    TO_COORDINATOR,
    TO_SITE,
    Limits,
    Message,
    decode,
    encode,
)
from wardround.privacy.secure_aggregation import encoding
from wardround.privacy.secure_aggregation.coordinator import CoordinatorSession
from wardround.privacy.secure_aggregation.memory import SurvivorMemory
from wardround.privacy.secure_aggregation.parameters import Block, choose_thresholds
from wardround.privacy.secure_aggregation.roster import PinnedRoster, Roster, RosterSite
from wardround.privacy.secure_aggregation.session import Binding, Purpose, SessionId, bind
from wardround.privacy.secure_aggregation.site import SiteSession
from wardround.privacy.secure_aggregation.unmasking import SecureSum

STUDY = hashlib.sha256(b"a study").digest()
BINDING = bind(b"adapter", b"{}")


def randomness(seed: str) -> Callable[[int], bytes]:
    """A reproducible stream of bytes: SHAKE-256 of a seed and a counter."""
    state = {"calls": 0}

    def draw(count: int) -> bytes:
        state["calls"] += 1
        return hashlib.shake_256(f"{seed}/{state['calls']}".encode()).digest(count)

    return draw


def site_names(n: int) -> tuple[str, ...]:
    return tuple(f"site-{i:03d}" for i in range(n))


@dataclass
class Consortium:
    """n sites with pinned roster; ``session`` and the session objects of one secure sum."""

    n: int
    blocks: tuple[Block, ...] = (Block("update", 5, 1.0), Block("counts", 3, 100.0, 0, weighted=False))
    samples: Sequence[int] | None = None
    weighting: str = "weighted"
    t: int | None = None
    m: int | None = None
    purpose: Purpose = "update"
    confirmed: Sequence[str] | None = None
    identities: dict[str, Identity] = field(init=False)
    roster: Roster = field(init=False)
    pinned: PinnedRoster = field(init=False)

    def __post_init__(self) -> None:
        names = site_names(self.n)
        self.identities = {name: Identity.from_seed(hashlib.sha256(name.encode()).digest()) for name in names}
        counts = self.samples or [100 + 10 * i for i in range(self.n)]
        sites = tuple(
            RosterSite(name, self.identities[name].public_key.hex(), count)
            for name, count in zip(names, counts, strict=True)
        )
        self.roster = Roster(
            STUDY,
            sites,
            choose_thresholds(self.n, t=self.t, m=self.m),
            {"update": self.blocks, "evaluation": self.blocks},
            weighting=self.weighting,  # type: ignore[arg-type]
        )
        self.pinned = self.pin()

    def pin(self, confirmed: Sequence[str] | None = None) -> PinnedRoster:
        signatures = {name: self.roster.sign(identity, name) for name, identity in self.identities.items()}
        return self.roster.pin(signatures, confirmed or self.confirmed or self.roster.names)

    @property
    def limits(self) -> Limits:
        return Limits(self.n, self.roster.wire_size("update"), 1 << 20)

    def session_id(self, round_: int = 0, attempt: int = 0) -> SessionId:
        return SessionId(STUDY, round_, self.purpose, 0, attempt)

    def site(
        self,
        name: str,
        *,
        session: SessionId | None = None,
        binding: Binding = BINDING,
        memory: SurvivorMemory | None = None,
        pinned: PinnedRoster | None = None,
        seed: str = "",
    ) -> SiteSession:
        session = session or self.session_id()
        draw = randomness(f"{seed}/{name}/{session}")
        return SiteSession(pinned or self.pinned, self.identities[name], name, session, binding, draw, memory)

    def play(self, session: SessionId | None = None, memories: Mapping[str, SurvivorMemory] | None = None) -> Play:
        session = session or self.session_id()
        sites = {
            name: self.site(name, session=session, memory=(memories or {}).get(name)) for name in self.roster.names
        }
        return Play(self, sites, CoordinatorSession(self.pinned, session, BINDING))


@dataclass
class Play:
    """One session between honest parties; every message goes through the wire format."""

    consortium: Consortium
    sites: dict[str, SiteSession]
    coordinator: CoordinatorSession
    out: dict[str, Mapping[str, Message]] = field(default_factory=dict)

    def wire(self, message: Message, to_site: bool) -> Message:
        return decode(encode(message), TO_SITE if to_site else TO_COORDINATOR, self.consortium.limits)

    def advertise(self, names: Sequence[str] | None = None) -> None:
        for name in names or list(self.sites):
            self.coordinator.feed(name, self.wire(self.sites[name].advertise(), False))
        self.out["share"] = self.coordinator.close_advertise()

    def stage(
        self,
        stage: str,
        names: Sequence[str] | None = None,
        words: Mapping[str, NDArray] | None = None,
        close: bool = True,
    ) -> None:
        """Answer the open requests of a stage by ``names`` and close it; leaves the next requests in ``out``."""
        for name, request in self.out[stage].items():
            if names is not None and name not in names:
                continue
            extra = () if words is None else (words[name].copy(),)
            reply = getattr(self.sites[name], stage)(self.wire(request, True), *extra)
            self.coordinator.feed(name, self.wire(reply, False))
        closing = {
            "share": ("close_share", "mask"),
            "mask": ("close_mask", "agree"),
            "agree": ("close_agree", "unmask"),
        }
        if close and stage in closing:
            method, following = closing[stage]
            self.out[following] = dict(getattr(self.coordinator, method)())

    def upto(self, stage: str, words: Mapping[str, NDArray] | None = None) -> None:
        """Play honestly until the requests of ``stage`` are open."""
        words = words or self.words()
        order = ["share", "mask", "agree", "unmask"]
        self.advertise()
        for name in order[: order.index(stage)]:
            self.stage(name, words=words if name == "mask" else None)

    def words(self, seed: int = 0) -> dict[str, NDArray[np.uint32]]:
        """Random encodings, one a site."""
        draw = np.random.default_rng(seed)
        roster = self.consortium.roster
        made = {}
        for name in self.sites:
            parts = {b.name: draw.uniform(-b.clip, b.clip, b.size) for b in roster.blocks("update")}
            made[name] = encoding.encode(parts, roster.blocks("update"), roster.weight_of(name), bytes(32)).words
        return made

    def whole(self, words: Mapping[str, NDArray] | None = None, **present: Sequence[str]) -> SecureSum:
        """The whole session; ``present`` limits who answers a stage (advertise, share, mask, agree, unmask)."""
        words = words or self.words()
        self.advertise(present.get("advertise"))
        for stage in ("share", "mask", "agree", "unmask"):
            self.stage(stage, present.get(stage), words if stage == "mask" else None)
        return self.coordinator.finish()


@pytest.fixture
def new_consortium() -> type[Consortium]:
    """The class itself, because each test wants its own number of sites and bounds."""
    return Consortium
