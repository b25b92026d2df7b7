"""The transmission ledger: one canonical JSON line a message, each naming the hash of the line before it.

Write, sync, then release: an entry is on disk before its message exists outside the gate. A chain alone shows an edit,
a removal, an insertion or a swap; it does not show that whole lines were cut off its end, nor that its owner rewrote
all of it. Those need a second party's signature over the last hash.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import msgspec

from .atomic import canonical_json, sync_folder, write_atomic
from .errors import LedgerError

VERSION = 1
GENESIS = "0" * 64
Outcome = Literal["sent", "retried", "refused", "received", "failed", "noted"]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one entry says, beside its place in the chain. Never a patient identifier, a path or an exception text.

    Attributes:
        kind: ``open`` and ``close`` of a study, ``message``, or ``note`` (what the ledger says about itself).
        study: the study's SHA-256, hexadecimal; empty in notes about the file.
        round, stage, message_type: of a message; -1 and empty where there is none.
        direction: ``out``, ``in``, or ``none``.
        peer, peer_key: the other side's name and the SHA-256 of its identity key, hexadecimal or empty.
        message_id: names the message; a retry has the same.
        schema: name, dtype, shape and bytes of each field.
        wire_bytes, wire_sha256: of the exact bytes given to or taken from the transport; 0 and empty when refused.
        masking: scheme, threshold and key set of a masked vector, else None.
        clip: clip of each block of a masked vector, else None.
        dp: differential privacy of the content; None without.
        purpose, legal_basis, policy_sha256: from the policy in force.
        software, model: version of this software; fingerprint of the frozen model.
        outcome: what became of the message.
        rule: the policy rule that refused it, or what a note is about; else empty.
    """

    kind: Literal["open", "close", "message", "note"]
    study: str
    outcome: Outcome
    round: int = -1
    stage: str = ""
    direction: Literal["out", "in", "none"] = "none"
    peer: str = ""
    peer_key: str = ""
    message_id: str = ""
    message_type: str = ""
    codec: str = ""
    schema: list[dict[str, Any]] = msgspec.field(default_factory=list)
    wire_bytes: int = 0
    wire_sha256: str = ""
    masking: dict[str, Any] | None = None
    clip: dict[str, float] | None = None
    dp: dict[str, Any] | None = None
    purpose: str = ""
    legal_basis: str = ""
    policy_sha256: str = ""
    software: str = ""
    model: str = ""
    rule: str = ""


class Entry(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record in its place: version, sequence from 0, hash of the entry before, UTC time, owner of the ledger."""

    version: int
    sequence: int
    previous: str
    time: str
    owner: str

    def line(self) -> bytes:
        """The canonical bytes of this entry, without the newline."""
        return canonical_json(msgspec.to_builtins(self))


@dataclass(frozen=True)
class LedgerReport:
    """What `verify` found.

    Attributes:
        entries: good entries from the start.
        problem: empty when the ledger is good; else what is wrong with the first bad entry, naming its line.
        head: hash of the last good entry.
        open_studies: studies opened and not closed.
        notes: sequence numbers of entries in which the ledger reports about itself (a torn line set aside).
        torn: bytes after the last newline: a write that a crash cut off; not yet a problem.
    """

    entries: int
    problem: str
    head: str
    open_studies: tuple[str, ...] = ()
    notes: tuple[int, ...] = ()
    torn: int = 0

    @property
    def ok(self) -> bool:
        """Whether every entry is in order."""
        return not self.problem


@dataclass
class _Sent:
    """What left in the newest round of a study, so that the same bytes again are known for a repetition."""

    round: int = -1
    known: set[tuple[str, str]] = field(default_factory=set)

    def note(self, entry: Entry) -> None:
        """Remember one message that left; an earlier round's are not asked for again."""
        if entry.round > self.round:
            self.round = entry.round
            self.known.clear()
        self.known.add((entry.peer, entry.wire_sha256))


@dataclass
class _Chain:
    """Where a reading of the chain stands."""

    sequence: int = 0
    head: str = GENESIS
    open_studies: dict[str, int] = field(default_factory=dict)
    notes: list[int] = field(default_factory=list)
    sent: dict[str, _Sent] = field(default_factory=dict)

    def copy(self) -> _Chain:
        """A chain to try entries on; the original stays as it is."""
        sent = {study: _Sent(of.round, set(of.known)) for study, of in self.sent.items()}
        return _Chain(self.sequence, self.head, dict(self.open_studies), [], sent)

    def take(self, line: bytes) -> str:
        """Follow the chain by one line; returns what is wrong with it, or an empty string."""
        try:
            entry = msgspec.json.decode(line, type=Entry)
            canonical = entry.line() == line
        except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
            return "is no ledger entry"
        if not canonical:
            return "is not in canonical form"
        if entry.version != VERSION:
            return f"has the unknown version {entry.version}"
        if entry.sequence != self.sequence:
            return f"has sequence {entry.sequence} instead of {self.sequence}"
        if entry.previous != self.head:
            return "does not follow from the entry before it"
        if entry.kind == "open":
            if entry.study in self.open_studies:
                return "opens a study that is open already"
            self.open_studies[entry.study] = entry.sequence
        elif entry.kind in ("close", "message"):
            if entry.study not in self.open_studies:
                return f"is a {entry.kind} of a study that is not open"
            if entry.kind == "close":
                del self.open_studies[entry.study]
        else:
            self.notes.append(entry.sequence)
        if entry.direction == "out" and entry.outcome in ("sent", "retried"):
            self.sent.setdefault(entry.study, _Sent()).note(entry)
        self.sequence += 1
        self.head = hashlib.sha256(line).hexdigest()
        return ""


def _read(path: Path) -> tuple[_Chain, str, int, bytes]:
    """Follow the whole file: the chain, the first problem, the length of the good part, and a torn tail."""
    chain, good, problem, tail = _Chain(), 0, "", b""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                tail = line
                break
            wrong = chain.take(line[:-1])
            if wrong:
                problem = f"line {number} {wrong}"
                # A crash may leave a last line of the right length whose blocks never reached the disk: zeros.
                if b"\0" in line and not stream.read(1):
                    problem, tail = "", line
                break
            good += len(line)
    return chain, problem, good, tail


def verify(path: Path) -> LedgerReport:
    """Check a ledger offline, entry by entry, up to the first bad one.

    Raises:
        LedgerError: when the file cannot be read.
    """
    try:
        chain, problem, _, tail = _read(path)
    except OSError as error:
        raise LedgerError(f"the ledger cannot be read: {error.strerror}", where=str(path)) from None
    return LedgerReport(chain.sequence, problem, chain.head, tuple(chain.open_studies), tuple(chain.notes), len(tail))


class Ledger:
    """An append-only ledger, open for writing. Made by `Ledger.open`; one process at a time (the home's lock)."""

    def __init__(self, path: Path, owner: str, clock: Callable[[], datetime], descriptor: int, chain: _Chain) -> None:
        self.path = path
        self.owner = owner
        self.torn: Path | None = None
        self._clock = clock
        self._descriptor = descriptor
        self._chain = chain
        self._lock = threading.Lock()
        self._broken = False

    @classmethod
    def open(cls, path: Path, *, owner: str, clock: Callable[[], datetime]) -> Ledger:
        """Open or begin a ledger.

        The whole chain is followed first: nothing is appended to a broken one. A torn last line is moved to a file
        beside it (``self.torn``) and a note about it becomes an entry.

        Args:
            path: the ledger's file; made with mode 0600.
            owner: site or ``coordinator``, written into every entry.
            clock: gives the time, with a time zone.

        Raises:
            LedgerError: when the ledger is broken or cannot be opened.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise LedgerError(f"the ledger cannot be opened: {error.strerror}", where=str(path)) from None
        try:
            chain, problem, good, tail = _read(path)
            if problem:
                raise LedgerError(
                    f"the ledger is broken: {problem}",
                    where=str(path),
                    remedy="Keep the file as evidence and find out who changed it; nothing is sent meanwhile.",
                )
            ledger = cls(path, owner, clock, descriptor, chain)
            sync_folder(path.parent)
            if tail:
                ledger._set_aside(tail, good)
            ledger._note_torn()
        except OSError as error:
            os.close(descriptor)
            raise LedgerError(f"the ledger cannot be opened: {error.strerror}", where=str(path)) from None
        except BaseException:
            os.close(descriptor)
            raise
        return ledger

    def _set_aside(self, tail: bytes, good: int) -> None:
        """Keep a torn line in a file of its own before cutting it off, so that no crash in between loses it."""
        taken = {path: path.read_bytes() for path in self._torn_files()}
        if tail not in taken.values():  # else a crash came between the copy and the cut
            extra = f"-{len(taken)}" if taken else ""  # an earlier torn line, whose note was torn itself, stays
            write_atomic(self.path.with_name(f"{self.path.name}.torn-{self._chain.sequence}{extra}"), tail)
        os.ftruncate(self._descriptor, good)
        os.fsync(self._descriptor)

    def _note_torn(self) -> None:
        """An entry for every torn line that has none yet, also where a crash came between the cut and the note."""
        notes = []
        for path in self._torn_files():
            tail = path.read_bytes()
            digest = hashlib.sha256(tail).hexdigest()
            size = len(tail)
            notes.append(
                Record(kind="note", study="", outcome="noted", rule="torn-line", wire_bytes=size, wire_sha256=digest)
            )
            self.torn = path
        if notes:
            self.append(notes)

    def _torn_files(self) -> list[Path]:
        """Torn lines that were set aside at this place of the chain; once noted, the chain is past it."""
        name = re.compile(rf"{re.escape(self.path.name)}\.torn-{self._chain.sequence}(-\d+)?")
        return sorted(path for path in self.path.parent.iterdir() if name.fullmatch(path.name))

    @property
    def head(self) -> str:
        """Hash of the last entry, hexadecimal."""
        return self._chain.head

    @property
    def sequence(self) -> int:
        """Number of entries; the next one's sequence."""
        return self._chain.sequence

    def knows(self, study: str) -> bool:
        """Whether the study was ever opened here and is open still, or something of it left."""
        return study in self._chain.open_studies or study in self._chain.sent

    def is_open(self, study: str) -> bool:
        """Whether the study (hexadecimal hash) was opened here and not closed."""
        return study in self._chain.open_studies

    def was_sent(self, study: str, peer: str, sha256: str) -> bool:
        """Whether these bytes left for ``peer`` before, in the study's newest round; also before a restart."""
        return study in self._chain.sent and (peer, sha256) in self._chain.sent[study].known

    def open_study(self, study: str, **facts: str) -> None:
        """Write the study's ``open`` entry; nothing happens when it is open already (a resumed run)."""
        if not self.is_open(study):
            self.append([Record(kind="open", study=study, outcome="noted", **facts)])  # type: ignore[arg-type]

    def close_study(self, study: str) -> None:
        """Write the study's ``close`` entry; messages of the study can follow only after another ``open``.

        Raises:
            LedgerError: when the study is not open.
        """
        self.append([Record(kind="close", study=study, outcome="noted")])

    def append(self, records: Sequence[Record], *, sync: bool = True) -> list[int]:
        """Write entries with one write and one sync; returns their sequence numbers.

        Args:
            records: in order.
            sync: False for what has already happened (a message that arrived); the next synced append covers it.

        Raises:
            LedgerError: when an entry does not fit (a message of a study that is not open); nothing was written then.
                When the disk refuses; the ledger then takes nothing more, because what the file holds is not known.
        """
        with self._lock:
            if self._broken:
                raise LedgerError("the ledger failed earlier and takes no more entries", where=str(self.path))
            chain = self._chain.copy()
            lines, numbers = [], []
            for record in records:
                now = self._clock().astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
                place = {
                    "version": VERSION,
                    "sequence": chain.sequence,
                    "previous": chain.head,
                    "time": now,
                    "owner": self.owner,
                }
                line = canonical_json({**msgspec.to_builtins(record), **place})
                numbers.append(chain.sequence)
                wrong = chain.take(line)
                if wrong:
                    raise LedgerError(f"an entry cannot be written: it {wrong}", where=str(self.path))
                lines.append(line + b"\n")
            self._write(b"".join(lines), sync)
            self._chain = chain
            return numbers

    def _write(self, data: bytes, sync: bool) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            if sync:
                os.fsync(self._descriptor)
        except OSError as error:
            self._broken = True
            raise LedgerError(
                f"the ledger cannot be written: {error.strerror}", where=str(self.path), remedy="Check the disk."
            ) from None

    def close(self) -> None:
        """Sync and close the file; calling it twice does no harm."""
        with self._lock:
            if self._descriptor >= 0:
                if not self._broken:
                    os.fsync(self._descriptor)
                os.close(self._descriptor)
                self._descriptor = -1
                self._broken = True

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
