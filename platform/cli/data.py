"""``wardround data``: what can be read, and whether it is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from .console import OUT, RichWatcher, one_line, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Look at data before a study does. Example: wardround data list")


@app.command("list")
def list_datasets(json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False) -> None:
    """List the data sets that Wardround reads.

    Example: wardround data list
    """
    from ...medical_datasets.catalog import DATASETS

    if json_:
        rows = [
            {
                "key": data.key,
                "title": data.title,
                "modality": data.modality,
                "classes": list(data.class_names),
                "group_key": data.group_key,
                "licence": data.licence,
                "citation": data.citation,
                "obtain": data.obtain,
            }
            for data in DATASETS.values()
        ]
        print_json(rows)
        return
    for data in DATASETS.values():
        OUT.print(Text(data.key, style="bold").append(f"  {data.title}", style="not bold"))
        OUT.print(Text(f"    classes: {', '.join(data.class_names)}"))
        OUT.print(Text(f"    grouped by: {data.group_key}"))
        OUT.print(Text(f"    to get it: {data.obtain}"))
        OUT.print(Text(f"    licence: {data.licence}"))
        OUT.print(Text(f"    cite: {data.citation}"))


@app.command("check")
def check_data(
    path: Annotated[Path, typer.Argument(metavar="PATH|STUDY.toml", help="A folder of images, or a study file.")],
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Report unreadable files, duplicates across splits and classes, class counts and what looks wrong.

    Exit code 1 when there is an error. Example: wardround data check images/brain_tumor_mri
    """
    from ...medical_datasets.catalog import find_dataset
    from ...medical_datasets.quality.check import check
    from ..errors import StudyFileError
    from ..study_file import load_study

    dataset, folder, classes = None, path, None
    if path.suffix == ".toml":
        study = load_study(path)
        if study.data.source == "phantoms":
            raise StudyFileError(
                "the study generates its images; there is no folder to check",
                where=str(path),
                remedy="Run it, then check RUN/phantoms",
            )
        dataset, folder, classes = find_dataset(study.data.dataset), Path(study.data.path), study.data.classes or None
    with RichWatcher() as watcher:
        watcher.stage("looking at images")
        report = check(
            folder, dataset, classes=classes, progress=lambda done, total: watcher.progress(done, total, "images")
        )
    if json_:
        print_json(report.as_dict())
        raise typer.Exit(report.exit_code)
    columns = sorted({split for counts in report.counts.values() for split in counts})
    table = Table(
        title=f"{report.dataset} · {report.readable} of {report.images} images readable", title_justify="left"
    )
    table.add_column("class")
    for column in columns:
        table.add_column(column, justify="right")
    for name, counts in report.counts.items():
        table.add_row(name, *(str(counts.get(column, 0)) for column in columns))
    print_table(table)
    OUT.print(f"{report.groups} groups of related images.")
    for problem in report.problems:
        style = {"error": "bold red", "warning": "bold yellow", "info": "bold"}[problem.severity]
        OUT.print(Text(f"{problem.severity}: ", style=style).append(one_line(problem.message), style="default"))
        for example in problem.examples:
            OUT.print(Text(f"    {one_line(example)}"))
    raise typer.Exit(report.exit_code)
