"""Before a start: are a hospital's documents, keys and certificate whole, current, and of one another?"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from ...privacy.secure_aggregation.roster import Roster
from ..doctor import Check
from ..engines.nvflare.certificates import check_certificate, fingerprint, key_fits
from ..engines.nvflare.kits import CERTIFICATE, check_kit, read_facts
from ..enrolling.gathering import check_approval
from ..enrolling.site_folder import SiteFolder
from .checking import guarded
from .document_checks import check_pinned, judge, sentence
from .folders import ConsortiumPlace

_JOIN_AGAIN = "join again with the kit that the coordinator sent: wardround site join KIT"


def site_documents(place: ConsortiumPlace, folder: SiteFolder, now: dt.datetime) -> Iterator[Check]:
    """What a hospital has of a consortium, each part against the others.

    Args:
        place, folder: of the consortium. now: the time, with its zone.
    """
    missing = {step.name: step.todo for step in place.steps() if not step.done}
    if "left" in missing:
        yield Check("enrolment", False, "this site has left the study", missing["left"])
        return
    parts = {
        "invitation": lambda: _invitation(folder),
        "request": lambda: _request(folder),
        "kit": lambda: _kit(folder),
        "approval": lambda: _approval(folder),
        "roster": lambda: _signed_roster(folder),
        "confirmation": lambda: _confirmation(folder),
    }
    for name, check in parts.items():
        if name in missing:
            yield Check(name, False, "not there yet", missing[name])
        else:
            yield guarded(name, check, f"Restore {folder.root} from a backup, or join anew")
    if "kit" not in missing:
        yield guarded("certificate", lambda: _site_certificate(folder, now), sentence(_JOIN_AGAIN))
        yield guarded("FLARE's files", lambda: _flare_files(folder, now), sentence(_JOIN_AGAIN))


def _invitation(folder: SiteFolder) -> Check:
    invitation, study = folder.read_invitation().document, folder.study()
    return Check("invitation", True, f"study '{study.name}' at {invitation.host}:{invitation.port}, unchanged")


def _request(folder: SiteFolder) -> Check:
    request, invitation = folder.read_request(), folder.read_invitation()
    if request.document.invitation_sha256 != invitation.sha256:
        return Check(
            "request",
            False,
            "it answers another invitation than the one that lies here",
            "Ask the coordinator which invitation is in force, and join with it: wardround site join invitation.json",
        )
    return Check("request", True, f"as '{request.document.site}', with {request.document.samples} samples")


def _kit(folder: SiteFolder) -> Check:
    kit, request = folder.read_kit().document, folder.read_request().document
    ask = "Do not start. Ask the coordinator for the kit that belongs to this site's request: wardround site join KIT"
    if kit.invitation_sha256 != request.invitation_sha256:
        return Check("kit", False, "it is of another invitation: a stale kit", ask)
    roster = Roster.from_bytes(kit.roster.encode())
    row = roster.sites[roster.index[folder.site]] if folder.site in roster.index else None
    if roster.study.hex() != folder.digest or row is None:
        return Check("kit", False, "its roster is of another study, or does not list this site", ask)
    if (row.public_key, row.samples) != (request.public_key, request.samples):
        return Check("kit", False, "its roster lists another key or number of samples than this site's request", ask)
    if roster.coordinator_key != folder.coordinator_key().hex():
        return Check("kit", False, "its roster is of another coordinator than the invitation", ask)
    return Check("kit", True, f"{len(roster.names)} sites, threshold {roster.thresholds.t}")


def _approval(folder: SiteFolder) -> Check:
    roster = Roster.from_bytes(folder.read_kit().document.roster.encode())
    check_approval(folder.read_approval(bytes.fromhex(folder.read_request().document.public_key)), roster)
    signed = folder.state_roster.read_bytes() if folder.state_roster.is_file() else b""
    if signed != roster.to_bytes():
        return Check(
            "approval",
            False,
            "the roster in the kit is not the one that this site signed",
            f"Do not start. Restore {folder.root} and {folder.state} from one backup; ask the coordinator whether "
            "there is a second roster",
        )
    return Check("approval", True, f"of roster {roster.digest.hex()[:16]}")


def _signed_roster(folder: SiteFolder) -> Check:
    kit, signed = folder.read_kit().document, folder.read_signed_roster().document
    if signed.roster != kit.roster:
        return Check(
            "roster",
            False,
            "the signed roster is not the one in the kit that this site approved",
            "Do not start. Ask the coordinator for the signed roster of this kit: wardround site roster confirm",
        )
    return check_pinned("roster", signed.roster, signed.signatures)


def _confirmation(folder: SiteFolder) -> Check:
    folder.read_signed_roster()
    size = folder.pinned.stat().st_size
    if not size:
        return Check("confirmation", False, "pinned.json is empty", "wardround site roster confirm signed-roster.json")
    return Check("confirmation", True, "there; its signature is checked at the start, with the site's key")


def _site_certificate(folder: SiteFolder, now: dt.datetime) -> Check:
    kit = folder.read_kit().document
    pem, authority = kit.certificate.encode(), kit.authority.encode()
    anew = "ask the coordinator for a new one (wardround consortium provision --renew), and " + _JOIN_AGAIN
    found = judge("certificate", check_certificate(pem, authority, name=folder.site, now=now), anew, now)
    if found.sound and not key_fits(folder.tls_key.read_bytes(), pem):
        return Check(
            "certificate", False, "it is not for this site's TLS key (tls.key was replaced)", f"{sentence(anew)}"
        )
    return found


def _flare_files(folder: SiteFolder, now: dt.datetime) -> Check:
    kit, invitation = folder.read_kit().document, folder.read_invitation().document
    for problem in check_kit(folder.flare, authority=fingerprint(kit.authority.encode()), now=now):
        if problem.fatal and problem.where != str(folder.flare / CERTIFICATE):  # which the check before was about
            return Check("FLARE's files", False, f"{problem.what} ({problem.where})", problem.remedy)
    if (folder.flare / CERTIFICATE).read_bytes() != kit.certificate.encode():
        return Check("FLARE's files", False, "they are of another kit than kit.json", sentence(_JOIN_AGAIN))
    machine = read_facts(folder.flare).machine
    if (machine.host, machine.port) != (invitation.host, invitation.port):
        found = f"they lead to {machine.host}:{machine.port}, the invitation to {invitation.host}:{invitation.port}"
        return Check("FLARE's files", False, found, sentence(_JOIN_AGAIN))
    return Check("FLARE's files", True, "as this program writes them")
