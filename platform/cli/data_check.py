"""``wardround data check``: is a folder of images sound? Names of files are for the people at this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from ...evaluation.page_parts import plural
from .console import ERR, OUT, RichWatcher, one_line, print_json, print_table

if TYPE_CHECKING:
    from ...medical_datasets.quality.report import Problem, QualityReport
    from ..data_check import Source

EXAMPLES = 5
_UNBOUNDED = 10_000


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
    if json_:
        several = {"sources": [report.as_dict() for report in reports], "exit_code": code}
        print_json(reports[0].as_dict() if len(reports) == 1 else several)
    else:
        for report in reports:
            _print(report, every=every or not OUT.is_terminal)
    # After what was found, which a full disk must not cost.
    if html is not None:
        with ERR.status("writing"):
            write_page(html, checked, path.resolve().name)
        if not json_:
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
    name = f"{report.name} · " if report.name else ""
    OUT.print(Text(one_line(f"{name}{report.dataset} · {report.readable:,} of {report.images:,} images readable")))
    table = _counts(report)
    if Measurement.get(OUT, OUT.options.update(width=_UNBOUNDED), table).maximum > OUT.width:
        table = _long_counts(report)
    if OUT.is_terminal:
        OUT.print(table, soft_wrap=False)  # a long name goes on in the next line of its cell
    else:
        print_table(table)
    OUT.print(f"{plural(report.groups, 'group')} of related images.")
    for problem in report.problems:
        _print_problem(problem, every=every)


def _counts(report: QualityReport) -> Table:
    """A row a class, a column a split or site."""
    columns = sorted({part for counts in report.counts.values() for part in counts})
    table = Table("class")
    for column in columns:
        table.add_column(Text(one_line(column)), justify="right")
    for label, counts in report.counts.items():
        table.add_row(Text(one_line(label)), *(f"{counts.get(column, 0):,}" for column in columns))
    return table


def _long_counts(report: QualityReport) -> Table:
    """A row for each class and split or site that has images of it: many columns do not fit on a screen."""
    table = Table("class", "split or site", Column("images", justify="right"))
    for label, counts in report.counts.items():
        for at, (part, count) in enumerate((counts or {"": 0}).items()):
            table.add_row(Text("" if at else one_line(label)), Text(one_line(part)), f"{count:,}")
        table.add_section()
    return table


def _print_problem(problem: Problem, *, every: bool) -> None:
    style = {"error": "bold red", "warning": "bold yellow", "info": "bold"}[problem.severity]
    text = Text(f"{problem.severity}: ", style=style).append(one_line(problem.message), style="default")
    # A screen breaks words where it ends; in a file each finding stays a line.
    OUT.print(text.append(f" [{problem.code}]", style="dim"), soft_wrap=not OUT.is_terminal)
    names = problem.names
    for line in names if every else names[:EXAMPLES]:
        OUT.print(Text(f"    {one_line(line)}"), crop=False)
    if not every and len(names) > EXAMPLES:
        OUT.print(Text(f"    … and {len(names) - EXAMPLES} more: --all", style="dim"))
