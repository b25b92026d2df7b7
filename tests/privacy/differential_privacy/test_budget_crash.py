"""A site killed at every point of a release, with and without a power cut, has never spent less than it released.

A release counts as released once `released_once` has returned its bytes: from then on they may be anywhere.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from wardround.privacy.ledger.log import verify

SCRIPT = Path(__file__).with_name("crash_site.py")
STUDY = "ab" * 32
KEYS = ["class-sums", "round-1"]
MANY = ["class-sums", *(f"round-{number}" for number in range(1, 9))]
CUTS = ["", "ledger", "half", "renames", "all"]
Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs the site of `crash_site.py` in a folder, to its end or to the point where it is killed."""
    with subprocess.Popen([sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:

        def ask(folder: Path, stop: int | None = None, cut: str = "", keys: list[str] = KEYS) -> dict[str, Any]:
            assert process.stdin is not None
            assert process.stdout is not None
            request = {"folder": str(folder), "keys": keys, "stop": stop, "cut": cut}
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer: dict[str, Any] = json.loads(process.stdout.readline())
            return answer

        yield ask
        assert process.stdin is not None
        process.stdin.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def charges(folder: Path) -> dict[str, str]:
    """Key to seal of every charge that the disk holds; no key twice."""
    path = folder / "budget.json"
    if not path.exists():
        return {}
    found = json.loads(path.read_bytes())["budget"]["charges"]
    keys = [charge["key"] for charge in found]
    assert len(set(keys)) == len(keys)
    return {charge["key"]: charge["sealed"] for charge in found}


def check_after_crash(folder: Path) -> None:
    """Before anybody repairs anything: all that the world has seen was paid for, and is what was sealed."""
    paid, seen = charges(folder), lines(folder / "world.jsonl")
    for one in seen:
        assert paid[one["key"]] == one["sha256"]
        assert hashlib.sha256((folder / f"{one['key']}.bin").read_bytes()).hexdigest() == one["sha256"]


def check_at_the_end(folder: Path, keys: list[str] = KEYS) -> None:
    check_after_crash(folder)
    assert list(charges(folder)) == keys  # each charged once, in order
    assert {one["key"] for one in lines(folder / "world.jsonl")} == set(keys)
    assert all(one["sealed"] is None for one in lines(folder / "made.jsonl"))  # a sealed result is never made again
    report = verify(folder / "ledger.jsonl")
    assert report.ok
    entries = [entry for entry in lines(folder / "ledger.jsonl") if entry["kind"] == "budget"]
    newest = json.loads((folder / "budget.json").read_bytes())["budget"]["sequence"]
    # Every version has its entry, once: also those whose writer was killed before it could write it.
    assert [entry["dp"]["sequence"] for entry in entries] == list(range(1, newest + 1))
    assert newest == 2 * len(keys)
    assert entries[-1]["dp"]["sha256"] == hashlib.sha256((folder / "budget.json").read_bytes()).hexdigest()
    assert not list(folder.glob(".*.tmp"))


def test_without_a_crash(run: Run, tmp_path: Path) -> None:
    whole = run(tmp_path)
    assert not whole["killed"]
    check_at_the_end(tmp_path)
    assert len(lines(tmp_path / "made.jsonl")) == len(KEYS)
    again = run(tmp_path)
    assert not again["killed"]
    check_at_the_end(tmp_path)
    assert len(lines(tmp_path / "made.jsonl")) == len(KEYS)
    seen = [(one["key"], one["sha256"]) for one in lines(tmp_path / "world.jsonl")]
    assert seen[: len(KEYS)] == seen[len(KEYS) :]


@pytest.mark.parametrize("cut", ["", "all", *(pytest.param(cut, marks=pytest.mark.slow) for cut in CUTS[1:-1])])
def test_killed_at_every_point_once(run: Run, tmp_path: Path, cut: str) -> None:
    (tmp_path / "whole").mkdir()
    points = run(tmp_path / "whole")["points"]
    assert points > 60
    for stop in range(points):
        folder = tmp_path / str(stop)
        folder.mkdir()
        assert run(folder, stop, cut)["killed"], stop
        check_after_crash(folder)
        assert not run(folder)["killed"]
        check_at_the_end(folder)


@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(5, 40))])
def test_killed_again_and_again(run: Run, tmp_path: Path, seed: int) -> None:
    """Also while it repairs what the crash before left, and with power cuts that take what an earlier kill had left."""
    draw = random.Random(seed)  # noqa: S311 - where to stop is no secret
    killed = 0
    while run(tmp_path, draw.randrange(60), draw.choice(CUTS), MANY)["killed"]:
        check_after_crash(tmp_path)
        killed += 1
    assert killed > 5
    check_at_the_end(tmp_path, MANY)


def points_of(run: Run, folder: Path) -> list[str]:
    """The state of the disk after a kill at each point of one release: charged, sealed, entries, stored."""
    folder.mkdir()
    whole = folder / "whole"
    whole.mkdir()
    states = []
    for stop in range(run(whole, keys=KEYS[:1])["points"]):
        one = folder / str(stop)
        one.mkdir()
        run(one, stop, keys=KEYS[:1])
        paid = charges(one)
        path = one / "ledger.jsonl"
        entries = path.read_bytes().count(b'"kind":"budget"') if path.exists() else 0
        stored = (one / f"{KEYS[0]}.bin").exists()
        seen = len(lines(one / "world.jsonl"))
        made = len(lines(one / "made.jsonl"))
        sealed = bool(paid.get(KEYS[0]))
        states.append(
            f"charged {len(paid)} entries {entries} made {made} stored {stored:d} sealed {sealed:d} out {seen}"
        )
    return list(dict.fromkeys(states))


def test_every_state_in_between_was_reached(run: Run, tmp_path: Path) -> None:
    """The points lie where they should: between each two writes there is one where the site was killed."""
    assert points_of(run, tmp_path / "points") == [
        "charged 0 entries 0 made 0 stored 0 sealed 0 out 0",
        "charged 1 entries 0 made 0 stored 0 sealed 0 out 0",  # between budget.json and its entry
        "charged 1 entries 1 made 0 stored 0 sealed 0 out 0",
        "charged 1 entries 1 made 1 stored 0 sealed 0 out 0",  # between compute and store
        "charged 1 entries 1 made 1 stored 1 sealed 0 out 0",  # between store and seal
        "charged 1 entries 1 made 1 stored 1 sealed 1 out 0",  # between the seal's two writes
        "charged 1 entries 2 made 1 stored 1 sealed 1 out 0",
        "charged 1 entries 2 made 1 stored 1 sealed 1 out 1",
    ]
