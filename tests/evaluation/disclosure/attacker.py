"""A reader who wants to know small counts: takes all lines of `reader`, and solves for every count that is under 11.

Nothing of the package's own solver is used: constraints are written down anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix

from .reader import BEFORE, Line, csv_lines

LARGE = 10**5


@dataclass
class Knowledge:
    """Unknown counts by name, and rows: factors, least, most."""

    low: dict[tuple, float] = field(default_factory=dict)
    high: dict[tuple, float] = field(default_factory=dict)
    rows: list[tuple[dict[tuple, float], float, float]] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def between(self, name: tuple, low: float, high: float) -> None:
        self.low[name] = max(self.low.get(name, 0.0), low)
        self.high[name] = min(self.high.get(name, float(LARGE)), high)

    def row(self, terms: Mapping[tuple, float], least: float, most: float) -> None:
        self.rows.append((dict(terms), least, most))

    def alias(self, name: tuple, terms: Mapping[tuple, float], low: float = 0.0) -> None:
        """A name for a sum, so that it is asked for too."""
        self.low[name], self.high[name] = low, float(LARGE)
        self.row({**terms, name: -1.0}, 0, 0)

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
                if len(seen[name]) == 1 and 1 <= abs(min(seen[name])) <= 10:
                    self._see(seen, {name: 1.0}, sign)
        return [name for name, values in seen.items() if len(values) == 1 and 1 <= abs(min(values)) <= 10]

    def _see(self, seen: dict[tuple, set[int]], goal: Mapping[tuple, float], sign: float) -> None:
        found = self.solve(goal, sign)
        assert found is not None, "the attacker's constraints exclude the truth"
        for name, values in seen.items():
            values.add(found[name])


def read_csv(text: str) -> Knowledge:
    """What a CSV says alone."""
    return read(csv_lines(text))


def read(lines: Iterable[Line]) -> Knowledge:
    """All that the lines say, with every link between tables that an attacker can think of."""
    known = Knowledge(lines=list(dict.fromkeys(lines)))
    known.classes = list(dict.fromkeys(row[1] for row in known.lines if row[0] == "confusion"))
    names = known.classes
    cells = {(i, j): ("cell", i, j) for i in names for j in names}
    for table, row, column, low, high in known.lines:
        if table == "confusion":
            known.between(cells[row, column], low, high)
        elif table in PARTS and column != "mean confidence":
            known.between((PARTS[table] + column, row), low, high)
        elif table.startswith("subgroups") and not column.startswith("all"):
            known.between((table, row, *column.rsplit(", ", 1)), low, high)
        elif table.startswith("decisions") and column in ("true", "false"):
            known.between((column, float(table.split()[-1]), row), low, high)
    hit = {k: {cells[k, k]: 1.0} for k in names}
    miss = {k: {cells[k, j]: 1.0 for j in names if j != k} for k in names}
    false = {k: {cells[i, k]: 1.0 for i in names if i != k} for k in names}
    every = dict.fromkeys(cells.values(), 1.0)
    right, wrong = _sum(hit.values()), _sum(miss.values())
    means: dict[str, float] = {}
    for table, row, column, low, high in known.lines:
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
        elif table == "abstention":
            _answers(known, float(row.split()[-1]), column, low, high)
        elif table.startswith("decisions"):
            _benefit(known, float(table.split()[-1]), row, column, low, high, hit, miss, every)
        elif table.startswith("subgroups") and column.startswith("all"):
            known.row(
                {name: 1.0 for name in known.low if name[:2] == (table, row) and name[3] == column[5:]}, low, high
            )
    for part, whole in product(PARTS.values(), ("right", "wrong")):
        if bins := _bins(known, part + whole):
            known.row(_less(bins, right if whole == "right" else wrong), 0, 0)
    for table in {name[0] for name in known.low if str(name[0]).startswith("subgroups")}:
        for k, part in product(names, ("right", "wrong")):
            levels = {name: 1.0 for name in known.low if name[0] == table and name[2:] == (k, part)}
            known.row(_less(levels, (hit if part == "right" else miss)[k]), 0, 0)
    _decisions(known, hit, miss, false)
    _temperature(known)
    _calibration(known, "calibration error", "", means, every)
    _calibration(known, "calibration error before the temperature", PARTS[BEFORE], {}, every)
    for k in names:
        known.alias(("sum", "class", k), _sum([hit[k], miss[k]]))
        known.alias(("sum", "missed", k), miss[k])
        known.alias(("sum", "false", k), false[k])
    known.alias(("sum", "right"), right)
    known.alias(("sum", "wrong"), wrong)
    return known


PARTS = {"reliability": "", BEFORE: "raw "}


def _bins(known: Knowledge, part: str, least: float = 0.0) -> dict[tuple, float]:
    """Images of a reliability table from an edge on."""
    return {n: 1.0 for n in known.low if n[0] == part and float(str(n[1]).split()[0]) >= least - 1e-9}


def _answers(known: Knowledge, edge: float, column: str, low: float, high: float) -> None:
    hits, misses = _bins(known, "right", edge), _bins(known, "wrong", edge)
    if not hits:
        return
    if column in ("answered", "wrong"):
        known.row(misses if column == "wrong" else hits | misses, low, high)
    elif column == "coverage":
        known.ratio(hits | misses, _bins(known, "right") | _bins(known, "wrong"), low, high)
    else:
        known.ratio(misses, hits | misses, low, high)


def _benefit(
    known: Knowledge, t: float, k: str, column: str, low: float, high: float, hit: dict, miss: dict, every: dict
) -> None:
    of_class, true, false = _sum([hit[k], miss[k]]), {("true", t, k): 1.0}, {("false", t, k): t / (1.0 - t)}
    if column == "missed":
        known.row(_less(of_class, true), low, high)
    elif column.startswith("net"):
        everybody = _less(of_class, {name: value * t / (1.0 - t) for name, value in _less(every, of_class).items()})
        part = _less(true, false) if column == "net benefit" else everybody
        known.ratio(part, every, low, high)


def _decisions(known: Knowledge, hit: dict, miss: dict, false: dict) -> None:
    """True positives are of the class, false ones are not; both fall with the threshold; the called class is sure."""
    thresholds = sorted({float(name[1]) for name in known.low if name[0] == "true"})
    every = _sum([*hit.values(), *miss.values()])
    for k in known.classes:
        of_class = _sum([hit[k], miss[k]])
        for t in thresholds:
            true, wrongly = {("true", t, k): 1.0}, {("false", t, k): 1.0}
            known.alias(("sum", "not found", t, k), _less(of_class, true))
            known.alias(("sum", "left alone", t, k), _less(_less(every, of_class), wrongly))
            if t > 0.5 - 1e-9:
                known.row(_less(hit[k], true), 0, np.inf)
                known.row(_less(false[k], wrongly), 0, np.inf)
            if t <= 1.0 / len(known.classes) + 1e-9:
                known.row(_less(true, hit[k]), 0, np.inf)
                known.row(_less(wrongly, false[k]), 0, np.inf)
        for low, high in pairwise(thresholds):
            for part in ("true", "false"):
                known.alias(("sum", part, low, high, k), {(part, low, k): 1.0, (part, high, k): -1.0})
    width = 0.2 if len(_bins(known, "right")) == 5 else 0.1
    for t in thresholds:
        if t > 0.5 - 1e-9:
            for part, whole in (("true", "right"), ("false", "wrong")):
                acted = {(part, t, k): 1.0 for k in known.classes}
                known.row(_less(acted, _bins(known, whole, t)), 0, np.inf)  # bins from the threshold on are acted on
                known.row(_less(_bins(known, whole, t - width + 1e-6), acted), 0, np.inf)
        elif len(known.classes) == 2:
            # The other class is acted on where the called one is not too sure.
            for k, other in (known.classes, known.classes[::-1]):
                extra = _less({("true", t, k): 1.0}, hit[k])
                known.row(_less(miss[k], extra), 0, np.inf)
                known.row(_less(hit[other], _less({("false", t, k): 1.0}, false[k])), 0, np.inf)


def _temperature(known: Knowledge) -> None:
    """Confidences before and after a temperature have one order in each image: above an edge stays above another."""
    divisor = [row[3] for row in known.lines if row[:2] == ("figures", "temperature")]
    if not divisor or not _bins(known, "raw right"):
        return
    k = len(known.classes)
    for part, (inner, outer, power) in product(
        ("right", "wrong"), (("", "raw ", divisor[0]), ("raw ", "", 1.0 / divisor[0]))
    ):
        for name in list(_bins(known, inner + part)):
            edge = max(float(str(name[1]).split()[0]), 1.0 / k)
            rests = [np.full(k - 1, (1.0 - edge) / (k - 1))]
            whole = int((1.0 - edge) / edge)
            rests.append(np.array(([edge] * whole + [1.0 - edge * (1 + whole)] + [0.0] * k)[: k - 1]))
            reached = min(edge**power / (edge**power + float((rest**power).sum())) for rest in rests)
            low = _bins(known, inner + part, edge)
            high = {n: 1.0 for n in _bins(known, outer + part) if float(str(n[1]).split()[-1]) > reached + 1e-9}
            known.row(_less(high, low), 0, np.inf)


def _figure(known: Knowledge, row: str, low: float, high: float, every: dict, right: dict, wrong: dict) -> None:
    if row == "images":
        known.row(every, low, high)
    elif row == "accuracy":
        known.ratio(right, every, low, high)
    elif row.startswith("Brier score"):
        # A wrong image has at least 1/2, whatever the other classes get, and at most 2; a right one at most 1.
        known.row(_less(dict.fromkeys(every, high), dict.fromkeys(wrong, 0.5)), -1e-7, np.inf)
        known.row(_less(_sum([dict.fromkeys(wrong, 2.0), right]), dict.fromkeys(every, low)), -1e-7, np.inf)


def _calibration(known: Knowledge, figure: str, prefix: str, means: dict[str, float], every: dict) -> None:
    """The calibration error of the whole is at least what bins must have, and at most its printed bound."""
    bound = [row[4] for row in known.lines if row[:2] == ("figures", figure)]
    rows = [name[1] for name in known.low if name[0] == f"{prefix}right"]
    if not bound or not rows:
        return
    for row in rows:
        low, high = (float(value) for value in row.split(" to "))
        if row in means:
            low, high = max(low, means[row] - 0.005), min(high, means[row] + 0.005)
        gap, right, wrong = (f"{prefix}gap", row, "gap"), (f"{prefix}right", row), (f"{prefix}wrong", row)
        known.between(gap, 0.0, LARGE)
        known.row({gap: 1.0, right: high - 1.0, wrong: high}, -1e-7, np.inf)
        known.row({gap: 1.0, right: 1.0 - low, wrong: -low}, -1e-7, np.inf)
    gaps = {(f"{prefix}gap", row, "gap"): 1.0 for row in rows}
    known.row(_less(dict.fromkeys(every, min(bound)), gaps), -1e-7, np.inf)


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
    shared = [name for name in now.low if name in before.low and "gap" not in name]
    if same_model:
        for name in shared:
            both.row({name: 1.0, ("before", *name): -1.0}, 0, np.inf)
    else:
        for i in now.classes:
            both.row({name: factor for name, factor in change.items() if name[-2] == i}, 0, np.inf)
    for name in shared:
        both.alias(("change", *name), {name: 1.0, ("before", *name): -1.0}, -float(LARGE))
    return both


def brute_force(known: Knowledge) -> dict[tuple, set[int]]:
    """Values of every cell over all matrices that the bands and all printed rates allow, one by one."""
    names = [name for name in known.low if name[0] == "cell"]
    figures: dict[str, tuple[float, float]] = {}
    for table, figure, _, low, high in known.lines:
        if table == "figures":
            ends = figures.get(figure, (0.0, 1.0))
            figures[figure] = max(ends[0], low), min(ends[1], high)
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
        low, high = figures.get("balanced accuracy", (0.0, 1.0))
        if not low - 1e-9 <= float(np.nanmean(recall)) <= high + 1e-9:
            continue
        if k == 2 and "macro AUROC" in figures and (matrix.sum(axis=1) > 0).all():
            # For two classes every positive that is called so has a higher score than a negative that is not.
            least, most = recall.prod(), 1.0 - (1.0 - recall).prod()
            if most < figures["macro AUROC"][0] - 1e-9 or least > figures["macro AUROC"][1] + 1e-9:
                continue
        for name, count in value.items():
            found[name].add(count)
    return found
