"""Rosters beside a ledger: an auditor finds in them whose keys messages and cosignatures are to be checked by.

Which roster was in force, the ledger's ``open`` entry says by its hash; every party's ledger says so.
"""

from __future__ import annotations

from pathlib import Path

from ..atomic import make_private, write_atomic
from ..errors import RosterError
from ..secure_aggregation.roster import Roster

FOLDER = "rosters"


def keep_roster(folder: Path, roster: Roster) -> None:
    """Keep a roster in ``folder/rosters/<its hash>.json``; what is there already is left."""
    path = folder / FOLDER / f"{roster.digest.hex()}.json"
    if not path.is_file():
        make_private(path.parent)
        write_atomic(path, roster.to_bytes())


def load_rosters(folder: Path) -> dict[str, Roster]:
    """Rosters by their hash, hexadecimal; each file must be what its name says.

    Raises:
        RosterError: a file is damaged or has another name than its hash.
    """
    found = {}
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            roster = Roster.from_bytes(path.read_bytes())
        except RosterError as error:
            raise RosterError(error.what, where=str(path), remedy="Get it again from any party of the study") from None
        if roster.digest.hex() != path.stem:
            raise RosterError(
                "the roster is not the one that its name says",
                where=str(path),
                remedy="Get it again from any party of the study",
            )
        found[path.stem] = roster
    return found
