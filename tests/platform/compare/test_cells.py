"""Finished cells on disk: read back as written, and refused where they are damaged or of something else."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wardround import __version__
from wardround.medical_datasets.errors import SplitError
from wardround.platform.compare.cells import CellStore, named
from wardround.platform.compare.grid import PlannedCell, Request, plan_grid
from wardround.platform.compare.source_code import FOLDERS, PACKAGE, source_sha256
from wardround.platform.errors import MethodError, RunFolderError
from wardround.platform.run_folder import RunFolder
from wardround.privacy.errors import HomeError

BACKBONE = "ab" * 32


@pytest.fixture
def cell(request_of: Callable[..., Request]) -> PlannedCell:
    return plan_grid(request_of("facmic"))[0]


def store_at(root: Path, cell: PlannedCell, *, backbone: str = BACKBONE, cohort: str = "cd" * 32) -> CellStore:
    return CellStore(root, backbone, {cell.key.identifier: cohort})


@pytest.fixture
def store(tmp_path: Path, cell: PlannedCell) -> CellStore:
    return store_at(tmp_path, cell)


def test_a_cell_reads_back_as_it_was_written(
    store: CellStore, cell: PlannedCell, result_of: Callable[..., dict[str, Any]]
) -> None:
    assert store.read(cell) is None
    result = result_of(cell, 0.6)
    written = store.write(cell, result)
    again = store.read(cell)
    assert again == written
    assert again is not None
    assert again.wardround == __version__
    assert again.study == cell.study.digest()
    assert again.result.answers.sites["site-1"].labels == tuple(result["answers"]["sites"]["site-1"]["labels"])
    assert again.result.sites == result["sites"]
    data = store.record(cell).read_bytes()
    store.write(cell, result)
    assert store.record(cell).read_bytes() == data
    assert stat.S_IMODE(os.stat(store.record(cell)).st_mode) == 0o600


def test_a_cell_says_what_code_ran_it_and_older_ones_are_read(
    tmp_path: Path, cell: PlannedCell, result_of: Callable[..., dict[str, Any]]
) -> None:
    store = CellStore(tmp_path, BACKBONE, {cell.key.identifier: "cd" * 32}, "ef" * 32)
    assert store.write(cell, result_of(cell, 0.6)).code == "ef" * 32
    content = json.loads(store.record(cell).read_bytes())
    del content["code"]
    store.record(cell).write_text(json.dumps(content))
    again = store.read(cell)
    assert again is not None
    assert again.code == ""


def test_the_hash_of_the_code_is_of_python_files_of_the_package_alone(tmp_path: Path) -> None:
    for name in ("__init__.py", "platform/a.py", "tests/test_a.py", "platform/note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    first = source_sha256(tmp_path)
    assert len(first) == 64
    for name in ("tests/test_a.py", "platform/note.txt"):
        (tmp_path / name).write_text("other")
        assert source_sha256(tmp_path) == first
    (tmp_path / "platform" / "a.py").rename(tmp_path / "platform" / "b.py")
    moved = source_sha256(tmp_path)
    (tmp_path / "platform" / "b.py").write_text("other")
    assert len({first, moved, source_sha256(tmp_path)}) == 3
    assert {PACKAGE / folder for folder in FOLDERS} <= set(PACKAGE.iterdir())


@pytest.mark.parametrize("spoil", [b"", b"{}", b"not json", b"\xff\xfe"])
def test_a_damaged_cell_is_named(
    store: CellStore, cell: PlannedCell, result_of: Callable[..., dict[str, Any]], spoil: bytes
) -> None:
    store.write(cell, result_of(cell, 0.6))
    store.record(cell).write_bytes(spoil)
    with pytest.raises(RunFolderError, match="damaged") as caught:
        store.read(cell)
    assert caught.value.where == str(store.record(cell))
    assert "delete the cell's folder" in caught.value.remedy


def test_a_cell_of_something_else_is_refused_by_name(
    tmp_path: Path,
    store: CellStore,
    cell: PlannedCell,
    result_of: Callable[..., dict[str, Any]],
    request_of: Callable[..., Request],
) -> None:
    store.write(cell, result_of(cell, 0.6))
    others: list[tuple[dict[str, Any], str]] = [
        ({"rounds": 4}, "different: rounds"),
        ({"training": {"lr": 0.1}, "facmic": {"depth": 8}}, "different: facmic.depth, training.lr"),
        ({"faults": {"lying_coordinator": [{"round": 1, "lie": "two-adapters"}]}}, "different: faults.lying"),
    ]
    for changes, said in others:
        (other,) = plan_grid(request_of("facmic", changes=changes))
        with pytest.raises(RunFolderError, match=said) as caught:
            store.read(other)
        assert "facmic, seed 0" in caught.value.what
    # Options of other methods and what this machine is patient with change nothing.
    (same,) = plan_grid(request_of("facmic", changes={"fedavg": {"lr": 0.5}, "retries": 9}))
    assert store.read(same) is not None
    with pytest.raises(RunFolderError, match="another backbone"):
        store_at(tmp_path, cell, backbone="00" * 32).read(cell)
    with pytest.raises(RunFolderError, match="another list of images"):
        store_at(tmp_path, cell, cohort="00" * 32).read(cell)
    content = json.loads(store.record(cell).read_bytes())
    store.record(cell).write_text(json.dumps({**content, "schema": 2}))
    with pytest.raises(RunFolderError, match="layout 2"):
        store.read(cell)


def test_a_half_run_cell_of_another_study_is_refused(
    store: CellStore, cell: PlannedCell, request_of: Callable[..., Request]
) -> None:
    store.folder(cell).mkdir(parents=True)
    RunFolder.create(store.run(cell).root, cell.study)
    assert store.read(cell) is None
    (other,) = plan_grid(request_of("facmic", changes={"rounds": 9}))
    with pytest.raises(RunFolderError, match="rounds"):
        store.read(other)


def test_a_finished_cell_keeps_what_an_auditor_asks_for_and_no_keys(
    store: CellStore, cell: PlannedCell, result_of: Callable[..., dict[str, Any]]
) -> None:
    store.folder(cell).mkdir(parents=True)
    run = RunFolder.create(store.run(cell).root, cell.study)
    for name in (
        "rounds.jsonl",
        "lock",
        "coordinator/ledger.jsonl",
        "coordinator/policy.toml",
        "coordinator/checkpoint/round-00001.safetensors",
        "sites/a/ledger.jsonl",
        "sites/a/policy.toml",
        "homes/a/identity.pem",
        "homes/a/passphrase",
        "homes/a/ledger.jsonl",
        "homes/a/state/x/update.safetensors",
        "model/adapter.safetensors",
    ):
        path = run.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    store.write(cell, result_of(cell, 0.6))
    left = sorted(str(path.relative_to(run.root)) for path in run.root.rglob("*"))
    assert left == [
        "coordinator",
        "coordinator/ledger.jsonl",
        "rounds.jsonl",
        "sites",
        "sites/a",
        "sites/a/ledger.jsonl",
        "study.toml",
    ]


def test_a_failure_is_kept_until_the_cell_is_finished(
    store: CellStore, cell: PlannedCell, result_of: Callable[..., dict[str, Any]]
) -> None:
    store.fail(cell, MethodError("the loss is not finite", where="facmic", remedy="lower lr"))
    kept = json.loads((store.folder(cell) / "failed.json").read_bytes())
    assert kept["kind"] == "MethodError"
    assert kept["rule"] == "A method was given options or data that it cannot train with."
    assert store.read(cell) is None
    store.write(cell, result_of(cell, 0.6))
    assert [path.name for path in store.folder(cell).iterdir()] == ["cell.json"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SplitError("images of 'QUASIMODO'", where="/data/QUASIMODO.dcm", remedy="ask QUASIMODO"), "SplitError"),
        (HomeError("a key of QUASIMODO", where="QUASIMODO", remedy="ask QUASIMODO"), "HomeError"),
        (KeyError("QUASIMODO"), "KeyError"),
    ],
)
def test_of_a_failure_the_class_alone_is_written_down(
    store: CellStore, cell: PlannedCell, error: Exception, kind: str
) -> None:
    told = store.fail(cell, error)
    assert "QUASIMODO" in told.what  # for the terminal
    assert told.remedy
    written = (store.folder(cell) / "failed.json").read_text()
    assert "QUASIMODO" not in written
    assert json.loads(written)["kind"] == kind
    assert told.kept.what.startswith(f"{kind}: ")
    assert "QUASIMODO" not in f"{told.kept}"


def test_names_of_groups_in_an_older_cell_become_numbers_and_what_is_equal_stays_equal(
    store: CellStore, cell: PlannedCell, result_of: Callable[..., dict[str, Any]]
) -> None:
    record = store.write(cell, result_of(cell, 0.6))
    assert named(record)
    before = record.result.answers
    first = before.sites["site-1"].groups[0]
    after = store.numbered(cell, record, {first: "0"})
    assert not named(after)
    assert store.read(cell) == after
    assert first not in store.record(cell).read_text()
    assert after.result.answers.sites["site-1"].groups[0] == "0"
    old = [n for part in (*before.sites.values(), *before.unseen.values()) for n in part.groups]
    new = [
        n for part in (*after.result.answers.sites.values(), *after.result.answers.unseen.values()) for n in part.groups
    ]
    assert len(set(zip(old, new, strict=True))) == len(set(old)) == len(set(new)) > 8
    assert after.result.answers.sites["site-1"].labels == before.sites["site-1"].labels
