"""Which home and which consortium a person means who names neither, or only a part of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ...privacy.ledger.keys import KEY_FILE
from ..doctor import default_homes
from .errors import EnrolmentError
from .site_folder import CONSORTIA, HASH, HASH_PREFIX, SiteFolder

IDENTITY_FILE = "identity.pem"


def folders_of(home: Path) -> Iterator[SiteFolder]:
    """The consortia of a home, in order of their studies' hashes."""
    for path in sorted((home / CONSORTIA).glob("*")):
        if HASH.fullmatch(path.name) and path.is_dir() and (path / "invitation.json").is_file():
            yield SiteFolder(home, path.name)


def find_folder(home: Path, wanted: str = "") -> SiteFolder:
    """The consortium that a person means.

    Args:
        home: the site's. wanted: the study's name, or at least eight digits of its hash; empty: the only one that the
            site takes part in.

    Raises:
        EnrolmentError: there is none, or more than one.
    """
    found = list(folders_of(home))
    if wanted:
        by_hash = len(wanted) >= HASH_PREFIX and re.fullmatch(r"[0-9a-f]+", wanted)
        chosen = [each for each in found if name_of(each) == wanted or (by_hash and each.digest.startswith(wanted))]
    else:
        chosen = [each for each in found if not each.left.exists()]
    if len(chosen) == 1:
        return chosen[0]
    listed = "; ".join(f"{name_of(each)} ({each.digest[:16]})" for each in chosen or found)
    if not found:
        raise EnrolmentError(
            "this site has joined no study", where=str(home), remedy="Join one: wardround site join INVITATION"
        )
    raise EnrolmentError(
        "more than one study is meant"
        if chosen
        else f"this site has joined no study that is called {wanted!r}"
        if wanted
        else "this site has left every study that it had joined",
        where=str(home),
        remedy=f"Name it by its hash, at least {HASH_PREFIX} digits: {listed}",
    )


def name_of(folder: SiteFolder) -> str:
    """The study's name as its invitation says it; empty where that cannot be read."""
    try:
        name = folder.read_invitation().document.study.get("name", "")
    except EnrolmentError:
        return ""
    return name if isinstance(name, str) else ""


def homes_root() -> Path:
    """Where this machine's homes lie."""
    return default_homes() / "sites"


def homes_in(root: Path) -> list[Path]:
    """The homes below ``root`` that have been used, in order; a link to one counts, for its ledger is as real."""
    return [
        path
        for path in (sorted(root.iterdir()) if root.is_dir() else [])
        if path.is_dir() and (path / IDENTITY_FILE).is_file()
    ]


def homes_beside(home: Path) -> list[Path]:
    """All other homes of this machine that can be found: in the same folder and where homes lie by default.

    Links are followed, so that each home is there once and ``home`` itself is not.
    """
    found = {path.resolve() for root in (home.parent, homes_root()) for path in homes_in(root)}
    return sorted(found - {home.resolve()})


def was_used(home: Path) -> bool:
    """Whether a home has had an identity: it has joined a study, or has a key that only the identity opens."""
    return (home / CONSORTIA).is_dir() or (home / KEY_FILE).exists()


def identity_lost(home: Path) -> EnrolmentError:
    """A home that was used, whose identity is gone; another in its place would be another hospital's to everybody."""
    return EnrolmentError(
        "the identity of this home is gone",
        where=str(home / IDENTITY_FILE),
        remedy="Restore the home from a backup. Without one, this site cannot go on with what it has joined",
    )


def find_home(given: Path | None) -> Path:
    """The home that a command is about: the one that is named, or the only one of this machine.

    Raises:
        EnrolmentError: there is none, its identity is gone, or there is more than one and none is named.
    """
    if given is not None:
        home = Path(os.path.abspath(given.expanduser()))
        if not (home / IDENTITY_FILE).is_file():
            if was_used(home):
                raise identity_lost(home)
            raise EnrolmentError("this is no site's home", where=str(home), remedy="Give the home itself: …/sites/NAME")
        return home
    root = homes_root()
    found = homes_in(root)
    if len(found) == 1:
        return found[0]
    used = [] if found or not root.is_dir() else [path for path in sorted(root.iterdir()) if was_used(path)]
    if used:
        raise identity_lost(used[0])
    raise EnrolmentError(
        f"{len(found)} sites have their homes here: {', '.join(path.name for path in found)}"
        if found
        else "no site has its home here",
        where=str(root),
        remedy="Name one: --home HOME" if found else "Join a study: wardround site join INVITATION --site NAME",
    )
