"""The coordinator's unfinished round on disk: kept in time, complete, and gone when it is over."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.consortium import Consortium, open_consortium
from wardround.platform.engines.local import carry
from wardround.platform.errors import CheckpointError
from wardround.platform.round_store import RoundStore


@pytest.fixture
def opened(
    toy: Callable[..., Any], toy_data: Callable[..., Any], tmp_path: Path, BACKBONE: str
) -> Iterator[Callable[[int], Any]]:
    made = toy(tmp_path / "run")

    def make(sites: int = 4) -> Any:
        return open_consortium(made.study, made.method, toy_data(sites=sites), BACKBONE, made.run)

    return make


def files(consortium: Consortium) -> list[str]:
    folder = consortium.coordinator.unfinished.folder
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


class StopError(Exception):
    """Ends a round where a test wants it."""


def stop_at(tag: str, nth: int) -> Callable[[str, str, bytes], None]:
    left = [nth]

    def tap(sender: str, peer: str, wire: bytes) -> None:
        if wire[2 : 2 + len(tag)] == tag.encode():
            left[0] -= 1
            if not left[0]:
                raise StopError

    return tap


def test_the_session_is_kept_before_the_survivor_set_leaves_and_every_reply_as_it_comes(opened: Any) -> None:
    with opened() as consortium:
        coordinator = consortium.coordinator
        with pytest.raises(StopError):
            carry(coordinator, consortium.sites, coordinator.begin(), stop_at("masked-vector", 4))
        assert files(consortium) == []
    with opened() as consortium:
        coordinator = consortium.coordinator
        with pytest.raises(StopError):
            carry(coordinator, consortium.sites, coordinator.begin(), stop_at("survivor-set", 1))
        assert files(consortium) == ["session.bin"]
    with opened() as consortium:
        coordinator = consortium.coordinator
        carry(coordinator, consortium.sites, coordinator.begin())  # nobody had signed: the session is given up
        assert files(consortium) == ["survivors.json"]
        with pytest.raises(StopError):
            carry(coordinator, consortium.sites, coordinator.begin(), stop_at("unmask-answer", 3))
        kept = files(consortium)
        assert [name for name in kept if name.startswith("agreement.")] == [
            f"agreement.site-{i}.bin" for i in range(1, 5)
        ]
        assert len([name for name in kept if name.startswith("unmask-answer.")]) == 2


def test_nothing_is_left_when_the_round_is_committed_or_the_study_ended_after_a_stop(opened: Any) -> None:
    with opened() as consortium:
        coordinator = consortium.coordinator
        carry(coordinator, consortium.sites, coordinator.begin())
        assert "session.bin" in files(consortium)
        kept = {path.name: path.read_bytes() for path in coordinator.unfinished.folder.iterdir()}
        carry(coordinator, consortium.sites, coordinator.commit())
        assert files(consortium) == []
        for name, data in kept.items():  # as if the stop had come between checkpoint and clearing
            (coordinator.unfinished.folder / name).write_bytes(data)
        (coordinator.unfinished.folder / ".unmask-answer.site-1.bin.0123456789ab.tmp").write_bytes(b"half")
    with opened() as consortium:
        assert not any(name.endswith(".tmp") for name in files(consortium))
        consortium.coordinator.finish()
        assert files(consortium) == []


def test_leftovers_of_another_session_do_not_stop_the_next(opened: Any) -> None:
    with opened() as consortium:
        coordinator = consortium.coordinator
        carry(coordinator, consortium.sites, coordinator.begin())
        old = {path.name: path.read_bytes() for path in coordinator.unfinished.folder.glob("unmask-answer.*")}
        carry(coordinator, consortium.sites, coordinator.commit())
        for name, data in old.items():
            (coordinator.unfinished.folder / name).write_bytes(data)
        with pytest.raises(StopError):
            carry(coordinator, consortium.sites, coordinator.begin(), stop_at("agreement", 4))
    with opened() as consortium:
        coordinator = consortium.coordinator
        carry(coordinator, consortium.sites, coordinator.begin())
        assert coordinator.outcome.released
        assert coordinator.outcome.taken_up


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
@pytest.mark.parametrize("name", ["session.bin", "agreement.site-1.bin"])
def test_a_damaged_file_is_named_with_what_to_do(opened: Any, name: str, damage: str) -> None:
    with opened() as consortium:
        coordinator = consortium.coordinator
        with pytest.raises(StopError):
            carry(coordinator, consortium.sites, coordinator.begin(), stop_at("unmask-answer", 2))
        path = coordinator.unfinished.folder / name
    data = path.read_bytes()
    path.write_bytes({"flip": data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], "cut": data[:-1], "empty": b""}[damage])
    with opened() as consortium, pytest.raises(CheckpointError) as refused:
        consortium.coordinator.begin()
    assert refused.value.where == str(path)
    assert refused.value.remedy


def test_a_damaged_record_of_survivors_is_named(tmp_path: Path) -> None:
    store = RoundStore(tmp_path)
    store.abandon(3, ("a", "b", "c"))
    assert store.named(3) == ("a", "b", "c")
    assert store.named(4) is None
    (tmp_path / "survivors.json").write_bytes(b"{")
    with pytest.raises(CheckpointError) as refused:
        store.named(3)
    assert "survivors.json" in refused.value.where


def test_deliveries_are_let_out_one_by_one(opened: Any) -> None:
    """n deliveries of n shares are never there all at once; test_memory_use.py measures what the session holds."""
    with opened(24) as consortium:
        coordinator = consortium.coordinator
        starts = list(coordinator.begin())
        adverts = [(out.peer, consortium.sites[out.peer].handle(out.wire)[0].wire) for out in starts]
        lists = [out for name, wire in adverts for out in coordinator.handle(name, wire)]
        shares = [(out.peer, consortium.sites[out.peer].handle(out.wire)[0].wire) for out in lists]
        gc.collect()
        tracemalloc.start()
        for name, wire in shares[:-1]:
            assert list(coordinator.handle(name, wire)) == []
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        largest = 0
        for name, wire in shares[-1:]:
            for delivery in coordinator.handle(name, wire):
                assert delivery.tag == "share-delivery"
                largest = max(largest, len(delivery.wire))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak - held <= 8 * largest  # one delivery at a time, as objects, wire and ledger entry
