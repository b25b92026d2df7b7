"""What one secure sum costs at a site and at the coordinator, beside the primitives that it cannot do without.

Protocol and primitives are timed in the same process and in turn, so that a busy machine slows both; the figures to
look at are the ratios. Not in them: hashing the adapter, disk, ledger, wire codec and transport.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from ..privacy.identity import Identity
from ..privacy.messages import Message
from ..privacy.messages import encode as encode_message
from ..privacy.secure_aggregation import primitives
from ..privacy.secure_aggregation.coordinator import CoordinatorSession
from ..privacy.secure_aggregation.encoding import encode
from ..privacy.secure_aggregation.packing import add_packed, pack
from ..privacy.secure_aggregation.parameters import RING_BITS, Block, choose_thresholds
from ..privacy.secure_aggregation.roster import PinnedRoster, Roster, RosterSite
from ..privacy.secure_aggregation.session import SessionId, bind
from ..privacy.secure_aggregation.site import SiteSession
from ..privacy.secure_aggregation.unmasking import SecureSum
from .errors import PlatformError

DIM = 526_336
CLIP = 1.0
PACKED_CLIP = 2.0**-6
FRACTION_BITS = 20
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class SecureAggregationBench:
    """Medians over the repetitions; times in milliseconds.

    Attributes:
        sites, dim, dropouts, bits: what was measured; dropped sites share and then send no vector.
        site_ms: one site in all its stages, median over sites too.
        site_floor_ms: per peer two exchanges, two key derivations, one verification of its advert and one of its
            dealing; a verification of t - 1 agreements; n mask expansions and additions; one encoding (and packing).
        site_ratio: median of the quotients, each of a round and the floor measured next to it.
        coordinator_ms: the coordinator in all stages.
        coordinator_floor_ms: one verification of each message, one addition a vector, one expansion and subtraction a
            mask that is taken off, and an exchange and derivation for each pair mask of a dropped site.
        coordinator_ratio: likewise.
        round_ms: all sites and the coordinator, one after the other.
        bytes_up: wire bytes of all messages of one site.
        bytes_up_ratio: to 4 bytes a coordinate.
        max_error: largest distance between the mean and the float64 mean of the survivors' vectors.
        bit_exact: whether the unmasked sum is the plain sum of the encodings, word for word.
        peer_ms: a peer's round on the same vectors, and ``peer_ratio`` to round_ms; None when not asked for.
    """

    sites: int
    dim: int
    dropouts: int
    bits: int
    site_ms: float
    site_floor_ms: float
    site_ratio: float
    coordinator_ms: float
    coordinator_floor_ms: float
    coordinator_ratio: float
    round_ms: float
    bytes_up: int
    bytes_up_ratio: float
    max_error: float
    bit_exact: bool
    peer_ms: float | None = None
    peer_ratio: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The figures under the names that ``--json`` prints; the peer's only where it was asked for."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class _Clock:
    """Adds up the seconds of one party."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        began = time.perf_counter()
        try:
            return work(*arguments)
        finally:
            self.seconds += time.perf_counter() - began


@dataclass(frozen=True, slots=True)
class _Group:
    roster: PinnedRoster
    identities: Mapping[str, Identity]
    vectors: Mapping[str, NDArray[np.float32]]
    dropped: frozenset[str]


def measure(
    sites: int = 16,
    dim: int = DIM,
    dropouts: int = 0,
    bits: int = RING_BITS,
    *,
    repeats: int | None = None,
    peer: Callable[[list[NDArray[np.float32]], int], float] | None = None,
) -> SecureAggregationBench:
    """Measure rounds of a uniform study on random vectors.

    Args:
        sites: n, 3..1000.
        dim: coordinates of a vector, >= 1.
        dropouts: sites that share and then fall silent; enough must be left. With one of three sites, the roster says
            that training is differentially private, because only then may a sum be over two.
        bits: 32 for the full ring, or 8..24 value bits.
        repeats: rounds that are measured; None for as many as take a few seconds.
        peer: gives the milliseconds of another implementation's round on the same vectors and threshold.

    Raises:
        PlatformError: an argument is out of its range.
        ParameterError: bits and sites do not fit.
    """
    group = _enrol(sites, dim, dropouts, bits)
    times = repeats or max(3, min(15, 60 // sites))
    rounds, floors = [], []
    for number in range(times + 1):
        played = _round(group, number)
        floor = _floors(group)
        if number:  # the first one allocates and warms up
            rounds.append(played)
            floors.append(floor)
    site = statistics.median(played.site for played in rounds)
    coordinator = statistics.median(played.coordinator for played in rounds)
    site_floor, coordinator_floor = (statistics.median(pair[i] for pair in floors) for i in (0, 1))
    whole = statistics.median(played.whole for played in rounds)
    peer_ms = peer(list(group.vectors.values()), group.roster.roster.thresholds.t) if peer is not None else None
    last = rounds[-1]
    return SecureAggregationBench(
        sites=sites,
        dim=dim,
        dropouts=dropouts,
        bits=bits,
        site_ms=site,
        site_floor_ms=site_floor,
        site_ratio=_paired([played.site for played in rounds], [floor[0] for floor in floors]),
        coordinator_ms=coordinator,
        coordinator_floor_ms=coordinator_floor,
        coordinator_ratio=_paired([played.coordinator for played in rounds], [floor[1] for floor in floors]),
        round_ms=whole,
        bytes_up=last.bytes_up,
        bytes_up_ratio=last.bytes_up / (4 * dim),
        max_error=max(played.error for played in rounds),
        bit_exact=all(played.exact for played in rounds),
        peer_ms=peer_ms,
        peer_ratio=None if peer_ms is None else peer_ms / whole,
    )


def _paired(protocol: list[float], floor: list[float]) -> float:
    """Median of the quotients of neighbouring measurements: what slows both leaves it as it is."""
    return statistics.median(a / b for a, b in zip(protocol, floor, strict=True))


def _enrol(sites: int, dim: int, dropouts: int, bits: int) -> _Group:
    if sites < 3 or dim < 1 or dropouts < 0:
        raise PlatformError(
            f"cannot measure {sites} sites, {dim} coordinates and {dropouts} dropouts",
            remedy="Use at least 3 sites and 1 coordinate",
        )
    private = sites == 3 and dropouts == 1
    thresholds = choose_thresholds(sites, m=2 if private else None, private=private)
    if sites - dropouts < thresholds.least:
        raise PlatformError(
            f"{sites - dropouts} of {sites} sites cannot release a sum; at least {thresholds.least} must be left",
            remedy=f"Use at most {sites - thresholds.least} dropouts",
        )
    names = [f"site-{i:03d}" for i in range(sites)]
    identities = {name: Identity.from_seed(os.urandom(32)) for name in names}
    clip, fraction = (CLIP, FRACTION_BITS)
    if bits != RING_BITS:
        clip = PACKED_CLIP
        fraction = max(f for f in range(31) if int(clip * 2**f) < 2 ** (bits - 1))
    roster = Roster(
        os.urandom(32),
        tuple(RosterSite(name, identities[name].public_key.hex(), 100) for name in names),
        thresholds,
        {"update": (Block("update", dim, clip, fraction, bits=bits),)},
        weighting="uniform",
    )
    signatures = {name: roster.sign(identity, name, private=private) for name, identity in identities.items()}
    draw = np.random.default_rng(0)
    vectors = {name: (draw.standard_normal(dim, dtype=np.float32) * (clip / 8)).clip(-clip, clip) for name in names}
    # Spread over the roster, so that dropped sites have survivors on either side.
    gone = frozenset(names[(2 * i + 1) * sites // (2 * dropouts)] for i in range(dropouts))
    return _Group(roster.pin(signatures, names), identities, vectors, gone)


@dataclass(frozen=True, slots=True)
class _Played:
    site: float
    coordinator: float
    whole: float
    bytes_up: int
    error: float
    exact: bool


def _round(group: _Group, number: int) -> _Played:
    """One round between honest parties, every party on a clock of its own."""
    roster = group.roster.roster
    session, binding = SessionId(roster.study, number + 1, "update"), bind(b"adapter", b"{}")
    blocks = roster.blocks("update")
    clocks = {name: _Clock() for name in roster.names}
    own = _Clock()
    parties = {
        name: clocks[name].run(SiteSession, group.roster, identity, name, session, binding, os.urandom)
        for name, identity in group.identities.items()
    }
    coordinator = own.run(CoordinatorSession, group.roster, session, binding)
    plain: NDArray[np.uint32] = np.zeros(roster.size("update"), dtype="<u4")
    sent = dict.fromkeys(roster.names, 0)

    def deliver(name: str, message: Message) -> None:
        sent[name] += len(encode_message(message))
        own.run(coordinator.feed, name, message)

    for name, party in parties.items():
        deliver(name, clocks[name].run(party.advertise))
    for name, adverts in own.run(coordinator.close_advertise).items():
        deliver(name, clocks[name].run(parties[name].share, adverts))
    deliveries = own.run(lambda: dict(coordinator.close_share()))
    for name, delivery in deliveries.items():
        if name in group.dropped:
            continue
        key = primitives.rounding_key(session, name)
        encoded = clocks[name].run(encode, {"update": group.vectors[name]}, blocks, 1.0, key).words
        np.add(plain, encoded, out=plain)
        deliver(name, clocks[name].run(parties[name].mask, delivery, encoded))
    for name, survivors in own.run(coordinator.close_mask).items():
        deliver(name, clocks[name].run(parties[name].agree, survivors))
    for name, request in own.run(coordinator.close_agree).items():
        deliver(name, clocks[name].run(parties[name].unmask, request))
    total: SecureSum = own.run(coordinator.finish)
    alive = [name for name in roster.names if name not in group.dropped]
    mean = np.mean([group.vectors[name].astype(np.float64) for name in alive], axis=0)
    error = float(np.abs(total.values["update"] / total.weight - mean).max())
    seconds = [clocks[name].seconds for name in alive]
    whole = own.seconds + sum(clock.seconds for clock in clocks.values())
    return _Played(
        site=statistics.median(seconds) * 1e3,
        coordinator=own.seconds * 1e3,
        whole=whole * 1e3,
        bytes_up=max(sent.values()),
        error=error,
        exact=bool(np.array_equal(total.ring, plain)) and total.survivors == tuple(alive),
    )


def _milliseconds(work: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times * 1e3


def _floors(group: _Group) -> tuple[float, float]:
    """Milliseconds of the primitives alone: of one site, and of the coordinator."""
    roster = group.roster.roster
    n, t, size, block = len(roster.names), roster.thresholds.t, roster.size("update"), roster.blocks("update")[0]
    gone = len(group.dropped)
    alive, ring = n - gone, block.ring(n)
    one, other = X25519PrivateKey.generate(), X25519PrivateKey.generate().public_key()
    signer, statement = Ed25519PrivateKey.generate(), os.urandom(300)
    signature, public = signer.sign(statement), signer.public_key()
    key = os.urandom(32)
    words: NDArray[np.uint32] = np.zeros(size, dtype="<u4")
    vector = next(iter(group.vectors.values()))
    exchange = _milliseconds(lambda: one.exchange(other), 20)
    derive = _milliseconds(lambda: primitives.derive(key, statement), 20)
    verify = _milliseconds(lambda: public.verify(signature, statement), 20)
    masks = min(n, 16)  # many masks on one vector, as both sides apply them
    mask = _milliseconds(lambda: primitives.apply_masks(words, [key] * masks, []), 2) / masks
    fixed = _milliseconds(lambda: encode({"update": vector}, (block,), 1.0, key), 2)
    wires = [pack(words, ring) for _ in range(masks)]  # each vector comes from memory, not from a cache
    packing = _milliseconds(lambda: pack(words, ring), 2) if block.packed else 0.0

    def add_all() -> None:
        for wire in wires:
            add_packed(memoryview(wire), ring, words)

    add = _milliseconds(add_all, 1) / masks
    site = n * mask + fixed + packing + (n - 1) * 2 * (exchange + derive + verify) + (t - 1) * verify
    coordinator = (
        alive * (add + mask)
        + gone * alive * (mask + exchange + derive)
        + (2 * n + 3 * alive) * verify  # adverts and dealings of all; vectors, agreements and answers of survivors
    )
    return site, coordinator
