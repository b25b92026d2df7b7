"""Before a start: are a consortium's documents, keys and certificates whole, current, and of one another?"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

from ...privacy.errors import RosterError
from ...privacy.secure_aggregation.roster import Roster
from ..doctor import Check
from ..engines.nvflare.certificates import (
    SERVER,
    Checked,
    Standing,
    check_certificate,
    fingerprint,
    key_fits,
    read_certificate,
)
from ..engines.nvflare.kits import CERTIFICATE, check_kit, read_facts
from ..engines.nvflare.provisioning import ADMIN
from ..enrolling.coordinator_folder import ConsortiumFolder
from ..enrolling.documents import verify
from ..enrolling.gathering import check_approval
from ..enrolling.site_folder import SiteFolder
from ..enrolling.standing import standing_of
from .checking import guarded
from .folders import ConsortiumPlace

SOON = dt.timedelta(days=14)
"""A certificate that ends earlier may end in the middle of a study."""
_CLOCK = "Look at this machine's clock: timedatectl status. If it is right: "
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
        yield guarded("certificate", lambda: _site_certificate(folder, now), _sentence(_JOIN_AGAIN))
        yield guarded("FLARE's files", lambda: _flare_files(folder, now), _sentence(_JOIN_AGAIN))


def coordinator_documents(folder: ConsortiumFolder, now: dt.datetime) -> Iterator[Check]:
    """What a coordinator has of its consortium, each part against the others."""
    backup = f"Restore {folder.root} from a backup"
    yield guarded("study", lambda: Check("study", True, f"{folder.study().name}, unchanged"), backup)
    yield guarded("enrolment", lambda: _enrolment(folder, now), backup)
    yield guarded("roster", lambda: _coordinator_roster(folder), backup)
    server, admin = folder.flare / "server" / "startup", folder.flare / "admin" / "startup"
    renew = f"renew it: wardround consortium provision {folder.root} --renew coordinator"
    if not server.is_dir():
        yield Check(
            "server certificate",
            False,
            "not made yet",
            f"wardround consortium provision {folder.root}, once requests are in",
        )
        return
    kits = (
        ("server certificate", server / "server.crt", server / "server.key", SERVER),
        ("admin certificate", admin / "client.crt", admin / "client.key", ADMIN),
    )
    for name, certificate, key, owner in kits:
        yield guarded(name, partial(_own_certificate, folder, name, certificate, key, owner, renew, now), backup)
    yield guarded("host in certificate", lambda: _host_named(folder, server / "server.crt", renew), backup)
    yield guarded("hospitals' certificates", lambda: _sites_certificates(folder, now), backup)


def judge(name: str, checked: Checked, anew: str, now: dt.datetime) -> Check:
    """Words for a certificate that was looked at.

    Args:
        name: of the check. checked: what was found. anew: how a new one is got, as the end of a sentence.
        now: the time that it was looked at.
    """
    clock = f"this machine's clock says {_moment(now)}"
    match checked.standing:
        case Standing.UNREADABLE:
            return Check(name, False, "the certificate or its authority's cannot be read", _sentence(anew))
        case Standing.OTHER_AUTHORITY:
            found = "it was not signed by the consortium's authority: it is of another consortium, or of an older kit"
            return Check(name, False, found, _sentence(anew))
        case Standing.OTHER_NAME:
            return Check(name, False, f"it is for '{checked.name}'", _sentence(anew))
        case Standing.NOT_YET:
            found = f"it is valid only from {_moment(checked.since)}, and {clock}"
            return Check(name, False, found, f"{_CLOCK}wait until then, or {anew}")
        case Standing.EXPIRED:
            found = f"it expired on {_moment(checked.until)}, and {clock}"
            return Check(name, False, found, f"{_CLOCK}{anew}")
    left = (checked.until or now) - now
    found = f"for '{checked.name}', until {_moment(checked.until)}"
    if left < SOON:
        return Check(name, False, f"{found}: it expires in {left.days} days", _sentence(anew))
    return Check(name, True, found)


def _moment(time: dt.datetime | None) -> str:
    return "?" if time is None else f"{time.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


# --- a hospital ------------------------------------------------------------------------------------------------------


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
    return _pinned("roster", signed.roster, signed.signatures)


def _confirmation(folder: SiteFolder) -> Check:
    folder.read_signed_roster()
    size = folder.pinned.stat().st_size
    if not size:
        return Check("confirmation", False, "pinned.json is empty", "wardround site roster confirm signed-roster.json")
    return Check("confirmation", True, "there; its signature is checked at the start, with the site's key")


def _pinned(name: str, text: str, signatures: dict[str, str], confirmed: Collection[str] = ()) -> Check:
    roster = Roster.from_bytes(text.encode())
    try:
        roster.pin({site: bytes.fromhex(given) for site, given in signatures.items()}, confirmed)
    except RosterError as error:
        return Check(name, False, error.what, "Do not start. Ask the coordinator for the signed roster once more")
    return Check(name, True, f"signed by all {len(roster.names)} sites")


def _site_certificate(folder: SiteFolder, now: dt.datetime) -> Check:
    kit = folder.read_kit().document
    pem, authority = kit.certificate.encode(), kit.authority.encode()
    anew = "ask the coordinator for a new one (wardround consortium provision --renew), and " + _JOIN_AGAIN
    found = judge("certificate", check_certificate(pem, authority, name=folder.site, now=now), anew, now)
    if found.sound and not key_fits(folder.tls_key.read_bytes(), pem):
        return Check(
            "certificate", False, "it is not for this site's TLS key (tls.key was replaced)", f"{_sentence(anew)}"
        )
    return found


def _flare_files(folder: SiteFolder, now: dt.datetime) -> Check:
    kit, invitation = folder.read_kit().document, folder.read_invitation().document
    for problem in check_kit(folder.flare, authority=fingerprint(kit.authority.encode()), now=now):
        if problem.fatal and problem.where != str(folder.flare / CERTIFICATE):  # which the check before was about
            return Check("FLARE's files", False, f"{problem.what} ({problem.where})", problem.remedy)
    if (folder.flare / CERTIFICATE).read_bytes() != kit.certificate.encode():
        return Check("FLARE's files", False, "they are of another kit than kit.json", _sentence(_JOIN_AGAIN))
    machine = read_facts(folder.flare).machine
    if (machine.host, machine.port) != (invitation.host, invitation.port):
        found = f"they lead to {machine.host}:{machine.port}, the invitation to {invitation.host}:{invitation.port}"
        return Check("FLARE's files", False, found, _sentence(_JOIN_AGAIN))
    return Check("FLARE's files", True, "as this program writes them")


# --- a coordinator ---------------------------------------------------------------------------------------------------


def _enrolment(folder: ConsortiumFolder, now: dt.datetime) -> Check:
    folder.read_invitation()
    standing = standing_of(folder, now=now)
    of = [row for row in standing.sites if row.takes_part]
    asked, approved = sum(row.samples is not None for row in of), sum(row.approved for row in of)
    found = f"{asked} requests and {approved} approvals of {len(of)} hospitals"
    if not standing.signed:
        return Check("enrolment", False, found, "; ".join(standing.steps))
    return Check("enrolment", True, found)


def _coordinator_roster(folder: ConsortiumFolder) -> Check:
    signed, draft = folder.read_signed_roster(), folder.read_roster()
    if signed is None:
        remedy = f"Take in all approvals, then: wardround consortium provision {folder.root}"
        return Check("roster", False, "not signed by all hospitals yet", remedy)
    if draft is None or draft.to_bytes() != signed.document.roster.encode():
        remedy = f"Restore {folder.root} from one backup"
        return Check("roster", False, "the signed roster is not the one that was drawn here", remedy)
    keys = {site.name: site.public_key for site in draft.sites}
    confirmed = [name for name, key in folder.confirmed().items() if keys.get(name) == key]
    found = _pinned("roster", signed.document.roster, dict(signed.document.signatures), confirmed)
    least = max(draft.thresholds.m, draft.thresholds.t)
    if found.sound and len(confirmed) < least:
        return Check(
            "roster",
            False,
            f"{found.found}, but the words of {len(confirmed)} were compared here, and a sum needs {least}",
            f"Compare by telephone, and add the requests again: wardround consortium add-site REQUEST --consortium "
            f"{folder.root} --words WORDS",
        )
    return found


def _own_certificate(
    folder: ConsortiumFolder, name: str, certificate: Path, key: Path, owner: str, renew: str, now: dt.datetime
) -> Check:
    pem, authority = certificate.read_bytes(), (folder.flare / "authority" / "ca.crt").read_bytes()
    found = judge(name, check_certificate(pem, authority, name=owner, now=now), renew, now)
    if found.sound and not key_fits(key.read_bytes(), pem):
        return Check(name, False, "it is not for the key beside it", _sentence(renew))
    return found


def _host_named(folder: ConsortiumFolder, certificate: Path, renew: str) -> Check:
    from cryptography import x509

    name, host = "host in certificate", folder.record.host
    found = read_certificate(certificate.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    listed = [str(each.value) for each in names]
    if host not in listed:
        return Check(name, False, f"it is for {', '.join(listed)}, the invitation says {host}", _sentence(renew))
    return Check(name, True, host)


def _sites_certificates(folder: ConsortiumFolder, now: dt.datetime) -> Check:
    name = "hospitals' certificates"
    authority = (folder.flare / "authority" / "ca.crt").read_bytes()
    for site, kit in folder.kits().items():
        renew = f"wardround consortium provision {folder.root} --renew {site}, and send the hospital its new kit"
        pem = kit.document.certificate.encode()
        found = judge(name, check_certificate(pem, authority, name=site, now=now), renew, now)
        if not found.sound:
            return Check(name, False, f"{site}: {found.found}", found.remedy)
        verify(kit, bytes.fromhex(folder.record.coordinator))
    return Check(name, True, f"{len(folder.kits())}, valid for {SOON.days} days and more")
