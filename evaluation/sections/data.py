"""Section 2: which images, when and of whom, how many were left out, and how their labels came about."""

from __future__ import annotations

from collections.abc import Sequence

from ..figures.figure_set import Missingness
from ..page_parts import Cell, Table, percent, plural, sentence_list
from ..report_model import SiteReport
from ..site_facts import Collection
from .blocks import Block, Facts, Grid, Section, Tiles

UNRECORDED = "Not recorded in this data set."


def data(report: SiteReport, missingness: Sequence[Missingness]) -> Section:
    """Counts come from ``report.flow``; ``missingness`` is of the test part."""
    parts = [(row.train, row.validation, row.test) for row in report.flow.rows]
    train, validation, test = (sum(column) for column in zip(*parts, strict=True))
    used = train + validation + test
    flow = report.flow
    known = report.collection or Collection()
    blocks: list[Block] = [
        Tiles(
            (
                ("Images found", f"{used + flow.skipped:,}"),
                ("Left out, unreadable", f"{flow.skipped:,}"),
                ("Training", _with_groups(train, flow.train_groups, flow.group_key)),
                ("Validation", _with_groups(validation, flow.validation_groups, flow.group_key)),
                ("Test", _with_groups(test, flow.test_groups, flow.group_key)),
            )
        ),
        Grid(_flow(report, parts), "Images by class and part"),
        Facts(
            (
                ("Dates", known.dates or UNRECORDED),
                ("Eligibility", known.eligibility or UNRECORDED),
                (
                    "Reference standard",
                    known.reference_standard
                    or f"The data set's labels. How they were made: {UNRECORDED[0].lower()}{UNRECORDED[1:]}",
                ),
                ("Left out", _left_out(flow.skipped)),
                ("Missing values", _missing(missingness)),
                ("Source", known.source or UNRECORDED),
                ("Terms", known.licence or UNRECORDED),
            )
        ),
    ]
    return Section("data", "Data of this site", _reading(report, train, test, parts), tuple(blocks))


def _reading(report: SiteReport, train: int, test: int, parts: Sequence[tuple[int, int, int]]) -> tuple[str, ...]:
    tested = sorted(
        ((row[2], label.clinical_name) for row, label in zip(parts, report.classes, strict=True)), reverse=True
    )
    if test == 0:
        return ("This site has no test images: nothing below can be judged.",)
    most, least = tested[0], tested[-1]
    said = f"{plural(test, 'image')} of this site {'was' if test == 1 else 'were'} kept for testing"
    said += f", {train:,} trained the model. " if train else "; none of its images trained the model. "
    if least[0] == 0:
        gone = [name for count, name in tested if count == 0]
        said += f"The test part has no image of {sentence_list(gone)}, so nothing here speaks about that."
    else:
        spread = f"{most[0]:,} of {most[1]} and {least[0]:,} of {least[1]}"
        said += f"The test part holds {spread}: the fewer, the less is known."
    return (said,)


def _with_groups(images: int, groups: int | None, key: str) -> str:
    return f"{images:,}" if groups is None else f"{images:,} of {plural(groups, key)}"


def _flow(report: SiteReport, parts: Sequence[tuple[int, int, int]]) -> Table:
    counts = [(*part, sum(part)) for part in parts]
    totals = [sum(column) for column in zip(*counts, strict=True)]
    cells = [
        (Cell(label.clinical_name), *(Cell(f"{value:,}") for value in row))
        for label, row in zip(report.classes, counts, strict=True)
    ]
    cells.append((Cell("All"), *(Cell(f"{value:,}", strong=True) for value in totals)))
    return Table(
        f"Images of this site by class and part. A {report.flow.group_key} is never in two parts.",
        ("Class", "Training", "Validation", "Test", "All"),
        tuple(cells),
        stacked=False,
    )


def _left_out(skipped: int) -> str:
    if skipped == 0:
        return "Nothing: every image found could be read."
    return f"{plural(skipped, 'image')} could not be read and {'was' if skipped == 1 else 'were'} left out."


def _missing(missingness: Sequence[Missingness]) -> str:
    if not missingness:
        return "Labels: none missing. No column about patients is recorded, so there is none to miss."
    rows = [
        f"{row.column.replace('_', ' ')} {row.missing:,} of {row.n:,} ({percent(row.missing / row.n)})"
        for row in missingness
        if row.missing
    ]
    if not rows:
        full = sentence_list([row.column.replace("_", " ") for row in missingness])
        return f"None: labels, {full} are recorded for every test image."
    lost = sentence_list(rows)
    return f"Labels: none missing. Not recorded for test images: {lost}. Such images count as their own group."
