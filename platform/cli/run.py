"""``wardround run``: a study file in, a dossier out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import OUT, RichWatcher, print_table, size, summary_table


def run(
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study; docs/study.md lists its keys.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder for the run.")],
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in DIR where it stopped.")] = False,
    previous: Annotated[
        Path | None,
        typer.Option(
            "--previous",
            metavar="RUN",
            help="The run whose coordinator's report was published last, of images that may be the same: the new one "
            "must not be subtractable from it.",
        ),
    ] = None,
) -> None:
    """Run a federated study, all sites in this process.

    Example: wardround run studies/brain-mri.toml --out runs/brain
    """
    from ..study_file import load_study

    run_study(study_values=load_study(study), out=out, resume=resume, previous=previous)


def run_study(study_values: object, out: Path, *, resume: bool, previous: Path | None = None) -> None:
    """Run a study with progress on standard error and its table on standard output."""
    import json

    from ...evaluation.page_parts import upper
    from ..audit.page import audit_run
    from ..config import Study
    from ..errors import RunFolderError
    from ..simulation import simulate

    if not isinstance(study_values, Study):
        raise TypeError("a Study is needed")
    with RichWatcher() as watcher:
        try:
            folder = simulate(study_values, out, resume=resume, watcher=watcher, previous=previous)
        except OSError as error:
            # A full disk names no file, and the same command alone would be refused: the folder now holds a run.
            begun = (out / "study.toml").is_file()
            raise RunFolderError(
                f"the run stopped: {error.strerror or type(error).__name__}",
                where=str(error.filename or out),
                remedy="Check rights and free space, then "
                + (f"continue: wardround run {out}/study.toml --out {out} --resume" if begun else "run it again"),
            ) from error
    try:
        summary = json.loads(folder.summary.read_bytes())
        table = summary_table(summary)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RunFolderError(
            "the run's summary is damaged",
            where=str(folder.summary),
            remedy="Restore it from a backup, or remove it and continue with --resume, which makes it again",
        ) from None
    print_table(table)
    held = audit_run(folder).ok
    OUT.print(
        f"\n{size(summary['bytes_up'])} left the sites in {summary['rounds']} rounds, "
        f"{'every byte in a ledger, ' if held else ''}every update masked; {summary['seconds']:.0f} s in all."
    )
    if not held:
        OUT.print(f"Not every ledger holds: wardround audit verify {out}")
    spent = [site["epsilon"] for site in summary["sites"].values() if site.get("epsilon") is not None]
    if spent:
        OUT.print(
            f"Every site's uploads are differentially private on their own: epsilon {upper(max(spent))} for one "
            f"{study_values.privacy.unit}, delta {study_values.privacy.delta:g}. See wardround privacy show {out}"
        )
    if study_values.data.source == "phantoms":
        OUT.print("Every image is a synthetic phantom: the figures say nothing about patients.")
    OUT.print(f"Dossier: {folder.index}")
