"""``wardround site start``: the hospital's process that holds keys and data, and answers the coordinator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .running import MetricsPort


def start(
    study: Annotated[
        str,
        typer.Argument(metavar="STUDY", help="Its name, or the beginning of its hash.", show_default=False),
    ] = "",
    home: Annotated[
        Path | None, typer.Option("--home", metavar="DIR", help="The site's home; default: the one of this machine.")
    ] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option("--passphrase-file", metavar="FILE", help="Unlocks the site's identity.")
    ] = None,
    metrics_port: MetricsPort = 0,
) -> None:
    """Take part in a study that was approved here, until it is complete; Ctrl-C or SIGTERM leaves it to go on later.

    Exit code 0 when it is complete. Example: wardround site start
    """
    from .running import run_site

    raise typer.Exit(run_site(home, study, passphrase_file, metrics_port=metrics_port))
