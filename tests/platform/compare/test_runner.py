"""A grid that really runs: kept cells, interrupted cells, failed cells, and folders that are not its own."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from wardround.evaluation.comparison import Comparison
from wardround.platform.audit.sources import find_sources
from wardround.platform.audit.verification import audit
from wardround.platform.compare import runner
from wardround.platform.compare.cells import CellRecord, Failure
from wardround.platform.compare.cohort_cache import CohortCache
from wardround.platform.compare.grid import PlannedCell, Request
from wardround.platform.compare.runner import Cost, check_folder, compare, cost_of
from wardround.platform.errors import MethodError, RunFolderError
from wardround.platform.run_folder import RunFolder
from wardround.platform.study_file import parse_study
from wardround.platform.study_parts import study_backbone
from wardround.platform.watching import Silent

FILE = Path("/study.toml")
CELL = "prompt-fl__seed-0__out-harbour"


class Watch(Silent):
    """Remembers what it is told; stops the process, as Ctrl-C does, after a round."""

    def __init__(self, stop_after: int = 0) -> None:
        self.stop_after = stop_after
        self.costs: list[Cost] = []
        self.ran: list[str] = []
        self.notes: list[str] = []
        self.failures: list[Failure] = []

    def planned(self, cost: Cost) -> None:
        self.costs.append(cost)

    def cell_begins(self, cell: PlannedCell, number: int, total: int) -> None:
        self.ran.append(cell.key.identifier)

    def cell_ended(self, cell: PlannedCell, outcome: CellRecord | Failure) -> None:
        if isinstance(outcome, Failure):
            self.failures.append(outcome)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def round_done(self, record: Mapping[str, Any], total: int) -> None:
        if record["round"] == self.stop_after:
            raise KeyboardInterrupt


def request_of(*methods: str, **changes: Any) -> Request:
    values = {
        "name": "tiny",
        "rounds": 2,
        "data": {"dataset": "brain-mri", "source": "phantoms", "images_per_site": 24, "split": (0.6, 0.2, 0.2)},
    }
    return Request(parse_study({**values, **changes}, where=FILE), FILE, methods)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", autouse=True)
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The same backbone and pictures for all tests here: loading and drawing them is tested elsewhere."""
    backbone, cohorts = study_backbone(request_of().study), CohortCache(tmp_path_factory.mktemp("phantoms"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "study_backbone", lambda study: backbone)
        patch.setattr(runner, "CohortCache", lambda folder: cohorts)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, Comparison, Watch]:
    """Two methods that ran undisturbed."""
    out, watch = tmp_path_factory.mktemp("finished") / "out", Watch()
    comparison = compare(request_of("zero-shot", "prompt-fl"), out, watch, cache=cache)
    return out, comparison, watch


def content(out: Path, cell: str = CELL) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "cells" / cell / "cell.json").read_bytes())
    return found


def test_every_cell_is_run_and_kept(finished: tuple[Path, Comparison, Watch]) -> None:
    out, comparison, watch = finished
    assert watch.ran == ["zero-shot__seed-0__out-harbour", CELL]
    assert watch.costs == [Cost(cells=2, finished=0, rounds=2, seconds=None, unknown=2)]
    assert comparison.failed == ()
    assert {path.name for path in out.iterdir()} == {
        "cells", "compare.csv", "compare.json", "index.html", "lock", "plan.json",
    }  # fmt: skip
    result = content(out)["result"]
    assert [point["round"] for point in result["curve"]] == [1, 2]
    assert 1000 < result["traffic"]["up_per_site_round"] < 100_000
    names = {path.name for path in (out / "cells" / CELL / "run").rglob("*") if path.is_file()}
    kept = {name for name in names if not re.fullmatch(r"[0-9]{12}\.tlog-proof|[0-9a-f]{64}\.json", name)}
    assert kept == {"study.toml", "rounds.jsonl", "ledger.jsonl", "latest.txt"}
    assert len(names) > len(kept)
    assert audit(find_sources([out / "cells" / CELL / "run" / "sites"]), {}).ok
    assert not (out / "cells" / "zero-shot__seed-0__out-harbour" / "run").exists()


def test_the_second_time_nothing_runs_and_the_pages_are_the_same(
    finished: tuple[Path, Comparison, Watch], cache: Path
) -> None:
    out, comparison, _ = finished
    before = {name: (out / name).read_bytes() for name in ("compare.json", "compare.csv", "index.html")}
    watch = Watch()
    assert compare(request_of("zero-shot", "prompt-fl"), out, watch, cache=cache) == comparison
    assert watch.ran == []
    assert watch.costs == [Cost(cells=2, finished=2, rounds=0, seconds=None, unknown=0)]
    assert {name: (out / name).read_bytes() for name in before} == before


def test_an_interrupted_cell_goes_on_and_ends_as_if_untouched(
    finished: tuple[Path, Comparison, Watch], cache: Path, tmp_path: Path
) -> None:
    out, stop = tmp_path / "out", Watch(stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        compare(request_of("prompt-fl"), out, stop, cache=cache)
    assert not (out / "cells" / CELL / "cell.json").exists()
    assert len(RunFolder(out / "cells" / CELL / "run").read_rounds()) == 1
    watch = Watch()
    compare(request_of("prompt-fl"), out, watch, cache=cache)
    assert "going on after round 1 of 2" in watch.notes
    again, whole = content(out)["result"], content(finished[0])["result"]
    assert {**again, "seconds": 0, "traffic": 0} == {**whole, "seconds": 0, "traffic": 0}
    assert again["traffic"]["parameters"] == whole["traffic"]["parameters"]
    assert not (out / "cells" / CELL / "run" / "homes").exists()


def test_a_process_killed_before_it_had_deleted_the_keys(finished: tuple[Path, Comparison, Watch], cache: Path) -> None:
    out = finished[0]
    left = out / "cells" / CELL / "run" / "homes" / "amber"
    left.mkdir(parents=True)
    (left / "identity.pem").write_text("secret")
    half = out / "cells" / CELL / ".cell.json.0123456789ab.tmp"
    half.write_text("half")
    compare(request_of("zero-shot", "prompt-fl"), out, Watch(), cache=cache)
    assert not left.exists()
    assert not half.exists()


def test_cells_of_other_code_are_kept_and_said(
    finished: tuple[Path, Comparison, Watch], cache: Path, tmp_path: Path
) -> None:
    assert len(content(finished[0])["code"]) == 64
    assert {cell.code for cell in finished[1].cells} == {content(finished[0])["code"]}
    out, watch = tmp_path / "out", Watch()
    shutil.copytree(finished[0], out)
    for cell, code in ((CELL, "00" * 32), ("zero-shot__seed-0__out-harbour", None)):
        values = content(out, cell)
        del values["code"]
        path = out / "cells" / cell / "cell.json"
        path.write_text(json.dumps(values if code is None else {**values, "code": code}))
    compare(request_of("zero-shot", "prompt-fl"), out, watch, cache=cache)
    assert watch.ran == []
    assert any("1 by other code and 1 by unknown code" in note for note in watch.notes)
    assert "come from different code" in (out / "index.html").read_text()


def test_cells_of_another_study_are_refused(finished: tuple[Path, Comparison, Watch], cache: Path) -> None:
    watch = Watch()
    with pytest.raises(RunFolderError, match="another study; different: rounds"):
        compare(request_of("prompt-fl", rounds=3), finished[0], watch, cache=cache)
    assert watch.ran == []


def test_a_cell_that_fails_is_recorded_and_the_grid_goes_on(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = runner.run_cell

    def failing(study: Any, *rest: Any) -> Any:
        if study.method == "local-only":
            raise MethodError("the training loss is not finite", remedy="Lower training.lr")
        if study.method == "pooled":
            raise RuntimeError("out of memory")
        return real(study, *rest)

    monkeypatch.setattr(runner, "run_cell", failing)
    request, out = request_of("local-only", "pooled", "zero-shot", rounds=1), tmp_path / "out"
    watch = Watch()
    comparison = compare(request, out, watch, cache=cache)
    assert [(cell.method, cell.reason) for cell in comparison.failed] == [
        ("local-only", "MethodError: A method was given options or data that it cannot train with."),
        ("pooled", "RuntimeError: An error inside Wardround, or no memory."),
    ]
    assert [failure.what for failure in watch.failures] == [
        "the training loss is not finite",
        "internal error: RuntimeError: out of memory",
    ]
    for path in out.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".html"):
            assert b"out of memory" not in path.read_bytes(), path
    assert comparison.rows[2].finished == 1
    with pytest.raises(RuntimeError, match="out of memory"):
        compare(request, out, Watch(), cache=cache, debug=True)
    monkeypatch.undo()
    watch = Watch()
    assert compare(request, out, watch, cache=cache).failed == ()
    assert watch.ran == ["local-only__seed-0__out-harbour", "pooled__seed-0__out-harbour"]
    assert list(out.rglob("failed.json")) == []


def test_two_processes_cannot_work_on_one_comparison(finished: tuple[Path, Comparison, Watch], cache: Path) -> None:
    with RunFolder(finished[0]).locked(), pytest.raises(RunFolderError, match="another process"):
        compare(request_of("zero-shot"), finished[0], Watch(), cache=cache)


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    check_folder(tmp_path)
    check_folder(tmp_path / "new")
    (tmp_path / "lock").write_text("")
    check_folder(tmp_path)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RunFolderError, match="not empty"):
        check_folder(tmp_path)
    (tmp_path / "study.toml").write_text("")
    with pytest.raises(RunFolderError, match="holds a run"):
        check_folder(tmp_path)
    with pytest.raises(RunFolderError, match="file"):
        check_folder(tmp_path / "letter.txt" / "out")
    with pytest.raises(RunFolderError):
        check_folder(tmp_path / "letter.txt")


def test_time_is_judged_by_finished_cells_of_the_same_method_alone(
    request_of: Any, record_of: Any, cells_of: Any
) -> None:
    cells = cells_of(request_of("zero-shot", "facmic", "lora", seeds=2))
    done = {cell.key.identifier: record_of(cell) for cell in cells if cell.key.seed == 0 and cell.key.method != "lora"}
    # zero-shot: 2 s a cell; facmic: 2 s for 3 rounds; nothing is known of LoRA.
    assert cost_of(cells, done) == Cost(cells=5, finished=2, rounds=6, seconds=pytest.approx(4.0), unknown=1)
    assert replace(cost_of(cells, {}), rounds=0) == Cost(cells=5, finished=0, rounds=0, seconds=None, unknown=5)
