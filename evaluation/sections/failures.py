"""Section 11: the images that were called wrongly with the highest confidence. For the site alone; it never leaves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..arrays import FloatArray, softmax
from ..figures.sample import Sample
from ..page_parts import Cell, Table, number, percent, plural
from .blocks import Block, Door, Grid, Note, Section

MOST = 12
_CONFIDENT = 0.8


def failures(
    sample: Sample,
    records: Sequence[int] | None = None,
    cases: str | None = None,
    *,
    answers_from: float | None = None,
) -> Section:
    """Images that were called wrongly.

    Args:
        sample: the predictions. records: number of each test image, default 1 to n in the order of report.json.
        cases: link to the pictures. answers_from: confidence from which the model answers; None: it always does.
    """
    stated = softmax(sample.stated) if len(sample.labels) else np.zeros((0, len(sample.classes)))
    called = stated.argmax(axis=1) if len(stated) else np.zeros(0, dtype=np.int64)
    confidence = stated.max(axis=1, initial=0.0)
    wrong = np.flatnonzero(called != sample.labels)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST]
    numbers = list(records) if records is not None else list(range(1, len(sample.labels) + 1))
    rows = tuple(
        (
            Cell(f"Image {numbers[at]}", f"{sample.group_key} {int(sample.groups[at]) + 1}"),
            Cell(sample.classes[int(sample.labels[at])]),
            Cell(sample.classes[int(called[at])]),
            Cell(number(float(confidence[at])), strong=bool(confidence[at] >= _CONFIDENT)),
            Cell(number(float(stated[at, sample.labels[at]]))),
        )
        for at in order
    )
    blocks: list[Block] = []
    if rows:
        blocks.append(
            Grid(
                Table(
                    f"The {len(rows)} wrong calls of highest confidence. Numbers count the test part of this site, "
                    "in the order of report.json.",
                    ("Test image", "Truth", "Called", "Confidence", "Probability of the truth"),
                    rows,
                    words=True,
                ),
                "Confident errors",
            )
        )
    if cases is not None:
        blocks.append(
            Door(
                "The pictures, with what the model attended to and similar training cases: ", "case review", cases, "."
            )
        )
    blocks.append(
        Note(
            "This list is for this site alone and leaves it in no message. A wrong answer can also be a wrong label: "
            "look at the picture first."
        )
    )
    said = _reading(confidence[wrong], len(sample.labels), answers_from or 0.0)
    return Section("failures", "Failure cases", (said,), tuple(blocks))


def _reading(confidence: FloatArray, n: int, answers_from: float) -> str:
    """``confidence``: of the wrong ones, (k,)."""
    if n == 0:
        return "There are no test images."
    if not len(confidence):
        return f"None of the {n:,} test images was called wrongly."
    given = confidence >= answers_from
    answered, sure = int(given.sum()), int((given & (confidence >= _CONFIDENT)).sum())
    said = f"{plural(answered, 'wrong answer')} among {plural(n, 'test image')}"
    said += f"; {len(confidence) - answered:,} more among the images it declined. " if answers_from > 0 else ". "
    if not sure:
        return (
            f"{said}None of the answers was given with {percent(_CONFIDENT)} confidence or more: a reader who doubts "
            "unsure answers would see all of them."
        )
    return (
        f"{said}Given with {percent(_CONFIDENT)} confidence or more: {sure:,}. Those are the errors that a reader who "
        "trusts sure answers would not notice."
    )
