"""The one door: nothing leaves a side but what its policy allows and its ledger already records.

`Gate.release` is the only maker of `Sealed`, and engines carry nothing else. What the policy refuses is refused before
bytes exist outside this module, and is an entry too. What arrives comes in through the same gate: strictly decoded, and
written down.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from .accounted import Accounted, check_accounted, key_of
from .errors import DecodeError, EgressRefusedError
from .identity import fingerprint_hex
from .ledger import Ledger
from .ledger_entries import Outcome, Record
from .messages import (
    STAGE,
    TO_COORDINATOR,
    TO_SITE,
    Limits,
    MaskedVector,
    Message,
    StudyEnd,
    SurvivorSet,
    UnmaskAnswer,
    UnmaskRequest,
    decode,
    encode,
    schema_of,
    tag_of,
)
from .policy import Policy
from .secure_aggregation.roster import PinnedRoster
from .secure_aggregation.session import SessionId

COORDINATOR = "coordinator"
CODEC = "msgpack/1"
SCHEME = "double-mask x25519 aes-256-gcm"
_TOKEN = object()


class Sealed:
    """Exact bytes that the gate has let through, for one peer. Only `Gate` can make one; it cannot be changed.

    Attributes:
        wire: the bytes for the transport.
        peer: whom they are for.
        tag: type of the message.
        sha256: of ``wire``, hexadecimal; the ledger entry has the same.
        sequence: number of that entry.
    """

    __slots__ = ("peer", "sequence", "sha256", "tag", "wire")
    wire: bytes
    peer: str
    tag: str
    sha256: str
    sequence: int

    def __init__(self, token: object, *, wire: bytes, peer: str, tag: str, sha256: str, sequence: int) -> None:
        if token is not _TOKEN:
            raise TypeError("only the egress gate can seal a message")
        for name, value in (("wire", wire), ("peer", peer), ("tag", tag), ("sha256", sha256), ("sequence", sequence)):
            object.__setattr__(self, name, value)

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("a sealed message cannot be subclassed")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a sealed message cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a sealed message cannot be changed")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a sealed message cannot be pickled or copied")

    def __repr__(self) -> str:
        return f"Sealed({self.tag} to {self.peer}, {len(self.wire)} bytes, entry {self.sequence})"


@dataclass(frozen=True)
class StudyFacts:
    """What the policy is asked about, and what entries say beside the message.

    Attributes:
        roster: pinned roster of the study; its ``study`` is the study's hash.
        method: name of the training method.
        secure_aggregation: whether vectors are masked.
        epsilon, delta: the study's privacy budget; None without differential privacy.
        model: fingerprint of the frozen model, hexadecimal.
        software: name and version of this software.
        coordinator_key: the coordinator's raw identity key; empty where it has none.
    """

    roster: PinnedRoster
    method: str
    secure_aggregation: bool = True
    epsilon: float | None = None
    delta: float | None = None
    model: str = ""
    software: str = "wardround"
    coordinator_key: bytes = b""

    @property
    def study(self) -> bytes:
        """SHA-256 of the study, 32 bytes."""
        return self.roster.roster.study


class Gate:
    """The door of one side (a site, or the coordinator) in one study.

    Args:
        owner: the site's name, or ``coordinator``.
        ledger: this side's, open; the study must be open in it (`Ledger.open_study`).
        policy: this side's; its role must fit the owner.
        facts: about the study.
        limits: largest size of each message, for what arrives and what leaves.
        budget: the site's privacy budget; without it no masked vector of a study with an epsilon leaves.

    Raises:
        EgressRefusedError: when the policy is for the other role.
    """

    def __init__(
        self,
        *,
        owner: str,
        ledger: Ledger,
        policy: Policy,
        facts: StudyFacts,
        limits: Limits,
        budget: Accounted | None = None,
    ) -> None:
        role = "coordinator" if owner == COORDINATOR else "site"
        if policy.role != role:
            raise EgressRefusedError(
                f"the policy is a {policy.role}'s, {owner} is a {role}", rule="role", remedy="Use its own policy file."
            )
        self._owner, self._role, self._ledger, self._policy = owner, role, ledger, policy
        self._facts, self._limits, self._accounted = facts, limits, budget
        self._sends = TO_SITE if role == "coordinator" else TO_COORDINATOR

    # --- out -------------------------------------------------------------------------------------------------------

    def release(self, message: Message, *, peer: str) -> Sealed:
        """Let one message out; see `release_many`."""
        return self.release_many([(peer, message)])[0]

    def release_many(self, batch: Sequence[tuple[str, Message]]) -> list[Sealed]:
        """Let messages out together, with one sync of the ledger: all of them, or none.

        The same bytes to the same peer again are an entry ``retried``.

        Raises:
            EgressRefusedError: when the policy refuses any of them; the refusal is in the ledger.
            LedgerError: when the ledger cannot be written; nothing was released.
        """
        for peer, message in batch:
            try:
                self._check(message, peer)
            except EgressRefusedError as refused:
                self._ledger.append([self._record(message, peer, "out", "refused", b"", refused.rule)])
                raise
        ready: list[tuple[str, Message, bytes, str]] = []
        cache: dict[int, tuple[bytes, str]] = {}  # one message to many peers is encoded and hashed once
        for peer, message in batch:
            if id(message) not in cache:
                wire = encode(message)
                cache[id(message)] = (wire, hashlib.sha256(wire).hexdigest())
            wire, digest = cache[id(message)]
            try:
                self._check_size(message, len(wire))
            except EgressRefusedError as refused:
                self._ledger.append([self._record(message, peer, "out", "refused", b"", refused.rule)])
                raise
            ready.append((peer, message, wire, digest))
        study = self._facts.study.hex()
        records = [
            self._record(message, peer, "out", self._outcome(study, peer, digest), wire, "", digest)
            for peer, message, wire, digest in ready
        ]
        numbers = self._ledger.append(records)  # written and synced, or it raises: only then may bytes exist outside
        sealed = []
        for number, (peer, message, wire, digest) in zip(numbers, ready, strict=True):
            sealed.append(Sealed(_TOKEN, wire=wire, peer=peer, tag=tag_of(message), sha256=digest, sequence=number))
        return sealed

    def _outcome(self, study: str, peer: str, digest: str) -> Outcome:
        return "retried" if self._ledger.was_sent(study, peer, digest) else "sent"

    # --- in --------------------------------------------------------------------------------------------------------

    def admit(self, wire: bytes, *, peer: str, expected: Iterable[type[Message]]) -> Message:
        """Decode what arrived, and write it down; a message of another study is refused here.

        Raises:
            DecodeError: when the bytes are not one of the expected messages; that is an entry too.
        """
        try:
            message = decode(wire, expected, self._limits)
            if _study_of(message) != self._facts.study:
                raise DecodeError("a message of another study")
        except DecodeError:
            self._ledger.append([self._failed(wire, peer)], sync=False)
            raise
        # Not synced: it happened elsewhere and is no release; the entry of the next release is synced after it.
        self._ledger.append([self._record(message, peer, "in", "received", wire, "")], sync=False)
        return message

    # --- the policy's rules ----------------------------------------------------------------------------------------

    def _check(self, message: Message, peer: str) -> None:
        policy, facts = self._policy, self._facts
        tag, thresholds = tag_of(message), facts.roster.roster.thresholds
        if not isinstance(message, self._sends):
            _refuse(f"a {self._role} does not send {tag}", "messages")
        known = {COORDINATOR} if self._role == "site" else set(facts.roster.roster.names)
        if peer not in known:
            _refuse(f"{peer!r} is no peer of this study", "studies")
        if tag not in policy.messages:
            _refuse(f"messages of type {tag} may not leave", f"messages.{tag}")
        if _study_of(message) != facts.study:
            _refuse("a message of another study", "studies.allow")
        if tag == "refusal":
            return  # a code says nothing about data, and must get through just where everything else may not
        if "*" not in policy.studies.allow and facts.study.hex() not in policy.studies.allow:
            _refuse("the study is not allowed", "studies.allow")
        if facts.method not in policy.methods.allow:
            _refuse(f"the method {facts.method!r} is not allowed", "methods.allow")
        if policy.aggregation.required and not facts.secure_aggregation:
            _refuse("secure aggregation is off in this study", "aggregation.required")
        if thresholds.least < policy.aggregation.minimum_cohort:
            _refuse(f"the study's sums may be over {thresholds.least} sites", "aggregation.minimum_cohort")
        session = getattr(message, "session", None)
        if isinstance(session, SessionId) and session.purpose not in policy.aggregation.purposes:
            _refuse(f"sums for {session.purpose} are not allowed", "aggregation.purposes")
        survivors = _survivors_of(message)
        if survivors is not None and survivors < policy.aggregation.minimum_cohort:
            _refuse(f"a sum over {survivors} sites", "aggregation.minimum_cohort")
        self._check_budget()
        if thresholds.private and facts.epsilon is None:
            _refuse("the roster says that updates are differentially private, the study does not", "budget.unaccounted")
        if isinstance(message, MaskedVector) and facts.epsilon is not None:
            check_accounted(self._accounted, message.session, epsilon=facts.epsilon, delta=facts.delta)

    def _check_budget(self) -> None:
        budget, facts = self._policy.budget, self._facts
        for name, limit, value in (
            ("epsilon", budget.maximum_epsilon, facts.epsilon),
            ("delta", budget.maximum_delta, facts.delta),
        ):
            if limit is not None and (value is None or not value <= limit):
                _refuse(f"the study's {name} is {value}, the most allowed {limit}", f"budget.maximum_{name}")

    def _check_size(self, message: Message, size: int) -> None:
        tag = tag_of(message)
        limit = min(self._policy.messages[tag], self._limits.of(tag))
        if size > limit:
            _refuse(f"a message of type {tag} has {size} bytes, more than the {limit} allowed", f"messages.{tag}")

    # --- entries ---------------------------------------------------------------------------------------------------

    def _record(
        self, message: Message, peer: str, direction: str, outcome: Outcome, wire: bytes, rule: str, digest: str = ""
    ) -> Record:
        session = getattr(message, "session", None)
        tag, sender, to = tag_of(message), self._owner, peer
        if direction == "in":
            sender, to = to, sender
        name = str(session) if isinstance(session, SessionId) else self._facts.study.hex()[:12]
        extra: dict[str, Any] = {}
        if isinstance(message, MaskedVector):
            roster = self._facts.roster.roster
            blocks = roster.vectors.get(message.session.purpose, ())  # a stranger's sum is an entry, not an error
            extra["masking"] = {
                "scheme": SCHEME,
                "ring_bits": {block.name: block.ring(len(roster.sites)) for block in blocks},
                "threshold": roster.thresholds.t,
                "cohort": roster.thresholds.m,
                "key_set": hashlib.sha256(message.session.to_bytes()).hexdigest()[:32],
            }
            extra["clip"] = {block.name: float(block.clip) for block in blocks}
            key = key_of(message.session)
            accounted = direction == "out" and outcome != "refused" and self._facts.epsilon is not None
            if accounted and self._accounted is not None and key is not None:
                extra["dp"] = self._accounted.statement(self._facts.study.hex(), key)
        known = outcome != "refused"  # what was refused never had bytes to speak of
        return Record(
            kind="message",
            study=self._facts.study.hex(),
            outcome=outcome,
            round=session.round if isinstance(session, SessionId) else -1,
            stage=STAGE[tag],
            direction="in" if direction == "in" else "out",
            peer=peer,
            peer_key=self._peer_key(peer),
            message_id=f"{name}/{tag}/{sender}/{to}",
            message_type=tag,
            codec=CODEC,
            schema=schema_of(message),
            wire_bytes=len(wire) if known else 0,
            wire_sha256=(digest or hashlib.sha256(wire).hexdigest()) if known else "",
            rule=rule,
            **self._why(),
            **extra,
        )

    def _failed(self, wire: bytes, peer: str) -> Record:
        """An entry for bytes that are no message; of them it says only size and hash."""
        return Record(
            kind="message",
            study=self._facts.study.hex(),
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

    def _why(self) -> dict[str, Any]:
        log, facts = self._policy.log, self._facts
        return {
            "purpose": log.purpose,
            "legal_basis": log.legal_basis,
            "policy_sha256": self._policy.digest,
            "software": facts.software,
            "model": facts.model,
        }

    def _peer_key(self, peer: str) -> str:
        roster = self._facts.roster.roster
        if peer in roster.index:
            return fingerprint_hex(bytes.fromhex(roster.sites[roster.index[peer]].public_key))
        key = self._facts.coordinator_key
        return fingerprint_hex(key) if key and peer == COORDINATOR else ""


def _refuse(what: str, rule: str) -> NoReturn:
    raise EgressRefusedError(
        what, rule=rule, remedy="The policy is this side's own file; change it there if you mean to."
    )


def _study_of(message: Message) -> bytes:
    session = getattr(message, "session", None)
    if isinstance(session, SessionId):
        return session.study
    if isinstance(message, StudyEnd):
        return message.study
    raise TypeError(f"a {tag_of(message)} names no study")


def _survivors_of(message: Message) -> int | None:
    """Over how many sites the sum would be that this message helps to release; None where it does not say."""
    if isinstance(message, UnmaskAnswer):
        return sum(1 for opened in message.shares if opened.kind == "b")
    if isinstance(message, SurvivorSet | UnmaskRequest):
        return len(message.survivors)
    return None
