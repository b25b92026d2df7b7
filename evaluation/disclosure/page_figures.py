"""Sections of the coordinator's page that hold counts: data, headline, classes, calibration, subgroups."""

from __future__ import annotations

from collections.abc import Sequence

from ..page_parts import UNKNOWN, Cell, HeadlineFigure, Table, lower, number, plural, sentence_list, upper
from ..sections.blocks import Big, Block, Drawing, Drawings, Grid, Heading, Note, Section
from . import ranges
from .bands import Band, Range, total
from .drawings import band_matrix, band_reliability, images_of
from .published import TOO_LITTLE, Published, ReliabilityRow
from .twins import figures

EMPTY = Band(0, 0)
DASH = "\N{EN DASH}"
NOT_HERE = "Not published in this report."


def names_of(published: Published) -> list[str]:
    """Clinical names, in label order."""
    return [label.clinical_name for label in published.facts.classes]


def range_cell(value: Range | None, digits: int = 2) -> Cell:
    """The range; the middle stands above it where the range is narrow enough to say something."""
    if value is None:
        return Cell(UNKNOWN)
    middle = ranges.shown(value)
    # Rounded outward: a bound that is rounded inward would be a claim that the bands do not make.
    between = f"{lower(value.low, digits)} to {upper(value.high, digits)}"
    return Cell("too few" if middle is None else number(middle), between)


def big(published: Published) -> Big:
    """The headline card."""
    known = figures(published)
    images = known["images"]
    return Big(
        _headline("Balanced accuracy, all sites", known["balanced accuracy"]),
        (
            _headline("Macro AUROC", known["macro AUROC"]),
            _headline("Calibration error", known["calibration error"]),
            HeadlineFigure("Test images", images.text if isinstance(images, Band) else UNKNOWN, ""),
        ),
    )


def _headline(label: str, value: Band | Range | None) -> HeadlineFigure:
    if not isinstance(value, Range):
        return HeadlineFigure(label, UNKNOWN, "withheld, or not defined")
    middle = ranges.shown(value)
    between = f"between {lower(value.low)} and {upper(value.high)}"
    if middle is None:
        return HeadlineFigure(label, "too few", f"{between}: {TOO_LITTLE}")
    return HeadlineFigure(label, number(middle), between)


def reading(published: Published) -> tuple[str, ...]:
    """What a reader in a hurry must know of all figures."""
    matrix, names = published.confusion, names_of(published)
    if matrix is None:
        return ("No figure is published in this report; section 12 says why.",)
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


def data(published: Published) -> Section:
    """Section 2."""
    matrix, title = published.confusion, "Data of all sites"
    away = (
        "Dates, eligibility, how many images were left out, missing values and how the labels were made are facts of "
        "each site: they stand in section 2 of the sites' own reports. The sums hold none of them."
    )
    if matrix is None:
        return Section("data", title, (NOT_HERE,), (Note(away),))
    of_classes = [ranges.class_ranges(matrix, k, published.margins) for k in range(published.n_classes)]
    rows = [
        (Cell(name), Cell(of_class.n.text), Cell(of_class.called.text))
        for name, of_class in zip(names_of(published), of_classes, strict=True)
    ]
    everything = ranges.images(matrix, published.margins).text
    table = Table(
        f"Test images of {plural(published.sites, 'site')} together, in bands.",
        ("Class", "Images of it", "Called so by the model"),
        (*rows, (Cell("All classes"), Cell(everything), Cell(everything))),
    )
    said = f"The sums are over test images of {plural(published.sites, 'site')}: {everything} images."
    return Section("data", title, (said,), (Grid(table, "Test images by class"), Note(away)))


def headline(published: Published) -> Section:
    """Section 4."""
    known = figures(published)
    means = {
        "accuracy": "share of images that were called rightly",
        "balanced accuracy": "mean sensitivity over the classes present",
        "macro F1": "mean F1 over the classes present",
        "macro AUROC": "one class against the rest, from summed histograms of scores; the range holds their error",
    }
    rows = []
    for name, meaning in means.items():
        value = known[name]
        cell = range_cell(value if isinstance(value, Range) else None)
        rows.append((Cell(name[0].upper() + name[1:], meaning), cell))
    present = ranges.present(published.confusion) if published.confusion is not None else ()
    classes = sentence_list([names_of(published)[k] for k in present])
    return Section(
        "headline",
        "Headline figures",
        (f"Averages are over the classes present: {classes}.",) if classes else (NOT_HERE,),
        (
            Grid(Table("All sites together.", ("Figure", "Value"), tuple(rows)), "Headline figures"),
            Note(
                "A range holds what the bands allow for these very images. It is no 95 % interval: patients would have "
                "to be drawn anew for one, and the sums do not tell whose an image is. The sites' reports have them."
            ),
        ),
    )


def classes(published: Published) -> Section:
    """Section 5."""
    matrix, title = published.confusion, "Each class"
    if matrix is None:
        return Section("classes", title, (NOT_HERE,), ())
    names = names_of(published)
    rows = []
    for k, name in enumerate(names):
        of_class = ranges.class_ranges(matrix, k, published.margins)
        values = (of_class.sensitivity, of_class.specificity, of_class.ppv, of_class.npv, of_class.f1)
        lost = ranges.missed(matrix, k, published.margins).text
        rows.append((Cell(name), Cell(lost), *(range_cell(value) for value in values)))
    table = Table(
        "Each class against all others: middle of the range, and the range.",
        ("Class", "Called otherwise", "Sensitivity", "Specificity", "PPV", "NPV", "F1"),
        tuple(rows),
    )
    drawing = Drawing(
        band_matrix("matrix", "Confusion matrix, in bands", matrix, names),
        caption="Confusion matrix: the band that holds each count. Darkness follows the middle of the band. The "
        "diagonal is right.",
    )
    return Section(
        "classes",
        title,
        ("What an average hides: how often each class is found, and how often the model is right when it names it.",),
        (
            Grid(table, "Figures of each class"),
            Note(
                f"A range of more than {number(ranges.WIDEST)} is too wide for a middle and says “too few”. Predictive "
                "values hold for the mix of classes among these images."
            ),
            Drawings((drawing,), "matrix"),
        ),
    )


def calibration(published: Published) -> Section:
    """Section 6."""
    divisor = published.temperature
    blocks: list[Block] = []
    tables = [("before", published.raw_reliability), ("after", published.reliability)]
    titles = {
        "after": "As answered" if divisor is None else f"After temperature {number(divisor)}",
        "before": "Before the temperature",
    }
    drawn = [
        Drawing(band_reliability(key, f"Reliability in bands, {titles[key].lower()}", rows), titles[key])
        for key, rows in tables
        if rows
    ]
    if drawn:
        blocks += [
            Drawings(tuple(drawn), "pair" if len(drawn) > 1 else "wide"),
            Note(
                "Each box holds one bin of confidence: its share that was right lies between the lower and the upper "
                "edge. On the dashed line the model is right as often as it says."
            ),
        ]
    blocks.append(Grid(_scores(published), "Calibration figures"))
    blocks.append(
        Note(
            "How large a calibration error chance alone explains needs one image a patient: that bound stands in the "
            "sites' own reports. Classwise calibration error and negative log likelihood are computed from the sums "
            "and not published: the first needs each class's probabilities in bins, which are small cells, and the "
            "second can be carried by a single image."
        )
    )
    for key, rows in tables:
        if rows:
            blocks += [Heading(titles[key]), Grid(_bins(rows, titles[key]), f"Reliability table, {titles[key]}")]
    if not published.reliability:
        blocks.append(Note("The reliability table is not published in this report."))
    return Section("calibration", "Can the probabilities be trusted?", (_calibrated(published),), tuple(blocks))


def _calibrated(published: Published) -> str:
    found = figures(published)["calibration error"]
    if not isinstance(found, Range):
        return "The calibration error is not published in this report."
    said = f"Confidence and share right differ by {lower(found.low)} to {upper(found.high)} on average over bins."
    if ranges.shown(found) is None:
        return f"{said} That is {TOO_LITTLE}."
    return said


def _scores(published: Published) -> Table:
    known = figures(published)
    after = [known[name] for name in ("calibration error", "Brier score")]
    prior = [known[f"{name} before the temperature"] for name in ("calibration error", "Brier score")]
    if published.temperature is None:
        prior = after
    meanings = (
        ("Calibration error", "top label; from the bands of the table below"),
        ("Brier score", "0 is perfect, 2 the worst"),
    )
    rows = [
        (
            Cell(*meaning),
            *(range_cell(value if isinstance(value, Range) else None) for value in (prior[at], after[at])),
        )
        for at, meaning in enumerate(meanings)
    ]
    stated = "none" if published.temperature is None else number(published.temperature)
    rows.append((Cell("Temperature", "divides the model's logits; the same for all sites"), Cell("none"), Cell(stated)))
    return Table("All sites together.", ("Figure", "Before the temperature", "As answered"), tuple(rows))


def _bins(rows: Sequence[ReliabilityRow], title: str) -> Table:
    means = any(row.mean_confidence is not None for row in rows)
    cells = []
    for row in rows:
        mean = number(row.mean_confidence) if row.mean_confidence is not None else DASH
        cells.append(
            (
                Cell(f"{row.low:.1f} to {row.high:.1f}"),
                Cell(images_of(row).text),
                Cell(row.right.text),
                Cell(row.wrong.text),
                *([Cell(mean)] if means else []),
                range_cell(ranges.share(row.right, row.wrong)) if images_of(row).high else Cell(DASH),
            )
        )
    return Table(
        f"Images by the confidence of the model's answer. {title}.",
        ("Confidence", "Images", "Right", "Wrong", *(["Mean confidence"] if means else []), "Share that was right"),
        tuple(cells),
        stacked=False,
    )


def subgroups(published: Published) -> Section:
    """Section 9."""
    blocks: list[Block] = []
    for place, table in enumerate(published.subgroups):
        name = table.column.replace("_", " ").capitalize()
        blocks += [Heading(name), Grid(_subgroup(published, place), f"Subgroups by {table.column}")]
    said = (
        "Of each level, how many images were called rightly. What is not recorded is a level of its own, and a level "
        "that fewer than three sites have counts as “other”."
        if blocks
        else "No subgroup is published: the study names no column, or they are withheld."
    )
    return Section("subgroups", "Subgroups", (said,), tuple(blocks))


def _subgroup(published: Published, place: int) -> Table:
    given = published.subgroups[place]
    rows = []
    for row in given.rows:
        right, wrong = ranges.both(total(row.right), row.all_right), ranges.both(total(row.wrong), row.all_wrong)
        cells = [
            Cell(f"{hits.text} of {total((hits, misses)).text}" if total((hits, misses)).high else "0")
            for hits, misses in zip(row.right, row.wrong, strict=True)
        ]
        rows.append((Cell(row.level), Cell(total((right, wrong)).text), range_cell(ranges.share(right, wrong)), *cells))
    return Table(
        f"By {given.column}: right ones of all images, by true class.",
        (given.column.capitalize(), "Images", "Accuracy", *names_of(published)),
        tuple(rows),
    )
