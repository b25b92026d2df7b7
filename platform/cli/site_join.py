"""``wardround site join``: a hospital asks to take part in a study, and later installs the kit that comes back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import ERR, RichWatcher
from .site_enrol_asking import ask_words
from .site_enrol_home import Home, Passphrase, Yes, held_home, identity_to_join
from .site_enrol_view import say, show_counted, show_installed, show_invitation, show_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..enrolling.documents import Kit, Signed
    from ..enrolling.joining import Invited
    from ..enrolling.site_folder import SiteFolder


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
        bool,
        typer.Option("--count-again", help="Tell another number of the same images, to whomever the first was told."),
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
        with held_home(folder.home):
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
    with held_home(folder.home) as held:
        check_count_again(folder)
        check_own_policy(held.policy, study, invited.coordinator)
        identity = identity_to_join(held, passphrase_file)
        with open_ledger(held, identity) as ledger:
            told = check_not_counted(ledger, held.folder, again=count_again)
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
    from ..enrolling.finding import find_home, homes_root, was_used
    from ..enrolling.installing import install_kit
    from ..enrolling.site_folder import SiteFolder

    kit = signed.document
    named = homes_root() / (site or kit.site)
    place = find_home(home if home is not None else named if was_used(named) else None)
    folder = SiteFolder(place, kit.study_hash)
    if not folder.request.exists():
        raise EnrolmentError(
            "this site has not joined the study of this kit",
            where=signed.source,
            remedy="Join first, with the coordinator's invitation: wardround site join INVITATION",
        )
    with held_home(place):
        show_installed(install_kit(folder, signed), folder.site)


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
