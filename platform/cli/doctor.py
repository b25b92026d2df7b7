"""``wardround doctor``: is this machine ready?"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from .console import OUT, print_json


def doctor(json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False) -> None:
    """Check this machine: packages, cache, disk, device, embedded CLIP. Exit code 1 when something is wrong.

    Example: wardround doctor
    """
    from dataclasses import asdict

    from ..doctor import examine
    from ..features import default_cache

    sound, rows = True, []
    for check in examine(default_cache()):
        sound = sound and check.sound
        rows.append(asdict(check))
        if not json_:
            mark = Text("ok    ", style="green") if check.sound else Text("fault ", style="bold red")
            OUT.print(mark.append(f"{check.name}: {check.found}", style="default"))
            if not check.sound:
                OUT.print(Text(f"      do: {check.remedy}"))
    if json_:
        print_json(rows)
    raise typer.Exit(0 if sound else 1)
