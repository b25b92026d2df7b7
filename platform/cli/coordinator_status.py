"""``wardround coordinator status``: what the coordinator's process does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .status_commands import show


def coordinator_status(
    consortium: Annotated[
        Path, typer.Argument(metavar="CONSORTIUM", help="The consortium's folder; by default this one.")
    ] = Path("."),
    watch: Annotated[bool, typer.Option("--watch", help="Look again every second, while it runs.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Show what the coordinator does: round, stage, who is there; before the first start, what is missing.

    Exit code 1 where it failed, or ended without saying so. Example: wardround coordinator status brain --watch
    """
    from ..service.folders import coordinator_place
    from ..service.status_view import view_of

    folder = consortium.absolute()
    show(lambda: [view_of(coordinator_place(folder))], watch=watch, json_=json_)
