"""What the ledger says of each message that passes the gate: everything but its content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from .accounted import Accounted, key_of
from .identity import fingerprint_hex
from .ledger.chain import CLOSING
from .ledger.entries import Outcome, Record
from .messages import STAGE, Batch, Cosigned, MaskedVector, Message, Receipt, RefusalNotice, schema_of, tag_of
from .policy import Policy
from .secure_aggregation.session import SessionId
from .study_facts import COORDINATOR, StudyFacts

CODEC = "msgpack/1"
SCHEME = "double-mask x25519 aes-256-gcm"
Facts = dict[str, str | int]
Commit = Callable[[bytes, bytes], bytes]
"""HMAC of (context, plain) under keys that only this side has; 32 bytes."""


@dataclass(frozen=True)
class Scribe:
    """Writes records for one side in one study.

    Attributes:
        owner: the site's name, or ``coordinator``.
        policy: of this side. facts: of the study. budget: of the site; None without differential privacy.
        commit: commitments to what is masked; None where nothing is masked here.
        is_open: whether the study is open in the ledger; a refusal after that is part of the closing exchange.
    """

    owner: str
    policy: Policy
    facts: StudyFacts
    budget: Accounted | None
    commit: Commit | None
    is_open: Callable[[], bool]

    def digest(self, wire: bytes) -> str:
        """SHA-256 of exact bytes, hexadecimal."""
        return hashlib.sha256(wire).hexdigest()

    def sent(
        self, message: Message, peer: str, outcome: Outcome, wire: bytes, digest: str, plain: bytes, facts: Facts | None
    ) -> Record:
        """Of a message that leaves.

        Args:
            message, peer: what, and to whom. outcome: ``sent`` or ``retried``.
            wire, digest: its exact bytes and their SHA-256, hexadecimal.
            plain: SHA-256 of the vector behind a masked one; empty where there is none.
            facts: what the entry states beside; None for what the message itself says.
        """
        extra: dict[str, Any] = {"facts": facts or _facts_of(message)}
        if isinstance(message, MaskedVector):
            extra |= self._of_vector(message)
            key = key_of(message.session)
            if self.facts.epsilon is not None and self.budget is not None and key is not None:
                extra["dp"] = self.budget.statement(self.facts.study.hex(), key)
            if plain and self.commit is not None:
                extra["commitment"] = self.commit(message.session.to_bytes(), plain).hex()
        return self._record(message, peer, "out", outcome, wire_bytes=len(wire), wire_sha256=digest, **extra)

    def refused(self, message: Message, peer: str, rule: str) -> Record:
        """Of a message that the policy refuses; it never had bytes to speak of."""
        extra = self._of_vector(message) if isinstance(message, MaskedVector) else {}
        return self._record(message, peer, "out", "refused", rule=rule, **extra)

    def received(self, message: Message, peer: str, wire: bytes) -> Record:
        """Of a message that came."""
        extra = self._of_vector(message) if isinstance(message, MaskedVector) else {}
        extra["facts"] = _facts_of(message)
        digest = hashlib.sha256(wire).hexdigest()
        return self._record(message, peer, "in", "received", wire_bytes=len(wire), wire_sha256=digest, **extra)

    def failed(self, wire: bytes, peer: str) -> Record:
        """Of bytes that came and are no message; of them it says only size and hash."""
        return Record(
            kind="message",
            study=self.facts.study.hex(),
            outcome="failed",
            direction="in",
            peer=peer,
            peer_key=self._peer_key(peer),
            codec=CODEC,
            wire_bytes=len(wire),
            wire_sha256=hashlib.sha256(wire).hexdigest(),
            rule="decode",
            **self._why(),
        )

    def _record(
        self, message: Message, peer: str, direction: Literal["in", "out"], outcome: Outcome, **extra: Any
    ) -> Record:
        session, tag = getattr(message, "session", None), tag_of(message)
        sender, to = (peer, self.owner) if direction == "in" else (self.owner, peer)
        number = int(getattr(message, "number", -1))
        study = self.facts.study.hex()
        closing = getattr(message, "closing", isinstance(message, RefusalNotice) and not self.is_open())
        if isinstance(session, SessionId):
            name, round_ = str(session), session.round
        else:
            round_ = int(getattr(message, "round", -1))
            name = "/".join(str(part) for part in (study[:12], round_, number) if part not in (-1, ""))
        return Record(
            kind="message",
            study=study,
            outcome=outcome,
            round=round_,
            stage=CLOSING if closing else STAGE[tag],
            number=number,
            direction=direction,
            peer=peer,
            peer_key=self._peer_key(peer),
            message_id=f"{name}/{tag}/{sender}/{to}",
            message_type=tag,
            codec=CODEC,
            schema=schema_of(message),
            **self._why(),
            **extra,
        )

    def _of_vector(self, message: MaskedVector) -> dict[str, Any]:
        roster = self.facts.roster.roster
        blocks = roster.vectors.get(message.session.purpose, ())  # a stranger's sum is an entry, not an error
        masking = {
            "scheme": SCHEME,
            "ring_bits": {block.name: block.ring(len(roster.sites)) for block in blocks},
            "threshold": roster.thresholds.t,
            "cohort": roster.thresholds.m,
            "key_set": hashlib.sha256(message.session.to_bytes()).hexdigest()[:32],
        }
        return {"masking": masking, "clip": {block.name: float(block.clip) for block in blocks}}

    def _why(self) -> dict[str, Any]:
        log, facts = self.policy.log, self.facts
        return {
            "purpose": log.purpose,
            "legal_basis": log.legal_basis,
            "policy_sha256": self.policy.digest,
            "retention_days": log.retention_days,
            "software": facts.software,
            "model": facts.model,
        }

    def _peer_key(self, peer: str) -> str:
        roster = self.facts.roster.roster
        if peer in roster.index:
            return fingerprint_hex(bytes.fromhex(roster.sites[roster.index[peer]].public_key))
        key = self.facts.coordinator_key
        return fingerprint_hex(key) if key and peer == COORDINATOR else ""


def _facts_of(message: Message) -> Facts | None:
    """What the entry of a message about ledgers states of it; None for the others."""
    if isinstance(message, Receipt):
        return {"size": message.size, "root": message.root.hex()}
    if isinstance(message, Batch):
        return {"root": message.root.hex()}
    if isinstance(message, Cosigned):
        return {"root": message.root.hex(), "signatures": len(message.cosignatures)}
    return None
