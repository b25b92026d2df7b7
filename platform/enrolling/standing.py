"""How far the enrolment of a consortium is, and what is to be done next, by whom."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from ...privacy.secure_aggregation.roster import Roster
from ..engines.nvflare.certificates import check_certificate
from ..own_data import members
from .coordinator_folder import ConsortiumFolder


@dataclass(frozen=True, slots=True)
class SiteRow:
    """One hospital.

    Attributes:
        site: its name.
        takes_part: False where it was left out when the roster was drawn.
        samples: as its request says; None before there is one.
        confirmed: whether its words were compared here.
        kit: whether its kit is made. until: when the certificate in it ends, UTC; None without a kit.
        approved: whether its approval is here.
    """

    site: str
    takes_part: bool
    samples: int | None
    confirmed: bool
    kit: bool
    until: dt.datetime | None
    approved: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """How far an enrolment is.

    Attributes:
        study: name. study_hash: of it.
        sites: a row for each hospital of the study.
        drawn: whether the roster is drawn. signed: whether every hospital signed it.
        steps: what is next, in words.
    """

    study: str
    study_hash: str
    sites: tuple[SiteRow, ...]
    drawn: bool
    signed: bool
    steps: tuple[str, ...]


def standing_of(folder: ConsortiumFolder, *, now: dt.datetime) -> Standing:
    """Read how far the enrolment is; nothing is changed.

    Args:
        folder: of the consortium. now: the time, for certificates.

    Raises:
        EnrolmentError: a file is damaged.
    """
    study = folder.study()
    requests, kits, approvals = folder.requests(), folder.kits(), folder.approvals()
    roster, confirmed = folder.read_roster(), folder.confirmed()
    signed = folder.read_signed_roster() is not None
    rows = []
    for site in members(study):
        request, kit = requests.get(site), kits.get(site)
        until = None
        if kit is not None:
            pem, authority = kit.document.certificate.encode(), kit.document.authority.encode()
            until = check_certificate(pem, authority, name=site, now=now).until
        rows.append(
            SiteRow(
                site,
                roster is None or site in roster.index,
                None if request is None else request.document.samples,
                request is not None and confirmed.get(site) == request.document.public_key,
                kit is not None,
                until,
                site in approvals,
            )
        )
    steps = _steps(folder, rows, roster, signed, now)
    return Standing(study.name, folder.record.study_hash, tuple(rows), roster is not None, signed, tuple(steps))


def _steps(
    folder: ConsortiumFolder, rows: Sequence[SiteRow], roster: Roster | None, signed: bool, now: dt.datetime
) -> list[str]:
    of, root = [row for row in rows if row.takes_part], folder.root
    unconfirmed = [row.site for row in of if row.samples is not None and not row.confirmed]
    steps = []
    if roster is None:
        asked = [row.site for row in of if row.samples is None]
        if asked:
            steps.append(
                f"Wait for the requests of {', '.join(asked)} (send them {folder.invitation}), and add each: "
                f"wardround consortium add-site REQUEST --consortium {root}. Whoever does not take part after all is "
                "left out with: wardround consortium provision --without SITE"
            )
        else:
            steps.append(f"Draw the roster and make the kits: wardround consortium provision {root}")
    elif any(not row.kit for row in of):
        steps.append(f"Make the kits that are missing: wardround consortium provision {root}")
    elif not signed:
        waiting = [row.site for row in of if not row.approved]
        if waiting:
            steps.append(
                f"Send each hospital its own kit from {root / 'kits'}; {', '.join(waiting)} must still join with it, "
                "approve the study (wardround site join KIT, wardround site approve) and send the approval, which is "
                f"added here: wardround consortium add-site APPROVAL --consortium {root}"
            )
        else:
            steps.append(f"All hospitals approved. Sign off the roster: wardround consortium provision {root}")
    else:
        steps.append(
            f"Send {folder.signed_roster} to every hospital, which confirms it (wardround site roster confirm) and "
            f"starts (wardround site start); then start here: wardround coordinator start {root}"
        )
    if unconfirmed:
        steps.append(
            f"Not compared by telephone yet: {', '.join(unconfirmed)}. They do not count towards the fewest sites of a "
            "sum until their request is added again with the words that you heard"
            + _too_few(roster, len(of) - len(unconfirmed))
        )
    ending = [row.site for row in of if row.until is not None and row.until - now < dt.timedelta(days=30)]
    if ending:
        steps.append(
            f"The certificates of {', '.join(ending)} end within 30 days, or have ended: wardround consortium "
            f"provision {root} --renew SITE, and send the new kit"
        )
    return steps


def _too_few(roster: Roster | None, confirmed: int) -> str:
    if roster is None or confirmed >= roster.thresholds.least:
        return ""
    return f"; no round can release anything before {roster.thresholds.least} are compared"
