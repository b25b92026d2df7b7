"""A small study with real ledgers, checkpoints, batches and cosignatures, as an auditor's page takes it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from wardround.evaluation.audit_model import (
    AuditCheckpoint,
    AuditKey,
    AuditPage,
    BudgetRow,
    Cosigner,
    Party,
    Reconciliation,
    Verification,
    policy_of,
)
from wardround.privacy.identity import fingerprint
from wardround.privacy.ledger.checkpoints import Checkpoint, add_cosignature, cosignature_message, signed
from wardround.privacy.ledger.entries import Record
from wardround.privacy.ledger.key_entries import certificate, origin_of
from wardround.privacy.ledger.log import Ledger
from wardround.privacy.ledger.notes import SignedNote
from wardround.privacy.ledger.proofs import Proof
from wardround.privacy.merkle import Tree, leaf_hash

STUDY = hashlib.sha256(b"study").hexdigest()
SITES = ("amber", "birch", "cedar")
POLICY = policy_of(b'# who may have what\n[coordinator]\nallow = ["<script>"]\n[messages]\nadvert = 4096\n')
START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


def key_of(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def name_of(owner: str) -> str:
    return "wardround/coordinator" if owner == "coordinator" else f"wardround/site/{owner}"


def clock(owner: str) -> Callable[[], datetime]:
    state = {"now": START + timedelta(milliseconds=len(owner))}

    def tick() -> datetime:
        state["now"] += timedelta(seconds=7)
        return state["now"]

    return tick


def announce(ledger: Ledger, owner: str, key: Ed25519PrivateKey, before: Ed25519PrivateKey | None = None) -> None:
    identity = key_of(owner)
    old = public(before) if before else b""
    said = certificate(public(identity), ledger.sequence, ledger.head, old, public(key))
    facts: dict[str, str | int] = {
        "public_key": public(key).hex(),
        "identity": public(identity).hex(),
        "signature": (identity.sign(said) + key.sign(said)).hex(),
    }
    if before:
        facts["previous_signature"] = before.sign(said).hex()
    ledger.append([Record(kind="key", study="", outcome="noted", facts=facts)])


def message(round_: int, kind: str, direction: str, peer: str, size: int, outcome: str = "") -> Record:
    away = direction == "out"
    wire = b"" if outcome == "refused" else f"{round_}/{kind}/{direction}/{peer}".encode()
    return Record(
        kind="message",
        study=STUDY,
        round=round_,
        message_type=kind,
        direction="out" if away else "in",
        peer=peer,
        peer_key=hashlib.sha256(public(key_of(peer))).hexdigest(),
        message_id=f"{STUDY[:12]}/{round_}/{kind}/{peer}",
        wire_bytes=0 if outcome == "refused" else size,
        wire_sha256=hashlib.sha256(wire).hexdigest() if wire else "",
        policy_sha256=POLICY.sha256,
        outcome=outcome or ("sent" if away else "received"),  # type: ignore[arg-type]
        rule="messages.advert" if outcome == "refused" else "",
    )


class Book:
    """One party's ledger, with the checkpoints that it signs."""

    def __init__(self, folder: Path, owner: str) -> None:
        self.owner, self.identity, self.key = owner, key_of(owner), key_of(f"{owner} ledger key")
        self.path = folder / f"{owner}.jsonl"
        self.ledger = Ledger.open(self.path, owner=owner, clock=clock(owner))
        announce(self.ledger, owner, self.key)
        self.ledger.open_study(STUDY)
        self.notes: list[tuple[int, SignedNote]] = []
        self.checkpoints: list[AuditCheckpoint] = []

    @property
    def lines(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines()

    def sign_checkpoint(self) -> tuple[int, SignedNote]:
        lines = self.lines
        root = Tree([leaf_hash(line.encode()) for line in lines]).root
        origin = origin_of(public(self.identity))
        note = signed(Checkpoint(origin, len(lines), root), origin, self.key.sign, public(self.key))
        return len(lines), note


def cosign(books: list[Book], number: int, time: int) -> None:
    """A batch over the newest checkpoints of all, signed by the first, the coordinator, and cosigned by the others."""
    notes = [book.sign_checkpoint() for book in books]
    tree = Tree([leaf_hash(note.text.encode()) for _, note in notes])
    checkpoint = Checkpoint(f"wardround/batch/{STUDY}/{'0' * 64}/{number}", len(books), tree.root)
    coordinator = books[0]
    batch = signed(checkpoint, name_of("coordinator"), coordinator.identity.sign, public(coordinator.identity))
    cosigners = []
    for i, book in enumerate(books[1:]):
        signature = book.identity.sign(cosignature_message(time + i, batch.text))
        batch = add_cosignature(batch, name_of(book.owner), public(book.identity), time + i, signature)
        cosigners.append(Cosigner(name_of(book.owner), time + i))
    for i, (book, (size, note)) in enumerate(zip(books, notes, strict=True)):
        proof = Proof(i, tree.path(i), batch, b'{"more": "<>"}').to_bytes().decode()
        book.checkpoints.append(AuditCheckpoint(size, note.to_bytes().decode(), proof, tuple(cosigners)))


def make_study(folder: Path, rounds: int = 4, *, rotate: bool = True) -> AuditPage:
    """A closed study over three sites: a refusal, a retry, a failure, a new ledger key, a batch a round."""
    books = [Book(folder, owner) for owner in ("coordinator", *SITES)]
    coordinator = books[0].ledger
    for number in range(1, rounds + 1):
        for book in books[1:]:
            coordinator.append([message(number, "round-start", "out", book.owner, 2_110_599)], sync=False)
            own = [
                message(number, "round-start", "in", "coordinator", 2_110_599),
                message(number, "advert", "out", "coordinator", 261),
                message(number, "masked-vector", "out", "coordinator", 2_105_412),
            ]
            if book.owner == "amber" and number == 2:
                own.append(message(number, "advert", "out", "coordinator", 261, "refused"))
                own.append(message(number, "masked-vector", "out", "coordinator", 2_105_412, "retried"))
            if book.owner == "birch" and number == 3:
                own.append(message(number, "advert", "out", "coordinator", 261, "failed"))
            book.ledger.append(own, sync=False)
            coordinator.append(
                [
                    message(number, "advert", "in", book.owner, 261),
                    message(number, "masked-vector", "in", book.owner, 2_105_412),
                ],
                sync=False,
            )
        if rotate and number == 2:
            fresh = key_of("another")
            announce(books[1].ledger, "amber", fresh, books[1].key)
            books[1].key = fresh
        if number == rounds:
            for book in books:
                book.ledger.close_study(STUDY)
        cosign(books, 10 * number, 1_772_360_000 + 60 * number)
    for book in books[1:]:
        book.ledger.append([Record(kind="forget", study="", outcome="noted", facts={"records": 3, "files": 6})])
    for book in books:
        book.ledger.close()
    return page_of(books)


def page_of(books: list[Book]) -> AuditPage:
    return AuditPage(
        study="demo-brain",
        study_sha256=STUDY,
        method="facmic",
        synthetic=True,
        complete=True,
        parties=tuple(party_of(book) for book in [*books[1:], books[0]]),
        reconciliation=(
            *(Reconciliation(site, "coordinator", "advert", 4, 1044, 4, 1044) for site in SITES),
            Reconciliation("amber", "coordinator", "masked-vector", 5, 10_527_060, 4, 8_421_648, lost=1),
        ),
        keys=tuple(
            AuditKey(name_of(b.owner), b.owner, "identity", public(b.identity).hex(), fingerprint(public(b.identity)))
            for b in books
        ),
    )


def party_of(book: Book) -> Party:
    lines = book.lines
    covered = book.checkpoints[-1].size if book.checkpoints else 0
    site = book.owner != "coordinator"
    return Party(
        owner=book.owner,
        role="site" if site else "coordinator",
        words=fingerprint(public(book.identity)),
        public_key=public(book.identity).hex(),
        verification=Verification(
            True,
            notes=("the clock was set back once",) if book.owner == "cedar" else (),
            cosigned_entries=covered,
            trailing_entries=len(lines) - covered,
        ),
        entries=tuple(lines),
        checkpoints=tuple(book.checkpoints),
        policy=POLICY if site else None,
        budget=(BudgetRow(STUDY, 3.21, 8.0, 1e-5),) if site else (),
    )
