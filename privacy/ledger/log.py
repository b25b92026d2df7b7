"""The transmission ledger: one canonical JSON line a message, each naming the hash of the line before it.

Write, sync, then release: an entry is on disk before its message exists outside the gate. A chain alone shows an edit,
a removal, an insertion or a swap; it does not show that whole lines were cut off its end, nor that its owner rewrote
all of it. Those need other parties' signatures over checkpoints (`witness`).
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from ..atomic import sync_folder, write_atomic
from ..errors import LedgerError
from .chain import Chain
from .entries import GENESIS, VERSION, Entry, Record

SALT_BYTES = 16
_ALONE = frozenset({"open", "close", "key"})


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


def _read(path: Path) -> tuple[Chain, str, int, bytes]:
    """Follow the whole file: the chain, the first problem, the length of the good part, and a torn tail."""
    chain, good, problem, tail = Chain(), 0, "", b""
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
    opened = tuple(name for name, study in chain.studies.items() if study.open)
    return LedgerReport(chain.sequence, problem, chain.head, opened, tuple(chain.notes), len(tail))


class Ledger:
    """An append-only ledger, open for writing. Made by `Ledger.open`; one process at a time (the home's lock)."""

    def __init__(self, path: Path, owner: str, clock: Callable[[], datetime], descriptor: int, chain: Chain) -> None:
        self.path = path
        self.owner = owner
        self.torn: Path | None = None
        self._clock = clock
        self._descriptor = descriptor
        self._chain = chain
        self._lock = threading.Lock()
        self._broken = False
        self._unsynced = True  # a process before this one may have been killed between a write and its sync

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
            if chain.owner not in ("", owner):
                raise LedgerError(
                    f"the ledger is of {chain.owner!r}, not of {owner!r}",
                    where=str(path),
                    remedy="Every party has a ledger of its own; look for the right one.",
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

    @property
    def budget(self) -> dict[str, Any] | None:
        """What the last budget entry says (``sequence``, ``sha256``, ...); None where there is none."""
        return None if self._chain.budget is None else dict(self._chain.budget)

    def head_at(self, entries: int) -> str | None:
        """Hash of the last of the first ``entries`` entries, as the file has them now; None when it has fewer.

        Raises:
            LedgerError: the file cannot be read.
        """
        if entries == 0:
            return GENESIS
        try:
            with self.path.open("rb") as stream:
                line = next(itertools.islice(stream, entries - 1, entries), b"")
        except OSError as error:
            raise LedgerError(f"the ledger cannot be read: {error.strerror}", where=str(self.path)) from None
        return hashlib.sha256(line[:-1]).hexdigest() if line.endswith(b"\n") else None

    @property
    def chain(self) -> Chain:
        """Where the ledger stands; for reading."""
        return self._chain

    def knows(self, study: str) -> bool:
        """Whether the study was ever opened here."""
        return study in self._chain.studies

    def is_open(self, study: str) -> bool:
        """Whether the study (hexadecimal hash) was opened here and not closed."""
        return self.knows(study) and self._chain.studies[study].open

    def split_of(self, study: str) -> str:
        """SHA-256, hexadecimal, of the owner's split as the study's last ``open`` names it; empty: it names none."""
        return self._chain.studies[study].split if self.knows(study) else ""

    def roster_of(self, study: str) -> str:
        """SHA-256, hexadecimal, of the roster that the study's last ``open`` names; empty: it names none."""
        return self._chain.studies[study].roster if self.knows(study) else ""

    def was_sent(self, study: str, peer: str, sha256: str) -> bool:
        """Whether these bytes left for ``peer`` before, in the study's newest round; also before a restart."""
        return self.knows(study) and (peer, sha256) in self._chain.studies[study].known

    def open_study(self, study: str, **facts: str) -> None:
        """Write the study's ``open`` entry; nothing happens when it is open already (a resumed run).

        Args:
            study: its hash, hexadecimal.
            facts: ``roster``, ``identity``, ``coordinator``, ``split``; see `entries.FACTS`.
        """
        if not self.is_open(study):
            self.append([Record(kind="open", study=study, outcome="noted", facts=dict(facts) or None)])

    def close_study(self, study: str) -> None:
        """Write the study's ``close`` entry; nothing but the closing exchange can follow before another ``open``.

        Raises:
            LedgerError: when the study is not open.
        """
        self.append([Record(kind="close", study=study, outcome="noted")])

    def append_key(self, make: Callable[[Chain], Record]) -> None:
        """Write the entry of a ledger key, whose certificate is for this very place.

        Raises:
            LedgerError: as `append`.
        """
        with self._lock:
            self._append([make(self._chain)], sync=True)

    def append(self, records: Sequence[Record], *, sync: bool = True) -> list[int]:
        """Write entries with one write and one sync; returns their sequence numbers. Takes the same time at any length.

        Args:
            records: in order; an entry that opens or closes a study, or changes the key, comes alone.
            sync: False for what has already happened (a message that arrived); the next synced append covers it.

        Raises:
            LedgerError: when an entry does not fit (a message of a study that is not open); nothing was written then.
                When the disk refuses; the ledger then takes nothing more, because what the file holds is not known.
        """
        with self._lock:
            return self._append(records, sync=sync)

    def _append(self, records: Sequence[Record], *, sync: bool) -> list[int]:
        if self._broken:
            raise LedgerError("the ledger failed earlier and takes no more entries", where=str(self.path))
        if len(records) > 1 and any(record.kind in _ALONE for record in records):
            raise LedgerError("an entry that changes what may follow comes alone", where=str(self.path))
        entries: list[tuple[Entry, bytes]] = []
        for record in records:
            entry, line = self._entry(record, entries)
            # Entries that come together leave open studies, keys and budgets as they are: each is judged by itself.
            wrong = self._chain.refuses_content(entry)
            if wrong:
                raise LedgerError(f"an entry cannot be written: it {wrong}", where=str(self.path))
            entries.append((entry, line))
        self._write(b"".join(line + b"\n" for _, line in entries), sync)
        for entry, line in entries:
            self._chain.follow(entry, line)
        return [entry.sequence for entry, _ in entries]

    def _entry(self, record: Record, before: Sequence[tuple[Entry, bytes]]) -> tuple[Entry, bytes]:
        """A record in its place behind the chain and the entries that are about to be written; and its line."""
        now = self._clock().astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        entry = Entry(
            **{name: getattr(record, name) for name in record.__struct_fields__},
            version=VERSION,
            sequence=self._chain.sequence + len(before),
            previous=hashlib.sha256(before[-1][1]).hexdigest() if before else self._chain.head,
            time=now,
            owner=self.owner,
            salt=secrets.token_hex(SALT_BYTES),
        )
        try:
            return entry, entry.line()
        except ValueError as error:
            raise LedgerError(f"an entry has no canonical form: {error}", where=str(self.path)) from None

    def sync(self) -> tuple[int, str]:
        """Make all entries so far survive a power cut; what names the ledger's head elsewhere must do so first.

        Returns:
            How many entries that are, and the hash of the last one.

        Raises:
            LedgerError: as `append`.
        """
        with self._lock:
            if self._broken:
                raise LedgerError("the ledger failed earlier and takes no more entries", where=str(self.path))
            if self._unsynced:
                self._write(b"", True)
            return self._chain.sequence, self._chain.head

    def _write(self, data: bytes, sync: bool) -> None:
        try:
            self._unsynced = True
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            if sync:
                os.fsync(self._descriptor)
                self._unsynced = False
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
