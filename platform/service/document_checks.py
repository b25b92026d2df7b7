"""What the checks of a hospital's and of a coordinator's documents share: certificates and rosters, in words."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection

from ...privacy.errors import RosterError
from ...privacy.secure_aggregation.roster import Roster
from ..doctor import Check
from ..engines.nvflare.certificates import Checked, Standing

SOON = dt.timedelta(days=14)
"""A certificate that ends earlier may end in the middle of a study."""
_CLOCK = "Look at this machine's clock: timedatectl status. If it is right: "


def judge(name: str, checked: Checked, anew: str, now: dt.datetime) -> Check:
    """Words for a certificate that was looked at.

    Args:
        name: of the check. checked: what was found. anew: how a new one is got, as the end of a sentence.
        now: the time that it was looked at.
    """
    clock = f"this machine's clock says {_moment(now)}"
    match checked.standing:
        case Standing.UNREADABLE:
            return Check(name, False, "the certificate or its authority's cannot be read", sentence(anew))
        case Standing.OTHER_AUTHORITY:
            found = "it was not signed by the consortium's authority: it is of another consortium, or of an older kit"
            return Check(name, False, found, sentence(anew))
        case Standing.OTHER_NAME:
            return Check(name, False, f"it is for '{checked.name}'", sentence(anew))
        case Standing.NOT_YET:
            found = f"it is valid only from {_moment(checked.since)}, and {clock}"
            return Check(name, False, found, f"{_CLOCK}wait until then, or {anew}")
        case Standing.EXPIRED:
            found = f"it expired on {_moment(checked.until)}, and {clock}"
            return Check(name, False, found, f"{_CLOCK}{anew}")
    left = (checked.until or now) - now
    found = f"for '{checked.name}', until {_moment(checked.until)}"
    if left < SOON:
        return Check(name, False, f"{found}: it expires in {left.days} days", sentence(anew))
    return Check(name, True, found)


def _moment(time: dt.datetime | None) -> str:
    return "?" if time is None else f"{time.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"


def sentence(text: str) -> str:
    """The end of a sentence as one of its own."""
    return text[:1].upper() + text[1:]


def check_pinned(name: str, text: str, signatures: dict[str, str], confirmed: Collection[str] = ()) -> Check:
    """Whether a roster is signed by all its sites.

    Args:
        name: of the check. text: the roster. signatures: hexadecimal, by site.
        confirmed: sites whose words were compared here.
    """
    roster = Roster.from_bytes(text.encode())
    try:
        roster.pin({site: bytes.fromhex(given) for site, given in signatures.items()}, confirmed)
    except RosterError as error:
        return Check(name, False, error.what, "Do not start. Ask the coordinator for the signed roster once more")
    return Check(name, True, f"signed by all {len(roster.names)} sites")
