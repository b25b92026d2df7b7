"""A reader who wants to know small counts: reads page, JSON and CSV, and solves for every count that is under 11.

Nothing of the package's own solver is used: tables are read from text, constraints are written down anew.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import product

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix

LARGE = 10**5


@dataclass
class Knowledge:
    """Unknown counts by name, and rows: factors, least, most."""

    low: dict[tuple, float] = field(default_factory=dict)
    high: dict[tuple, float] = field(default_factory=dict)
    rows: list[tuple[dict[tuple, float], float, float]] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)

    def between(self, name: tuple, low: float, high: float) -> None:
        self.low[name] = max(self.low.get(name, 0.0), low)
        self.high[name] = min(self.high.get(name, float(LARGE)), high)

    def row(self, terms: Mapping[tuple, float], least: float, most: float) -> None:
        self.rows.append((dict(terms), least, most))

    def ratio(self, part: Mapping[tuple, float], whole: Mapping[tuple, float], low: float, high: float) -> None:
        """low <= part / whole <= high."""
        for bound, sign in ((low, 1.0), (high, -1.0)):
            terms = {name: -sign * bound * factor for name, factor in whole.items()}
            for name, factor in part.items():
                terms[name] = terms.get(name, 0.0) + sign * factor
            self.row(terms, -1e-7, np.inf)

    def solve(self, wanted: Mapping[tuple, float], sign: float = 1.0) -> dict[tuple, int] | None:
        """Counts with the smallest sign * wanted; None where nothing fulfils all rows."""
        names = list(self.low)
        place = {name: at for at, name in enumerate(names)}
        entries = [(at, place[name], factor) for at, row in enumerate(self.rows) for name, factor in row[0].items()]
        where = ([entry[0] for entry in entries], [entry[1] for entry in entries])
        matrix = csr_matrix(([entry[2] for entry in entries], where), shape=(len(self.rows), len(names)))
        limits = LinearConstraint(matrix, [row[1] for row in self.rows], [row[2] for row in self.rows])
        goal = np.array([sign * wanted.get(name, 0.0) for name in names])
        whole = np.array([0.0 if "gap" in name else 1.0 for name in names])
        box = Bounds([self.low[name] for name in names], [self.high[name] for name in names])
        found = milp(goal, integrality=whole, bounds=box, constraints=limits)
        if found.x is None:
            return None
        return {name: round(float(value)) for name, value in zip(names, found.x, strict=True)}

    def pinned(self, names: Sequence[tuple] | None = None) -> list[tuple]:
        """Counts from 1 to 10 that have one possible value; None of them may be there."""
        names = [name for name in names or self.low if "gap" not in name]
        generator = np.random.default_rng(1)
        seen: dict[tuple, set[int]] = {name: set() for name in names}
        goals: list[tuple[dict[tuple, float], float]] = [
            ({name: float(generator.normal()) for name in names}, 1.0) for _ in range(4)
        ]
        for goal, sign in goals:
            self._see(seen, goal, sign)
        for name in names:
            for sign in (1.0, -1.0):
                if len(seen[name]) == 1 and 1 <= min(seen[name]) <= 10:
                    self._see(seen, {name: 1.0}, sign)
        return [name for name, values in seen.items() if len(values) == 1 and 1 <= min(values) <= 10]

    def _see(self, seen: dict[tuple, set[int]], goal: Mapping[tuple, float], sign: float) -> None:
        found = self.solve(goal, sign)
        assert found is not None, "the attacker's constraints exclude the truth"
        for name, values in seen.items():
            values.add(found[name])


def read_csv(text: str) -> Knowledge:
    """All that the CSV says, with every link between tables that an attacker can think of."""
    known = Knowledge()
    lines = list(csv.reader(io.StringIO(text)))[1:]
    known.classes = list(dict.fromkeys(row[1] for row in lines if row[0] == "confusion"))
    names = known.classes
    cells = {(i, j): ("cell", i, j) for i in names for j in names}
    for table, row, column, low, high, _ in lines:
        if low == "" or table == "withheld":
            continue
        if table == "confusion":
            known.between(cells[row, column], float(low), float(high))
        elif table == "reliability" and column != "mean confidence":
            known.between((column, row), float(low), float(high))
        elif table.startswith("subgroups") and not column.startswith("all"):
            known.between((table, row, *column.rsplit(", ", 1)), float(low), float(high))
    hit = {k: {cells[k, k]: 1.0} for k in names}
    miss = {k: {cells[k, j]: 1.0 for j in names if j != k} for k in names}
    false = {k: {cells[i, k]: 1.0 for i in names if i != k} for k in names}
    every = dict.fromkeys(cells.values(), 1.0)
    right, wrong = _sum(hit.values()), _sum(miss.values())
    means: dict[str, float] = {}
    for table, row, column, low_text, high_text, _ in lines:
        if low_text == "" or table == "withheld":
            continue
        low, high = float(low_text), float(high_text)
        if table == "margins":
            known.row({"wrong": wrong, "missed": miss.get(row), "false": false.get(row)}[column] or {}, low, high)
        elif table == "figures":
            _figure(known, row, low, high, every, right, wrong)
        elif table == "classes":
            others = _less(_less(every, _sum([hit[row], miss[row]])), false[row])
            twice = {name: 2.0 * value for name, value in hit[row].items()}
            part, whole = {
                "n": ({}, _sum([hit[row], miss[row]])),
                "called": ({}, _sum([hit[row], false[row]])),
                "sensitivity": (hit[row], _sum([hit[row], miss[row]])),
                "specificity": (others, _sum([others, false[row]])),
                "ppv": (hit[row], _sum([hit[row], false[row]])),
                "npv": (others, _sum([others, miss[row]])),
                "f1": (twice, _sum([twice, miss[row], false[row]])),
            }[column]
            if part:
                known.ratio(part, whole, low, high)
            else:
                known.row(whole, low, high)
        elif table == "reliability" and column == "mean confidence":
            means[row] = low
        elif table.startswith("subgroups") and column.startswith("all"):
            known.row(
                {name: 1.0 for name in known.low if name[:2] == (table, row) and name[3] == column[5:]}, low, high
            )
    for part, whole in (("right", right), ("wrong", wrong)):
        if bins := {name: 1.0 for name in known.low if name[0] == part}:
            known.row(_less(bins, whole), 0, 0)
    for table in {name[0] for name in known.low if str(name[0]).startswith("subgroups")}:
        for k, part in product(names, ("right", "wrong")):
            levels = {name: 1.0 for name in known.low if name[0] == table and name[2:] == (k, part)}
            known.row(_less(levels, (hit if part == "right" else miss)[k]), 0, 0)
    _calibration(known, lines, means, every)
    return known


def _figure(known: Knowledge, row: str, low: float, high: float, every: dict, right: dict, wrong: dict) -> None:
    if row == "images":
        known.row(every, low, high)
    elif row == "accuracy":
        known.ratio(right, every, low, high)
    elif row == "Brier score":
        # A wrong image has at least 1/2, whatever the other classes get, and at most 2; a right one at most 1.
        known.row(_less(dict.fromkeys(every, high), dict.fromkeys(wrong, 0.5)), -1e-7, np.inf)
        known.row(_less(_sum([dict.fromkeys(wrong, 2.0), right]), dict.fromkeys(every, low)), -1e-7, np.inf)


def _calibration(known: Knowledge, lines: list, means: dict[str, float], every: dict) -> None:
    """The calibration error of the whole is at least what bins must have, and at most its printed bound."""
    bound = [float(row[4]) for row in lines if row[:2] == ["figures", "calibration error"] and row[4]]
    rows = [name[1] for name in known.low if name[0] == "right"]
    if not bound or not rows:
        return
    for row in rows:
        low, high = (float(value) for value in row.split(" to "))
        if row in means:
            low, high = max(low, means[row] - 0.005), min(high, means[row] + 0.005)
        known.between(("gap", row), 0.0, LARGE)
        known.row({("gap", row): 1.0, ("right", row): high - 1.0, ("wrong", row): high}, -1e-7, np.inf)
        known.row({("gap", row): 1.0, ("right", row): 1.0 - low, ("wrong", row): -low}, -1e-7, np.inf)
    known.row(_less(dict.fromkeys(every, bound[0]), {("gap", row): 1.0 for row in rows}), -1e-7, np.inf)


def _sum(given: object) -> dict:
    found: dict = {}
    for terms in given:  # type: ignore[attr-defined]
        for name, factor in terms.items():
            found[name] = found.get(name, 0.0) + factor
    return found


def _less(first: Mapping[tuple, float], second: Mapping[tuple, float]) -> dict:
    found = dict(first)
    for name, factor in second.items():
        found[name] = found.get(name, 0.0) - factor
    return {name: factor for name, factor in found.items() if factor != 0.0}


def consecutive(now: Knowledge, before: Knowledge, *, growth: int | None, same_model: bool) -> Knowledge:
    """Both reports, by a reader who knows how many images were added, and whether the model is the same."""
    both = Knowledge(dict(now.low), dict(now.high), list(now.rows), now.classes)
    for name in before.low:
        both.low["before", *name], both.high["before", *name] = before.low[name], before.high[name]
    for terms, least, most in before.rows:
        both.row({("before", *name): factor for name, factor in terms.items()}, least, most)
    cells = [name for name in now.low if name[0] == "cell"]
    change = dict.fromkeys(cells, 1.0) | {("before", *name): -1.0 for name in cells}
    if growth is not None:
        both.row(change, growth, growth)
    if same_model:
        for name in now.low:
            if name in before.low and name[0] != "gap":
                both.row({name: 1.0, ("before", *name): -1.0}, 0, np.inf)
    else:
        for i in now.classes:
            both.row({name: factor for name, factor in change.items() if name[-2] == i}, 0, np.inf)
    return both


def brute_force(known: Knowledge, text: str) -> dict[tuple, set[int]]:
    """Values of every cell over all matrices that the bands and all printed rates allow, one by one."""
    names = [name for name in known.low if name[0] == "cell"]
    figures = {row[1]: row[3:5] for row in csv.reader(io.StringIO(text)) if row[0] == "figures" and row[3]}
    rows = [row for row in known.rows if all(name[0] == "cell" for name in row[0])]
    found: dict[tuple, set[int]] = {name: set() for name in names}
    k = len(known.classes)
    for counts in product(*(range(int(known.low[name]), int(known.high[name]) + 1) for name in names)):
        value = dict(zip(names, counts, strict=True))
        if any(not least - 1e-6 <= sum(f * value[x] for x, f in terms.items()) <= most for terms, least, most in rows):
            continue
        matrix = np.array(counts, dtype=float).reshape(k, k)
        with np.errstate(invalid="ignore"):
            recall = matrix.diagonal() / matrix.sum(axis=1)
        low, high = (float(x) for x in figures.get("balanced accuracy", ("0", "1")))
        if not low - 1e-9 <= float(np.nanmean(recall)) <= high + 1e-9:
            continue
        if k == 2 and "macro AUROC" in figures and (matrix.sum(axis=1) > 0).all():
            # For two classes every positive that is called so has a higher score than a negative that is not.
            least, most = recall.prod(), 1.0 - (1.0 - recall).prod()
            if most < float(figures["macro AUROC"][0]) - 1e-9 or least > float(figures["macro AUROC"][1]) + 1e-9:
                continue
        for name, count in value.items():
            found[name].add(count)
    return found


class _Tables(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._inside = True
        elif tag == "small" and self._inside:
            self.tables[-1][-1][-1] += " | "

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.tables[-1][-1][-1] += data


def read_page(page: str, known: Knowledge, clinical: Mapping[str, str]) -> None:
    """What the page's own tables say, added to what the CSV says; counts as bands, rates to two decimals."""
    reader = _Tables()
    reader.feed(page)
    cells = {(i, j): ("cell", i, j) for i in known.classes for j in known.classes}
    for table in reader.tables:
        head = table[0]
        for row in table[1:]:
            if row[0] not in clinical:
                continue
            k = clinical[row[0]]
            hit = {cells[k, k]: 1.0}
            miss = {cells[k, j]: 1.0 for j in known.classes if j != k}
            false = {cells[i, k]: 1.0 for i in known.classes if i != k}
            if head[:2] == ["Class", "Images of it"]:
                known.row(_sum([hit, miss]), *band(row[1]))
                known.row(_sum([hit, false]), *band(row[2]))
            if head[:2] == ["Class", "Called otherwise"]:
                known.row(miss, *band(row[1]))
                for column, whole in ((2, _sum([hit, miss])), (4, _sum([hit, false]))):
                    if between := re.search(r"([\d.]+) to ([\d.]+)", row[column]):
                        known.ratio(hit, whole, float(between[1]), float(between[2]))


def band(text: str) -> tuple[float, float]:
    ends = [float(end) for end in text.replace(",", "").split("-")]
    return ends[0], ends[-1]


def numbers(data: bytes) -> set[float]:
    """Every number of a JSON file, keys aside."""
    found: set[float] = set()

    def walk(value: object) -> None:
        if isinstance(value, bool):
            return
        if isinstance(value, int | float):
            found.add(float(value))
        for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(each)

    walk(json.loads(data))
    return found
