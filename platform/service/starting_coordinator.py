"""From a consortium's folder to a coordinator at work: everything is checked, opened and held, then the study runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from ...privacy.atomic import make_private, write_atomic, write_json
from ...privacy.egress import COORDINATOR
from ...privacy.identity import Identity
from ...privacy.secure_aggregation.roster import PinnedRoster, Roster
from ..adapter_file import AdapterInfo
from ..backbone import Backbone
from ..config import Study
from ..consortium import Consortium
from ..coordinator_side import Standing, open_coordinator, standing
from ..engines.deployed import DeployedLine, StopRequestedError
from ..enrolling.coordinator_folder import ConsortiumFolder
from ..enrolling.errors import EnrolmentError
from ..figures_loop import erase_sums, sums_are_made
from ..methods.method import Method, SharedInputs
from ..own_data import deployed_dataset, shared_without_data
from ..run_folder import RunFolder
from ..study_file import dump_study
from ..study_parts import federated_method, study_backbone
from ..terms import Terms, terms_of
from ..watching import Watcher
from .board import Board
from .conducting import Conducted, abort, concluded, conduct
from .coordinator_results import write_coordinator_results
from .coordinator_service import CoordinatorService, check_ports
from .runtime import ServiceError, runtime_folder

Ending = Literal["complete", "aborted", "stopped"]
ABORTED_FILE = "aborted.json"
FAREWELL = 30.0
"""Seconds that sites are waited for who are only to hear that the study is over."""
LOOK = 0.5
"""Seconds between two looks whether the study was submitted."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A coordinator whose documents were all checked.

    Attributes:
        folder: the consortium's. run: the study's.
        study, method, backbone, shared: what is trained, how, on which encoder, with which prompts.
        terms: of the study. identity: this side's. at: where its checkpoints stand.
    """

    folder: ConsortiumFolder
    run: RunFolder
    study: Study
    method: Method
    backbone: Backbone
    shared: SharedInputs
    terms: Terms
    identity: Identity
    at: Standing

    @property
    def begun(self) -> bool:
        """Whether the study was begun before."""
        return self.at.found or any((self.run.coordinator / "checkpoint").glob("*attempt.json"))

    @property
    def complete(self) -> bool:
        """Whether its results are there."""
        return self.run.summary.is_file()

    @property
    def aborted(self) -> bool:
        """Whether somebody ended it before its end, or asked for that."""
        return (self.run.coordinator / ABORTED_FILE).is_file() or self.folder.abort.exists()

    @property
    def told_of_abort(self) -> bool:
        """Whether the sites that could be told of that end were told."""
        path = self.run.coordinator / ABORTED_FILE
        return path.is_file() and bool(json.loads(path.read_bytes())["told"])


def pinned_roster(folder: ConsortiumFolder) -> PinnedRoster:
    """The roster that every site has signed, with those whose words were compared here.

    Raises:
        EnrolmentError: approvals are missing. RosterError: a signature is wrong.
    """
    signed = folder.read_signed_roster()
    if signed is None:
        raise EnrolmentError(
            "not every site has approved the study",
            where=str(folder.root),
            remedy="See who is missing, and take in what came: wardround consortium provision; add-site FILE",
        )
    roster = Roster.from_bytes(signed.document.roster.encode())
    draft = folder.read_roster()
    if draft is not None and draft.digest != roster.digest:
        raise EnrolmentError(
            "the signed roster is not the one that was drawn here",
            where=str(folder.signed_roster),
            remedy="Restore both from one backup",
        )
    keys = {site.name: site.public_key for site in roster.sites}
    confirmed = {name for name, key in folder.confirmed().items() if keys.get(name) == key}
    signatures = {site: bytes.fromhex(given) for site, given in signed.document.signatures.items()}
    return roster.pin(signatures, confirmed)


def prepare(folder: ConsortiumFolder, passphrase: bytes, watch: Watcher) -> Ready:
    """Check every document, load the encoder, and see where the study stands; nothing is written but study.toml.

    Raises:
        EnrolmentError, RosterError, KeyStoreError: a document, signature or key does not hold.
        BackboneError, StudyFileError: the encoder is not the one that the study pins.
        CheckpointError: a checkpoint is damaged.
    """
    study, run = folder.study(), folder.run
    identity = folder.read_identity(passphrase)
    pinned = pinned_roster(folder)
    watch.stage("backbone")
    backbone, method = study_backbone(study), federated_method(study)
    shared = shared_without_data(study, method, backbone)
    classes = len(deployed_dataset(study).classes)
    terms = terms_of(study, method, shared, pinned, backbone.fingerprint, classes=classes)
    info = AdapterInfo(terms.digest, method.name, 0, backbone.fingerprint)
    remembers = study.server.optimiser != "mean"
    at = standing(terms.start, terms.layout, info, run.coordinator, remembers=remembers)
    if not run.study.is_file():
        make_private(run.root)
        write_atomic(run.study, dump_study(study).encode())
    return Ready(folder, run, study, method, backbone, shared, terms, identity, at)


def coordinate(
    ready: Ready,
    watch: Watcher,
    board: Board,
    stopping: Callable[[], bool],
    *,
    resume: bool,
    patience: float,
    listen: str = "",
) -> Ending:
    """Run a study to its end, or until somebody asks to stop; the caller holds the run's lock.

    Args:
        ready: from `prepare`. watch, board: told of the progress.
        stopping: whether somebody has asked this process to end.
        resume: go on with a study that was begun.
        patience: seconds that all sites are waited for before a round begins with enough of them.
        listen: address to listen at; empty: that of the kit.

    Raises:
        ServiceError: the study was begun and ``resume`` is not given, was aborted, or the server ended.
        RoundError: a round released nothing in all its tries; it can be resumed.
    """
    if ready.told_of_abort:
        _forget_exact(ready.run)  # a stop may have come between the last word and this
        raise ServiceError(
            "this study was ended by its coordinator",
            where=str(ready.run.coordinator / ABORTED_FILE),
            remedy="Sites take no further part in it. Found a new one",
        )
    if ready.complete:
        erase_sums(ready.run)  # a stop may have come between the results and this
        board.at(ready.at.info.round, "")
        watch.note("the study is complete; nothing to resume")
        return "complete"
    if ready.begun and not resume:
        raise ServiceError(
            f"this study was begun, and {ready.at.info.round} of its {ready.study.rounds} rounds are done",
            where=str(ready.run.root),
            remedy="Go on with it: wardround coordinator start --resume",
        )
    with _opened(ready, board) as consortium:
        classes = deployed_dataset(ready.study).class_names
        # What was complete when somebody asked for its end stays complete.
        if _is_over(ready, consortium) and not (ready.run.coordinator / ABORTED_FILE).is_file():
            done: Conducted | Ending = concluded(ready.study, classes, consortium, ready.run, watch)
        else:
            done = _over_the_network(ready, classes, consortium, watch, board, stopping, patience, listen)
        if not isinstance(done, Conducted):
            return done
        watch.stage("dossier")
        write_coordinator_results(
            ready.run,
            ready.study,
            ready.method,
            ready.backbone,
            ready.shared,
            consortium,
            done.records,
            done.unreleased,
            done.figures,
            done.seconds,
        )
    return "complete"


def _is_over(ready: Ready, consortium: Consortium) -> bool:
    """Whether the last message was sent and the ledger closed, before a stop kept the results from being written."""
    ledger = consortium.ledgers[COORDINATOR]
    return ledger.knows(ready.terms.digest) and not ledger.is_open(ready.terms.digest)


def _over_the_network(
    ready: Ready,
    classes: tuple[str, ...],
    consortium: Consortium,
    watch: Watcher,
    board: Board,
    stopping: Callable[[], bool],
    patience: float,
    listen: str,
) -> Conducted | Ending:
    """FLARE's server, the sites, and what is still to be done of the study."""
    folder, flare = ready.folder, ready.folder.flare
    sockets = runtime_folder(folder.root)
    parts = (ready.terms, ready.identity, flare / "server", flare / "admin", sockets, board, watch, listen)
    service = CoordinatorService(*parts, round=lambda: min(consortium.coordinator.position[0], ready.study.rounds))

    def ending() -> bool:
        return stopping() or folder.abort.exists()

    done = ready.at.info.round == ready.study.rounds and sums_are_made(ready.run, ready.terms.figures)
    try:
        check_ports((folder.record.port, folder.record.admin_port), stopping)
        with service.connected(ending) as line:
            try:
                if ready.aborted:
                    raise StopRequestedError
                if not ready.begun:
                    _await_submission(folder, line, ending, board, watch)
                # Where only the last words are left to be said, those who have gone home are not waited for.
                service.await_sites(line, ending, min(patience, FAREWELL) if done else patience, 0 if done else None)
                return conduct(ready.study, ready.method, classes, consortium, ready.run, line, watch)
            except StopRequestedError:
                if stopping() or not ready.aborted:
                    raise
                _abort(ready, service, consortium, line, stopping, watch)
                return "aborted"
    except StopRequestedError:
        return "stopped"


@contextmanager
def _opened(ready: Ready, board: Board) -> Iterator[Consortium]:
    """The coordinator's ledger, gate and state machine."""
    with ExitStack() as stack:
        parts = (stack, ready.terms, ready.run, ready.identity, ready.at, time.monotonic)
        coordinator, ledger = open_coordinator(*parts, begun=ready.begun, reopens=False)
        board.at(ready.at.info.round, "")
        yield Consortium(coordinator, {}, {}, {COORDINATOR: ledger}, {}, ready.terms.roster, {}, ready.terms.figures)


def _await_submission(
    folder: ConsortiumFolder, line: DeployedLine, stopping: Callable[[], bool], board: Board, watch: Watcher
) -> None:
    """The server runs and sites may connect; the rounds begin when somebody submits the study."""
    board.state("waiting")
    if not folder.submitted.exists():
        watch.note(f"ready; begin the rounds with: wardround coordinator submit {folder.root}")
    while not folder.submitted.exists():
        if stopping():
            raise StopRequestedError
        line.check()
        time.sleep(LOOK)


def _abort(
    ready: Ready,
    service: CoordinatorService,
    consortium: Consortium,
    line: DeployedLine,
    stopping: Callable[[], bool],
    watch: Watcher,
) -> None:
    """Tell the sites, where any can be told; that the study is over is on disk before the first hears of it.

    Raises:
        StopRequestedError: somebody asked to stop; the next start tells the rest.
    """
    path, digest = ready.run.coordinator / ABORTED_FILE, ready.terms.digest
    content = {"study": digest, "round": consortium.coordinator.info.round, "time": int(time.time())}
    write_json(path, {**content, "told": False})
    line = replace(line, stopping=stopping)
    if not line.courier.present:
        service.await_sites(line, stopping, FAREWELL, 0)
    if line.courier.present:
        abort(ready.study, consortium, line, watch)
    else:
        watch.note("no site is connected: they learn of the end from people, and leave with: wardround site leave")
    consortium.close_ledgers(digest)
    write_json(path, {**content, "told": True})
    _forget_exact(ready.run)


def _forget_exact(run: RunFolder) -> None:
    """Of a study that was ended nothing is published, and no exact figure of images is kept."""
    erase_sums(run)
    run.write_rounds([{**record, "train_loss": None, "validation": None} for record in run.read_rounds()])
