"""``wardround report``: pages of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import report_cases, report_sign
from .console import OUT

app = typer.Typer(no_args_is_help=True, help="Reports of a run. Example: wardround report build runs/brain")
app.command("sign")(report_sign.sign)
app.command("cases")(report_cases.cases)


@app.command("build")
def build(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Reports as PDF too, beside the pages; needs wardround[pdf].")
    ] = False,
) -> None:
    """Build every page of a run again from report.json and dossier.json; the same files give the same bytes.

    Example: wardround report build runs/brain
    """
    from ..dossier import build_pages, build_pdfs
    from ..run_folder import RunFolder

    folder, _ = RunFolder.open(run)
    for page in build_pages(folder):
        OUT.print(str(page))
    if pdf:
        for page in build_pdfs(folder):
            OUT.print(str(page))
