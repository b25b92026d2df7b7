"""The files of a comparison: compare.json, compare.csv and index.html."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ...evaluation.comparison import FIGURES, Comparison, Row, Score
from ...evaluation.comparison_tables import options_of
from ...evaluation.report import comparison_page
from ...evaluation.report_json import to_json
from ...privacy.atomic import write_atomic

TESTED = ("baseline", "fedclip", "variant", "fedavg", "fedprox", "moon", "lora")
"""Tests of a row, each with columns of its own; the last four are against these methods, which train on pictures."""
COLUMNS = (
    "method", "variant", "trains", "options", "lr", "logit_adjustment", "score", "seeds", "folds", "cells", "finished",
    *(f"{figure}_{part}" for figure in FIGURES for part in ("mean", "sd")),
    "baseline_rival",
    *(f"{test}_{part}" for test in TESTED for part in ("difference", "low", "high", "p", "p_holm")),
    "rounds", "bytes_per_site_round", "bytes_ratio", "seconds", "pixel_rounds", "pixel_images", "pixel_seeds",
)  # fmt: skip


def write_comparison(root: Path, comparison: Comparison) -> None:
    """Write all three, each whole or not at all; the same comparison gives the same bytes."""
    write_atomic(root / "compare.json", to_json(comparison))
    write_atomic(root / "compare.csv", csv_of(comparison).encode())
    write_atomic(root / "index.html", comparison_page(comparison).encode())


def csv_of(comparison: Comparison) -> str:
    """One line for each row and score that has figures; what is not known is empty."""
    stream = io.StringIO()
    lines = csv.DictWriter(stream, COLUMNS, lineterminator="\n", restval="")
    lines.writeheader()
    for row in comparison.rows:
        for score in comparison.scores:
            if row.figures(score).accuracy.mean is not None:
                lines.writerow(_line(comparison, row, score))
    return stream.getvalue()


def _line(comparison: Comparison, row: Row, score: Score) -> dict[str, object]:
    given = row.figures(score)
    figures = {
        f"{figure}_{part}": getattr(getattr(given, figure), part) for figure in FIGURES for part in ("mean", "sd")
    }
    tested: dict[str, object] = {}
    for test in comparison.tests:
        if (test.method, test.variant, test.score) == (row.method, row.variant, score):
            name = test.rival if test.against == "pixels" else test.against
            tested |= {f"{name}_{part}": getattr(test, part) for part in ("difference", "low", "high", "p_holm")}
            tested[f"{name}_p"] = None if test.p_holm is None else test.p
            tested |= {"baseline_rival": test.rival} if test.against == "baseline" else {}
    limits = row.limits
    granted = (
        {"pixel_rounds": limits.rounds, "pixel_images": limits.images, "pixel_seeds": limits.seeds} if limits else {}
    )
    own = (
        "method",
        "variant",
        "trains",
        "lr",
        "logit_adjustment",
        "seeds",
        "folds",
        "cells",
        "finished",
        "rounds",
        "seconds",
    )
    traffic = ("bytes_per_site_round", "bytes_ratio")
    return {
        "score": score,
        "options": options_of(row),
        **{key: getattr(row, key) for key in own + traffic},
        **figures,
        **tested,
        **granted,
    }
