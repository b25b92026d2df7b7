"""``wardround bench``: speed as ratios measured in one process, and what a backbone is worth on a folder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from .console import ERR, OUT, RichWatcher, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Measure this machine. Example: wardround bench encode --json")


@app.callback()
def group() -> None:
    """Measure this machine, or a backbone on a folder of images."""


@app.command("encode")
def bench_encode(json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False) -> None:
    """Measure the way from files to cached features against the bare encoder; and reader and image index alone.

    Example: wardround bench encode --json
    """
    from ..backbone import load_backbone
    from ..bench_encode import measure

    with ERR.status("encoding"):
        figures = measure(384, 224, load_backbone()).as_dict()
    _show("Encoding", figures, as_json=json_)


@app.command("round")
def bench_round(json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False) -> None:
    """Measure a round of FACMIC at three sites of 950 images on cached features, against the training alone.

    Example: wardround bench round --json
    """
    from ..bench_round import measure

    with ERR.status("training"):
        figures = measure().as_dict()
    _show("A federated round", figures, as_json=json_)


@app.command("dp")
def bench_dp(json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False) -> None:
    """Measure an epoch of differentially private training against plain training and against Opacus.

    Example: wardround bench dp --json
    """
    from ..bench_dp import measure

    with ERR.status("training"):
        figures = measure().as_dict()
    _show("Differentially private training", figures, as_json=json_)


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


@app.command("backbone")
def bench_backbone(
    folder: Annotated[
        Path, typer.Argument(metavar="DATA", help="A folder of class folders, with its groups.csv or metadata.csv.")
    ],
    backbone: Annotated[
        str, typer.Option("--backbone", metavar="NAME", help='As backbone.name in a study: "embedded", "ViT-B-32", …')
    ] = "embedded",
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="WEIGHTS", help="As backbone.weights: a tag, file or folder.")
    ] = None,
    allow_random: Annotated[
        bool, typer.Option("--allow-random", help="Measure an untrained model, to see what training is worth.")
    ] = False,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="KEY", help="A key of wardround data list; else recognised.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of folds and intervals.")] = 0,
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Measure what a backbone knows about a folder: linear probe, nearest neighbours, zero-shot, by group folds.

    Groups come from groups.csv or metadata.csv in the folder, else images that look alike form one. Prints the
    fingerprint that a study pins, too. Features stay in the local cache; nothing is sent.
    Example: wardround bench backbone images/brain_tumor_mri --backbone embedded --json
    """
    from ..backbone import load_backbone
    from ..bench_backbone import measure
    from ..features import default_cache

    with RichWatcher() as watcher:
        watcher.stage("loading the backbone")
        loaded = load_backbone(backbone, weights, allow_random=allow_random)
        figures = measure(
            folder,
            loaded,
            cache=default_cache(),
            dataset=dataset,
            seed=seed,
            progress=lambda done, total, rate: watcher.progress(done, total, "images", rate),
            stage=watcher.stage,
        )
    if json_:
        print_json(figures.as_dict())
        return
    found = f"{figures.n} images in {figures.groups} groups, {len(figures.classes)} classes of {figures.dataset}"
    table = Table(title=f"{figures.backbone} · {found}", title_justify="left")
    for column in ("figure", "value", "95 % interval"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for name, title in _BACKBONE_FIGURES.items():
        span = figures.intervals[name]
        between = span.note if span.low is None or span.high is None else f"{span.low:.3f} to {span.high:.3f}"
        table.add_row(title, f"{getattr(figures, name):.3f}", between)
    where = "one core" if figures.device == "cpu" else figures.device
    table.add_row(f"encoder, ms an image, {where}", f"{figures.ms_per_image:.2f}", "")
    print_table(table)
    for note in figures.notes:
        OUT.print(f"intervals: {note}")
    OUT.print(f"fingerprint {figures.fingerprint}")
    if figures.missing:
        OUT.print(Text(f"no readable image of {', '.join(figures.missing)}: figures are over the other classes"))
    if figures.skipped:
        OUT.print(Text(f"left out: {figures.skipped} files; wardround data check {folder} names them"))


_BACKBONE_FIGURES = {
    "probe_accuracy": "linear probe, accuracy",
    "probe_balanced_accuracy": "linear probe, balanced accuracy",
    "knn_accuracy": "10 nearest neighbours, accuracy",
    "zero_shot_balanced_accuracy": "zero-shot, balanced accuracy",
}


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
