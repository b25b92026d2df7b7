"""What a person sees: progress on standard error, results on standard output, errors that name the remedy."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from io import TextIOWrapper
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

OUT = Console(highlight=False, soft_wrap=True)
ERR = Console(stderr=True, highlight=False, soft_wrap=True)


MARKS = {"transductive": "TRANSDUCTIVE", "oracle": "ORACLE", "personal": "sites by their own models"}
"""What a table's title says of a run with one of these marks."""


def tolerate_encoding() -> None:
    """Print what the terminal's character set lacks as an escape, instead of failing at the end of a run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def one_line(text: str) -> str:
    """Text from outside, such as a file's name, without line breaks and terminal commands: each becomes its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


@dataclass(frozen=True, slots=True)
class _Whole:
    """A table that is not squeezed into the terminal."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        needed = Measurement.get(console, options.update(width=1000), self.table).maximum
        yield from console.render(self.table, options.update(width=max(options.max_width, needed)))


def print_table(table: Table) -> None:
    """Print a table at the width that it needs: on a narrow terminal its lines wrap, but no figure is cut off."""
    OUT.print(_Whole(table), crop=False)


def print_json(content: object) -> None:
    """Print JSON for scripts, in ASCII alone, so that no character set can spoil it."""
    OUT.print_json(json.dumps(content, allow_nan=False), ensure_ascii=True)


def show_error(what: str, where: str, remedy: str) -> None:
    """An error in three lines: what was wrong, where, and what to do. Nothing in it is read as markup."""
    for line, first in zip(what.splitlines() or [what], [True] + [False] * what.count("\n"), strict=False):
        ERR.print(Text("error: " if first else "       ", style="bold red").append(one_line(line), style="default"))
    if where:
        ERR.print(Text("where: ", style="bold").append(one_line(where), style="default"))
    for line, first in zip(remedy.splitlines(), [True] + [False] * remedy.count("\n"), strict=False):
        ERR.print(Text("do:    " if first else "       ", style="bold green").append(one_line(line), style="default"))


def percent(value: float | None) -> str:
    """A share as per cent with one decimal, or a dash where it is not known."""
    return "–" if value is None else f"{100 * value:.1f}"


def size(number: int | None) -> str:
    """Bytes in a unit that is easy to read."""
    if number is None:
        return "–"
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= step:
            return f"{number / step:.1f} {unit}"
    return f"{number} B"


def bars() -> Progress:
    """Bars on standard error, each with a field ``extra``; in a log file there are lines instead, so nothing here."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn("{task.fields[extra]}"),
        TimeElapsedColumn(),
        console=ERR,
        disable=not ERR.is_terminal,
    )


class RichWatcher:
    """Draws a run on standard error: a bar per stage, a line per round."""

    def __init__(self) -> None:
        self.brief = ERR.is_terminal
        self._progress = bars()
        self._task: TaskID | None = None
        self._title = ""

    def __enter__(self) -> RichWatcher:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def stage(self, title: str) -> None:
        """Finish the bar before and start the next."""
        self._finish()
        self._title = title
        self._task = self._progress.add_task(title, total=None, extra="")
        if not ERR.is_terminal:
            ERR.print(Text(f"· {title}"))

    def progress(self, done: int, total: int, unit: str, rate: float | None = None) -> None:
        """Move the bar."""
        if self._task is not None:
            extra = f"{unit} · {rate:.0f}/s" if rate else unit
            self._progress.update(self._task, completed=done, total=total, extra=extra)

    def round_done(self, record: Mapping[str, Any], total: int) -> None:
        """Move the bar and show loss and balanced accuracy."""
        loss, figure = record["train_loss"], record["validation"].get("balanced_accuracy")  # away from the sites: none
        parts = [f"loss {loss:.3f}"] if loss is not None else []
        parts += [f"validation balanced accuracy {percent(figure)} %"] if figure is not None else []
        text = " · ".join(parts)
        if self._task is not None:
            self._progress.update(self._task, completed=record["round"], total=total, extra=text)
        if not ERR.is_terminal:
            sites, waited = len(record["participants"]), record.get("waited", 0.0)
            spent = f"{record['seconds']['total'] - waited:.2f} s" + (f" and {waited:.0f} simulated" if waited else "")
            shown = f", {text}" if text else ""
            ERR.print(Text(f"  round {record['round']}/{total}: {sites} sites, {spent}{shown}"))

    def note(self, text: str) -> None:
        """A line above the bars."""
        ERR.print(Text("note: ", style="bold yellow").append(one_line(text), style="default"))

    def _finish(self) -> None:
        if self._task is not None:
            task = self._progress.tasks[self._task]
            total = task.total if task.total is not None else 1
            self._progress.update(self._task, total=total, completed=total)


def summary_table(summary: Mapping[str, Any]) -> Table:
    """The study's table: a row a site, the unseen site, and all training sites together."""
    heading = f"{summary['study']} · {summary['method']} · {summary['rounds']} rounds · balanced accuracy and ECE in %"
    # A summary of an earlier version has no marks.
    marks = [words for key, words in MARKS.items() if summary.get(key)]
    table = Table(
        title=" · ".join([heading, *marks]),
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("site", no_wrap=True)
    for name in ("train", "test", "zero-shot", "local-only", "federated", "ECE", "sent"):
        table.add_column(name, justify="right", no_wrap=True, style="bold" if name == "federated" else None)
    base = summary["baselines"]
    for name, row in summary["sites"].items():
        table.add_row(
            name if row.get("personal", True) or not summary.get("personal") else f"{name} (federation's model)",
            str(row["train_n"]),
            str(row["test_n"]),
            *(_balanced(base[kind]["sites"].get(name)) for kind in ("zero_shot", "local_only")),
            _balanced(row),
            percent(row["ece"]),
            size(row["bytes_sent"]),
        )
    table.add_section()
    for name, row in summary["unseen"].items():
        table.add_row(
            name if name == "unseen" else f"{name} (unseen)",
            "0",
            str(row["n"]),
            *(_balanced(base[kind]["unseen"].get(name)) for kind in ("zero_shot", "local_only")),
            _balanced(row),
            percent(row["ece"]),
            "0 B",
        )
    row = summary["global"]
    table.add_row(
        "all sites",
        str(sum(site["train_n"] for site in summary["sites"].values())),
        str(row["n"]),
        *(_balanced(base[kind]["global"]) for kind in ("zero_shot", "local_only")),
        _balanced(row),
        percent(row["ece"]),
        size(summary["bytes_up"]),
    )
    return table


def _balanced(row: Mapping[str, Any] | None) -> str:
    return "–" if row is None else percent(row["balanced_accuracy"])
