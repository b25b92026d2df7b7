"""``wardround site join KIT``: the roster is drawn here once more and must be the same; FLARE's files are written here.

Nothing that the coordinator chose is taken over: of the kit come the other sites' names, keys and numbers, the address
was in the invitation, and the certificates authenticate machines to each other and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...privacy.atomic import write_atomic
from ...privacy.errors import ParameterError, RosterError
from ...privacy.secure_aggregation.roster import PinnedRoster, Roster
from ..backbone import Backbone
from ..config import Study
from ..engines.nvflare.certificates import fingerprint
from ..engines.nvflare.hardening import Machine
from ..engines.nvflare.kits import CERTIFICATE, FACTS, ROOT, install
from ..engines.nvflare.provisioning import description
from ..enrolment import draw_roster
from ..methods.method import SharedInputs
from ..own_data import deployed_dataset, members, shared_without_data
from ..study_parts import federated_method, study_backbone
from ..terms import Terms, figures_of, study_layout, terms_of
from .documents import Kit, Request, Signed, project_of, verify
from .errors import EnrolmentError
from .site_folder import SiteFolder

_ASK = "Do not go on. Ask the coordinator by telephone, at a number that you had before, which roster they drew"


@dataclass(frozen=True)
class Installed:
    """A kit whose roster was drawn here too.

    Attributes:
        roster: the draft, as it will be signed.
        terms: of the study under it. Its roster is pinned by nobody yet: sizes can be read off it, and no session
            can be held under it, for it knows no key.
        authority: SHA-256 of the consortium's authority.
        new: whether it was not installed before.
    """

    roster: Roster
    terms: Terms
    authority: str
    new: bool


def install_kit(folder: SiteFolder, signed: Signed[Kit]) -> Installed:
    """Check a kit against all that this site knows, and install it. The caller holds the home.

    Args:
        folder: of the consortium. signed: the kit.

    Raises:
        EnrolmentError: it is another site's or study's, older than the installed one, or its roster differs from the
            one drawn here or from one before.
        KitError: its certificates are not for this site's own key and name.
        RosterError, BackboneError, RunFolderError: from what the roster is drawn of.
        OSError: as the file system reports it.
    """
    folder.check_not_left()
    kit = signed.document
    invitation, request = folder.read_invitation(), folder.read_request().document
    verify(signed, folder.coordinator_key())
    _check_place(folder, signed, invitation.sha256)
    roster = _roster_of(signed, folder, request)
    before = folder.read_kit() if folder.kit.exists() else None
    if before is not None:
        _check_before(signed, before)
    study = folder.study()
    terms = redraw(study, roster, folder.kit if not signed.source else signed.source)
    machine = Machine(invitation.document.host, invitation.document.port, invitation.document.admin_port)
    files = {
        FACTS: description(project_of(folder.digest), folder.site, machine),
        CERTIFICATE: kit.certificate.encode(),
        ROOT: kit.authority.encode(),
    }
    install(files, folder.tls_key.read_bytes(), folder.flare)
    write_atomic(folder.kit, signed.data)
    new = before is None or before.data != signed.data
    return Installed(roster, terms, fingerprint(kit.authority.encode()), new)


def installed(folder: SiteFolder, study: Study) -> Installed:
    """The kit that was installed, with everything about its roster checked again.

    Args:
        folder: of the consortium. study: of `SiteFolder.study`.

    Raises:
        EnrolmentError: there is none, or it does not hold.
    """
    if not folder.kit.exists():
        raise EnrolmentError(
            "this site has no kit of this study yet",
            where=str(folder.kit),
            remedy="When the coordinator has sent it: wardround site join NAME.kit.json",
        )
    signed = folder.read_kit()
    _check_place(folder, signed, folder.read_invitation().sha256)
    roster = _roster_of(signed, folder, folder.read_request().document)
    terms = redraw(study, roster, str(folder.kit))
    return Installed(roster, terms, fingerprint(signed.document.authority.encode()), False)


def redraw(study: Study, roster: Roster, where: object) -> Terms:
    """Draw the roster from this site's own study, with the sites in it, and refuse any difference.

    Args:
        study: this site's. roster: the coordinator's draft. where: its file, for messages.

    Returns:
        The study's terms under it.

    Raises:
        EnrolmentError: bounds, blocks, thresholds, sums or names are not those that follow from the study.
    """
    method, backbone = federated_method(study), study_backbone(study)
    shared = shared_without_data(study, method, backbone)
    classes = len(deployed_dataset(study).classes)
    _check_drawn(study, roster, shared, classes, str(where))
    return _terms(study, roster, shared, backbone, classes)


def _check_drawn(study: Study, roster: Roster, shared: SharedInputs, classes: int, where: str) -> None:
    strangers = sorted(set(roster.names) - set(members(study)))
    if strangers:
        raise EnrolmentError(
            f"the roster lists '{strangers[0]}', which is no site of the study", where=where, remedy=_ASK
        )
    method = federated_method(study)
    layout = study_layout(study, method, shared)
    try:
        own = draw_roster(
            study,
            method,
            layout,
            {site.name: bytes.fromhex(site.public_key) for site in roster.sites},
            {site.name: site.samples for site in roster.sites},
            bytes.fromhex(roster.coordinator_key),
            figures_of(study, layout, classes=classes, sites=len(roster.names)),
        )
    except (ParameterError, RosterError) as error:
        raise EnrolmentError(
            f"no roster of these sites can be drawn here: {error.what}", where=where, remedy=_ASK
        ) from None
    if own.to_bytes() != roster.to_bytes():
        differing = ", ".join(_differences(own, roster)) or "its form"
        raise EnrolmentError(
            f"the roster is not the one that follows from the study; what differs: {differing}",
            where=where,
            remedy=f"{_ASK}; both sides need the same version of Wardround",
        )


def _differences(own: Roster, theirs: Roster) -> list[str]:
    """Which parts of two rosters of the same sites differ, in words."""
    pairs = {
        "threshold and cohort": (own.thresholds, theirs.thresholds),
        "which sums are taken": (sorted(own.vectors), sorted(theirs.vectors)),
        "weighting": (own.weighting, theirs.weighting),
        "cap of weights": (own.w_max, theirs.w_max),
        "sites of the figures": (own.evaluation_cohort, theirs.evaluation_cohort),
    }
    found = [name for name, (one, other) in pairs.items() if one != other]
    both = sorted(set(own.vectors) & set(theirs.vectors))
    return found + [f"bounds of the sum '{each}'" for each in both if own.vectors[each] != theirs.vectors[each]]


def _terms(study: Study, roster: Roster, shared: SharedInputs, backbone: Backbone, classes: int) -> Terms:
    unsigned = PinnedRoster(roster, frozenset(), {})
    return terms_of(study, federated_method(study), shared, unsigned, backbone.fingerprint, classes=classes)


def _check_place(folder: SiteFolder, signed: Signed[Kit], invitation: str) -> None:
    kit = signed.document
    if kit.study_hash != folder.digest or kit.invitation_sha256 != invitation:
        raise EnrolmentError(
            "this kit answers another invitation than the one that this site joined with",
            where=signed.source,
            remedy=_ASK,
        )
    if kit.site != folder.site:
        raise EnrolmentError(
            f"this kit is for '{kit.site}', and this is the home of '{folder.site}'",
            where=signed.source,
            remedy="Ask the coordinator for this site's own kit, and send this one back",
        )


def _roster_of(signed: Signed[Kit], folder: SiteFolder, request: Request) -> Roster:
    """The kit's roster, which must be of this study and coordinator, and say of this site what its request said."""
    where = signed.source
    try:
        roster = Roster.from_bytes(signed.document.roster.encode())
    except (RosterError, ParameterError) as error:
        raise EnrolmentError(f"the kit's roster cannot be used: {error.what}", where=where, remedy=_ASK) from None
    if roster.study.hex() != folder.digest or bytes.fromhex(roster.coordinator_key) != folder.coordinator_key():
        raise EnrolmentError("the kit's roster is of another study or coordinator", where=where, remedy=_ASK)
    if folder.site not in roster.index:
        raise EnrolmentError("the kit's roster does not list this site", where=where, remedy=_ASK)
    own = roster.sites[roster.index[folder.site]]
    if own.public_key != request.public_key:
        raise EnrolmentError("the kit's roster lists another key for this site", where=where, remedy=_ASK)
    if own.samples != request.samples:
        raise EnrolmentError(
            f"the kit's roster says {own.samples} samples of this site; its request said {request.samples}",
            where=where,
            remedy=_ASK,
        )
    if folder.state_roster.exists() and folder.state_roster.read_bytes() != roster.to_bytes():
        raise EnrolmentError(
            "this site approved another roster of this study before",
            where=where,
            remedy=f"A roster is fixed for a study. {_ASK}",
        )
    return roster


def _check_before(signed: Signed[Kit], before: Signed[Kit]) -> None:
    """A second kit renews certificates and nothing else."""
    if signed.document.roster != before.document.roster:
        raise EnrolmentError(
            "this kit has another roster than the one that is installed",
            where=signed.source,
            remedy=f"A roster is fixed for a study. {_ASK}",
        )
    if fingerprint(signed.document.authority.encode()) != fingerprint(before.document.authority.encode()):
        raise EnrolmentError(
            "this kit's certificates are of another authority than those of the kit that is installed",
            where=signed.source,
            remedy="Do not go on. Ask the coordinator by telephone, at a number that you had before, why: whoever has "
            "the new authority can pass for the server and for every site",
        )
    if signed.document.created < before.document.created:
        raise EnrolmentError(
            "this kit is older than the one that is installed",
            where=signed.source,
            remedy="Keep the installed one; ask for a newer kit if its certificate has ended",
        )
