"""``wardround bench``: speed as ratios measured in one process."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
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
    _show("Encoding", figures, as_json=json_)


class Peer(StrEnum):
    """Other implementations that can be measured on the same vectors."""

    FLOWER = "flower"


@app.command("secure-aggregation")
def bench_secure_aggregation(
    sites: Annotated[int, typer.Option("--sites", metavar="N", help="Sites, at least 3.")] = 16,
    dim: Annotated[int, typer.Option("--dim", metavar="D", help="Coordinates of a vector.")] = 526_336,
    dropouts: Annotated[int, typer.Option("--dropouts", metavar="K", help="Sites that share and fall silent.")] = 0,
    bits: Annotated[int, typer.Option("--bits", metavar="B", help="Value bits: 32, or 8 to 24 (packed).")] = 32,
    peer: Annotated[
        Peer | None,
        typer.Option("--peer", help="Measure another implementation too (pip install 'wardround\\[bench]')."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Measure a secure sum at a site and at the coordinator against its primitives alone.

    Example: wardround bench secure-aggregation --sites 16 --dropouts 1 --json
    """
    from ..bench_flower import measure_flower
    from ..bench_secure_aggregation import measure
    from ..errors import PlatformError

    if peer is not None and dropouts:
        raise PlatformError(
            f"Flower is measured without dropouts, not with {dropouts}",
            where="--peer",
            remedy="Leave out --dropouts: the two rounds must be alike",
        )

    def flower(vectors: list[NDArray[np.float32]], threshold: int) -> float:
        return measure_flower(vectors, threshold=threshold, repeats=3).milliseconds

    with ERR.status("measuring"):
        figures = measure(sites, dim, dropouts, bits, peer=None if peer is None else flower)
    _show("Secure aggregation", figures.as_dict(), as_json=json_)


def _show(title: str, figures: dict[str, Any], *, as_json: bool) -> None:
    """Figures as JSON, or as a table of two columns."""
    if as_json:
        print_json(figures)
        return
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        shown = f"{value:.3g}" if isinstance(value, float) and abs(value) < 1e-3 else value
        table.add_row(name, f"{shown:.3f}" if isinstance(shown, float) else str(shown))
    print_table(table)
