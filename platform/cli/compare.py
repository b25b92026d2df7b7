"""``wardround compare``: methods side by side, every cell kept, so that the same command goes on where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.progress import TaskID
from rich.table import Table
from rich.text import Text

from .console import ERR, OUT, bars, one_line, percent, print_json, print_table, size

if TYPE_CHECKING:
    from ...evaluation.comparison import Comparison, Mean, PairedTest, Row
    from ..compare.cells import CellRecord, Failure
    from ..compare.grid import PlannedCell
    from ..compare.runner import Cost


def compare(
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study that every cell is a variation of.")],
    methods: Annotated[str, typer.Option("--methods", metavar="A,B,C", help="Methods, with commas between them.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder, or one to continue.")],
    leave_one_out: Annotated[
        bool, typer.Option("--leave-one-out", help="Leave out each site in turn, not the unseen site alone.")
    ] = False,
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="K", min=1, max=1000, help="Seeds, from the study's own on.")
    ] = 1,
    ablation: Annotated[
        str, typer.Option("--ablation", metavar="NAME", help="Vary one option; a wrong name lists them all.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print what compare.json holds.")] = False,
) -> None:
    """Compare methods on one study, and write tables and a page; the same command again continues.

    Example: wardround compare study.toml --methods zero-shot,local-only,fedclip,facmic --seeds 3 --out comparison
    """
    import json
    import os

    from ...evaluation.report_json import to_json
    from ..compare.grid import Request, parse_methods
    from ..compare.runner import compare as run_grid
    from ..errors import RunFolderError
    from ..study_file import load_study
    from .app import DEBUG_VARIABLE

    request = Request(load_study(study), study, parse_methods(methods), ablation, seeds, leave_one_out)
    with GridBars() as watcher:
        try:
            comparison = run_grid(request, out, watcher, debug=os.environ.get(DEBUG_VARIABLE) == "1")
        except OSError as error:
            raise RunFolderError(
                f"the comparison stopped: {error.strerror or type(error).__name__}",
                where=str(error.filename or out),
                remedy="Check rights and free space, then give the same command again; finished cells are kept",
            ) from error
    if as_json:
        print_json(json.loads(to_json(comparison)))
    else:
        _print(comparison, out)
    if comparison.failed:
        for cell in comparison.failed:
            ERR.print(Text("failed: ", style="bold red").append(one_line(f"{cell.identifier}: {cell.reason}")))
        ERR.print("The same command tries failed cells again.")
        raise typer.Exit(1)


class GridBars:
    """Draws a grid on standard error: a bar over cells, one within the cell, a line for each that ended."""

    def __init__(self) -> None:
        self.brief = ERR.is_terminal
        self._progress = bars()
        self._grid: TaskID | None = None
        self._cell: TaskID | None = None
        self._place = ""
        self._told: set[str] = set()

    def __enter__(self) -> GridBars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def planned(self, cost: Cost) -> None:
        """Say what it will take before anything runs; no time is made up."""
        left = cost.cells - cost.finished
        ERR.print(
            f"{_count(cost.cells, 'cell')}, {cost.finished} finished already; {_count(cost.rounds, 'round')} to run"
        )
        if cost.seconds is not None:
            about = "" if not cost.unknown else f", for {left - cost.unknown} of {_count(left, 'cell')} to run"
            ERR.print(f"about {_time(cost.seconds)}, judging by finished cells{about}")
        self._grid = self._progress.add_task("cells", total=left, extra="")

    def cell_begins(self, cell: PlannedCell, number: int, total: int) -> None:
        """Name the cell."""
        self._place = f"{number}/{total} {cell.key.words}"
        if self._grid is not None:
            self._progress.update(self._grid, extra=cell.key.words)

    def cell_ended(self, cell: PlannedCell, outcome: CellRecord | Failure) -> None:
        """A line for the cell, with its two scores or its reason."""
        from ..compare.cells import CellRecord
        from ..compare.table import mean_over_sites

        if isinstance(outcome, CellRecord):
            result = outcome.result
            own, away = (mean_over_sites(sites, "balanced_accuracy") for sites in (result.sites, result.unseen))
            said = f"{_time(result.seconds)}, balanced accuracy {percent(own)} %, left-out site {percent(away)} %"
            ERR.print(Text(f"  {self._place}: {said}"))
        else:
            ERR.print(Text(f"  {self._place}: ").append("failed: ", style="bold red").append(one_line(outcome.what)))
            for words in filter(None, (outcome.where, outcome.remedy)):
                ERR.print(Text(f"    {one_line(words)}"))  # on the terminal alone: neither is written down
        if self._grid is not None:
            self._progress.advance(self._grid)

    def stage(self, title: str) -> None:
        """What the cell is at."""
        if self._cell is not None:
            self._progress.remove_task(self._cell)
        self._cell = self._progress.add_task(f"  {title}", total=None, extra="")
        if self._grid is None and not ERR.is_terminal:
            ERR.print(Text(f"· {title}"))

    def progress(self, done: int, total: int, unit: str, rate: float | None = None) -> None:
        """Move the cell's bar."""
        if self._cell is not None:
            self._progress.update(
                self._cell, completed=done, total=total, extra=f"{unit} · {rate:.0f}/s" if rate else unit
            )

    def round_done(self, record: Mapping[str, Any], total: int) -> None:
        """Move the cell's bar."""
        if self._cell is not None:
            self._progress.update(self._cell, completed=record["round"], total=total, extra="rounds")

    def note(self, text: str) -> None:
        """A line above the bars; what every cell says is said once."""
        if text not in self._told and not text.startswith("threshold "):  # as in every comparison of these sites
            self._told.add(text)
            ERR.print(Text("note: ", style="bold yellow").append(one_line(text), style="default"))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _print(comparison: Comparison, out: Path) -> None:
    from ...evaluation.comparison_words import adapter_note, pixel_notes, reading

    print_table(comparison_table(comparison))
    for score in comparison.scores:
        counts = {test.n_images for test in comparison.tests if test.score == score}
        if counts:
            OUT.print(
                f"{score}: the column is a mean over sites, and differences are over all test images together, "
                f"{max(counts)} of them at most."
            )
    for line in (*pixel_notes(comparison), *adapter_note(comparison), *comparison.notes, *reading(comparison)):
        OUT.print(Text(line))
    if comparison.synthetic:
        OUT.print("Every image is a synthetic phantom: the figures say nothing about patients.")
    OUT.print(f"Page: {out / 'index.html'}")


def comparison_table(comparison: Comparison) -> Table:
    """A row a method and variant: balanced accuracy of each score, one test, cost.

    The test is that against an ablation's first variant, else against the best baseline; sentences tell of the others.
    """
    from ...evaluation.comparison_tables import DAGGER

    ablation = f" · {comparison.ablation}" if comparison.ablation else ""
    heading = f"{comparison.study}{ablation} · balanced accuracy in %, ± standard deviation over seeds"
    table = Table(title=heading, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("method", no_wrap=True)
    if comparison.ablation:
        table.add_column(comparison.ablation, no_wrap=True)
    for score in comparison.scores:
        table.add_column(score, justify="right", no_wrap=True, style="bold" if score == "generalisation" else None)
    main = "generalisation" if "generalisation" in comparison.scores else "personalisation"
    tested = [test for test in comparison.tests if test.score == main and test.against in ("variant", "baseline")]
    if tested:
        table.add_column(f"{main[:3]}. against", no_wrap=True)
        table.add_column("p, Holm", justify="right", no_wrap=True)
    for name in ("bytes/site/round", "FedAvg/own", "seconds", "rounds", "seeds", "cells"):
        if name != "FedAvg/own" or any(row.bytes_ratio is not None for row in comparison.rows):
            table.add_column(name, justify="right", no_wrap=True)
    for row in comparison.rows:
        own = {t.against: t for t in tested if (t.method, t.variant) == (row.method, row.variant)}
        test = own.get("variant") or own.get("baseline")
        cells = f"{row.finished}" if row.finished == row.cells else f"{row.finished} of {row.cells}"
        table.add_row(
            row.method + (DAGGER if row.limits else ""),
            *([row.variant] if comparison.ablation else []),
            *(_share(row.figures(score).balanced_accuracy) for score in comparison.scores),
            *(_tested(comparison, test) if tested else ()),
            "–" if row.bytes_per_site_round is None else size(round(row.bytes_per_site_round)),
            *_ratio(comparison, row),
            "–" if row.seconds is None else f"{row.seconds:.1f}",
            "–" if row.rounds is None else str(row.rounds),
            str(row.seeds),
            cells,
        )
    return table


def _share(value: Mean) -> str:
    return percent(value.mean) + ("" if value.sd is None else f" ± {100 * value.sd:.1f}")


def _tested(comparison: Comparison, test: PairedTest | None) -> tuple[str, str]:
    if test is None or test.difference is None:
        return "–", "–"
    against = test.rival if test.against == "baseline" else f"{comparison.ablation} {test.rival_variant}"
    p = "–" if test.p_holm is None else "<0.001" if test.p_holm < 0.001 else f"{test.p_holm:.3f}"
    return f"{against} {100 * test.difference:+.1f}", p if test.low is not None else test.note


def _ratio(comparison: Comparison, row: Row) -> tuple[str, ...]:
    if all(other.bytes_ratio is None for other in comparison.rows):
        return ()
    return ("–" if row.bytes_ratio is None else f"{row.bytes_ratio:,.1f}",)
