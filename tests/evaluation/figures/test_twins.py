"""JSON reads back to the same figures; the CSV holds every number once and runs no formula."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from wardround.evaluation.errors import InvalidReportError
from wardround.evaluation.figures.compute import compute
from wardround.evaluation.figures.figure_set import FigureSet, SetCoverage
from wardround.evaluation.figures.sample import Column, Sample
from wardround.evaluation.figures.twins import HEADER, from_json, to_csv, to_json
from wardround.evaluation.per_class import rate


def figures(n: int = 120, model: str = "Federated", classes: tuple[str, ...] = ("a", "b", "c")) -> FigureSet:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 3, n)
    z = generator.normal(size=(n, 3)) + 1.5 * np.eye(3)[labels]
    sample = Sample(
        z,
        labels,
        np.arange(n) // 2,
        classes,
        z / 1.7,
        {"sex": Column(("=female", "male"), generator.integers(-1, 2, n))},
        Column(("north", "south"), generator.integers(0, 2, n)),
        "patient",
    )
    sets = (SetCoverage("all", 0.9, rate(110, 120), 1.25, 0.0, 0.75),)
    return compute(sample, model=model, seed=5, abstain_below=0.6, wanted_risk=0.05, sets=sets, resamples=50)


def numbers(value: Any) -> Counter[str]:
    """Every number of nested dataclasses and tuples, as text that tells floats exactly."""
    if isinstance(value, bool):
        return Counter([str(value).lower()])
    if isinstance(value, int | float):
        return Counter([repr(value)])
    if isinstance(value, tuple):
        return sum((numbers(part) for part in value), Counter())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return sum((numbers(getattr(value, field.name)) for field in dataclasses.fields(value)), Counter())
    assert value is None or isinstance(value, str), value
    return Counter()


@pytest.mark.parametrize("n", [0, 1, 120])
def test_json_round_trip_keeps_every_value(n: int) -> None:
    found = figures(n)
    assert from_json(to_json(found)) == found
    assert to_json(figures(n)) == to_json(found)


def test_a_twin_from_before_the_later_fields_reads_back_without_them() -> None:
    content = json.loads(to_json(figures()))
    del content["risk"]["declined"]
    for row in content["per_class"]:
        del row["called"]
    for curve in content["decision"]:
        for point in curve["points"]:
            del point["gain"]
    older = from_json(json.dumps(content).encode())
    assert (older.risk.declined, older.per_class[0].called, older.decision[0].points[0].gain) == (None, None, None)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"model": "x"}', b"\xff\xfe"])
def test_what_is_no_figure_set_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidReportError, match="figure set"):
        from_json(data)


@pytest.mark.parametrize("n", [0, 1, 120])
def test_csv_holds_every_number_of_every_set_exactly_once(n: int) -> None:
    both = (figures(n), figures(n, model="Local"))
    lines = list(csv.DictReader(io.StringIO(to_csv(both), newline="")))
    cells = Counter(line[name] for line in lines for name in ("value", "low", "high", "n", "n_groups") if line[name])
    assert cells == numbers(both)
    assert {line["model"] for line in lines} == {"Federated", "Local"}


def test_csv_has_one_line_a_figure_and_ends_lines_as_rfc_4180_does() -> None:
    text = to_csv([figures()])
    assert text.startswith(",".join(HEADER) + "\r\n")
    assert text.count("\n") == text.count("\r\n")
    lines = [tuple(row[:4]) for row in csv.reader(io.StringIO(text, newline=""))]
    assert len(set(lines)) == len(lines)


def test_text_that_a_spreadsheet_would_run_is_prefixed_and_numbers_are_not() -> None:
    names = ('=HYPERLINK("http://x")', "-1+1", "@sum")
    text = to_csv([figures(model="+cmd", classes=names)])
    negative = False
    for row in csv.reader(io.StringIO(text, newline="")):
        for place, cell in enumerate(row):
            if 4 <= place <= 8:
                negative |= cell.startswith("-")
            else:
                assert not cell.startswith(("=", "+", "-", "@")), cell
    assert negative  # a calibration intercept below 0 stays a number
    assert "'=HYPERLINK" in text
    assert "'=female" in text


def test_unknown_figures_are_empty_cells_with_their_reason() -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv([figures(1)]), newline="")))
    headline = next(line for line in lines if line["figure"] == "balanced_accuracy" and line["section"] == "overview")
    assert (headline["value"], headline["note"]) == ("", "only one class present")
