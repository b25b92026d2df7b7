"""The roster: one byte string, every signature, nothing unsigned."""

from __future__ import annotations

import dataclasses
import json

import pytest
from wardround.privacy.errors import ParameterError, PrivacyError, RosterError
from wardround.privacy.secure_aggregation.parameters import Block, choose_thresholds
from wardround.privacy.secure_aggregation.roster import Roster, RosterSite

from ..conftest import STUDY, Consortium


def test_round_trip():
    roster = Consortium(5, samples=[3, 1, 4, 1, 5]).roster
    again = Roster.from_bytes(roster.to_bytes())
    assert again == roster
    assert again.digest == roster.digest


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(extra=1),
        lambda d: d.update(version=2),
        lambda d: d.update(ring_bits=64),
        lambda d: d.update(threshold=2),
        lambda d: d.update(w_max="nan"),
        lambda d: d.update(w_max="4"),
        lambda d: d.update(study="00"),
        lambda d: d["sites"].reverse(),
        lambda d: d["sites"][0].update(samples=0),
        lambda d: d["sites"][0].update(name="../x"),
        lambda d: d["vectors"].update(gossip=[]),
        lambda d: d["vectors"]["update"][0].update(colour="red"),
        lambda d: d["vectors"]["update"][0].pop("clip"),
        lambda d: d.update(evaluation_cohort=["site-000"]),
        lambda d: d.pop("cohort"),
    ],
)
def test_malformed_rosters_are_refused(change):
    data = json.loads(Consortium(4).roster.to_bytes())
    change(data)
    with pytest.raises(PrivacyError):
        Roster.from_bytes(json.dumps(data, separators=(",", ":"), sort_keys=True).encode())


def test_other_than_canonical_bytes_are_refused():
    data = Consortium(4).roster.to_bytes()
    for other in (data + b" ", data.replace(b",", b", ", 1), b"", b"{}", b"\xff" * 40, data[:-1]):
        with pytest.raises(RosterError):
            Roster.from_bytes(other)


def test_pin_needs_every_signature_and_no_other():
    consortium = Consortium(3)
    roster = consortium.roster
    good = {name: roster.sign(identity, name) for name, identity in consortium.identities.items()}
    assert roster.pin(good, ["site-000"]).confirmed == {"site-000"}
    with pytest.raises(RosterError, match="site-001 has not signed"):
        roster.pin({k: v for k, v in good.items() if k != "site-001"}, roster.names)
    with pytest.raises(RosterError, match="site-002 is not over this roster"):
        roster.pin({**good, "site-002": good["site-001"]}, roster.names)
    with pytest.raises(RosterError, match="stranger"):
        roster.pin({**good, "stranger": good["site-001"]}, roster.names)
    with pytest.raises(RosterError, match="stranger"):
        roster.pin(good, ["stranger"])


def test_sign_refuses_another_sites_identity():
    consortium = Consortium(3)
    with pytest.raises(RosterError, match="does not list"):
        consortium.roster.sign(consortium.identities["site-000"], "site-001")


def test_duplicate_and_unordered_sites():
    sites = Consortium(3).roster.sites
    block = {"update": (Block("x", 1, 1.0),)}
    for wrong in (sites[::-1], (sites[0], sites[0], sites[1])):
        with pytest.raises(RosterError, match="ascending"):
            Roster(STUDY, wrong, choose_thresholds(3), block)
    with pytest.raises(RosterError, match="thresholds are for 4"):
        Roster(STUDY, sites, choose_thresholds(4), block)
    with pytest.raises(RosterError, match="site name"):
        Roster(STUDY, (RosterSite("A B", sites[0].public_key, 1), *sites[1:]), choose_thresholds(3), block)


def test_weights_add_up_to_n_when_none_is_capped():
    roster = Consortium(6, samples=[10, 20, 30, 40, 50, 60]).roster
    assert sum(roster.weight_of(name) for name in roster.names) == pytest.approx(6)


@pytest.mark.parametrize("w_max", [0.5, float("nan"), float("inf")])
def test_cap_of_weights(w_max):
    base = Consortium(3).roster
    with pytest.raises(ParameterError, match="w_max"):
        Roster(STUDY, base.sites, base.thresholds, base.vectors, w_max=w_max)


def test_no_site_is_named_like_the_other_side():
    sites = tuple(
        RosterSite(name, key, 1) for name, key in (("a", "11" * 32), ("b", "22" * 32), ("coordinator", "33" * 32))
    )
    with pytest.raises(RosterError, match="'coordinator' is taken"):
        Roster(STUDY, sites, choose_thresholds(3), {"update": (Block("update", 1, 1.0),)})


@pytest.mark.parametrize("w_max", [0.5, float("nan"), float("inf"), 1e308])
def test_caps_that_could_overflow_are_refused(w_max):
    roster = Consortium(3).roster
    with pytest.raises(ParameterError, match="w_max"):
        Roster(STUDY, roster.sites, roster.thresholds, roster.vectors, w_max=w_max)


def test_a_roster_that_claims_noise_is_signed_only_by_a_site_that_adds_it():
    """It would allow sums over two sites and a second survivor set, which only noise makes safe."""
    plain = Consortium(3)
    private = dataclasses.replace(plain.roster, thresholds=choose_thresholds(3, m=2, private=True))
    identity = plain.identities["site-000"]
    with pytest.raises(RosterError, match="differentially private"):
        private.sign(identity, "site-000")
    assert private.sign(identity, "site-000", private=True) != plain.roster.sign(identity, "site-000")
    assert Roster.from_bytes(private.to_bytes()) == private
    assert private.thresholds.least == 2
    with pytest.raises(ParameterError, match="minimum cohort m = 2"):
        choose_thresholds(3, m=2)
    with pytest.raises(ParameterError, match="minimum cohort m = 1"):
        choose_thresholds(3, m=1, private=True)
