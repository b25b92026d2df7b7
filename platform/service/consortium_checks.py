"""Before a start: are a coordinator's documents, keys and certificates whole, current, and of one another?"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ..doctor import Check
from ..engines.nvflare.certificates import SERVER, check_certificate, key_fits, read_certificate
from ..engines.nvflare.provisioning import ADMIN
from ..enrolling.coordinator_folder import ConsortiumFolder
from ..enrolling.documents import verify
from ..enrolling.standing import standing_of
from .checking import guarded
from .document_checks import SOON, check_pinned, judge, sentence


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
    found = check_pinned("roster", signed.document.roster, dict(signed.document.signatures), confirmed)
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
        return Check(name, False, "it is not for the key beside it", sentence(renew))
    return found


def _host_named(folder: ConsortiumFolder, certificate: Path, renew: str) -> Check:
    from cryptography import x509

    name, host = "host in certificate", folder.record.host
    found = read_certificate(certificate.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    listed = [str(each.value) for each in names]
    if host not in listed:
        return Check(name, False, f"it is for {', '.join(listed)}, the invitation says {host}", sentence(renew))
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
