"""Which groups of images a site has withdrawn for good: keyed hashes in its home, never a name.

A name of a patient can be guessed, so a plain hash of it would tell who withdrew. Here it is HMAC-SHA256 under a random
key that lies in the home alone: without the home, nobody can try names; with it, the site's own software recognises a
withdrawn group, and each of its images by content, in whatever study it meets them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from .atomic import canonical_json, write_atomic
from .errors import HomeError
from .ledger.reading import read_lines

FORGOTTEN_FILE, KEY_FILE, LEDGER_FILE = "forgotten.json", "forgotten.key", "ledger.jsonl"
KEY_BYTES = 32
_GROUP, _IMAGE, _WHOLE = b"wardround forgotten group\0", b"wardround forgotten image\0", b"wardround forgotten file\0"
_RESTORE = "Restore both files from one backup of the home; until then nothing is trained, lest a patient come back"


class Withdrawal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One group that was withdrawn.

    Attributes:
        marks: keyed hashes of the group's name and of its images, sorted, hexadecimal.
        counted: hashes of the studies whose roster this site had signed before: there its images keep their number.
    """

    marks: list[str]
    counted: list[str]


class Pending(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A withdrawal that is not yet in the ledger.

    Attributes:
        entries: of the ledger, before it.
        records, files: what its entry will say: images, and files changed or removed.
        state: whether stored updates are to be gone through as well.
    """

    entries: int
    records: int
    files: int
    state: bool


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What a site's home knows of withdrawn groups.

    Attributes:
        folder: the home.
        withdrawals: all of them.
        pending: the one under way; None when all is done.
    """

    folder: Path
    withdrawals: tuple[Withdrawal, ...] = ()
    pending: Pending | None = None
    _key: bytes = b""

    @classmethod
    def read(cls, folder: Path) -> Forgotten:
        """Read a home's list; empty where nothing was ever withdrawn.

        Raises:
            HomeError: it is damaged, its key is gone, or the ledger knows of withdrawals and the list is gone.
        """
        path = folder / FORGOTTEN_FILE
        try:
            if not path.is_file():
                if _in_ledger(folder / LEDGER_FILE):
                    raise HomeError("the list of withdrawn groups is gone", where=str(path), remedy=_RESTORE)
                return cls(folder)
            key, content = (folder / KEY_FILE).read_bytes(), path.read_bytes()
        except OSError as error:
            raise HomeError(
                f"the list of withdrawn groups cannot be read: {error.strerror}", where=str(path), remedy=_RESTORE
            ) from None
        try:
            whole: dict[str, Any] = msgspec.json.decode(content, type=dict[str, Any])
            told = str(whole.pop("mac"))
            known = len(key) == KEY_BYTES and hmac.compare_digest(told, _mac(key, whole))
            withdrawals = msgspec.convert(whole["withdrawals"], tuple[Withdrawal, ...])
            pending = msgspec.convert(whole["pending"], Pending | None)
        except (msgspec.MsgspecError, ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise HomeError("the list of withdrawn groups is damaged", where=str(path), remedy=_RESTORE)
        return cls(folder, withdrawals, pending, key)

    @property
    def marks(self) -> frozenset[str]:
        """All marks of all withdrawals."""
        return frozenset(mark for each in self.withdrawals for mark in each.marks)

    def with_key(self) -> Forgotten:
        """The same with a key to mark names with; one is made, mode 0600, where the home has none.

        Raises:
            OSError: it cannot be written.
        """
        if self._key:
            return self
        path = self.folder / KEY_FILE
        if not (path.is_file() and path.stat().st_size == KEY_BYTES):
            write_atomic(path, secrets.token_bytes(KEY_BYTES))
        return replace(self, _key=path.read_bytes())

    def group_mark(self, group: str) -> str:
        """The keyed hash of a group's name."""
        return self._mark(_GROUP + group.encode())

    def image_mark(self, name: str) -> str:
        """The keyed hash of an image's content hash, or of its name in the feature cache; hexadecimal."""
        return self._mark(_IMAGE + bytes.fromhex(name))

    def holding(self, *marks: str) -> tuple[Withdrawal, ...]:
        """The withdrawals with any of these marks."""
        return tuple(each for each in self.withdrawals if not set(marks).isdisjoint(each.marks))

    def adding(self, withdrawal: Withdrawal, pending: Pending) -> Forgotten:
        """With one more withdrawal, under way; on disk when this returns.

        Raises:
            OSError: it cannot be written; the old list stands.
        """
        return self._written(replace(self, withdrawals=(*self.withdrawals, withdrawal), pending=pending))

    def becoming(self, pending: Pending | None) -> Forgotten:
        """With another one under way, or none; on disk when this returns.

        Raises:
            OSError: it cannot be written; the old list stands.
        """
        return self._written(replace(self, pending=pending))

    def _mark(self, what: bytes) -> str:
        if not self._key:
            raise ValueError("there is no key to mark with")
        return hmac.new(self._key, what, hashlib.sha256).hexdigest()

    @staticmethod
    def _written(after: Forgotten) -> Forgotten:
        whole = {
            "version": 1,
            "withdrawals": msgspec.to_builtins(after.withdrawals),
            "pending": msgspec.to_builtins(after.pending),
        }
        content = canonical_json({**whole, "mac": _mac(after._key, whole)})
        write_atomic(after.folder / FORGOTTEN_FILE, content + b"\n")
        return after


def _mac(key: bytes, whole: Any) -> str:
    return hmac.new(key, _WHOLE + canonical_json(whole), hashlib.sha256).hexdigest()


def _in_ledger(path: Path) -> bool:
    return path.is_file() and any(b'"kind":"forget"' in line for line in read_lines(path))


def sorted_marks(marks: Sequence[str]) -> list[str]:
    """Marks in an order that says nothing of what they are of."""
    return sorted(set(marks))
