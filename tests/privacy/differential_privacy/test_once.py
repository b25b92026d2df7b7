"""A release is made once: the same bytes for ever, and whatever happens to them is noticed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from wardround.privacy.differential_privacy import accountant, budget_file, once
from wardround.privacy.differential_privacy.budget import Budget
from wardround.privacy.differential_privacy.once import released_once
from wardround.privacy.differential_privacy.releases import Release
from wardround.privacy.errors import BudgetError
from wardround.privacy.identity import Identity
from wardround.privacy.ledger.log import Ledger

STUDY = "ab" * 32
RELEASE = Release("class-sums", 4.0, 1.0, 1)


class Maker:
    """Counts how often it is asked, and never gives the same twice."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> bytes:
        self.calls += 1
        return os.urandom(16)


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "result"
        self.identity = Identity.from_seed(bytes(32))
        self.start()

    def start(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
        clock = lambda: datetime(2026, 1, 1, tzinfo=UTC)  # noqa: E731
        self.ledger = Ledger.open(self.folder / "ledger.jsonl", owner="a", clock=clock)
        self.budget = Budget.open(self.folder / "budget.json", site="a", identity=self.identity, ledger=self.ledger)

    def release(self, make: Any, **more: Any) -> bytes:
        given = {"study": STUDY, "key": "class-sums", "release": RELEASE, "unit": "patient", "limit": (8.0, 1e-5)}
        return released_once(self.budget, self.path, make=make, **{**given, **more})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(accountant, "epsilon_of", lambda releases, delta: float(sum(each.steps for each in releases)))
    site = Site(tmp_path)
    yield site
    site.ledger.close()


def test_asked_again_it_answers_the_same_without_computing(site: Site) -> None:
    make = Maker()
    first = site.release(make)
    assert site.budget.sealed(STUDY, "class-sums") == hashlib.sha256(first).hexdigest()
    assert site.path.read_bytes() == first
    assert site.path.stat().st_mode & 0o777 == 0o600
    before = site.budget.sequence
    assert site.release(make) == first
    site.start()
    assert site.release(make) == first
    assert (make.calls, site.budget.sequence) == (1, before)


def test_nothing_is_computed_that_is_not_paid_for(site: Site) -> None:
    make = Maker()
    with pytest.raises(BudgetError, match="would exceed"):
        site.release(make, release=Release("training", 1.0, 0.1, 9))
    assert make.calls == 0
    assert not site.path.exists()


def test_the_charge_is_on_disk_when_it_computes_and_the_seal_when_it_returns(site: Site) -> None:
    seen = []

    def make() -> bytes:
        seen.append((b'"key":"class-sums"' in (site.folder / "budget.json").read_bytes(), site.path.exists()))
        return b"noisy"

    site.release(make)
    assert seen == [(True, False)]
    assert hashlib.sha256(b"noisy").hexdigest().encode() in (site.folder / "budget.json").read_bytes()


def test_what_was_stored_but_not_sealed_is_computed_again_under_the_same_charge(site: Site) -> None:
    make = Maker()
    site.budget.charge(STUDY, "class-sums", RELEASE, unit="patient", limit=(8.0, 1e-5))
    site.path.write_bytes(b"left by a crash, or put there by somebody")
    data = site.release(make)
    assert (make.calls, site.path.read_bytes()) == (1, data)
    assert len(site.budget.charges) == 1


@pytest.mark.parametrize("change", ["edit", "remove"])
def test_a_sealed_result_that_is_gone_or_changed_is_not_computed_again(site: Site, change: str) -> None:
    make = Maker()
    site.release(make)
    if change == "remove":
        site.path.unlink()
    else:
        site.path.write_bytes(b"another")
    with pytest.raises(BudgetError, match=r"(cannot be read|is not the one that was sealed).*that would be a second"):
        site.release(make)
    assert make.calls == 1


def test_another_release_under_the_same_name_is_refused(site: Site) -> None:
    make = Maker()
    site.release(make)
    with pytest.raises(BudgetError, match="was charged as"):
        site.release(make, release=Release("class-sums", 5.0, 1.0, 1))
    assert make.calls == 1


def test_a_full_disk_seals_nothing_and_the_charge_covers_another_attempt(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    make = Maker()
    with monkeypatch.context() as patch:
        patch.setattr(once, "write_atomic", no_space)
        with pytest.raises(BudgetError, match="cannot be stored: No space left"):
            site.release(make)
    assert site.budget.sealed(STUDY, "class-sums") is None
    assert len(site.release(make)) == 16
    assert (make.calls, len(site.budget.charges)) == (2, 1)


def test_a_computation_that_failed_is_void_and_may_not_leave(site: Site) -> None:
    """That it failed may depend on the data, and whoever asked for it sees that it did."""

    def fail() -> bytes:
        raise ValueError("all of it was clipped away")

    make = Maker()
    with pytest.raises(ValueError, match="clipped away"):
        site.release(fail)
    assert site.budget.sealed(STUDY, "class-sums") == budget_file.VOID
    assert not site.budget.covers(STUDY, "class-sums")
    site.start()
    with pytest.raises(BudgetError, match="failed when it was computed"):
        site.release(make)
    assert make.calls == 0


@pytest.mark.parametrize("error", [OSError, MemoryError, KeyboardInterrupt])
def test_a_machine_that_failed_says_nothing_and_may_try_again(site: Site, error: type[BaseException]) -> None:
    def fail() -> bytes:
        raise error

    make = Maker()
    with pytest.raises(error):
        site.release(fail)
    assert site.budget.sealed(STUDY, "class-sums") is None
    assert len(site.release(make)) == 16
    assert len(site.budget.charges) == 1
