"""``wardround consortium add-site``: what a hospital sent is checked, and kept if everything about it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import NameOID

from ...privacy.atomic import write_atomic
from ...privacy.identity import SigningContext, verifies
from ...privacy.secure_aggregation.roster import LABEL_ROSTER, Roster
from ..engines.nvflare.certificates import CertificateError, check_machine_name, read_request, request_fingerprint
from ..own_data import members
from .coordinator_folder import ConsortiumFolder
from .documents import Signed, read_any, verify
from .errors import EnrolmentError
from .kinds import FEWEST_SAMPLES, WORDS, Approval, Request
from .words import CALL, same_words

_ANEW = "Ask the hospital to make its request with: wardround site join"
Heard = Callable[[str], str | None]
"""Given a site's name, the words that a person heard on the telephone; None to take it without comparing."""


@dataclass(frozen=True, slots=True)
class Added:
    """A file that was taken in.

    Attributes:
        site: whose. kind: of what. new: whether it was not there before.
        confirmed: whether the site's words were compared, now or before.
    """

    site: str
    kind: Literal["request", "approval"]
    new: bool
    confirmed: bool


def add_file(folder: ConsortiumFolder, path: Path, heard: Heard) -> Added:
    """Take in a request or an approval, told apart by what is in it. The caller holds the folder.

    Args:
        folder: of the consortium. path: the file.
        heard: asked for a site's words, once everything else about its request holds.

    Raises:
        EnrolmentError: it is refused, and why; nothing was changed.
        OSError: as the file system reports it.
    """
    signed = read_any(path)
    if isinstance(signed.document, Request):
        return _add_request(folder, signed, heard)
    if isinstance(signed.document, Approval):
        return _add_approval(folder, signed)
    raise EnrolmentError(
        f"this is {WORDS[type(signed.document)]}; a hospital's request or approval is wanted",
        where=str(path),
        remedy="Give the file that the hospital sent",
    )


def check_approval(signed: Signed[Approval], roster: Roster) -> None:
    """Check that a site of the roster approved this very roster.

    Raises:
        EnrolmentError: it did not.
    """
    approval, where = signed.document, signed.source
    _check_study(approval.study_hash, roster.study.hex(), where)
    if approval.site not in roster.index:
        raise EnrolmentError(f"'{approval.site}' is not in the roster", where=where, remedy="Find out who sent this")
    key = bytes.fromhex(roster.sites[roster.index[approval.site]].public_key)
    verify(signed, key)
    if approval.roster_sha256 != roster.digest.hex():
        raise EnrolmentError(
            f"'{approval.site}' approved another roster than the one that was drawn here",
            where=where,
            remedy="Do not go on. Find out by telephone which kit they joined with; the right one is in kits/",
        )
    public, given = Ed25519PublicKey.from_public_bytes(key), bytes.fromhex(approval.roster_signature)
    context = SigningContext(roster.study, bytes(32))
    if not verifies(public, given, LABEL_ROSTER, context, approval.site, roster.digest):
        raise EnrolmentError(
            f"the signature of '{approval.site}' is not over this roster",
            where=where,
            remedy="Ask them to approve again: wardround site approve",
        )


def _add_request(folder: ConsortiumFolder, signed: Signed[Request], heard: Heard) -> Added:
    request, where = signed.document, signed.source
    key = bytes.fromhex(request.public_key)
    _check_study(request.study_hash, folder.record.study_hash, where)
    verify(signed, key)
    _check_request(folder, signed)
    known = folder.requests()
    before = known.get(request.site)
    if before is None:
        _check_new(folder, signed, known)
    elif before.data != signed.data:
        raise EnrolmentError(
            f"'{request.site}' has sent another request before, and one is not replaced by the other",
            where=where,
            remedy=_replace(folder, request.site),
        )
    confirmed = folder.confirmed()
    done = confirmed.get(request.site) == request.public_key
    if not done:
        words = heard(request.site)
        if words is not None and not same_words(words, key):
            raise EnrolmentError(
                f"these are not the words of the key in the request of '{request.site}'",
                where=where,
                remedy=f"{CALL}. If they differ again, somebody else made this file: do not take it",
            )
        done = words is not None
    if before is None:
        write_atomic(folder.request(request.site), signed.data)
    if done and confirmed.get(request.site) != request.public_key:
        folder.write_confirmed({**confirmed, request.site: request.public_key})
    return Added(request.site, "request", before is None, done)


def _check_request(folder: ConsortiumFolder, signed: Signed[Request]) -> None:
    """What does not depend on other requests.

    Raises:
        EnrolmentError: see each.
    """
    request, where = signed.document, signed.source
    invitation = folder.read_invitation()
    study = folder.study()
    names = members(study)
    if request.invitation_sha256 != invitation.sha256:
        raise EnrolmentError(
            f"'{request.site}' answers another invitation than this consortium's",
            where=where,
            remedy="Send them invitation.json again and ask them to join with it",
        )
    if request.site not in names:
        raise EnrolmentError(
            f"'{request.site}' is no site of this study",
            where=where,
            remedy=f"Its sites are {', '.join(names)}: ask them to join under their own name",
        )
    if request.public_key == folder.record.coordinator:
        raise EnrolmentError(
            "the request is made with the coordinator's own key", where=where, remedy="Each makes its own identity"
        )
    if request.backbone != study.backbone.fingerprint:
        raise EnrolmentError(
            f"'{request.site}' has other weights of the frozen model than the study pins",
            where=where,
            remedy=f"They need the weights with the fingerprint {study.backbone.fingerprint}",
        )
    if request.samples < FEWEST_SAMPLES:
        raise EnrolmentError(
            f"'{request.site}' has {request.samples} samples; at least {FEWEST_SAMPLES} are needed",
            where=where,
            remedy="So few could be told apart in a sum. Leave the hospital out: consortium provision --without",
        )
    _check_csr(request, where)


def _check_csr(request: Request, where: str) -> None:
    """The signing request is this site's, and asks for nothing but its name.

    Raises:
        EnrolmentError: it is not.
    """
    try:
        check_machine_name(request.site)
        csr, _ = read_request(request.csr.encode(), request.site)
    except CertificateError as error:
        raise EnrolmentError(error.what, where=where, remedy=error.remedy or _ANEW) from None
    subject = [(part.oid, part.value) for part in csr.subject]
    if subject != [(NameOID.COMMON_NAME, request.site)] or list(csr.extensions) or list(csr.attributes):
        raise EnrolmentError(
            f"the signing request in it is not for '{request.site}', or asks for more than that",
            where=where,
            remedy=_ANEW,
        )


def _check_new(folder: ConsortiumFolder, signed: Signed[Request], known: dict[str, Signed[Request]]) -> None:
    """A request that was not here before must come in time, and share no key with another.

    Raises:
        EnrolmentError: it does not.
    """
    request, where = signed.document, signed.source
    if folder.roster.exists():
        raise EnrolmentError(
            f"the roster is drawn already, so '{request.site}' comes too late",
            where=where,
            remedy="A roster is fixed for a study: to take them in, found the consortium anew",
        )
    tls = request_fingerprint(request.csr.encode())
    for site, other in known.items():
        if other.document.public_key == request.public_key:
            raise EnrolmentError(
                f"'{request.site}' has the same identity as '{site}'", where=where, remedy="Each makes its own"
            )
        if request_fingerprint(other.document.csr.encode()) == tls:
            raise EnrolmentError(
                f"'{request.site}' has the same TLS key as '{site}'", where=where, remedy="Each makes its own"
            )


def _replace(folder: ConsortiumFolder, site: str) -> str:
    if folder.roster.exists():
        return (
            "The roster is drawn with the first one: find out who sent this, and found the consortium anew if need be"
        )
    return f"Ask them by telephone which is theirs. To take the new one, remove {folder.request(site)} and add it again"


def _add_approval(folder: ConsortiumFolder, signed: Signed[Approval]) -> Added:
    site, where = signed.document.site, signed.source
    _check_study(signed.document.study_hash, folder.record.study_hash, where)
    roster = folder.read_roster()
    if roster is None:
        raise EnrolmentError(
            "there is no roster here yet that could have been approved",
            where=where,
            remedy="Find out by telephone what they approved. Kits are made with: wardround consortium provision",
        )
    check_approval(signed, roster)
    place = folder.approval(site)
    before: Any = folder.approvals().get(site)
    if before is not None and before.data != signed.data:
        raise EnrolmentError(
            f"'{site}' has sent another approval before", where=where, remedy=f"Remove {place} if that one is damaged"
        )
    if before is None:
        write_atomic(place, signed.data)
    key = roster.sites[roster.index[site]].public_key
    return Added(site, "approval", before is None, folder.confirmed().get(site) == key)


def _check_study(found: str, own: str, where: str) -> None:
    if found != own:
        raise EnrolmentError(
            "this file is about another study",
            where=where,
            remedy="Give the folder of the consortium that it belongs to: --consortium C",
        )
