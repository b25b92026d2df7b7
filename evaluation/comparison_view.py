"""From a :class:`Comparison` to the words, tables and drawings of its page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .comparison import Against, Comparison, Mean, Row, Score
from .comparison_figures import Line, curve_panel, means_plot
from .comparison_tables import (
    DAGGER,
    TITLES,
    cell_table,
    communication_table,
    comparable,
    marked,
    option_table,
    paired_table,
    score_table,
    spread_of,
)
from .comparison_words import CALIBRATIONS, pixel_notes, reading
from .page_parts import HeadlineFigure, Table, duration, number, plural, sentence_list

TESTS: dict[Against, str] = {
    "baseline": "Against the best baseline",
    "fedclip": "Against FedCLIP",
    "pixels": "Against methods that train on pictures",
    "variant": "Against the first variant",
}


@dataclass(frozen=True, slots=True)
class Panel:
    """A drawing with the line above it."""

    title: str
    svg: str


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """All that the template prints, in order."""

    comparison: Comparison
    headline: HeadlineFigure | None
    side: tuple[HeadlineFigure, ...]
    facts: tuple[tuple[str, str], ...]
    reading: tuple[str, ...]
    warnings: tuple[str, ...]
    dots: str
    scores: tuple[tuple[str, Table], ...]
    tests: tuple[tuple[str, Table], ...]
    options: Table
    calibration: tuple[str, ...]
    curves: tuple[Panel, ...]
    losses: tuple[Panel, ...]
    communication: Table
    cells: Table
    pixel_notes: tuple[str, ...]
    provenance: tuple[tuple[str, str], ...]


def comparison_view(comparison: Comparison) -> ComparisonView:
    """Compute the page."""
    shown = [row for row in comparison.rows if row.finished]
    series = [(TITLES[s], [row.figures(s).balanced_accuracy for row in shown]) for s in comparison.scores]
    return ComparisonView(
        comparison=comparison,
        headline=_headline(comparison),
        side=_side(comparison),
        facts=_facts(comparison),
        reading=reading(comparison),
        warnings=_warnings(comparison),
        dots=means_plot("dots", "Balanced accuracy of every method", [marked(row) for row in shown], series)
        if series
        else "",
        scores=tuple((TITLES[s], score_table(comparison, s)) for s in comparison.scores),
        tests=tuple(
            (title, table) for kind, title in TESTS.items() if (table := paired_table(comparison, kind)) is not None
        ),
        options=option_table(comparison),
        calibration=tuple(CALIBRATIONS[name] for name in comparison.calibrations),
        curves=_panels(comparison, "balanced_accuracy", "curve", "Balanced accuracy"),
        losses=_panels(comparison, "loss", "loss", "Training loss"),
        communication=communication_table(comparison),
        cells=cell_table(comparison),
        pixel_notes=pixel_notes(comparison),
        provenance=(
            ("Backbone", comparison.backbone),
            ("Backbone fingerprint", comparison.backbone_fingerprint),
            ("Wardround", sentence_list(sorted({cell.wardround for cell in comparison.cells if cell.wardround}))),
            ("Source code", _codes(comparison)),
        ),
    )


def _codes(comparison: Comparison) -> str:
    """Hash of the code that ran the cells; where there are several, how many cells each ran."""
    counts = Counter(cell.code for cell in comparison.cells if not cell.reason)
    if len(counts) == 1 and "" not in counts:
        return next(iter(counts))
    known = [f"{code[:12]} ({plural(count, 'cell')})" for code, count in sorted(counts.items()) if code]
    return sentence_list([*known, *([f"not known ({plural(counts[''], 'cell')})"] if counts[""] else [])]) or "none"


def _best(rows: Sequence[Row], score: Score) -> Row | None:
    known = [(value.mean or 0.0, -at) for at, row in enumerate(rows) if (value := _value(row, score))]
    return rows[-max(known)[1]] if known else None


def _value(row: Row, score: Score) -> Mean | None:
    value = row.figures(score).balanced_accuracy
    return None if value.mean is None else value


def _figure(label: str, row: Row, score: Score) -> HeadlineFigure:
    value = row.figures(score).balanced_accuracy
    spread = f", {spread_of(value)} over {plural(value.seeds, 'seed')}" if value.sd is not None else ""
    return HeadlineFigure(label, number(value.mean), f"{marked(row)}{spread}")


def _headline(comparison: Comparison) -> HeadlineFigure | None:
    for score in ("generalisation", "personalisation"):
        best = _best(comparable(comparison), score)
        if best is not None:
            where = "sites that took no part" if score == "generalisation" else "participating sites"
            return _figure(f"Best balanced accuracy on {where}", best, score)
    return None


def _side(comparison: Comparison) -> tuple[HeadlineFigure, ...]:
    rows = comparable(comparison)
    found = []
    strict = _best(rows, "generalisation")
    own = _best(rows, "personalisation")
    if strict is not None and own is not None:
        found.append(_figure("Best on participating sites", own, "personalisation"))
    score: Score = "generalisation" if strict is not None else "personalisation"
    for name, label in (("zero-shot", "Zero-shot"), ("local-only", "Local only"), ("pooled", "Pooled, the bound")):
        row = next((row for row in comparison.rows if row.method == name and _value(row, score)), None)
        if row is not None and len(found) < 3:
            value = row.figures(score).balanced_accuracy
            found.append(
                HeadlineFigure(label, number(value.mean), TITLES[score].lower() + f" {spread_of(value)}".rstrip())
            )
    return tuple(found)


def _facts(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    done = sum(not cell.reason for cell in comparison.cells)
    seconds = sum(cell.seconds for cell in comparison.cells if cell.seconds is not None)
    folds = "each site in turn" if comparison.leave_one_out else sentence_list(comparison.folds) or "none"
    return (
        ("Methods", str(len(comparison.methods))),
        *((("Ablation", f"{comparison.ablation}: {comparison.option}"),) if comparison.ablation else ()),
        ("Images", comparison.dataset),
        ("Seeds", sentence_list([str(seed) for seed in comparison.seeds])),
        ("Left out", folds),
        ("Reference set", comparison.reference),
        ("Cells", f"{done} of {len(comparison.cells)} finished"),
        ("Time of all cells", duration(seconds)),
    )


def _warnings(comparison: Comparison) -> tuple[str, ...]:
    lines = []
    if len({cell.code for cell in comparison.cells if not cell.reason}) > 1:
        lines.append(f"Cells of these tables come from different code: {_codes(comparison)}.")
    if comparison.failed:
        failed = f"{len(comparison.failed)} of {plural(len(comparison.cells), 'cell')} failed"
        lines.append(f"{failed} and count in no mean. The list of cells gives the reasons.")
    short = [marked(row) for row in comparison.rows if 0 < row.finished < row.cells]
    if short:
        lines.append(f"Incomplete, and not to be ranked: {sentence_list(short)}.")
    lines += comparison.notes
    return tuple(lines)


def _panels(comparison: Comparison, figure: str, key: str, ylabel: str) -> tuple[Panel, ...]:
    """One panel a method; its variants are lines of it, and without an ablation the others stand behind it in grey."""
    lines = {
        (row.method, row.variant): Line(
            row.variant or row.method,
            tuple(point.round for point in row.curve),
            tuple(getattr(point, figure) for point in row.curve),
        )
        for row in comparison.rows
        if any(getattr(point, figure).mean is not None for point in row.curve)
    }
    if not lines:
        return ()
    highest = max(mean + spread for line in lines.values() for _, mean, spread in line.known())
    limits = (0.0, 1.0 if figure == "balanced_accuracy" else max(highest, 1e-3) * 1.12)
    last = max(at for line in lines.values() for at in line.rounds)
    pixels = {row.method for row in comparison.rows if row.limits}
    panels = []
    for number_, method in enumerate(dict.fromkeys(name for name, _ in lines)):
        own = [line for (name, _), line in lines.items() if name == method]
        behind = [line for (name, _), line in lines.items() if name != method] if not comparison.ablation else []
        title = method + (DAGGER if method in pixels else "")
        panels.append(
            Panel(title, curve_panel(f"{key}{number_}", f"{ylabel} of {title}", own, behind, ylabel, limits, last))
        )
    return tuple(panels)
