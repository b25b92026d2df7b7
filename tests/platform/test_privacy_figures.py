"""What sites spent: from their budgets, checked against their ledgers, also while a run is under way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wardround.platform import privacy_figures as module
from wardround.platform.errors import RunFolderError
from wardround.platform.privacy_figures import read_site_budget, run_privacy, site_privacy
from wardround.privacy.differential_privacy.accountant import epsilon_of, rdp_epsilon_of
from wardround.privacy.differential_privacy.releases import Release
from wardround.privacy.errors import BudgetError, LedgerError, RosterError

from .private_runs import PLANNED, ROUND, SITES, SUMS, identity_of, private_run, private_study, spend

DELTA = 1e-5


# --- one site ------------------------------------------------------------------------------------------------------


def test_releases_cost_what_the_accountant_says(tmp_path: Path) -> None:
    study = private_study()
    spend(tmp_path / "home", "amber", study)
    charges = read_site_budget(tmp_path / "home", "amber").charges
    site = site_privacy(charges, "amber", study, 40)
    releases = [release for _, release in PLANNED]
    assert (site.site, site.unit, site.units, site.limit, site.delta) == ("amber", "patient", 40, 8.0, DELTA)
    assert site.epsilon == epsilon_of(releases, DELTA)
    assert site.rdp_epsilon == rdp_epsilon_of(releases, DELTA)
    assert (site.noise_multiplier, site.sample_rate, site.steps) == (6.0, 1.0, 6)
    assert [(row.key, row.kind, row.steps) for row in site.releases] == [
        (key, release.kind, release.steps) for key, release in PLANNED
    ]
    assert [row.cost for row in site.releases] == [epsilon_of([release], DELTA) for release in releases]
    assert [row.epsilon_after for row in site.releases] == [
        epsilon_of(releases[: number + 1], DELTA) for number in range(len(releases))
    ]


def test_other_studies_of_the_same_budget_do_not_count(tmp_path: Path) -> None:
    first, second = private_study(), private_study(epsilon=9.0)
    spend(tmp_path / "home", "amber", first)
    spend(tmp_path / "home", "amber", second, [("round-1", ROUND)])
    charges = read_site_budget(tmp_path / "home", "amber").charges
    assert len(charges) == len(PLANNED) + 1
    assert [row.key for row in site_privacy(charges, "amber", second, 40).releases] == ["round-1"]
    assert len(site_privacy(charges, "amber", first, 40).releases) == len(PLANNED)


def test_before_the_first_release_nothing_is_spent() -> None:
    site = site_privacy((), "amber", private_study(), None)
    assert (site.epsilon, site.rdp_epsilon, site.left, site.steps, site.units) == (0.0, 0.0, 8.0, 0, None)
    assert (site.noise_multiplier, site.sample_rate, site.releases) == (None, None, ())


def test_what_the_ledger_states_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = private_study()
    spend(tmp_path / "home", "amber", study)
    budget = read_site_budget(tmp_path / "home", "amber")
    whole = site_privacy(budget.charges, "amber", study, 40)
    assert {key for _, key in budget.stated} == {key for key, _ in PLANNED}
    lengths: list[int] = []

    def counted(releases: Any, delta: float) -> float:
        lengths.append(len(releases))
        return epsilon_of(releases, delta)

    monkeypatch.setattr(module, "epsilon_of", counted)
    assert site_privacy(budget.charges, "amber", study, 40, stated=budget.stated) == whole
    assert set(lengths) == {1}  # each release by itself, no sum but the last
    # The last is what the accountant says, whatever is stated.
    wrong = dict.fromkeys(budget.stated, 0.25)
    doubted = site_privacy(budget.charges, "amber", study, 40, stated=wrong)
    assert doubted.epsilon == doubted.releases[-1].epsilon_after == whole.epsilon


# --- reading -------------------------------------------------------------------------------------------------------


def older(folder: Path) -> bytes:
    """Make a home with a second release in it; the budget's file as it was before."""
    spend(folder, "amber", private_study(), PLANNED[:1])
    before = (folder / "budget.json").read_bytes()
    spend(folder, "amber", private_study(), PLANNED[:2], first=1)
    return before


def put_back(folder: Path, before: bytes) -> None:
    (folder / "budget.json").write_bytes(before)


def edit(folder: Path, _: bytes) -> None:
    data = (folder / "budget.json").read_bytes()
    (folder / "budget.json").write_bytes(data.replace(b'"noise_multiplier":6', b'"noise_multiplier":9'))


def cut_the_ledger(folder: Path, _: bytes) -> None:
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "ledger.jsonl").write_bytes(b"".join(lines[:-2]))


@pytest.mark.parametrize("damage", [put_back, edit, cut_the_ledger])
def test_a_budget_that_is_not_the_ledgers_last_is_refused(
    tmp_path: Path, damage: Callable[[Path, bytes], None]
) -> None:
    damage(tmp_path, older(tmp_path))
    with pytest.raises(BudgetError, match="changed, replaced or put back") as caught:
        read_site_budget(tmp_path, "amber")
    assert caught.value.where == str(tmp_path / "budget.json")
    assert "restore" in caught.value.remedy


def test_a_missing_budget_is_refused_where_the_ledger_knows_one(tmp_path: Path) -> None:
    older(tmp_path)
    (tmp_path / "budget.json").unlink()
    with pytest.raises(BudgetError, match="'amber' is missing"):
        read_site_budget(tmp_path, "amber")


def test_a_file_that_is_no_budget_is_refused(tmp_path: Path) -> None:
    older(tmp_path)
    data = (tmp_path / "budget.json").read_bytes()
    for wrong in (b"", b"{}", b"\xff", data[:-3], data.replace(b'"version":1', b'"version":2'), b" " + data):
        (tmp_path / "budget.json").write_bytes(wrong)
        with pytest.raises(BudgetError) as caught:
            read_site_budget(tmp_path, "amber")
        assert caught.value.where == str(tmp_path / "budget.json")


def test_a_broken_or_missing_ledger_is_refused(tmp_path: Path) -> None:
    older(tmp_path)
    ledger = tmp_path / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join([lines[0], *lines[2:]]))
    with pytest.raises(BudgetError, match="the ledger beside the privacy budget is broken: line 2") as caught:
        read_site_budget(tmp_path, "amber")
    assert caught.value.where == str(ledger)
    ledger.unlink()
    with pytest.raises(LedgerError):
        read_site_budget(tmp_path, "amber")


def test_another_sites_files_are_refused(tmp_path: Path) -> None:
    older(tmp_path)
    with pytest.raises(BudgetError, match="belongs to 'amber', not to 'birch'"):
        read_site_budget(tmp_path, "birch")


def test_one_version_ahead_of_the_ledger_is_what_a_crash_leaves(tmp_path: Path) -> None:
    older(tmp_path)
    lines = (tmp_path / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "ledger.jsonl").write_bytes(b"".join(lines[:-1]))
    assert [charge.key for charge in read_site_budget(tmp_path, "amber").charges] == ["class-sums", "round-1"]


def test_one_version_ahead_that_the_site_did_not_sign_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    older(home)
    lines = (home / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (home / "ledger.jsonl").write_bytes(b"".join(lines[:-1]))
    own, other = identity_of("amber"), identity_of("birch")
    assert read_site_budget(home, "amber", public_key=own.public_key).charges
    with pytest.raises(BudgetError, match="not signed by this site's identity"):
        read_site_budget(home, "amber", public_key=other.public_key)


def test_files_that_change_while_they_are_read_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, now = older(tmp_path), (tmp_path / "budget.json").read_bytes()
    answers = [before, now]
    monkeypatch.setattr(module, "read_budget", lambda path: answers.pop(0))
    assert len(read_site_budget(tmp_path, "amber").charges) == 2
    assert answers == []


def test_a_site_that_opened_its_ledger_and_charged_nothing(tmp_path: Path) -> None:
    spend(tmp_path, "amber", private_study(), [])
    assert read_site_budget(tmp_path, "amber").charges == ()


# --- runs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("complete", [True, False])
def test_a_run_has_every_site(tmp_path: Path, complete: bool) -> None:
    run = private_run(tmp_path / "run", complete=complete)
    sites = run_privacy(run, private_study())
    assert [(site.site, site.units) for site in sites] == [(name, 40 + n) for n, name in enumerate(SITES)]
    assert {site.epsilon for site in sites} == {epsilon_of([release for _, release in PLANNED], DELTA)}


def test_copies_count_once_the_run_is_complete_and_homes_before(tmp_path: Path) -> None:
    run = private_run(tmp_path / "run")
    spend(run.homes / "amber", "amber", private_study(), [("round-9", ROUND)])
    assert [len(site.releases) for site in run_privacy(run, private_study())] == [4, 4, 4]
    run.summary.unlink()
    assert [len(site.releases) for site in run_privacy(run, private_study())] == [5, 4, 4]
    shutil.rmtree(run.homes)
    assert [len(site.releases) for site in run_privacy(run, private_study())] == [4, 4, 4]


def test_a_site_that_was_only_tested_has_no_budget(tmp_path: Path) -> None:
    run = private_run(tmp_path / "run")
    (run.root / "sites" / "unseen").mkdir()
    (run.root / "sites" / "unseen" / "report.json").write_text("{}")
    assert [site.site for site in run_privacy(run, private_study())] == list(SITES)


def test_units_without_a_roster_follow_from_the_sampling(tmp_path: Path) -> None:
    sampled = Release("training", 40.0, 64 / 527, 1)
    run = private_run(tmp_path / "sampled", planned=[("round-1", sampled)], units=None)
    assert {site.units for site in run_privacy(run, private_study())} == {527}
    run = private_run(tmp_path / "all", units=None)  # every unit is in every step: it does not show how many
    assert {site.units for site in run_privacy(run, private_study())} == {None}
    run = private_run(tmp_path / "begun", planned=[("class-sums", SUMS)], units=None)
    assert {site.units for site in run_privacy(run, private_study())} == {None}


def test_a_damaged_roster_is_named(tmp_path: Path) -> None:
    run = private_run(tmp_path / "run")
    path = run.homes / "birch" / "state" / private_study().digest() / "roster.json"
    path.write_bytes(b"{}")
    with pytest.raises(RosterError, match="malformed") as caught:
        run_privacy(run, private_study())
    assert caught.value.where == str(path)


def test_a_run_that_has_not_begun_says_so(tmp_path: Path) -> None:
    run = private_run(tmp_path / "run")
    for folder in (run.homes, run.root / "sites"):
        shutil.rmtree(folder)
    with pytest.raises(RunFolderError, match="no site has opened its budget yet"):
        run_privacy(run, private_study())


def test_statements_are_by_study(tmp_path: Path) -> None:
    study = private_study()
    spend(tmp_path, "amber", study, PLANNED[:2])
    stated = read_site_budget(tmp_path, "amber").stated
    assert set(stated) == {(study.digest(), "class-sums"), (study.digest(), "round-1")}
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_bytes().splitlines()]
    charged = [line["dp"]["epsilon"] for line in lines if line["kind"] == "budget" and line["stage"] == "charge"]
    assert list(stated.values()) == charged
