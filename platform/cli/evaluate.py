"""``wardround evaluate``: a site's report for the predictions of any model, without a study."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from .console import ERR, OUT, one_line, percent, print_json, print_table

if TYPE_CHECKING:
    from ...evaluation.figures.figure_set import CalibrationFigures, Estimate, FigureSet, SubgroupFigures
    from ...evaluation.per_class import Rate
    from ...evaluation.predictions_csv import PredictionsFile

MADE_BY = b"Wardround evaluation</title>"
"""In every page of this command, and in no other file that a person would miss."""
SEED = 0
"""Of all intervals, so that the same file gives the same report."""


def evaluate(
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS.csv", help="A row an image: label, prob_CLASS of every class, group, site."
        ),
    ],
    groups: Annotated[
        str | None,
        typer.Option("--groups", metavar="COL", help="The column of patients or lesions; 'group' if there is one."),
    ] = None,
    subgroups: Annotated[
        list[str] | None,
        typer.Option("--subgroups", metavar="COL", help="A column such as sex or scanner; may be given again."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print all figures for scripts.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="OUT", help="Write the report, and .json and .csv beside it.")
    ] = None,
) -> None:
    """Judge the predictions of any model: accuracy, calibration, subgroups, sites, with intervals. Nothing is sent.

    Example: wardround evaluate predictions.csv --groups patient --subgroups sex --html report.html
    """
    from ...evaluation.figures.compute import compute
    from ...evaluation.predictions_csv import read_predictions

    if html is not None:
        check_targets(html, predictions)
    with ERR.status("reading"):
        file = read_predictions(predictions, groups=groups, subgroups=subgroups or ())
    with ERR.status("computing figures and intervals"):
        figures = compute(
            file.sample,
            model=predictions.name,
            seed=SEED,
            before_label="as given",
            after_label=_after_label(file),
        )
    written = () if html is None else _write(html, predictions, file, figures)
    if json_:
        print_json(document(predictions.name, file, figures))
    else:
        _print(predictions.name, file, figures)
        for path in written:
            OUT.print(Text(one_line(f"Written: {path}")))


def check_targets(html: Path, predictions: Path) -> None:
    """Refuse, before anything is computed, names that cannot be written or would cost the reader a file.

    Raises:
        PlatformError: the folder is missing, a name is that of the predictions, or of a file that no report wrote.
    """
    from ..errors import PlatformError

    if not html.parent.is_dir():
        raise PlatformError("there is no such folder", where=str(html.parent), remedy="Make it, or give --html another")
    if html.suffix.lower() in (".json", ".csv"):
        raise PlatformError(
            f"--html would take the name of the {html.suffix[1:].upper()} that is written beside it",
            where=str(html),
            remedy="Give --html a name that ends in .html",
        )
    other = html.with_name(f"{html.stem}-report.html")
    for path in targets(html):
        if path.is_dir():
            raise PlatformError("this is a folder", where=str(path), remedy="Give --html the name of a file in it")
        if path.exists() and not path.is_file():
            raise PlatformError(
                "this is no file but a device", where=str(path), remedy="Give --html the name of a file"
            )
        if path.exists() and predictions.exists() and path.samefile(predictions):
            raise PlatformError(
                "the report would be written over the predictions",
                where=str(path),
                remedy=f"Give --html another name, such as {one_line(str(other))}",
            )
        if path.exists() and not _is_ours(html):
            raise PlatformError(
                "this file exists and is of no earlier report of that name; it is not written over",
                where=str(path),
                remedy=f"Give --html another name, such as {one_line(str(other))}, or move the file away",
            )


def _is_ours(html: Path) -> bool:
    """Whether a page was made by this command, so that it and its twins may be replaced."""
    with suppress(OSError):
        return MADE_BY in html.read_bytes()
    return False


def targets(html: Path) -> tuple[Path, Path, Path]:
    """The page and its twins."""
    return html, html.with_suffix(".json"), html.with_suffix(".csv")


def _write(html: Path, predictions: Path, file: PredictionsFile, figures: FigureSet) -> tuple[Path, ...]:
    from ...evaluation.figures.twins import to_csv, to_json
    from ...evaluation.report import evaluation_page
    from ...privacy.atomic import write_atomic

    with ERR.status("writing"):
        page = evaluation_page(
            figures,
            title=f"Evaluation of {predictions.name}",
            source=predictions.name,
            notes=file.notes,
            warnings=file.warnings,
            digest=file.sha256,
        )
        paths = targets(html)
        # The page last: where it is, its twins are too.
        write_atomic(paths[1], to_json(figures))
        write_atomic(paths[2], to_csv([figures]).encode())
        write_atomic(html, page.encode())
    return paths


def _after_label(file: PredictionsFile) -> str:
    return "" if file.temperature is None else f"temperature {file.temperature:.3f}, fitted on validation rows"


def document(name: str, file: PredictionsFile, figures: FigureSet) -> dict[str, Any]:
    """What ``--json`` prints: the line of a summary, its intervals, the classes, where it is from, and all figures."""
    import msgspec

    calibration = figures.calibration
    estimates = {
        "accuracy": figures.accuracy,
        "balanced_accuracy": figures.balanced_accuracy,
        "macro_f1": figures.macro_f1,
        "macro_auroc": figures.macro_auroc,
        "ece": calibration.ece,
        "classwise_ece": calibration.classwise_ece,
        "brier": calibration.brier,
        "nll": calibration.nll,
    }
    intervals = {
        key: {"low": found.low, "high": found.high, "n_groups": found.n_groups, "note": found.note}
        for key, found in estimates.items()
    }
    return {
        "n": figures.n,
        **{key: found.value for key, found in estimates.items()},
        # A truth that was given probability 0 has no finite likelihood; the page says what stands for it.
        **({"nll": None} if file.zero_truths else {}),
        "temperature": file.temperature,
        "intervals": intervals,
        "classes": list(figures.classes),
        "source": {
            "file": name,
            "sha256": file.sha256,
            "rows": file.rows,
            "validation_n": file.validation_n,
            "zeros": file.zeros,
            "zero_truths": file.zero_truths,
            "renormalised": file.renormalised,
        },
        "notes": list(file.notes),
        "figures": msgspec.to_builtins(figures),
    }


def _print(name: str, file: PredictionsFile, figures: FigureSet) -> None:
    OUT.print(Text(one_line(f"{name} · {_counts(figures)} · research use, not for diagnosis"), style="italic"))
    absent = [label for label in figures.classes if label not in figures.classes_present]
    if absent:
        OUT.print(Text(one_line(f"No image is of: {', '.join(absent)}. Averages are over the other classes.")))
    for words, found in (
        ("balanced accuracy", figures.balanced_accuracy),
        ("macro AUROC", figures.macro_auroc),
        ("accuracy", figures.accuracy),
        ("macro F1", figures.macro_f1),
    ):
        _line(words, found, percent, " %")
    for calibration in (figures.before, *(() if figures.after is None else (figures.after,))):
        _print_calibration(calibration)
    print_table(class_table(figures))
    if figures.subgroups:
        print_table(level_table("subgroups", figures.subgroups))
    for column in figures.missingness:
        OUT.print(Text(one_line(f"{column.column}: not recorded for {column.missing:,} of {column.n:,} images")))
    if figures.sites:
        print_table(level_table("sites", figures.sites))
    for note in file.notes:
        OUT.print(Text("note: ", style="bold").append(one_line(note), style="default"))


def _counts(figures: FigureSet) -> str:
    images = f"{figures.n:,} image{'' if figures.n == 1 else 's'}"
    groups = f" in {figures.n_groups:,} of '{figures.group_key}'"
    return f"{images}{'' if figures.group_key == 'image' else groups}, {len(figures.classes)} classes"


def _line(words: str, found: Estimate, form: Any, unit: str = "") -> None:
    text = Text(f"  {words:<20}").append("–" if found.value is None else f"{form(found.value)}{unit}", style="bold")
    if found.low is not None and found.high is not None:
        text.append(f"  ({form(found.low)} to {form(found.high)}{unit})", style="default")
    if found.note:
        text.append(f"  {one_line(found.note)}", style="default")
    OUT.print(text)


def _three(value: float) -> str:
    return f"{value:.3f}"


def _print_calibration(figures: CalibrationFigures) -> None:
    OUT.print(Text(one_line(f"calibration, {figures.label}")))
    _line("ECE", figures.ece, _three)
    if figures.chance is not None:
        found = figures.chance
        verdict = "more than chance explains" if found.exceeded else "no more than chance explains"
        OUT.print(
            f"  {'  beside chance':<20}{found.observed:.3f} at one image a group; perfect calibration stays under "
            f"{found.bound:.3f} in 95 % of draws of {found.effective_n:,}: {verdict}"
        )
    _line("classwise ECE", figures.classwise_ece, _three)
    _line("Brier (0 to 2)", figures.brier, _three)
    _line("NLL (nats)", figures.nll, _three)
    _line("slope", figures.slope, _three)
    _line("intercept", figures.intercept, _three)


def _table(title: str, first: tuple[str, ...], figures: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in first:
        table.add_column(name, no_wrap=True)
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def class_table(figures: FigureSet) -> Table:
    """A row a class against all others."""
    table = _table(
        "classes · % with 95 % interval",
        ("class",),
        ("images", "called", "sensitivity", "specificity", "PPV", "NPV", "AUROC", "ECE"),
    )
    for row in figures.per_class:
        table.add_row(
            Text(one_line(row.name)),
            f"{row.n:,}",
            f"{row.predicted:,}",
            *(_share(found) for found in (row.sensitivity, row.specificity, row.ppv, row.npv)),
            _share(row.auroc),
            percent(row.ece.value),
        )
    return table


def level_table(title: str, levels: tuple[SubgroupFigures, ...]) -> Table:
    """A row a value of a column; a dash where its images do not carry a figure, and the reason at the end."""
    table = _table(
        f"{title} · % with 95 % interval, Brier from 0 to 2",
        ("column", "value"),
        ("images", "groups", "balanced accuracy", "macro AUROC", "Brier"),
    )
    table.add_column("", no_wrap=True)
    for row in levels:
        table.add_row(
            Text(one_line(row.column)),
            Text(one_line(row.level)),
            f"{row.n:,}",
            f"{row.n_groups:,}",
            _share(row.balanced_accuracy),
            _share(row.macro_auroc),
            "–" if row.brier.value is None else _three(row.brier.value),
            Text(one_line(next(_reasons(row), ""))),
        )
    return table


def _reasons(row: SubgroupFigures) -> Iterator[str]:
    yield from (note for note in (row.note, row.balanced_accuracy.note, row.macro_auroc.note) if note)


def _share(found: Estimate | Rate) -> str:
    interval = "" if found.low is None else f" ({percent(found.low)}–{percent(found.high)})"
    return percent(found.value) + interval
