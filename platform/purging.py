"""What of a site's home counts as patient data, or is no longer needed, and goes: listed, then removed, then noted.

A closed study's state goes, in a simulation its ``RUN/split.json`` too, but for what protects the site and what was
made for it: the roster, what it signed, which rounds it entered (without these a coordinator could have a closed
study's round summed a second time), its models.
Ledger, signed checkpoints and rosters go only when asked for, after the time that the site's policy keeps them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from ..privacy.atomic import sync_folder, write_json
from ..privacy.ledger.evidence import FOLDER as CHECKPOINTS
from ..privacy.ledger.log import Ledger
from ..privacy.ledger.reading import read_entries
from ..privacy.ledger.rosters import FOLDER as ROSTERS
from ..privacy.policy import Log, Policy
from .errors import PlatformError
from .feature_cache import cache_files
from .held_home import HeldHome
from .held_out_memory import HELD_OUT_FILE
from .lost_state import SURVIVORS_FILE
from .means_memory import MEANS_FILE
from .progress import PROGRESS_FILE
from .run_folder import RunFolder
from .site_machine import FINAL_FILE
from .site_side import LEFT_FILE, REQUEST_FILE, ROSTER_FILE
from .state_files import damaged, read_state
from .trainer import PERSONAL_FILE

LONGEST = 36_500
"""Days that any retention lasts at most."""
KEPT_OF_STATE = frozenset(
    {
        *(REQUEST_FILE, ROSTER_FILE, LEFT_FILE),
        *(PROGRESS_FILE, SURVIVORS_FILE, MEANS_FILE, HELD_OUT_FILE, FINAL_FILE, PERSONAL_FILE),
    }
)
Kind = Literal["cache", "state", "ledger"]
_GONE = (FileNotFoundError, NotADirectoryError)


class RetentionError(PlatformError):
    """The ledger may not go yet."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file that would go.

    Attributes:
        path: the file. size: in bytes.
        kind: feature cache, state of a closed study, or ledger with what proves it.
        study: hash of the study whose state it is; else empty.
    """

    path: Path
    size: int
    kind: Kind
    study: str = ""


@dataclass(frozen=True, slots=True)
class PurgePlan:
    """What would go, and what would stay.

    Attributes:
        items: files, in the order in which they go; the ledger last.
        open_studies: hash of each study whose state stays, and why.
        closed: hashes of the others that have state.
        ledger: whether the ledger goes too.
    """

    items: tuple[Item, ...]
    open_studies: dict[str, str]
    closed: tuple[str, ...]
    ledger: bool

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(item.size for item in self.items)

    def of(self, kind: Kind) -> tuple[Item, ...]:
        """The files of one kind."""
        return tuple(item for item in self.items if item.kind == kind)


@dataclass(frozen=True, slots=True)
class Purged:
    """What went.

    Attributes:
        files, size: how many, and their bytes.
        noted: whether the ledger has an entry about it that it did not have before.
    """

    files: int = 0
    size: int = 0
    noted: bool = False


def plan_purge(held: HeldHome, cache: Path, *, ledger: bool = False, now: datetime | None = None) -> PurgePlan:
    """Look for what would go; nothing is removed. What goes by itself meanwhile, as a database's log does, is left out.

    Args:
        held: the home. cache: the feature cache; all of it goes, for images are encoded again when they are needed.
        ledger: whether ledger, signed checkpoints and rosters shall go too.
        now: the time; None for the clock's.

    Raises:
        RetentionError: the ledger may not go yet: open studies are named, or the date when it may.
        LedgerError, PolicyError, CacheError: ledger, policy or cache cannot be read.
    """
    items = _items(cache_files(cache), "cache")
    with held.ledger() as book:
        kept = {study: book_says for study in held.studies if (book_says := held.unfinished(study, book))}
        split = _split_of_run(held, book)
    closed = tuple(study for study in held.studies if study not in kept)
    for study in closed:
        state = [
            path
            for path in sorted(held.studies[study].rglob("*"))
            if path.is_file() and path.relative_to(held.studies[study]).as_posix() not in KEPT_OF_STATE
        ]
        items += _items(state, "state", study)
    for study, path in split.items():
        items += _items([path], "state", study)
    if ledger:
        _check_retention(held, kept, now or datetime.now(UTC))
        items += _items(_ledger_files(held), "ledger")
    return PurgePlan(tuple(items), kept, closed, ledger)


def purge(held: HeldHome, plan: PurgePlan) -> Purged:
    """Remove what a plan names, then write down how much that was. What is gone already is not counted.

    Raises:
        LedgerError, OSError: what is gone so far is gone; the next call finishes it, see :func:`settle`.
    """
    items = [item for item in plan.items if item.path.exists()]
    if not items:
        return Purged()
    with held.ledger() as ledger:
        entries, head = ledger.sync()
    listed = [[str(item.path), item.size, item.kind, item.study] for item in items]
    write_json(held.home.purging, {"entries": entries, "head": head, "items": listed})
    return _finish(held, begun_now=True)


def settle(held: HeldHome) -> Purged:
    """Finish a purge that was begun: remove what is left of its list, and write it down. Nothing happens without one.

    Raises:
        CheckpointError: its list is damaged.
        LedgerError, OSError: something cannot be removed, or not be written down.
    """
    return _finish(held, begun_now=False)


def _finish(held: HeldHome, *, begun_now: bool) -> Purged:
    """:func:`settle`. In a purge that was begun now, a file that is gone already went by itself and is not counted; in
    an interrupted one it counts, for most likely that purge removed it."""
    path, book = held.home.purging, held.home.ledger
    begun = read_state(path)
    if not begun:
        return Purged()
    try:
        items = [Item(Path(name), size, kind, study) for name, size, kind, study in begun["items"]]
        entries, head = begun["entries"], begun["head"]
    except (KeyError, ValueError, TypeError):
        raise damaged(path) from None
    replaced, used, reopened = True, False, set()
    if book.is_file():
        with held.ledger() as ledger:
            # One that does not go on from the old ledger is a new one: this purge took the old one.
            replaced = ledger.head_at(entries) != head
            used = not replaced and ledger.sequence > entries
            reopened = set() if replaced else {study for study in held.studies if held.unfinished(study, ledger)}
    # What was written into the ledger since nobody has listed: it stays, and what proves it.
    items = [item for item in items if item.study not in reopened and not (used and item.kind == "ledger")]
    takes_ledger = any(item.path == book for item in items)
    gone = _remove([item for item in items if not (replaced and item.path == book)])
    if begun_now:
        items = [item for item in items if item not in gone]
    with held.ledger(fresh=takes_ledger) as ledger:
        files, size = len(items), sum(item.size for item in items)
        facts = {"files": files, "bytes": size}
        noted = held.note_once(ledger, "purge", facts, since=0 if takes_ledger else entries)
    path.unlink()
    sync_folder(held.folder)
    return Purged(files, size, noted)


def _remove(items: Sequence[Item]) -> set[Item]:
    """Remove files; those are returned that were gone already."""
    gone = set()
    for item in items:
        try:
            item.path.unlink()
        except _GONE:
            gone.add(item)
        else:
            sync_folder(item.path.parent)
    for folder in sorted({item.path.parent for item in items if item.kind == "cache"}):
        for level in (folder, folder.parent):
            with contextlib.suppress(OSError):  # another process may have put something there
                level.rmdir()
    return gone


def _check_retention(held: HeldHome, kept: dict[str, str], now: datetime) -> None:
    """Refuse to let the ledger go while somebody may have to look into it.

    Raises:
        RetentionError: a study is open, the time is not over, or the privacy budget is bound to the ledger.
    """
    path = held.home.ledger
    with held.ledger() as ledger:
        opened = {entry.study for entry in read_entries(path) if entry.study and ledger.is_open(entry.study)}
    still = sorted(opened | set(kept))
    if still:
        raise RetentionError(
            f"not every study is closed; open: {', '.join(study[:8] for study in still)}",
            where=str(path),
            remedy="Finish them first; without --ledger the rest can go now",
        )
    log = Policy.load(held.home.policy).log if held.home.policy.is_file() else Log()
    times, days = [], log.retention_days
    for entry in read_entries(path):
        times.append(datetime.fromisoformat(entry.time))
        days = max(days, min(entry.retention_days, LONGEST))  # what entries state was promised
    # A clock may have been set back: the latest time counts, not the last line.
    until = max(times, default=now) + timedelta(days=days)
    if times and now < until:
        raise RetentionError(
            f"the ledger is kept for {days} days after its newest entry, as its entries state: it may go on "
            f"{until + timedelta(days=1):%Y-%m-%d}",
            where=str(path),
            remedy="Wait until then; without --ledger the rest can go now",
        )
    if held.home.budget.is_file():
        raise RetentionError(
            "the privacy budget is bound to this ledger: without it, what was spent on these patients could neither be "
            "shown nor counted in a later study",
            where=str(held.home.budget),
            remedy="Keep both for as long as the site trains with these patients; after that, delete the whole home",
        )


def _split_of_run(held: HeldHome, book: Ledger) -> dict[str, Path]:
    """The whole split of a simulation, by its study's hash, once that is over. It is of all sites: any purge takes it.

    A run's summary is written when all its sites have ended the study, and no other study reads this file.
    """
    if held.run is None or not held.run.split.is_file() or not held.run.summary.is_file():
        return {}
    study = RunFolder.open(held.run.root)[1].digest()
    return {} if held.unfinished(study, book) else {study: held.run.split}


def _ledger_files(held: HeldHome) -> list[Path]:
    """Checkpoints, rosters, torn lines, and last the ledger itself."""
    folder, ledger = held.folder, held.home.ledger
    proofs = [path for name in (CHECKPOINTS, ROSTERS) for path in (folder / name).rglob("*") if path.is_file()]
    # Where a person approved a study, its roster stays for good: with it goes the refusal to sign another one.
    states = [path for path in held.studies.values() if not (path / REQUEST_FILE).is_file()]
    rosters = [path / ROSTER_FILE for path in states if (path / ROSTER_FILE).is_file()]
    torn = list(folder.glob(f"{ledger.name}.torn-*"))
    return [*sorted(proofs), *rosters, *sorted(torn), *([ledger] if ledger.is_file() else [])]


def _items(paths: Iterable[Path], kind: Kind, study: str = "") -> list[Item]:
    """Those of the files that are still there: other processes use the cache meanwhile."""
    items = []
    for path in paths:
        with contextlib.suppress(*_GONE):
            items.append(Item(path, path.stat().st_size, kind, study))
    return items
