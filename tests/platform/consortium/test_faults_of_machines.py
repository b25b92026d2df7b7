"""Disks that are full, sites that are slow, budgets under kills, and a coordinator that lies: in real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from wardround.privacy.differential_privacy.budget_file import parse_budget
from wardround.privacy.egress import COORDINATOR
from wardround.privacy.ledger.reading import read_entries

from .conftest import FOUR, THREE, Enrolled
from .harness import KILLED, RealConsortium, private_text, study_text, until


def left_half_written(home: Path) -> list[Path]:
    """Files that an atomic write did not finish."""
    return sorted(home.rglob(".*.tmp"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", ["ledger", "100000"])
def test_a_full_disk_ends_a_site_in_words_and_the_others_go_on(opened: Enrolled, size: str) -> None:
    four = opened("four-3", study_text(rounds=3, sites=4), FOUR)
    coordinator = four.start_coordinator(hook="await:amber:3")
    sites = four.start_sites(amber=f"full:round-start:3:{size}")
    assert sites["amber"].ended() == 1, sites["amber"].said
    said = sites["amber"].said
    assert "error: " in said
    assert "File too large" in said or "too large" in said.lower(), said
    assert "Traceback" not in said
    assert "internal error" not in said
    assert "do:    " in said
    assert four.status("amber").get("state") in ("failed", "running")  # its last word may not have fitted either
    sites["amber"] = four.start_site("amber")
    four.complete(coordinator, sites)
    assert left_half_written(four.home("amber")) == []
    assert four.participants == [list(FOUR), list(FOUR[1:]), list(FOUR)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_round_goes_on_without_a_slow_site(opened: Enrolled) -> None:
    four = opened("four-slow", study_text(rounds=3, sites=4, timeout=12.0), FOUR)
    coordinator = four.start_coordinator()
    sites = four.start_sites(amber="slow:2:20")
    four.complete(coordinator, sites)
    assert four.participants[0] == list(FOUR)
    assert four.participants[1] == list(FOUR[1:])
    assert "round 2 went on without amber: timeout at stage advertise" in coordinator.said


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_round_that_needs_a_slow_site_is_tried_again(opened: Enrolled) -> None:
    slow = opened("three-slow", study_text(timeout=12.0), THREE)
    coordinator, sites = slow.start_coordinator(), slow.start_sites(amber="slow:2:20")
    until(lambda: "round 2 released nothing" in coordinator.said, coordinator.said)
    sites["amber"].kill()  # its person looks for what is wrong, and starts it on a better machine
    sites["amber"] = slow.start_site("amber")
    slow.complete(coordinator, sites)
    assert slow.participants == [list(THREE)] * 3
    assert [line["round"] for line in slow.rounds if not line["released"]].count(2) >= 1


def charges(consortium: RealConsortium, site: str) -> list[tuple[str, str]]:
    """Study and name of each release that a site's budget holds."""
    path = consortium.home(site) / "budget.json"
    return [(charge.study, charge.key) for charge in parse_budget(path.read_bytes(), str(path)).charges]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("place", ["after:budget.json:2", "out:masked-vector:2"])
def test_a_budget_is_not_spent_twice(opened: Enrolled, place: str) -> None:
    """Killed right after a charge, and when the noisy vector was ready: the round is charged once."""
    private = opened("private", private_text(), THREE)
    coordinator, sites = private.start_coordinator(), private.start_sites(amber=place)
    assert sites["amber"].ended() == KILLED
    sites["amber"] = private.start_site("amber")
    private.complete(coordinator, sites)
    assert private.participants == [list(THREE)] * 3
    keys = {site: sorted(key for _, key in charges(private, site)) for site in THREE}
    assert len(set(keys["amber"])) == len(keys["amber"])
    assert keys["amber"] == keys["birch"] == keys["cedar"]
    spent = {site: private.status(site)["privacy"]["epsilon"] for site in THREE}
    assert all(0.0 < epsilon <= 8.0 for epsilon in spent.values()), spent
    assert all(epsilon > 7.0 for epsilon in spent.values()), spent
    entries = list(read_entries(private.home("amber") / "ledger.jsonl"))
    charged = [entry.rule for entry in entries if entry.kind == "budget" and entry.stage == "charge"]
    assert sorted(charged) == keys["amber"]


LATE = ("small-cohort", "two-survivor-sets", "changed-unmask")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("lie", ["two-adapters", "substituted-key"])
def test_a_coordinator_that_lies_before_the_sum_gets_none(opened: Enrolled, lie: str) -> None:
    """It lies in all its tries at the second round: nothing comes of it, and the first round's adapter stays."""
    three = opened("three-lies", study_text(), THREE)
    sites = three.start_sites()
    coordinator = three.start_coordinator(hook=f"lie:{lie}:2")
    assert coordinator.ended() == 1, coordinator.said
    assert "round 2 released nothing" in coordinator.said
    assert three.status(COORDINATOR)["state"] == "paused"
    assert three.participants == [list(THREE)]
    assert not three.run.adapter.exists()
    assert all(each.alive for each in sites.values())
    if lie != "two-adapters":  # whose adverts, of two adapters, add up to nothing before anybody is asked more
        assert any(three.status(site)["refusals"] for site in THREE)
    three.check_ledgers()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("lie", LATE)
def test_a_coordinator_that_lies_about_the_sum_gets_no_other(opened: Enrolled, lie: str) -> None:
    """Sites refuse the lie; what it gets in the end is the sum of all three, as if it had not lied."""
    three = opened("three-lies", study_text(), THREE)
    coordinator, sites = three.start_coordinator(hook=f"lie:{lie}:2"), three.start_sites()
    three.complete(coordinator, sites)
    assert f"round 2: the coordinator lied, as scripted: {lie}" in coordinator.said
    assert any(three.status(site)["refusals"] for site in THREE)
    assert three.participants == [list(THREE)] * 3
    assert three.adapter == three.in_process(three.root / "same")


@pytest.fixture
def two_at_one_home(opened: Enrolled, request: pytest.FixtureRequest) -> Iterator[list[RealConsortium]]:
    """Two studies of the same three hospitals, each with a coordinator of its own."""
    text = private_text if request.param == "private" else study_text
    first = opened(f"two-{request.param}", text("first"), THREE)
    second = RealConsortium(first.root, THREE, first.cache, folder_name="D")
    second.words |= {site: first.words[site] for site in THREE}
    second.new(text("second"))
    yield [first, second]
    second.close()


def enrol_second(second: RealConsortium) -> None:
    """All hospitals join once more; each of them knows that it gives sums over the same images again."""
    for site in second.sites:
        second.join(site)
    second.cli(None, "consortium", "provision", second.folder)
    for site in second.sites:
        second.install(site)
        second.approve(site)
    second.cli(None, "consortium", "provision", second.folder)
    for site in second.sites:
        second.confirm(site)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("two_at_one_home", ["plain", "private"], indirect=True)
def test_two_studies_at_one_home_run_one_after_the_other(two_at_one_home: list[RealConsortium]) -> None:
    first, second = two_at_one_home
    enrol_second(second)
    sites, coordinator = first.start_sites(), first.start_coordinator()
    coordinator.says("3 of 3 sites are connected")
    refused = second.start_site("amber")
    assert refused.ended() == 1
    assert "another process" in refused.said or "in use" in refused.said, refused.said
    assert "do:    " in refused.said
    first.complete(coordinator, sites)
    second.complete(second.start_coordinator(), second.start_sites())
    first.check_ledgers()
    studies = {entry.study for entry in read_entries(first.home("amber") / "ledger.jsonl") if entry.study}
    assert {first.digest, second.digest} <= studies
    if (first.home("amber") / "budget.json").is_file():
        assert {study for study, _ in charges(first, "amber")} == {first.digest, second.digest}
