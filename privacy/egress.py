"""The one door: nothing leaves a side but what its policy allows and its ledger already records.

`Gate.release` is the only maker of `Sealed`, and engines carry nothing else. What the policy refuses is refused before
bytes exist outside this module, and is an entry too. What arrives comes in through the same gate: strictly decoded, and
written down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NoReturn

from .accounted import Accounted
from .egress_entries import Commit, Facts, Scribe
from .egress_rules import check, check_size, refuse, study_of
from .errors import DecodeError, EgressRefusedError
from .ledger.entries import Outcome
from .ledger.log import Ledger
from .messages import Limits, Message, decode, encode, tag_of
from .policy import Policy
from .study_facts import COORDINATOR, StudyFacts

__all__ = ["COORDINATOR", "Gate", "Sealed", "StudyFacts"]
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


class Gate:
    """The door of one side (a site, or the coordinator) in one study.

    Args:
        owner: the site's name, or ``coordinator``.
        ledger: this side's, open; the study must be open in it (`Ledger.open_study`).
        policy: this side's; its role must fit the owner.
        facts: about the study.
        limits: largest size of each message, for what arrives and what leaves.
        budget: the site's privacy budget; without it no masked vector of a study with an epsilon leaves.
        commit: what the ledger commits to masked content with (`Identity.commit` under a label); None: it does not.

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
        commit: Commit | None = None,
    ) -> None:
        role = "coordinator" if owner == COORDINATOR else "site"
        if policy.role != role:
            raise EgressRefusedError(
                f"the policy is a {policy.role}'s, {owner} is a {role}", rule="role", remedy="Use its own policy file."
            )
        self._ledger, self._policy, self._facts, self._limits = ledger, policy, facts, limits
        self._accounted = budget
        self._scribe = Scribe(owner, policy, facts, budget, commit, partial(ledger.is_open, facts.study.hex()))
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether the policy ended this side's part in the study, after it had refused something."""
        return self._stopped

    # --- out -------------------------------------------------------------------------------------------------------

    def release(self, message: Message, *, peer: str, plain: bytes = b"", facts: Facts | None = None) -> Sealed:
        """Let one message out; see `release_many`.

        Args:
            message, peer: what, and to whom.
            plain: SHA-256 of the vector behind a masked one; the entry commits to it.
            facts: what the entry states beside the message.
        """
        return self._release([(peer, message)], plain, facts)[0]

    def release_many(self, batch: Sequence[tuple[str, Message]]) -> list[Sealed]:
        """Let messages out together, with one sync of the ledger: all of them, or none.

        The same bytes to the same peer again are an entry ``retried``.

        Raises:
            EgressRefusedError: when the policy refuses any of them; the refusal is in the ledger.
            LedgerError: when the ledger cannot be written; nothing was released.
        """
        return self._release(batch, b"", None)

    def _release(self, batch: Sequence[tuple[str, Message]], plain: bytes, facts: Facts | None) -> list[Sealed]:
        for peer, message in batch:
            try:
                if self._stopped and tag_of(message) != "refusal":
                    refuse("this side's part in the study is over", "refusal.then")
                check(message, peer, self._policy, self._facts, self._accounted)
            except EgressRefusedError as refused:
                self._refused(message, peer, refused)
                raise
        ready: list[tuple[str, Message, bytes, str]] = []
        cache: dict[int, tuple[bytes, str]] = {}  # one message to many peers is encoded and hashed once
        for peer, message in batch:
            if id(message) not in cache:
                wire = encode(message)
                cache[id(message)] = (wire, self._scribe.digest(wire))
            wire, digest = cache[id(message)]
            try:
                check_size(message, len(wire), self._policy, self._limits)
            except EgressRefusedError as refused:
                self._refused(message, peer, refused)
                raise
            ready.append((peer, message, wire, digest))
        records = [
            self._scribe.sent(message, peer, self._outcome(peer, digest), wire, digest, plain, facts)
            for peer, message, wire, digest in ready
        ]
        numbers = self._ledger.append(records)  # written and synced, or it raises: only then may bytes exist outside
        sealed = []
        for number, (peer, message, wire, digest) in zip(numbers, ready, strict=True):
            sealed.append(Sealed(_TOKEN, wire=wire, peer=peer, tag=tag_of(message), sha256=digest, sequence=number))
        return sealed

    def _refused(self, message: Message, peer: str, refused: EgressRefusedError) -> None:
        self._ledger.append([self._scribe.refused(message, peer, refused.rule)])
        self._stopped = self._stopped or self._policy.refusal.then == "stop"

    def _outcome(self, peer: str, digest: str) -> Outcome:
        return "retried" if self._ledger.was_sent(self._facts.study.hex(), peer, digest) else "sent"

    # --- in --------------------------------------------------------------------------------------------------------

    def admit(self, wire: bytes, *, peer: str, expected: Iterable[type[Message]]) -> Message:
        """Decode what arrived, and write it down; a message of another study is refused here.

        Raises:
            DecodeError: when the bytes are not one of the expected messages; that is an entry too.
        """
        try:
            message = decode(wire, expected, self._limits)
            if study_of(message) != self._facts.study:
                raise DecodeError("a message of another study")
        except DecodeError:
            self._ledger.append([self._scribe.failed(wire, peer)], sync=False)
            raise
        # Not synced: it happened elsewhere and is no release; the entry of the next release is synced after it.
        self._ledger.append([self._scribe.received(message, peer, wire)], sync=False)
        return message
