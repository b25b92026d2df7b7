"""A site, opened from its home: under the roster that it signed, on the data that it counted, unless it has left."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.errors import CheckpointError
from wardround.platform.opening import policy_for
from wardround.platform.site_side import LEFT_FILE, ROSTER_FILE, has_begun, pin_roster
from wardround.privacy.errors import HomeError, PolicyError
from wardround.privacy.ledger.log import verify

from .opened_sides import Parties, terms_for


@pytest.fixture
def parties(toy: Callable[..., Any], tmp_path: Path, BACKBONE: str) -> Parties:
    made = toy(tmp_path / "run")
    return Parties(made, terms_for(made, BACKBONE), tmp_path)


def test_a_site_opens_and_keeps_its_roster(parties: Parties) -> None:
    state = parties.state()
    for _ in range(2):
        with ExitStack() as stack:
            side = parties.site(stack)
            assert side.ledger.is_open(parties.terms.digest)
            assert (side.begun, side.budget, has_begun(state)) == (False, None, False)
    assert (state / ROSTER_FILE).read_bytes() == parties.terms.roster.roster.to_bytes()


def test_without_consent_a_person_must_have_made_the_policy(parties: Parties) -> None:
    with ExitStack() as stack, pytest.raises(PolicyError, match="has no policy"):
        parties.site(stack, consents=False)
    policy = parties.root / "homes" / "site-1" / "policy.toml"
    assert not policy.exists()
    policy.write_text(policy_for(parties.terms, "site-1"))
    with ExitStack() as stack:
        assert parties.site(stack, consents=False).ledger.is_open(parties.terms.digest)


def test_a_site_that_left_does_not_open(parties: Parties) -> None:
    with ExitStack() as stack:
        parties.site(stack)
    state = parties.state()
    before = (parties.root / "homes" / "site-1" / "ledger.jsonl").read_bytes()
    (state / LEFT_FILE).write_text("{}")
    for consents in (True, False):
        with ExitStack() as stack, pytest.raises(HomeError, match="has left the study") as refused:
            parties.site(stack, consents=consents)
        assert refused.value.where == str(state / LEFT_FILE)
    assert (parties.root / "homes" / "site-1" / "ledger.jsonl").read_bytes() == before


def test_data_of_another_number_are_refused_and_nothing_is_kept(parties: Parties, BACKBONE: str) -> None:
    other = parties.other(BACKBONE, **{"site-1": 25})
    with ExitStack() as stack, pytest.raises(HomeError, match=r"trains on 24 images, and the roster .* says 25"):
        parties.site(stack, terms=other)
    assert not (parties.state() / ROSTER_FILE).exists()
    assert not (parties.root / "homes" / "site-1" / "ledger.jsonl").exists()
    with ExitStack() as stack:
        parties.site(stack)


def test_withdrawn_images_count(parties: Parties) -> None:
    (site, *others) = parties.made.data.sites
    part = site.train
    kept = replace(
        part,
        rows=part.rows[2:],
        features=part.features[2:],
        labels=part.labels[2:],
        groups=part.groups[2:],
        withdrawn=part.groups[:2],
    )
    parties.made = replace(parties.made, data=replace(parties.made.data, sites=(replace(site, train=kept), *others)))
    with ExitStack() as stack:
        assert parties.site(stack).site.name == site.name
    lost = replace(kept, withdrawn=())  # the same images without their number: no longer what the roster says
    parties.made = replace(parties.made, data=replace(parties.made.data, sites=(replace(site, train=lost), *others)))
    with ExitStack() as stack, pytest.raises(HomeError, match="the roster that it signed says"):
        parties.site(stack)


def test_another_roster_is_refused_before_anything_else(parties: Parties, BACKBONE: str) -> None:
    with ExitStack() as stack:
        parties.site(stack)
    other = parties.other(BACKBONE, **{"site-2": 99})
    with ExitStack() as stack, pytest.raises(CheckpointError, match="differs from the one that this site signed"):
        parties.site(stack, terms=other)
    assert (parties.state() / ROSTER_FILE).read_bytes() == parties.terms.roster.roster.to_bytes()


def test_a_site_that_the_roster_does_not_know(
    parties: Parties, toy_data: Callable[..., Any], toy: Callable[..., Any], BACKBONE: str
) -> None:
    made = replace(parties.made, data=toy_data(sites=4))
    stranger = Parties(made, parties.terms, parties.root)
    with ExitStack() as stack, pytest.raises(HomeError, match="site-4 is not in the roster"):
        stranger.site(stack, "site-4")


def test_a_roster_is_pinned_once(tmp_path: Path) -> None:
    path = tmp_path / ROSTER_FILE
    pin_roster(path, b"one")
    pin_roster(path, b"one")
    with pytest.raises(CheckpointError):
        pin_roster(path, b"two")
    assert path.read_bytes() == b"one"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_closed_study_stays_closed_without_consent(parties: Parties) -> None:
    with ExitStack() as stack:
        parties.site(stack).ledger.close_study(parties.terms.digest)
    with ExitStack() as stack:
        side = parties.site(stack, consents=False)
        assert side.site.witness is not None
        assert side.site.witness.over
    assert verify(parties.root / "homes" / "site-1" / "ledger.jsonl").open_studies == ()
