"""The roster: who takes part, under which bounds; signed by every site, confirmed out of band, then pinned."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ..atomic import canonical_json
from ..errors import ParameterError, RosterError
from ..identity import Identity, SigningContext, verifies
from .packing import wire_size
from .parameters import RING_BITS, Block, Thresholds, check_blocks, total_size
from .session import PURPOSES, Purpose

LABEL_ROSTER = b"wardround/v1/roster"
DEFAULT_W_MAX = 4.0
RESERVED_NAME = "coordinator"
_KEY = re.compile(r"[0-9a-f]{64}")
Weighting = Literal["weighted", "uniform"]


class RosterSite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One site: its name, raw Ed25519 public key (hexadecimal) and public number of training units, > 0."""

    name: str
    public_key: str
    samples: int


class _RosterFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The roster's JSON. Clips are strings: a signed document must not depend on how a float is printed."""

    version: int
    study: str
    threshold: int
    cohort: int
    differential_privacy: bool
    weighting: Weighting
    w_max: str
    sites: list[RosterSite]
    vectors: dict[str, list[dict[str, str]]]
    evaluation_cohort: list[str]
    coordinator: str = ""


@dataclass(frozen=True)
class Roster:
    """Everything that the sites agree on before the first round.

    Attributes:
        study: the study's SHA-256, 32 bytes.
        sites: in ascending order of name; a site's index here orders everything else.
        thresholds: n, t, m, and whether every site's training is differentially private.
        vectors: the blocks of the vector of each purpose that the study sums.
        weighting: ``weighted`` by public sample counts, or ``uniform``.
        w_max: cap of a weight, >= 1.
        evaluation_cohort: the one set of sites of every purpose but ``update``; default all.
        coordinator_key: raw Ed25519 public key of the coordinator, hexadecimal; empty where there is none, and then
            nobody's ledger is cosigned.

    Raises:
        RosterError, ParameterError: for a name, key, count or bound that does not hold.
    """

    study: bytes
    sites: tuple[RosterSite, ...]
    thresholds: Thresholds
    vectors: Mapping[Purpose, tuple[Block, ...]]
    weighting: Weighting = "weighted"
    w_max: float = DEFAULT_W_MAX
    evaluation_cohort: tuple[str, ...] = field(default=())
    coordinator_key: str = ""

    def __post_init__(self) -> None:
        names = [site.name for site in self.sites]
        if len(self.study) != 32:
            raise RosterError("the study hash does not have 32 bytes")
        if names != sorted(set(names)):
            raise RosterError("the sites are not in ascending order of name, or one is listed twice")
        keys = {site.public_key for site in self.sites}
        if len(keys) != len(names) or self.coordinator_key in keys:
            raise RosterError("two parties have the same public key", remedy="Each makes its own identity.")
        if self.coordinator_key and not _KEY.fullmatch(self.coordinator_key):
            raise RosterError("the public key of the coordinator is not 64 hexadecimal digits")
        for site in self.sites:
            _check_site(site)
        if self.thresholds.n != len(names):
            raise RosterError(f"the thresholds are for {self.thresholds.n} sites, the roster has {len(names)}")
        if not 1 <= self.w_max < 2.0**RING_BITS:  # NaN and infinity too
            raise ParameterError(f"w_max = {self.w_max}", remedy="It must be at least 1 and below 2^32.")
        if not self.vectors:
            raise RosterError("no vector is described")
        for purpose, blocks in self.vectors.items():
            if purpose not in PURPOSES:
                raise RosterError(f"a vector for the unknown purpose {purpose!r}")
            check_blocks(blocks, len(names), self.w_max if self.weighting == "weighted" else 1.0)
        if not self.evaluation_cohort:
            object.__setattr__(self, "evaluation_cohort", tuple(names))
        cohort = list(self.evaluation_cohort)
        if cohort != sorted(set(cohort)) or not set(cohort) <= set(names):
            raise RosterError("the evaluation cohort is not an ordered subset of the sites")
        if len(cohort) < self.thresholds.least:
            raise RosterError(f"the evaluation cohort has fewer than max(t, m) = {self.thresholds.least} sites")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Site names in roster order."""
        return tuple(site.name for site in self.sites)

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each site in roster order."""
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def _weights(self) -> dict[str, float]:
        if self.weighting == "uniform":
            return dict.fromkeys(self.names, 1.0)
        total = sum(site.samples for site in self.sites)
        return {site.name: min(site.samples * len(self.sites) / total, self.w_max) for site in self.sites}

    def weight_of(self, site: str) -> float:
        """w_i = min(n_i n / N, w_max), or 1 in a uniform study.

        N counts all sites of the roster, so weights are fixed before it is known who survives.
        """
        return self._weights[site]

    def capped(self) -> tuple[str, ...]:
        """Sites whose weight was cut to w_max; a report names them."""
        total = sum(site.samples for site in self.sites)
        return tuple(
            site.name
            for site in self.sites
            if self.weighting == "weighted" and site.samples * len(self.sites) / total > self.w_max
        )

    def blocks(self, purpose: Purpose) -> tuple[Block, ...]:
        """The blocks of the vector of a purpose.

        Raises:
            RosterError: when the study sums nothing for that purpose.
        """
        try:
            return self.vectors[purpose]
        except KeyError:
            raise RosterError(f"the roster describes no vector for the purpose {purpose!r}") from None

    def size(self, purpose: Purpose) -> int:
        """Coordinates of the vector of a purpose."""
        return total_size(self.blocks(purpose))

    def wire_size(self, purpose: Purpose) -> int:
        """Bytes of a masked vector of a purpose."""
        return wire_size(self.blocks(purpose), len(self.sites))

    def to_bytes(self) -> bytes:
        """Canonical JSON: what is hashed and signed."""
        coordinator = {"coordinator": self.coordinator_key} if self.coordinator_key else {}
        return canonical_json(
            {
                **coordinator,
                "version": 1,
                "study": self.study.hex(),
                "threshold": self.thresholds.t,
                "cohort": self.thresholds.m,
                "differential_privacy": self.thresholds.private,
                "weighting": self.weighting,
                "w_max": repr(float(self.w_max)),
                "sites": [msgspec.to_builtins(site) for site in self.sites],
                "vectors": {purpose: [_block_row(b) for b in blocks] for purpose, blocks in self.vectors.items()},
                "evaluation_cohort": list(self.evaluation_cohort),
            }
        )

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of `to_bytes`, 32 bytes."""
        return sha256(self.to_bytes()).digest()

    @classmethod
    def from_bytes(cls, data: bytes) -> Roster:
        """Read a roster strictly: unknown keys, another version or other than canonical bytes are refused."""
        try:
            raw = msgspec.json.decode(data, type=_RosterFile)
            vectors = {
                msgspec.convert(purpose, Purpose): tuple(_block_of(row) for row in rows)
                for purpose, rows in raw.vectors.items()
            }
            roster = cls(
                study=bytes.fromhex(raw.study),
                sites=tuple(raw.sites),
                thresholds=Thresholds(len(raw.sites), raw.threshold, raw.cohort, raw.differential_privacy),
                vectors=vectors,
                weighting=raw.weighting,
                w_max=float(raw.w_max),
                evaluation_cohort=tuple(raw.evaluation_cohort),
                coordinator_key=raw.coordinator,
            )
        except (msgspec.MsgspecError, ValueError, KeyError, OverflowError, RecursionError):
            raise RosterError("the roster is malformed") from None
        if raw.version != 1 or roster.to_bytes() != data:
            raise RosterError("the roster is of another version or not in canonical form")
        return roster

    def sign(self, identity: Identity, site: str, *, private: bool = False) -> bytes:
        """This site's signature over the roster; 64 bytes.

        Args:
            identity, site: who signs.
            private: whether this site's own noise alone makes each of its updates differentially private, in every
                block. A roster that claims so allows what nothing but such noise makes safe: sums over two sites, and a
                second survivor set.

        Raises:
            RosterError: when the roster lists another key for ``site``, or claims noise that this site does not add.
        """
        if self.thresholds.private and not private:
            raise RosterError(
                f"the roster says that every site's training is differentially private, that of site {site} is not",
                remedy="Do not sign it: without noise, sums over few sites show single ones.",
            )
        if site not in self.index or self.sites[self.index[site]].public_key != identity.public_key.hex():
            raise RosterError(f"the roster does not list this identity as site {site}")
        return identity.sign(LABEL_ROSTER, self._context, site, self.digest)

    @property
    def _context(self) -> SigningContext:
        return SigningContext(self.study, bytes(32))

    def pin(self, signatures: Mapping[str, bytes], confirmed: Collection[str]) -> PinnedRoster:
        """Check every signature and fix the roster for use in sessions.

        Args:
            signatures: one per site, none missing and none besides.
            confirmed: sites whose fingerprint the caller has compared out of band (its own included). Others may
                take part, but do not count towards t and m.

        Raises:
            RosterError: names the first site whose signature is missing or wrong.
        """
        if set(signatures) - set(self.names):
            raise RosterError(f"a signature by {min(set(signatures) - set(self.names))}, which is not in the roster")
        if set(confirmed) - set(self.names):
            raise RosterError(f"{min(set(confirmed) - set(self.names))} is confirmed, but not in the roster")
        keys = {site.name: Ed25519PublicKey.from_public_bytes(bytes.fromhex(site.public_key)) for site in self.sites}
        for name in self.names:
            given = signatures.get(name)
            if given is None:
                raise RosterError(f"site {name} has not signed the roster")
            if not verifies(keys[name], given, LABEL_ROSTER, self._context, name, self.digest):
                raise RosterError(f"the signature of site {name} is not over this roster")
        return PinnedRoster(self, frozenset(confirmed), keys)


@dataclass(frozen=True)
class PinnedRoster:
    """A roster whose signatures were all checked. Made by `Roster.pin`; sessions accept nothing less.

    Attributes:
        roster: the roster.
        confirmed: sites that count towards t and m.
        keys: public keys, ready to verify with.
    """

    roster: Roster
    confirmed: frozenset[str]
    keys: Mapping[str, Ed25519PublicKey]


def _check_site(site: RosterSite) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", site.name):
        raise RosterError(
            f"the site name {site.name!r}", remedy="Use lower-case letters, digits, '.', '_' and '-', at most 64."
        )
    if site.name == RESERVED_NAME:
        # Ledgers, gates and engines know the other side by this name; a site must not be taken for it.
        raise RosterError(f"the site name {site.name!r} is taken", remedy="Choose another name for the site.")
    if not _KEY.fullmatch(site.public_key):
        raise RosterError(f"the public key of site {site.name} is not 64 hexadecimal digits")
    if not 0 < site.samples < 2**53:
        raise RosterError(f"site {site.name} has {site.samples} samples", remedy="The count must be positive.")


def _block_row(block: Block) -> dict[str, str]:
    return {
        "name": block.name,
        "size": str(block.size),
        "clip": repr(float(block.clip)),
        "fraction_bits": str(block.fraction_bits),
        "weighted": "yes" if block.weighted else "no",
        "bits": str(block.bits),
    }


def _block_of(row: dict[str, str]) -> Block:
    known: dict[str, Any] = dict(row)
    block = Block(
        name=known.pop("name"),
        size=int(known.pop("size")),
        clip=float(known.pop("clip")),
        fraction_bits=int(known.pop("fraction_bits")),
        weighted={"yes": True, "no": False}[known.pop("weighted")],
        bits=int(known.pop("bits")),
    )
    if known:
        raise ValueError(json.dumps(sorted(known)))
    return block
