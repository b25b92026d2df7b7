"""Rosters beside a ledger: an auditor finds in them whose keys messages and cosignatures are to be checked by.

Which roster was in force, the ledger's ``open`` entry says by its hash; every party's ledger says so.
"""

from __future__ import annotations

from pathlib import Path

from ..atomic import make_private, write_atomic
from ..errors import ParameterError, RosterError
from ..secure_aggregation.roster import Roster

FOLDER = "rosters"


def keep_roster(folder: Path, roster: Roster) -> None:
    """Keep a roster in ``folder/rosters/<its hash>.json``; what is there already is left."""
    path = folder / FOLDER / f"{roster.digest.hex()}.json"
    if not path.is_file():
        make_private(path.parent)
        write_atomic(path, roster.to_bytes())


def read_rosters(folder: Path) -> tuple[dict[str, Roster], list[str]]:
    """Rosters by their hash, hexadecimal, and what is wrong with the other files: a damaged one takes nothing along."""
    found, problems = {}, []
    for path in sorted((folder / FOLDER).glob("*.json")):
        name = f"{FOLDER}/{path.name}"
        try:
            roster = Roster.from_bytes(path.read_bytes())
        except (RosterError, ParameterError) as error:
            problems.append(f"{name}: {error.what}")
        except OSError as error:
            problems.append(f"{name} cannot be read: {error.strerror or 'it is damaged'}")
        else:
            if roster.digest.hex() != path.stem:
                problems.append(f"{name}: the roster is not the one that its name says")
            else:
                found[path.stem] = roster
    return found, problems
