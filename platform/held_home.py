"""A site's home that is there already, held while somebody looks after its data: nobody trains with it meanwhile."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..privacy.errors import BudgetError, HomeError, LedgerError
from ..privacy.home import SiteHome
from ..privacy.identity import Identity
from ..privacy.ledger.entries import Kind, Record
from ..privacy.ledger.evidence import FOLDER as CHECKPOINTS
from ..privacy.ledger.evidence import EvidenceStore
from ..privacy.ledger.keys import open_key, sign_latest
from ..privacy.ledger.log import Ledger
from ..privacy.ledger.reading import read_entries
from .enrolment import PASSPHRASE_FILE, open_identity
from .held_out_memory import HELD_OUT_FILE
from .means_memory import MEANS_FILE
from .progress import PROGRESS_FILE
from .run_folder import RunFolder
from .site_side import LEFT_FILE, REQUEST_FILE, ROSTER_FILE

HOMES = "homes"


@dataclass(frozen=True, slots=True)
class HeldHome:
    """An existing home, locked; in a simulation its run is locked as well.

    Attributes:
        home: the home.
        run: the simulation that it belongs to; None for a home of its own.
    """

    home: SiteHome
    run: RunFolder | None

    @property
    def folder(self) -> Path:
        """The home's folder."""
        return self.home.folder

    @contextmanager
    def ledger(self, *, fresh: bool = False) -> Iterator[Ledger]:
        """The site's ledger, open to be written to.

        Args:
            fresh: whether a new one may be begun although the home has been used: its own purge took the old one.

        Raises:
            LedgerError: it is broken; or gone although the home has been used, so that nothing can be noted.
        """
        path = self.home.ledger
        begun = (PROGRESS_FILE, MEANS_FILE, HELD_OUT_FILE)
        used = self.home.budget.is_file() or any(any(self.folder.glob(f"state/*/{name}")) for name in begun)
        if used and not fresh and not path.is_file():
            raise LedgerError(
                "the ledger of this home is gone",
                where=str(path),
                remedy="Restore it from a backup: what is done to a site's data is written down there",
            )
        with Ledger.open(path, owner=self.home.site, clock=lambda: datetime.now(UTC)) as ledger:
            yield ledger

    def note_once(self, ledger: Ledger, kind: Kind, facts: Mapping[str, int], *, since: int) -> bool:
        """Write an entry about what was done, unless there is one of this kind since a place in the ledger.

        Args:
            ledger: this home's. kind: of the entry. facts: numbers.
            since: entries that the ledger had before it was done.

        Returns:
            Whether it was written now.
        """
        later = (entry for entry in read_entries(self.home.ledger) if entry.sequence >= since)
        if any(entry.kind == kind for entry in later):
            return False
        ledger.append([Record(kind=kind, study="", outcome="noted", facts=dict(facts))])
        self.sign(ledger)
        return True

    def identity(self) -> Identity | None:
        """The site's identity; None where it has none, or its passphrase is not here.

        Raises:
            KeyStoreError: it cannot be unlocked.
        """
        if not self.home.identity.is_file() or not (self.folder / PASSPHRASE_FILE).is_file():
            return None
        return open_identity(self.folder, self.home.identity)

    def sign(self, ledger: Ledger) -> None:
        """Sign the ledger as it stands, where the key is at hand; else the next study's first receipt does.

        Raises:
            KeyStoreError: the ledger's key is lost or damaged.
        """
        identity = self.identity()
        if identity is not None:
            key = open_key(self.folder, identity, ledger)
            sign_latest(ledger, key, EvidenceStore(self.folder / CHECKPOINTS))

    @property
    def studies(self) -> dict[str, Path]:
        """The state folder of each study that has one, by the study's hash."""
        return {path.name: path for path in sorted(self.folder.glob("state/*")) if path.is_dir()}

    @property
    def signed(self) -> list[str]:
        """Hashes of the studies that this site has told its number: by a request, or by signing a roster; in order."""
        told = (REQUEST_FILE, ROSTER_FILE)
        return [study for study, path in self.studies.items() if any((path / name).is_file() for name in told)]

    @property
    def charged(self) -> frozenset[str]:
        """Hashes of the studies that the privacy budget has paid for.

        Raises:
            BudgetError: the budget's file is damaged.
        """
        if not self.home.budget.is_file():
            return frozenset()
        try:
            content = json.loads(self.home.budget.read_bytes())
            return frozenset(str(charge["study"]) for charge in content["budget"]["charges"])
        except (ValueError, KeyError, TypeError):
            raise BudgetError(
                "the privacy budget is damaged",
                where=str(self.home.budget),
                remedy="Restore budget and ledger from one and the same backup",
            ) from None

    def unfinished(self, study: str, ledger: Ledger) -> str:
        """Why a study's state is still needed; empty when it is over."""
        if ledger.is_open(study):
            return "open"
        if not ledger.knows(study):
            state = self.studies.get(study)
            if state is not None and (state / LEFT_FILE).is_file():
                return ""
            enrolled = state is not None and (state / REQUEST_FILE).is_file()
            return "enrolled, and not begun" if enrolled else "not in the ledger"
        if (
            self.run is not None
            and not self.run.summary.is_file()
            and RunFolder.open(self.run.root)[1].digest() == study
        ):
            return "closed, but the run has no figures yet"
        return ""


@contextmanager
def hold(path: Path) -> Iterator[HeldHome]:
    """Lock an existing home, and the run that it lies in.

    Args:
        path: the home: in a simulation RUN/homes/<site>.

    Raises:
        HomeError: there is no home here, or another process holds it.
        RunFolderError: another process works on the run.
    """
    folder = Path(os.path.abspath(path))  # not resolved: a link in the home's place is to be seen
    if not any((folder / name).is_file() for name in ("ledger.jsonl", "identity.pem")):
        raise HomeError(
            "this is no site's home" if folder.exists() else "there is no such folder",
            where=str(folder),
            remedy="Give the home itself, in a simulation RUN/homes/SITE",
        )
    run = RunFolder(folder.parent.parent)
    in_run = folder.parent.name == HOMES and run.study.is_file()
    with ExitStack() as stack:
        if in_run:
            stack.enter_context(run.locked())
        home = stack.enter_context(SiteHome.open(folder.parent, folder.name))
        yield HeldHome(home, run if in_run else None)
