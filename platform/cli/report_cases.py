"""``wardround report cases``: the images of one site with what the model said of them; for the site alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import ERR, OUT


def cases(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    site: Annotated[str, typer.Option("--site", metavar="NAME", help="Whose test images.")],
    maps: Annotated[int, typer.Option("--maps", metavar="N", min=0, help="Attention maps at most.")] = 24,
    most: Annotated[int, typer.Option("--most", metavar="N", min=1, help="Images on the page at most.")] = 200,
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Write a page of the site's test images: answers, attention maps, nearest training images. It must stay there.

    Example: wardround report cases runs/brain --site amber
    """
    from ..case_review import build_cases
    from ..run_folder import RunFolder

    folder, _ = RunFolder.open(run)
    with ERR.status("reading") as status:
        page = build_cases(folder, site, maps=maps, most=most, device=device, say=status.update)
    OUT.print(str(page), soft_wrap=True)
    ERR.print("Local only: the page holds pictures of patients. It must not leave this site.")
