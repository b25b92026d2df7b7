"""``wardround site join``, ``approve``, ``roster confirm`` and ``leave``: the hospital's steps into a study and out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import ERR, RichWatcher
from .site_enrol_asking import ask_share, ask_typed, ask_words, hear, pairs, typed_earlier
from .site_enrol_view import (
    say,
    show_approval,
    show_confirmed,
    show_counted,
    show_installed,
    show_invitation,
    show_left,
    show_proposal,
    show_request,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...privacy.home import SiteHome
    from ...privacy.identity import Identity
    from ..enrolling.documents import Kit, Signed
    from ..enrolling.joining import Invited
    from ..enrolling.site_folder import SiteFolder

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

roster = typer.Typer(
    no_args_is_help=True, help="The other sites. Example: wardround site roster confirm signed-roster.json"
)


@roster.callback()
def group() -> None:
    """Confirm who the other sites are."""


def join(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The coordinator's invitation, or this site's kit.")],
    home: Home = None,
    site: Annotated[str, typer.Option("--site", metavar="NAME", help="This hospital's name in the study.")] = "",
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="DIR", help="This hospital's images; again for each source, in their order."),
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option("--reference", metavar="DIR", help="This hospital's copy of the study's public set."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="PATH", help="The frozen model's weights, if they are a file.")
    ] = None,
    words: Annotated[
        str, typer.Option("--words", metavar="WORDS", help="The coordinator's eight words, heard by telephone.")
    ] = "",
    passphrase_file: Passphrase = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", metavar="DIR", help="The feature cache; default: WARDROUND_CACHE.")
    ] = None,
    yes: Yes = False,
    other_patients: Annotated[
        bool, typer.Option("--other-patients", help="A second home on this machine, of other patients.")
    ] = False,
    count_again: Annotated[
        bool, typer.Option("--count-again", help="Tell this coordinator another number of the same images.")
    ] = False,
) -> None:
    """Join a study: count this site's own data and ask to take part; later, install the kit that comes back.

    Example: wardround site join invitation.json --site amber --data /data/mri
    """
    from ..enrolling.documents import read_any
    from ..enrolling.errors import EnrolmentError
    from ..enrolling.joining import answered, choose_site, read_invited
    from ..enrolling.kinds import WORDS, Invitation, Kit
    from ..enrolling.site_folder import SiteFolder

    signed = read_any(file)
    if isinstance(signed.document, Kit):
        _join_kit(signed, home, site)
        return
    if not isinstance(signed.document, Invitation):
        raise EnrolmentError(
            f"this is {WORDS[type(signed.document)]}; an invitation or a kit is wanted",
            where=str(file),
            remedy="Approvals and requests go to the coordinator; a signed roster: wardround site roster confirm",
        )
    invited = read_invited(signed)
    root, name = _place(home, site)
    name = choose_site(invited, root, name, other_patients=other_patients)
    folder = SiteFolder(root / name, invited.digest)
    if folder.root.exists() or folder.state.exists():
        with _held(folder.home):
            before = answered(folder, invited)
        if before is not None and not count_again:
            from ...privacy.identity import fingerprint

            say("this site has joined already.")
            key = bytes.fromhex(before.document.public_key)
            show_request(folder.request, fingerprint(key), before.document.samples)
            return
    _join_invitation(
        invited, folder, (data or [], reference or [], weights), words, passphrase_file, cache, yes, count_again
    )


def _join_invitation(
    invited: Invited,
    folder: SiteFolder,
    places: tuple[Sequence[Path], Sequence[Path], Path | None],
    words: str,
    passphrase_file: Path | None,
    cache: Path | None,
    yes: bool,
    count_again: bool,
) -> None:
    from ...privacy.identity import fingerprint
    from ..enrolling.before_counting import check_not_counted, check_own_policy, note_other_homes
    from ..enrolling.counting import count_own, filters_of, own_study
    from ..enrolling.joining import check_count_again, check_words, make_request
    from ..enrolling.noting import note_step, open_ledger
    from ..features import default_cache
    from ..own_data import members

    name = folder.site
    study = own_study(invited.signed, invited.study, name, *places)
    others = [each for each in members(study) if each != name]
    show_invitation(invited, name, others, filters_of(study, name))
    heard = words or ask_words("the coordinator")
    check_words(heard, invited.coordinator, "the coordinator who signed this invitation")
    with _held(folder.home) as held:
        check_count_again(folder)
        check_own_policy(held.policy, study, invited.coordinator)
        identity = _identity(held, passphrase_file)
        with open_ledger(held, identity) as ledger:
            told = check_not_counted(ledger, held.folder, invited.coordinator, again=count_again)
            note_other_homes(held, ledger, invited.digest)
            if told:
                note_step(ledger, "count-again", invited.digest)
            with RichWatcher() as watcher:
                watcher.stage("reading this site's own data")
                counted = count_own(
                    folder,
                    study,
                    cache or default_cache(),
                    watcher.note,
                    lambda done, total, rate: watcher.progress(done, total, "images", rate),
                )
            show_counted(counted)
            if not yes and not typer.confirm("Tell the coordinator this number, and ask to take part?", err=True):
                ERR.print("Nobody was told anything.")
                raise typer.Exit(1)
            request = make_request(held, folder, invited, study, identity, counted, ledger)
    key = bytes.fromhex(request.document.public_key)
    show_request(folder.request, fingerprint(key), request.document.samples)


def _join_kit(signed: Signed[Kit], home: Path | None, site: str) -> None:
    from ..enrolling.errors import EnrolmentError
    from ..enrolling.finding import find_home, homes_root
    from ..enrolling.installing import install_kit
    from ..enrolling.site_folder import SiteFolder

    kit = signed.document
    named = homes_root() / (site or kit.site)
    place = find_home(home if home is not None else named if (named / "identity.pem").is_file() else None)
    folder = SiteFolder(place, kit.study_hash)
    if not folder.request.exists():
        raise EnrolmentError(
            "this site has not joined the study of this kit",
            where=signed.source,
            remedy="Join first, with the coordinator's invitation: wardround site join INVITATION",
        )
    with _held(place):
        show_installed(install_kit(folder, signed), folder.site)


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
    with _held(place) as held:
        identity = _identity(held, passphrase_file)
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
    with _held(place) as held:
        folder.check_not_left()
        identity = _identity(held, passphrase_file)
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
    with _held(place) as held:
        name = str(folder.read_invitation().document.study.get("name", folder.digest[:16]))
        if not yes:
            say("This cannot be undone: to take part again, the study is founded anew.", out=ERR)
            ask_typed(f"To leave, type the study's name, {name}", name)
        with open_ledger(held) as ledger:
            show_left(carry_out(held, folder, ledger), name)


def _place(home: Path | None, site: str) -> tuple[Path, str]:
    """Folder of homes, and the name in it that the command line says."""
    from ..enrolling.errors import EnrolmentError
    from ..enrolling.finding import homes_root

    if home is None:
        return homes_root(), site
    folder = Path(os.path.abspath(home.expanduser()))
    if site and site != folder.name:
        raise EnrolmentError(
            f"the home is of '{folder.name}', and --site says '{site}'",
            where=str(folder),
            remedy="Leave one of them out",
        )
    return folder.parent, folder.name


def _held(home: Path) -> SiteHome:
    from ...privacy.home import SiteHome

    return SiteHome.open(home.parent, home.name)


def _identity(held: SiteHome, passphrase_file: Path | None) -> Identity:
    """The site's identity, made where there is none."""
    from ...privacy.identity import Identity
    from ..enrolling.passphrase import passphrase_for

    new = not held.identity.exists()
    secret = passphrase_for(passphrase_file, new=new, folder=held.folder)
    return Identity.create(held.identity, secret) if new else Identity.load(held.identity, secret)
