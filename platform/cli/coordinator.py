"""``wardround coordinator``: the machine that hospitals send their masked updates to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import coordinator_status
from .console import OUT
from .running import MetricsPort

app = typer.Typer(
    no_args_is_help=True,
    help="Run a study for hospitals on their own machines. Example: wardround coordinator start c",
)
Folder = Annotated[
    Path,
    typer.Argument(
        metavar="CONSORTIUM", help="Folder of the consortium; default: the current one.", show_default=False
    ),
]


@app.callback()
def group() -> None:
    """Start the coordinator, submit a study, look at it, end it."""


@app.command("start")
def start(
    consortium: Folder = Path(),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a study that was begun.")] = False,
    submit_now: Annotated[
        bool, typer.Option("--submit", help="Begin the rounds as soon as the sites are there.")
    ] = False,
    wait: Annotated[
        float,
        typer.Option(
            "--wait", metavar="SECONDS", min=0.0, help="How long all sites are waited for before enough will do."
        ),
    ] = 600.0,
    listen: Annotated[
        str, typer.Option("--listen", metavar="ADDRESS", help="Listen here instead of at the consortium's address.")
    ] = "",
    passphrase_file: Annotated[
        Path | None, typer.Option("--passphrase-file", metavar="FILE", help="Unlocks the coordinator's identity.")
    ] = None,
    metrics_port: MetricsPort = 0,
) -> None:
    """Start the server, wait for the sites, and run the study; Ctrl-C or SIGTERM leaves it to be resumed.

    Exit code 0 when it is complete. Example: wardround coordinator start consortium --resume
    """
    from .running import run_coordinator

    raise typer.Exit(
        run_coordinator(
            consortium,
            passphrase_file,
            resume=resume,
            submit=submit_now,
            patience=wait,
            listen=listen,
            metrics_port=metrics_port,
        )
    )


@app.command("submit")
def submit(consortium: Folder = Path()) -> None:
    """Let the rounds begin: a running coordinator, or the next that is started, waits for nothing but the sites.

    Example: wardround coordinator submit consortium
    """
    from ...privacy.atomic import write_atomic
    from ..enrolling.coordinator_folder import ConsortiumFolder
    from ..service.starting_coordinator import pinned_roster

    folder = ConsortiumFolder.load(consortium)
    study = folder.study()
    pinned_roster(folder)  # nothing is submitted that could not begin
    write_atomic(folder.submitted, b"")
    OUT.print(f"The study '{study.name}' is submitted: its rounds begin when the coordinator runs and sites are there.")


@app.command("abort")
def abort(
    consortium: Folder = Path(),
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """End a study before its end: sites get no final adapter, and take no further part in it.

    Example: wardround coordinator abort consortium
    """
    from ...privacy.atomic import write_atomic
    from ..enrolling.coordinator_folder import ConsortiumFolder
    from ..service.runtime import ServiceError

    folder = ConsortiumFolder.load(consortium)
    study = folder.study()
    if folder.run.summary.is_file():
        raise ServiceError(f"the study '{study.name}' is complete", where=str(folder.run.root), remedy="Nothing to end")
    if not yes:
        typer.confirm(f"End the study '{study.name}' for good? To pause it, stop the process instead", abort=True)
    write_atomic(folder.abort, b"")
    OUT.print(
        "The study ends as soon as the coordinator has heard of it. Where none runs, start one: it tells the sites, "
        "and ends: wardround coordinator start --resume"
    )


app.command("status")(coordinator_status.coordinator_status)
