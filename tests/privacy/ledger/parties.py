"""A coordinator and sites with real keys, ledgers and gates on disk, and the cosigning exchange between them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from wardround.privacy.egress import COORDINATOR, Gate, StudyFacts
from wardround.privacy.errors import Refusal
from wardround.privacy.identity import Identity, SigningContext, fingerprint_hex
from wardround.privacy.ledger import batches as b
from wardround.privacy.ledger.checkpoints import Checkpoint, cosigned_at, is_signed_by
from wardround.privacy.ledger.coordinator_witness import CoordinatorWitness
from wardround.privacy.ledger.evidence import Evidence, EvidenceStore
from wardround.privacy.ledger.keys import open_key
from wardround.privacy.ledger.log import Ledger, verify
from wardround.privacy.ledger.proofs import proves
from wardround.privacy.ledger.site_witness import SiteWitness
from wardround.privacy.messages import (
    TO_COORDINATOR,
    TO_SITE,
    Batch,
    Cosignature,
    Cosigned,
    Limits,
    Message,
    Receipt,
    RefusalNotice,
    RoundEnd,
    StudyEnd,
)
from wardround.privacy.policy import Policy
from wardround.privacy.policy_file import default_policy_toml
from wardround.privacy.secure_aggregation.parameters import Block, choose_thresholds
from wardround.privacy.secure_aggregation.roster import PinnedRoster, Roster, RosterSite
from wardround.privacy.secure_aggregation.session import SessionId

STUDY = hashlib.sha256(b"a cosigned study").digest()
START = datetime(2026, 1, 1, tzinfo=UTC)
Edit = Callable[[str], str]


def ticking() -> Callable[[], datetime]:
    """A clock that moves on by a second each time it is looked at."""
    now = [START]

    def clock() -> datetime:
        now[0] += timedelta(seconds=1)
        return now[0]

    return clock


def identity_of(name: str) -> Identity:
    return Identity.from_seed(hashlib.sha256(b"identity of " + name.encode()).digest())


def roster_of(n: int, **changes: Any) -> Roster:
    names = [f"site-{i + 1}" for i in range(n)]
    values: dict[str, Any] = {
        "study": STUDY,
        "sites": tuple(RosterSite(name, identity_of(name).public_key.hex(), 100) for name in names),
        "thresholds": choose_thresholds(n),
        "vectors": {"update": (Block("update", 5, 1.0),)},
        "coordinator_key": identity_of(COORDINATOR).public_key.hex(),
    }
    return Roster(**{**values, **changes})


def pinned(roster: Roster) -> PinnedRoster:
    signatures = {name: roster.sign(identity_of(name), name) for name in roster.names}
    return roster.pin(signatures, roster.names)


class Party:
    """One side; everything that it knows after a `restart` comes from its files."""

    def __init__(self, folder: Path, name: str, roster: PinnedRoster, edit: Edit = lambda text: text) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.name, self.roster, self.edit = folder, name, roster, edit
        self.identity, self.clock = identity_of(name), ticking()
        self.store = EvidenceStore(folder / "checkpoints")
        self.start()

    def start(self) -> None:
        roster = self.roster.roster
        coordinator = bytes.fromhex(roster.coordinator_key)
        self.ledger = Ledger.open(self.folder / "ledger.jsonl", owner=self.name, clock=self.clock)
        self.key = open_key(self.folder, self.identity, self.ledger)
        if not self.ledger.knows(STUDY.hex()):
            self.open_study()
        limits = Limits(len(roster.sites), roster.wire_size("update"), 1000)
        text = self.edit(
            default_policy_toml(
                "coordinator" if self.name == COORDINATOR else "site",
                studies=[STUDY.hex()],
                methods=["facmic"],
                limits=limits,
                coordinators=[fingerprint_hex(coordinator)],
            )
        )
        facts = StudyFacts(self.roster, "facmic")
        policy = Policy.parse(text.encode())
        self.gate = Gate(owner=self.name, ledger=self.ledger, policy=policy, facts=facts, limits=limits)
        self.make_witness()

    def open_study(self) -> None:
        roster = self.roster.roster
        self.ledger.open_study(
            STUDY.hex(),
            roster=roster.digest.hex(),
            identity=fingerprint_hex(self.identity.public_key),
            coordinator=fingerprint_hex(bytes.fromhex(roster.coordinator_key)),
        )

    def make_witness(self) -> None:
        raise NotImplementedError

    def restart(self) -> None:
        self.ledger.close()
        self.start()


class SiteParty(Party):
    """A site."""

    witness: SiteWitness

    def make_witness(self) -> None:
        self.witness = SiteWitness(
            self.name,
            self.identity,
            self.key,
            self.ledger,
            self.roster,
            self.store,
            lambda: self.clock().timestamp(),
        )

    def leave(self, message: Message) -> bytes:
        """Let an answer out as the site's machine does."""
        facts = self.witness.facts if isinstance(message, Cosignature) else None
        return self.gate.release(message, peer=COORDINATOR, facts=facts).wire

    def hear(self, wire: bytes) -> Any:
        return self.gate.admit(wire, peer=COORDINATOR, expected=TO_SITE)


class CoordinatorParty(Party):
    """The coordinator."""

    witness: CoordinatorWitness

    def make_witness(self) -> None:
        self.witness = CoordinatorWitness(self.identity, self.key, self.ledger, self.roster, self.folder, self.store)

    def hear(self, site: str, wire: bytes) -> Any:
        return self.gate.admit(wire, peer=site, expected=TO_COORDINATOR)

    def leave(self, messages: Mapping[str, Message]) -> dict[str, bytes]:
        return {sealed.peer: sealed.wire for sealed in self.gate.release_many(list(messages.items()))}


@dataclass
class World:
    """One study among n sites."""

    folder: Path
    n: int = 3
    edits: Mapping[str, Edit] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pinned = pinned(roster_of(self.n))
        self.roster = self.pinned.roster
        same: Edit = lambda text: text  # noqa: E731
        own = self.edits.get(COORDINATOR, same)
        self.coordinator = CoordinatorParty(self.folder / COORDINATOR, COORDINATOR, self.pinned, own)
        self.sites = {
            name: SiteParty(self.folder / name, name, self.pinned, self.edits.get(name, same))
            for name in self.roster.names
        }
        self.rounds = 0

    @property
    def context(self) -> SigningContext:
        return SigningContext(STUDY, self.roster.digest)

    @property
    def parties(self) -> list[Party]:
        return [self.coordinator, *self.sites.values()]

    def close(self) -> None:
        for party in self.parties:
            party.ledger.close()

    # --- the steps of an exchange ----------------------------------------------------------------------------------

    def begin(self, *, closing: bool = False) -> None:
        """The end of a round, or of the study, reaches every site."""
        self.rounds += not closing
        self.closing = closing
        number = max(self.rounds, 1)
        end: Message = RoundEnd(SessionId(STUDY, number, "update"), "released", bytes(32))
        if closing:
            end = StudyEnd(STUDY, "completed", b"")
        self.coordinator.witness.begin(number, closing=closing)
        for name, wire in self.coordinator.leave(dict.fromkeys(self.sites, end)).items():
            self.sites[name].hear(wire)
            if closing:
                self.sites[name].witness.close_study()

    def receipt(self, name: str) -> Receipt:
        """A site's receipt as it leaves; the coordinator has it in its ledger, but has not looked at it."""
        site = self.sites[name]
        wire = site.leave(site.witness.receipt(max(self.rounds, 1), closing=self.closing))
        heard: Receipt = self.coordinator.hear(name, wire)
        return heard

    def collect(self, names: Collection[str] | None = None) -> None:
        """Receipts of these sites, and nobody waits for the others any more."""
        for name in self.sites:
            if names is None or name in names:
                self.coordinator.witness.take(name, self.receipt(name))
            else:
                self.coordinator.witness.give_up(name)

    def batches(self) -> dict[str, Batch]:
        """What each site gets; in both ledgers."""
        if self.closing and self.coordinator.ledger.is_open(STUDY.hex()):
            self.coordinator.ledger.close_study(STUDY.hex())
        wires = self.coordinator.leave(self.coordinator.witness.batch())
        return {name: self.sites[name].hear(wire) for name, wire in wires.items()}

    def cosign(self, name: str, batch: Batch) -> Cosignature:
        """A site's cosignature as it leaves and arrives; not looked at yet."""
        site = self.sites[name]
        heard: Cosignature = self.coordinator.hear(name, site.leave(site.witness.cosign(batch)))
        return heard

    def finish(self) -> dict[str, Cosigned]:
        """Who signed, as each site hears it; not kept yet."""
        wires = self.coordinator.leave(self.coordinator.witness.cosigned())
        return {name: self.sites[name].hear(wire) for name, wire in wires.items()}

    def exchange(
        self, answer: Collection[str] | None = None, sign: Collection[str] | None = None, *, closing: bool = False
    ) -> None:
        """A whole honest exchange, in which some sites are silent at one step or the other."""
        self.begin(closing=closing)
        self.collect(answer)
        if not self.coordinator.witness.receipts:
            self.coordinator.witness.abandon()
            return
        for name, batch in self.batches().items():
            if sign is None or name in sign:
                self.coordinator.witness.take(name, self.cosign(name, batch))
            else:
                self.coordinator.witness.give_up(name)
        for name, message in self.finish().items():
            assert self.sites[name].witness.keep(message)

    # --- what is left of it ----------------------------------------------------------------------------------------

    def evidence(self, party: str) -> list[Evidence]:
        store = self.coordinator.store if party == COORDINATOR else self.sites[party].store
        return [Evidence.parse(path.read_bytes(), where=str(path)) for path in store.paths()]

    def cosigners(self, evidence: Evidence, party: str) -> set[str]:
        """Check everything that one piece of evidence claims; returns who cosigned it."""
        owner = self.coordinator if party == COORDINATOR else self.sites[party]
        note, tree = evidence.proof.checkpoint, owner.ledger.chain.tree
        assert evidence.log.root == tree.root(evidence.log.size)
        assert is_signed_by(evidence.checkpoint, owner.key.origin, owner.key.public_key)
        assert evidence.batch == b.batch_checkpoint(self.roster, evidence.number, evidence.batch.root)
        assert evidence.proof.index == b.index_of(self.roster, party)
        assert proves(evidence.proof, evidence.checkpoint.text.encode())
        assert b.Leaves.joined(evidence.leaves).tree.root == evidence.batch.root
        assert is_signed_by(note, b.COORDINATOR_KEY, self.coordinator.identity.public_key)
        found = set()
        for name in self.roster.names:
            if cosigned_at(note, b.site_key_name(name), self.sites[name].identity.public_key) is not None:
                found.add(name)
        assert len(note.signatures) == 1 + len(found)
        return found

    def check(self) -> None:
        """Every ledger is in order, all evidence is true, and nobody signed two roots under one number."""
        for party in self.parties:
            assert verify(party.ledger.path).ok
            for evidence in self.evidence(party.name):
                signers = self.cosigners(evidence, party.name)
                assert party.name == COORDINATOR or party.name in signers
        for site in self.sites.values():
            signed = [entry for entry in entries(site) if entry["message_type"] == "cosignature"]
            signed = [entry for entry in signed if entry["outcome"] in ("sent", "retried")]
            roots: dict[int, str] = {}
            for entry in signed:
                assert roots.setdefault(entry["number"], entry["facts"]["root"]) == entry["facts"]["root"]
            assert list(roots) == sorted(roots)


def entries(party: Party) -> list[dict[str, Any]]:
    """A party's ledger as an auditor reads it."""
    return [msgspec.json.decode(line) for line in party.ledger.path.read_bytes().splitlines()]


def notice(site: str, round_: int) -> RefusalNotice:
    return RefusalNotice(SessionId(STUDY, round_, "update"), site, Refusal.POLICY, "witness", "")


def signed_receipt(world: World, name: str, receipt: Receipt, **changes: Any) -> Receipt:
    """A receipt with other content, signed by its site all the same; its checkpoint too where size or root change."""
    site = world.sites[name]
    if {"size", "root"} & changes.keys() and "log_signature" not in changes:
        size, root = changes.get("size", receipt.size), changes.get("root", receipt.root)
        changes["log_signature"] = site.key.sign(Checkpoint(site.key.origin, size, root).text().encode())
    changed = msgspec.structs.replace(receipt, **changes)
    signature = site.identity.sign(b.LABEL_RECEIPT, world.context, name, *b.receipt_parts(changed))
    return msgspec.structs.replace(changed, signature=signature)


def signed_batch(world: World, name: str, batch: Batch, **changes: Any) -> Batch:
    """A batch with other content, stated by the coordinator to this site all the same."""
    changed = msgspec.structs.replace(batch, **changes)
    parts = b.batch_parts(changed, name)
    statement = world.coordinator.identity.sign(b.LABEL_BATCH, world.context, COORDINATOR, *parts)
    return msgspec.structs.replace(changed, statement=statement)
