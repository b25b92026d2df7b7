"""A consortium's folder in a home: nothing in it is believed because it lies there; it is found by part of its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from wardround.platform.enrolling.errors import EnrolmentError
from wardround.platform.enrolling.finding import find_folder, find_home
from wardround.platform.enrolling.site_folder import SiteFolder

from .hospitals import ONE, Place


def test_the_study_is_the_one_that_its_folder_is_called_by(joined: Place) -> None:
    folder = joined.site()
    assert folder.study().digest() == folder.digest == folder.root.name
    for before, after in (("rounds = 2", "rounds = 3"), ("federated = true", "federated = false")):
        text = folder.study_file.read_text()
        assert before in text
        folder.study_file.write_text(text.replace(before, after))
        with pytest.raises(EnrolmentError, match="not of the study"):
            folder.study()
        folder.study_file.write_text(text)
    assert folder.study().rounds == 2


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('split_file = ""', 'split_file = "elsewhere.json"'),
        ("lying_coordinator = []", 'lying_coordinator = [{round = 1, kind = "split-view"}]'),
    ],
)
def test_what_is_for_simulations_alone_cannot_be_written_into_it(joined: Place, before: str, after: str) -> None:
    folder = joined.site()
    text = folder.study_file.read_text()
    if before not in text:
        pytest.skip("the study file has no such key")
    folder.study_file.write_text(text.replace(before, after))
    with pytest.raises(EnrolmentError, match="cannot be used"):
        folder.study()


def test_documents_of_others_are_refused(joined: Place) -> None:
    mine, other = joined.site(), joined.site("birch")
    mine.request.write_bytes(other.request.read_bytes())
    with pytest.raises(EnrolmentError, match="of 'birch'"):
        mine.read_request()
    mine.kit.write_bytes(joined.kit("birch").data)
    with pytest.raises(EnrolmentError, match="of 'birch'"):
        mine.read_kit()
    elsewhere = SiteFolder(mine.home, "ab" * 32)
    elsewhere.root.mkdir()
    elsewhere.invitation.write_bytes(mine.invitation.read_bytes())
    with pytest.raises(EnrolmentError, match="another study"):
        elsewhere.read_invitation()


def test_a_hash_must_be_whole(tmp_path: Path) -> None:
    for name in ("ab" * 31, "../" + "a" * 61, "AB" * 32):
        with pytest.raises(EnrolmentError, match="64 hexadecimal"):
            SiteFolder(tmp_path, name)


def test_a_folder_is_found_by_name_by_hash_and_when_it_is_the_only_one(joined: Place) -> None:
    folder = joined.site()
    for wanted in ("", "tiny", folder.digest[:8], folder.digest):
        assert find_folder(folder.home, wanted) == folder
    for wanted in ("other", folder.digest[:7]):
        with pytest.raises(EnrolmentError, match="no study that is called"):
            find_folder(folder.home, wanted)
    folder.left.write_text("{}")
    with pytest.raises(EnrolmentError, match="has left every study"):
        find_folder(folder.home)
    assert find_folder(folder.home, "tiny") == folder
    with pytest.raises(EnrolmentError, match="joined no study"):
        find_folder(folder.home.parent)


def test_a_home_is_found_when_it_is_the_only_one(joined: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARDROUND_HOME", str(joined.homes(ONE).parent))
    assert find_home(None) == joined.site().home
    second = joined.homes(ONE) / "birch"
    second.mkdir()
    assert find_home(None) == joined.site().home
    (second / "identity.pem").touch()
    with pytest.raises(EnrolmentError, match="2 sites have their homes here"):
        find_home(None)
    assert find_home(second) == second
    with pytest.raises(EnrolmentError, match="no site's home"):
        find_home(joined.root)
