"""``wardround site approve``, ``roster confirm`` and ``leave``: a hospital's steps into a study and out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import ERR
from .site_enrol_asking import ask_share, ask_typed, hear, pairs, typed_earlier
from .site_enrol_home import Home, Passphrase, Yes, held_home, own_identity
from .site_enrol_view import say, show_approval, show_confirmed, show_left, show_proposal

roster = typer.Typer(
    no_args_is_help=True, help="The other sites. Example: wardround site roster confirm signed-roster.json"
)


@roster.callback()
def group() -> None:
    """Confirm who the other sites are."""


def approve(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="The study's name, or 8 digits of its hash.")] = "",
    home: Home = None,
    passphrase_file: Passphrase = None,
    sum_again: Annotated[
        list[str] | None,
        typer.Option("--sum-again", metavar="HASH", help="Accept sums over images of this earlier study again."),
    ] = None,
    accept_share: Annotated[
        bool, typer.Option("--accept-share", help="Accept that more than half of a sum may be this site's own.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Show what would leave this site in a study, ask, and sign the roster: that signature is the approval.

    Example: wardround site approve brain-mri
    """
    from ..enrolling.approving import approve as carry_out
    from ..enrolling.approving import check_proposal, given, propose
    from ..enrolling.finding import find_folder, find_home
    from ..enrolling.noting import open_ledger

    place = find_home(home)
    folder = find_folder(place, study)
    folder.check_not_left()
    with held_home(place) as held:
        identity = own_identity(held, passphrase_file)
        with open_ledger(held, identity) as ledger:
            proposal = propose(held, folder, identity, ledger)
            if given(folder, proposal, identity) is not None:
                say("this site has approved the study already.")
                show_approval(folder.approval)
                return
            show_proposal(proposal, folder.site)
            accepted = [*(sum_again or []), *([] if yes else typed_earlier(proposal, sum_again or []))]
            check_proposal(proposal, accepted)
            ask_share(proposal, accept_share, yes)
            if not yes:
                ask_typed(f"To approve, type the study's name, {proposal.study.name}", proposal.study.name)
            carry_out(held, folder, proposal, identity, ledger)
    show_approval(folder.approval)


@roster.command("confirm")
def confirm(
    signed: Annotated[Path, typer.Argument(metavar="SIGNED", help="The coordinator's signed-roster.json.")],
    home: Home = None,
    words: Annotated[
        list[str] | None,
        typer.Option("--words", metavar="SITE=WORDS", help="The eight words of a site, as heard by telephone."),
    ] = None,
    person: Annotated[
        list[str] | None,
        typer.Option("--person", metavar="SITE=TEXT", help="Who spoke, and for which institution; stays here."),
    ] = None,
    passphrase_file: Passphrase = None,
) -> None:
    """Confirm the other sites' fingerprints, as each of them reads them out by telephone.

    Example: wardround site roster confirm signed-roster.json
    """
    from ..enrolling.confirming import approved_roster, confirmed_before
    from ..enrolling.confirming import confirm as carry_out
    from ..enrolling.documents import SignedRoster, read_document
    from ..enrolling.finding import find_home
    from ..enrolling.noting import open_ledger
    from ..enrolling.site_folder import SiteFolder

    read = read_document(signed, SignedRoster)
    place = find_home(home)
    folder = SiteFolder(place, read.document.study_hash)
    with held_home(place) as held:
        folder.check_not_left()
        identity = own_identity(held, passphrase_file)
        found = approved_roster(folder, read, identity)
        heard, persons = pairs(words, "--words"), pairs(person, "--person")
        known = confirmed_before(folder, found, identity)
        missing = [name for name in found.names if name not in {*known, *heard, folder.site}]
        if not words and missing:
            hear(found, folder.site, missing, heard, persons)
        with open_ledger(held, identity) as ledger:
            done = carry_out(folder, read, identity, ledger, heard, persons)
    show_confirmed(done, folder.site)


def leave(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="The study's name, or 8 digits of its hash.")] = "",
    home: Home = None,
    yes: Yes = False,
) -> None:
    """Leave a study for good: this site takes no further part, and its keys to the network are removed.

    Example: wardround site leave brain-mri
    """
    from ..enrolling.finding import find_folder, find_home
    from ..enrolling.leaving import leave as carry_out
    from ..enrolling.noting import open_ledger

    place = find_home(home)
    folder = find_folder(place, study)
    with held_home(place) as held:
        name = str(folder.read_invitation().document.study.get("name", folder.digest[:16]))
        if not yes:
            say("This cannot be undone: to take part again, the study is founded anew.", out=ERR)
            ask_typed(f"To leave, type the study's name, {name}", name)
        with open_ledger(held) as ledger:
            show_left(carry_out(held, folder, ledger), name)
