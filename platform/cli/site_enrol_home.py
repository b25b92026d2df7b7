"""The options that all steps of enrolment share, and what they open: the home, and the identity that lies in it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ...privacy.home import SiteHome
    from ...privacy.identity import Identity

Home = Annotated[
    Path | None,
    typer.Option("--home", metavar="HOME", help="The site's home; default: the only one in WARDROUND_HOME/sites."),
]
Passphrase = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="One line, mode 0600, outside the home; default: WARDROUND_PASSPHRASE_FILE, a service's credential, or a "
        "question.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Consent without being asked, for scripts.")]


def held_home(home: Path) -> SiteHome:
    """The home, held by this process."""
    from ...privacy.home import SiteHome

    return SiteHome.open(home.parent, home.name)


def own_identity(held: SiteHome, passphrase_file: Path | None) -> Identity:
    """The site's identity, which was made when it joined.

    Raises:
        EnrolmentError: it is gone. KeyStoreError: it cannot be unlocked.
    """
    from ...privacy.identity import Identity
    from ..enrolling.finding import identity_lost
    from ..enrolling.passphrase import passphrase_for

    if not held.identity.exists():
        raise identity_lost(held.folder)
    _guard()
    return Identity.load(held.identity, passphrase_for(passphrase_file, new=False, folder=held.folder))


def identity_to_join(held: SiteHome, passphrase_file: Path | None) -> Identity:
    """The site's identity, made where the home has never had one.

    Raises:
        EnrolmentError: the home's identity is gone. KeyStoreError: it cannot be unlocked or made.
    """
    from ...privacy.identity import Identity
    from ..enrolling.finding import was_used
    from ..enrolling.passphrase import passphrase_for

    if held.identity.exists() or was_used(held.folder):
        return own_identity(held, passphrase_file)
    _guard()
    return Identity.create(held.identity, passphrase_for(passphrase_file, new=True, folder=held.folder))


def _guard() -> None:
    """No core file and no other process of this user sees the passphrase and the key, where the system can see to it.

    Sites and coordinators run on Linux only; on other systems a study can be joined and not be run.
    """
    if sys.platform.startswith("linux"):
        from ..service.runtime import guard_memory

        guard_memory()
