"""Envelopes of the coordinator: only what it signed for this very site, in this study, under this roster, is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.privacy.egress import COORDINATOR, Sealed
from wardround.privacy.envelopes import LABEL_ENVELOPE, SIGNATURE_BYTES, Envelopes, unpack
from wardround.privacy.errors import DecodeError
from wardround.privacy.identity import Identity, SigningContext
from wardround.privacy.secure_aggregation.parameters import Block, choose_thresholds
from wardround.privacy.secure_aggregation.roster import Roster, RosterSite

COORDINATORS, OTHER = Identity.from_seed(b"c" * 32), Identity.from_seed(b"o" * 32)
SITE, NEIGHBOUR = "site-000", "site-001"


@pytest.fixture(scope="module")
def roster() -> Roster:
    names = [f"site-00{at}" for at in range(3)]
    sites = tuple(RosterSite(name, Identity.from_seed(name.encode().ljust(32)).public_key.hex(), 100) for name in names)
    vectors: dict[Any, Any] = {"update": (Block("update", 5, 1.0),)}
    return Roster(b"s" * 32, sites, choose_thresholds(3), vectors, coordinator_key=COORDINATORS.public_key.hex())


def sealed(wire: bytes, to: str = SITE) -> Sealed:
    """A parcel as the gate makes them; its own checks are not the subject here."""
    made = object.__new__(Sealed)
    for name, value in (("peer", to), ("wire", wire), ("tag", "round-end")):
        object.__setattr__(made, name, value)
    return made


def packed(roster: Roster, wire: bytes, to: str = SITE, signer: Identity = COORDINATORS) -> bytes:
    return Envelopes(signer, roster).pack(sealed(wire, to))


@settings(max_examples=60, deadline=None)
@given(wire=st.binary(max_size=300))
def test_what_is_packed_for_a_site_is_opened_there_and_nowhere_else(roster: Roster, wire: bytes) -> None:
    data = packed(roster, wire)
    assert len(data) == SIGNATURE_BYTES + len(wire)
    assert unpack(data, roster, SITE) == wire
    with pytest.raises(DecodeError, match="did not sign for this site"):
        unpack(data, roster, NEIGHBOUR)


@settings(max_examples=150, deadline=None)
@given(wire=st.binary(min_size=1, max_size=80), at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_byte_that_changed_anywhere_is_refused(roster: Roster, wire: bytes, at: int, bit: int) -> None:
    data = bytearray(packed(roster, wire))
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(DecodeError, match="did not sign for this site"):
        unpack(bytes(data), roster, SITE)


@settings(max_examples=50, deadline=None)
@given(wire=st.binary(max_size=40), more=st.binary(min_size=1, max_size=8), cut=st.integers(1, 40))
def test_a_message_that_is_longer_or_shorter_is_refused(roster: Roster, wire: bytes, more: bytes, cut: int) -> None:
    data = packed(roster, wire)
    with pytest.raises(DecodeError):
        unpack(data + more, roster, SITE)
    with pytest.raises(DecodeError):
        unpack(data[:-cut], roster, SITE)


@pytest.mark.parametrize("size", [0, 1, SIGNATURE_BYTES - 1])
def test_what_is_too_short_for_a_signature_is_no_envelope(roster: Roster, size: int) -> None:
    with pytest.raises(DecodeError, match="no envelope"):
        unpack(bytes(size), roster, SITE)


OTHERS: dict[str, Callable[[Roster], Roster]] = {
    "study": lambda roster: replace(roster, study=b"t" * 32),
    "samples": lambda roster: replace(roster, sites=(replace_samples(roster.sites[0]), *roster.sites[1:])),
    "coordinator": lambda roster: replace(roster, coordinator_key=OTHER.public_key.hex()),
}


def replace_samples(site: Any) -> Any:
    return type(site)(site.name, site.public_key, site.samples + 1)


@pytest.mark.parametrize("what", OTHERS)
def test_another_study_roster_or_coordinator(roster: Roster, what: str) -> None:
    other = OTHERS[what](roster)
    with pytest.raises(DecodeError, match="did not sign"):
        unpack(packed(other, b"wire"), roster, SITE)
    with pytest.raises(DecodeError, match="did not sign"):
        unpack(packed(roster, b"wire"), other, SITE)


def test_a_site_cannot_sign_as_the_coordinator(roster: Roster) -> None:
    neighbour = Identity.from_seed(NEIGHBOUR.encode().ljust(32))
    for signer in (OTHER, neighbour):
        with pytest.raises(DecodeError, match="did not sign"):
            unpack(packed(roster, b"wire", signer=signer), roster, SITE)


def test_a_roster_without_a_coordinator_opens_nothing(roster: Roster) -> None:
    without = replace(roster, coordinator_key="")
    with pytest.raises(DecodeError, match="no envelope of the coordinator"):
        unpack(packed(without, b"wire"), without, SITE)


def test_another_signature_of_the_coordinator_is_no_envelope(roster: Roster) -> None:
    """What it signs for other ends, or over other parts, opens nothing."""
    context, digest = SigningContext(roster.study, roster.digest), sha256(b"wire").digest()
    good = COORDINATORS.sign(LABEL_ENVELOPE, context, COORDINATOR, SITE.encode(), digest)
    assert unpack(good + b"wire", roster, SITE) == b"wire"
    for label, signer, parts in (
        (b"wardround/v1/batch", COORDINATOR, (SITE.encode(), digest)),
        (LABEL_ENVELOPE, SITE, (SITE.encode(), digest)),
        (LABEL_ENVELOPE, COORDINATOR, (SITE.encode() + digest,)),
        (LABEL_ENVELOPE, COORDINATOR, (digest, SITE.encode())),
    ):
        with pytest.raises(DecodeError, match="did not sign"):
            unpack(COORDINATORS.sign(label, context, signer, *parts) + b"wire", roster, SITE)
