"""Whose keys count, a person decides who heard words; it is kept under the site's signature, and checked."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from wardround.platform.enrolling import confirming
from wardround.platform.enrolling.confirming import check_enough, confirm, load_pinned
from wardround.platform.enrolling.documents import Signed, sign_document
from wardround.platform.enrolling.errors import EnrolmentError
from wardround.platform.enrolling.kinds import SignedRoster
from wardround.privacy.atomic import canonical_json
from wardround.privacy.errors import RosterError
from wardround.privacy.secure_aggregation.parameters import Thresholds
from wardround.privacy.secure_aggregation.roster import Roster

from .hospitals import ONE, SITES, Place, confirm_one, identity_of
from .paper_sites import PASSPHRASE, Killed, kill_at

OTHERS = ("birch", "cedar")


def resigned(place: Place, **changes: Any) -> Signed[SignedRoster]:
    changed = msgspec.structs.replace(place.signed().document, **changes)
    return sign_document(changed, place.folder.read_identity(PASSPHRASE))


def try_confirm(place: Place, signed: Signed[SignedRoster], words: dict[str, str]) -> None:
    with place.held() as (_, identity, ledger):
        confirm(place.site(), signed, identity, ledger, words, {})


def test_confirmed_sites_count_at_every_start_and_persons_stay_here(approved: Place) -> None:
    done = confirm_one(approved, *OTHERS, birch="Dr  Oak, Forest Hospital")
    assert done.persons == {"amber": "", "birch": "Dr Oak, Forest Hospital", "cedar": ""}
    pinned = load_pinned(approved.site(), identity_of(ONE))
    assert pinned.confirmed == set(SITES)
    assert set(pinned.keys) == set(SITES)
    assert b"Oak" not in approved.site().signed_roster.read_bytes() + approved.site().approval.read_bytes()
    assert "Oak" not in (approved.site().home / "ledger.jsonl").read_text()
    assert approved.steps() == ["request", "approval", "confirmation"]


def test_confirming_again_changes_nothing_and_takes_no_one_back(approved: Place) -> None:
    confirm_one(approved, *OTHERS)
    before = approved.site().pinned.read_bytes()
    confirm_one(approved)
    assert approved.site().pinned.read_bytes() == before
    assert approved.steps().count("confirmation") == 1


def test_wrong_words_are_refused_without_saying_which(approved: Place) -> None:
    right = approved.words(*OTHERS)
    for wrong in (
        approved.words(ONE)[ONE],
        right["cedar"],
        right["birch"][:-1] + "x",
        "-".join(right["birch"].split("-")[:7]),
    ):
        with pytest.raises(EnrolmentError, match="not the words") as refused:
            try_confirm(approved, approved.signed(), {**right, "birch": wrong})
        assert not any(word in str(refused.value) for word in right["birch"].split("-"))
    assert not approved.site().pinned.exists()
    assert approved.steps() == ["request", "approval"]


def test_words_of_a_stranger_or_of_oneself_are_refused(approved: Place) -> None:
    for name in ("zeder", ONE):
        with pytest.raises(EnrolmentError, match="no other site"):
            try_confirm(approved, approved.signed(), {**approved.words(*OTHERS), name: "x"})


def test_a_person_may_be_left_out_and_not_left_empty(approved: Place) -> None:
    for empty in ("", "  "):
        with pytest.raises(EnrolmentError, match="who spoke for 'birch' is left empty"):
            confirm_one(approved, *OTHERS, birch=empty)
    assert not approved.site().pinned.exists()


def test_too_few_are_refused_and_nothing_is_kept(approved: Place) -> None:
    with pytest.raises(EnrolmentError, match=r"2 sites are confirmed, this one among them, and a sum needs 3.*cedar"):
        confirm_one(approved, "birch")
    assert not approved.site().pinned.exists()


@pytest.mark.parametrize(
    ("t", "m", "count", "words"),
    [(4, 3, 3, "a sum needs 4"), (5, 5, 5, None), (4, 3, 4, "at most 1 may be"), (4, 4, 5, None)],
)
def test_the_confirmed_must_be_enough_for_sums_and_the_others_few_enough_to_be_false(
    t: int, m: int, count: int, words: str | None
) -> None:
    names = tuple(f"s{n}" for n in range(6))
    thresholds = Thresholds(6, t, m)

    class Stand:
        pass

    roster: Any = Stand()
    roster.thresholds, roster.names = thresholds, names
    confirmed = dict.fromkeys(names[:count], "")
    if words is None:
        check_enough(roster, confirmed)
    else:
        with pytest.raises(EnrolmentError, match=words):
            check_enough(roster, confirmed)


def test_only_the_very_roster_that_was_approved(approved: Place) -> None:
    document = approved.signed().document
    changed = json.loads(document.roster)
    changed["sites"][1]["samples"] += 1
    other = canonical_json(changed).decode()
    assert Roster.from_bytes(other.encode()).names == SITES
    words = approved.words(*OTHERS)
    with pytest.raises(EnrolmentError, match="not the roster that this site approved"):
        try_confirm(approved, resigned(approved, roster=other), words)
    with pytest.raises(EnrolmentError, match="signature"):
        try_confirm(approved, sign_document(document, identity_of("nobody")), words)
    swapped = {**document.signatures, "birch": document.signatures["cedar"]}
    with pytest.raises(RosterError, match="birch"):
        try_confirm(approved, resigned(approved, signatures=swapped), words)
    missing = {name: each for name, each in document.signatures.items() if name != "birch"}
    with pytest.raises(RosterError, match="has not signed"):
        try_confirm(approved, resigned(approved, signatures=missing), words)
    own = {**document.signatures, ONE: document.signatures["cedar"]}
    with pytest.raises(EnrolmentError, match="not the one that it gave"):
        try_confirm(approved, resigned(approved, signatures=own), words)
    with pytest.raises(EnrolmentError, match="another study"):
        try_confirm(approved, resigned(approved, study_hash="ab" * 32), words)
    assert not approved.site().pinned.exists()


def test_without_an_approval_there_is_nothing_to_confirm(approved: Place) -> None:
    approved.site().approval.unlink()
    with pytest.raises(EnrolmentError, match="has not approved"):
        confirm_one(approved, *OTHERS)


def test_every_start_finds_what_was_changed_since(approved: Place) -> None:
    folder, identity = approved.site(), identity_of(ONE)
    with pytest.raises(EnrolmentError, match="not confirmed yet"):
        load_pinned(folder, identity)
    confirm_one(approved, *OTHERS)

    def refused(path: Any, data: bytes, words: str) -> None:
        before = path.read_bytes()
        path.write_bytes(data)
        with pytest.raises((EnrolmentError, RosterError), match=words):
            load_pinned(folder, identity)
        path.write_bytes(before)
        load_pinned(folder, identity)

    pinned = json.loads(folder.pinned.read_bytes())
    refused(folder.pinned, b"{}", "damaged")
    refused(folder.pinned, canonical_json({**pinned, "confirmed": {**pinned["confirmed"], "zeder": ""}}), "not made by")
    refused(folder.pinned, canonical_json({**pinned, "confirmed": {ONE: "", "birch": ""}}), "not made by")
    roster = Roster.from_bytes(folder.state_roster.read_bytes())
    persons = {**pinned["confirmed"], "birch": "somebody else"}
    older = confirming._pinned_bytes(folder, roster, persons, identity)
    refused(folder.pinned, older, "the ledger does not name this confirmation")
    of_another = confirming._pinned_bytes(folder, roster, pinned["confirmed"], identity_of("birch"))
    refused(folder.pinned, of_another, "not made by")
    refused(
        folder.state_roster, folder.state_roster.read_bytes().replace(b'"weighted"', b'"uniform"'), "not the roster"
    )
    refused(folder.signed_roster, resigned(approved, signatures={}).data, "not the one that it gave")
    refused(folder.approval, approved.site("birch").approval.read_bytes(), "signature|of 'birch'")
    (folder.home / "ledger.jsonl").unlink()
    with pytest.raises(Exception, match="ledger"):
        load_pinned(folder, identity)


def test_killed_at_any_name_it_is_confirmed_or_not_and_the_same_command_goes_on(approved: Place) -> None:
    folder, identity = approved.site(), identity_of(ONE)
    for step in range(1, 12):
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, step)
            try:
                confirm_one(approved, *OTHERS)
                break
            except Killed:
                pass
        if folder.pinned.exists():
            load_pinned(folder, identity)
    assert step > 2
    assert load_pinned(folder, identity).confirmed == set(SITES)
    assert approved.steps().count("confirmation") == 1
