"""Random schedules of valid, stale and damaged messages: only typed refusals, one answer at most, never a wrong sum."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.privacy.errors import DecodeError, ProtocolError
from wardround.privacy.messages import (
    TO_COORDINATOR,
    TO_SITE,
    AdvertList,
    ShareDelivery,
    SurvivorSet,
    UnmaskRequest,
    decode,
    encode,
)

from ..conftest import Consortium

CONSORTIUM = Consortium(4)
STAGE_OF = {AdvertList: "share", ShareDelivery: "mask", SurvivorSet: "agree", UnmaskRequest: "unmask"}


def recorded(round_: int):
    """An honest session, with every request and reply of it by stage and site."""
    play = CONSORTIUM.play(CONSORTIUM.session_id(round_))
    words = play.words()
    requests, replies = {}, {"advertise": {name: site.advertise() for name, site in play.sites.items()}}
    play.advertise()
    for stage in ("share", "mask", "agree", "unmask"):
        requests[stage] = dict(play.out[stage])
        play.stage(stage, words=words if stage == "mask" else None)
        replies[stage] = {name: play.sites[name]._answered[stage][1] for name in play.sites}
    return words, requests, replies


WORDS, REQUESTS, REPLIES = recorded(0)
_, OTHER_REQUESTS, OTHER_REPLIES = recorded(1)
NAMES = CONSORTIUM.roster.names
SUBSETS = [tuple(n for i, n in enumerate(NAMES) if mask >> i & 1) for mask in range(16)]


def damaged(data, message, expected):
    """The message with one bit flipped on the wire, or None where the decoder refuses it."""
    wire = bytearray(encode(message))
    bit = data.draw(st.integers(0, 8 * len(wire) - 1))
    wire[bit // 8] ^= 1 << bit % 8
    try:
        return decode(bytes(wire), expected, CONSORTIUM.limits)
    except DecodeError:
        return None


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_site_gives_one_answer_at_most_whatever_it_is_asked(data):
    name = data.draw(st.sampled_from(NAMES))
    site = CONSORTIUM.site(name)
    site.advertise()
    survivors = [SurvivorSet(site.session, subset) for subset in SUBSETS]
    pool = [REQUESTS[stage][name] for stage in REQUESTS] * 4
    pool += [OTHER_REQUESTS[stage][name] for stage in OTHER_REQUESTS] + survivors
    pool += [msgspec.structs.replace(REQUESTS["unmask"][name], survivors=subset) for subset in SUBSETS]
    answers, signed = set(), set()
    for _ in range(data.draw(st.integers(4, 25))):
        message = data.draw(st.sampled_from(pool))
        if data.draw(st.integers(0, 4)) == 0:
            message = damaged(data, message, TO_SITE)
        if message is None or type(message) not in STAGE_OF:
            continue
        stage = STAGE_OF[type(message)]
        try:
            reply = getattr(site, stage)(message, *((WORDS[name].copy(),) if stage == "mask" else ()))
        except ProtocolError:
            continue
        if stage == "agree":
            signed.add(encode(reply))
        if stage == "unmask":
            answers.add(encode(reply))
            assert {row.kind for row in reply.shares} == {"b"}
    assert len(answers) <= 1
    assert len(signed) <= 1


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_coordinator_releases_the_right_sum_or_nothing(data):
    coordinator = CONSORTIUM.play().coordinator
    pool = [(stage, name, REPLIES[stage][name]) for stage in REPLIES for name in NAMES]
    stray = [(stage, name, OTHER_REPLIES[stage][name]) for stage in OTHER_REPLIES for name in NAMES]
    closing = ("close_advertise", "close_share", "close_mask", "close_agree", "finish")
    for close, stage in zip(closing, REPLIES, strict=True):
        wanted = data.draw(st.permutations([row for row in pool if row[0] == stage]))
        extra = data.draw(st.lists(st.sampled_from(pool + stray), max_size=3))
        for _, name, message in data.draw(st.permutations(wanted + extra)):
            if data.draw(st.integers(0, 40)) == 0:
                message = damaged(data, message, TO_COORDINATOR)
            sender = name if data.draw(st.integers(0, 40)) else data.draw(st.sampled_from(NAMES))
            if message is not None:
                try:
                    coordinator.feed(sender, message)
                except ProtocolError:
                    continue
        try:
            released = getattr(coordinator, close)()
        except ProtocolError:
            return
    expected = [sum(int(WORDS[name][i]) for name in released.survivors) % 2**32 for i in range(8)]
    assert released.ring.tolist() == expected
    assert len(released.survivors) >= 3
