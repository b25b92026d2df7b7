"""Homes, keys, ledgers and the roster of a simulated consortium."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from wardround.platform.adapter_file import dump_adapter
from wardround.platform.consortium import open_consortium, rehearse_roster
from wardround.platform.engines.local import carry
from wardround.platform.errors import CheckpointError
from wardround.platform.terms import start_state
from wardround.privacy.egress import COORDINATOR
from wardround.privacy.errors import HomeError, ParameterError, PolicyError
from wardround.privacy.ledger.log import verify
from wardround.privacy.secure_aggregation.roster import Roster


@pytest.fixture
def made(toy: Callable[..., Any], tmp_path: Path) -> Any:
    return toy(tmp_path / "run")


def opened(made: Any, fingerprint: str, **changes: Any) -> Any:
    values = {"study": made.study, "method": made.method, "data": made.data, "run": made.run, **changes}
    return open_consortium(values["study"], values["method"], values["data"], fingerprint, values["run"])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_homes_and_what_lies_in_them_are_the_owners_alone(made: Any, BACKBONE: str) -> None:
    before = os.umask(0)  # the loosest umask must not loosen anything
    try:
        with opened(made, BACKBONE) as consortium:
            carry(consortium.coordinator, consortium.sites, consortium.coordinator.begin())
            carry(consortium.coordinator, consortium.sites, consortium.coordinator.commit())
    finally:
        os.umask(before)
    assert {path.name for path in made.run.homes.iterdir()} == {"site-1", "site-2", "site-3"}
    for home in made.run.homes.iterdir():
        assert mode(home) == 0o700
        assert {mode(path) for path in home.rglob("*") if path.is_file()} == {0o600}
        assert mode(home / "state" / made.study.digest()) == 0o700
    assert mode(made.run.coordinator) == 0o700


def test_a_second_opening_is_refused_while_the_first_lasts(made: Any, BACKBONE: str) -> None:
    with opened(made, BACKBONE):
        with pytest.raises(HomeError) as caught, opened(made, BACKBONE):
            pass
        assert str(os.getpid()) in caught.value.what
        assert caught.value.where.startswith(str(made.run.homes))
        assert caught.value.remedy
    with opened(made, BACKBONE):
        pass


def test_locks_are_given_back_after_an_error(made: Any, BACKBONE: str) -> None:
    with pytest.raises(RuntimeError), opened(made, BACKBONE):
        raise RuntimeError
    with opened(made, BACKBONE) as consortium:
        assert set(consortium.homes) == set(consortium.sites) == set(consortium.trainers)


def test_keys_roster_and_ledgers_survive_a_restart(made: Any, BACKBONE: str) -> None:
    with opened(made, BACKBONE) as consortium:
        roster, digest = consortium.roster.roster.to_bytes(), consortium.roster.roster.digest
    with opened(made, BACKBONE) as consortium:
        assert consortium.roster.roster.digest == digest
        for site in consortium.sites.values():
            assert (site.folder / "roster.json").read_bytes() == roster
            assert Roster.from_bytes(roster).digest == digest
    for owner in ("site-1", "site-2", "site-3"):
        lines = (made.run.homes / owner / "ledger.jsonl").read_bytes().splitlines()
        key, entry = map(json.loads, lines)
        assert (key["kind"], entry["kind"]) == ("key", "open")
        assert entry["facts"]["roster"] == digest.hex()


def test_every_site_has_its_own_key(made: Any, BACKBONE: str) -> None:
    with opened(made, BACKBONE) as consortium:
        keys = {site.public_key for site in consortium.roster.roster.sites}
        assert len(keys) == 3
        # The key on disk is encrypted: the private bytes are nowhere in a home.
        for home in made.run.homes.iterdir():
            assert b"ENCRYPTED" in (home / "identity.pem").read_bytes()


def test_a_roster_that_changed_is_refused(made: Any, BACKBONE: str, toy_data: Callable[..., Any]) -> None:
    with opened(made, BACKBONE):
        pass
    with pytest.raises(CheckpointError) as caught, opened(made, BACKBONE, data=toy_data(train=21)):
        pass
    assert "roster" in caught.value.what
    assert caught.value.where.endswith("roster.json")


def test_a_damaged_policy_stops_everything(made: Any, BACKBONE: str) -> None:
    with opened(made, BACKBONE):
        pass
    (made.run.homes / "site-2" / "policy.toml").write_text("version = 1\nrole = 'site'\n[message]\n")
    with pytest.raises(PolicyError) as caught, opened(made, BACKBONE):
        pass
    assert "site-2" in caught.value.where


def test_ledgers_close_once_and_open_again(made: Any, BACKBONE: str) -> None:
    study = made.study.digest()
    for _ in range(2):
        with opened(made, BACKBONE) as consortium:
            consortium.close_ledgers(study)
            consortium.close_ledgers(study)
            paths = [ledger.path for ledger in consortium.ledgers.values()]
    assert len(paths) == 4
    for path in paths:
        report = verify(path)
        assert (report.ok, report.entries, report.open_studies) == (True, 5, ())  # of which one is a key


def test_the_coordinators_policy_is_a_coordinators(made: Any, BACKBONE: str) -> None:
    with opened(made, BACKBONE) as consortium:
        assert COORDINATOR in consortium.ledgers
    assert 'role = "coordinator"' in (made.run.coordinator / "policy.toml").read_text()
    assert made.study.digest() in (made.run.homes / "site-1" / "policy.toml").read_text()


def test_the_start_is_the_same_wherever_it_is_made(made: Any, toy_study: Callable[..., Any]) -> None:
    first, second = (start_state(made.study, made.method, made.data.shared) for _ in range(2))
    other = start_state(toy_study(seed=1), made.method, made.data.shared)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def run_of(made: Any, fingerprint: str, rounds: int = 2) -> bytes:
    with opened(made, fingerprint) as consortium:
        coordinator = consortium.coordinator
        for _ in range(rounds):
            carry(coordinator, consortium.sites, coordinator.begin())
            carry(coordinator, consortium.sites, coordinator.commit())
        return dump_adapter(coordinator.state, coordinator.info)


def test_two_runs_with_one_seed_end_the_same_and_another_seed_elsewhere(
    toy: Callable[..., Any], tmp_path: Path, BACKBONE: str
) -> None:
    first = run_of(toy(tmp_path / "1"), BACKBONE)
    assert run_of(toy(tmp_path / "2"), BACKBONE) == first
    assert run_of(toy(tmp_path / "3", seed=1), BACKBONE) != first


@pytest.mark.parametrize(
    "settings",
    [{"threshold": 4}, {"threshold": 1}, {"minimum_cohort": 4}, {"clip": 64.0, "fraction_bits": 24}],
)
def test_bounds_that_do_not_hold_show_in_rehearsal(
    toy: Callable[..., Any], tmp_path: Path, settings: dict[str, Any]
) -> None:
    made = toy(tmp_path / "run", secure_aggregation=settings)
    with pytest.raises(ParameterError):
        rehearse_roster(made.study, made.method, made.data)
    assert not made.run.homes.exists()


def test_a_sound_study_passes_rehearsal_and_leaves_nothing(made: Any) -> None:
    rehearse_roster(made.study, made.method, made.data)
    assert [path.name for path in made.run.root.iterdir()] == ["study.toml"]
