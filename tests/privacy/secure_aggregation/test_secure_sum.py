"""Honest sessions: the released sum is the plain sum of the encodings, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.privacy.errors import ProtocolError, Refusal
from wardround.privacy.secure_aggregation.parameters import Block

from ..conftest import Consortium


def plain_sum(words, names):
    """The slow, obvious reference: Python integers, coordinate by coordinate."""
    rows = [[int(word) for word in words[name]] for name in names]
    return [sum(column) % 2**32 for column in zip(*rows, strict=True)]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_sum_over_any_survivors_is_the_plain_sum(data):
    n = data.draw(st.integers(3, 8), label="n")
    consortium = Consortium(n, samples=data.draw(st.lists(st.integers(1, 500), min_size=n, max_size=n)))
    least, names = consortium.roster.thresholds.least, consortium.roster.names
    present, left = {}, list(names)
    for stage in ("advertise", "share", "mask"):
        keep = data.draw(st.integers(least, len(left)), label=f"left after {stage}")
        left = sorted(data.draw(st.permutations(left))[:keep])
        present[stage] = left
    survivors = tuple(left)
    t = consortium.roster.thresholds.t
    present["agree"] = sorted(data.draw(st.permutations(left))[: data.draw(st.integers(t, len(left)))])
    present["unmask"] = sorted(
        data.draw(st.permutations(present["agree"]))[: data.draw(st.integers(t, len(present["agree"])))]
    )
    play = consortium.play()
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    words = play.words(int(draw.integers(2**31)))

    released = play.whole(words, **present)

    assert released.survivors == survivors
    assert released.ring.tolist() == plain_sum(words, survivors)
    assert released.weight == pytest.approx(sum(consortium.roster.weight_of(name) for name in survivors))
    assert set(released.dropped) == set(names) - set(survivors)


@pytest.mark.parametrize("n", range(3, 17))
def test_the_sum_over_all_sites(n):
    play = Consortium(n).play()
    words = play.words(n)
    released = play.whole(words)
    assert released.ring.tolist() == plain_sum(words, play.sites)
    assert not released.dropped


def test_values_are_the_weighted_mean_within_the_fixed_point_error():
    consortium = Consortium(4, blocks=(Block("update", 1000, 1.0),), samples=[10, 20, 30, 400])
    roster, draw = consortium.roster, np.random.default_rng(3)
    vectors = {name: draw.uniform(-0.9, 0.9, 1000).astype(np.float32) for name in roster.names}
    play = consortium.play()
    from wardround.privacy.secure_aggregation.encoding import encode

    words = {
        name: encode({"update": vector}, roster.blocks("update"), roster.weight_of(name)).words
        for name, vector in vectors.items()
    }
    released = play.whole(words)
    weights = np.array([roster.weight_of(name) for name in roster.names])
    mean = (weights[:, None] * np.stack([vectors[n].astype(np.float64) for n in roster.names])).sum(0) / weights.sum()
    assert np.abs(released.values["update"] / released.weight - mean).max() <= 5e-7


@pytest.mark.parametrize("stage", ["advertise", "share", "mask", "agree", "unmask"])
def test_one_dropout_at_each_stage_is_named(stage):
    play = Consortium(5).play()
    words, names = play.words(), list(play.sites)
    later = ("advertise", "share", "mask", "agree", "unmask")
    present = dict.fromkeys(later[later.index(stage) :], names[1:])
    released = play.whole(words, **present)
    gone = stage in ("advertise", "share", "mask")
    assert released.survivors == tuple(names[1:] if gone else names)
    assert play.coordinator.dropped == {names[0]: (stage, "silent")}
    assert released.ring.tolist() == plain_sum(words, released.survivors)


@pytest.mark.parametrize("stage", ["advertise", "share", "mask"])
def test_three_sites_release_nothing_after_a_dropout(stage):
    play = Consortium(3).play()
    with pytest.raises(ProtocolError) as refused:
        play.whole(**{stage: list(play.sites)[1:]})
    assert refused.value.code is Refusal.TOO_FEW
    assert refused.value.stage == stage


def test_masked_vectors_look_uniform_and_do_not_depend_on_the_input():
    consortium = Consortium(3, blocks=(Block("update", 40_000, 1.0),))
    play = consortium.play()
    play.advertise()
    play.stage("share")
    zeros = np.zeros(40_000, dtype=np.uint32)
    message = play.sites["site-000"].mask(play.out["mask"]["site-000"], zeros)
    counts = np.bincount(np.frombuffer(message.vector, dtype=np.uint8), minlength=256)
    expected = 160_000 / 256
    assert ((counts - expected) ** 2 / expected).sum() < 400  # 255 degrees of freedom: beyond 400 once in 10^8


def test_all_messages_of_one_session_are_new_in_the_next():
    consortium = Consortium(3)
    first, second = (consortium.play(consortium.session_id(r)) for r in (0, 1))
    words = first.words()
    vectors = []
    for play in (first, second):
        play.advertise()
        play.stage("share")
        vectors.append(play.sites["site-001"].mask(play.out["mask"]["site-001"], words["site-001"]).vector)
    assert vectors[0] != vectors[1]


def test_a_repeated_request_gets_the_same_message():
    play = Consortium(4).play()
    words = play.words()
    first = play.sites["site-000"].advertise()
    assert play.sites["site-000"].advertise() is first
    play.advertise()
    for stage in ("share", "mask", "agree", "unmask"):
        site, request = play.sites["site-000"], play.out[stage]["site-000"]
        extra = (words["site-000"].copy(),) if stage == "mask" else ()
        reply = getattr(site, stage)(request, *extra)
        other = (words["site-001"].copy(),) if stage == "mask" else ()
        assert getattr(site, stage)(request, *other) is reply
        play.stage(stage, words=words if stage == "mask" else None)
    assert play.coordinator.finish().ring.tolist() == plain_sum(words, play.sites)


def test_masking_takes_the_plain_words_and_only_once():
    """The array that was passed holds the masked words afterwards; a repetition and a refusal leave it alone."""
    play = Consortium(4).play()
    words = play.words()
    play.advertise()
    play.stage("share")
    site, request, plain = play.sites["site-000"], play.out["mask"]["site-000"], words["site-000"].copy()
    refused = type(request)(request.session, request.shares[:1])
    given = plain.copy()
    with pytest.raises(ProtocolError) as error:
        site.mask(refused, given)
    assert error.value.code is Refusal.TOO_FEW
    assert given.tolist() == plain.tolist()
    reply = site.mask(request, given)
    assert reply.vector == given.tobytes()
    assert given.tolist() != plain.tolist()
    again = plain.copy()
    assert site.mask(request, again) is reply
    assert again.tolist() == plain.tolist()


def test_the_coordinator_ignores_an_exact_repetition():
    play = Consortium(3).play()
    words = play.words()
    play.upto("mask")
    play.stage("mask", ["site-000"], words, close=False)
    again = play.sites["site-000"].mask(play.out["mask"]["site-000"], words["site-000"])
    play.coordinator.feed("site-000", again)
    play.stage("mask", ["site-001", "site-002"], words)
    for stage in ("agree", "unmask"):
        play.stage(stage)
    assert play.coordinator.finish().ring.tolist() == plain_sum(words, play.sites)


def test_a_weighted_and_a_uniform_study_weigh_differently():
    samples = [1, 1, 98]
    weighted, uniform = Consortium(3, samples=samples), Consortium(3, samples=samples, weighting="uniform")
    assert [weighted.roster.weight_of(n) for n in weighted.roster.names] == pytest.approx([0.03, 0.03, 2.94])
    assert {uniform.roster.weight_of(n) for n in uniform.roster.names} == {1.0}
    assert weighted.roster.capped() == ()
    assert Consortium(8, samples=[1] * 7 + [993]).roster.capped() == ("site-007",)
