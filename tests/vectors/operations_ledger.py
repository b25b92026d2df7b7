"""Inputs about ledgers and their cosigning, each put to the product."""

from __future__ import annotations

from typing import Any

from operations import Operation, Strict, raw
from operations_wire import known_roster
from wardround.privacy import messages
from wardround.privacy.identity import Identity, SigningContext
from wardround.privacy.ledger import batches as b
from wardround.privacy.ledger.checkpoints import cosignature_message
from wardround.privacy.ledger.key_entries import certificate


class LedgerLeaf(Operation, frozen=True, tag="ledger-leaf"):
    identity: str
    size: int
    root: str
    gives = ("leaf",)

    def run(self) -> dict[str, Any]:
        return self.one(b.ledger_leaf(raw(self.identity), self.size, raw(self.root)))


class AbsentLeaf(Operation, frozen=True, tag="absent-leaf"):
    party: str
    gives = ("leaf",)

    def run(self) -> dict[str, Any]:
        return self.one(b.absent_leaf(self.party))


class Shown(Strict, frozen=True):
    size: int
    root: str


class BatchTree(Operation, frozen=True, tag="batch-tree"):
    roster: str
    shown: dict[str, Shown]
    gives = ("root", "leaves")

    def run(self) -> dict[str, Any]:
        shown = {party: (row.size, raw(row.root)) for party, row in self.shown.items()}
        leaves = b.Leaves.of(known_roster(self.roster), shown)
        return {**self.one(leaves.tree.root), "leaves": leaves.to_bytes().hex()}


class OfBatch(Operation, frozen=True):
    roster: str
    number: int
    root: str

    @property
    def text(self) -> str:
        return b.batch_checkpoint(known_roster(self.roster), self.number, raw(self.root)).text()


class BatchText(OfBatch, frozen=True, tag="batch-text"):
    gives = ("text",)

    def run(self) -> dict[str, Any]:
        return self.one(self.text.encode())


class Cosign(OfBatch, frozen=True, tag="cosign"):
    seed: str
    time: int
    gives = ("statement", "signature")

    def run(self) -> dict[str, Any]:
        exact = cosignature_message(self.time, self.text)
        return {**self.one(exact), "signature": Identity.from_seed(raw(self.seed)).sign_note(exact).hex()}


class Signed(Operation, frozen=True):
    roster: str
    seed: str
    gives = ("statement", "signature")

    def signed(self, label: bytes, signer: str, *parts: bytes) -> dict[str, Any]:
        roster = known_roster(self.roster)
        context = SigningContext(roster.study, roster.digest)
        signature = Identity.from_seed(raw(self.seed)).sign(label, context, signer, *parts)
        return {**self.one(context.statement(label, signer, parts)), "signature": signature.hex()}


class SignReceipt(Signed, frozen=True, tag="receipt"):
    round: int
    closing: bool
    site: str
    size: int
    root: str
    log_signature: str
    log_key: str
    since: int
    consistency: str
    known: int
    received: list[str]

    def run(self) -> dict[str, Any]:
        receipt = messages.Receipt(
            study=known_roster(self.roster).study,
            round=self.round,
            closing=self.closing,
            site=self.site,
            size=self.size,
            root=raw(self.root),
            log_signature=raw(self.log_signature),
            log_key=raw(self.log_key),
            since=self.since,
            consistency=raw(self.consistency),
            known=self.known,
            received=tuple(map(raw, self.received)),
            signature=bytes(64),
        )
        return self.signed(b.LABEL_RECEIPT, self.site, *b.receipt_parts(receipt))


class SignBatch(Signed, frozen=True, tag="batch"):
    site: str
    round: int
    closing: bool
    number: int
    root: str
    signature: str
    path: str
    log_root: str
    log_key: str
    log_signature: str
    log_path: str
    since: int
    consistency: str
    received: list[str]

    def run(self) -> dict[str, Any]:
        batch = messages.Batch(
            study=known_roster(self.roster).study,
            round=self.round,
            closing=self.closing,
            number=self.number,
            root=raw(self.root),
            signature=raw(self.signature),
            path=raw(self.path),
            log=messages.LogHead(raw(self.log_root), raw(self.log_key), raw(self.log_signature)),
            log_path=raw(self.log_path),
            since=self.since,
            consistency=raw(self.consistency),
            received=tuple(map(raw, self.received)),
            statement=bytes(64),
        )
        return self.signed(b.LABEL_BATCH, b.COORDINATOR, *b.batch_parts(batch, self.site))


class KeyCertificate(Operation, frozen=True, tag="ledger-key"):
    identity: str
    sequence: int
    previous: str
    before: str
    key: str
    gives = ("statement",)

    def run(self) -> dict[str, Any]:
        return self.one(certificate(raw(self.identity), self.sequence, self.previous, raw(self.before), raw(self.key)))
