"""``wardround site leave``: a site takes no further part in a study, for good, and gives up the keys to its network."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from ...privacy.atomic import sync_folder, write_json
from ...privacy.home import SiteHome
from ...privacy.ledger.log import Ledger
from .noting import note_step
from .releasing import pending_path
from .site_folder import SiteFolder


@dataclass(frozen=True, slots=True)
class Leaving:
    """What a site had given when it left.

    Attributes:
        asked: whether it had told its number. approved: whether it had signed a roster.
        begun: whether messages of the study had left. new: whether it leaves now, and had not before.
    """

    asked: bool
    approved: bool
    begun: bool
    new: bool


def standing(folder: SiteFolder, ledger: Ledger) -> Leaving:
    """What a site has given so far; nothing is changed."""
    return Leaving(
        asked=folder.state_request.exists(),
        approved=folder.state_roster.exists(),
        begun=ledger.knows(folder.digest),
        new=not folder.left.exists(),
    )


def leave(home: SiteHome, folder: SiteFolder, ledger: Ledger) -> Leaving:
    """Leave a study: first that no process takes part again, then the ledger, then keys. Killed anywhere, the same call
    does the rest. Ledger, rosters, documents and what audits need of the state stay.

    Args:
        home: held, so the site does not run. folder: of the consortium. ledger: of the home, open.

    Raises:
        HomeError, LedgerError: the home or the ledger cannot be written. OSError: as the file system reports it.
    """
    found = standing(folder, ledger)
    home.state(folder.digest)
    if found.new:
        write_json(folder.left, {"study": folder.digest})
    note_step(ledger, "left", folder.digest)
    if ledger.is_open(folder.digest):
        ledger.close_study(folder.digest)
    if folder.flare.is_symlink():
        folder.flare.unlink()
    elif folder.flare.exists():
        shutil.rmtree(folder.flare)
    folder.tls_key.unlink(missing_ok=True)
    pending_path(folder.approval).unlink(missing_ok=True)
    if folder.root.is_dir():
        sync_folder(folder.root)
    return found
