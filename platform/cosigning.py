"""The coordinator's part in the cosigning of ledgers, step by step: receipts, one batch, signatures.

It follows a round, and the study, and holds nothing up: a site that is silent for a while is left out, and the next
exchange covers what this one did not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from ..privacy.egress import Gate, Sealed
from ..privacy.errors import EgressRefusedError, ProtocolError
from ..privacy.ledger.coordinator_witness import STAGE, CoordinatorWitness
from ..privacy.ledger.log import Ledger
from ..privacy.messages import Cosignature, Message, Receipt, RefusalNotice

PATIENCE = 30.0
"""Seconds that one step waits for silent sites, or the study's patience where that is less."""


@dataclass
class Cosigning:
    """One study's exchanges.

    Attributes:
        witness: makes and checks what is signed.
        gate: the only way out.
        ledger: the coordinator's own.
        study: its hash, hexadecimal.
        clock: monotonic seconds.
        patience: seconds that a step waits at most.
        notes: what a person should know, oldest first; whoever shows them takes them out.
    """

    witness: CoordinatorWitness
    gate: Gate
    ledger: Ledger
    study: str
    clock: Callable[[], float]
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        self._since = 0.0
        self.notes: list[str] = []

    def begin(self, number: int, *, closing: bool) -> None:
        """Wait for receipts: sites send one when they hear that a round, or the study, is over."""
        self.witness.begin(number, closing=closing)
        self._since = self.clock()

    def abandon(self) -> None:
        """The next round begins: what is unfinished stays so."""
        self.witness.abandon()

    @property
    def deadline(self) -> float | None:
        """When the step under way ends without those still silent; None between exchanges."""
        return self._since + self.patience if self.witness.waiting() else None

    @staticmethod
    def concerns(message: Message | None) -> bool:
        """Whether a message is about an exchange."""
        return isinstance(message, Receipt | Cosignature) or (
            isinstance(message, RefusalNotice) and message.stage == STAGE
        )

    def handle(self, sender: str, message: Message | None) -> list[Sealed]:
        """Take a site's answer or refusal; returns what the next step sends, once everybody was heard."""
        if not self.witness.waiting():
            return []
        if isinstance(message, Receipt | Cosignature):
            try:
                self.witness.take(sender, message)
            except ProtocolError as error:
                self.notes.append(f"the ledger of {sender} was not cosigned: {error.what}")
                self.witness.give_up(sender)
        else:
            self.notes.append(f"{sender} refuses to have its ledger cosigned")
            self.witness.give_up(sender)
        return [] if self.witness.waiting() else self._next()

    def expire(self, gone: Collection[str] | None = None) -> list[Sealed]:
        """Go on without the silent ones: those that are gone, or all, where the step's deadline has passed."""
        silent = [site for site in self.witness.waiting() if gone is None or site in gone]
        for site in silent:
            self.witness.give_up(site)
        return self._next() if silent and not self.witness.waiting() else []

    def _next(self) -> list[Sealed]:
        try:
            return self._send_next()
        except EgressRefusedError as error:
            self.notes.append(f"no ledger was cosigned: {error}")
            self.witness.abandon()
            return []

    def _send_next(self) -> list[Sealed]:
        if not self.witness.collecting:
            self.notes += [
                f"{site} shows its ledger and does not cosign: whether it only grew is not known here"
                for site in self.witness.silent()
            ]
            closing = self.witness.closing
            parcels = self.gate.release_many(list(self.witness.cosigned().items()))
            if closing:
                self.witness.sign_end()
            return parcels
        if not self.witness.receipts:
            self.witness.abandon()
            return []
        if self.witness.closing and self.ledger.is_open(self.study):
            self.ledger.close_study(self.study)  # before this side's own checkpoint, which covers it
        self._since = self.clock()
        return self.gate.release_many(list(self.witness.batch().items()))
