"""``wardround data check``: is a folder of images sound? Names of files are for the people at this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from .console import ERR, OUT, RichWatcher, one_line, print_json, print_table

if TYPE_CHECKING:
    from ...medical_datasets.quality.report import Problem, QualityReport
    from ..data_check import Source

EXAMPLES = 5


def check(
    path: Annotated[Path, typer.Argument(metavar="PATH|STUDY.toml", help="A folder of images, or a study file.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="KEY", help="Check it as this data set; else it is recognised.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="FILE", help="The table of labels, in the folder; for data sets without one."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="OUT", help="Write a page with small pictures; it stays here.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Name every file also on a terminal.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="For scripts; every file is named.")] = False,
    no_encoder: Annotated[
        bool, typer.Option("--no-encoder", help="Do not encode pictures: foreign ones are then not looked for.")
    ] = False,
) -> None:
    """Find what a person would see at once: unreadable, repeated, mislabelled, foreign or identifying pictures.

    Exit code 1 when there is an error. Example: wardround data check images/brain_tumor_mri --html check.html
    """
    from ..data_check import check_source, embedded_encoder
    from ..data_check_page import LOCAL_ONLY, check_target, write_page

    if html is not None:
        check_target(html)
    sources = _sources(path, dataset, labels)
    with RichWatcher() as watcher:
        encode = None if no_encoder else embedded_encoder()
        checked = [check_source(source, encode=encode, watcher=watcher) for source in sources]
    reports = [each.report for each in checked]
    code = max(report.exit_code for report in reports)
    if html is not None:
        with ERR.status("writing"):
            write_page(html, checked, path.resolve().name)
    if json_:
        several = {"sources": [report.as_dict() for report in reports], "exit_code": code}
        print_json(reports[0].as_dict() if len(reports) == 1 else several)
        raise typer.Exit(code)
    for report in reports:
        _print(report, every=every or not OUT.is_terminal)
    if html is not None:
        OUT.print(Text(one_line(f"Written: {html}")))
        ERR.print(Text(f"Local only. {LOCAL_ONLY}"))
    raise typer.Exit(code)


def _sources(path: Path, dataset: str | None, labels: str | None) -> Sequence[Source]:
    from ..data_check import folder_source, study_sources
    from ..study_file import load_study

    # A labels table or an archive of arrays is a path too, and only a study ends so.
    if path.suffix != ".toml":
        return [folder_source(path, dataset=dataset, labels=labels)]
    for option, value in (("--dataset", dataset), ("--labels", labels)):
        if value is not None:
            raise typer.BadParameter(f"{option} is for folders; a study file says it itself")
    return list(study_sources(load_study(path), path))


def _print(report: QualityReport, *, every: bool) -> None:
    columns = sorted({split for counts in report.counts.values() for split in counts})
    name = f"{report.name} · " if report.name else ""
    title = Text(one_line(f"{name}{report.dataset} · {report.readable} of {report.images} images readable"))
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for column in columns:
        table.add_column(Text(one_line(column)), justify="right")
    for label, counts in report.counts.items():
        table.add_row(Text(one_line(label)), *(str(counts.get(column, 0)) for column in columns))
    print_table(table)
    OUT.print(f"{report.groups} groups of related images.")
    for problem in report.problems:
        _print_problem(problem, every=every)


def _print_problem(problem: Problem, *, every: bool) -> None:
    style = {"error": "bold red", "warning": "bold yellow", "info": "bold"}[problem.severity]
    text = Text(f"{problem.severity}: ", style=style).append(one_line(problem.message), style="default")
    OUT.print(text.append(f" [{problem.code}]", style="dim"))
    names = problem.names
    for line in names if every else names[:EXAMPLES]:
        OUT.print(Text(f"    {one_line(line)}"), crop=False)
    if not every and len(names) > EXAMPLES:
        OUT.print(Text(f"    … and {len(names) - EXAMPLES} more: --all", style="dim"))
