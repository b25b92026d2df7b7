"""``wardround bench``: speed as ratios measured in one process."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from .console import ERR, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Measure this machine. Example: wardround bench encode --json")


@app.callback()
def group() -> None:
    """Measure this machine; figures are ratios within one run."""


@app.command("encode")
def bench_encode(json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False) -> None:
    """Measure the way from files to cached features against the bare encoder.

    Example: wardround bench encode --json
    """
    from ..backbone import load_backbone
    from ..bench_encode import measure

    with ERR.status("encoding"):
        figures = measure(384, 224, load_backbone()).as_dict()
    if json_:
        print_json(figures)
        return
    table = Table(title="Encoding", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value))
    print_table(table)
