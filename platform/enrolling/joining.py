"""``wardround site join INVITATION``: who asks, may they, what is there, and a signed request to take part.

The order is the point. Before any picture is looked at, a person has compared the coordinator's words, and the site's
own policy has had its say: the number that a request states is itself something that leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...privacy.atomic import write_atomic
from ...privacy.home import SiteHome
from ...privacy.identity import Identity
from ...privacy.ledger.enrol_entries import steps_of
from ...privacy.ledger.log import Ledger
from ...privacy.ledger.reading import read_entries
from ...privacy.messages import sha256_hex
from ..config import Study
from ..engines.nvflare.certificates import check_machine_name, new_request
from ..engines.nvflare.hardening import Machine
from ..engines.nvflare.provisioning import check_place
from ..opening import LEDGER_FILE
from ..own_data import members
from ..study_file import dump_study
from ..study_parts import federated_method
from ..study_split import SPLIT_FILE, keep_split
from .counting import Counted
from .documents import Invitation, Request, Signed, project_of, read_document, sign_document, verify
from .errors import EnrolmentError
from .finding import homes_beside, homes_in
from .noting import newest_step, note_step
from .portable import OwnPlaces, check_invitable, received
from .releasing import complete_release, release_file
from .site_folder import SiteFolder, make_folder
from .words import CALL, same_words


@dataclass(frozen=True)
class Invited:
    """An invitation that holds together; whose it is, only a person can say.

    Attributes:
        signed: the document. study: what is to be trained, without any path.
    """

    signed: Signed[Invitation]
    study: Study

    @property
    def digest(self) -> str:
        """The study's hash, hexadecimal."""
        return self.signed.document.study_hash

    @property
    def coordinator(self) -> bytes:
        """The coordinator's raw public key."""
        return bytes.fromhex(self.signed.document.coordinator)


def read_invited(signed: Signed[Invitation]) -> Invited:
    """Check everything about an invitation that a machine can check.

    Raises:
        EnrolmentError: its signature is wrong, its study is not what it says, or its address is a site's name.
        StudyFileError, MethodError, CertificateError: the study cannot be run, or the address cannot be used.
    """
    invitation = signed.document
    verify(signed, bytes.fromhex(invitation.coordinator))
    study = received(invitation.study, invitation.study_hash, OwnPlaces(), where=signed.source)
    check_invitable(study)
    federated_method(study)
    if invitation.host.casefold() in {name.casefold() for name in members(study)}:
        raise EnrolmentError(
            f"'{invitation.host}' is a site of the study and the coordinator's own address",
            where=signed.source,
            remedy="Do not use the file: a site could be taken for the coordinator's server. Ask the coordinator why",
        )
    check_place(project_of(invitation.study_hash), Machine(invitation.host, invitation.port, invitation.admin_port))
    return Invited(signed, study)


def check_words(typed: str, public_key: bytes, whose: str) -> None:
    """Refuse a key whose words a person did not hear.

    Raises:
        EnrolmentError: they differ; it does not say where.
    """
    if not same_words(typed, public_key):
        raise EnrolmentError(
            f"these are not the words of {whose}",
            remedy=f"{CALL}. If they differ again, this file is not theirs: do not use it",
        )


def choose_site(invited: Invited, root: Path, name: str, *, other_patients: bool) -> str:
    """Under which name this machine takes part.

    Args:
        invited: to what. root: folder of this machine's homes.
        name: what the person says; empty: the only home's.
        other_patients: whether a second home on this machine is of other patients.

    Raises:
        EnrolmentError: the study has no such site, or another home is here.
        CertificateError: FLARE cannot carry the name.
    """
    names, homes = members(invited.study), [path.name for path in homes_in(root)]
    if not name and len(homes) == 1 and homes[0] in names:
        name = homes[0]
    if name not in names:
        what = f"'{name}' is no site of this study" if name else "it is not said which hospital this is"
        raise EnrolmentError(
            what,
            where=invited.signed.source,
            remedy=f"Say which one with --site; the study's sites are {', '.join(names)}",
        )
    check_machine_name(name)
    others = homes_beside(root / name)
    if others and not other_patients and not _said_before(root / name):
        raise EnrolmentError(
            f"this machine has the home of '{others[0].name}' already; a second one would have a privacy budget and a "
            "list of withdrawn patients of its own",
            where=str(others[0]),
            remedy="Join under that name: ask the coordinator to call this hospital so. If the other home is of other "
            "patients, say so with --other-patients; both ledgers will",
        )
    return name


def _said_before(home: Path) -> bool:
    """Whether a person said of this home, when it or the other one was made, that it is of other patients."""
    ledger = home / LEDGER_FILE
    return ledger.exists() and newest_step(steps_of(read_entries(ledger)), "other-patients") is not None


def answered(folder: SiteFolder, invited: Invited) -> Signed[Request] | None:
    """The request that this site gave before; None where it gave none. A crash's half step is completed.

    Raises:
        EnrolmentError: it answered another invitation of the same study, or has left it.
        OSError: as the file system reports it.
    """
    folder.check_not_left()
    if folder.invitation.exists() and read_document(folder.invitation, Invitation).sha256 != invited.signed.sha256:
        raise EnrolmentError(
            "this site was invited to this study before, by another invitation",
            where=str(folder.invitation),
            remedy="Ask the coordinator which one holds, by telephone. One study has one coordinator and one address",
        )
    complete_release(folder.state_request, lambda data: _named_by_ledger(folder, data))
    if folder.state_request.exists() and not folder.request.exists() and folder.invitation.exists():
        write_atomic(folder.request, folder.state_request.read_bytes())
    return folder.read_request() if folder.request.exists() else None


def _named_by_ledger(folder: SiteFolder, data: bytes) -> bool:
    """Whether the newest request that the ledger knows of this study is this file."""
    ledger = folder.home / LEDGER_FILE
    steps = steps_of(read_entries(ledger), folder.digest) if ledger.exists() else []
    newest = newest_step(steps, "request")
    return newest is not None and (newest.facts or {}).get("document") == sha256_hex(data)


def check_count_again(folder: SiteFolder) -> None:
    """Refuse to count anew once the roster was drawn with the former number.

    Raises:
        EnrolmentError: it was.
    """
    if folder.kit.exists() or folder.state_roster.exists():
        raise EnrolmentError(
            "the roster of this study was drawn with the number that this site told before",
            where=str(folder.request),
            remedy="Restore the images that were counted; to withdraw patients: wardround site forget. With other "
            "images, the study is founded anew",
        )


def make_request(
    home: SiteHome,
    folder: SiteFolder,
    invited: Invited,
    study: Study,
    identity: Identity,
    counted: Counted,
    ledger: Ledger,
) -> Signed[Request]:
    """Keep what the site begins with, and let the request be made: keys first, then the ledger, then the file.

    Args:
        home: held. folder: of the consortium in it. invited: to what. study: with this machine's paths.
        identity: the site's. counted: its data. ledger: of the home, open.

    Raises:
        EnrolmentError, LedgerError, HomeError: something here cannot be written or contradicts the ledger.
        OSError: as the file system reports it.
    """
    make_folder(folder)
    csr = _tls_key(folder)
    write_atomic(folder.study_file, dump_study(study).encode())
    write_atomic(folder.invitation, invited.signed.data)
    folder.study()  # what was written is what will be read
    state = home.state(folder.digest)
    (state / SPLIT_FILE).unlink(missing_ok=True)  # of an attempt that told nobody anything, or of a former count
    keep_split(state, counted.split, None, ledger.split_of(folder.digest))
    request = Request(
        study_hash=folder.digest,
        invitation_sha256=invited.signed.sha256,
        site=folder.site,
        public_key=identity.public_key.hex(),
        samples=counted.samples,
        csr=csr,
        backbone=counted.backbone,
    )
    signed = sign_document(request, identity)
    release_file(
        folder.state_request,
        signed.data,
        lambda: note_step(ledger, "request", folder.digest, document=sha256_hex(signed.data), samples=counted.samples),
    )
    write_atomic(folder.request, signed.data)
    return signed


def _tls_key(folder: SiteFolder) -> str:
    """The signing request, PEM, of this machine's TLS key; both are made once, and the request is written last."""
    if not (folder.tls_key.exists() and folder.signing_request.exists()):
        key, csr = new_request(folder.site)
        write_atomic(folder.tls_key, key)
        write_atomic(folder.signing_request, csr)
    return folder.signing_request.read_text()
