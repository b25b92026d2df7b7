"""The two processes that run for days, from the command line: status, log and figures beside them, signals heard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .console import OUT, RichWatcher

if TYPE_CHECKING:
    from ..config import Study
    from ..service.board_watcher import BoardWatcher

MetricsPort = Annotated[
    int, typer.Option("--metrics-port", metavar="PORT", min=0, max=65535, help="Serve figures on loopback; 0: not.")
]
RESUMABLE = 0
"""Exit code of an orderly stop: the service manager must not take it for a failure."""


@contextmanager
def _shown(
    study: Study,
    path: Path,
    logs: Path,
    side: Literal["site", "coordinator"],
    owner: str,
    parties: Sequence[str],
    metrics_port: int,
) -> Iterator[tuple[BoardWatcher, Callable[[], bool]]]:
    """Status, log, figures and terminal, and whether somebody asks the process to end."""
    from ..service.board_watcher import BoardWatcher
    from ..service.logs import EventLog
    from ..service.metrics import serve_metrics
    from ..service.runtime import until_signalled
    from ..service.status_board import StatusBoard

    digest = study.digest()
    with ExitStack() as stack:
        asked = stack.enter_context(until_signalled())
        watcher = stack.enter_context(RichWatcher())
        log = stack.enter_context(EventLog(logs, side=side, owner=owner, digest=digest, parties=parties))
        board = stack.enter_context(
            StatusBoard(
                path, side, study.name, digest, study.rounds, owner=owner, parties=parties, trouble=log.status_trouble
            )
        )
        if metrics_port:
            stack.enter_context(serve_metrics(metrics_port, board))
        yield BoardWatcher(board, log, watcher), asked.is_set


def run_coordinator(
    root: Path,
    passphrase_file: Path | None,
    *,
    resume: bool,
    submit: bool,
    patience: float,
    listen: str,
    metrics_port: int,
) -> int:
    """``wardround coordinator start``; the exit code."""
    from ..service.machine_checks import check_ready

    check_ready()
    from ...privacy.atomic import write_atomic
    from ..enrolling.coordinator_folder import ConsortiumFolder
    from ..enrolling.passphrase import passphrase_for
    from ..own_data import members
    from ..service.runtime import guard_memory
    from ..service.starting_coordinator import coordinate, prepare

    folder = ConsortiumFolder.load(root)
    study = folder.study()
    guard_memory()  # before there is a secret in it
    secret = passphrase_for(passphrase_file, new=False, folder=folder.root)
    parties = members(study)
    with (
        folder.run.locked(),  # before the status: a second start must not write over that of the first
        _shown(study, folder.status, folder.logs, "coordinator", "coordinator", parties, metrics_port) as (
            watch,
            stopping,
        ),
    ):
        ready = prepare(folder, secret, watch)
        if submit:
            write_atomic(folder.submitted, b"")
        ending = coordinate(ready, watch, watch, stopping, resume=resume, patience=patience, listen=listen)
        watch.state(ending)
    if ending == "complete":
        OUT.print(f"The study '{study.name}' is complete. Dossier: {folder.run.index}")
    elif ending == "aborted":
        OUT.print(f"The study '{study.name}' was ended before its end.")
    else:
        OUT.print(f"Stopped; nothing is lost. Go on with: wardround coordinator start {root} --resume")
    return RESUMABLE


def run_site(home: Path | None, wanted: str, passphrase_file: Path | None, *, metrics_port: int) -> int:
    """``wardround site start``; the exit code."""
    from ..service.machine_checks import check_ready

    check_ready()
    from ...privacy.egress import COORDINATOR
    from ...privacy.home import SiteHome
    from ...privacy.identity import Identity
    from ..enrolling.finding import find_folder, find_home
    from ..enrolling.passphrase import passphrase_for
    from ..service.runtime import guard_memory
    from ..service.starting_site import SiteStart, take_part

    place = find_home(home)
    folder = find_folder(place, wanted)
    folder.check_not_left()
    study = folder.study()
    guard_memory()  # before there is a secret in it
    secret = passphrase_for(passphrase_file, new=False, folder=place)
    with (
        SiteHome.open(place.parent, place.name) as held,  # before the status: that of a running process stays
        _shown(study, folder.status, folder.logs, "site", place.name, [COORDINATOR], metrics_port) as (
            watch,
            stopping,
        ),
    ):
        start = SiteStart(held, folder, lambda path: Identity.load(path, secret))
        ending = take_part(start, watch, watch, stopping)
        watch.state(ending)
    if ending == "complete":
        OUT.print(f"The study '{study.name}' is complete. This site's report: {folder.report / 'report.html'}")
    elif ending == "aborted":
        OUT.print(f"The coordinator ended the study '{study.name}' before its end; there is no final model.")
    else:
        OUT.print("Stopped; nothing is lost. Go on with: wardround site start")
    return RESUMABLE
