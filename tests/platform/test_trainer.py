"""A site's training across rounds: stored before it is given out, never trained twice, damage is not passed over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wardround.platform import trainer as module
from wardround.platform.adapters import AttentionAdapter, state_of
from wardround.platform.errors import CheckpointError
from wardround.platform.methods.facmic import Facmic
from wardround.platform.trainer import LocalTrainer
from wardround.platform.update import BUFFERS, METRICS, UPDATE, State, Update

SHA = {number: f"{number:02x}" * 32 for number in range(1, 9)}
Make = Callable[..., LocalTrainer]


@pytest.fixture
def make(toy_study, toy_data, tmp_path: Path) -> Make:  # type: ignore[no-untyped-def]
    def made(folder: str = "state", site: str = "site-1", study: str = "a" * 64, **training: object) -> LocalTrainer:
        settings, data = toy_study(training=training), toy_data()
        part = data.sites[0].train.training()
        return LocalTrainer(
            site, study, settings.seed, Facmic(), settings.training, part, data.shared, tmp_path / folder
        )

    return made


@pytest.fixture
def start() -> State:
    return state_of(AttentionAdapter(16, seed=7))


def equal(left: Update, right: Update) -> bool:
    return all(np.array_equal(left.blocks[name], right.blocks[name]) for name in (UPDATE, BUFFERS, METRICS))


def files(trainer: LocalTrainer) -> list[str]:
    return sorted(path.name for path in trainer.folder.iterdir())


def test_asked_again_it_gives_the_stored_update_and_does_not_train(
    make: Make, start: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make().update(1, start, SHA[1])

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(module, "train_locally", never)
    assert equal(first, make().update(1, start, SHA[1]))
    with pytest.raises(AssertionError, match="trained again"):
        make().update(1, start, SHA[2])  # another global adapter is another update


def test_the_update_is_on_disk_before_it_is_returned(make: Make, start: State, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("no space")

    trainer = make()
    monkeypatch.setattr(module, "write_atomic", fails)
    with pytest.raises(OSError, match="no space"):
        trainer.update(1, start, SHA[1])


def test_a_resumed_site_equals_an_uninterrupted_one(make: Make, start: State) -> None:
    whole, stopped = make("whole"), make("stopped")
    for number in (1, 2, 3):
        expected = whole.update(number, start, SHA[number])
        stopped.update(number, start, SHA[number])
        assert equal(expected, make("stopped").update(number, start, SHA[number]))


def test_seeds_differ_by_round_site_and_study(make: Make, start: State) -> None:
    base = make("a", optimiser_state="reset")
    first = base.update(1, start, SHA[1])
    assert equal(first, make("b", optimiser_state="reset").update(1, start, SHA[1]))
    assert not equal(first, base.update(2, start, SHA[1]))
    assert not equal(first, make("c", site="site-2").update(1, start, SHA[1]))
    assert not equal(first, make("d", study="b" * 64).update(1, start, SHA[1]))


def test_moments_are_kept_or_reset(make: Make, start: State) -> None:
    keeps, resets = make("keeps"), make("resets", optimiser_state="reset")
    assert equal(keeps.update(1, start, SHA[1]), resets.update(1, start, SHA[1]))
    assert not equal(keeps.update(2, start, SHA[2]), resets.update(2, start, SHA[2]))
    fresh = make("fresh")  # sat round 1 out: it starts round 2 with fresh moments, as one that resets does
    assert equal(fresh.update(2, start, SHA[2]), resets.update(2, start, SHA[2]))
    raw = (resets.folder / "update-00002.safetensors").read_bytes()
    assert b"moment." not in raw
    assert b"moment." in (keeps.folder / "update-00002.safetensors").read_bytes()


def test_only_what_a_resume_needs_is_kept(make: Make, start: State) -> None:
    trainer = make()
    for number in (1, 2, 3, 4):
        trainer.update(number, start, SHA[number])
    assert files(trainer) == ["update-00003.safetensors", "update-00004.safetensors"]
    assert trainer.folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in trainer.folder.iterdir())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0.0, 1.0, exclude_max=True), change=st.integers(1, 255))
def test_a_changed_byte_gives_an_error_or_changes_nothing(make: Make, start: State, place: float, change: int) -> None:
    trainer = make()
    first = trainer.update(1, start, SHA[1])
    path = trainer.folder / "update-00001.safetensors"
    sound = path.read_bytes()
    damaged = bytearray(sound)
    damaged[int(place * len(damaged))] ^= change
    path.write_bytes(damaged)
    refused = ""
    try:
        again = make().update(1, start, SHA[1])
    except CheckpointError as error:
        again, refused = None, error.where
    finally:
        path.write_bytes(sound)
    # White space of the header may become other white space; everything else is refused.
    assert equal(first, again) if again else refused == str(path)


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_a_torn_file_is_refused_and_deleting_it_helps(make: Make, start: State, cut: int) -> None:
    trainer = make()
    trainer.update(1, start, SHA[1])
    expected = trainer.update(2, start, SHA[2])
    path = trainer.folder / "update-00002.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match="damaged") as caught:
        make().update(2, start, SHA[2])
    assert "backup" in caught.value.remedy
    assert "delete it" in caught.value.remedy
    assert "differs" in caught.value.remedy
    path.unlink()
    assert equal(expected, make().update(2, start, SHA[2]))


def test_damaged_moments_of_the_round_before_are_refused_too(make: Make, start: State) -> None:
    trainer = make()
    trainer.update(1, start, SHA[1])
    path = trainer.folder / "update-00001.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match="damaged"):
        trainer.update(2, start, SHA[2])
    path.unlink()
    assert trainer.update(2, start, SHA[2]).blocks[UPDATE].any()


def test_a_foreign_safetensors_file_is_refused(make: Make, start: State) -> None:
    from safetensors.torch import save_file

    trainer = make()
    trainer.folder.mkdir()
    save_file({"a": torch.zeros(3)}, trainer.folder / "update-00001.safetensors")
    with pytest.raises(CheckpointError, match="damaged"):
        trainer.update(1, start, SHA[1])
