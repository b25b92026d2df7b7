"""Consent is about what is shown, binds one roster for good, and the ledger knows of it before anybody else."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from wardround.platform.enrolling import approving
from wardround.platform.enrolling.approving import Proposal, check_proposal, given, propose
from wardround.platform.enrolling.earlier import check_earlier, earlier_studies, in_words
from wardround.platform.enrolling.errors import EnrolmentError
from wardround.platform.enrolling.installing import install_kit
from wardround.platform.enrolling.outflow import SUMS, largest_share, outgoing
from wardround.platform.errors import StudyFileError
from wardround.privacy.atomic import make_private
from wardround.privacy.errors import BudgetError, LedgerError, PolicyError
from wardround.privacy.ledger.rosters import keep_roster
from wardround.privacy.messages import TO_COORDINATOR, tag_of
from wardround.privacy.policy import Policy
from wardround.privacy.secure_aggregation.parameters import Block, Thresholds, default_threshold
from wardround.privacy.secure_aggregation.roster import Roster, RosterSite
from wardround.privacy.secure_aggregation.session import PURPOSES

from .hospitals import ONE, Place, approve_one, identity_of
from .paper_sites import Killed, kill_at


@pytest.fixture
def ready(joined: Place) -> Place:
    """The kit is installed; nothing is approved."""
    install_kit(joined.site(), joined.kit())
    return joined


def proposed(place: Place) -> Proposal:
    with place.held() as (home, identity, ledger):
        return propose(home, place.site(), identity, ledger)


def test_the_approval_is_a_signature_over_the_one_pinned_roster(ready: Place) -> None:
    folder = ready.site()
    signed = approve_one(ready)
    roster = Roster.from_bytes(folder.state_roster.read_bytes())
    assert signed.document.roster_sha256 == roster.digest.hex()
    assert folder.approval.read_bytes() == signed.data
    assert signed.document.roster_signature == roster.sign(identity_of(ONE), ONE).hex()
    assert ready.steps() == ["request", "approval"]
    assert given(folder, proposed(ready), identity_of(ONE)) is not None


def test_the_policy_is_written_with_the_consent_and_lets_this_study_run_and_no_other(ready: Place) -> None:
    folder = ready.site()
    proposal = proposed(ready)
    assert proposal.policy_text is not None
    assert not (folder.home / "policy.toml").exists()
    approve_one(ready)
    policy = Policy.load(folder.home / "policy.toml")
    assert policy.digest == proposal.policy.digest
    assert policy.studies.allow == [folder.digest]
    assert policy.methods.allow == ["facmic"]
    assert proposed(ready).policy_text is None


@pytest.mark.parametrize(
    ("rule", "before", "after"),
    [
        ("methods.allow", r'"facmic"', '"lora"'),
        ("budget.maximum_epsilon", r"# maximum_epsilon", "maximum_epsilon"),
        ("aggregation.purposes", r'"evaluation"', '"update"'),
        ("messages.masked-vector", r"masked-vector = \d+", "masked-vector = 1000"),
        ("coordinator.allow", r'(\[coordinator\]\n#.*\nallow = \[")[0-9a-f]{64}', r"\g<1>" + "ab" * 32),
        ("studies.allow", r'(\[studies\]\n#.*\nallow = \[")[0-9a-f]{64}', r"\g<1>" + "ab" * 32),
    ],
)
def test_what_the_policy_refuses_is_not_approved(ready: Place, rule: str, before: str, after: str) -> None:
    folder = ready.site()
    text, count = re.subn(before, after, proposed(ready).policy_text or "", count=1)
    assert count == 1
    (folder.home / "policy.toml").write_text(text)
    proposal = proposed(ready)
    assert [name for name, _ in proposal.refusals] == [rule]
    with pytest.raises(EnrolmentError, match=rule):
        check_proposal(proposal, ())
    assert not folder.state_roster.exists()


def test_a_damaged_policy_is_no_consent(ready: Place) -> None:
    (ready.site().home / "policy.toml").write_text("version = 1\n")
    with pytest.raises(PolicyError):
        proposed(ready)


def test_without_a_kit_or_with_another_identity_there_is_nothing_to_approve(joined: Place) -> None:
    with pytest.raises(EnrolmentError, match="no kit"):
        proposed(joined)
    install_kit(joined.site(), joined.kit())
    with joined.held() as (home, _, ledger), pytest.raises(EnrolmentError, match="identity is not the one"):
        propose(home, joined.site(), identity_of("birch"), ledger)


def test_what_is_shown_to_leave_is_all_that_can_leave(ready: Place) -> None:
    terms = proposed(ready).installed.terms
    rows = outgoing(terms)
    assert {row.message.partition(":")[0].partition(" ")[0] for row in rows} == {
        tag_of(each) for each in TO_COORDINATOR
    }
    assert {row.message.partition(": ")[2] for row in rows if row.message.startswith("masked")} == set(
        terms.roster.roster.vectors
    )
    assert set(SUMS) == set(PURPOSES)
    update = next(row for row in rows if row.message == "masked-vector: update")
    assert update.whole == terms.study.rounds
    assert terms.roster.roster.wire_size("update") < update.largest < terms.roster.roster.wire_size("update") + 1024


def roster_of(samples: dict[str, int], *, weighting: Any = "weighted") -> Roster:
    names = sorted(samples)
    sites = tuple(RosterSite(name, identity_of(name).public_key.hex(), samples[name]) for name in names)
    vectors: Any = {"update": (Block("adapter", 4, 1.0),)}
    return Roster(bytes(32), sites, Thresholds(len(names), default_threshold(len(names)), 3), vectors, weighting)


def test_the_largest_share_is_over_the_smallest_sum_that_may_be(ready: Place) -> None:
    assert largest_share(roster_of({"a": 100, "b": 100, "c": 100}), "a") == pytest.approx(1 / 3)
    assert largest_share(roster_of({"a": 800, "b": 100, "c": 100}), "a") == pytest.approx(0.8)
    five = roster_of({"a": 100, "b": 10, "c": 10, "d": 500, "e": 500})  # any four may be summed
    assert largest_share(five, "a") == pytest.approx(100 / (100 + 10 + 10 + 500))
    assert largest_share(roster_of({"a": 800, "b": 1, "c": 1}, weighting="uniform"), "a") == pytest.approx(1 / 3)


def earlier_roster(place: Place, **changes: Any) -> Roster:
    roster = Roster.from_bytes(place.kit().document.roster.encode())
    return replace(roster, **{"study": bytes.fromhex("cd" * 32), **changes})


def test_sums_over_the_same_images_again_need_the_earlier_studys_name(ready: Place) -> None:
    folder = ready.site()
    assert proposed(ready).earlier == []
    keep_roster(folder.home, earlier_roster(ready))
    proposal = proposed(ready)
    (each,) = proposal.earlier
    assert set(each.again) == {"class-means", "temperature", "evaluation"}
    assert "the same" not in in_words(each)
    with pytest.raises(EnrolmentError, match="sums over what may be the same images"):
        check_proposal(proposal, ())
    with pytest.raises(EnrolmentError, match="too short"):
        check_proposal(proposal, ("cd",))
    check_proposal(proposal, ("cd" * 4,))
    with ready.held() as (home, identity, ledger):
        approving.approve(home, folder, proposal, identity, ledger)
    assert ready.steps() == ["request", "sum-again", "approval"]


def test_an_earlier_roster_is_found_in_the_state_as_well_and_its_difference_is_in_words(ready: Place) -> None:
    folder = ready.site()
    now = Roster.from_bytes(ready.kit().document.roster.encode())
    sites = [site for site in now.sites if site.name != "birch"]
    sites += [RosterSite("dogwood", identity_of("dogwood").public_key.hex(), 60)]
    sites[0] = RosterSite(sites[0].name, sites[0].public_key, sites[0].samples + 1)
    then = earlier_roster(ready, sites=tuple(sites), evaluation_cohort=(), vectors={"update": now.vectors["update"]})
    state = folder.home / "state" / ("cd" * 32)
    make_private(state)
    (state / "roster.json").write_bytes(then.to_bytes())
    (each,) = proposed(ready).earlier
    assert (each.again, each.came, each.went, each.changed) == ((), ("birch",), ("dogwood",), ("amber",))
    assert "only now: birch; only then: dogwood; other numbers: amber" in in_words(each)
    with pytest.raises(EnrolmentError, match="only now: birch"):
        check_earlier([each], (), private=False)
    check_earlier([each], (), private=True)  # the budget counts those
    (state / "left.json").write_text("{}")
    assert proposed(ready).earlier == []  # it left before anything was sent
    (state / "progress.json").write_text("{}")
    assert len(proposed(ready).earlier) == 1  # it had begun, and its ledger was purged since
    (state / "roster.json").write_bytes(b"{}")
    with pytest.raises(EnrolmentError, match="damaged"):
        proposed(ready)


def test_studies_of_other_patients_do_not_count_where_the_policy_says_so(ready: Place) -> None:
    folder = ready.site()
    keep_roster(folder.home, earlier_roster(ready))
    now = Roster.from_bytes(ready.kit().document.roster.encode())
    text = proposed(ready).policy_text or ""
    with ready.held() as (_, _, ledger):
        for cohorts, count in (
            ({}, 1),
            ({folder.digest: "skin"}, 1),
            ({folder.digest: "skin", "cd" * 32: "skin"}, 1),
            ({folder.digest: "skin", "cd" * 32: "brain"}, 0),
        ):
            table = (
                "\n[budget.disjoint]\n" + "\n".join(f'"{study}" = "{name}"' for study, name in cohorts.items()) + "\n"
            )
            policy = Policy.parse((text + table).encode())
            assert len(earlier_studies(folder.home, now, policy, ledger)) == count


def private(place: Place, **privacy: Any) -> Any:
    """What the study would ask of the site's budget if it were differentially private."""
    study = place.site().study()
    values = {"epsilon": 8.0, "unit": "patient", **privacy}
    changed = study.model_copy(update={"privacy": study.privacy.model_copy(update=values)})
    assert changed.private
    with place.held() as (home, identity, ledger):
        policy = Policy.load(home.policy)
        return approving._spending(home, changed, 40, policy, identity, ledger)


def test_a_private_study_is_rehearsed_against_the_budget(ready: Place) -> None:
    path = ready.site().home / "policy.toml"
    path.write_text(proposed(ready).policy_text or "")
    spending = private(ready)
    assert (spending.spent, spending.maximum) == (0.0, None)
    assert spending.plan.units == 40
    with pytest.raises(StudyFileError, match="delta"):
        private(ready, delta=0.05)
    path.write_text(path.read_text().replace("# maximum_epsilon = 8.0", "maximum_epsilon = 2.0"))
    with pytest.raises(BudgetError, match="of this site over all"):
        private(ready)
    assert not (ready.site().home / "budget.json").exists()


def test_a_roster_that_claims_noise_is_not_signed_for_a_study_without(ready: Place) -> None:
    proposal = proposed(ready)
    roster = replace(proposal.installed.roster, thresholds=Thresholds(3, 2, 2, True))
    claimed = replace(proposal, installed=replace(proposal.installed, roster=roster))
    with ready.held() as (home, identity, ledger), pytest.raises(Exception, match="differentially private"):
        approving.approve(home, ready.site(), claimed, identity, ledger)
    assert not ready.site().approval.exists()


def test_no_second_roster_is_ever_signed(ready: Place) -> None:
    proposal = proposed(ready)
    approve_one(ready)
    other = replace(proposal.installed.roster, w_max=2.0)
    changed = replace(proposal, installed=replace(proposal.installed, roster=other))
    with ready.held() as (home, identity, ledger):
        with pytest.raises(EnrolmentError, match="another roster"):
            given(ready.site(), changed, identity)
        with pytest.raises(Exception, match="differs from the one that this site signed"):
            approving.approve(home, ready.site(), changed, identity, ledger)
    assert ready.steps().count("approval") == 1


def test_killed_at_any_name_no_approval_is_there_that_the_ledger_does_not_know(ready: Place) -> None:
    folder = ready.site()
    proposal = proposed(ready)
    for step in range(1, 12):
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, step)
            try:
                with ready.held() as (home, identity, ledger):
                    approving.approve(home, folder, proposal, identity, ledger)
                break
            except Killed:
                pass
        if folder.approval.exists():
            assert "approval" in ready.steps()
        if "approval" in ready.steps():
            assert folder.state_roster.exists()
    assert step > 3
    assert ready.steps().count("approval") == 1
    assert given(folder, proposed(ready), identity_of(ONE)) is not None


def test_a_full_disk_under_the_ledger_keeps_the_approval_back(ready: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> bool:
        raise LedgerError("the ledger cannot be written: No space left on device")

    monkeypatch.setattr(approving, "note_step", full)
    with pytest.raises(LedgerError):
        approve_one(ready)
    assert not ready.site().approval.exists()
