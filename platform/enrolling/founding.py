"""``wardround consortium new``: a study becomes a consortium's folder, the coordinator's identity and an invitation."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...privacy.atomic import make_private, sweep, write_atomic, write_json
from ...privacy.identity import Identity
from ..backbone import Backbone, load_backbone
from ..config import Study
from ..engines.nvflare.certificates import check_machine_name
from ..engines.nvflare.hardening import Machine
from ..engines.nvflare.provisioning import check_place
from ..enrolment import draw_roster
from ..errors import BackboneError, MethodError
from ..methods.table import method_of
from ..own_data import check_deployable, members, shared_without_data
from ..study_file import dump_study, load_study
from ..terms import figures_of, study_layout
from .coordinator_folder import ConsortiumFolder
from .coordinator_record import ConsortiumRecord, lock_of
from .documents import Signed, project_of, sign_document
from .errors import EnrolmentError
from .kinds import Invitation
from .portable import check_invitable, portable

_REHEARSED = 100  # images of a stand-in site: as many as let the study's own bounds show


@dataclass(frozen=True, slots=True)
class Founded:
    """A consortium that was founded.

    Attributes:
        folder: its folder. study: with the backbone pinned. members: hospitals to be invited.
        words: of the coordinator's own fingerprint. invitation: what hospitals are sent.
    """

    folder: ConsortiumFolder
    study: Study
    members: tuple[str, ...]
    words: str
    invitation: Signed[Invitation]


def found(study_file: Path, out: Path, machine: Machine, passphrase: Callable[[], bytes], *, now: int) -> Founded:
    """Found a consortium; one that was interrupted is founded to its end.

    Args:
        study_file: the study. out: the consortium's folder, which is made.
        machine: where hospitals reach the coordinator.
        passphrase: asked for once all else is right; of the coordinator's identity.
        now: UTC seconds since 1970.

    Raises:
        EnrolmentError: the folder is in use.
        StudyFileError, MethodError, BackboneError, ParameterError, RosterError: the study cannot be run on machines of
            their own.
        CertificateError: a name or the address. KeyStoreError: the identity.
        OSError: as the file system reports it.
    """
    study = load_study(study_file)
    check_deployable(study)
    if method_of(study).exchange != "federated":
        raise MethodError(
            f"nothing is exchanged for the method '{study.method}', so there is nothing to found a consortium for",
            where="method",
            remedy="Choose another method; each hospital can try this one alone: wardround run",
        )
    names = members(study)
    for name in names:
        check_machine_name(name)
        if name == machine.host.casefold():
            raise EnrolmentError(
                f"'{name}' is a hospital and the server's own address", remedy="Give the server's full name"
            )
    check_place(project_of(study.digest()), machine)
    _check_free(out)
    backbone = own_backbone(study)
    pinned = study.backbone.model_copy(update={"fingerprint": backbone.fingerprint})
    study = study.model_copy(update={"backbone": pinned})
    check_invitable(study)
    _rehearse(study, backbone, names)
    secret = passphrase()
    make_private(out)
    os.chmod(out, 0o700)  # it was there, and is empty or ours
    with lock_of(out):
        _check_free(out)
        sweep(out)
        return _write(study, out, machine, secret, names, now)


def own_backbone(study: Study) -> Backbone:
    """This machine's copy of the study's frozen CLIP, on the processor: only sentences are encoded here.

    Raises:
        BackboneError: it cannot be had here, or is not the one that the study pins.
    """
    wanted = study.backbone
    backbone = load_backbone(wanted.name, wanted.weights or None, device="cpu", allow_random=wanted.allow_random)
    if wanted.fingerprint not in ("", backbone.fingerprint):
        raise BackboneError(
            f"the backbone's fingerprint is {backbone.fingerprint}, the study pins {wanted.fingerprint}",
            where="backbone.fingerprint",
            remedy="Use the weights that the study was written for, or leave the pin out: it is then written anew",
        )
    return backbone


def _write(study: Study, out: Path, machine: Machine, secret: bytes, names: tuple[str, ...], now: int) -> Founded:
    """Write the folder; the invitation is last, so that with it everything is there."""
    digest = study.digest()
    write_atomic(out / "study.toml", dump_study(study).encode())
    own = ConsortiumFolder(out, ConsortiumRecord(digest, "0" * 64, machine.host, machine.port, machine.admin_port, now))
    make_private(own.identity_file.parent)
    known = own.identity_file.exists()
    identity = (Identity.load if known else Identity.create)(own.identity_file, secret)
    key = identity.public_key.hex()
    record = ConsortiumRecord(digest, key, machine.host, machine.port, machine.admin_port, now)
    write_json(out / "consortium.json", _plain(record))
    invitation = sign_document(
        Invitation(portable(study), digest, key, machine.host, machine.port, machine.admin_port, now), identity
    )
    write_atomic(out / "invitation.json", invitation.data)
    return Founded(ConsortiumFolder.load(out), study, names, identity.fingerprint, invitation)


def _plain(record: ConsortiumRecord) -> dict[str, str | int]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def _check_free(out: Path) -> None:
    """Refuse a folder that holds something else, or a consortium already.

    Raises:
        EnrolmentError: says which.
    """
    try:
        found = out.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise EnrolmentError(
            "the path is no folder of this user", where=str(out), remedy="Choose another --out, which need not exist"
        )
    if (out / "invitation.json").exists():
        raise EnrolmentError(
            "this folder holds a consortium already",
            where=str(out),
            remedy="Go on with it: wardround consortium provision, or choose another --out for another study",
        )
    if not (out / "enrolment.lock").exists() and any(out.iterdir()):
        raise EnrolmentError(
            "the folder is not empty", where=str(out), remedy="Choose another --out, which need not exist"
        )


def _rehearse(study: Study, backbone: Backbone, names: tuple[str, ...]) -> None:
    """Draw a roster with stand-in keys, so that bad bounds show before anybody is invited.

    Raises:
        ParameterError, RosterError, StudyFileError: a threshold, bound, class or prompt does not hold.
    """
    method = method_of(study)
    shared = shared_without_data(study, method, backbone)
    layout = study_layout(study, method, shared)
    keys = {name: hashlib.sha256(name.encode()).digest() for name in names}
    figures = figures_of(study, layout, classes=len(shared.text), sites=len(names))
    draw_roster(study, method, layout, keys, dict.fromkeys(names, _REHEARSED), held_out=figures)
