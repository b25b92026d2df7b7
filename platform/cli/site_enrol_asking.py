"""What a hospital's person is asked during enrolment; questions go to standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from .console import ERR, one_line
from .site_enrol_view import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...privacy.secure_aggregation.roster import Roster
    from ..enrolling.approving import Proposal

TRIES = 3


def ask_words(whose: str) -> str:
    """The eight words that a person heard."""
    from ..enrolling.words import CALL

    say(f"{CALL}.", out=ERR)
    return _ask(f"The eight words of {whose}")


def ask_typed(question: str, wanted: str) -> None:
    """Go on only when a person types a word.

    Raises:
        Exit: something else was typed.
    """
    if _ask(question).strip() != wanted:
        ERR.print("That is not it: nothing was changed.")
        raise typer.Exit(1)


def ask_share(proposal: Proposal, accepted: bool, yes: bool) -> None:
    """A sum that is mostly this site's own needs a consent of its own, which ``--yes`` is not.

    Raises:
        EnrolmentError: nobody is asked, and the command line does not accept it. Exit: a person does not.
    """
    from ..enrolling.errors import EnrolmentError

    if proposal.share <= 0.5 or accepted:
        return
    what = f"up to {100 * proposal.share:.0f} % of a sum is this site's own update, which the sum then nearly shows"
    if yes:
        raise EnrolmentError(
            what,
            where="--accept-share",
            remedy="Accept it with --accept-share, or ask the coordinator for a smaller secure_aggregation.w_max",
        )
    say(f"{what}.", title="warning:", out=ERR, style="bold yellow")
    ask_typed("To accept that, type yes", "yes")


def typed_earlier(proposal: Proposal, accepted: Sequence[str]) -> list[str]:
    """Earlier studies that a person names now; those whose sums repeat are named on the command line alone."""
    from ..enrolling.earlier import in_words, needs_consent

    found = []
    for each in proposal.earlier:
        named = any(each.study.startswith(name) for name in accepted if name)
        if named or each.again or not needs_consent(each, private=proposal.study.private):
            continue
        say(in_words(each), title="Earlier:", out=ERR)
        say("The difference of two sums over the same images may show what neither shows alone.", out=ERR)
        typed = _ask("To accept that, type the first 8 digits of the earlier study's hash").strip()
        if typed == each.study[: len(typed)] and len(typed) >= 8:
            found.append(each.study)
    return found


def pairs(given: Sequence[str] | None, option: str) -> dict[str, str]:
    """SITE=TEXT options as a table.

    Raises:
        EnrolmentError: one has another form, or a site is named twice.
    """
    from ..enrolling.errors import EnrolmentError

    found: dict[str, str] = {}
    for each in given or ():
        site, equals, text = each.partition("=")
        if not equals or not text.strip() or site in found:
            raise EnrolmentError(
                f"{each!r} is not SITE={'WORDS' if option == '--words' else 'TEXT'}, or names a site again",
                where=option,
                remedy="Give it once for each site",
            )
        found[site] = text
    return found


def hear(roster: Roster, own: str, missing: Sequence[str], heard: dict[str, str], persons: dict[str, str]) -> None:
    """Ask for the words of each site, and who spoke; nothing typed leaves a site unconfirmed.

    Args:
        roster: whose keys. own: this site. missing: sites to ask about.
        heard, persons: filled in, by site.

    Raises:
        EnrolmentError: the words of a site were wrong three times.
    """
    from ..enrolling.confirming import check_heard
    from ..enrolling.errors import EnrolmentError
    from ..enrolling.words import CALL

    say(f"{CALL}. A site that cannot be reached is left out with the Enter key.", out=ERR)
    for site in missing:
        for left in reversed(range(TRIES)):
            typed = _ask(f"The eight words of {site}", default="")
            if not typed.strip():
                break
            try:
                check_heard(roster, own, {site: typed}, {})
            except EnrolmentError as error:
                if not left:
                    raise
                say(error.what, title="error:", out=ERR, style="bold red")
                continue
            heard[site] = typed
            spoke = "" if site in persons else _ask("Who spoke, and for which institution", default="")
            if spoke.strip():
                persons[site] = spoke
            break


def _ask(question: str, default: str | None = None) -> str:
    return str(typer.prompt(one_line(question), default=default, show_default=False, err=True))
