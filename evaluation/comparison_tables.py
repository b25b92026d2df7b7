"""The tables of a comparison, and the few words that all of its page shares."""

from __future__ import annotations

from collections.abc import Sequence

from .comparison import FIGURES, Against, CellLine, Comparison, Mean, Row, Score
from .page_parts import Cell, Table, byte_size, duration, number, plural, sentence_list, signed, span

DAGGER = "\N{DAGGER}"
TITLES: dict[Score, str] = {
    "personalisation": "Personalisation",
    "generalisation": "Generalisation",
    "transductive": "Transductive",
}
MEANINGS: dict[Score, str] = {
    "personalisation": "Mean over the test images of each participating site.",
    "generalisation": "On the site that took no part; nothing of it was seen in training.",
    "transductive": "On the site that took no part, whose own images, without labels, were the reference set. Not "
    "comparable with strict generalisation.",
}
FIGURE_NAMES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "macro_auroc": "Macro AUROC",
    "ece": "Calibration error",
    "brier": "Brier score",
}
LOWER_IS_BETTER = {"ece", "brier"}


def marked(row: Row) -> str:
    """The row's name, with a dagger where it trains on pictures and was granted less."""
    return row.name + (DAGGER if row.limits else "")


def adapter_of(row: Row) -> str:
    """What a baseline trains, or nothing for other rows."""
    return f"{row.trains} adapter" if row.trains else ""


def comparable(comparison: Comparison) -> list[Row]:
    """Rows that can be ranked: all cells finished, as many seeds and folds as any, and not pooled."""
    rows = comparison.rows
    seeds, folds = max(row.seeds for row in rows), max(row.folds for row in rows)
    return [
        row
        for row in rows
        if row.method != "pooled" and row.finished == row.cells and (row.seeds, row.folds) == (seeds, folds)
    ]


def spread_of(value: Mean, digits: int = 2) -> str:
    """Its standard deviation, or nothing with one seed."""
    return "" if value.sd is None else f"± {number(value.sd, digits)}"


def label_of(method: str, variant: str) -> str:
    """Method and variant in words."""
    return f"{method} ({variant})" if variant else method


def score_table(comparison: Comparison, score: Score) -> Table:
    """A row a method with all figures of one score; the best that can be ranked stands out."""
    rows = [row for row in comparison.rows if row.figures(score).accuracy.mean is not None]
    ranked, best = [row for row in comparable(comparison) if row in rows], {}
    for figure in FIGURES:
        known = [m for row in ranked if (m := getattr(row.figures(score), figure).mean) is not None]
        if len(known) > 1:
            best[figure] = min(known) if figure in LOWER_IS_BETTER else max(known)
    return Table(
        f"{MEANINGS[score]} Means over seeds, ± one standard deviation."
        + (f" The best of each column stands out{_but(rows, ranked)}." if best else ""),
        ("Method", *(FIGURE_NAMES[figure] for figure in FIGURES)),
        tuple(
            (
                Cell(marked(row), _remark(row)),
                *(
                    _mean_cell(getattr(row.figures(score), figure), best.get(figure) if row in ranked else None, figure)
                    for figure in FIGURES
                ),
            )
            for row in rows
        ),
        stacked=False,
    )


def _but(rows: Sequence[Row], ranked: Sequence[Row]) -> str:
    """Who is not ranked."""
    aside = [marked(row) for row in rows if row not in ranked]
    return f"; not ranked: {sentence_list(aside)}" if aside else ""


def _remark(row: Row) -> str:
    parts = [adapter_of(row)] if row.trains else []
    parts += [f"{row.finished} of {row.cells} cells"] if row.finished < row.cells else []
    if row.limits:
        parts.append(plural(row.rounds or 0, "round"))
    return ", ".join(parts)


def _mean_cell(value: Mean, best: float | None, figure: str) -> Cell:
    digits = 3 if figure in LOWER_IS_BETTER else 2
    if value.mean is None:
        return Cell("–")
    return Cell(number(value.mean, digits), spread_of(value, digits), strong=value.mean == best)


TEST_CAPTIONS: dict[Against, str] = {
    "baseline": "Difference in balanced accuracy from the best baseline, both on the same test images. Only being "
    "ahead of it is a claim, so what is behind has an interval and no p.",
    "fedclip": "Difference in balanced accuracy from FedCLIP, both on the same test images.",
    "pixels": "Difference in balanced accuracy of each adapter from each method that trains on pictures, on the test "
    "images of the cells that both have.",
    "variant": "Difference in balanced accuracy from the first variant of the ablation, both on the same test images.",
}


def paired_table(comparison: Comparison, against: Against) -> Table | None:
    """The tests of one kind; None where there is none."""
    tests = [test for test in comparison.tests if test.against == against]
    if not tests:
        return None
    rows = {(row.method, row.variant): row for row in comparison.rows}
    return Table(
        TEST_CAPTIONS[against],
        ("Method", "Against", "Score", "Difference", "p", "p, Holm", "Groups"),
        tuple(
            (
                _name_cell(rows[(test.method, test.variant)]),
                _name_cell(rows[(test.rival, test.rival_variant)]),
                Cell(TITLES[test.score]),
                Cell(signed(test.difference, 3), span(test.low, test.high, 3) or test.note),
                Cell(_p(None if test.p_holm is None else test.p)),
                Cell(_p(test.p_holm), strong=test.beyond_chance),
                Cell(f"{test.n_groups:,}", plural(test.n_images, "image")),
            )
            for test in tests
        ),
        stacked=False,
    )


def _name_cell(row: Row) -> Cell:
    return Cell(marked(row), adapter_of(row))


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "below 0.001" if value < 0.001 else number(value, 3)


def communication_table(comparison: Comparison) -> Table:
    """Bytes and parameters of every row."""
    ratios = any(row.bytes_ratio is not None for row in comparison.rows)
    return Table(
        "Bytes that one site sent in the whole study, as its ledger has it, divided by the rounds: masked update, "
        "keys, shares and signatures; also tries that released nothing and, where the reference set is class means, "
        "the one message for their sum.",
        ("Method", "Bytes a site and round", *(["FedAvg sends"] if ratios else []), "Numbers in one update", "Rounds"),
        tuple(
            (
                Cell(marked(row)),
                _bytes_cell(row),
                *(
                    [
                        Cell(
                            "–"
                            if row.bytes_ratio is None
                            else f"{row.bytes_ratio:,.{0 if row.bytes_ratio >= 100 else 1}f} times as much"
                        )
                    ]
                    if ratios
                    else []
                ),
                _parameters_cell(row),
                Cell("–" if row.rounds is None else str(row.rounds)),
            )
            for row in comparison.rows
        ),
        stacked=False,
    )


def _bytes_cell(row: Row) -> Cell:
    if row.exchange == "pooled":
        return Cell("–", "all images in one place")
    if row.bytes_per_site_round is None:
        return Cell("–")
    return Cell(
        byte_size(round(row.bytes_per_site_round)), "" if row.exchange == "federated" else "nothing is exchanged"
    )


def _parameters_cell(row: Row) -> Cell:
    if not row.parameters:
        return Cell("–")
    return Cell(
        f"{sum(row.parameters.values()):,}",
        ", ".join(f"{block} {count:,}" for block, count in row.parameters.items()) if len(row.parameters) > 1 else "",
    )


def option_table(comparison: Comparison) -> Table:
    """How every row was trained."""
    return Table(
        "Options in effect. Step size: that of Adam, the method's own or else that of all training. Logit adjustment: "
        "weight of a site's log class shares in training.",
        ("Method", "Step size", "Logit adjustment", "Options"),
        tuple(
            (
                _name_cell(row),
                Cell("–" if row.lr is None else f"{row.lr:g}"),
                Cell("–" if row.lr is None else f"{row.logit_adjustment:g}"),
                Cell(options_of(row) or "–"),
            )
            for row in comparison.rows
        ),
    )


def options_of(row: Row) -> str:
    """Names and values in one line."""
    return "; ".join(f"{key.replace('_', ' ')}: {_value(value)}" for key, value in row.options.items())


def _value(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:g}"


def cell_table(comparison: Comparison) -> Table:
    """Every cell, with a link to its record."""
    many = len({cell.fold for cell in comparison.cells}) > 1
    return Table(
        "Every cell of the grid. Balanced accuracy; a name opens the cell's record.",
        ("Cell", "Seed", *(["Left out"] if many else []), "Participating", "Left-out site", "Rounds", "Time"),
        tuple(_cell_row(cell, many=many) for cell in comparison.cells),
        stacked=False,
    )


def _cell_row(cell: CellLine, *, many: bool) -> tuple[Cell, ...]:
    away = "transductive" if cell.transductive else ""
    name = label_of(cell.method, cell.variant)
    return (
        Cell(name, f"failed: {cell.reason}" if cell.reason else "", href=cell.link),
        Cell(str(cell.seed)),
        *([Cell(cell.fold or "–")] if many else []),
        Cell(_dash(cell.personalisation)),
        Cell(_dash(cell.generalisation), away),
        Cell("–" if cell.rounds is None else str(cell.rounds)),
        Cell("–" if cell.seconds is None else duration(cell.seconds)),
    )


def _dash(value: float | None) -> str:
    return "–" if value is None else number(value)
