"""Real ledgers of a coordinator and sites, quickly and without training; and an owner who writes its own anew.

A `Group` has real identities, ledger keys, gates and witnesses; its rounds carry made-up vectors. What it leaves on
disk is copied for each test, and the keys stay here: whoever cheats in a test has the keys that a real cheat has.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from wardround.privacy.egress import COORDINATOR, Gate, StudyFacts
from wardround.privacy.identity import Identity, fingerprint_hex
from wardround.privacy.ledger import batches as b
from wardround.privacy.ledger.chain import Chain
from wardround.privacy.ledger.checkpoints import Checkpoint, add_cosignature, cosignature_message, signed
from wardround.privacy.ledger.coordinator_witness import CoordinatorWitness
from wardround.privacy.ledger.entries import Entry, Record
from wardround.privacy.ledger.evidence import Evidence, EvidenceStore
from wardround.privacy.ledger.keys import LedgerKey, open_key, rotate
from wardround.privacy.ledger.log import Ledger
from wardround.privacy.ledger.notes import SignedNote
from wardround.privacy.ledger.rosters import keep_roster
from wardround.privacy.ledger.site_witness import SiteWitness
from wardround.privacy.messages import TO_COORDINATOR, TO_SITE, Limits, MaskedVector, Message, RoundEnd, StudyEnd
from wardround.privacy.policy import Policy
from wardround.privacy.policy_file import default_policy_toml
from wardround.privacy.secure_aggregation.parameters import Block, choose_thresholds
from wardround.privacy.secure_aggregation.roster import Roster, RosterSite
from wardround.privacy.secure_aggregation.session import SessionId

START = datetime(2026, 1, 1, tzinfo=UTC)
SITES = ("amber", "birch", "cedar", "dogwood")


def identity_of(name: str, seed: str = "") -> Identity:
    return Identity.from_seed(hashlib.sha256(f"{seed}/{name}".encode()).digest())


def make_roster(study: bytes, keys: Mapping[str, Identity], sites: Sequence[str] = SITES, **changes: Any) -> Roster:
    values: dict[str, Any] = {
        "study": study,
        "sites": tuple(RosterSite(name, keys[name].public_key.hex(), 100) for name in sites),
        "thresholds": choose_thresholds(len(sites)),
        "vectors": {"update": (Block("update", 5, 1.0),)},
        "coordinator_key": keys[COORDINATOR].public_key.hex(),
    }
    return Roster(**{**values, **changes})


@dataclass
class Group:
    """Parties with homes in one folder; ``seed`` gives other people of the same names."""

    root: Path
    sites: tuple[str, ...] = SITES
    seed: str = ""
    now: datetime = START
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    keys: dict[str, LedgerKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.identities = {name: identity_of(name, self.seed) for name in (*self.sites, COORDINATOR)}
        for name in self.identities:
            self.home(name).mkdir(parents=True)
            self.ledgers[name] = Ledger.open(self.home(name) / "ledger.jsonl", owner=name, clock=self.clock)
            self.keys[name] = open_key(self.home(name), self.identities[name], self.ledgers[name])

    def clock(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def home(self, name: str) -> Path:
        return self.root / name

    def rotate(self, name: str, *, lost: bool = False) -> None:
        self.keys[name] = rotate(self.home(name), self.identities[name], self.ledgers[name], lost=lost)

    def note(self, name: str, *records: Record) -> None:
        self.ledgers[name].append(list(records))

    def close(self) -> None:
        for ledger in self.ledgers.values():
            ledger.close()


class Studied:
    """One study of a group, from its ``open`` entries on."""

    def __init__(
        self, group: Group, label: str = "a study", sites: Sequence[str] | None = None, **changes: Any
    ) -> None:
        self.group, self.sites, self.rounds = group, tuple(sites or group.sites), 0
        self.study = hashlib.sha256(label.encode()).digest()
        self.roster = make_roster(self.study, group.identities, self.sites, **changes)
        signatures = {name: self.roster.sign(group.identities[name], name) for name in self.sites}
        self.pinned = self.roster.pin(signatures, self.sites)
        self.gates = {name: self._gate(name) for name in (*self.sites, COORDINATOR)}
        stores = {name: EvidenceStore(group.home(name) / "checkpoints") for name in self.gates}
        ids, keys, ledgers = group.identities, group.keys, group.ledgers
        own = (ids[COORDINATOR], keys[COORDINATOR], ledgers[COORDINATOR], self.pinned, group.home(COORDINATOR))
        self.coordinator = CoordinatorWitness(*own, stores[COORDINATOR])
        self.witnesses = {
            name: SiteWitness(
                name, ids[name], keys[name], ledgers[name], self.pinned, stores[name], lambda: group.clock().timestamp()
            )
            for name in self.sites
        }

    def _gate(self, name: str) -> Gate:
        group, roster = self.group, self.roster
        own = fingerprint_hex(group.identities[COORDINATOR].public_key)
        limits = Limits(len(self.sites), roster.wire_size("update"), 1000)
        role = "coordinator" if name == COORDINATOR else "site"
        text = default_policy_toml(
            role, studies=[self.study.hex()], methods=["facmic"], limits=limits, coordinators=[own]
        )
        keep_roster(group.home(name), roster)
        me = fingerprint_hex(group.identities[name].public_key)
        group.ledgers[name].open_study(self.study.hex(), roster=roster.digest.hex(), identity=me, coordinator=own)
        facts, policy = StudyFacts(self.pinned, "facmic"), Policy.parse(text.encode())
        return Gate(owner=name, ledger=group.ledgers[name], policy=policy, facts=facts, limits=limits)

    def up(self, name: str, message: Message, **facts: Any) -> Any:
        """From a site to the coordinator."""
        sealed = self.gates[name].release(message, peer=COORDINATOR, facts=facts or None)
        return self.gates[COORDINATOR].admit(sealed.wire, peer=name, expected=TO_COORDINATOR)

    def down(self, name: str, message: Message) -> Any:
        """From the coordinator to a site."""
        sealed = self.gates[COORDINATOR].release(message, peer=name)
        return self.gates[name].admit(sealed.wire, peer=COORDINATOR, expected=TO_SITE)

    def vector(self, name: str) -> MaskedVector:
        """A made-up masked vector of the round under way."""
        draw = hashlib.shake_256(f"{name}/{self.rounds}/{self.study.hex()}".encode())
        size = self.roster.wire_size("update")
        data = draw.digest(size + 80)
        session = SessionId(self.study, self.rounds, "update")
        return MaskedVector(session, name, data[:size], data[size : size + 16], data[-64:])

    def round(self, *, silent: Collection[str] = (), unsigned: Collection[str] = ()) -> None:
        """A round of vectors, and the exchange after it: ``silent`` sites hear nothing, ``unsigned`` do not cosign."""
        self.rounds += 1
        there = [name for name in self.sites if name not in silent]
        for name in there:
            self.up(name, self.vector(name))
        self.exchange(RoundEnd(SessionId(self.study, self.rounds, "update"), "released", bytes(32)), there, unsigned)

    def end(self, *, silent: Collection[str] = (), unsigned: Collection[str] = ()) -> None:
        """The study's end, with all closes and the last exchange."""
        there = [name for name in self.sites if name not in silent]
        self.exchange(StudyEnd(self.study, "completed", b""), there, unsigned, closing=True)

    def exchange(
        self, told: Message, there: Sequence[str], unsigned: Collection[str], *, closing: bool = False
    ) -> None:
        self.coordinator.begin(self.rounds, closing=closing)
        for name in there:
            self.down(name, told)
            if closing:
                self.witnesses[name].close_study()
            self.coordinator.take(name, self.up(name, self.witnesses[name].receipt(self.rounds, closing=closing)))
        for name in set(self.sites) - set(there):
            self.coordinator.give_up(name)
        if closing:
            self.group.ledgers[COORDINATOR].close_study(self.study.hex())
        for name, batch in self.coordinator.batch().items():
            heard = self.down(name, batch)
            if name not in unsigned:
                answer = self.witnesses[name].cosign(heard)
                self.coordinator.take(name, self.up(name, answer, **self.witnesses[name].facts))
        for name, cosigned in self.coordinator.cosigned().items():
            self.witnesses[name].keep(self.down(name, cosigned))


def whole(
    root: Path, *, seed: str = "", rounds: int = 2, then: Callable[[Group, Studied], None] | None = None
) -> Group:
    """A group whose one study of some rounds is over; ``then`` goes on before the files are closed."""
    group = Group(root, seed=seed)
    studied = Studied(group)
    for _ in range(rounds):
        studied.round()
    studied.end()
    if then is not None:
        then(group, studied)
    group.close()
    return group


def copy(group: Group, root: Path) -> dict[str, Path]:
    """The homes of a group once more, to be tampered with."""
    shutil.copytree(group.root, root)
    return {name: root / name for name in group.identities}


# --- an owner who writes its ledger anew -----------------------------------------------------------------------------


def read(home: Path) -> list[Entry]:
    """All entries of a ledger."""
    lines = (home / "ledger.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Entry) for line in lines]


def find(home: Path, **fields: Any) -> list[int]:
    """Numbers of the entries with these values."""
    return [e.sequence for e in read(home) if all(getattr(e, name) == value for name, value in fields.items())]


def replace(entries: Sequence[Entry], place: int, **fields: Any) -> list[Entry]:
    """The entries with other values in one of them."""
    return [msgspec.structs.replace(e, **fields) if i == place else e for i, e in enumerate(entries)]


def rewrite(home: Path, key: LedgerKey, entries: Iterable[Entry]) -> Chain:
    """Write a ledger anew, with all that its owner can make right: chain, key entries, receipts, its own checkpoint.

    Entries that the chain refuses are left out: an owner would do so too.
    """
    chain, lines, before = Chain(), [], None
    for entry in entries:
        here: dict[str, Any] = {"sequence": chain.sequence, "previous": chain.head}
        if entry.kind == "key":
            here["facts"], before = dict(key.entry(chain, before).facts or {}), key
        if entry.message_type == "receipt" and entry.direction == "out" and entry.outcome == "sent":
            here["facts"] = {"size": chain.sequence, "root": chain.tree.root().hex()}
        line = msgspec.structs.replace(entry, **here).line()
        if not chain.take(line):
            lines.append(line + b"\n")
    (home / "ledger.jsonl").write_bytes(b"".join(lines))
    sign_latest(home, key, chain)
    return chain


def sign_latest(home: Path, key: LedgerKey, chain: Chain, size: int | None = None) -> None:
    EvidenceStore(home / "checkpoints").save_latest(checkpoint(key, chain, chain.sequence if size is None else size))


def checkpoint(key: LedgerKey, chain: Chain, size: int) -> SignedNote:
    return signed(Checkpoint(key.origin, size, chain.tree.root(size)), key.origin, key.sign, key.public_key)


def chain_of(home: Path) -> Chain:
    chain = Chain()
    for line in (home / "ledger.jsonl").read_bytes().splitlines():
        assert not chain.take(line)
    return chain


def forget_evidence(home: Path, *, above: int = -1) -> None:
    """Remove what was cosigned over more than so many entries."""
    for path in EvidenceStore(home / "checkpoints").paths():
        if int(path.name.split(".")[0]) > above:
            path.unlink()


def evidence(home: Path) -> list[Evidence]:
    paths = EvidenceStore(home / "checkpoints").paths()
    return [Evidence.parse(path.read_bytes(), where=str(path)) for path in paths]


def invent(
    roster: Roster,
    identities: Mapping[str, Identity],
    owner: str,
    own: SignedNote,
    *,
    number: int,
    signers: Collection[str] | None = None,
    leaves: Mapping[str, tuple[int, bytes]] | None = None,
    time: int = int(START.timestamp()) + 60,
    messages: Mapping[str, bytes] | None = None,
) -> Evidence:
    """Evidence over any checkpoint, made with whatever identities its maker has."""
    log = Checkpoint.parse(own.text)
    tree = b.Leaves.of(roster, {**(leaves or {}), owner: (log.size, log.root)})
    batch = b.batch_checkpoint(roster, number, tree.tree.root)
    leader = identities[COORDINATOR]
    note = signed(batch, b.COORDINATOR_KEY, leader.sign_note, leader.public_key)
    for name in roster.names if signers is None else signers:
        signature = identities[name].sign_note(cosignature_message(time, note.text))
        note = add_cosignature(note, b.site_key_name(name), identities[name].public_key, time, signature)
    return Evidence.make(b.index_of(roster, owner), tree, note, own, messages or {})


def keep(home: Path, *made: Evidence) -> None:
    for each in made:
        EvidenceStore(home / "checkpoints").save(each)
