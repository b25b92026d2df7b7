"""Power cuts, lost replies and slow sites: what was promised is kept, and nothing is made twice under one key."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.privacy.errors import DecodeError, ProtocolError, Refusal, RosterError
from wardround.privacy.messages import AgreeSignature, RefusalNotice, SurvivorSet, UnmaskRequest, encode
from wardround.privacy.secure_aggregation import kept
from wardround.privacy.secure_aggregation.coordinator import CoordinatorSession
from wardround.privacy.secure_aggregation.memory import SurvivorMemory
from wardround.privacy.secure_aggregation.site import SiteSession

from ..conftest import BINDING, Consortium, Play, randomness

A, B, C, D, E = (f"site-{i:03d}" for i in range(5))


class Disk:
    """What one site had safely kept when the power went."""

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.full = False

    def keep(self, data: bytes) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.data = data


def play_with_disks(n: int = 5) -> tuple[Play, dict[str, Disk]]:
    consortium = Consortium(n)
    play = consortium.play()
    disks = {name: Disk() for name in play.sites}
    for name in play.sites:
        play.sites[name] = SiteSession(
            consortium.pinned,
            consortium.identities[name],
            name,
            consortium.session_id(),
            BINDING,
            randomness(f"{name}/kept"),
            SurvivorMemory(),
            disks[name].keep,
        )
    return play, disks


def restarted(play: Play, name: str, disk: Disk) -> SiteSession:
    assert disk.data is not None
    return SiteSession.resume(play.consortium.pinned, play.consortium.identities[name], name, disk.data, disk.keep)


def plain_sum(words, names):
    return [sum(int(words[name][i]) for name in names) % 2**32 for i in range(len(next(iter(words.values()))))]


# --- a site --------------------------------------------------------------------------------------------------------


def test_nothing_is_kept_before_a_survivor_set_is_signed():
    play, disks = play_with_disks()
    play.upto("agree")
    assert all(disk.data is None for disk in disks.values())


def test_the_session_is_on_disk_before_the_signature_and_the_answer_leave():
    play, disks = play_with_disks()
    play.upto("agree")
    disks[A].full = True
    with pytest.raises(OSError, match="No space"):
        play.sites[A].agree(play.out["agree"][A])
    assert play.sites[A].stage == "agree"
    disks[A].full = False
    agreement = play.sites[A].agree(play.out["agree"][A])
    assert kept.load(disks[A].data, kept.KeptSite).agreement == agreement
    play.stage("agree")
    disks[A].full = True
    with pytest.raises(OSError, match="No space"):
        play.sites[A].unmask(play.out["unmask"][A])
    disks[A].full = False
    answer = play.sites[A].unmask(play.out["unmask"][A])
    assert kept.load(disks[A].data, kept.KeptSite).answer == answer


def test_what_is_kept_holds_one_kind_of_each_share_and_no_key():
    play, disks = play_with_disks()
    words = play.words()
    play.advertise()
    play.stage("share")
    secrets = play.sites[A]._secrets
    hidden = [secrets.b, secrets.mask.private_bytes_raw(), secrets.channel.private_bytes_raw()]
    play.stage("mask", [A, B, C, D], words)
    held = dict(secrets.held)
    play.stage("agree")
    data = disks[A].data
    assert play.sites[A]._secrets is None
    for dealer, (b_share, s_share) in held.items():
        assert (b_share in data, s_share in data) == ((True, False) if dealer != E else (False, True))
    assert not any(secret in data for secret in hidden)


def test_asked_again_after_a_restart_the_same_bytes_come():
    play, disks = play_with_disks()
    play.upto("unmask")
    agreement = play.sites[A].agree(play.out["agree"][A])
    again = restarted(play, A, disks[A])
    assert encode(again.agree(play.out["agree"][A])) == encode(agreement)
    answer = again.unmask(play.out["unmask"][A])
    for _ in range(3):
        again = restarted(play, A, disks[A])
        assert encode(again.unmask(play.out["unmask"][A])) == encode(answer)
        assert encode(again.agree(play.out["agree"][A])) == encode(agreement)
    assert encode(play.sites[A].unmask(play.out["unmask"][A])) == encode(answer)


def test_a_restarted_site_answers_other_signatures_over_the_same_set_but_no_other_set():
    play, disks = play_with_disks()
    play.upto("unmask")
    request = play.out["unmask"][A]
    site = restarted(play, A, disks[A])
    answer = site.unmask(msgspec.structs.replace(request, agreements=request.agreements[1:]))
    assert site.unmask(request) is answer
    for survivors in (request.survivors[:-1], request.survivors[1:]):
        with pytest.raises(ProtocolError) as refused:
            site.unmask(msgspec.structs.replace(request, survivors=survivors))
        assert refused.value.code is Refusal.CHANGED_REQUEST
        with pytest.raises(ProtocolError) as refused:
            site.agree(SurvivorSet(request.session, survivors))
        assert refused.value.code is Refusal.CHANGED_REQUEST


def test_a_restarted_site_masks_and_shares_nothing():
    play, disks = play_with_disks()
    words = play.words()
    play.upto("unmask", words)
    site = restarted(play, A, disks[A])
    for call in (
        site.advertise,
        lambda: site.share(play.out["share"][A]),
        lambda: site.mask(play.out["mask"][A], words[A]),
    ):
        with pytest.raises(ProtocolError) as refused:
            call()
        assert refused.value.code is Refusal.OUT_OF_ORDER


def test_a_restarted_site_still_checks_signatures():
    play, disks = play_with_disks()
    play.upto("unmask")
    request = play.out["unmask"][A]
    forged = tuple(AgreeSignature(row.site, bytes(64)) for row in request.agreements)
    site = restarted(play, A, disks[A])
    with pytest.raises(ProtocolError) as refused:
        site.unmask(UnmaskRequest(request.session, request.survivors, forged))
    assert refused.value.code is Refusal.BAD_SIGNATURE
    with pytest.raises(ProtocolError) as refused:
        site.unmask(UnmaskRequest(request.session, request.survivors, request.agreements[:2]))
    assert refused.value.code is Refusal.TOO_FEW
    assert kept.load(disks[A].data, kept.KeptSite).answer is None


def test_another_sites_or_studys_session_is_not_taken_up():
    play, disks = play_with_disks()
    play.upto("unmask")
    consortium = play.consortium
    with pytest.raises(DecodeError, match="another roster or site"):
        SiteSession.resume(consortium.pinned, consortium.identities[B], B, disks[A].data)
    other = Consortium(5, samples=[1, 2, 3, 4, 5])
    with pytest.raises(DecodeError, match="another roster or site"):
        SiteSession.resume(other.pinned, other.identities[A], A, disks[A].data)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_kept_session_is_a_typed_error(data):
    play, disks = play_with_disks(3)
    play.upto("unmask")
    good = disks[A].data
    place = data.draw(st.integers(0, len(good) - 1))
    bad = data.draw(
        st.one_of(
            st.just(good[:place]),
            st.just(good + b"\0"),
            st.binary(max_size=64),
            st.integers(1, 255).map(lambda flip: good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :]),
        )
    )
    try:
        site = SiteSession.resume(play.consortium.pinned, play.consortium.identities[A], A, bad)
    except (DecodeError, RosterError):
        return
    assert site.stage in ("unmask", "done")  # a flip inside a share or signature: encryption on disk notices that


# --- the coordinator -----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_killed_after_any_answer_everybody_resumed_the_sum_is_the_same(data):
    """Coordinator and all sites die; whatever was kept is enough, whoever had signed or answered."""
    play, disks = play_with_disks()
    words, names = play.words(), list(play.sites)
    gone = data.draw(st.sampled_from([[], [B], [E]]), label="dropped before the mask")
    survivors = [name for name in names if name not in gone]
    play.advertise()
    play.stage("share")
    play.stage("mask", survivors, words)
    on_disk = play.coordinator.snapshot()
    replies = []

    def feed(name, reply):
        if play.coordinator.feed(name, reply):
            replies.append((name, reply))

    signed = data.draw(st.lists(st.sampled_from(survivors), unique=True), label="signed before the cut")
    for name in signed:
        feed(name, play.sites[name].agree(play.out["agree"][name]))
    threshold = play.consortium.roster.thresholds.t
    if len(signed) >= threshold:
        for name in data.draw(st.lists(st.sampled_from(signed), unique=True), label="answered before the cut"):
            if play.coordinator.stage == "agree":
                play.out["unmask"] = play.coordinator.close_agree()
            feed(name, play.sites[name].unmask(play.out["unmask"][name]))

    sites = {name: restarted(play, name, disks[name]) if disks[name].data else None for name in survivors}
    coordinator = CoordinatorSession.resume(play.consortium.pinned, on_disk)
    for name, reply in replies:
        if coordinator.stage == "agree" and hasattr(reply, "shares"):
            coordinator.close_agree()
        coordinator.feed(name, reply)
    for _ in range(2):  # signatures, then answers
        for name, request in coordinator.revive().items():
            if sites[name] is None:
                coordinator.feed(name, RefusalNotice(coordinator.session, name, Refusal.OUT_OF_ORDER, "agree", ""))
            elif isinstance(request, SurvivorSet):
                coordinator.feed(name, sites[name].agree(request))
            else:
                coordinator.feed(name, sites[name].unmask(request))
        if coordinator.stage == "agree" and len(signed) >= threshold:
            for name, request in coordinator.close_agree().items():
                coordinator.feed(name, sites[name].unmask(request))
    if len(signed) < threshold:
        assert coordinator.hopeless
        return
    released = coordinator.finish()
    assert released.survivors == tuple(survivors)
    assert released.ring.tolist() == plain_sum(words, survivors)


def test_fewer_than_t_signatures_leave_the_stage_open_and_the_silent_are_asked_again():
    play, _ = play_with_disks()
    words = play.words()
    play.upto("agree", words)
    play.stage("agree", [A, B, C], close=False)
    with pytest.raises(ProtocolError) as refused:
        play.coordinator.close_agree()
    assert refused.value.code is Refusal.TOO_FEW
    assert play.coordinator.answerable
    assert not play.coordinator.hopeless
    assert set(play.coordinator.revive()) == {D, E}
    play.stage("agree", [D])
    play.stage("unmask", [A, B, C, D])
    assert play.coordinator.finish().ring.tolist() == plain_sum(words, play.sites)


def test_a_late_signer_answers_in_the_place_of_a_lost_one():
    """Four of five sign and are asked; one of them is lost, the slow fifth signs late: still t = 4 answers."""
    play, _ = play_with_disks()
    words = play.words()
    play.upto("agree", words)
    play.stage("agree", [A, B, C, D])
    play.stage("unmask", [A, B, C])
    assert play.coordinator.feed(E, play.sites[E].agree(play.out["agree"][E]))
    request = play.coordinator.request([E])[E]
    assert [row.site for row in request.agreements] == [A, B, C, D, E]
    play.coordinator.feed(E, play.sites[E].unmask(request))
    assert play.coordinator.waiting() == {D}
    assert play.coordinator.finish().ring.tolist() == plain_sum(words, play.sites)


ORDER = ("start", "advertise", "share", "mask", "agree", "unmask")


@pytest.mark.parametrize(
    ("earlier", "now"),
    [(earlier, now) for i, now in enumerate(ORDER[2:], start=2) for earlier in ORDER[:i]],
)
def test_a_refusal_of_an_earlier_stage_costs_nobody_anything(earlier, now):
    play, _ = play_with_disks()
    play.upto(now)
    notice = RefusalNotice(play.coordinator.session, A, Refusal.OUT_OF_ORDER, earlier, "")
    assert not play.coordinator.feed(A, notice)
    assert A in play.coordinator.waiting()
    assert play.coordinator.dropped == {}


def test_a_refusal_of_the_opening_drops_its_site_while_adverts_are_awaited():
    play, _ = play_with_disks()
    notice = RefusalNotice(play.coordinator.session, A, Refusal.OTHER_ADAPTER, "start", "")
    assert not play.coordinator.feed(A, notice)
    assert play.coordinator.dropped == {A: ("advertise", "other-adapter")}
    assert A not in play.coordinator.waiting()


def test_a_message_of_an_earlier_stage_that_comes_again_costs_nobody_anything():
    """The first time it counts, again it is ignored; a site that was late for a stage stays dropped, and only it."""
    play, _ = play_with_disks()
    words = play.words()
    play.upto("mask", words)
    first = play.sites[A].share(play.out["share"][A])
    play.stage("mask", [A, B, C, D], words)
    late = play.sites[E].mask(play.out["mask"][E], words[E].copy())
    assert not play.coordinator.feed(A, first)
    with pytest.raises(ProtocolError) as refused:
        play.coordinator.feed(E, late)
    assert refused.value.code is Refusal.OUT_OF_ORDER
    assert play.coordinator.dropped == {E: ("mask", "silent")}
    for stage in ("agree", "unmask"):
        play.stage(stage)
    assert play.coordinator.finish().ring.tolist() == plain_sum(words, [A, B, C, D])


def test_sites_that_lost_the_session_make_it_hopeless_and_silent_ones_do_not():
    play, _ = play_with_disks()
    play.upto("agree")
    for name in (A, B):
        play.coordinator.drop(name, "timeout")
    assert not play.coordinator.hopeless
    play.coordinator.revive()
    for name in (A, B):
        play.coordinator.feed(name, RefusalNotice(play.coordinator.session, name, Refusal.OUT_OF_ORDER, "agree", ""))
    assert play.coordinator.hopeless


def test_the_next_attempt_is_over_exactly_the_signed_set_or_gives_up_before_anybody_is_asked():
    consortium = Consortium(5)
    memories = {name: SurvivorMemory() for name in consortium.roster.names}
    first = consortium.play(memories=memories)
    first.advertise()
    first.stage("share")
    first.stage("mask", [A, B, C, D], first.words())
    first.stage("agree")
    signed = first.coordinator.survivors
    second = consortium.play(consortium.session_id(attempt=1), memories)
    second.coordinator = CoordinatorSession(consortium.pinned, second.coordinator.session, BINDING, signed, signed)
    words = second.words()
    second.sites = {name: second.sites[name] for name in signed}
    assert second.whole(words).ring.tolist() == plain_sum(words, signed)

    third = consortium.play(consortium.session_id(attempt=2), memories)
    third.coordinator = CoordinatorSession(consortium.pinned, third.coordinator.session, BINDING, None, signed)
    third.advertise()
    third.stage("share")
    with pytest.raises(ProtocolError) as refused:
        third.stage("mask", words=third.words())
    assert refused.value.code is Refusal.SECOND_SURVIVOR_SET
    assert not third.coordinator.answerable


def test_accusations_are_collected():
    play, _ = play_with_disks()
    play.upto("mask")
    for accuser in (A, C):
        notice = RefusalNotice(play.coordinator.session, accuser, Refusal.UNOPENABLE_SHARE, "mask", B)
        play.coordinator.feed(accuser, notice)
    assert play.coordinator.accused == {B: {A, C}}
    assert play.coordinator.dropped[A] == ("mask", f"unopenable-share ({B})")


@pytest.mark.parametrize("cut", [0, 10, -1])
def test_a_damaged_kept_sum_is_a_typed_error(cut):
    play, _ = play_with_disks(3)
    play.upto("agree")
    data = play.coordinator.snapshot()
    with pytest.raises(DecodeError):
        CoordinatorSession.resume(play.consortium.pinned, data[:cut])
    with pytest.raises(RosterError):
        CoordinatorSession.resume(Consortium(3, samples=[3, 2, 1]).pinned, data)


def test_before_a_survivor_set_there_is_nothing_to_keep_or_to_take_up():
    play, _ = play_with_disks(3)
    play.upto("mask")
    for call in (play.coordinator.snapshot, play.coordinator.revive):
        with pytest.raises(ProtocolError) as refused:
            call()
        assert refused.value.code is Refusal.OUT_OF_ORDER


def test_with_private_training_a_set_that_is_never_completed_may_be_replaced():
    """Only there: noise bounds what the difference of the two sums could show."""
    consortium = Consortium(5)
    for private in (False, True):
        memory = SurvivorMemory(private=private)
        session = consortium.session_id()
        memory.claim(session, BINDING, b"a" * 32)
        if private:
            memory.claim(session, BINDING, b"b" * 32)
            continue
        with pytest.raises(ProtocolError) as refused:
            memory.claim(session, BINDING, b"b" * 32)
        assert refused.value.code is Refusal.SECOND_SURVIVOR_SET


def test_the_kept_sum_is_the_masked_one():
    play, _ = play_with_disks(3)
    words = play.words()
    play.upto("agree", words)
    known = kept.load(play.coordinator.snapshot(), kept.KeptCoordinator)
    masked = np.frombuffer(known.total, dtype="<u4")
    assert masked.tolist() != plain_sum(words, play.sites)
