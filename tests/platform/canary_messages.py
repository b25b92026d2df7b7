"""What may stand in a message of a study: every field of every type has a rule here, and there is no default.

A field without a rule, a value of another type or size, or bytes that nothing public explains, is a complaint.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2
from wardround.platform.adapter_file import AdapterInfo, dump_adapter, parse_adapter
from wardround.platform.errors import CheckpointError
from wardround.platform.held_out import HELD_OUT, settings_of, temperature_at
from wardround.platform.site_machine import round_settings
from wardround.privacy import message_types as t
from wardround.privacy import messages as m
from wardround.privacy.errors import Refusal
from wardround.privacy.secure_aggregation.packing import add_packed, packed_bytes, padding_is_zero
from wardround.privacy.secure_aggregation.roster import Roster
from wardround.privacy.secure_aggregation.session import SessionId

COORDINATOR = "coordinator"


@dataclass(frozen=True)
class Known:
    """What everybody may know of a study, and so may stand in its messages.

    Attributes:
        roster: of the study, whose hash is in it.
        method, backbone, rounds: of every adapter.
        shapes: of the tensors of the global adapter, by name.
        start: bytes of the adapter before round 1 (before the class means, where there are any).
        tries: how often a round was begun at most.
        limits: largest size of each message.
        clock: seconds since 1970 between which the study ran.
        digests: SHA-256 of every captured message.
        entries: size of the longest ledger.
        keys: public keys and commitments of all sessions, and the parties' public keys.
        lies: whether the coordinator was told to send a forged key.
    """

    roster: Roster
    method: str
    backbone: str
    rounds: int
    shapes: Mapping[str, tuple[int, ...]]
    start: bytes
    tries: int
    limits: m.Limits
    clock: tuple[float, float]
    digests: frozenset[bytes]
    entries: int
    keys: frozenset[bytes]
    lies: bool = False
    released: dict[int, set[bytes]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the sites."""
        return self.roster.names


Rule = Callable[[Any, "Known", m.Message], bool]


def _is(kind: type, holds: Callable[[Any, Known], bool]) -> Rule:
    return lambda value, known, whole: type(value) is kind and holds(value, known)


def _bytes(size: int) -> Rule:
    return _is(bytes, lambda value, known: len(value) == size)


def _steps(most: Callable[[Known], float]) -> Rule:
    return _is(bytes, lambda value, known: len(value) % 32 == 0 and len(value) <= 32 * most(known))


def _count(most: Callable[[Known], float], least: int = 0) -> Rule:
    return _is(int, lambda value, known: least <= value <= most(known))


def _one_of(*allowed: str) -> Rule:
    return _is(str, lambda value, known: value in allowed)


STUDY: Rule = _is(bytes, lambda value, known: value == known.roster.study)
NAME: Rule = _is(str, lambda value, known: value in known.names)
PEER: Rule = _is(str, lambda value, known: value in ("", *known.names))
HASH, SIGNATURE, SHARE = _bytes(32), _bytes(64), _bytes(33)
KEY: Rule = _is(bytes, lambda value, known: value in known.keys)
ROUND = _count(lambda known: known.rounds)
SIZE = _count(lambda known: known.entries)
FLAG: Rule = _is(bool, lambda value, known: True)
TREE: Rule = _steps(lambda known: math.ceil(math.log2(len(known.names) + 1)))
CONSISTENCY: Rule = _steps(lambda known: 2 * math.ceil(math.log2(known.entries + 1)) + 1)
ARRIVED: Rule = lambda value, known, whole: type(value) is tuple and set(value) <= known.digests  # noqa: E731
TIME: Rule = _is(int, lambda value, known: known.clock[0] - 1 <= value <= known.clock[1] + 1)


def _part(kind: type) -> Rule:
    return lambda value, known, whole: type(value) is kind and not list(complaints_of(value, known, whole))


def _each(rule: Rule) -> Rule:
    """A list of at most as many as there are sites, in roster order."""

    def holds(value: Any, known: Known, whole: m.Message) -> bool:
        return type(value) is tuple and len(value) <= len(known.names) and all(rule(v, known, whole) for v in value)

    return holds


def _advertised_key(value: Any, known: Known, whole: m.Message) -> bool:
    forged = known.lies and isinstance(whole, m.AdvertList)
    return type(value) is bytes and len(value) == 32 and (forged or value in known.keys)


def _adapter(value: Any, known: Known, whole: m.Message) -> bool:
    """The global adapter of this moment in the only encoding it has: nothing beside its tensors and its header."""
    if type(value) is not bytes:
        return False
    if isinstance(whole, m.StudyEnd):
        done = known.rounds
    else:  # figures are about the adapter that their round ended with
        session = whole.session  # type: ignore[attr-defined]
        done = session.round - (session.purpose not in HELD_OUT)
    try:
        state, info = parse_adapter(value, where="a captured message")
    except CheckpointError:
        return False
    return (
        info == AdapterInfo(known.roster.study.hex(), known.method, done, known.backbone)
        and {name: tuple(tensor.shape) for name, tensor in state.items()} == dict(known.shapes)
        and all(str(tensor.dtype) == "torch.float32" for tensor in state.values())
        and dump_adapter(state, info) == value
        and (value == known.start or hashlib.sha256(value).digest() in known.released.get(done, set()))
    )


def _settings(value: Any, known: Known, whole: m.Message) -> bool:
    session = whole.session  # type: ignore[attr-defined]
    study = known.roster.study.hex()
    if session.purpose not in HELD_OUT:
        return type(value) is bytes and value == round_settings(study, session.round)
    places = [None, *map(temperature_at, range(64))]
    return value in [settings_of(study, session.round, session.purpose, place) for place in places]


def _new_adapter(value: Any, known: Known, whole: m.Message) -> bool:
    released = whole.status == "released"  # type: ignore[attr-defined]
    return type(value) is bytes and len(value) == 32 and released == any(value)


def _vector(value: Any, known: Known, whole: m.Message) -> bool:
    """Exactly the roster's blocks; what pads a packed one is zero."""
    if type(value) is not bytes or len(value) != known.roster.wire_size(whole.session.purpose):  # type: ignore[attr-defined]
        return False
    return all(clean for _, _, clean in stretches(value, known.roster, whole.session.purpose))  # type: ignore[attr-defined]


def _box(value: Any, known: Known, whole: m.Message) -> bool:
    return type(value) is bytes and len(value) in (0, 82)


def _leaves(value: Any, known: Known, whole: m.Message) -> bool:
    return type(value) is bytes and len(value) == 32 * (len(known.names) + 1)


IN_SESSION: dict[str, Rule] = {"session": _part(SessionId)}
FROM_SITE: dict[str, Rule] = {**IN_SESSION, "site": NAME, "signature": SIGNATURE}
OF_BATCH: dict[str, Rule] = {"study": STUDY, "round": ROUND, "closing": FLAG, "number": SIZE, "root": HASH}
SHARES: dict[str, Rule] = {"site": NAME, "box": _box, "b_hash": HASH, "s_hash": HASH}
RULES: dict[type, dict[str, Rule]] = {
    SessionId: {
        "study": STUDY,
        "round": _count(lambda known: known.rounds, 1),
        "purpose": _is(str, lambda value, known: value in known.roster.vectors),
        "sequence": _count(lambda known: 0),
        "attempt": _count(lambda known: known.tries),
    },
    m.RoundStart: {**IN_SESSION, "adapter": _adapter, "settings": _settings},
    m.AdvertList: {**IN_SESSION, "adverts": _each(_part(m.Advert))},
    m.ShareDelivery: {**IN_SESSION, "shares": _each(_part(t.DeliveredShare))},
    m.SurvivorSet: {**IN_SESSION, "survivors": _each(NAME)},
    m.UnmaskRequest: {**IN_SESSION, "survivors": _each(NAME), "agreements": _each(_part(t.AgreeSignature))},
    m.RoundEnd: {**IN_SESSION, "status": _one_of("released", "aborted"), "adapter_sha256": _new_adapter},
    m.StudyEnd: {"study": STUDY, "status": _one_of("completed"), "adapter": _adapter},
    m.Advert: {
        **FROM_SITE,
        "channel_key": _advertised_key,
        "mask_key": _advertised_key,
        "commitment": KEY,
        "binding": KEY,
    },
    m.SealedShares: {**FROM_SITE, "shares": _each(_part(t.SealedShare))},
    m.MaskedVector: {**FROM_SITE, "vector": _vector, "checksum": _bytes(16)},
    m.Agreement: FROM_SITE,
    m.UnmaskAnswer: {**FROM_SITE, "shares": _each(_part(t.OpenedShare))},
    m.RefusalNotice: {
        **IN_SESSION,
        "site": NAME,
        "code": _is(Refusal, lambda value, known: True),
        "stage": _one_of(*m.REFUSED_AT),
        "peer": PEER,
    },
    m.Receipt: {
        "study": STUDY,
        "round": ROUND,
        "closing": FLAG,
        "site": NAME,
        "size": SIZE,
        "root": HASH,
        "log_signature": SIGNATURE,
        "log_key": KEY,
        "since": SIZE,
        "consistency": CONSISTENCY,
        "known": SIZE,
        "received": ARRIVED,
        "signature": SIGNATURE,
    },
    m.Batch: {
        **OF_BATCH,
        "signature": SIGNATURE,
        "path": TREE,
        "log": _part(t.LogHead),
        "log_path": TREE,
        "since": SIZE,
        "consistency": CONSISTENCY,
        "received": ARRIVED,
        "statement": SIGNATURE,
    },
    m.Cosignature: {**OF_BATCH, "site": NAME, "time": TIME, "signature": SIGNATURE},
    m.Cosigned: {**OF_BATCH, "leaves": _leaves, "cosignatures": _each(_part(t.SiteCosignature))},
    t.SealedShare: SHARES,
    t.DeliveredShare: {**SHARES, "path": TREE, "signature": SIGNATURE},
    t.AgreeSignature: {"site": NAME, "signature": SIGNATURE},
    t.OpenedShare: {"site": NAME, "kind": _one_of("b", "s"), "share": SHARE},
    t.LogHead: {"root": HASH, "key": KEY, "signature": SIGNATURE},
    t.SiteCosignature: {"site": NAME, "time": TIME, "signature": SIGNATURE},
}


def complaints_of(value: msgspec.Struct, known: Known, whole: m.Message | None = None) -> Iterator[str]:
    """What of a message, or of a part of it, no rule allows."""
    rules = RULES.get(type(value))
    if rules is None:
        yield f"{type(value).__name__} is a type without rules"
        return
    if set(value.__struct_fields__) != set(rules):
        yield f"{type(value).__name__} has the fields {value.__struct_fields__}"
        return
    within = value if whole is None else whole
    for name, rule in rules.items():
        if not rule(getattr(value, name), known, within):  # type: ignore[arg-type]
            yield f"{type(value).__name__}.{name}"


def complaints(sender: str, receiver: str, wire: bytes, known: Known) -> list[str]:
    """Decode a captured message as its receiver would, and say what in it nothing explains.

    Raises:
        DecodeError: it is no message.
    """
    expected = m.TO_COORDINATOR if receiver == COORDINATOR else m.TO_SITE
    message = m.decode(wire, expected, known.limits)
    found = list(complaints_of(message, known))
    if receiver == COORDINATOR and getattr(message, "site", sender) != sender:
        found.append("a site speaks for another one")
    return found


# --- whether masked words look like masks ---------------------------------------------------------------------------

FEWEST = 1280
"""Bytes for a chi-square over 256 cells."""
LEAST = 1e-9
"""Masks are fresh random, so the test cannot be seeded: a true mask falls under this once in a thousand million."""


def stretches(vector: bytes, roster: Roster, purpose: Any) -> Iterator[tuple[NDArray[np.uint32], int, bool]]:
    """Ring elements, ring bits, and whether the padding is zero, of each block of a vector from the wire."""
    start = 0
    for block in roster.blocks(purpose):
        ring = block.ring(len(roster.sites))
        data = memoryview(vector)[start : start + packed_bytes(block.size, ring)]
        values = np.zeros(block.size, dtype="<u4")
        add_packed(data, ring, values)
        yield values & np.uint32(2**ring - 1), ring, padding_is_zero(data, block.size, ring)
        start += len(data)


def uniformity(words: Sequence[tuple[NDArray[np.uint32], int]]) -> float:
    """The smaller p of two chi-square tests, of the lowest and of the highest 8 bits; 1 where there are too few."""
    lowest = [values & np.uint32(255) for values, _ in words]
    highest = [values >> np.uint32(ring - 8) for values, ring in words]
    return min(_chi_square(np.concatenate(part)) if part else 1.0 for part in (lowest, highest))


def _chi_square(cells: NDArray[np.uint32]) -> float:
    if len(cells) < FEWEST:
        return 1.0
    counts = np.bincount(cells, minlength=256)
    expected = len(cells) / 256
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), 255))
