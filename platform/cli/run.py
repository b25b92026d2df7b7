"""``wardround run``: a study file in, a dossier out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import OUT, RichWatcher, size, summary_table


def run(
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study; docs/study.md lists its keys.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder for the run.")],
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in DIR where it stopped.")] = False,
) -> None:
    """Run a federated study, all sites in this process.

    Example: wardround run studies/brain-mri.toml --out runs/brain
    """
    from ..study_file import load_study

    run_study(study_values=load_study(study), out=out, resume=resume)


def run_study(study_values: object, out: Path, *, resume: bool) -> None:
    """Run a study with progress on standard error and its table on standard output."""
    import json

    from ..config import Study
    from ..simulation import simulate

    if not isinstance(study_values, Study):
        raise TypeError("a Study is needed")
    with RichWatcher() as watcher:
        folder = simulate(study_values, out, resume=resume, watcher=watcher)
    summary = json.loads(folder.summary.read_bytes())
    OUT.print(summary_table(summary))
    OUT.print(
        f"\n{size(summary['bytes_up'])} left the sites in {summary['rounds']} rounds, every byte in a ledger, "
        f"every update masked; {summary['seconds']:.0f} s in all."
    )
    if study_values.data.source == "phantoms":
        OUT.print("Every image is a synthetic phantom: the figures say nothing about patients.")
    OUT.print(f"Dossier: {folder.index}")
