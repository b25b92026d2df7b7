"""What the status commands of both sides share: showing once, or again and again until nothing more is to come."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

from .console import OUT, print_json

if TYPE_CHECKING:
    from ..service.status_view import View

EVERY = 1.0
"""Seconds between two looks."""


def show(look: Callable[[], Sequence[View]], *, watch: bool, json_: bool) -> None:
    """Show how consortia stand; exit code 1 where somebody should look.

    Args:
        look: reads them. watch: again and again, while a process runs. json_: for scripts; a line a look when watching.
    """
    views = _watch(look, json_=json_) if watch else look()
    if not watch:
        _print(views, json_=json_)
    if any(view.wrong for view in views):
        raise typer.Exit(1)


def _print(views: Sequence[View], *, json_: bool) -> None:
    from ..service.status_view import draw, facts_of

    if json_:
        print_json([facts_of(view) for view in views])
        return
    for view in views:
        OUT.print(draw(view))


def _watch(look: Callable[[], Sequence[View]], *, json_: bool) -> Sequence[View]:
    from rich.console import Group
    from rich.live import Live

    from ..service.status_view import draw, facts_of

    views = look()
    if json_:
        shown = ""
        while True:
            line = json.dumps([facts_of(view) for view in views], allow_nan=False)
            if line != shown:
                typer.echo(line)
                shown = line
            if not any(view.moving for view in views):
                return views
            time.sleep(EVERY)
            views = look()
    with Live(Group(*map(draw, views)), console=OUT, auto_refresh=False) as live:
        while any(view.moving for view in views):
            time.sleep(EVERY)
            views = look()
            live.update(Group(*map(draw, views)), refresh=True)
    return views
