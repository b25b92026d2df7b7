"""``wardround consortium provision``: the roster is drawn once, certificates and kits are made, signatures gathered.

Every step leaves what it made and takes up what it finds, so that after a crash the same command goes on. Nothing that
was given out is made a second time: a second roster, authority or certificate would only be asked for by name.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from ...privacy.atomic import make_private, sync_folder, write_atomic
from ...privacy.identity import Identity
from ...privacy.secure_aggregation.roster import Roster
from ..engines.nvflare.authority import Authority
from ..engines.nvflare.certificates import CertificateError, key_fits
from ..engines.nvflare.provisioning import provision as provision_flare
from ..engines.nvflare.provisioning import renew as renew_flare
from ..enrolment import draw_roster
from ..methods.table import method_of
from ..own_data import members, shared_without_data
from ..terms import figures_of, study_layout
from .coordinator_folder import ConsortiumFolder
from .coordinator_record import BACKUP
from .documents import Signed, project_of, sign_document
from .errors import EnrolmentError
from .founding import own_backbone
from .gathering import check_approval
from .kinds import Kit, Request, SignedRoster

COORDINATOR = "coordinator"
"""Given for a site's name, it is the coordinator's own certificates that are renewed; no site may be called so."""
_FEWEST = 3
_CERTIFICATE, _ROOT = "startup/client.crt", "startup/rootCA.pem"


def provision(
    folder: ConsortiumFolder,
    identity: Callable[[], Identity],
    *,
    without: Collection[str] = (),
    renew: Collection[str] = (),
    now: int,
) -> None:
    """Do whatever can be done next. The caller holds the folder.

    Args:
        folder: of the consortium.
        identity: the coordinator's, asked for only when something is to be signed.
        without: hospitals of the study that do not take part after all.
        renew: sites whose certificates are made anew under the same roster; ``coordinator`` for its own.
        now: UTC seconds since 1970.

    Raises:
        EnrolmentError: a hospital's name that is wrong here, or a file that is damaged.
        BackboneError, ParameterError, RosterError, CertificateError, KeyStoreError: from what is made.
        OSError: as the file system reports it.
    """
    requests = folder.requests()
    roster = folder.read_roster()
    taking = _taking_part(folder, requests, roster, without)
    _check_renewable(renew, roster)
    if taking is None:
        return
    chosen = {site: requests[site].document for site in taking}
    own = _Once(identity)
    draft = roster if roster is not None else _draw(folder, chosen, own())
    _check_draft(folder, draft, chosen)
    kits = _certificates(folder, chosen, renew)
    if roster is None:
        write_atomic(folder.roster, draft.to_bytes())
    _write_kits(folder, draft, kits, own, now)
    _sign_off(folder, draft, own)


class _Once:
    """The coordinator's identity, unlocked when it is first needed."""

    def __init__(self, opener: Callable[[], Identity]) -> None:
        self._opener = opener
        self._identity: Identity | None = None

    def __call__(self) -> Identity:
        if self._identity is None:
            self._identity = self._opener()
        return self._identity


def _taking_part(
    folder: ConsortiumFolder,
    requests: Mapping[str, Signed[Request]],
    roster: Roster | None,
    without: Collection[str],
) -> tuple[str, ...] | None:
    """Sites of the roster, drawn or to be drawn; None while requests are missing.

    Raises:
        EnrolmentError: `without` names no site of the study, leaves too few, or comes too late.
    """
    names = members(folder.study())
    unknown = sorted(set(without) - set(names))
    if unknown:
        raise EnrolmentError(
            f"'{unknown[0]}' is no site of this study", where="--without", remedy=f"Its sites are {', '.join(names)}"
        )
    if roster is not None:
        late = sorted(set(without) & set(roster.names))
        if late:
            raise EnrolmentError(
                f"the roster is drawn already, with '{late[0]}'",
                where="--without",
                remedy="A roster is fixed for a study: without them, found the consortium anew",
            )
        missing = sorted(set(roster.names) - set(requests))
        if missing:
            raise EnrolmentError(
                f"the request of '{missing[0]}', which is in the roster, is gone",
                where=str(folder.request(missing[0])),
                remedy=BACKUP,
            )
        return roster.names
    taking = tuple(name for name in names if name not in without)
    if len(taking) < _FEWEST:
        raise EnrolmentError(
            f"{len(taking)} hospitals would take part; a federation needs at least {_FEWEST}",
            where="--without",
            remedy="Or the sum would show single ones",
        )
    return taking if set(taking) <= set(requests) else None


def _check_renewable(renew: Collection[str], roster: Roster | None) -> None:
    """Refuse to renew what is not there.

    Raises:
        EnrolmentError: no roster is drawn, or the site is not in it.
    """
    for site in renew:
        if roster is None:
            raise EnrolmentError(
                "nothing is provisioned yet that could be renewed", where="--renew", remedy="Leave the option out"
            )
        if site != COORDINATOR and site not in roster.index:
            raise EnrolmentError(
                f"'{site}' is not in the roster",
                where="--renew",
                remedy=f"Its sites are {', '.join(roster.names)}; for the server: {COORDINATOR}",
            )


def _draw(folder: ConsortiumFolder, chosen: Mapping[str, Request], identity: Identity) -> Roster:
    """The roster of those who take part, from what they stated."""
    study = folder.study()
    method = method_of(study)
    shared = shared_without_data(study, method, own_backbone(study))
    layout = study_layout(study, method, shared)
    return draw_roster(
        study,
        method,
        layout,
        {site: bytes.fromhex(request.public_key) for site, request in chosen.items()},
        {site: request.samples for site, request in chosen.items()},
        identity.public_key,
        figures_of(study, layout, classes=len(shared.text), sites=len(chosen)),
    )


def _check_draft(folder: ConsortiumFolder, draft: Roster, chosen: Mapping[str, Request]) -> None:
    """The draft must list what the requests say, also long after it was drawn.

    Raises:
        EnrolmentError: it does not.
    """
    for site in draft.sites:
        request = chosen[site.name]
        if (site.public_key, site.samples) != (request.public_key, request.samples):
            raise EnrolmentError(
                f"the roster and the request of '{site.name}' do not say the same",
                where=str(folder.request(site.name)),
                remedy=f"{BACKUP}: one of them was changed after the roster was drawn",
            )


def _certificates(
    folder: ConsortiumFolder, chosen: Mapping[str, Request], renew: Collection[str]
) -> dict[str, tuple[str, str]]:
    """Authority's and own certificate of each site, PEM; what is there already stays as it is."""
    machine, project = folder.record.machine, project_of(folder.record.study_hash)
    _whole_authority(folder.flare, project)
    for site in set(renew) - {COORDINATOR}:
        # Gone, it is made anew; the request beside it is what says that it is whole.
        (folder.flare / "sites" / site / "request.pem").unlink(missing_ok=True)
    made = provision_flare(
        folder.flare, project, machine, {site: request.csr.encode() for site, request in chosen.items()}
    )
    if COORDINATOR in renew or not _whole(folder.flare):
        renew_flare(folder.flare, machine)
    return {site: (files[_ROOT].decode(), files[_CERTIFICATE].decode()) for site, files in made.sites.items()}


def _whole_authority(flare: Path, project: str) -> None:
    """Make the authority under another name first, so that no half of it is ever taken for one."""
    place, fresh = flare / "authority", flare / ".authority.new"
    make_private(flare)
    if fresh.exists():
        shutil.rmtree(fresh)
    if place.exists():
        return
    Authority.create(fresh, project)
    fresh.rename(place)
    sync_folder(flare)


def _whole(flare: Path) -> bool:
    """Whether the coordinator's own keys are those of its certificates; not so when a renewal was interrupted."""
    try:
        return all(
            key_fits((flare / f"{each}.key").read_bytes(), (flare / f"{each}.crt").read_bytes())
            for each in ("server/startup/server", "admin/startup/client")
        )
    except (OSError, CertificateError):
        return False


def _write_kits(
    folder: ConsortiumFolder, draft: Roster, kits: Mapping[str, tuple[str, str]], own: _Once, now: int
) -> None:
    """A kit for each site that has none, or one with another certificate."""
    text, invitation, before = draft.to_bytes().decode(), folder.read_invitation().sha256, folder.kits()
    for site, (authority, certificate) in kits.items():
        old = before.get(site)
        created = now if old is None else old.document.created
        kit = Kit(folder.record.study_hash, invitation, site, text, authority, certificate, created)
        if old is None or old.document != kit:
            fresh = Kit(folder.record.study_hash, invitation, site, text, authority, certificate, now)
            write_atomic(folder.kit(site), sign_document(fresh, own()).data)


def _sign_off(folder: ConsortiumFolder, draft: Roster, own: _Once) -> None:
    """The signed roster, once every site approved; checked again in full before it is written.

    Raises:
        EnrolmentError, RosterError: a signature is wrong.
    """
    approvals = folder.approvals()
    if set(approvals) != set(draft.names):
        return
    for signed in approvals.values():
        check_approval(signed, draft)
    given = {site: signed.document.roster_signature for site, signed in approvals.items()}
    draft.pin({site: bytes.fromhex(each) for site, each in given.items()}, confirmed=())
    before = folder.read_signed_roster()
    wanted = SignedRoster(folder.record.study_hash, draft.to_bytes().decode(), given)
    if before is None:
        write_atomic(folder.signed_roster, sign_document(wanted, own()).data)
    elif before.document != wanted:
        raise EnrolmentError(
            "the signed roster is not the one that was drawn and approved here",
            where=str(folder.signed_roster),
            remedy=BACKUP,
        )
