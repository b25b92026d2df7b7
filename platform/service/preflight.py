"""``wardround doctor --kit``: can a process be started in this consortium now? Each check says what to do if not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from ...privacy.errors import PrivacyError
from ...privacy.secure_aggregation.roster import Roster
from ..config import Study
from ..doctor import Check
from ..enrolling.coordinator_folder import ConsortiumFolder
from ..enrolling.errors import EnrolmentError
from ..enrolling.kinds import Invitation
from ..enrolling.site_folder import SiteFolder
from ..features import default_cache
from ..opening import LEDGER_FILE
from .checking import guarded
from .consortium_checks import coordinator_documents
from .folders import place_of
from .kit_checks import site_documents
from .machine_checks import (
    clock_check,
    coordinator_bytes,
    disk_check,
    feature_bytes,
    flare_check,
    rights_check,
    site_bytes,
    socket_check,
    umask_check,
)
from .network_checks import host_check, port_check, reach_check
from .study_readiness import budget_check, data_check, data_listing, policy_check, weights_check

_REPORT = "Run this command once more; if it stays, report it"


def examine_kit(folder: Path, *, data: bool = False, now: dt.datetime | None = None) -> Iterator[Check]:
    """Run every check in turn; slow ones come last.

    Args:
        folder: ``HOME/consortia/HASH`` of a hospital, or a coordinator's consortium folder.
        data: whether a hospital's images are all read and counted, which can take long.
        now: the time to check at, with its zone; None for the clock's.

    Raises:
        EnrolmentError: it is neither.
    """
    time = now or dt.datetime.now(dt.UTC)
    place = place_of(folder)
    if place.side == "site":
        site = SiteFolder(place.folder.parent.parent, place.folder.name)
        yield from site_documents(place, site, time)
        yield from _site_machine(site, time)
        yield from _site_study(site, data=data)
    else:
        consortium = ConsortiumFolder.load(place.folder)
        yield from coordinator_documents(consortium, time)
        yield from _coordinator_machine(consortium, time)


def _machine() -> Iterator[Check]:
    yield guarded("FLARE", flare_check, "pip install 'wardround[deploy]'")
    yield umask_check()


def _site_machine(folder: SiteFolder, now: dt.datetime) -> Iterator[Check]:
    roster, samples, known = None, 0, {}
    invitation: Invitation | None = None
    with suppress(EnrolmentError, PrivacyError):  # what is missing or damaged was said by the checks of documents
        invitation = folder.read_invitation().document
        known["the invitation"] = _utc(invitation.created)
        samples = folder.read_request().document.samples
        kit = folder.read_kit().document
        known["the kit"] = _utc(kit.created)
        roster = Roster.from_bytes(kit.roster.encode())
    yield guarded("clock", lambda: clock_check(known, folder.home / LEDGER_FILE, now), _REPORT)
    yield guarded("home", lambda: rights_check("home", folder.home), _REPORT)
    yield guarded("disk", lambda: disk_check("disk", folder.home, site_bytes(roster)), _REPORT)
    cache = default_cache().absolute()
    yield guarded("disk of features", lambda: disk_check("disk of features", cache, feature_bytes(samples)), _REPORT)
    yield guarded("sockets", lambda: socket_check(folder.root), _REPORT)
    yield from _machine()
    if invitation is not None:
        host = guarded("host name", partial(host_check, invitation.host), _REPORT)
        yield host
        if host.sound and (folder.flare / "startup").is_dir():
            reach = partial(reach_check, invitation.host, invitation.port, folder.flare)
            yield guarded("coordinator", reach, _REPORT)


def _site_study(folder: SiteFolder, *, data: bool) -> Iterator[Check]:
    study = _study(folder)
    if study is None:
        return
    key = folder.coordinator_key()
    yield guarded("policy", lambda: policy_check(folder.home, study, key), _REPORT)
    if study.private:
        yield guarded("budget", lambda: budget_check(folder, study), "Restore budget and ledger from one backup")
    yield guarded("weights", lambda: weights_check(study), _REPORT)
    look = (lambda: data_check(folder, study)) if data else (lambda: data_listing(folder, study))
    yield guarded("data", look, "See docs/data.md for how a folder must look")


def _coordinator_machine(folder: ConsortiumFolder, now: dt.datetime) -> Iterator[Check]:
    record, roster = folder.record, None
    known = {"the invitation": _utc(record.created)}
    with suppress(EnrolmentError):
        roster = folder.read_roster()
        for site, kit in folder.kits().items():
            known[f"the kit of {site}"] = _utc(kit.document.created)
    yield guarded("clock", lambda: clock_check(known, folder.run.coordinator / LEDGER_FILE, now), _REPORT)
    yield guarded("folder", lambda: rights_check("folder", folder.root), _REPORT)
    yield guarded("disk", lambda: disk_check("disk", folder.root, coordinator_bytes(roster)), _REPORT)
    yield guarded("sockets", lambda: socket_check(folder.root), _REPORT)
    yield from _machine()
    yield guarded("host name", lambda: host_check(record.host), _REPORT)
    ports = {"port": record.port, "admin port": record.admin_port}
    if record.admin_port == record.port:
        del ports["admin port"]
    for name, port in ports.items():
        yield guarded(name, partial(port_check, name, port, folder.status), _REPORT)
    study = _study(folder)
    if study is not None:
        yield guarded("policy", lambda: policy_check(folder.run.coordinator, study, None), _REPORT)
        yield guarded("weights", lambda: weights_check(study), _REPORT)


def _study(folder: SiteFolder | ConsortiumFolder) -> Study | None:
    try:
        return folder.study()
    except EnrolmentError:
        return None  # said by the checks of documents


def _utc(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
