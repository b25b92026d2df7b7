"""The privacy budget: nothing beyond its limits, and a file that cannot be changed, lost or put back unnoticed."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wardround.privacy import atomic
from wardround.privacy.differential_privacy import accountant, budget_file
from wardround.privacy.differential_privacy import budget as module
from wardround.privacy.differential_privacy.budget import Budget
from wardround.privacy.differential_privacy.budget_file import Content, dump_budget, load_budget, parse_budget
from wardround.privacy.differential_privacy.releases import Release
from wardround.privacy.errors import BudgetError, LedgerError
from wardround.privacy.identity import Identity
from wardround.privacy.ledger.entries import Record
from wardround.privacy.ledger.log import Ledger, verify
from wardround.privacy.policy import Budget as Rules

A, B, C, D = ("ab" * 32, "cd" * 32, "ef" * 32, "01" * 32)
SUMS = Release("class-sums", 4.0, 1.0, 1)
LIMIT = (8.0, 1e-5)
SEAL = "11" * 32


def round_of(steps: int = 2, noise: float = 1.0) -> Release:
    return Release("training", noise, 0.5, steps)


@pytest.fixture
def plain_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account to calculate with in one's head: a step costs 1 / noise at delta 1e-5, and 2 / noise at 1e-10."""

    def epsilon_of(releases: Any, delta: float) -> float:
        scale = {1e-5: 1.0, 1e-10: 2.0, 1e-3: 0.5}[delta]
        return float(sum(release.steps / release.noise_multiplier for release in releases)) * scale

    monkeypatch.setattr(accountant, "epsilon_of", epsilon_of)
    monkeypatch.setattr(accountant, "rdp_epsilon_of", lambda releases, delta: 1.1 * epsilon_of(releases, delta))


class Site:
    """A site's ledger and budget in a folder; ``start`` opens both anew, as a restart does."""

    def __init__(self, folder: Path, name: str = "site-a", rules: Rules | None = None) -> None:
        self.name, self.rules, self.now = name, rules, datetime(2026, 1, 1, tzinfo=UTC)
        self.path, self.ledger_path = folder / "budget.json", folder / "ledger.jsonl"
        self.identity = Identity.from_seed(hashlib.sha256(name.encode()).digest())
        self.start()

    def clock(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def start(self) -> Budget:
        if hasattr(self, "ledger"):
            self.ledger.close()
        self.ledger = Ledger.open(self.ledger_path, owner=self.name, clock=self.clock)
        self.ledger.open_study(A)
        self.budget = Budget.open(
            self.path, site=self.name, identity=self.identity, ledger=self.ledger, policy_budget=self.rules
        )
        return self.budget

    def charge(self, key: str = "round-1", study: str = A, release: Release | None = None, **more: Any) -> None:
        self.budget.charge(study, key, release or round_of(), **{"unit": "patient", "limit": LIMIT, **more})

    def spend(self, count: int = 3) -> None:
        """Some rounds, charged and sealed, with a message after each."""
        for number in range(1, count + 1):
            self.charge(f"round-{number}")
            self.budget.seal(A, f"round-{number}", SEAL)
            self.message()

    def message(self, sync: bool = True) -> None:
        self.ledger.append([Record(kind="message", study=A, outcome="sent", direction="out")], sync=sync)

    @property
    def content(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path.read_bytes())["budget"]
        return found

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.ledger_path.read_text().splitlines()]

    def close(self) -> None:
        self.ledger.close()


@pytest.fixture
def site(tmp_path: Path, plain_account: None) -> Any:
    site = Site(tmp_path)
    yield site
    site.close()


# --- what is kept --------------------------------------------------------------------------------------------------


def test_a_budget_begins_with_nothing_and_no_file(site: Site) -> None:
    budget = site.budget
    assert not site.path.exists()
    assert (budget.sequence, budget.unit, budget.charges, budget.study(A)) == (0, None, (), ())
    assert budget.spent(1e-5).epsilon == budget.spent(1e-5, A).epsilon == 0
    assert not budget.charged(A, "round-1")
    assert budget.sealed(A, "round-1") is None
    assert budget.common_delta is None


def test_a_charge_is_on_disk_and_in_the_ledger(site: Site) -> None:
    before = (site.ledger.sequence, site.ledger.head)
    site.charge("class-sums", release=SUMS)
    assert site.budget.charged(A, "class-sums")
    assert not site.budget.covers(A, "class-sums")
    site.budget.seal(A, "class-sums", SEAL)
    assert site.budget.covers(A, "class-sums")
    assert site.budget.sealed(A, "class-sums") == SEAL
    site.charge("round-1", release=round_of(3))
    assert site.path.stat().st_mode & 0o777 == 0o600
    digest = hashlib.sha256(site.path.read_bytes()).hexdigest()
    first, second, third = [entry for entry in site.entries if entry["kind"] == "budget"]
    assert [(entry["stage"], entry["rule"], entry["study"]) for entry in (first, second, third)] == [
        ("charge", "class-sums", A),
        ("seal", "class-sums", A),
        ("charge", "round-1", A),
    ]
    assert third["dp"] == {"sequence": 3, "sha256": digest, "epsilon": 3.25, "delta": 1e-5, "unit": "patient"}
    assert first["dp"]["epsilon"] == second["dp"]["epsilon"] == 0.25
    content = site.content
    assert (content["site"], content["unit"], content["sequence"]) == ("site-a", "patient", 3)
    assert content["previous"] == second["dp"]["sha256"]
    assert content["ledger"] == {"entries": third["sequence"], "head": third["previous"]}
    assert before[0] == first["sequence"]
    assert [(charge["key"], charge["sealed"]) for charge in content["charges"]] == [
        ("class-sums", SEAL),
        ("round-1", ""),
    ]
    assert verify(site.ledger_path).ok


def test_a_restart_finds_everything_again(site: Site) -> None:
    site.spend()
    old = site.budget
    new = site.start()
    assert new.charges == old.charges
    assert (new.sequence, new.sha256, new.unit) == (6, old.sha256, "patient")
    assert new.study(A) == (round_of(),) * 3
    site.charge("round-4")
    assert site.start().spent(1e-5).epsilon == 8.0


def test_the_file_is_canonical_json_with_a_signature_over_the_content(site: Site) -> None:
    site.spend()
    data = site.path.read_bytes()
    assert data == rfc8785.dumps(json.loads(data)) + b"\n"
    content = load_budget(data, site="site-a", public_key=site.identity.public_key)
    assert dump_budget(content, site.identity) == data


def test_nothing_changes_when_a_release_is_charged_or_sealed_again(site: Site) -> None:
    site.charge()
    site.budget.seal(A, "round-1", SEAL)
    before = site.path.read_bytes(), site.ledger.sequence
    site.charge()
    site.budget.seal(A, "round-1", SEAL)
    site.start()
    site.charge()
    site.budget.seal(A, "round-1", SEAL)
    assert (site.path.read_bytes(), site.ledger.sequence) == before


def test_statement(site: Site) -> None:
    site.charge("class-sums", release=SUMS)
    site.charge()
    assert site.budget.statement(A, "round-1") == {
        "unit": "patient",
        "release": {"kind": "training", "noise_multiplier": 1.0, "sample_rate": 0.5, "steps": 2},
        "delta": 1e-5,
        "epsilon": 2.25,
        "rdp": pytest.approx(1.1 * 2.25),
        "limit": 8.0,
        "sequence": 2,
        "sha256": hashlib.sha256(site.path.read_bytes()).hexdigest(),
    }
    with pytest.raises(BudgetError, match=r"round-2 of study abab.* was not charged"):
        site.budget.statement(A, "round-2")


# --- what is refused -----------------------------------------------------------------------------------------------


def test_the_studys_limit_holds_before_anything_is_computed(site: Site) -> None:
    site.spend(3)
    before = site.path.read_bytes(), site.ledger.sequence
    with pytest.raises(BudgetError) as refused:
        site.charge("round-4", release=round_of(3))
    text = str(refused.value)
    assert "round-4 of study abababababab would exceed the study's privacy budget" in text
    assert "epsilon 6.0000 is spent (delta 1e-05), 3.0000 more is asked for, 2.0000 of 8 is left" in text
    assert "Nothing was computed" in text
    assert "more noise or fewer rounds" in text
    assert (site.path.read_bytes(), site.ledger.sequence) == before
    site.charge("round-4", release=round_of(2))  # to the last bit of it
    with pytest.raises(BudgetError, match=r"0.0000 of 8 is left"):
        site.charge("round-5", release=round_of(1, 1000.0))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_epsilon_that_cannot_be_said_is_too_much(site: Site, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    monkeypatch.setattr(accountant, "epsilon_of", lambda releases, delta: value if releases else 0.0)
    with pytest.raises(BudgetError, match="would exceed"):
        site.charge()
    assert not site.path.exists()


def test_all_studies_together_stay_within_the_sites_maximum(tmp_path: Path, plain_account: None) -> None:
    site = Site(tmp_path, rules=Rules(maximum_epsilon=11.0))
    site.charge("round-1", study=A, release=round_of(6))
    site.charge("round-1", study=B, release=round_of(3))
    with pytest.raises(BudgetError) as refused:
        site.charge("round-2", study=B)
    text = str(refused.value)
    assert "round-2 of study cdcdcdcdcdcd would exceed the privacy budget of this site over all its studies" in text
    assert "epsilon 9.9000 is spent (delta 1e-05), 2.2000 more is asked for, 1.1000 of 11 is left" in text
    assert "policy key budget.maximum_epsilon" in text
    assert site.budget.spent(1e-5).epsilon == 9.0
    assert site.budget.spent(1e-5, B).epsilon == 3.0
    site.charge("round-2", study=B, release=round_of(1))
    site.close()


def test_studies_of_different_deltas_are_added_up_at_one(tmp_path: Path, plain_account: None) -> None:
    """Without a maximum delta in the policy that is the smallest: at it everything costs most."""
    site = Site(tmp_path, rules=Rules(maximum_epsilon=11.0))
    site.charge(study=A)
    assert site.budget.common_delta == 1e-5
    with pytest.raises(BudgetError, match=r"epsilon 4.4000 is spent \(delta 1e-10\), 8.8000 more is asked for"):
        site.charge(study=B, release=round_of(4), limit=(8.0, 1e-10))
    site.charge(study=B, release=round_of(3), limit=(8.0, 1e-10))
    assert site.budget.common_delta == 1e-10
    site.close()
    (tmp_path / "other").mkdir()
    other = Site(tmp_path / "other", rules=Rules(maximum_epsilon=11.0, maximum_delta=1e-5))
    assert other.budget.common_delta == 1e-5
    other.charge(study=A)
    other.charge(study=B, release=round_of(4), limit=(8.0, 1e-10))
    with pytest.raises(BudgetError, match=r"a delta of 0.001, the most that this site allows is 1e-05"):
        other.charge(study=C, limit=(8.0, 1e-3))
    other.close()


def test_declared_cohorts_do_not_add_up_but_everything_else_does(tmp_path: Path, plain_account: None) -> None:
    site = Site(tmp_path, rules=Rules(maximum_epsilon=11.0, disjoint={A: "north", B: "south", C: "north"}))
    site.charge(study=A, release=round_of(4))
    site.charge(study=B, release=round_of(6))
    assert site.budget.spent(1e-5).epsilon == 6.0
    site.charge(study=C, release=round_of(3))
    assert site.budget.spent(1e-5).epsilon == 7.0  # A and C share patients
    with pytest.raises(BudgetError, match=r"7.7000 is spent .* 4.4000 more is asked for, 3.3000 of 11"):
        site.charge("round-2", study=C, release=round_of(4))
    with pytest.raises(BudgetError, match=r"7.7000 is spent .* 4.4000 more"):
        site.charge(study=D, release=round_of(4))  # D is undeclared: it may overlap with the worst of them
    site.charge(study=D, release=round_of(3))
    assert site.budget.spent(1e-5).epsilon == 10.0
    with pytest.raises(BudgetError, match=r"9.9000 is spent .* 2.2000 more is asked for, 1.1000 of 11"):
        site.charge("round-2", study=B)
    assert [charge["cohort"] for charge in site.content["charges"]] == ["north", "south", "north", ""]
    site.close()


@pytest.mark.parametrize(("before", "after"), [({}, {A: "north"}), ({A: "north"}, {}), ({A: "north"}, {A: "south"})])
def test_a_cohort_is_declared_before_the_first_release_or_not_at_all(
    tmp_path: Path, plain_account: None, before: dict[str, str], after: dict[str, str]
) -> None:
    site = Site(tmp_path, rules=Rules(disjoint=before))
    site.charge(study=A)
    site.rules = Rules(disjoint=after)
    site.start()
    with pytest.raises(BudgetError, match=r"began in .*the policy now says .*budget.disjoint"):
        site.charge("round-2", study=A)
    # What another study may spend goes by what was declared when this one began.
    assert site.budget.charges[0].cohort == before.get(A, "")
    site.close()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"unit": "record", "key": "round-2"}, "protects one patient, the study asks for one record"),
        ({"unit": "lesion", "study": B}, "do not add up"),
        ({"limit": (9.0, 1e-5), "key": "round-2"}, r"began with epsilon 8.0 and delta 1e-05, and now asks for 9.0"),
        ({"limit": (8.0, 1e-3), "key": "round-2"}, "A study keeps its limit"),
        ({"release": round_of(1)}, "round-1 of study abababababab was charged as Release"),
        ({"release": round_of(2, 2.0)}, "Resume with the settings"),
        ({"key": "Round 1"}, "no release's name"),
        ({"key": ""}, "no release's name"),
        ({"study": "../../etc"}, "no release's name"),
        ({"study": A.upper()}, "no release's name"),
        ({"limit": (8.0, 0.0), "study": B}, "protects nobody"),
        ({"limit": (float("nan"), 1e-5), "study": B}, "protects nobody"),
        ({"limit": (float("inf"), 1e-5), "study": B}, "protects nobody"),
        ({"unit": "hospital", "study": B}, "protects nobody"),
    ],
)
def test_what_does_not_fit_is_refused(site: Site, more: dict[str, Any], told: str) -> None:
    site.charge()
    before = site.path.read_bytes()
    with pytest.raises(BudgetError, match=told):
        site.charge(**more)
    assert site.path.read_bytes() == before


def test_a_seal_needs_a_charge_and_is_final(site: Site) -> None:
    with pytest.raises(BudgetError, match="was not charged"):
        site.budget.seal(A, "round-1", SEAL)
    site.charge()
    with pytest.raises(BudgetError, match="is no SHA-256"):
        site.budget.seal(A, "round-1", "short")
    site.budget.seal(A, "round-1", SEAL)
    with pytest.raises(BudgetError, match=r"another result .* was sealed before.*cost twice"):
        site.budget.seal(A, "round-1", "22" * 32)
    assert site.start().sealed(A, "round-1") == SEAL


def test_threads_cannot_spend_the_same_epsilon_twice(site: Site) -> None:
    refused = []

    def spend(number: int) -> None:
        try:
            site.charge(f"round-{number}")
        except BudgetError as error:
            refused.append(error)

    threads = [threading.Thread(target=spend, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(site.budget.charges), len(refused)) == (4, 4)
    assert site.start().spent(1e-5).epsilon == 8.0


# --- a plan makes it quick, and changes no decision ----------------------------------------------------------------


def test_with_a_plan_the_ledger_has_a_bound_and_the_figure_at_the_end(site: Site, monkeypatch: Any) -> None:
    asked = []
    figure = accountant.epsilon_of
    monkeypatch.setattr(accountant, "epsilon_of", lambda releases, delta: (asked.append(1), figure(releases, delta))[1])
    plan = (SUMS, round_of(6))
    site.budget.plan(A, plan)
    site.charge("class-sums", release=SUMS)
    for number in (1, 2, 3):
        site.charge(f"round-{number}")
        site.budget.seal(A, f"round-{number}", SEAL)
    told = [entry["dp"]["epsilon"] for entry in site.entries if entry["kind"] == "budget"]
    assert told == [pytest.approx(x) for x in (0.275, 2.475, 2.475, 4.675, 4.675, 6.25, 6.25)]
    assert told == sorted(told)
    assert site.budget.statement(A, "round-3")["epsilon"] == 6.25
    assert site.budget.spent(1e-5, A).epsilon == 6.25
    site.charge("round-4", release=round_of(1))  # beyond the plan: the figure itself
    assert site.entries[-1]["dp"]["epsilon"] == 7.25


def test_a_plan_that_is_too_large_refuses_nothing_that_fits(site: Site) -> None:
    site.budget.plan(A, (round_of(100),))
    for number in (1, 2, 3, 4):
        site.charge(f"round-{number}")
    assert site.entries[-1]["dp"]["epsilon"] == 8.0  # Renyi's 8.8 is beyond the limit, so here it is the figure
    with pytest.raises(BudgetError, match=r"8.0000 is spent .* 2.0000 more"):
        site.charge("round-5")


def test_a_plan_does_not_let_a_study_beyond_the_sites_maximum(tmp_path: Path, plain_account: None) -> None:
    site = Site(tmp_path, rules=Rules(maximum_epsilon=11.0))
    site.charge(study=B, release=round_of(6))
    site.budget.plan(A, (round_of(4),))
    site.charge("round-1", study=A)
    site.charge("round-2", study=A)
    assert site.budget.spent(1e-5).epsilon == 10.0
    site.budget.plan(A, (round_of(8),))
    with pytest.raises(BudgetError, match=r"11.0000 is spent .* 4.4000 more"):
        site.charge("round-3", study=A)
    site.close()


def test_one_study_is_held_to_the_figure_and_several_to_the_larger(tmp_path: Path, plain_account: None) -> None:
    """A second study is chosen with the first one's results known: there the Renyi sum holds, here 1.1 as much."""
    site = Site(tmp_path, rules=Rules(maximum_epsilon=10.0))
    site.charge(study=A, release=round_of(7), limit=(20.0, 1e-5))
    site.charge("round-2", study=A, release=round_of(2), limit=(20.0, 1e-5))
    with pytest.raises(BudgetError, match=r"9.9000 is spent .* 1.1000 more is asked for, 0.1000 of 10"):
        site.charge(study=B, release=round_of(1))
    site.charge("round-3", study=A, release=round_of(1), limit=(20.0, 1e-5))
    assert site.budget.spent(1e-5).epsilon == 10.0
    site.close()


def test_a_study_that_would_not_fit_is_refused_before_its_first_release(tmp_path: Path, plain_account: None) -> None:
    site = Site(tmp_path, rules=Rules(maximum_epsilon=10.0))
    site.budget.plan(A, (round_of(12),))
    with pytest.raises(BudgetError, match=r"0.0000 is spent .* 12.0000 more is asked for"):
        site.charge(study=A, release=round_of(2), limit=(20.0, 1e-5))
    assert site.budget.charges == ()
    site.close()


def test_a_planned_study_fits_its_epsilon_by_the_real_account(tmp_path: Path) -> None:
    site = Site(tmp_path, rules=Rules(maximum_epsilon=3.0))
    rounds, limit = 3, (3.0, 1e-5)
    noise = accountant.noise_multiplier_for(3.0, 1e-5, sample_rate=0.1, steps=rounds * 7, others=[SUMS])
    each = Release("training", noise, 0.1, 7)
    site.budget.plan(A, (SUMS, Release("training", noise, 0.1, rounds * 7)))
    site.charge("class-sums", release=SUMS, limit=limit)
    for number in range(1, rounds + 1):
        site.charge(f"round-{number}", release=each, limit=limit)
    told = [entry["dp"]["epsilon"] for entry in site.entries if entry["kind"] == "budget"]
    assert told == sorted(told)
    assert 2.9 < told[-1] <= 3.0
    assert site.budget.spent(1e-5).epsilon == told[-1]
    with pytest.raises(BudgetError, match="is left"):
        site.charge("round-4", release=each, limit=limit)
    site.close()


# --- tampering, rollback, loss -------------------------------------------------------------------------------------


def refused(site: Site, told: str) -> None:
    with pytest.raises(BudgetError, match=told) as found:
        site.start()
    assert found.value.where
    assert found.value.remedy
    site.close()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_byte_of_the_file_can_be_changed(site: Site, data: st.DataObject) -> None:
    if not site.path.exists():
        site.spend()
    whole = site.path.read_bytes()
    i = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["change", "remove", "insert", "cut"]))
    byte = bytes([data.draw(st.integers(0, 255).filter(lambda value: value != whole[i]))])
    changed = {
        "change": whole[:i] + byte + whole[i + 1 :],
        "remove": whole[:i] + whole[i + 1 :],
        "insert": whole[:i] + byte + whole[i:],
        "cut": whole[:i],
    }[kind]
    with pytest.raises(BudgetError):
        load_budget(changed, site="site-a", public_key=site.identity.public_key)


def edited(site: Site, edit: Callable[[dict[str, Any]], None], identity: Identity | None = None) -> None:
    """Edit the content and write it canonically, with the old signature or another identity's."""
    file = json.loads(site.path.read_bytes())
    edit(file["budget"])
    if identity is not None:
        body = rfc8785.dumps(file["budget"])
        file["signature"] = identity.sign(
            budget_file.LABEL_BUDGET, budget_file._CONTEXT, file["budget"]["site"], body
        ).hex()
    site.path.write_bytes(rfc8785.dumps(file) + b"\n")


def cheaper(content: dict[str, Any]) -> None:
    content["charges"][0]["release"]["noise_multiplier"] = 50.0


def forgotten(content: dict[str, Any]) -> None:
    del content["charges"][0]


def another(content: dict[str, Any]) -> None:
    content["charges"][1]["sealed"] = "22" * 32


@pytest.mark.parametrize("edit", [cheaper, forgotten, another])
def test_an_edited_file_is_refused_also_with_another_key(site: Site, edit: Callable[[dict[str, Any]], None]) -> None:
    site.spend()
    edited(site, edit)
    refused(site, "not signed by this site's identity")
    edited(site, lambda content: None, Identity.from_seed(bytes(32)))
    refused(site, "not signed by this site's identity")


def test_even_the_owner_cannot_edit_without_the_ledger(site: Site) -> None:
    """With its own key it can sign anything; the ledger still names another file."""
    site.spend()
    edited(site, cheaper, site.identity)
    refused(site, "not the one that the ledger names last")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace(b'"version":1', b'"version":2'), "unknown version 2"),
        (lambda text: text.replace(b'"unit":"patient"', b'"unit":"record","unit":"patient"'), "canonical"),
        (lambda text: text.replace(b'"key":"round-1"', b'"key":"round-1","key":"round-1"', 1), "canonical"),
        (lambda text: text.replace(b'"noise_multiplier":1', b'"noise_multiplier":NaN', 1), "is no privacy budget"),
        (lambda text: text.replace(b'"noise_multiplier":1', b'"noise_multiplier":1e999', 1), "is no privacy budget"),
        (lambda text: text.replace(b'"noise_multiplier":1', b'"noise_multiplier":-1', 1), "is no privacy budget"),
        (lambda text: text.replace(b'"steps":2', b'"steps":2.5', 1), "is no privacy budget"),
        (lambda text: text.replace(b'"steps":2', b'"steps":2.0', 1), "canonical|is no privacy budget"),
        (lambda text: text.replace(b'"cohort":""', b'"cohort":"","paid":true', 1), "is no privacy budget"),
        (lambda text: b" " + text, "canonical"),
        (lambda text: text + b"\n", "canonical"),
        (lambda text: b"", "is no privacy budget"),
        (lambda text: b"[" * 100_000, "is no privacy budget"),
        (lambda text: text.replace(b"site-a", b"site-b"), "not signed"),
    ],
)
def test_what_is_no_budget_is_refused(site: Site, change: Callable[[bytes], bytes], told: str) -> None:
    site.spend()
    text = site.path.read_bytes()
    assert change(text) != text
    site.path.write_bytes(change(text))
    refused(site, told)


def test_a_charge_that_is_there_twice_is_refused(site: Site) -> None:
    site.spend()
    edited(site, lambda content: content["charges"].append(content["charges"][0]), site.identity)
    with pytest.raises(BudgetError, match="holds a charge twice"):
        parse_budget(site.path.read_bytes(), "here")
    refused(site, "holds a charge twice")


def test_a_reader_without_the_key_gets_what_it_says(site: Site) -> None:
    site.spend()
    data = site.path.read_bytes()
    content = parse_budget(data, "here")
    assert content == load_budget(data, site="site-a", public_key=site.identity.public_key)
    edited(site, cheaper)
    assert parse_budget(site.path.read_bytes(), "here") != content  # its signature is not looked at
    for wrong in (data + b" ", b"{}", data.replace(b'"version":1', b'"version":2')):
        with pytest.raises(BudgetError, match="here"):
            parse_budget(wrong, "here")


def test_another_sites_budget_is_refused(tmp_path: Path, site: Site) -> None:
    (tmp_path / "other").mkdir()
    other = Site(tmp_path / "other", "site-b")
    other.spend()
    site.path.write_bytes(other.path.read_bytes())
    refused(site, "not signed by this site's identity")
    data = other.path.read_bytes()
    with pytest.raises(BudgetError, match="belongs to 'site-b', not to 'site-a'"):
        load_budget(data, site="site-a", public_key=other.identity.public_key)
    other.path.unlink()
    with pytest.raises(BudgetError, match="the ledger is site-b's, the privacy budget site-a's"):
        Budget.open(other.path, site="site-a", identity=other.identity, ledger=other.ledger)
    other.close()


@pytest.mark.parametrize("signed", ["label", "signer"])
def test_a_signature_over_something_else_is_none(site: Site, signed: str) -> None:
    site.spend()
    file = json.loads(site.path.read_bytes())
    body = rfc8785.dumps(file["budget"])
    label = b"wardround/v1/roster" if signed == "label" else budget_file.LABEL_BUDGET
    signer = "site-a" if signed == "label" else "site-b"
    file["signature"] = site.identity.sign(label, budget_file._CONTEXT, signer, body).hex()
    site.path.write_bytes(rfc8785.dumps(file) + b"\n")
    refused(site, "not signed")


def test_a_deleted_file_is_noticed(site: Site) -> None:
    site.spend()
    site.path.unlink()
    refused(site, "is missing; the ledger knows version 6")


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_an_older_file_is_noticed(site: Site, version: int) -> None:
    kept = {}
    for number in (1, 2, 3):
        site.charge(f"round-{number}")
        kept[site.budget.sequence] = site.path.read_bytes()
        site.budget.seal(A, f"round-{number}", SEAL)
        kept[site.budget.sequence] = site.path.read_bytes()
    site.path.write_bytes(kept[version])
    refused(site, rf"version {version} .* not the one that the ledger names last \(version 6\)")
    site.path.write_bytes(kept[6])
    assert site.start().spent(1e-5).epsilon == 6.0


def test_a_file_that_is_ahead_by_more_than_a_crash_is_refused(site: Site) -> None:
    site.spend(1)
    ledger = site.ledger_path.read_bytes()
    site.charge("round-2")
    site.charge("round-3")
    site.ledger_path.write_bytes(ledger)
    refused(site, r"version 4 .* not the one that the ledger names last \(version 2\)")


def test_the_next_version_of_another_history_is_noticed(site: Site) -> None:
    """Both were put back once, and then the file of what had happened before that comes again."""
    site.spend(1)
    backup = site.path.read_bytes(), site.ledger_path.read_bytes()
    site.charge("round-2")
    site.charge("round-3")
    first = site.path.read_bytes()
    site.path.write_bytes(backup[0])
    site.ledger_path.write_bytes(backup[1])
    site.start()
    site.charge("round-2", release=round_of(1))
    site.path.write_bytes(first)
    refused(site, r"version 4 .* not the one that the ledger names last \(version 3\)")


def test_a_ledger_cut_back_at_any_line_before_the_newest_version_is_noticed(site: Site) -> None:
    site.spend()
    lines = site.ledger_path.read_bytes().splitlines(keepends=True)
    newest = site.content["ledger"]["entries"]
    for count in range(newest):
        site.ledger_path.write_bytes(b"".join(lines[:count]))
        assert verify(site.ledger_path).ok  # the ledger alone shows nothing
        refused(site, "put back or replaced|no longer has the")
    # Just before the newest version's entry it is what a crash leaves, and the entry is written again.
    site.ledger_path.write_bytes(b"".join(lines[:newest]))
    site.start()
    again = site.entries[-1]
    assert again["dp"] == json.loads(lines[newest])["dp"]
    assert (again["stage"], again["rule"]) == ("seal", "round-3")


def test_a_ledger_that_was_rewritten_whole_is_noticed(site: Site) -> None:
    """A chain has no key, so anybody can make a good one that ends with the right budget entry."""
    site.spend()
    entries = site.entries
    site.close()
    site.ledger_path.unlink()
    forged = Ledger.open(site.ledger_path, owner="site-a", clock=site.clock)
    for entry in entries:
        fields = {name: entry[name] for name in Record.__struct_fields__}
        if entry["kind"] == "message":
            fields["wire_bytes"] = 17
        forged.append([Record(**fields)])
    forged.close()
    assert verify(site.ledger_path).ok
    refused(site, "no longer has the .* entries .* cut back or rewritten")


def test_a_ledger_that_was_replaced_by_an_empty_one_is_noticed(site: Site) -> None:
    site.charge()
    site.ledger_path.unlink()
    refused(site, "no longer has the 1 entries")
    site.ledger_path.unlink()
    site.path.unlink()
    site.start()
    site.spend()
    site.ledger_path.unlink()
    refused(site, r"names last \(version 0\)")


def test_both_put_back_to_one_moment_is_not_seen_here(site: Site) -> None:
    """Said openly: it takes somebody else's memory, such as a cosigned end of the ledger."""
    site.spend(2)
    old = site.path.read_bytes(), site.ledger_path.read_bytes()
    site.charge("round-3")
    site.path.write_bytes(old[0])
    site.ledger_path.write_bytes(old[1])
    assert site.start().spent(1e-5).epsilon == 4.0


@pytest.mark.parametrize("change", ["edit", "remove", "older"])
def test_a_change_while_it_is_in_use_is_noticed_at_the_next_step(site: Site, change: str) -> None:
    site.charge()
    older = site.path.read_bytes()
    site.budget.seal(A, "round-1", SEAL)
    whole = site.path.read_bytes()
    if change == "remove":
        site.path.unlink()
    else:
        site.path.write_bytes(older if change == "older" else whole.replace(b'"steps":2', b'"steps":1'))
    with pytest.raises(BudgetError, match="changed or removed while it was in use"):
        site.charge("round-2")
    with pytest.raises(BudgetError, match="changed or removed while it was in use"):
        site.budget.seal(A, "round-1", SEAL)
    site.path.write_bytes(whole)
    site.charge("round-2")


def test_a_link_is_refused(site: Site, tmp_path: Path) -> None:
    site.spend()
    site.path.rename(tmp_path / "elsewhere")
    site.path.symlink_to(tmp_path / "elsewhere")
    refused(site, "is a link")


def test_a_file_that_cannot_be_read_is_refused(site: Site) -> None:
    site.path.mkdir()
    with pytest.raises(BudgetError, match="cannot be read"):
        site.start()


# --- the disk ------------------------------------------------------------------------------------------------------


def no_space(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_charges_nothing_and_a_restart_goes_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.charge()
    before = site.path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_atomic", no_space)
        with pytest.raises(BudgetError, match="cannot be written: No space left"):
            site.charge("round-2")
    assert not site.budget.charged(A, "round-2")
    assert site.path.read_bytes() == before
    with pytest.raises(BudgetError, match="failed earlier"):
        site.charge("round-2")
    site.start()
    site.charge("round-2")
    assert site.budget.spent(1e-5).epsilon == 4.0


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_disk_that_fails_inside_leaves_the_old_file_or_one_step_more(
    site: Site, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    site.charge()
    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, broken, no_space)
        with pytest.raises((BudgetError, LedgerError), match="No space"):
            site.charge("round-2")
    assert not site.budget.covers(A, "round-2")
    site.start()
    site.charge("round-2")
    assert [charge.key for charge in site.budget.charges] == ["round-1", "round-2"]


def test_when_the_ledger_fails_the_charge_stays_and_nothing_else_is_taken(site: Site, monkeypatch: Any) -> None:
    site.charge()
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", lambda *_, **__: (_ for _ in ()).throw(LedgerError("disk")))
        with pytest.raises(LedgerError):
            site.charge("round-2")
    with pytest.raises(BudgetError, match="failed earlier"):
        site.budget.seal(A, "round-1", SEAL)
    budget = site.start()
    assert budget.charged(A, "round-2")
    assert site.entries[-1]["rule"] == "round-2"


def test_a_crash_between_the_two_is_recognised_also_after_a_torn_line(site: Site) -> None:
    site.spend(1)
    ledger = site.ledger_path.read_bytes()
    site.charge("round-2")
    whole = site.ledger_path.read_bytes()
    for kept in range(len(ledger), len(whole), 40):  # the entry is missing, or half there
        site.ledger_path.write_bytes(whole[:kept])
        budget = site.start()
        assert budget.spent(1e-5).epsilon == 4.0
        assert (site.entries[-1]["kind"], site.entries[-1]["rule"]) == ("budget", "round-2")
        site.start()  # and once is enough
        assert sum(entry["kind"] == "budget" for entry in site.entries) == 3
        for aside in site.ledger_path.parent.glob("*.torn-*"):
            aside.unlink()


def test_the_file_then_the_ledger_each_synced(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """And before both the entries that the file's place in the ledger speaks of."""
    site.charge()
    site.message(sync=False)
    ledger, events = os.stat(site.ledger_path).st_ino, []
    real = {name: getattr(os, name) for name in ("write", "fsync", "replace")}

    def what(descriptor: int) -> str:
        found = os.fstat(descriptor)
        return "ledger" if found.st_ino == ledger else "folder" if found.st_mode & 0o040000 else "file"

    monkeypatch.setattr(os, "write", lambda fd, data: (events.append(f"write {what(fd)}"), real["write"](fd, data))[1])
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(f"sync {what(fd)}"), real["fsync"](fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("rename"), real["replace"](a, b))[1])
    charged = ["sync file", "rename", "sync folder", "write ledger", "sync ledger"]
    site.charge("round-2")
    assert events == ["sync ledger", *charged]
    events.clear()
    site.budget.seal(A, "round-2", SEAL)
    assert events == charged


def test_a_version_found_ahead_is_synced_before_its_entry(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.spend(1)
    before = site.ledger_path.read_bytes()
    site.charge("round-2")
    site.ledger_path.write_bytes(before)
    events: list[str] = []
    durable, append = module.make_durable, Ledger.append
    monkeypatch.setattr(module, "make_durable", lambda path: (events.append("durable"), durable(path))[1])
    monkeypatch.setattr(Ledger, "append", lambda *a, **k: (events.append("entry"), append(*a, **k))[1])
    site.start()
    assert events == ["durable", "entry"]


def test_the_signed_content_is_the_canonical_json_of_the_whole(site: Site) -> None:
    """It is put together from pieces, for speed."""
    site.spend()
    content = load_budget(site.path.read_bytes(), site="site-a", public_key=site.identity.public_key)
    assert isinstance(content, Content)
    assert budget_file._canonical(content) == rfc8785.dumps(json.loads(site.path.read_bytes())["budget"])
