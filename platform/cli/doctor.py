"""``wardround doctor``: is this machine ready?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from .console import OUT, one_line, print_json


def doctor(
    kit: Annotated[
        Path | None,
        typer.Option(
            "--kit", metavar="DIR", help="Check a consortium: HOME/consortia/HASH, or a coordinator's folder."
        ),
    ] = None,
    data: Annotated[bool, typer.Option("--data", help="With --kit: read all images and count them.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Check this machine: packages, cache, disk, device, embedded CLIP. Exit code 1 when something is wrong.

    With --kit: whether this side of a consortium can start: documents, certificates, clock, network, space, policy,
    budget, weights, data.

    Example: wardround doctor --kit ~/.wardround/sites/amber/consortia/5f0c…
    """
    from dataclasses import asdict

    if data and kit is None:
        raise typer.BadParameter("--data goes with --kit DIR")
    if kit is not None:
        from ..service.preflight import examine_kit

        checks = examine_kit(kit, data=data)
    else:
        from ..doctor import examine
        from ..features import default_cache

        checks = examine(default_cache())
    sound, rows = True, []
    for check in checks:
        sound = sound and check.sound
        rows.append(asdict(check))
        if not json_:
            mark = Text("ok    ", style="green") if check.sound else Text("fault ", style="bold red")
            OUT.print(mark.append(one_line(f"{check.name}: {check.found}"), style="default"))
            if not check.sound:
                OUT.print(Text(one_line(f"      do: {check.remedy}")))
    if json_:
        print_json(rows)
    raise typer.Exit(0 if sound else 1)
