"""Enrolments that are made once, and copied by the tests that change them."""

from __future__ import annotations

from pathlib import Path

import pytest
from wardround.platform.enrolling.counting import own_study

from .hospitals import ONE, Place, approve_all, copied, count_one, founded, join_all, make_quick


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One backbone and one key of each kind for all tests."""
    make_quick(monkeypatch)


@pytest.fixture(scope="session")
def _founded(tmp_path_factory: pytest.TempPathFactory) -> Place:
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        place = founded(tmp_path_factory.mktemp("founded"))
        offered = place.invited()
        count_one(place, ONE, own_study(offered.signed, offered.study, ONE, [], [], None))  # its pictures are drawn
        return place


@pytest.fixture(scope="session")
def _joined(tmp_path_factory: pytest.TempPathFactory, _founded: Place) -> Place:
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        return join_all(copied(_founded, tmp_path_factory.mktemp("joined")))


@pytest.fixture(scope="session")
def _approved(tmp_path_factory: pytest.TempPathFactory, _joined: Place) -> Place:
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        return approve_all(copied(_joined, tmp_path_factory.mktemp("approved")))


@pytest.fixture
def invited(tmp_path: Path, quick: None, _founded: Place) -> Place:
    """A consortium that no hospital has joined."""
    return copied(_founded, tmp_path)


@pytest.fixture
def joined(tmp_path: Path, quick: None, _joined: Place) -> Place:
    """Every hospital asked to take part; the kits are made, and none is installed."""
    return copied(_joined, tmp_path)


@pytest.fixture
def approved(tmp_path: Path, quick: None, _approved: Place) -> Place:
    """Every hospital approved; the signed roster is there, and nobody confirmed it."""
    return copied(_approved, tmp_path)
