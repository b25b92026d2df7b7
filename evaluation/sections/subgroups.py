"""Section 9: figures for groups of patients and devices, and for how many images the group is not recorded."""

from __future__ import annotations

from collections.abc import Sequence

from ..figures.figure_set import FigureSet, SubgroupFigures
from ..page_parts import Cell, Table, percent, plural, sentence_list
from .blocks import Block, Drawing, Drawings, Grid, Heading, Note, Section
from .drawings import forest
from .words import estimate_cell, estimate_words


def subgroups(figures: FigureSet) -> Section:
    """One block a column; images without a value are a group of their own."""
    columns = list(dict.fromkeys(row.column for row in figures.subgroups))
    blocks: list[Block] = []
    if figures.sites:
        blocks += _column("site", figures.sites, figures, "sites")
    for at, column in enumerate(columns):
        blocks += _column(column, [row for row in figures.subgroups if row.column == column], figures, f"subgroup-{at}")
    if blocks:
        blocks.append(
            Note(
                "Dashed: all images together. Groups differ in their mix of classes as well as in how well the model "
                "does; with many groups, some differ by chance. An average is over the classes present in the group."
            )
        )
    return Section("subgroups", "Subgroups", _reading(figures, columns), tuple(blocks))


def _reading(figures: FigureSet, columns: Sequence[str]) -> tuple[str, ...]:
    if not columns:
        none = "No column about patients or devices is recorded in this data set"
        return (f"{none}: whether the model does worse for some of them cannot be said.",)
    missing = [
        f"{_title(row.column)} for {percent(row.missing / row.n)}"
        for row in figures.missingness
        if row.n and row.missing
    ]
    said = f"Recorded: {sentence_list([_title(column) for column in columns])}. "
    said += f"Not recorded: {sentence_list(missing)} of images. " if missing else "Nothing is missing in them. "
    apart = [row for row in figures.subgroups if _apart(row, figures)]
    if not apart:
        return (said + "No group's interval lies wholly below the figure for all images.",)
    named = [f"{_title(row.column)} {row.level}, {estimate_words(row.balanced_accuracy)}" for row in apart]
    return (said + f"Clearly below the figure for all images in balanced accuracy: {'; '.join(named)}.",)


def _apart(row: SubgroupFigures, figures: FigureSet) -> bool:
    found, whole = row.balanced_accuracy, figures.balanced_accuracy.value
    return found.high is not None and whole is not None and found.high < whole


def _title(column: str) -> str:
    return column.replace("_", " ")


def _column(column: str, rows: Sequence[SubgroupFigures], figures: FigureSet, key: str) -> list[Block]:
    lost = next((row for row in figures.missingness if row.column == column), None)
    title = _title(column)
    heading = f"{title[:1].upper()}{title[1:]}"
    table = Table(
        f"By {title}, 95 % intervals by {figures.group_key}"
        + (f"; not recorded for {lost.missing:,} of {lost.n:,} images." if lost is not None else "."),
        ("Group", "Images", "Balanced accuracy", "Macro AUROC", "Accuracy", "Brier"),
        tuple(
            (
                Cell(row.level, _present(row, figures)),
                Cell(f"{row.n:,}", f"of {plural(row.n_groups, figures.group_key)}"),
                estimate_cell(row.balanced_accuracy),
                estimate_cell(row.macro_auroc),
                estimate_cell(row.accuracy),
                estimate_cell(row.brier, 3),
            )
            for row in rows
        ),
    )
    drawing = forest(
        key,
        f"Balanced accuracy by {title}",
        [(f"{row.level} ({row.n:,})", row.balanced_accuracy) for row in rows],
        reference=figures.balanced_accuracy.value,
        axis="Balanced accuracy",
    )
    return [Heading(heading), Drawings((Drawing(drawing),), "wide"), Grid(table, f"Figures by {title}")]


def _present(row: SubgroupFigures, figures: FigureSet) -> str:
    if row.note:
        return row.note
    kinds, of = len(row.classes_present), len(figures.classes_present)
    return f"{kinds} of {of} classes" if kinds < of else ""
