"""Who asks is known before anything is counted; a request binds what was counted; a crash leaves nothing half told."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from wardround.medical_datasets.split_file import read_split
from wardround.platform.enrolling import counting, joining
from wardround.platform.enrolling.before_counting import (
    check_not_counted,
    check_own_policy,
    earlier_requests,
    note_other_homes,
)
from wardround.platform.enrolling.counting import filters_of, own_study
from wardround.platform.enrolling.documents import Signed, sign_document
from wardround.platform.enrolling.errors import EnrolmentError
from wardround.platform.enrolling.joining import answered, check_words, choose_site, make_request, read_invited
from wardround.platform.enrolling.kinds import Invitation
from wardround.platform.enrolling.noting import note_step, open_ledger
from wardround.platform.enrolling.site_folder import SiteFolder
from wardround.platform.held_home import HeldHome
from wardround.platform.site_side import count_of
from wardround.privacy.errors import LedgerError
from wardround.privacy.home import SiteHome
from wardround.privacy.identity import Identity, fingerprint, fingerprint_hex
from wardround.privacy.ledger.enrol_entries import steps_of
from wardround.privacy.ledger.reading import read_entries
from wardround.privacy.messages import Limits, sha256_hex
from wardround.privacy.policy_file import default_policy_toml

from .hospitals import ONE, SITES, Place, count_one, identity_of, join_one
from .paper_sites import PASSPHRASE, Killed, kill_at


def invitation(place: Place, signer: Identity | None = None, **changes: Any) -> Signed[Invitation]:
    """The invitation with values changed, signed again."""
    identity = signer or place.folder.read_identity(PASSPHRASE)
    changed = msgspec.structs.replace(place.invited().signed.document, **changes)
    return sign_document(changed, identity)


def test_a_request_says_what_was_counted_and_the_home_keeps_what_it_was_counted_of(invited: Place) -> None:
    signed = join_one(invited)
    folder, request = invited.site(), signed.document
    assert request.site == ONE
    assert request.public_key == identity_of(ONE).public_key.hex()
    assert request.backbone == folder.study().backbone.fingerprint
    assert folder.request.read_bytes() == folder.state_request.read_bytes() == signed.data
    (entry,) = steps_of(read_entries(folder.home / "ledger.jsonl"))
    assert entry.study == ""
    assert entry.facts == {"study": folder.digest, "document": sha256_hex(signed.data), "samples": request.samples}
    assert len(read_split(folder.state / "split.json").sites[ONE].train) > 0
    for path in (folder.tls_key, folder.request, folder.study_file):
        assert path.stat().st_mode & 0o077 == 0
    with invited.held() as (home, _, ledger):
        held = HeldHome(home, None)
        assert held.signed == [folder.digest]
        assert held.unfinished(folder.digest, ledger) == "enrolled, and not begun"


def test_the_number_is_what_the_study_will_count(invited: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = count_of
    monkeypatch.setattr(counting, "count_of", lambda study, site: seen.append(real(study, site)) or seen[-1])
    assert [join_one(invited).document.samples] == seen


def test_what_a_machine_can_see_of_an_invitation_is_checked(invited: Place) -> None:
    with pytest.raises(EnrolmentError, match="signature"):
        read_invited(invitation(invited, identity_of("nobody")))
    study = dict(invited.invited().signed.document.study)
    with pytest.raises(EnrolmentError, match="not the one that its hash names"):
        read_invited(invitation(invited, study={**study, "rounds": 7}))
    with pytest.raises(EnrolmentError, match=r"more than its hash covers|cannot be read"):
        read_invited(invitation(invited, study={**study, "device": "cuda"}))
    for host in (ONE, "Birch"):
        with pytest.raises(EnrolmentError, match="a site of the study and the coordinator's own address"):
            read_invited(invitation(invited, host=host))
    assert read_invited(invitation(invited)).digest == invited.folder.record.study_hash


def test_words_are_compared_whole_and_never_shown(invited: Place) -> None:
    key = invited.invited().coordinator
    check_words(fingerprint(key).upper().replace("-", "  "), key, "the coordinator")
    right = fingerprint(key).split("-")
    for typed in ("", "-".join(right[:7]), "-".join([*right[:7], "babab"]), fingerprint(identity_of(ONE).public_key)):
        with pytest.raises(EnrolmentError) as refused:
            check_words(typed, key, "the coordinator")
        assert not any(word in str(refused.value) for word in right)


def test_a_machine_has_one_home_unless_the_patients_are_others(joined: Place) -> None:
    invited, root = joined.invited(), joined.homes(ONE)
    assert choose_site(invited, root, "", other_patients=False) == ONE
    assert choose_site(invited, root, ONE, other_patients=False) == ONE
    with pytest.raises(EnrolmentError, match="has the home of 'amber'"):
        choose_site(invited, root, "birch", other_patients=False)
    assert choose_site(invited, root, "birch", other_patients=True) == "birch"
    with pytest.raises(EnrolmentError, match="no site of this study"):
        choose_site(invited, root, "zeder", other_patients=True)
    with pytest.raises(EnrolmentError, match="which hospital"):
        choose_site(invited, root.parent / "empty", "", other_patients=False)


def test_a_home_elsewhere_or_behind_a_link_is_one_of_this_machine(
    joined: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invited, root = joined.invited(), joined.homes(ONE)
    monkeypatch.setenv("WARDROUND_HOME", str(root.parent))
    elsewhere = tmp_path / "elsewhere"
    for name in (ONE, "birch"):
        with pytest.raises(EnrolmentError, match="has the home of 'amber'"):
            choose_site(invited, elsewhere, name, other_patients=False)
    assert choose_site(invited, elsewhere, ONE, other_patients=True) == ONE
    assert choose_site(invited, root, ONE, other_patients=False) == ONE
    monkeypatch.setenv("WARDROUND_HOME", str(tmp_path / "none"))
    elsewhere.mkdir()
    (elsewhere / ONE).symlink_to(root / ONE)
    with pytest.raises(EnrolmentError, match="has the home of 'amber'"):
        choose_site(invited, elsewhere, "birch", other_patients=False)


def test_a_home_elsewhere_is_noted_in_both_ledgers(
    joined: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDROUND_HOME", str(joined.homes(ONE).parent))
    elsewhere = tmp_path / "elsewhere"
    invited, digest = joined.invited(), joined.site().digest
    with SiteHome.open(elsewhere, ONE) as home:
        Identity.create(home.identity, PASSPHRASE)
        with pytest.raises(EnrolmentError, match="has the home of 'amber'"):  # nobody has said so yet
            choose_site(invited, elsewhere, ONE, other_patients=False)
        with open_ledger(home) as ledger:
            note_other_homes(home, ledger, digest)
    assert joined.steps().count("other-patients") == 1
    assert [entry.rule for entry in steps_of(read_entries(elsewhere / ONE / "ledger.jsonl"))] == ["other-patients"]
    assert choose_site(invited, elsewhere, ONE, other_patients=False) == ONE


def test_a_second_home_is_noted_in_both_ledgers_once(joined: Place) -> None:
    root = joined.homes(ONE)
    digest = joined.site().digest
    (root / "birch").mkdir(mode=0o700)
    os.rename(joined.site("birch").home / "identity.pem", root / "birch" / "identity.pem")
    with joined.held() as (home, _, ledger):
        for _ in range(2):
            note_other_homes(home, ledger, digest)
    assert joined.steps().count("other-patients") == 1
    there = [entry.rule for entry in steps_of(read_entries(root / "birch" / "ledger.jsonl"))]
    assert there == ["other-patients"]


def test_the_sites_own_policy_speaks_before_data_are_read(invited: Place, tmp_path: Path) -> None:
    offered = invited.invited()
    study, key = offered.study, offered.coordinator
    path = tmp_path / "policy.toml"
    check_own_policy(path, study, key)  # none: nothing was forbidden

    def policy(**changes: Any) -> str:
        values: dict[str, Any] = {
            "studies": ["ab" * 32],  # this study need not be in it yet
            "methods": [study.method],
            "limits": Limits(3, 10**6, 10**6),
            "coordinators": [fingerprint_hex(key)],
        }
        return default_policy_toml("site", **{**values, **changes})

    path.write_text(policy())
    check_own_policy(path, study, key)
    for changes, rule in (
        ({"methods": ["lora"]}, "methods.allow"),
        ({"coordinators": ["cd" * 32]}, "coordinator.allow"),
        ({"metrics": False}, "metrics.allow"),
    ):
        path.write_text(policy(**changes))
        with pytest.raises(EnrolmentError, match=rule):
            check_own_policy(path, study, key)
    path.write_text(policy().replace("# maximum_epsilon", "maximum_epsilon"))
    with pytest.raises(EnrolmentError, match=r"budget\.maximum_epsilon"):
        check_own_policy(path, study, key)


def test_one_number_is_told_whoever_asks_unless_a_person_says_so(joined: Place) -> None:
    folder = joined.site()
    samples = folder.read_request().document.samples
    with joined.held() as (_, _, ledger):
        with pytest.raises(EnrolmentError, match=f"has told numbers of its images before: {samples} in study"):
            check_not_counted(ledger, folder.home, again=False)
        assert check_not_counted(ledger, folder.home, again=True)
        note_step(ledger, "request", "cd" * 32, document="ef" * 32, samples=17)
        entries = list(read_entries(ledger.path))
    assert earlier_requests(folder.home, entries) == {"cd" * 32: 17, folder.digest: samples}


def test_without_its_ledger_a_request_still_counts(joined: Place) -> None:
    folder = joined.site()
    samples = folder.read_request().document.samples
    assert earlier_requests(folder.home, []) == {folder.digest: samples}
    assert earlier_requests(folder.home.parent / "new", []) == {}
    folder.state_request.write_bytes(b"{")
    with pytest.raises(EnrolmentError):
        earlier_requests(folder.home, [])


def test_few_are_not_told_at_all(invited: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "count_of", lambda *_: 10)
    with pytest.raises(EnrolmentError, match="at least 11"):
        join_one(invited)
    assert not invited.site().request.exists()
    assert invited.steps() == []


def test_an_answer_is_given_again_and_another_invitation_of_the_study_is_refused(joined: Place) -> None:
    offered, folder = joined.invited(), joined.site()
    found = answered(folder, offered)
    assert found is not None
    assert found.data == folder.request.read_bytes()
    elsewhere = read_invited(invitation(joined, port=9999))
    with pytest.raises(EnrolmentError, match="by another invitation"):
        answered(folder, elsewhere)
    folder.left.write_text("{}")
    with pytest.raises(EnrolmentError, match="has left"):
        answered(folder, offered)


def test_a_request_lost_from_its_folder_comes_back_from_the_state(joined: Place) -> None:
    folder = joined.site()
    folder.request.unlink()
    found = answered(folder, joined.invited())
    assert found is not None
    assert found.data == folder.state_request.read_bytes()


def test_without_its_ledger_a_home_that_told_a_number_tells_no_other(joined: Place) -> None:
    (joined.site().home / "ledger.jsonl").unlink()
    with pytest.raises(LedgerError, match="is gone"), joined.held():
        pass


def test_killed_at_any_name_the_ledger_knows_what_was_told_and_the_same_command_goes_on(
    invited: Place, tmp_path: Path
) -> None:
    offered, folder = invited.invited(), invited.site()
    study = own_study(offered.signed, offered.study, ONE, [], [], None)
    with invited.held():
        pass
    counted = count_one(invited, ONE, study)
    steps = 0
    for step in range(1, 40):
        with pytest.MonkeyPatch.context() as patch:
            taken = kill_at(patch, step)
            try:
                with invited.held() as (home, identity, ledger):
                    make_request(home, folder, offered, study, identity, counted, ledger)
                steps = taken()
                break
            except Killed:
                pass
        told = folder.request.exists() or folder.state_request.exists()
        assert not told or "request" in invited.steps()
        if folder.invitation.exists():
            with invited.held():
                before = answered(folder, offered)
            assert before is None or before.data == folder.state_request.read_bytes()
            if before is not None:
                assert invited.steps().count("request") == 1
    assert 6 <= steps < 40
    assert invited.steps().count("request") == 1
    assert len(set(folder.root.iterdir())) == len([p for p in folder.root.iterdir() if ".pending" not in p.name])


def test_a_ledger_that_cannot_be_written_keeps_the_request_back(
    invited: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> bool:
        raise LedgerError("the ledger cannot be written: No space left on device")

    monkeypatch.setattr(joining, "note_step", full)
    with pytest.raises(LedgerError):
        join_one(invited)
    folder = invited.site()
    assert not folder.request.exists()
    assert not folder.state_request.exists()
    monkeypatch.undo()
    assert answered(folder, invited.invited()) is None


def test_paths_are_asked_for_as_the_study_needs_them(invited: Place, tmp_path: Path) -> None:
    offered = invited.invited()
    for options in (([tmp_path], [], None), ([], [tmp_path], None), ([], [], tmp_path)):
        with pytest.raises(EnrolmentError):
            own_study(offered.signed, offered.study, ONE, *options)
    assert own_study(offered.signed, offered.study, ONE, [], [], None).digest() == offered.digest


def test_the_filters_are_in_words(invited: Place) -> None:
    study = invited.invited().study
    found = filters_of(study, ONE)
    assert found["classes"] == "all of the data set"
    assert "80 %" in found["split"]
    narrow = study.model_copy(update={"data": study.data.model_copy(update={"max_train_images": 30})})
    assert filters_of(narrow, ONE)["training images used, at most"] == "30"


def test_counting_again_is_over_once_the_roster_is_drawn_with_the_number(joined: Place) -> None:
    folder = joined.site()
    joining.check_count_again(folder)
    folder.kit.write_bytes(joined.kit().data)
    with pytest.raises(EnrolmentError, match="drawn with the number"):
        joining.check_count_again(folder)


def test_another_count_replaces_the_former_request(invited: Place) -> None:
    first = join_one(invited)
    study = invited.site().study()
    counted = replace(count_one(invited, ONE, study), samples=first.document.samples + 3)
    second = join_one(invited, counted=counted)
    assert second.document.csr == first.document.csr
    assert invited.site().request.read_bytes() == second.data
    assert invited.steps() == ["request", "request"]
    assert isinstance(invited.site(), SiteFolder)
    assert SITES[0] == ONE
