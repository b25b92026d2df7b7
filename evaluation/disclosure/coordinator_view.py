"""From a :class:`Published` to the words, tables and figures of the coordinator's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..page_parts import (
    UNKNOWN,
    Cell,
    HeadlineFigure,
    Table,
    lower,
    number,
    plural,
    privacy_facts,
    provenance_facts,
    sentence_list,
    upper,
)
from ..statements import Statement
from . import ranges
from .bands import Band, Range, total
from .drawings import band_matrix, band_reliability, images_of
from .published import TOO_LITTLE, Published
from .twins import figures

_TEMPLATES = Path(__file__).parents[1] / "templates"
EMPTY = Band(0, 0)


@dataclass(frozen=True, slots=True)
class CoordinatorView:
    """All that the template prints, in order."""

    published: Published
    headline: HeadlineFigure
    side: tuple[HeadlineFigure, ...]
    reading: tuple[str, ...]
    data: Table | None
    per_class: Table | None
    confusion: str
    scores: Table
    bins: Table | None
    diagram: str
    subgroups: tuple[tuple[str, Table], ...]
    withheld: tuple[tuple[str, str], ...]
    privacy: tuple[tuple[str, str], ...]
    provenance: tuple[tuple[str, str], ...]


def coordinator_view(published: Published) -> CoordinatorView:
    """Everything on the page; a function of published material alone."""
    matrix, facts = published.confusion, published.facts
    names = [label.clinical_name for label in facts.classes]
    known = figures(published)
    return CoordinatorView(
        published=published,
        headline=_headline("Balanced accuracy, all sites", known["balanced accuracy"]),
        side=(
            _headline("Macro AUROC", known["macro AUROC"]),
            _headline("Calibration error", known["calibration error"]),
            HeadlineFigure("Test images", known["images"].text if isinstance(known["images"], Band) else UNKNOWN, ""),
        ),
        reading=_reading(published, names),
        data=None if matrix is None else _data(published, names),
        per_class=None if matrix is None else _per_class(published, names),
        confusion="" if matrix is None else band_matrix("matrix", "Confusion matrix, in bands", matrix, names),
        scores=_scores(published),
        bins=_bins(published) if published.reliability else None,
        diagram=band_reliability("bins", "Reliability, in bands", published.reliability)
        if published.reliability
        else "",
        subgroups=tuple((table.column, _subgroup(published, place)) for place, table in enumerate(published.subgroups)),
        withheld=tuple((missing.what, missing.why) for missing in published.withheld),
        privacy=(
            *privacy_facts(facts.privacy, sends=True),
            *([("Ledger root", facts.ledger_root)] if facts.ledger_root else []),
        ),
        provenance=provenance_facts(facts.provenance),
    )


def coordinator_page(published: Published, statements: Sequence[Statement] = ()) -> str:
    """The report of a deployed coordinator, as HTML: one file, no script, the same bytes for the same input.

    Args:
        published: what it is made from. statements: signed about it, in order of time.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = "\n".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "coordinator.css"))
    template = environment.get_template("coordinator.html.j2")
    # Style sheets and figures are the package's own output and hold no text of a study that is not escaped.
    view = coordinator_view(published)
    return template.render(view=view, statements=statements, style=Markup(style), svg=Markup)  # noqa: S704


def _headline(label: str, value: Band | Range | None) -> HeadlineFigure:
    if not isinstance(value, Range):
        return HeadlineFigure(label, UNKNOWN, "withheld, or not defined")
    middle = ranges.shown(value)
    # Rounded outward: a bound that is rounded inward would be a claim that the bands do not make.
    between = f"between {lower(value.low)} and {upper(value.high)}"
    if middle is None:
        return HeadlineFigure(label, "too few", f"{between}: {TOO_LITTLE}")
    return HeadlineFigure(label, number(middle), between)


def _range_cell(value: Range | None) -> Cell:
    """The range; the middle stands above it where the range is narrow enough to say something."""
    if value is None:
        return Cell(UNKNOWN)
    middle = ranges.shown(value)
    return Cell("too few" if middle is None else number(middle), f"{lower(value.low)} to {upper(value.high)}")


def _reading(published: Published, names: list[str]) -> tuple[str, ...]:
    matrix = published.confusion
    if matrix is None:
        return ("No figure is published in this report. Below is said why.",)
    if ranges.images(matrix).high == 0:
        return ("No site has a test image, so there is nothing to report.",)
    lines = [
        "Each figure lies between the two numbers beside it. A single number is the middle of them, not the exact one."
    ]
    if all(band == EMPTY or band.hidden for row in matrix for band in row):
        lines.append("Every count is under 11: there are too few images to say how well the model works.")
    absent = [name for k, name in enumerate(names) if k not in ranges.present(matrix)]
    if absent:
        lines.append(f"No site has a test image of {sentence_list(absent)}: averages leave it out.")
    return tuple(lines)


def _data(published: Published, names: list[str]) -> Table:
    matrix = published.confusion or ()
    of_classes = [ranges.class_ranges(matrix, k, published.margins) for k in range(len(names))]
    rows = [
        (Cell(name), Cell(of_class.n.text), Cell(of_class.called.text))
        for name, of_class in zip(names, of_classes, strict=True)
    ]
    everything = ranges.images(matrix, published.margins).text
    return Table(
        f"Test images of {plural(published.sites, 'site')} together, in bands.",
        ("Class", "Images of it", "Called so by the model"),
        (*rows, (Cell("All classes"), Cell(everything), Cell(everything))),
    )


def _per_class(published: Published, names: list[str]) -> Table:
    matrix = published.confusion or ()
    rows = []
    for k, name in enumerate(names):
        of_class = ranges.class_ranges(matrix, k, published.margins)
        values = (of_class.sensitivity, of_class.specificity, of_class.ppv, of_class.npv, of_class.f1)
        rows.append(
            (
                Cell(name),
                Cell(ranges.missed(matrix, k, published.margins).text),
                *(_range_cell(value) for value in values),
            )
        )
    return Table(
        "Each class against all others: middle of the range, and the range.",
        ("Class", "Called otherwise", "Sensitivity", "Specificity", "PPV", "NPV", "F1"),
        tuple(rows),
    )


def _scores(published: Published) -> Table:
    means = {
        "accuracy": "share of images that were called rightly",
        "balanced accuracy": "mean sensitivity over the classes present",
        "macro F1": "mean F1 over the classes present",
        "macro AUROC": "one class against the rest, from summed histograms of scores; the range holds their error",
        "calibration error": "top label; from the bands of the table below",
        "Brier score": "0 is perfect, 2 the worst",
    }
    known = figures(published)
    rows = []
    for name, meaning in means.items():
        value = known[name]
        rows.append(
            (Cell(name[0].upper() + name[1:], meaning), _range_cell(value if isinstance(value, Range) else None))
        )
    stated = number(published.temperature) if published.temperature is not None else "none"
    rows.append((Cell("Temperature", "divides the model's logits; the same for all sites"), Cell(stated)))
    return Table("All sites together.", ("Figure", "Value"), tuple(rows))


def _bins(published: Published) -> Table:
    rows = []
    for row in published.reliability:
        mean = number(row.mean_confidence) if row.mean_confidence is not None else "\N{EN DASH}"
        rows.append(
            (
                Cell(f"{row.low:.1f} to {row.high:.1f}"),
                Cell(images_of(row).text),
                Cell(row.right.text),
                Cell(row.wrong.text),
                Cell(mean),
                _range_cell(ranges.share(row.right, row.wrong)) if images_of(row).high else Cell("\N{EN DASH}"),
            )
        )
    return Table(
        "Images by the confidence of the model's answer.",
        ("Confidence", "Images", "Right", "Wrong", "Mean confidence", "Share that was right"),
        tuple(rows),
        stacked=False,
    )


def _subgroup(published: Published, place: int) -> Table:
    given = published.subgroups[place]
    names = [label.clinical_name for label in published.facts.classes]
    rows = []
    for row in given.rows:
        right, wrong = ranges.both(total(row.right), row.all_right), ranges.both(total(row.wrong), row.all_wrong)
        cells = [
            Cell(f"{hits.text} of {total((hits, misses)).text}" if total((hits, misses)).high else "0")
            for hits, misses in zip(row.right, row.wrong, strict=True)
        ]
        rows.append(
            (Cell(row.level), Cell(total((right, wrong)).text), _range_cell(ranges.share(right, wrong)), *cells)
        )
    return Table(
        f"By {given.column}: right ones of all images, by true class.",
        (given.column.capitalize(), "Images", "Accuracy", *names),
        tuple(rows),
    )
