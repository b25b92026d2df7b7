"""Whether what one party says to have sent is what the other says to have received, byte for byte."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from .entries import Entry

_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Message:
    """A message by what both sides write down of it.

    Attributes:
        study: its hash. sender, receiver: names.
        message_type: its type; empty where the receiver could not read it.
        round: -1 where it is about none.
        wire_sha256, wire_bytes: of its exact bytes.
        count: how often.
    """

    study: str
    sender: str
    receiver: str
    message_type: str
    round: int
    wire_sha256: str
    wire_bytes: int
    count: int


@dataclass(frozen=True, slots=True)
class Direction:
    """One way between two parties.

    Attributes:
        sender, receiver: names.
        sent, sent_bytes: by the sender's ledger, repetitions included. received, received_bytes: by the receiver's.
        retried: of those sent, repetitions. refused: what the sender's policy stopped; it never had bytes.
        unreadable: of those received, what the receiver could not read.
        lost: sent, and not received: lost on the way, or not written down by the receiver.
        unrecorded: received, and never sent by the sender's ledger: a transmission was omitted there, or forged.
        mislabelled: received as another type, round or shape than the sender wrote down: one of the two is false.
        denied: of those lost, what the receiver had signed to have received: it was omitted from the receiver's ledger.
    """

    sender: str
    receiver: str
    sent: int
    sent_bytes: int
    received: int
    received_bytes: int
    retried: int
    refused: int
    unreadable: int
    lost: tuple[Message, ...]
    unrecorded: tuple[Message, ...]
    mislabelled: tuple[Message, ...] = ()
    denied: tuple[Message, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether neither side omitted anything; what was lost on the way is nobody's omission."""
        return not (self.unrecorded or self.mislabelled or self.denied)


def reconcile(
    sender: Iterable[Entry],
    receiver: Iterable[Entry],
    names: tuple[str, str],
    acknowledged: Collection[str] = (),
) -> Direction:
    """Compare what one party sent to another with what that other received, by the hashes of exact bytes.

    Args:
        sender, receiver: entries of both ledgers, in order; read once.
        names: of sender and receiver.
        acknowledged: wire hashes, hexadecimal, for which the sender has the receiver's signed receipt.
    """
    from_name, to_name = names
    out: Counter[_Key] = Counter()
    came: Counter[_Key] = Counter()
    about: dict[_Key, Entry] = {}
    named: dict[_Key, Entry] = {}
    other: Counter[_Key] = Counter()
    retried = refused = unreadable = 0
    for entry in sender:
        if entry.kind == "message" and entry.direction == "out" and entry.peer == to_name:
            if entry.outcome in ("sent", "retried"):
                key = _note(entry, about)
                out[key] += 1
                named[key] = entry
                retried += entry.outcome == "retried"
            elif entry.outcome == "refused":
                refused += 1
    for entry in receiver:
        if entry.kind == "message" and entry.direction == "in" and entry.peer == from_name:
            key = _note(entry, about)
            came[key] += 1
            other[key] += key in named and entry.outcome == "received" and not _alike(named[key], entry)
            unreadable += entry.outcome == "failed"
    lost = _messages(out - came, about, names)
    return Direction(
        sender=from_name,
        receiver=to_name,
        sent=out.total(),
        sent_bytes=_bytes(out, about),
        received=came.total(),
        received_bytes=_bytes(came, about),
        retried=retried,
        refused=refused,
        unreadable=unreadable,
        lost=lost,
        unrecorded=_messages(came - out, about, names),
        mislabelled=_messages(+other, about, names),
        denied=tuple(row for row in lost if row.wire_sha256 in acknowledged and not _came(row, came)),
    )


def _alike(sent: Entry, received: Entry) -> bool:
    """Whether both sides say of the same bytes that they are the same message."""
    return (sent.message_type, sent.round, sent.stage, sent.number, sent.schema) == (
        received.message_type,
        received.round,
        received.stage,
        received.number,
        received.schema,
    )


def _came(row: Message, came: Counter[_Key]) -> bool:
    """Whether at least one of several equal messages is in the receiver's ledger: a receipt names a hash once."""
    return came[row.study, row.wire_sha256, str(row.wire_bytes)] > 0


def _note(entry: Entry, about: dict[_Key, Entry]) -> _Key:
    key = (entry.study, entry.wire_sha256, str(entry.wire_bytes))
    known = about.get(key)
    if known is None or not known.message_type:  # the sender knows its type, also where the receiver could not read it
        about[key] = entry
    return key


def _bytes(counted: Counter[_Key], about: dict[_Key, Entry]) -> int:
    return sum(about[key].wire_bytes * count for key, count in counted.items())


def _messages(counted: Counter[_Key], about: dict[_Key, Entry], names: tuple[str, str]) -> tuple[Message, ...]:
    rows = []
    for key, count in counted.items():
        entry = about[key]
        rows.append(
            Message(
                entry.study,
                *names,
                entry.message_type,
                entry.round,
                entry.wire_sha256,
                entry.wire_bytes,
                count,
            )
        )
    return tuple(sorted(rows, key=lambda row: (row.study, row.round, row.message_type, row.wire_sha256)))
