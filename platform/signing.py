"""A clinician's statement about a report, written into the ledger of the party whose report it is.

The statement is an entry of kind ``sign``. Its facts are the SHA-256 of ``report.json`` (the page shows the statement,
so it cannot be hashed itself), name, role, decision and remarks. The party's ledger key then signs a checkpoint over
the whole ledger. That is no personal and no qualified signature: it proves that whoever held the party's home wrote
this entry at this place, and that nobody changed it since.

The order is such that a crash loses nothing: first the entry, synced; then the checkpoint; then the copies in the
dossier, the ledger before the checkpoint that covers it; last the pages. Whoever signs the same again after a crash
adds no second entry and finishes what was left.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..privacy.atomic import make_private, write_atomic
from ..privacy.errors import HomeError, KeyStoreError, LedgerError
from ..privacy.home import SiteHome
from ..privacy.ledger.batches import COORDINATOR
from ..privacy.ledger.entries import Entry, Record
from ..privacy.ledger.evidence import EvidenceStore
from ..privacy.ledger.keys import LedgerKey, open_key, sign_latest
from ..privacy.ledger.log import Ledger
from ..privacy.ledger.verifying import verify
from .audit.sources import BUDGET, CHECKPOINTS, LEDGER, ROSTERS
from .errors import RunFolderError
from .held_home import HeldHome, hold
from .run_folder import RunFolder
from .statements import PAGE, REPORT, Declaration, parties_of, report_folder, sign_entries, statements_of

__all__ = ["Declaration", "Desk", "open_desk", "sign_report", "statements_of"]
NEAR = 3


@dataclass(frozen=True, slots=True)
class Desk:
    """A party's home, held, with everything at hand that a signature needs; made by `open_desk`.

    Attributes:
        run: the run. party: site, or ``coordinator``. study: its SHA-256, hexadecimal.
        sha256: of the party's ``report.json`` as it is now, hexadecimal.
        held: the home. ledger: open. key: that signs the ledger's checkpoints.
    """

    run: RunFolder
    party: str
    study: str
    sha256: str
    held: HeldHome
    ledger: Ledger
    key: LedgerKey

    @property
    def report(self) -> Path:
        """The file whose hash is signed."""
        return report_folder(self.run, self.party) / REPORT

    @property
    def page(self) -> Path:
        """The page that is made from it, and that a person reads."""
        return report_folder(self.run, self.party) / PAGE

    def earlier(self, declaration: Declaration) -> Entry | None:
        """The entry by which this was stated already; None where it was not.

        Only the newest statement of this person about this very report counts: whoever accepted, rejected and accepts
        again says something new.
        """
        newest: Entry | None = None
        for _, entry in sign_entries(self.held.home.ledger, self.study):
            told = entry.facts or {}
            if (told.get("report"), told.get("name"), told.get("role")) == (
                self.sha256,
                declaration.name,
                declaration.role,
            ):
                newest = entry
        return newest if newest is not None and newest.facts == declaration.facts(self.sha256) else None

    def check_page(self) -> None:
        """Refuse to sign what nobody can have read: the page must be there, and not be older than its ``report.json``.

        Raises:
            RunFolderError: it is not there, or older.
        """
        missing = not self.page.is_file()
        if missing or self.page.stat().st_mtime_ns < self.report.stat().st_mtime_ns:
            raise RunFolderError(
                "the page of this report is missing" if missing else "the page of this report is older than the report",
                where=str(self.page),
                remedy=f"Build it, read it, then sign: wardround report build {self.run.root}",
            )


@contextmanager
def open_desk(run: RunFolder, study: str, party: str) -> Iterator[Desk]:
    """Hold a party's home and its run, and make sure that a statement can be written down there and signed.

    Args:
        run: a finished run. study: its study's SHA-256. party: whose report is signed.

    Raises:
        RunFolderError: the run is not finished, has no such report, or another process works on it.
        HomeError: the party's home is not here, is in use, or a purge of it was interrupted.
        LedgerError: the ledger does not hold, or the dossier's copy has entries that it lacks.
        KeyStoreError: the key that signs the ledger is lost or cannot be unlocked.
    """
    _check_run(run, party)
    with _hold(run, party) as held:
        held.home.check_whole()
        _check_ledger(run, party, held)
        identity = held.identity()
        if identity is None:
            raise KeyStoreError(
                "the identity, or its passphrase, is not in this home, so nothing could sign the statement",
                where=str(held.folder),
                remedy="Restore identity.pem and passphrase from a backup of the home",
            )
        sha256 = hashlib.sha256((report_folder(run, party) / REPORT).read_bytes()).hexdigest()
        with held.ledger() as ledger:
            key = open_key(held.folder, identity, ledger)
            yield Desk(run, party, study, sha256, held, ledger, key)


def sign_report(desk: Desk, declaration: Declaration, build: Callable[[RunFolder], object]) -> bool:
    """Write a statement down, sign the ledger, refresh the dossier's copies and build its pages.

    Args:
        desk: the party's. declaration: what is stated. build: makes the run's pages.

    Returns:
        Whether it was written now; False where it had been stated before, and only the rest was done.

    Raises:
        LedgerError, OSError: what was done so far stands; the same call goes on from there.
        RunFolderError, EvaluationError: from ``build``; the statement is in the ledger then, and in its copy.
    """
    written = desk.earlier(declaration) is None
    if written:
        facts = declaration.facts(desk.sha256)
        desk.ledger.append([Record(kind="sign", study=desk.study, outcome="noted", facts=facts)])
    sign_latest(desk.ledger, desk.key, EvidenceStore(desk.held.folder / CHECKPOINTS))
    _refresh_copies(desk)
    build(desk.run)
    return written


def _check_run(run: RunFolder, party: str) -> None:
    if not run.summary.is_file():
        raise RunFolderError(
            "the run is not finished, so its reports are not final",
            where=str(run.root),
            remedy=f"Finish it first: wardround run {run.study} --out {run.root} --resume",
        )
    parties = parties_of(run)
    if party not in parties:
        near = difflib.get_close_matches(party, parties, n=NEAR, cutoff=0.5)
        raise RunFolderError(
            f"'{party}' has no report in this run" + (f"; did you mean {' or '.join(near)}?" if near else ""),
            where="--site",
            remedy=f"There is: {', '.join(parties)}",
        )
    folder = report_folder(run, party)
    if not (folder / REPORT).is_file():
        raise RunFolderError(
            "this run has no coordinator's report", where=str(folder / REPORT), remedy="Sign the report of a site"
        )
    if not (folder / LEDGER).is_file():
        raise HomeError(
            f"'{party}' sent nothing and has no ledger, so there is nowhere to write a statement down",
            where=str(folder),
            remedy="Sign the report of a site that took part, or the coordinator's",
        )
    if party != COORDINATOR and not (run.homes / party).exists():
        raise HomeError(
            f"the home of '{party}' is not here, only copies of what it sent: the key that signs its ledger is there",
            where=str(run.homes / party),
            remedy="Sign on the machine that has the home",
        )


@contextmanager
def _hold(run: RunFolder, party: str) -> Iterator[HeldHome]:
    if party != COORDINATOR:
        with hold(run.homes / party) as held:
            yield held
        return
    with run.locked(), SiteHome.open(run.root, COORDINATOR) as home:  # its folder in the run is all the home it has
        yield HeldHome(home, run)


def _check_ledger(run: RunFolder, party: str, held: HeldHome) -> None:
    """Nothing is added to a ledger that does not hold: a new checkpoint would replace the one that shows the fault."""
    path = held.home.ledger
    if not path.is_file():
        raise LedgerError("the ledger of this home is gone", where=str(path), remedy="Restore it from a backup")
    found = verify(path, held.folder, complete=True)
    if not found.ok:
        raise LedgerError(
            f"the ledger does not hold: {found.problems[0]}",
            where=str(path),
            remedy=f"Keep all files as they are: they are evidence. See wardround audit verify {run.root}",
        )
    copy = report_folder(run, party) / LEDGER
    if copy != path and not path.read_bytes().startswith(copy.read_bytes()):
        raise LedgerError(
            "the dossier's copy of this ledger is not its beginning: one of them was changed, or replaced",
            where=f"{copy}, {path}",
            remedy=f"Keep both: they are evidence. See wardround audit verify {run.root}",
        )


def _refresh_copies(desk: Desk) -> None:
    """Bring the dossier's copies up to date, file by file, so that it holds after each.

    The policy stays: the dossier has the one that the study ran under. A checkpoint that covers more than the ledger
    beside it would look like a ledger that was cut, so it comes after the ledger.
    """
    if desk.party == COORDINATOR:
        return
    home, folder = desk.held.folder, report_folder(desk.run, desk.party)
    before, after = sorted(home.glob(f"{ROSTERS}/*.json")), sorted(home.glob(f"{CHECKPOINTS}/*"))
    for path in (*before, home / BUDGET, home / LEDGER, *after):
        if path.is_file():
            target, content = folder / path.relative_to(home), path.read_bytes()
            for left in target.parent.glob(f".{target.name}.*.tmp"):
                left.unlink()  # by a signing that was killed: the run is locked, so nobody is writing it now
            if not target.is_file() or target.read_bytes() != content:
                make_private(target.parent)
                write_atomic(target, content)
