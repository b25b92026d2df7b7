"""Checkpoints: pruned, never passed over when damaged, attempts that never come twice."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.platform import checkpoint
from wardround.platform.adapter_file import AdapterInfo
from wardround.platform.adapters import AttentionAdapter, State, state_of
from wardround.platform.checkpoint import ATTEMPT_FILE, KEPT, Checkpoints
from wardround.platform.errors import CheckpointError

STUDY, BACKBONE = "a" * 64, "b" * 64


def info(number: int) -> AdapterInfo:
    return AdapterInfo(STUDY, "facmic", number, BACKBONE)


def state(number: int) -> State:
    return state_of(AttentionAdapter(4, seed=number))


def save(checkpoints: Checkpoints, *numbers: int) -> None:
    for number in numbers:
        checkpoints.save(state(number), info(number))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def newest_round(checkpoints: Checkpoints) -> int:
    found = checkpoints.newest(study=STUDY, backbone=BACKBONE)
    assert found is not None
    return found[1].round


def test_none_before_the_first(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "absent").newest(study=STUDY, backbone=BACKBONE) is None
    assert not (tmp_path / "absent").exists()


def test_the_newest_by_number_is_read_and_older_ones_are_pruned(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoint")
    save(checkpoints, 8, 9, 10, 11)
    assert names(checkpoints.folder) == [f"round-{n:05d}.safetensors" for n in (9, 10, 11)]
    assert len(names(checkpoints.folder)) == KEPT
    found = checkpoints.newest(study=STUDY, backbone=BACKBONE)
    assert found is not None
    assert found[1] == info(11)
    assert all(torch.equal(found[0][name], tensor) for name, tensor in state(11).items())
    assert checkpoints.folder.stat().st_mode & 0o777 == 0o700


def test_a_damaged_newest_is_refused_and_its_remedy_works(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1, 2, 3)
    path = tmp_path / "round-00003.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 0x10
    path.write_bytes(raw)
    with pytest.raises(CheckpointError) as caught:
        checkpoints.newest(study=STUDY, backbone=BACKBONE)
    assert caught.value.where == str(path)
    assert "deleting it goes back one round" in caught.value.remedy
    path.unlink()
    assert newest_round(checkpoints) == 2
    save(checkpoints, 3)
    assert newest_round(checkpoints) == 3


def test_another_study_or_backbone_is_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state(1), replace(info(1), study="c" * 64))
    with pytest.raises(CheckpointError, match="another study"):
        checkpoints.newest(study=STUDY, backbone=BACKBONE)
    checkpoints.save(state(1), replace(info(1), backbone="c" * 64))
    with pytest.raises(CheckpointError, match="fingerprint"):
        checkpoints.newest(study=STUDY, backbone=BACKBONE)


def test_half_written_files_are_not_checkpoints(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    (tmp_path / ".round-00002.safetensors.abc.tmp").write_bytes(b"half")
    assert newest_round(checkpoints) == 1


def test_attempts_go_up_and_survive_a_restart(tmp_path: Path) -> None:
    assert [Checkpoints(tmp_path).next_attempt(1) for _ in range(3)] == [0, 1, 2]
    assert Checkpoints(tmp_path).next_attempt(2) == 0
    assert Checkpoints(tmp_path).next_attempt(2) == 1


def test_going_back_a_round_does_not_repeat_its_attempts(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    made = [(number, checkpoints.next_attempt(number)) for number in (5, 5, 6, 5, 6, 7, 6, 5)]
    assert len(set(made)) == len(made)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, KEPT), min_size=1, max_size=12))
def test_no_attempt_comes_twice_however_far_the_checkpoints_lead_back(back: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made, highest = [], KEPT + 1
        for steps in back:
            number = highest + 1 - steps
            made.append((number, Checkpoints(Path(folder)).next_attempt(number)))
            highest = max(highest, number)
        assert len(set(made)) == len(made)


def test_the_attempt_is_written_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(checkpoint, "write_atomic", fails)
    with pytest.raises(OSError, match="no space"):
        Checkpoints(tmp_path).next_attempt(1)


@pytest.mark.parametrize("content", [b"", b"{", b"3", b"{}", b'{"attempts":3}', b'{"attempts":{"x":0}}'])
def test_a_damaged_record_of_attempts_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ATTEMPT_FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match="attempts is damaged") as caught:
        Checkpoints(tmp_path).next_attempt(1)
    assert caught.value.where.endswith(ATTEMPT_FILE)


def test_the_record_of_attempts_stays_small(tmp_path: Path) -> None:
    for number in range(1, 30):
        Checkpoints(tmp_path).next_attempt(number)
    assert len(json.loads((tmp_path / ATTEMPT_FILE).read_bytes())["attempts"]) == KEPT + 1
