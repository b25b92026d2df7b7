"""The tables of a comparison, and the few words that all of its page shares."""

from __future__ import annotations

from collections.abc import Sequence

from .comparison import FIGURES, CellLine, Comparison, Mean, Row, Score
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


def reading(comparison: Comparison) -> str:
    """What the tests come to: against the best baseline, or without one against the ablation's first variant."""
    strict = [test for test in comparison.tests if test.score != "transductive"]
    tests = [test for test in strict if test.against == "baseline"] or strict
    known = [test for test in tests if test.p_holm is not None and test.difference is not None]
    if not tests:
        return (
            "No two rows of this grid could be tested against each other: there is no baseline, or other test images."
        )
    if not known:
        return "Too few groups were tested on to say whether a difference is more than chance."
    beyond = [test for test in known if (test.p_holm or 0.0) < 0.05]
    if not beyond:
        rival = "the best baseline" if tests[0].against == "baseline" else "the first variant"
        return f"No difference from {rival} is more than chance explains, at 5 % after correction for several tests."
    said = [
        f"{label_of(test.method, test.variant)} {'beats' if (test.difference or 0.0) > 0 else 'falls behind'} "
        f"{label_of(test.rival, test.rival_variant)} in {test.score}"
        for test in beyond
    ]
    return f"More than chance explains, at 5 % after correction for several tests: {'; '.join(said)}."


def pixel_notes(comparison: Comparison) -> tuple[str, ...]:
    """What methods that train on pictures were granted, in one line for those that were granted the same."""
    granted: dict[str, list[str]] = {}
    for row in comparison.rows:
        if row.limits:
            images = (
                f"at most {row.limits.images:,} training images a site" if row.limits.images else "all training images"
            )
            words = f"{plural(row.limits.rounds, 'round')}, {images}, {plural(row.limits.seeds, 'seed')}"
            if not row.limits.folds:
                words += ", the study's own unseen site only"
            granted.setdefault(words, []).append(row.name)
    return tuple(f"{DAGGER} {sentence_list(names)}: {words}." for words, names in granted.items())


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
    parts = [f"{row.finished} of {row.cells} cells"] if row.finished < row.cells else []
    if row.limits:
        parts.append(plural(row.rounds or 0, "round"))
    return ", ".join(parts)


def _mean_cell(value: Mean, best: float | None, figure: str) -> Cell:
    digits = 3 if figure in LOWER_IS_BETTER else 2
    if value.mean is None:
        return Cell("–")
    return Cell(number(value.mean, digits), spread_of(value, digits), strong=value.mean == best)


def paired_table(comparison: Comparison, against: str) -> Table | None:
    """The tests of one kind; None where there is none."""
    tests = [test for test in comparison.tests if test.against == against]
    if not tests:
        return None
    marks = {(row.method, row.variant): marked(row) for row in comparison.rows}
    rival = "the best baseline" if against == "baseline" else "the first variant of the ablation"
    return Table(
        f"Difference in balanced accuracy from {rival}, both on the same test images.",
        ("Method", "Against", "Score", "Difference", "p", "p, Holm", "Groups"),
        tuple(
            (
                Cell(marks[(test.method, test.variant)]),
                Cell(marks[(test.rival, test.rival_variant)]),
                Cell(TITLES[test.score]),
                Cell(signed(test.difference, 3), span(test.low, test.high, 3) or test.note),
                Cell(_p(test.p)),
                Cell(_p(test.p_holm), strong=test.p_holm is not None and test.p_holm < 0.05),
                Cell(f"{test.n_groups:,}", plural(test.n_images, "image")),
            )
            for test in tests
        ),
        stacked=False,
    )


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "below 0.001" if value < 0.001 else number(value, 3)


def communication_table(comparison: Comparison) -> Table:
    """Bytes and parameters of every row."""
    ratios = any(row.bytes_ratio is not None for row in comparison.rows)
    return Table(
        "What leaves one site in one round, as its ledger has it: masked update, keys, shares and signatures.",
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
