"""From a hospital's home to a site at work: everything is checked, opened and held, then messages are answered."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ...privacy.errors import HomeError
from ...privacy.home import SiteHome
from ...privacy.identity import Identity
from ..engines.nvflare.certificates import fingerprint
from ..engines.nvflare.kits import CERTIFICATE, KEY, ROOT, check_kit, render
from ..enrolling.confirming import load_pinned
from ..enrolling.site_folder import SiteFolder
from ..features import default_cache
from ..image_index import image_index
from ..own_data import check_deployable, deployed_dataset, own_data, own_plan
from ..site_side import LEFT_FILE, open_site
from ..study_parts import federated_method, study_backbone
from ..terms import terms_of
from ..watching import Watcher
from .board import Board
from .runtime import ServiceError, runtime_folder
from .site_results import write_site_results
from .site_service import Ending, SiteService
from .study_readiness import policy_check

RELAY_SOCKET = "relay.sock"


@dataclass(frozen=True, slots=True)
class SiteStart:
    """What ``wardround site start`` works from.

    Attributes:
        home: locked. folder: of the consortium, in the home.
        identity: unlocks the site's identity; called once the home is held.
        cache: of features; None for WARDROUND_CACHE or its default.
    """

    home: SiteHome
    folder: SiteFolder
    identity: Callable[[Path], Identity]
    cache: Path | None = None


def take_part(start: SiteStart, watch: Watcher, board: Board, stopping: Callable[[], bool]) -> Ending:
    """Read the data, and answer messages until the study is over or somebody asks to stop.

    Raises:
        HomeError: the site has left; the data are not those that it joined with.
        EnrolmentError, RosterError, KeyStoreError: a document, signature or key does not hold.
        LedgerError, BudgetError, PolicyError, CheckpointError: the home's own state is damaged.
        StudyFileError, DataError, BackboneError: study, images or weights are not as they should be.
        ServiceError: the policy refuses the study; the kit's certificate has expired, or is of another authority.
        KitError: the kit is no kit.
        FlareProcessError, RelayError: FLARE cannot be started.
    """
    study = start.folder.study()
    check_deployable(study)
    check_trust(start.folder)
    with ExitStack() as stack:
        home = start.home
        home.check_whole()
        allowed = policy_check(home.folder, study, start.folder.coordinator_key())
        if not allowed.sound:
            raise ServiceError(
                f"this site's policy does not let it take part: {allowed.found}",
                where=str(home.policy),
                remedy=allowed.remedy,
            )
        state = home.state(study.digest())
        if (state / LEFT_FILE).exists():
            raise HomeError("this site has left the study", where=str(state / LEFT_FILE), remedy="Found it anew")
        identity = start.identity(home.identity)
        pinned = load_pinned(start.folder, identity)
        watch.stage("backbone")
        backbone, method = study_backbone(study), federated_method(study)
        watch.stage("reading data")
        cache = start.cache or default_cache()
        with image_index(study, cache, home.folder.parent, watch.note) as reader:
            drawn = start.folder.phantoms
            plan = own_plan(study, home.site, drawn, reader=reader, note=watch.note)
            watch.stage("encoding images")
            own = own_data(
                study,
                method,
                backbone,
                plan,
                home.folder,
                cache,
                reader=reader,
                note=watch.note,
                progress=lambda done, total, rate: watch.progress(done, total, "images", rate),
            )
        data = own.data
        classes = len(deployed_dataset(study).classes)
        terms = terms_of(study, method, data.shared, pinned, backbone.fingerprint, classes=classes)
        side = open_site(stack, terms, home, identity, data, data.sites[0], consents=False)
        watch.stage("taking part")
        service = SiteService(terms, side, start.folder.flare, runtime_folder(start.folder.root) / RELAY_SOCKET)
        service.board, service.note = board, watch.note
        ending = service.run(stopping)
        if ending == "complete" and not (start.folder.report / "summary.json").is_file():
            watch.stage("report")
            write_site_results(study, method, backbone, own, side, pinned, start.folder.report)
        return ending


def check_trust(folder: SiteFolder) -> None:
    """Refuse a certificate that the coordinator's server would not take: FLARE would try for ever, and say nothing.

    Raises:
        ServiceError: it has expired, or is not of the authority that this site's kit names. KitError: there is none.
    """
    kit = folder.read_kit().document
    render(folder.flare)  # what is not a matter of trust is made anew at each start
    trust = {str(folder.flare), *(str(folder.flare / name) for name in (CERTIFICATE, ROOT, KEY))}
    for problem in check_kit(folder.flare, authority=fingerprint(kit.authority.encode()), now=dt.datetime.now(dt.UTC)):
        if problem.fatal and problem.where in trust:
            raise ServiceError(problem.what, where=problem.where, remedy=problem.remedy)
