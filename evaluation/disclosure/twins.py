"""JSON and CSV of a coordinator's report, and its block in summary.json: the page's figures and nothing more."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import msgspec

from ..errors import InvalidReportError
from . import ranges
from .abstaining import answering
from .bands import Band, InvalidBandError, Range
from .decisions import decisions
from .form_check import checked
from .published import Published, ReliabilityRow


def to_json(published: Published) -> bytes:
    """UTF-8 JSON, indented; the same value gives the same bytes, and :func:`from_json` reads it back."""
    return msgspec.json.format(msgspec.json.encode(published), indent=1) + b"\n"


def from_json(data: bytes) -> Published:
    """Read back what :func:`to_json` wrote.

    Raises:
        InvalidReportError: for anything else.
    """
    try:
        return checked(msgspec.json.decode(data, type=Published))
    except (msgspec.MsgspecError, InvalidReportError, InvalidBandError) as error:
        raise InvalidReportError(
            f"this is not the JSON of a coordinator's report: {error}", remedy="Restore the file from the run"
        ) from error


def to_csv(published: Published) -> str:
    """Every figure a line: table, row, column, lowest, highest possible value, and what is said where there is none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("table", "row", "column", "lowest", "highest", "note"))
    writer.writerows(_lines(published))
    return out.getvalue()


def _lines(published: Published) -> Iterator[tuple[str | int | float, ...]]:
    names = [_plain(label.name) for label in published.facts.classes]
    yield ("figures", "sites", "", published.sites, published.sites, "")
    yield ("figures", "temperature", "", *[_cell(published.temperature)] * 2, "")
    if published.earlier:
        yield ("compared", "earlier report, SHA-256", "", "", "", published.earlier)
    for name, value in figures(published).items():
        yield _line("figures", name, "", value)
    if published.confusion is not None:
        for i, row in enumerate(published.confusion):
            for j, band in enumerate(row):
                yield _line("confusion", names[i], names[j], band)
        for k, name in enumerate(names):
            of_class = ranges.class_ranges(published.confusion, k, published.margins)
            for figure in ("n", "called", "sensitivity", "specificity", "ppv", "npv", "f1"):
                yield _line("classes", name, figure, getattr(of_class, figure))
    if published.margins is not None:
        yield _line("margins", "all", "wrong", published.margins.wrong)
        for k, name in enumerate(names):
            yield _line("margins", name, "missed", published.margins.missed[k])
            if published.margins.false:
                yield _line("margins", name, "false", published.margins.false[k])
    yield from _rows("reliability", published.reliability)
    yield from _rows("reliability before the temperature", published.raw_reliability)
    for found in decisions(published):
        where = f"decisions at {found.threshold:.3g}", names[found.k]
        yield (*_line(*where, "true", found.true)[:5], "band" if found.published else FROM_TABLES)
        yield (*_line(*where, "false", found.false)[:5], "band" if found.published else FROM_TABLES)
        yield _line(*where, "missed", found.missed)
        yield _line(*where, "net benefit", found.model)
        yield _line(*where, "net benefit of everybody", found.treat_all)
    for choice in answering(published.reliability):
        where = "abstention", f"answers from {choice.threshold:.1f}"
        for name in ("answered", "wrong", "coverage", "risk"):
            yield _line(*where, name, getattr(choice, name))
    for table in published.subgroups:
        for level in table.rows:
            for k, name in enumerate(names):
                where = f"subgroups by {_plain(table.column)}", _plain(level.level)
                yield _line(*where, f"{name}, right", level.right[k])
                yield _line(*where, f"{name}, wrong", level.wrong[k])
            yield _line(*where, "all, right", level.all_right)
            yield _line(*where, "all, wrong", level.all_wrong)
    for missing in published.withheld:
        yield ("withheld", _plain(missing.what), "", "", "", missing.why)


FROM_TABLES = "what matrix and reliability table leave"


def _rows(table: str, rows: tuple[ReliabilityRow, ...]) -> Iterator[tuple[str | int | float, ...]]:
    for line in rows:
        name = f"{line.low:.1f} to {line.high:.1f}"
        yield _line(table, name, "right", line.right)
        yield _line(table, name, "wrong", line.wrong)
        yield (table, name, "mean confidence", *[_cell(line.mean_confidence)] * 2, "")


def _line(table: str, row: str, column: str, value: Band | Range | None) -> tuple[str | int | float, ...]:
    if value is None:
        return (table, row, column, "", "", "not known")
    return (table, row, column, value.low, value.high, "")


def _cell(value: float | None) -> str | float:
    return "" if value is None else value


def _plain(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t\r" else text


def figures(published: Published) -> dict[str, Band | Range | None]:
    """The headline figures by name, as ranges; None where not known or withheld."""
    matrix, margins = published.confusion, published.margins
    return {
        "images": None if matrix is None else ranges.images(matrix, margins),
        "accuracy": None if matrix is None else ranges.accuracy(matrix, margins),
        "balanced accuracy": None if matrix is None else ranges.balanced_accuracy(matrix, margins),
        "macro F1": None if matrix is None else ranges.macro_f1(matrix, margins),
        "macro AUROC": published.macro_auroc,
        "calibration error": ranges.calibration_error(published.reliability) if published.reliability else None,
        "Brier score": published.brier,
        "calibration error before the temperature": ranges.calibration_error(published.raw_reliability)
        if published.raw_reliability
        else None,
        "Brier score before the temperature": published.raw_brier,
    }


def deployed_summary(published: Published) -> dict[str, float | int | None]:
    """The block "global" of a deployed coordinator's summary.json.

    Each figure is the middle of its range to two decimals, and None where the range is wider than `ranges.WIDEST` or
    the figure is withheld. ``n`` is None: the exact number of images would tell small cells. Figures of sites are not
    the coordinator's to publish; all of them are None there.
    """
    known = figures(published)

    def middle(name: str) -> float | None:
        value = known[name]
        return ranges.shown(value) if isinstance(value, Range) else None

    return {
        "n": None,
        "accuracy": middle("accuracy"),
        "balanced_accuracy": middle("balanced accuracy"),
        "macro_f1": middle("macro F1"),
        "macro_auroc": middle("macro AUROC"),
        "ece": middle("calibration error"),
        "classwise_ece": None,
        "brier": middle("Brier score"),
        "nll": None,
        "temperature": published.temperature,
    }
