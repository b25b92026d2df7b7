"""``wardround site status`` and ``stop``: what a site's process does, and how it is ended."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from .console import OUT, print_json
from .status_commands import show

Home = Annotated[
    Path | None, typer.Option("--home", metavar="HOME", help="The site's home; by default the only one here.")
]
Study = Annotated[
    str, typer.Argument(metavar="STUDY", help="Name of a study, or the beginning of its hash; by default all.")
]


def site_status(
    study: Study = "",
    home: Home = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every second, while it runs.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Show what this site's process does: round, stage, messages, budget; before the first start, what is missing.

    Exit code 1 where it failed, or ended without saying so. Example: wardround site status --watch
    """
    from ..enrolling.finding import find_home
    from ..service.folders import places_of
    from ..service.status_view import view_of

    folder = find_home(home)
    show(lambda: [view_of(place) for place in places_of(folder, study)], watch=watch, json_=json_)


def site_stop(
    study: Study = "",
    home: Home = None,
    wait: Annotated[float, typer.Option("--wait", min=0.0, max=3600.0, help="Seconds to wait for its end.")] = 30.0,
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """End this site's process. A round that is under way is taken up at the next start.

    Exit code 1 where it still runs after the wait. Example: wardround site stop --wait 60
    """
    from ..enrolling.finding import find_home
    from ..service.folders import places_of
    from ..service.stopping import stop

    stopped = stop(places_of(find_home(home), study), wait)
    if json_:
        print_json({"study": stopped.study, "process": stopped.pid, "ended": stopped.ended, "state": stopped.state})
    else:
        OUT.print(Text(stopped.words))
    if not stopped.ended:
        raise typer.Exit(1)
