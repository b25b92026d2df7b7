"""What is no longer needed goes, after it was listed; what protects the site, and what an auditor asks for, stays."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wardround.medical_datasets.index import Index
from wardround.medical_datasets.index_file import DATABASE
from wardround.platform import purging
from wardround.platform.errors import CheckpointError
from wardround.platform.feature_cache import CacheKey, FeatureCache, cache_files, index_folder
from wardround.platform.held_home import HeldHome, hold
from wardround.platform.purging import Purged, PurgePlan, RetentionError, plan_purge, purge, settle
from wardround.platform.run_folder import RunFolder
from wardround.privacy.errors import HomeError, LedgerError
from wardround.privacy.home import SiteHome
from wardround.privacy.ledger.log import Ledger, verify

CLOSED, OPEN = "ab" * 32, "cd" * 32
BEGUN = datetime(2020, 1, 1, tzinfo=UTC)
KEPT = {
    "roster.json",
    "progress.json",
    "survivors.json",
    "class-means.json",
    "adapter.safetensors",
    "personal.safetensors",
}
GOES = {"update-00003.safetensors", "class-sums.safetensors", "session.bin", "session.bin.damaged"}


class Clock:
    def __init__(self) -> None:
        self.now = BEGUN

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def make_home(root: Path, *, still_open: bool = True) -> Path:
    """A home with the state of a closed study and, if wanted, of an open one; the ledger is of 2020."""
    with SiteHome.open(root, "amber") as home:
        with Ledger.open(home.ledger, owner="amber", clock=Clock()) as ledger:
            ledger.open_study(CLOSED)
            ledger.close_study(CLOSED)
            if still_open:
                ledger.open_study(OPEN)
        for study in (CLOSED, OPEN) if still_open else (CLOSED,):
            state = home.state(study)
            for name in KEPT | GOES:
                (state / name).write_bytes(f"{name} of {study}".encode())
        for path, content in (
            ("identity.pem", "a key"),
            ("forgotten.key", "k"),
            ("checkpoints/000000000002.tlog-proof", "a proof"),
            ("checkpoints/latest.txt", "a note"),
            (f"rosters/{CLOSED}.json", "{}"),
        ):
            (home.folder / path).parent.mkdir(exist_ok=True)
            (home.folder / path).write_text(content)
        return home.folder


def make_cache(root: Path, rows: int = 3) -> Path:
    """A cache of two backbones, with a half-written shard and things that are none of ours."""
    for fingerprint in ("1" * 64, "2" * 64):
        cache = FeatureCache(root, CacheKey(fingerprint, "cpu batch 8", 4))
        cache.add({f"{n:064x}": np.full(4, n, dtype=np.float32) for n in range(rows)})
    (root / ("1" * 16) / "cpu" / ".abc.part").write_bytes(b"half")
    (root / "notes.txt").write_text("mine")
    (root / "folder" / "cpu").mkdir(parents=True)
    (root / "folder" / "cpu" / ("a" * 32 + ".safetensors")).write_text("mine too")
    return root


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_home(tmp_path / "homes")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return make_cache(tmp_path / "cache")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def noted(home: Path) -> list[dict[str, Any]]:
    entries = map(json.loads, (home / "ledger.jsonl").read_bytes().splitlines())
    return [entry["facts"] for entry in entries if entry["kind"] == "purge"]


def plan_of(home: Path, cache: Path, **options: Any) -> PurgePlan:
    with hold(home) as held:
        return plan_purge(held, cache, **options)


def carry_out(home: Path, cache: Path, **options: Any) -> Purged:
    with hold(home) as held:
        return purge(held, plan_purge(held, cache, **options))


def test_what_goes_is_listed_first_and_nothing_else_goes(home: Path, cache: Path) -> None:
    before, cached = files(home), files(cache)
    plan = plan_of(home, cache)
    assert files(home) == before | {"lock"}
    assert files(cache) == cached
    assert {item.path.name for item in plan.of("state")} == GOES
    assert {item.study for item in plan.of("state")} == {CLOSED}
    assert len(plan.of("cache")) == 3
    assert plan.of("ledger") == ()
    assert plan.open_studies == {OPEN: "open"}
    assert plan.closed == (CLOSED,)

    done = carry_out(home, cache)
    assert done == Purged(7, plan.size, True)
    assert before - files(home) == {f"state/{CLOSED}/{name}" for name in GOES}
    assert files(cache) == {"notes.txt", f"folder/cpu/{'a' * 32}.safetensors"}
    assert not (cache / ("1" * 16)).exists()
    assert noted(home) == [{"files": 7, "bytes": plan.size}]
    assert verify(home / "ledger.jsonl").ok
    assert str(cache).encode() not in (home / "ledger.jsonl").read_bytes()


def test_again_there_is_nothing_to_do_and_nothing_to_write_down(home: Path, cache: Path) -> None:
    carry_out(home, cache)
    content = (home / "ledger.jsonl").read_bytes()
    assert carry_out(home, cache) == Purged()
    assert (home / "ledger.jsonl").read_bytes() == content
    with hold(home) as held:
        assert settle(held) == Purged()


def test_a_state_that_the_ledger_does_not_know_is_kept(home: Path, cache: Path) -> None:
    stray = home / "state" / ("ef" * 32)
    stray.mkdir()
    (stray / "update-00001.safetensors").write_text("x")
    assert plan_of(home, cache).open_studies == {OPEN: "open", "ef" * 32: "not in the ledger"}
    carry_out(home, cache)
    assert (stray / "update-00001.safetensors").is_file()


def test_a_run_without_figures_still_needs_its_state(toy: Callable[..., Any], tmp_path: Path, cache: Path) -> None:
    made = toy(tmp_path / "run")
    digest = made.study.digest()
    with SiteHome.open(made.run.homes, "amber") as home:
        with Ledger.open(home.ledger, owner="amber", clock=Clock()) as ledger:
            ledger.open_study(digest)
            ledger.close_study(digest)
        (home.state(digest) / "session.bin").write_text("x")
    assert plan_of(home.folder, cache).open_studies == {digest: "closed, but the run has no figures yet"}
    RunFolder(made.run.root).summary.write_text("{}")
    plan = plan_of(home.folder, cache)
    assert plan.open_studies == {}
    assert [item.path.name for item in plan.of("state")] == ["session.bin"]


def test_the_whole_split_of_a_run_goes_once_its_study_is_over(
    toy: Callable[..., Any], tmp_path: Path, cache: Path
) -> None:
    made = toy(tmp_path / "run")
    digest = made.study.digest()
    made.run.split.write_text("{}")
    with SiteHome.open(made.run.homes, "amber") as home:
        (home.state(digest) / "split.json").write_text("{}")
        with Ledger.open(home.ledger, owner="amber", clock=Clock()) as ledger:
            ledger.open_study(digest)
    assert plan_of(home.folder, cache).of("state") == ()
    made.run.summary.write_text("{}")
    assert plan_of(home.folder, cache).of("state") == ()  # the site has not seen its end
    with Ledger.open(home.ledger, owner="amber", clock=Clock()) as ledger:
        ledger.close_study(digest)
    made.run.summary.unlink()
    assert plan_of(home.folder, cache).of("state") == ()  # others may not have
    made.run.summary.write_text("{}")
    own = home.state(digest) / "split.json"
    assert {item.path for item in plan_of(home.folder, cache).of("state")} == {own, made.run.split}
    carry_out(home.folder, cache)
    assert not made.run.split.exists()
    assert not own.exists()
    assert made.run.study.is_file()


def test_nothing_goes_while_somebody_uses_the_home(home: Path, cache: Path) -> None:
    with SiteHome.open(home.parent, "amber"), pytest.raises(HomeError, match="in use"):
        carry_out(home, cache)
    assert len(cache_files(cache)) == 3


def write_index(cache: Path) -> sqlite3.Connection:
    """The image index of a cache, still open: its log and its shared memory are there."""
    with Index.open(index_folder(cache)) as index:
        index.flush()
    writer = sqlite3.connect(index_folder(cache) / DATABASE, isolation_level=None)
    writer.execute("UPDATE made SET format = format")
    return writer


def test_an_index_that_another_process_closes_while_files_are_listed_is_planned_without_its_log(
    home: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = write_index(cache)
    listed: list[Path] = []

    def closing(root: Path) -> list[Path]:
        listed.extend(cache_files(root))
        writer.close()
        return listed

    monkeypatch.setattr(purging, "cache_files", closing)
    plan = plan_of(home, cache)
    gone = {DATABASE + suffix for suffix in ("-wal", "-shm")}
    assert {path.name for path in listed} - {item.path.name for item in plan.of("cache")} == gone
    assert len(plan.of("cache")) == len(listed) - 2
    assert all(item.size == item.path.stat().st_size for item in plan.items)


@pytest.mark.parametrize("step", ["ledger", "write_json", "_remove"])
def test_an_index_that_another_process_closes_before_it_is_removed_goes_and_its_log_is_not_counted(
    home: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    writer = write_index(cache)
    with hold(home) as held:
        plan = plan_purge(held, cache)
        there = {item.path.name for item in plan.items}
        assert {DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"} <= there
        if step == "ledger":  # before anything, as while the user is asked
            writer.close()
        else:
            real = getattr(purging, step)
            monkeypatch.setattr(purging, step, lambda *asked: (writer.close(), real(*asked))[1])
        expected = [item for item in plan.items if not item.path.name.endswith(("-wal", "-shm"))]
        assert len(expected) == len(plan.items) - 2
        done = purge(held, plan)
    assert done == Purged(len(expected), sum(item.size for item in expected), True)
    assert noted(home) == [{"files": done.files, "bytes": done.size}]
    assert cache_files(cache) == []
    assert not (home / "purge.json").exists()


def test_when_all_of_it_is_gone_already_nothing_is_written_down(home: Path, cache: Path) -> None:
    content = (home / "ledger.jsonl").read_bytes()
    with hold(home) as held:
        plan = plan_purge(held, cache)
        for item in plan.items:
            item.path.unlink()
        assert purge(held, plan) == Purged()
    assert (home / "ledger.jsonl").read_bytes() == content
    assert not (home / "purge.json").exists()


# --- the ledger -----------------------------------------------------------------------------------------------------

LEDGER_FILES = {
    "ledger.jsonl",
    "checkpoints/000000000002.tlog-proof",
    "checkpoints/latest.txt",
    f"rosters/{CLOSED}.json",
    f"state/{CLOSED}/roster.json",
}


def test_the_ledger_goes_when_all_is_closed_and_its_time_is_over(tmp_path: Path, cache: Path) -> None:
    home = make_home(tmp_path / "homes", still_open=False)
    before, old = files(home), (home / "ledger.jsonl").read_bytes()
    plan = plan_of(home, cache, ledger=True)
    assert {item.path.relative_to(home).as_posix() for item in plan.of("ledger")} == LEDGER_FILES
    assert plan.items[-1].path == home / "ledger.jsonl"
    done = carry_out(home, cache, ledger=True)
    assert before - files(home) == {f"state/{CLOSED}/{name}" for name in GOES} | (LEDGER_FILES - {"ledger.jsonl"})
    assert (home / "ledger.jsonl").read_bytes() != old
    assert noted(home) == [{"files": done.files, "bytes": plan.size}]
    assert verify(home / "ledger.jsonl").entries == 1


@pytest.mark.parametrize("days", [None, 30, 4000])
def test_not_a_day_too_early(tmp_path: Path, cache: Path, days: int | None) -> None:
    home = make_home(tmp_path / "homes", still_open=False)
    if days is not None:
        (home / "policy.toml").write_text(f'version = 1\nrole = "site"\n[log]\nretention_days = {days}\n')
    newest = BEGUN + timedelta(seconds=2)
    free = newest + timedelta(days=days or 2190)
    with pytest.raises(RetentionError, match=f"may go on {free + timedelta(days=1):%Y-%m-%d}"):
        plan_of(home, cache, ledger=True, now=free - timedelta(seconds=1))
    assert plan_of(home, cache, ledger=True, now=free).ledger
    assert plan_of(home, cache, now=newest).of("state")  # the rest may go at any time


def test_not_while_a_study_is_open(home: Path, cache: Path) -> None:
    with pytest.raises(RetentionError, match=f"not every study is closed; open: {OPEN[:8]}"):
        plan_of(home, cache, ledger=True)


def test_not_while_a_privacy_budget_is_bound_to_it(tmp_path: Path, cache: Path) -> None:
    home = make_home(tmp_path / "homes", still_open=False)
    (home / "budget.json").write_text("{}")
    with pytest.raises(RetentionError, match="privacy budget is bound"):
        plan_of(home, cache, ledger=True)


# --- after a crash --------------------------------------------------------------------------------------------------

STEPS: dict[str, tuple[Any, str]] = {
    "the list": (purging, "write_json"),
    "removal": (purging, "_remove"),
    "a file": (Path, "unlink"),
    "the entry": (HeldHome, "note_once"),
}


@pytest.mark.parametrize("ledger", [False, True], ids=["", "ledger"])
@pytest.mark.parametrize("after", [False, True], ids=["at", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_the_next_call_finishes_and_writes_down_all_of_it(
    tmp_path: Path, cache: Path, step: str, after: bool, ledger: bool
) -> None:
    home = make_home(tmp_path / "homes", still_open=False)
    plan = plan_of(home, cache, ledger=ledger)
    old = noted(home)
    child = os.fork()
    if child == 0:
        try:
            place, name = STEPS[step]
            real = getattr(place, name)

            def dying(*arguments: Any, **options: Any) -> Any:
                if after:
                    real(*arguments, **options)
                os.kill(os.getpid(), signal.SIGKILL)

            setattr(place, name, dying)
            carry_out(home, cache, ledger=ledger)
        finally:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    if not all(not item.path.exists() for item in plan.items if item.kind != "ledger"):
        assert not (home / "ledger.jsonl").is_file() or noted(home) == old
    with hold(home) as held:
        settle(held)
        purge(held, plan_purge(held, cache, ledger=ledger and not noted(home)))
    assert noted(home) == [{"files": len(plan.items), "bytes": plan.size}]
    assert not (home / "purge.json").exists()
    left = files(home)
    assert not left & {f"state/{CLOSED}/{name}" for name in GOES}
    assert not cache_files(cache)
    assert bool(left & (LEDGER_FILES - {"ledger.jsonl"})) != ledger
    assert verify(home / "ledger.jsonl").ok
    assert verify(home / "ledger.jsonl").entries == (1 if ledger else 3)


def test_an_interrupted_purge_takes_no_ledger_that_went_on_meanwhile(tmp_path: Path, cache: Path) -> None:
    home = make_home(tmp_path / "homes", still_open=False)
    plan = plan_of(home, cache, ledger=True)
    with pytest.MonkeyPatch.context() as patch, hold(home) as held:
        patch.setattr(purging, "_remove", lambda _: (_ for _ in ()).throw(OSError(5, "power is gone")))
        with pytest.raises(OSError, match="power"):
            purge(held, plan)
    with SiteHome.open(home.parent, "amber") as own:
        with pytest.raises(HomeError, match="purge of this home was interrupted"):
            own.check_whole()
        with Ledger.open(own.ledger, owner="amber", clock=Clock()) as ledger:
            ledger.open_study(OPEN)
    before = (home / "ledger.jsonl").read_bytes()
    with hold(home) as held:
        settle(held)
        held.home.check_whole()
    assert (home / "ledger.jsonl").read_bytes().startswith(before)
    assert files(home) >= LEDGER_FILES
    assert not cache_files(cache)


def test_a_damaged_list_of_an_interrupted_purge_is_named(home: Path) -> None:
    for content in ("{", '{"items": [[1]], "entries": 1, "head": ""}', '{"items": []}'):
        (home / "purge.json").write_text(content)
        with hold(home) as held, pytest.raises(CheckpointError, match="damaged"):
            settle(held)


def test_a_ledger_that_is_gone_for_another_reason_is_not_replaced(home: Path, cache: Path) -> None:
    (home / "ledger.jsonl").unlink()
    with pytest.raises(LedgerError, match="gone"):
        carry_out(home, cache)
    assert len(cache_files(cache)) == 3
