"""Leaving a study: for good, with the ledger's word, and taken up again after any crash."""

from __future__ import annotations

import pytest
from wardround.platform.enrolling.confirming import load_pinned
from wardround.platform.enrolling.errors import EnrolmentError
from wardround.platform.enrolling.installing import install_kit
from wardround.platform.enrolling.leaving import leave
from wardround.platform.held_home import HeldHome
from wardround.privacy.errors import HomeError
from wardround.privacy.home import SiteHome

from .hospitals import ONE, Place, approve_one, confirm_one, identity_of, join_one


def test_what_was_left_is_left_for_good(approved: Place) -> None:
    folder = approved.site()
    confirm_one(approved, "birch", "cedar")
    with approved.held() as (home, _, ledger):
        found = leave(home, folder, ledger)
        assert (found.asked, found.approved, found.begun, found.new) == (True, True, False, True)
        assert HeldHome(home, None).unfinished(folder.digest, ledger) == ""
    assert folder.left.exists()
    assert not folder.tls_key.exists()
    assert not folder.flare.exists()
    for kept in (folder.state_roster, folder.approval, folder.pinned, folder.kit, folder.home / "ledger.jsonl"):
        assert kept.exists()
    assert approved.steps()[-1] == "left"
    with pytest.raises(EnrolmentError, match="has left"):
        load_pinned(folder, identity_of(ONE))
    for again in (lambda: install_kit(folder, approved.kit()), lambda: approve_one(approved)):
        with pytest.raises(EnrolmentError, match="has left"):
            again()


def test_leaving_twice_is_leaving_once(joined: Place) -> None:
    for new in (True, False):
        with joined.held() as (home, _, ledger):
            assert leave(home, joined.site(), ledger).new is new
    assert joined.steps().count("left") == 1


def test_a_study_under_way_is_closed_in_the_ledger(approved: Place) -> None:
    folder = approved.site()
    with approved.held() as (home, _, ledger):
        ledger.open_study(folder.digest, roster="ab" * 32)
        assert leave(home, folder, ledger).begun
        assert not ledger.is_open(folder.digest)


def test_a_site_that_runs_cannot_leave(joined: Place) -> None:
    with joined.held(), pytest.raises(HomeError, match="in use"), SiteHome.open(joined.homes(ONE), ONE):
        pass


@pytest.mark.parametrize("step", ["ledger", "keys"])
def test_killed_on_the_way_the_same_command_does_the_rest(
    joined: Place, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    folder = joined.site()
    target = "note_step" if step == "ledger" else "sync_folder"

    class Killed(BaseException):
        pass

    def dies(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(f"wardround.platform.enrolling.leaving.{target}", dies)
        with pytest.raises(Killed), joined.held() as (home, _, ledger):
            leave(home, folder, ledger)
    assert folder.left.exists()
    with pytest.raises(EnrolmentError, match="has left"):
        install_kit(folder, joined.kit())
    with joined.held() as (home, _, ledger):
        leave(home, folder, ledger)
    assert joined.steps().count("left") == 1
    assert not folder.tls_key.exists()


def test_before_anything_was_told_there_is_nothing_to_take_back(invited: Place) -> None:
    join_one(invited)
    with invited.held() as (home, _, ledger):
        assert not leave(home, invited.site(), ledger).approved
