"""Killed with SIGKILL anywhere and resumed, a run ends with the same adapter as one that was left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.adapter_file import dump_adapter
from wardround.platform.consortium import open_consortium
from wardround.platform.engines.local import carry
from wardround.platform.errors import CheckpointError
from wardround.privacy.errors import LedgerError

DRIVER = Path(__file__).with_name("kill_driver.py")
A_ROUND = 45  # parcels of a round of three sites: eight messages to each, seven from each
# Where a round of three sites stands at its n-th parcel, and one parcel of each such stage of the second round.
STAGES = {
    "start": 1,
    "advert": 5,
    "advert-list": 8,
    "sealed-shares": 11,
    "share-delivery": 14,
    "masked-vector": 17,
    "survivor-set": 20,
    "agreement": 23,
    "unmask-request": 26,
    "unmask-answer": 29,
    "round-end": 32,
    "receipt": 35,
    "batch": 38,
    "cosignature": 41,
    "cosigned": 44,
}
IN_ROUND_TWO = {stage: f"tap:{A_ROUND + place}" for stage, place in STAGES.items()}
AROUND_FILES = {
    "before the checkpoint": "before:round-00002.safetensors:1",
    "after the checkpoint": "after:round-00002.safetensors:1",
    "before the second attempt's number": "before:attempt.json:2",
    "between two sites' updates": "before:update-00002.safetensors:2",
    "after the survivor set is remembered": "after:survivors.json:8",
    "before the line of the round": "before:rounds.jsonl:2",
    "before what sites showed is kept": "before:witness.json:3",
    "after what sites showed is kept": "after:witness.json:3",
    "between two sites' proofs": "before:*.tlog-proof:6",
    "before a checkpoint is kept": "before:latest.txt:6",
}
ENDS = {
    "before the study's own file": "before:.study.toml.*.tmp:1",
    "while the last adapter is handed out": f"tap:{3 * A_ROUND + 2}",
    "while the end is cosigned": f"tap:{3 * A_ROUND + 8}",
    "before the summary, with a dossier": "before:summary.json:1+whole",
    "with torn ledgers": f"tap:{A_ROUND + 18}+torn",
    "twice in the same place": f"tap:{A_ROUND - 1}+again",
}
MANY = {f"parcel {n}": f"tap:{n}" for n in range(2, 3 * A_ROUND + 15, 5)}
SYNCS = {f"sync {n}": f"fsync:{n}" for n in (1, 3, 8, 14, 21, 33, 47, 62, 80, 97, 121, 140, 163, 187, 211)}


def drive(folder: Path, specs: list[str]) -> dict[str, dict[str, Any]]:
    """Run the driver once over all specs; one start of the interpreter for all of them."""
    process = subprocess.run(
        [sys.executable, str(DRIVER), str(folder), *specs],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.returncode == 0, process.stderr
    rows = [json.loads(line) for line in process.stdout.splitlines()]
    return {row["spec"]: row for row in rows}


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    specs = [*IN_ROUND_TWO.values(), *AROUND_FILES.values(), *ENDS.values()]
    return drive(tmp_path_factory.mktemp("driven"), ["none", *specs])


def rounds_of(spec: str) -> set[int]:
    """In which rounds the kills of ``spec`` may cost a try."""
    kind, *rest = spec.split("+")[0].split(":")
    if kind == "tap":
        return {(int(rest[0]) - 1) // A_ROUND + 1}
    if kind == "fsync":
        return {1, 2, 3}
    return {2} if spec in AROUND_FILES.values() else set()


def assert_as_if_nothing_had_happened(row: dict[str, Any], untouched: dict[str, Any]) -> None:
    assert row["signals"][0] == 9, "the run was not killed where the test meant it to be"
    assert row["signals"][-1] == 0
    assert row["adapter"] == untouched["adapter"]
    assert row["rounds"] == [1, 2, 3]
    # Killed between a survivor set and enough signatures, a session cannot be finished; that try is a line too.
    assert len(row["unreleased"]) <= len(row["signals"]) - 1
    assert set(row["unreleased"]) <= rounds_of(row["spec"])
    assert row["losses"] == untouched["losses"]
    assert row["summary"] == 3
    assert set(row["ledgers"]) == {"site-1", "site-2", "site-3", "coordinator"}
    assert set(row["ledgers"].values()) == {""}
    assert row["open"] == []


def test_an_untouched_run_is_whole(driven: dict[str, dict[str, Any]]) -> None:
    row = driven["none"]
    assert row["signals"] == [0]
    assert row["rounds"] == [1, 2, 3]
    assert row["torn"] == row["left"] == row["open"] == row["unreleased"] == []


@pytest.mark.parametrize("where", sorted({**IN_ROUND_TWO, **AROUND_FILES, **ENDS}))
def test_killed_and_resumed_it_ends_with_the_same_adapter(driven: dict[str, dict[str, Any]], where: str) -> None:
    spec = {**IN_ROUND_TWO, **AROUND_FILES, **ENDS}[where]
    assert_as_if_nothing_had_happened(driven[spec], driven["none"])
    # When the set is named and one of three has signed, too few are left that know the session: it costs that one try.
    assert driven[spec]["unreleased"] == [2] * (where in ("survivor-set", "after the survivor set is remembered"))


def test_a_torn_last_line_is_set_aside_and_noted(driven: dict[str, dict[str, Any]]) -> None:
    assert driven[ENDS["with torn ledgers"]]["torn"] == ["coordinator", "site-1", "site-2", "site-3"]
    assert driven[IN_ROUND_TWO["agreement"]]["torn"] == []


def test_the_second_kill_of_a_run_is_one(driven: dict[str, dict[str, Any]]) -> None:
    assert driven[ENDS["twice in the same place"]]["signals"] == [9, 9, 0]


@pytest.mark.slow
def test_killed_at_every_fifth_parcel_and_at_many_syncs(tmp_path: Path) -> None:
    rows = drive(tmp_path, ["none", *MANY.values(), *SYNCS.values()])
    untouched = rows.pop("none")
    assert len(rows) == len(MANY) + len(SYNCS)
    for row in rows.values():
        assert_as_if_nothing_had_happened(row, untouched)


# --- without processes: what a resumed consortium stands on ------------------------------------------------------


@pytest.fixture
def made(toy: Callable[..., Any], tmp_path: Path) -> Iterator[Any]:
    return toy(tmp_path / "run", rounds=4)


def rounds(made: Any, fingerprint: str, count: int) -> bytes:
    """Run ``count`` rounds in a consortium opened for them; returns the adapter's bytes."""
    with open_consortium(made.study, made.method, made.data, fingerprint, made.run) as consortium:
        coordinator = consortium.coordinator
        for _ in range(count):
            carry(coordinator, consortium.sites, coordinator.begin())
            carry(coordinator, consortium.sites, coordinator.commit())
        return dump_adapter(coordinator.state, coordinator.info)


def test_reopened_after_every_round_it_is_the_same(toy: Callable[..., Any], tmp_path: Path, BACKBONE: str) -> None:
    at_once = rounds(toy(tmp_path / "at-once"), BACKBONE, 3)
    made = toy(tmp_path / "reopened")
    for _ in range(3):
        last = rounds(made, BACKBONE, 1)
    assert last == at_once


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "another backbone"])
def test_a_damaged_checkpoint_is_named_and_not_passed_over(made: Any, BACKBONE: str, damage: str) -> None:
    rounds(made, BACKBONE, 2)
    path = made.run.coordinator / "checkpoint" / "round-00002.safetensors"
    good = path.read_bytes()
    fingerprint = BACKBONE
    if damage == "truncated":
        path.write_bytes(good[:-5])
    elif damage == "flipped":
        path.write_bytes(good[:-5] + bytes([good[-5] ^ 4]) + good[-4:])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        fingerprint = "cd" * 32
    with pytest.raises(CheckpointError) as caught:
        rounds(made, fingerprint, 0)
    assert caught.value.where == str(path)
    assert caught.value.remedy
    path.write_bytes(good)
    rounds(made, BACKBONE, 1)


def test_a_ledger_that_was_changed_stops_the_resume(made: Any, BACKBONE: str) -> None:
    rounds(made, BACKBONE, 1)
    ledger = made.run.homes / "site-2" / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b'"round":1', b'"round":2', 1))
    with pytest.raises(LedgerError) as caught:
        rounds(made, BACKBONE, 1)
    assert caught.value.where == str(ledger)
    assert "line" in caught.value.what


def test_a_damaged_stored_update_is_named(made: Any, BACKBONE: str) -> None:
    with open_consortium(made.study, made.method, made.data, BACKBONE, made.run) as consortium:
        for parcel in consortium.coordinator.begin():  # sites train and store; then the power goes
            consortium.sites[parcel.peer].handle(parcel.wire)
        path = consortium.sites["site-1"].folder / "update-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError) as caught:
        rounds(made, BACKBONE, 1)
    assert caught.value.where == str(path)


def test_a_round_of_which_everything_had_come_needs_no_update_but_the_next_names_the_damaged_one(
    made: Any, BACKBONE: str
) -> None:
    """The coordinator finishes with what it kept; Adam's moments are in the damaged file."""
    with open_consortium(made.study, made.method, made.data, BACKBONE, made.run) as consortium:
        carry(consortium.coordinator, consortium.sites, consortium.coordinator.begin())
        released = dump_adapter(consortium.coordinator.next_state, consortium.coordinator.info)
        path = consortium.sites["site-1"].folder / "update-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with open_consortium(made.study, made.method, made.data, BACKBONE, made.run) as consortium:
        coordinator = consortium.coordinator
        assert coordinator.begin() == []  # nobody is asked anything
        assert dump_adapter(coordinator.next_state, coordinator.info) == released
        carry(coordinator, consortium.sites, coordinator.commit())
    with pytest.raises(CheckpointError) as caught:
        rounds(made, BACKBONE, 1)
    assert caught.value.where == str(path)
    assert caught.value.remedy


@pytest.mark.parametrize("whose", ["site-2", "coordinator"])
def test_a_ledger_that_is_gone_stops_the_resume(made: Any, BACKBONE: str, whose: str) -> None:
    rounds(made, BACKBONE, 1)
    ledger = (made.run.coordinator if whose == "coordinator" else made.run.homes / whose) / "ledger.jsonl"
    kept = ledger.read_bytes()
    ledger.unlink()
    for _ in range(2):  # a new, empty one that the first try made is no better
        with pytest.raises(LedgerError, match="does not know it") as caught:
            rounds(made, BACKBONE, 1)
        assert caught.value.where == str(ledger)
        assert caught.value.remedy
    ledger.write_bytes(kept)
    rounds(made, BACKBONE, 1)


def test_moments_that_are_gone_are_told(made: Any, BACKBONE: str) -> None:
    rounds(made, BACKBONE, 2)
    next((made.run.homes / "site-2").glob("state/*/update-00002.safetensors")).unlink()
    with open_consortium(made.study, made.method, made.data, BACKBONE, made.run) as consortium:
        carry(consortium.coordinator, consortium.sites, consortium.coordinator.begin())
        assert "round 2 is gone" in consortium.sites["site-2"].notice
        assert consortium.sites["site-1"].notice == ""
