"""Killed anywhere in or around the sum of class means and resumed, a study ends as if nothing had happened."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from wardround.platform.lost_state import SURVIVORS_FILE
from wardround.platform.means_memory import MEANS_FILE
from wardround.platform.progress import PROGRESS_FILE
from wardround.privacy import atomic
from wardround.privacy.ledger.log import verify

from .means_toy import ALIGNED, EVEN, Made, builder, with_counts


@pytest.fixture
def make(toy: Callable[..., Any], toy_data: Callable[..., Any], tmp_path: Path, BACKBONE: str) -> Callable[..., Made]:
    return builder(toy, toy_data, tmp_path, BACKBONE)


class Killed(BaseException):
    """The power goes: nothing catches it."""


A_SUM = 45  # parcels of a sum of three sites: eight messages to each, seven from each
PLACES = {
    "start": 1,
    "a first advert is out": 4,
    "advert-list": 8,
    "sealed-shares": 11,
    "share-delivery": 14,
    "a first vector is in": 17,
    "survivor-set": 19,
    "one has signed": 20,
    "agreement": 23,
    "unmask-request": 26,
    "unmask-answer": 29,
    "all answers are in": 31,
    "round-end": 32,
    "receipt": 35,
    "batch": 38,
    "cosignature": 41,
    "cosigned": 44,
    "round one begins": A_SUM + 1,
    "in round one": A_SUM + 18,
}
WRITES = {
    "before its number": ("class-means-attempt.json", 1, False),
    "after its number": ("class-means-attempt.json", 1, True),
    "before a site has entered": (MEANS_FILE, 1, False),
    "after a site has entered": (MEANS_FILE, 1, True),
    "after a site has kept its vector": (MEANS_FILE, 2, True),
    "after the survivor set is remembered": (SURVIVORS_FILE, 4, True),
    "after a site's session is kept": ("session.bin", 2, True),
    "before the record": (MEANS_FILE, 7, False),
    "after the record": (MEANS_FILE, 7, True),
    "before the checkpoint": ("round-00000.safetensors", 1, False),
    "after the checkpoint": ("round-00000.safetensors", 1, True),
    "after a site has kept the means": (MEANS_FILE, 8, True),
    "before a site enters round one": (PROGRESS_FILE, 1, False),
}


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Any:
    module = request.config.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))
    made = module.make_toy(tmp_path_factory.mktemp("untouched") / "run", **ALIGNED, rounds=2)
    return Made(made, with_counts(module.make_data(), EVEN), module.BACKBONE).run()


def assert_as_if_nothing_had_happened(made: Made, untouched: Any) -> None:
    result = made.run()
    assert result.state.keys() == untouched.state.keys()
    assert all(torch.equal(result.state[name], tensor) for name, tensor in untouched.state.items())
    assert [record["train_loss"] for record in result.records] == [r["train_loss"] for r in untouched.records]
    assert json.loads(made.toy.run.class_means.read_bytes())["omitted"] == []
    assert all(verify(path).problem == "" for path in made.toy.run.root.rglob("ledger.jsonl"))
    # What could be unmasked with is gone, and no session was opened twice.
    assert list((made.toy.run.coordinator / "unfinished").rglob("*.bin")) == []
    entries = [json.loads(line) for line in (made.toy.run.coordinator / "ledger.jsonl").read_bytes().splitlines()]
    starts = Counter(e["message_id"] for e in entries if e["message_type"] == "round-start" and e["outcome"] == "sent")
    assert set(starts.values()) == {1}


@pytest.mark.parametrize("place", PLACES)
def test_killed_at_a_parcel_and_resumed_it_ends_alike(make: Callable[..., Made], untouched: Any, place: str) -> None:
    made, seen = make(), Counter[str]()

    def tap(sender: str, peer: str, wire: bytes) -> None:
        seen["parcels"] += 1
        if seen["parcels"] == PLACES[place]:
            raise Killed

    with pytest.raises(Killed):
        made.run(tap)
    assert_as_if_nothing_had_happened(made, untouched)


@pytest.mark.parametrize("place", WRITES)
def test_killed_around_a_write_and_resumed_it_ends_alike(
    make: Callable[..., Made], untouched: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, count, after = WRITES[place]
    made, seen, honest = make(), Counter[str](), atomic.os.replace

    def watched(source: Any, target: Any) -> None:
        seen[Path(target).name] += 1
        hit = Path(target).name == name and seen[name] == count
        if hit and not after:
            raise Killed
        honest(source, target)
        if hit:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", watched)
        with pytest.raises(Killed):
            made.run()
    assert_as_if_nothing_had_happened(made, untouched)
