"""Whole studies in processes of their own: as in one process, and with a hospital and the coordinator killed."""

from __future__ import annotations

import pytest
from wardround.privacy.egress import COORDINATOR

from .conftest import FOUR, THREE, Enrolled
from .harness import KILLED, RealConsortium, study_text

# Where a site dies in one round after the other, from the first on, and the stage from which a simulation's is silent.
# A round-start, a vector and the like come once before, for the class means.
FIRST_HALF = (("in:round-start", "advertise"), ("out:sealed-shares", "share"), ("out:masked-vector", "mask"))
SECOND_HALF = (("out:agreement", "agree"), ("out:unmask-answer", "unmask"), ("in:round-end", "end"))
WITNESSED = (("out:receipt", "end"), ("out:cosignature", "end"))


def test_an_undisturbed_study_gives_the_same_adapter_as_in_one_process(
    three: RealConsortium, same_as_three: bytes
) -> None:
    coordinator, sites = three.start_coordinator(), three.start_sites()
    three.complete(coordinator, sites)
    assert three.adapter == same_as_three
    assert three.participants == [list(THREE)] * 3
    assert [line["attempt"] for line in three.rounds] == [0, 0, 0]
    assert three.start_coordinator("--resume").ended() == 0  # there is nothing to do
    assert three.adapter == same_as_three


def test_a_killed_hospital_and_a_killed_coordinator_change_nothing(three: RealConsortium, same_as_three: bytes) -> None:
    """All three are needed: the round waits for the one that was killed, and is tried again with it."""
    coordinator = three.start_coordinator(hook="after:round-00002.safetensors:1")
    sites = three.start_sites(amber="out:masked-vector:3")
    assert sites["amber"].ended() == KILLED
    coordinator.says("round 2 released nothing")
    assert [line["round"] for line in three.rounds if line["released"]] == [1]
    coordinator.says("missing: amber")
    sites["amber"] = three.start_site("amber")
    assert coordinator.ended() == KILLED
    refused = three.start_coordinator()
    assert refused.ended() == 1
    assert "this study was begun, and 2 of its 3 rounds are done" in refused.said
    assert "wardround coordinator start --resume" in refused.said
    three.complete(three.start_coordinator("--resume"), sites)
    assert three.adapter == same_as_three
    assert [(line["round"], line["released"]) for line in three.rounds] == [
        (1, True),
        (2, False),
        (2, True),
        (3, True),
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stages", [FIRST_HALF, SECOND_HALF, WITNESSED], ids=["before-sum", "in-sum", "witnessed"])
def test_survivors_go_on_without_a_killed_hospital_and_take_it_back(
    opened: Enrolled, stages: tuple[tuple[str, str], ...]
) -> None:
    """In each round but the last it dies at another stage; what came of it is what a simulation of the same gives."""
    rounds = len(stages) + 1
    four = opened(f"four-{rounds}", study_text(rounds=rounds, sites=4), FOUR)
    waits = ";".join(f"await:amber:{number}" for number in range(2, rounds + 1))
    coordinator, sites = four.start_coordinator(hook=waits), {}
    for number, (place, _) in enumerate(stages, start=1):
        hook = f"{place}:{2 if number == 1 else 1}"
        if number == 1:
            sites = four.start_sites(amber=hook)
        else:
            sites["amber"] = four.start_site("amber", hook=hook)
        assert sites["amber"].ended() == KILLED, sites["amber"].said
        if number > 1:
            assert four.rounds[-1]["round"] >= number - 1
    sites["amber"] = four.start_site("amber")
    four.complete(coordinator, sites)
    kept = [list(FOUR) if stage in ("agree", "unmask", "end") else list(FOUR[1:]) for _, stage in stages]
    assert four.participants == [*kept, list(FOUR)]
    script = "".join(
        f'[[faults.drop]]\nround = {number}\nsite = "amber"\nstage = "{stage}"\n'
        for number, (_, stage) in enumerate(stages, start=1)
        if stage != "end"
    )
    assert four.adapter == four.in_process(four.root / "same", script)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "places",
    [
        # class means, then the rounds' sums: what is counted starts anew with each process
        ("before:attempt.json:1", "out:round-start:1", "in:masked-vector:2", "after:session.bin:1"),
        ("out:survivor-set:2", "in:agreement:2", "out:unmask-request:1", "in:unmask-answer:3"),
        ("after:rounds.jsonl:1", "before:round-00001.safetensors:1", "out:round-end:1", "out:batch:1"),
        ("in:cosignature:4", "before:round-00003.safetensors:1", "out:round-start:2", "after:held-out.json:1"),
        ("in:masked-vector:16", "out:study-end:1", "before:adapter.safetensors:1", "before:summary.json:1"),
    ],
    ids=["begin", "sum", "round-end", "checkpoint", "finish"],
)
def test_a_coordinator_killed_anywhere_loses_nothing(
    three: RealConsortium, same_as_three: bytes, places: tuple[str, ...]
) -> None:
    """Killed at one place after the other, and resumed each time."""
    sites = three.start_sites()
    for number, place in enumerate(places):
        coordinator = three.start_coordinator(*["--resume"] * (number > 0), hook=place)
        assert coordinator.ended() == KILLED, f"{place}: {coordinator.said}"
    three.complete(three.start_coordinator("--resume"), sites)
    assert three.adapter == same_as_three
    assert three.participants == [list(THREE)] * 3
    assert three.status(COORDINATOR)["state"] == "complete"
