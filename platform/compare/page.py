"""The files of a comparison: compare.json, compare.csv and index.html."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ...evaluation.comparison import FIGURES, Comparison, PairedTest, Row, Score
from ...evaluation.report import comparison_page
from ...evaluation.report_json import to_json
from ...privacy.atomic import write_atomic

COLUMNS = (
    "method", "variant", "score", "seeds", "folds", "cells", "finished",
    *(f"{figure}_{part}" for figure in FIGURES for part in ("mean", "sd")),
    "rival", "rival_variant", "difference", "low", "high", "p", "p_holm",
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
    test = test_of(comparison, row, score)
    tested = (
        {
            "rival": test.rival,
            "rival_variant": test.rival_variant,
            **{key: getattr(test, key) for key in ("difference", "low", "high", "p", "p_holm")},
        }
        if test
        else {}
    )
    limits = row.limits
    granted = (
        {"pixel_rounds": limits.rounds, "pixel_images": limits.images, "pixel_seeds": limits.seeds} if limits else {}
    )
    own = ("method", "variant", "seeds", "folds", "cells", "finished", "rounds", "seconds")
    traffic = ("bytes_per_site_round", "bytes_ratio")
    return {"score": score, **{key: getattr(row, key) for key in own + traffic}, **figures, **tested, **granted}


def test_of(comparison: Comparison, row: Row, score: Score) -> PairedTest | None:
    """The row's test of this score: against the best baseline, else against the ablation's first variant."""
    own = [
        test for test in comparison.tests if (test.method, test.variant, test.score) == (row.method, row.variant, score)
    ]
    return min(own, key=lambda test: test.against, default=None)  # "baseline" comes before "variant"
