"""A site's ledger during enrolment: opened under the home's lock, each step noted once, the end signed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...privacy.errors import LedgerError
from ...privacy.home import SiteHome
from ...privacy.identity import Identity
from ...privacy.ledger.enrol_entries import Step, enrolment, steps_of
from ...privacy.ledger.entries import Entry
from ...privacy.ledger.evidence import FOLDER as CHECKPOINTS
from ...privacy.ledger.evidence import EvidenceStore
from ...privacy.ledger.keys import open_key, sign_latest
from ...privacy.ledger.log import Ledger
from ...privacy.ledger.reading import read_entries
from ..held_home import HeldHome
from ..site_side import REQUEST_FILE

_GIVEN_OUT: frozenset[Step] = frozenset({"request", "approval", "confirmation"})


@contextmanager
def open_ledger(home: SiteHome, identity: Identity | None = None) -> Iterator[Ledger]:
    """A held home's ledger; where the identity is at hand, what was written is signed at the end.

    Raises:
        LedgerError: it is broken, or gone although the site has told a number of its own.
        KeyStoreError: the ledger's key is lost or damaged.
    """
    if not home.ledger.is_file() and any(home.folder.glob(f"state/*/{REQUEST_FILE}")):
        raise LedgerError(
            "the ledger of this home is gone",
            where=str(home.ledger),
            remedy="Restore it from a backup: it says what this site has told before",
        )
    with HeldHome(home, None).ledger() as ledger:
        before = ledger.sequence
        yield ledger
        if identity is not None and ledger.sequence > before:
            key = open_key(home.folder, identity, ledger)
            sign_latest(ledger, key, EvidenceStore(home.folder / CHECKPOINTS))


def note_step(
    ledger: Ledger, step: Step, study: str, *, document: str = "", roster: str = "", samples: int | None = None
) -> bool:
    """Note a step, synced, unless it is there: of what was given out the newest entry counts, else any.

    Args:
        ledger: open. step, study, document, roster, samples: as in :mod:`privacy.ledger.enrol_entries`.

    Returns:
        Whether it was written now.

    Raises:
        LedgerError: the ledger cannot be read or written.
    """
    record = enrolment(step, study, document=document, roster=roster, samples=samples)
    known = [entry for entry in steps_of(read_entries(ledger.path), study) if entry.rule == step]
    if any(entry.facts == record.facts for entry in (known[-1:] if step in _GIVEN_OUT else known)):
        return False
    ledger.append([record])
    return True


def newest_step(entries: list[Entry], step: Step) -> Entry | None:
    """The newest entry of a step; None where there is none.

    Args:
        entries: of one study, in order. step: which.
    """
    return next((entry for entry in reversed(entries) if entry.rule == step), None)
