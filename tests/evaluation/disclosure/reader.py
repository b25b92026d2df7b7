"""What a reader finds in the files of a deployed coordinator, as lines (table, row, column, lowest, highest).

Every file is read on its own: CSV, JSON, both pages (tables, cards and the words that describe figures), summary and
rounds. Nothing of the package is used but the text that it wrote.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import Any

Line = tuple[str, str, str, float, float]
BEFORE = "reliability before the temperature"
HALF_WIDEST = 0.105
"""A number of summary.json is the middle of a range of at most 0.2, rounded to 0.01."""


def lines_of(files: Mapping[str, bytes]) -> list[Line]:
    """Everything, of all files."""
    report = json.loads(files["coordinator/report.json"])
    clinical = {label["clinical_name"]: label["name"] for label in report["facts"]["classes"]}
    return [
        *csv_lines(files["coordinator/report.csv"].decode()),
        *json_lines(report),
        *page_lines(files["coordinator/report.html"].decode(), clinical),
        *page_lines(files["index.html"].decode(), clinical),
        *summary_lines(json.loads(files["summary.json"])),
        *rounds_lines(files["rounds.jsonl"]),
    ]


def csv_lines(text: str) -> Iterator[Line]:
    for table, row, column, low, high, *_ in list(csv.reader(io.StringIO(text)))[1:]:
        if low != "" and table != "withheld":
            yield table, row, column, float(low), float(high)


def json_lines(report: Mapping[str, Any]) -> Iterator[Line]:
    names = [label["name"] for label in report["facts"]["classes"]]

    def line(table: str, row: str, column: str, band: Mapping[str, float]) -> Line:
        return table, row, column, float(band["low"]), float(band["high"])

    if report["temperature"] is not None:
        yield "figures", "temperature", "", report["temperature"], report["temperature"]
    for i, bands in enumerate(report["confusion"] or ()):
        yield from (line("confusion", names[i], names[j], band) for j, band in enumerate(bands))
    if report["margins"] is not None:
        yield line("margins", "all", "wrong", report["margins"]["wrong"])
        for part in ("missed", "false"):
            yield from (line("margins", names[k], part, band) for k, band in enumerate(report["margins"][part]))
    for table, rows in (("reliability", report["reliability"]), (BEFORE, report["raw_reliability"])):
        for row in rows:
            name = f"{row['low']:.1f} to {row['high']:.1f}"
            yield from (line(table, name, part, row[part]) for part in ("right", "wrong"))
            if row["mean_confidence"] is not None:
                yield table, name, "mean confidence", row["mean_confidence"], row["mean_confidence"]
    for key, name in (
        ("brier", "Brier score"),
        ("raw_brier", "Brier score before the temperature"),
        ("macro_auroc", "macro AUROC"),
    ):
        if report[key] is not None:
            yield line("figures", name, "", report[key])
    for row in report["decisions"]:
        for part in ("true", "false"):
            table = f"decisions at {row['threshold']:.3g}"
            yield from (line(table, names[k], part, band) for k, band in enumerate(row[part]))
    for given in report["subgroups"]:
        for row in given["rows"]:
            where = f"subgroups by {given['column']}", row["level"]
            for part in ("right", "wrong"):
                yield from (line(*where, f"{names[k]}, {part}", band) for k, band in enumerate(row[part]))
                yield line(*where, f"all, {part}", row[f"all_{part}"])


class _Page(HTMLParser):
    """Tables with the label of their region and their caption, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[tuple[str, str, list[list[str]]]] = []
        self.text: list[str] = []
        self._label, self._into = "", ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("role") == "region":
            self._label = given.get("aria-label") or ""
        if tag == "table":
            self.tables.append((self._label, "", []))
        elif tag == "tr":
            self.tables[-1][2].append([])
        elif tag in ("td", "th"):
            self.tables[-1][2][-1].append("")
            self._into = "cell"
        elif tag == "caption":
            self._into = "caption"
        elif tag == "small" and self._into == "cell":
            self.tables[-1][2][-1][-1] += " | "

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "caption"):
            self._into = ""

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self._into == "cell":
            self.tables[-1][2][-1][-1] += data
        elif self._into == "caption":
            label, caption, rows = self.tables[-1]
            self.tables[-1] = label, caption + data, rows


def page_lines(page: str, clinical: Mapping[str, str]) -> Iterator[Line]:
    """What tables, cards and descriptions of a page say; counts as bands, rates to two decimals."""
    found = _Page()
    found.feed(page)
    text = " ".join(" ".join(found.text).split())
    cards = {"Balanced accuracy, all sites": "balanced accuracy", "Macro AUROC": "macro AUROC"}
    for label, name in (cards | {"Calibration error": "calibration error"}).items():
        if said := re.search(rf"{label} (?:[\d.]+|too few) between ([\d.]+) and ([\d.]+)", text):
            yield "figures", name, "", float(said[1]), float(said[2])
    if said := re.search(r"Test images ([\d,]+(?:-[\d,]+)?) ", text):
        yield "figures", "images", "", *band(said[1])
    if said := re.search(r"Confusion matrix, in bands\. ([^.]*)\.", text):
        for row in said[1].split("; "):
            truth, cells = row.split(": ", 1)
            for cell in re.findall(r"([\d,]+(?:-[\d,]+)?) called ([^,]+)", cells):
                yield "confusion", clinical[truth], clinical[cell[1]], *band(cell[0])
    for label, caption, (head, *rows) in found.tables:
        for row in rows:
            yield from _row(label, caption, head, row, clinical)


def _row(label: str, caption: str, head: list[str], row: list[str], clinical: Mapping[str, str]) -> Iterator[Line]:
    name = row[0].split(" | ")[0]
    if head[0] == "Class" and name in clinical:
        k = clinical[name]
        if head[1] == "Images of it":
            yield "classes", k, "n", *band(row[1])
            yield "classes", k, "called", *band(row[2])
        elif head[1] == "Called otherwise":
            yield "margins", k, "missed", *band(row[1])
            for column, cell in zip(("sensitivity", "specificity", "ppv", "npv", "f1"), row[2:], strict=True):
                yield from _between("classes", k, column, cell)
        elif head[1] == "Rightly acted on":
            table = f"decisions at {float(re.findall(r'[0-9]+', label)[0]) / 100:.3g}"
            yield table, k, "true", *band(row[1])
            yield table, k, "false", *band(row[2])
            yield table, k, "missed", *band(row[3])
            yield from _between(table, k, "net benefit", row[4])
            yield from _between(table, k, "net benefit of everybody", row[5])
    elif head[:2] == ["Confidence", "Images"]:
        table = BEFORE if "Before the temperature" in caption else "reliability"
        yield table, name, "right", *band(row[2])
        yield table, name, "wrong", *band(row[3])
        if head[4] == "Mean confidence" and row[4][0].isdigit():
            yield table, name, "mean confidence", float(row[4]), float(row[4])
    elif head[0] == "Confidence at least":
        choice = "answers from " + ("0.0" if name == "all" else name)
        yield "abstention", choice, "answered", *band(row[2])
        yield "abstention", choice, "wrong", *band(row[3])
        yield from _between("abstention", choice, "coverage", row[1])
        yield from _between("abstention", choice, "risk", row[4])
    elif head[0] == "Figure":
        for title, cell in zip(head[1:], row[1:], strict=True):
            figure = name[0].lower() + name[1:] if name.split()[0] in ("Accuracy", "Balanced", "Calibration") else name
            figure = {"Macro F1": "macro F1", "Macro AUROC": "macro AUROC"}.get(figure, figure)
            suffix = " before the temperature" if title == "Before the temperature" else ""
            yield from _between("figures", figure + suffix, "", cell)
    elif head[1:3] == ["Images", "Accuracy"]:
        table = f"subgroups by {label.removeprefix('Subgroups by ')}"
        for title, cell in zip(head[3:], row[3:], strict=True):
            yield table, name, f"{clinical[title]}, right", *band(cell.split(" of ")[0])


def _between(table: str, row: str, column: str, cell: str) -> Iterator[Line]:
    if said := re.search(r"(\N{MINUS SIGN}?[\d.]+) to (\N{MINUS SIGN}?[\d.]+)", cell):
        low, high = (float(value.replace("\N{MINUS SIGN}", "-")) for value in said.groups())
        yield table, row, column, low, high


def band(text: str) -> tuple[float, float]:
    ends = [float(end) for end in text.replace(",", "").split("-")]
    return ends[0], ends[-1]


def summary_lines(summary: Mapping[str, Any]) -> Iterator[Line]:
    """The middles, with how far the figure may be from them; figures of sites must not be there."""
    assert summary["simulation"] is False
    names = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}
    names |= {"macro_auroc": "macro AUROC", "ece": "calibration error", "brier": "Brier score"}
    for key, name in names.items():
        value = summary["global"][key]
        if value is not None:
            yield "figures", name, "", max(0.0, value - HALF_WIDEST), value + HALF_WIDEST
    assert {summary["global"][key] for key in ("n", "nll", "classwise_ece")} == {None}
    figures = [*summary["sites"].values(), *summary["unseen"].values()]
    for each in summary["baselines"].values():
        figures += [each["global"], *each["sites"].values(), *each["unseen"].values()]
    public = {"epsilon", "delta", "bytes_sent", "train_n"}
    assert {value for each in figures for key, value in each.items() if key not in public} <= {None}


def rounds_lines(data: bytes) -> Iterator[Line]:
    """Rounds tell of the protocol and of no image: there is no line."""
    protocol = {"round", "attempt", "released", "reason", "participants", "dropped", "seconds", "waited"}
    for text in data.decode().splitlines():
        record = json.loads(text)
        known = {key for key, value in record.items() if value is not None}
        assert known <= protocol | {"bytes_up", "bytes_down"}
    yield from ()


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
