"""A malicious coordinator, network or site: each case is refused with its own code, and no share leaves."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np
import pytest
from wardround.privacy.errors import DecodeError, ProtocolError, Refusal, RosterError
from wardround.privacy.identity import Identity
from wardround.privacy.messages import (
    TO_COORDINATOR,
    TO_SITE,
    AdvertList,
    AgreeSignature,
    DeliveredShare,
    ShareDelivery,
    SurvivorSet,
    UnmaskRequest,
    decode,
    encode,
)
from wardround.privacy.secure_aggregation import primitives as p
from wardround.privacy.secure_aggregation import statements
from wardround.privacy.secure_aggregation.coordinator import CoordinatorSession
from wardround.privacy.secure_aggregation.memory import SurvivorMemory
from wardround.privacy.secure_aggregation.parameters import Block, choose_thresholds
from wardround.privacy.secure_aggregation.roster import Roster, RosterSite
from wardround.privacy.secure_aggregation.session import bind
from wardround.privacy.secure_aggregation.site import SiteSession

from ..conftest import BINDING, STUDY, Consortium, Play, randomness

A, B, C, D = (f"site-{i:03d}" for i in range(4))


@pytest.fixture
def play():
    return Consortium(4).play()


GIVEN = []
"""Every share that a site gave in the test under way: (site, round, dealer, kind, share)."""


@pytest.fixture(autouse=True)
def shares_that_leave(monkeypatch):
    """Watch what sites give away: at the end of every test, nobody has given both kinds of one dealer's shares."""
    GIVEN.clear()
    answer = SiteSession.unmask

    def watched(self, message):
        reply = answer(self, message)
        GIVEN.extend((self.site, self.session, row.site, row.kind, row.share) for row in reply.shares)
        return reply

    monkeypatch.setattr(SiteSession, "unmask", watched)
    yield
    kinds = {}
    for site, session, dealer, kind, _ in GIVEN:
        kinds.setdefault((site, session, dealer), set()).add(kind)
    assert all(len(found) == 1 for found in kinds.values())


def assert_refused(code, call, *arguments, site=None):
    """The call is refused for this reason, and no share left: none was given, and the refusal's message holds none."""
    before = list(GIVEN)
    with pytest.raises(ProtocolError) as error:
        call(*arguments)
    assert before == GIVEN
    assert error.value.code is code
    session = getattr(call, "__self__", None)
    if isinstance(session, SiteSession):
        notice = encode(statements.refusal(session.session, session.site, error.value, session._pinned))
        held = session._secrets.held.values() if session._secrets is not None else ()
        assert not any(share in notice or share.hex() in str(error.value) for pair in held for share in pair)
        assert not any(row.share in notice or row.share.hex() in str(error.value) for row in session._opened)
    if site is not None:
        assert error.value.site == site
    return error.value


def change(message, **fields):
    return msgspec.structs.replace(message, **fields)


def flip(data, bit=0):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def without(rows, site):
    return tuple(row for row in rows if row.site != site)


def with_row(rows, site, **fields):
    return tuple(change(row, **fields) if row.site == site else row for row in rows)


# --- adverts -------------------------------------------------------------------------------------------------------


def test_substituted_key(play):
    play.advertise()
    honest = play.out["share"][A]
    forged = AdvertList(honest.session, with_row(honest.adverts, B, mask_key=honest.adverts[2].mask_key))
    assert_refused(Refusal.BAD_SIGNATURE, play.sites[A].share, forged, site=B)


def test_unsigned_key(play):
    play.advertise()
    honest = play.out["share"][A]
    assert_refused(
        Refusal.BAD_SIGNATURE,
        play.sites[A].share,
        AdvertList(honest.session, with_row(honest.adverts, C, signature=bytes(64))),
        site=C,
    )


def test_key_signed_by_another_site(play):
    play.advertise()
    honest = play.out["share"][A]
    impostor = play.consortium.identities[D]
    row = honest.adverts[1]
    parts = (row.channel_key, row.mask_key, row.commitment, row.binding)
    signature = impostor.sign(p.LABEL_ADVERT, play.sites[A]._context, B, *parts)
    forged = AdvertList(honest.session, with_row(honest.adverts, B, signature=signature))
    assert_refused(Refusal.BAD_SIGNATURE, play.sites[A].share, forged, site=B)


def test_advert_replayed_from_another_session(play):
    earlier = play.consortium.site(B, session=play.consortium.session_id(7)).advertise()
    play.advertise()
    honest = play.out["share"][A]
    rows = tuple(earlier if row.site == B else row for row in honest.adverts)
    assert_refused(Refusal.WRONG_SESSION, play.sites[A].share, AdvertList(honest.session, rows), site=B)
    renamed = tuple(change(earlier, session=honest.session) if row.site == B else row for row in honest.adverts)
    assert_refused(Refusal.BAD_SIGNATURE, play.sites[A].share, AdvertList(honest.session, renamed), site=B)


def test_list_of_another_session(play):
    other = play.consortium.play(play.consortium.session_id(1))
    play.advertise()
    other.advertise()
    assert_refused(Refusal.WRONG_SESSION, play.sites[A].share, other.out["share"][A])


def test_site_listed_twice(play):
    play.advertise()
    honest = play.out["share"][A]
    rows = (*honest.adverts[:2], honest.adverts[1], *honest.adverts[2:])
    assert_refused(Refusal.DUPLICATE_SITE, play.sites[A].share, AdvertList(honest.session, rows), site=B)


def test_sybil_site_that_is_not_in_the_roster(play):
    play.advertise()
    honest = play.out["share"][A]
    rows = (*honest.adverts, change(honest.adverts[3], site="sybil"))
    assert_refused(Refusal.UNKNOWN_SITE, play.sites[A].share, AdvertList(honest.session, rows), site="sybil")


def test_unconfirmed_sites_do_not_count():
    consortium = Consortium(4)
    play = consortium.play()
    play.sites[A] = consortium.site(A, pinned=consortium.pin([A, B]))
    play.advertise()
    assert_refused(Refusal.TOO_FEW, play.sites[A].share, play.out["share"][A])


def test_own_advert_missing_or_changed(play):
    play.advertise()
    honest = play.out["share"][A]
    assert_refused(Refusal.SELF_MISSING, play.sites[A].share, AdvertList(honest.session, without(honest.adverts, A)))
    twin = play.consortium.site(A, seed="another run").advertise()
    rows = tuple(twin if row.site == A else row for row in honest.adverts)
    assert_refused(Refusal.SELF_MISSING, play.sites[A].share, AdvertList(honest.session, rows))


def test_too_few_adverts(play):
    play.advertise()
    honest = play.out["share"][A]
    assert_refused(Refusal.TOO_FEW, play.sites[A].share, AdvertList(honest.session, honest.adverts[:2]))


def test_two_global_adapters_to_two_sites(play):
    session = play.coordinator.session
    dead = play.consortium.site(A, binding=bind(b"dead adapter", b"{}"))
    adverts = (dead.advertise(), *(play.sites[name].advertise() for name in (B, C, D)))
    assert_refused(Refusal.OTHER_ADAPTER, play.sites[B].share, AdvertList(session, adverts), site=A)
    assert_refused(Refusal.OTHER_ADAPTER, dead.share, AdvertList(session, adverts), site=B)
    assert_refused(Refusal.OTHER_ADAPTER, play.coordinator.feed, A, adverts[0], site=A)
    assert play.coordinator.dropped[A] == ("advertise", "other-adapter")


def test_two_settings_to_two_sites(play):
    other = play.consortium.site(A, binding=bind(b"adapter", b'{"lr":9}'))
    assert_refused(Refusal.OTHER_ADAPTER, play.coordinator.feed, A, other.advertise(), site=A)


@pytest.mark.parametrize("public", sorted(p._LOW_ORDER), ids=lambda key: key.hex()[:8])
@pytest.mark.parametrize("top", [0, 0x80])
def test_low_order_key(play, public, top):
    public = public[:31] + bytes([public[31] | top])
    with pytest.raises(ValueError, match="shared key"):
        p.exchange(p.X25519PrivateKey.generate(), public)
    honest = play.sites[B].advertise()
    parts = (honest.channel_key, public, honest.commitment, honest.binding)
    signature = play.consortium.identities[B].sign(p.LABEL_ADVERT, play.sites[B]._context, B, *parts)
    advert = change(honest, mask_key=public, signature=signature)
    adverts = [play.sites[A].advertise(), advert, *(play.sites[name].advertise() for name in (C, D))]
    assert_refused(
        Refusal.LOW_ORDER_KEY, play.sites[A].share, AdvertList(play.coordinator.session, tuple(adverts)), site=B
    )
    assert_refused(Refusal.LOW_ORDER_KEY, play.coordinator.feed, B, advert, site=B)


# --- sealed shares -------------------------------------------------------------------------------------------------


def deliver(play, to):
    play.upto("mask")
    return play.sites[to], play.out["mask"][to], np.zeros(8, dtype=np.uint32)


def test_swapped_ciphertexts(play):
    site, honest, words = deliver(play, A)
    b_box, c_box = honest.shares[0].box, honest.shares[1].box
    rows = with_row(with_row(honest.shares, B, box=c_box), C, box=b_box)
    assert_refused(Refusal.BAD_SIGNATURE, site.mask, ShareDelivery(honest.session, rows), words, site=B)


def test_ciphertext_meant_for_another_site(play):
    site, _, words = deliver(play, A)
    assert_refused(Refusal.DUPLICATE_SITE, site.mask, play.out["mask"][B], words, site=A)
    others = without(play.out["mask"][B].shares, A)
    honest = play.out["mask"][A].shares[0]
    assert_refused(
        Refusal.BAD_SIGNATURE, site.mask, ShareDelivery(play.coordinator.session, (honest, *others)), words, site=C
    )


def test_two_advert_lists_to_two_sites():
    """A is shown three sites, the others four: what they deal is signed together with the list that they saw."""
    play = Consortium(4).play()
    play.advertise()
    honest = play.out["share"][A]
    play.sites[A].share(AdvertList(honest.session, without(honest.adverts, D)))
    dealt = [play.sites[name].share(play.out["share"][name]) for name in (B, C)]
    delivery = ShareDelivery(honest.session, tuple(delivered(message) for message in dealt))
    words = np.zeros(8, dtype=np.uint32)
    assert_refused(Refusal.BAD_SIGNATURE, play.sites[A].mask, delivery, words, site=B)
    assert not words.any()


def test_a_site_that_shows_two_adverts_to_two_sites():
    """C signs two adverts, of which A sees the one and the others the other: nobody masks for both."""
    play = Consortium(4).play()
    play.advertise()
    honest = play.out["share"][A]
    second = play.consortium.site(C, seed="another").advertise()
    assert second.channel_key != honest.adverts[2].channel_key
    rows = tuple(second if row.site == C else row for row in honest.adverts)
    play.sites[A].share(AdvertList(honest.session, rows))
    dealt = [play.sites[name].share(play.out["share"][name]) for name in (B, C, D)]
    delivery = ShareDelivery(honest.session, tuple(delivered(message) for message in dealt))
    assert_refused(Refusal.BAD_SIGNATURE, play.sites[A].mask, delivery, np.zeros(8, dtype=np.uint32), site=B)


@pytest.mark.parametrize("make", [lambda path: b"", lambda path: path[:-32], lambda path: path + bytes(32), flip])
def test_a_share_without_the_proof_that_its_dealer_signed_it(play, make):
    site, honest, words = deliver(play, A)
    rows = with_row(honest.shares, C, path=make(honest.shares[1].path))
    assert_refused(Refusal.BAD_SIGNATURE, site.mask, ShareDelivery(honest.session, rows), words, site=C)


def test_shares_from_too_few_sites(play):
    site, honest, words = deliver(play, A)
    assert_refused(Refusal.TOO_FEW, site.mask, ShareDelivery(honest.session, honest.shares[:1]), words)


def test_shares_from_a_site_without_advert():
    consortium = Consortium(5)
    play = consortium.play()
    play.advertise([A, B, C, D])
    play.stage("share")
    honest = play.out["mask"][A]
    rows = (*honest.shares, change(honest.shares[0], site="site-004"))
    assert_refused(
        Refusal.UNKNOWN_SITE,
        play.sites[A].mask,
        ShareDelivery(honest.session, rows),
        np.zeros(8, dtype=np.uint32),
        site="site-004",
    )


def _redeal(play, dealer, to, make):
    """A dishonest dealer: change what ``dealer`` seals for ``to`` and sign that."""
    message = play.sites[dealer].share(play.out["share"][dealer])
    rows = tuple(make(row) if row.site == to else row for row in message.shares)
    content = (play.sites[dealer]._adverts_digest, statements.tree_of(rows).root)
    signature = play.consortium.identities[dealer].sign(p.LABEL_SHARES, play.sites[dealer]._context, dealer, *content)
    return change(message, shares=rows, signature=signature)


def delivered(message, place=0):
    """What the site at ``place`` of the advert list is handed of a dealer's message."""
    row, path = message.shares[place], statements.tree_of(message.shares).path(place)
    return DeliveredShare(message.site, row.box, row.b_hash, row.s_hash, path, message.signature)


def _deal_and_close(play, dealer, message):
    for name in play.sites:
        reply = message if name == dealer else play.sites[name].share(play.out["share"][name])
        play.coordinator.feed(name, reply)
    play.out["mask"] = dict(play.coordinator.close_share())


def test_unopenable_share_names_the_dealer(play):
    play.advertise()
    _deal_and_close(play, B, _redeal(play, B, A, lambda row: change(row, box=flip(row.box))))
    error = assert_refused(
        Refusal.UNOPENABLE_SHARE, play.sites[A].mask, play.out["mask"][A], np.zeros(8, dtype=np.uint32), site=B
    )
    notice = statements.refusal(play.coordinator.session, A, error, play.consortium.pinned)
    assert (notice.code, notice.stage, notice.peer) == (Refusal.UNOPENABLE_SHARE, "mask", B)
    play.coordinator.feed(A, notice)
    assert play.coordinator.dropped[A] == ("mask", "unopenable-share (site-001)")


def test_share_that_does_not_match_its_hash_names_the_dealer(play):
    play.advertise()
    _deal_and_close(play, B, _redeal(play, B, A, lambda row: change(row, b_hash=flip(row.b_hash))))
    assert_refused(
        Refusal.DISHONEST_SHARE, play.sites[A].mask, play.out["mask"][A], np.zeros(8, dtype=np.uint32), site=B
    )


@pytest.mark.parametrize("size", [0, 65])
def test_box_that_does_not_hold_two_shares_names_the_dealer(play, size):
    """Otherwise the honest recipient would later open a share that nobody can decode, and be blamed for it."""
    play.advertise()
    adverts = {advert.site: advert for advert in play.out["share"][A].adverts}
    plain = bytes(size)

    def reseal(row):
        keys = (adverts[B].channel_key, adverts[A].channel_key)
        box = play.sites[B]._sealer(adverts[A], B, A, keys).seal(plain)
        hashes = (p.share_hash(row_session, B, A, kind, part) for kind, part in (("b", plain[:33]), ("s", plain[33:])))
        return change(row, box=box, b_hash=next(hashes), s_hash=next(hashes))

    row_session = play.coordinator.session
    dealt = _redeal(play, B, A, reseal)
    assert_refused(Refusal.WRONG_LENGTH, play.coordinator.feed, B, dealt, site=B)
    rows = []
    for name in (C, D):
        honest = play.sites[name].share(play.out["share"][name])
        rows.append(delivered(honest))
    play.sites[A].share(play.out["share"][A])
    delivery = ShareDelivery(row_session, (delivered(dealt), *rows))
    assert_refused(Refusal.DISHONEST_SHARE, play.sites[A].mask, delivery, np.zeros(8, dtype=np.uint32), site=B)


def test_a_dealer_of_another_secret_is_named_and_nothing_is_released(play):
    """B commits to one b and deals shares of another: all hashes match, the rebuilt secret does not."""
    dealer = play.sites[B]
    dealer.advertise()
    dealer._secrets.b = bytes(32)
    play.advertise()
    for stage in ("share", "mask", "agree", "unmask"):
        play.stage(stage, words=play.words() if stage == "mask" else None)
    assert_refused(Refusal.DISHONEST_DEALER, play.coordinator.finish, site=B)


def test_dishonest_responder_is_named(play):
    play.upto("unmask")
    honest = play.sites[B].unmask(play.out["unmask"][B])
    rows = with_row(honest.shares, C, share=flip(honest.shares[2].share, 100))
    context = play.sites[B]._context
    parts = [p.transcript(row.site.encode(), row.kind.encode(), row.share) for row in rows]
    signature = play.consortium.identities[B].sign(p.LABEL_ANSWER, context, B, *parts)
    assert_refused(
        Refusal.DISHONEST_SHARE, play.coordinator.feed, B, change(honest, shares=rows, signature=signature), site=B
    )
    for name in (A, C, D):
        play.coordinator.feed(name, play.sites[name].unmask(play.out["unmask"][name]))
    assert play.coordinator.finish().survivors == (A, B, C, D)


# --- masked vectors ------------------------------------------------------------------------------------------------


def test_wrong_vector_length(play):
    site, request, _ = deliver(play, A)
    assert_refused(Refusal.WRONG_LENGTH, site.mask, request, np.zeros(7, dtype=np.uint32))
    assert_refused(Refusal.WRONG_LENGTH, site.mask, request, np.zeros(8, dtype=np.int64))
    honest = site.mask(request, np.zeros(8, dtype=np.uint32))
    assert_refused(Refusal.WRONG_LENGTH, play.coordinator.feed, A, change(honest, vector=honest.vector[4:]), site=A)


def test_a_key_masks_one_vector_once(play):
    site, request, words = deliver(play, A)
    first = site.mask(request, words)
    assert site.mask(request, words + np.uint32(5)) is first
    assert_refused(Refusal.CHANGED_REQUEST, site.mask, ShareDelivery(request.session, request.shares[:2]), words)


def test_second_different_vector_is_not_added(play):
    site, request, words = deliver(play, A)
    play.coordinator.feed(A, site.mask(request, words))
    before = play.coordinator._total.copy()
    other = change(site.mask(request, words), signature=bytes(64))
    assert_refused(Refusal.CHANGED_REQUEST, play.coordinator.feed, A, other)
    assert (play.coordinator._total == before).all()
    assert A not in play.coordinator.dropped


def test_garbage_vector_ends_the_round_unreleased(play):
    play.upto("mask")
    words = play.words()
    words[B] = words[B] + np.uint32(2**30)
    for stage in ("mask", "agree", "unmask"):
        play.stage(stage, words=words) if stage == "mask" else play.stage(stage)
    assert_refused(Refusal.OUT_OF_BOUND, play.coordinator.finish)


def test_message_in_another_sites_name(play):
    assert_refused(Refusal.BAD_SIGNATURE, play.coordinator.feed, B, play.sites[A].advertise(), site=B)


# --- survivors and unmasking ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("survivors", [(A, B), (A,), ()])
def test_survivors_below_threshold_or_cohort(play, survivors):
    play.upto("agree")
    code = Refusal.TOO_FEW if A in survivors else Refusal.SELF_MISSING
    assert_refused(code, play.sites[A].agree, SurvivorSet(play.coordinator.session, survivors))


def test_survivors_below_the_cohort_although_above_the_threshold():
    play = Consortium(5, t=3, m=4).play()
    play.upto("agree")
    assert_refused(Refusal.TOO_FEW, play.sites[A].agree, SurvivorSet(play.coordinator.session, (A, B, C)))


def test_survivor_that_never_shared():
    play = Consortium(5).play()
    play.advertise()
    play.stage("share", [A, B, C, D])
    play.stage("mask", words=play.words())
    everyone = SurvivorSet(play.coordinator.session, play.consortium.roster.names)
    assert_refused(Refusal.UNKNOWN_SITE, play.sites[A].agree, everyone, site="site-004")


def test_two_survivor_sets_to_one_site(play):
    play.upto("agree")
    play.sites[A].agree(play.out["agree"][A])
    assert_refused(Refusal.CHANGED_REQUEST, play.sites[A].agree, SurvivorSet(play.coordinator.session, (A, B, C)))


def test_two_survivor_sets_to_two_sites(play):
    play.upto("agree")
    session = play.coordinator.session
    one, other = (A, B, C, D), (A, B, C)
    signed = [
        AgreeSignature(name, play.sites[name].agree(SurvivorSet(session, chosen)).signature)
        for name, chosen in ((A, one), (B, other), (C, other), (D, one))
    ]
    assert_refused(Refusal.BAD_SIGNATURE, play.sites[A].unmask, UnmaskRequest(session, one, tuple(signed)), site=B)
    alike = tuple(row for row in signed if row.site in (B, C))
    assert_refused(Refusal.TOO_FEW, play.sites[B].unmask, UnmaskRequest(session, other, alike))


def test_two_survivor_sets_for_one_adapter_over_two_attempts():
    consortium = Consortium(4)
    memories = {name: SurvivorMemory() for name in consortium.roster.names}
    first = consortium.play(consortium.session_id(), memories)
    first.upto("unmask")
    retry = consortium.play(consortium.session_id(attempt=1), memories)
    retry.advertise()
    retry.stage("share")
    retry.stage("mask", [A, B, C], retry.words())
    assert_refused(Refusal.SECOND_SURVIVOR_SET, retry.sites[A].agree, retry.out["agree"][A])


@pytest.mark.parametrize("fields", [{"round": 9}, {"sequence": 1}, {"attempt": 3}])
def test_no_number_that_the_coordinator_chooses_makes_room_for_a_second_survivor_set(fields):
    consortium = Consortium(4)
    memories = {name: SurvivorMemory() for name in consortium.roster.names}
    consortium.play(consortium.session_id(), memories).upto("unmask")
    kept = {name: SurvivorMemory(memory.snapshot()) for name, memory in memories.items()}
    retry = consortium.play(msgspec.structs.replace(consortium.session_id(), **fields), kept)
    with pytest.raises(ProtocolError) as error:
        retry.whole(mask=[A, B, C])
    assert error.value.code is Refusal.SECOND_SURVIVOR_SET


def test_other_bytes_of_the_adapter_make_no_room_for_a_second_survivor_set_in_a_round():
    consortium = Consortium(4)
    memories = {name: SurvivorMemory() for name in consortium.roster.names}
    consortium.play(consortium.session_id(5), memories).upto("unmask")
    kept = {name: SurvivorMemory(memory.snapshot()) for name, memory in memories.items()}
    session, padded = consortium.session_id(5, attempt=1), bind(b"adapter ", b"{}")
    sites = {
        name: consortium.site(name, session=session, binding=padded, memory=kept[name])
        for name in consortium.roster.names
    }
    retry = Play(consortium, sites, CoordinatorSession(consortium.pinned, session, padded))
    with pytest.raises(ProtocolError) as error:
        retry.whole(mask=[A, B, C])
    assert error.value.code is Refusal.SECOND_SURVIVOR_SET
    assert {name: memory.snapshot() for name, memory in kept.items()} == {
        name: memory.snapshot() for name, memory in memories.items()
    }


def test_a_site_that_refuses_after_its_vector_arrived_stays_in_the_sum(play):
    play.upto("mask")
    words = play.words()
    play.stage("mask", words=words, close=False)
    error = ProtocolError("x", code=Refusal.LOCAL_FAILURE, stage="mask")
    play.coordinator.feed(D, statements.refusal(play.coordinator.session, D, error, play.consortium.pinned))
    play.out["agree"] = play.coordinator.close_mask()
    assert D not in play.coordinator.waiting()
    for stage in ("agree", "unmask"):
        play.stage(stage, [A, B, C])
    released = play.coordinator.finish()
    assert released.survivors == (A, B, C, D)
    assert not released.dropped
    assert released.ring.tolist() == [sum(int(words[n][i]) for n in words) % 2**32 for i in range(8)]


def test_the_same_survivors_may_be_signed_in_another_attempt():
    consortium = Consortium(4)
    memories = {name: SurvivorMemory() for name in consortium.roster.names}
    consortium.play(consortium.session_id(), memories).upto("unmask")
    retry = consortium.play(consortium.session_id(attempt=1), memories)
    assert retry.whole().survivors == (A, B, C, D)


def test_the_memory_is_on_disk_before_the_signature_leaves(play):
    def fail(_):
        raise OSError("disk full")

    play.sites[A]._memory = SurvivorMemory(persist=fail)
    play.upto("agree")
    with pytest.raises(OSError, match="disk full"):
        play.sites[A].agree(play.out["agree"][A])
    assert play.sites[A].stage == "agree"
    assert play.sites[A]._memory.snapshot() == {}


def test_forged_survivor_signature(play):
    play.upto("unmask")
    honest = play.out["unmask"][A]
    rows = with_row(honest.agreements, B, signature=flip(honest.agreements[1].signature))
    assert_refused(Refusal.BAD_SIGNATURE, play.sites[A].unmask, change(honest, agreements=rows), site=B)


@pytest.mark.parametrize("forged", [A, B, C, D])
def test_signatures_are_checked_until_t_of_them_hold(forged):
    """t = 3: a wrong one among the first three is refused and no share leaves, the fourth is not looked at."""
    play = Consortium(4).play()
    play.upto("unmask")
    honest = play.out["unmask"][B]
    assert [row.site for row in honest.agreements] == [A, B, C, D]
    row = next(row for row in honest.agreements if row.site == forged)
    changed = change(honest, agreements=with_row(honest.agreements, forged, signature=flip(row.signature)))
    if forged == D:
        assert play.sites[B].unmask(changed) is play.sites[B].unmask(honest)
        return
    assert_refused(Refusal.BAD_SIGNATURE, play.sites[B].unmask, changed, site=forged)
    assert play.sites[B].stage == "unmask"
    assert play.sites[B].unmask(honest).site == B


def test_signatures_of_unconfirmed_sites_do_not_fill_the_threshold():
    """B has not confirmed A, so that of six signatures five count: with one of these missing, five are four."""
    consortium = Consortium(6)
    play = consortium.play()
    five = [name for name in consortium.roster.names if name != A]
    assert consortium.roster.thresholds.t == 5
    play.sites[B] = consortium.site(B, pinned=consortium.pin(five))
    play.upto("unmask")
    request = play.out["unmask"][B]
    without = change(request, agreements=tuple(row for row in request.agreements if row.site != D))
    assert len(without.agreements) == 5
    assert_refused(Refusal.TOO_FEW, play.sites[B].unmask, without)
    assert play.sites[B].unmask(request).site == B


def test_one_signature_counted_twice(play):
    play.upto("unmask")
    honest = play.out["unmask"][A]
    rows = (honest.agreements[0], honest.agreements[1], honest.agreements[1])
    assert_refused(Refusal.DUPLICATE_SITE, play.sites[A].unmask, change(honest, agreements=rows), site=B)


def test_fewer_than_t_signatures(play):
    play.upto("unmask")
    honest = play.out["unmask"][A]
    assert_refused(Refusal.TOO_FEW, play.sites[A].unmask, change(honest, agreements=honest.agreements[:2]))


def test_unmask_over_another_set_than_agreed(play):
    play.upto("unmask")
    assert_refused(Refusal.CHANGED_REQUEST, play.sites[A].unmask, change(play.out["unmask"][A], survivors=(A, B, C)))


def test_unmask_before_agree(play):
    play.upto("agree")
    request = UnmaskRequest(play.coordinator.session, (A, B, C, D), ())
    assert_refused(Refusal.OUT_OF_ORDER, play.sites[A].unmask, request)


def test_second_unmask_request(play):
    play.upto("unmask")
    request = play.out["unmask"][A]
    answer = play.sites[A].unmask(request)
    assert play.sites[A].unmask(request) is answer
    # Other signatures over the same set get the same answer, another set gets none.
    assert play.sites[A].unmask(change(request, agreements=request.agreements[:3])) is answer
    for survivors in ((A, B, C), (A, B, D), (B, C, D), ()):
        assert_refused(Refusal.CHANGED_REQUEST, play.sites[A].unmask, change(request, survivors=survivors))
    assert play.sites[A]._secrets is None


def test_site_both_alive_and_dropped(play):
    """No answer ever holds both kinds of one site's shares, and no second request gets the other kind."""
    play.upto("agree")
    play.sites[D].agree(play.out["agree"][D])
    play.stage("agree")
    for name in (A, B, C):
        answer = play.sites[name].unmask(play.out["unmask"][name])
        assert [row.site for row in answer.shares] == [A, B, C, D]
        assert {row.kind for row in answer.shares} == {"b"}
        dead = change(play.out["unmask"][name], survivors=(A, B, C))
        assert_refused(Refusal.CHANGED_REQUEST, play.sites[name].unmask, dead)


def test_retry_after_unmask_with_one_site_fewer():
    consortium = Consortium(5)
    memories = {name: SurvivorMemory() for name in consortium.roster.names}
    assert len(consortium.play(consortium.session_id(), memories).whole().survivors) == 5
    retry = consortium.play(consortium.session_id(attempt=1), memories)
    with pytest.raises(ProtocolError) as error:
        retry.whole(mask=[A, B, C, D])
    assert error.value.code is Refusal.SECOND_SURVIVOR_SET


@pytest.mark.parametrize("sequence", [0, 5])
def test_second_evaluation_cohort(sequence):
    consortium = Consortium(5, purpose="evaluation")
    play = consortium.play(msgspec.structs.replace(consortium.session_id(), sequence=sequence))
    with pytest.raises(ProtocolError) as error:
        play.whole(mask=[A, B, C, D])
    assert error.value.code is Refusal.WRONG_COHORT
    play.out["agree"] = {}
    fewer = SurvivorSet(play.coordinator.session, (A, B, C, D))
    assert_refused(Refusal.WRONG_COHORT, play.sites[A].agree, fewer)


def test_erased_session_answers_nothing(play):
    play.upto("unmask")
    play.sites[A].erase()
    assert_refused(Refusal.OUT_OF_ORDER, play.sites[A].unmask, play.out["unmask"][A])
    assert_refused(Refusal.OUT_OF_ORDER, play.sites[A].advertise)


# --- the roster ----------------------------------------------------------------------------------------------------


def test_roster_changed_after_enrolment():
    consortium = Consortium(3)
    signatures = {name: consortium.roster.sign(identity, name) for name, identity in consortium.identities.items()}
    changed = Roster(STUDY, consortium.roster.sites, choose_thresholds(3, t=3), consortium.roster.vectors, w_max=2.0)
    with pytest.raises(RosterError, match="site-000 is not over this roster"):
        changed.pin(signatures, changed.names)


def test_advert_under_another_roster_is_refused():
    one, other = Consortium(4), Consortium(4, samples=[1, 2, 3, 4])
    play = one.play()
    stranger = other.site(B).advertise()
    adverts = (play.sites[A].advertise(), stranger, play.sites[C].advertise(), play.sites[D].advertise())
    assert_refused(Refusal.BAD_SIGNATURE, play.sites[A].share, AdvertList(play.coordinator.session, adverts), site=B)


def test_one_key_enrolled_as_two_sites():
    key = Identity.from_seed(bytes(32)).public_key.hex()
    sites = (RosterSite("a", key, 1), RosterSite("b", key, 1), RosterSite("c", "11" * 32, 1))
    with pytest.raises(RosterError, match="same public key"):
        Roster(STUDY, sites, choose_thresholds(3), {"update": (Block("x", 1, 1.0),)})


# --- damage on the way ---------------------------------------------------------------------------------------------


def test_bit_flip_in_every_message():
    """Whatever bit is flipped in whatever message, its receiver refuses it or it changes nothing that is released."""
    draw = np.random.default_rng(5)

    def disturb(receive, wire, expected, consortium):
        for bit in {0, *draw.integers(0, 8 * len(wire), size=12).tolist()}:
            with pytest.raises((DecodeError, ProtocolError)):
                receive(decode(flip(wire, bit), expected, consortium.limits))

    play = Consortium(4).play()
    words = play.words()
    play.advertise()
    for stage in ("share", "mask", "agree", "unmask"):
        site = play.sites[A]
        extra = (words[A].copy(),) if stage == "mask" else ()
        request = play.out[stage][A]
        if stage == "unmask":  # what is beyond the t signatures that a site needs, it does not look at
            request = change(request, agreements=request.agreements[:3])
        disturb(
            lambda m, site=site, stage=stage, extra=extra: getattr(site, stage)(m, *extra),
            encode(request),
            TO_SITE,
            play.consortium,
        )
        reply = getattr(site, stage)(request, *extra)

        def feed(message, play=play):
            play.coordinator.dropped.pop(A, None)
            play.coordinator.feed(A, message)

        disturb(feed, encode(reply), TO_COORDINATOR, play.consortium)
        play.coordinator.dropped.pop(A, None)
        play.stage(stage, words=words if stage == "mask" else None)
    expected = [sum(int(words[name][i]) for name in words) % 2**32 for i in range(8)]
    assert play.coordinator.finish().ring.tolist() == expected


def test_flipped_advert_is_refused(play):
    wire = encode(play.sites[A].advertise())
    for bit in range(0, 8 * len(wire), 7):
        play.coordinator.dropped.clear()
        with pytest.raises((DecodeError, ProtocolError)):
            play.coordinator.feed(A, decode(flip(wire, bit), TO_COORDINATOR, play.consortium.limits))


# --- nothing secret is shown ---------------------------------------------------------------------------------------


def test_no_key_material_in_text_or_pickles(play):
    import pickle

    play.upto("agree")
    site = play.sites[A]
    secrets = site._secrets
    hidden = [secrets.b, secrets.mask.private_bytes_raw(), secrets.channel.private_bytes_raw()]
    for shown in (repr(site), repr(secrets), str(site.__dict__)):
        assert not any(secret.hex() in shown or repr(secret) in shown for secret in hidden)
    for thing in (site, secrets):
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(thing)
    error = assert_refused(Refusal.UNKNOWN_SITE, site.agree, change(play.out["agree"][A], survivors=(A, B, "site-9")))
    assert not any(secret.hex() in str(error) for secret in hidden)


def test_collusion_bound_is_tight():
    """c colluders cannot bring two survivor sets to t signatures, nor rebuild a secret; one more can do either."""
    for n in range(3, 13):
        thresholds = choose_thresholds(n)
        t, m, c = thresholds.t, thresholds.m, thresholds.colluding
        honest = n - c
        if thresholds.least < n:
            assert honest + 2 * c < 2 * t  # every honest site signs one set, every dishonest one both
        assert c < t
        assert max(t, m) - c >= 2
        worse = c + 1
        broken = (
            (thresholds.least < n and (n - worse) + 2 * worse >= 2 * t) or worse >= t or thresholds.least - worse < 2
        )
        assert broken


def test_randomness_of_tests_is_reproducible_and_binding_is_two_hashes():
    assert randomness("x")(8) == randomness("x")(8)
    assert BINDING.adapter == hashlib.sha256(b"adapter").digest()
    assert bind(b"a", b"bc").digest != bind(b"ab", b"c").digest


def test_key_set_reused_for_a_second_sum_in_a_round(play):
    """Neither a second delivery of one session nor a second sum of the round gets a mask that was used."""
    site, request, _ = deliver(play, A)
    words = play.words()
    first = site.mask(request, words[A].copy())
    fewer = ShareDelivery(request.session, request.shares[:2])
    assert_refused(Refusal.CHANGED_REQUEST, site.mask, fewer, words[A].copy())
    assert site.mask(request, words[B].copy()) is first
    second = change(request.session, sequence=1)
    assert_refused(Refusal.WRONG_SESSION, site.mask, change(request, session=second), words[A].copy())
    other = play.consortium.play(second)
    other.advertise()
    other.stage("share")
    again = other.sites[A].mask(other.out["mask"][A], words[A].copy())
    masks = [np.frombuffer(m.vector, dtype="<u4") - words[A] for m in (first, again)]
    assert (masks[0] != masks[1]).all()


@pytest.mark.parametrize("stage", ["share", "mask", "agree", "unmask"])
def test_truncated_and_oversized_messages(play, stage):
    """Cut anywhere or longer than its kind may be, nothing reaches a site's session."""
    play.upto(stage)
    wire = encode(play.out[stage][A])
    for cut in range(0, len(wire), max(1, len(wire) // 40)):
        with pytest.raises(DecodeError):
            decode(wire[:cut], TO_SITE, play.consortium.limits)
    with pytest.raises(DecodeError):
        decode(wire + b"\0", TO_SITE, play.consortium.limits)
    with pytest.raises(DecodeError, match="more than"):
        decode(wire + bytes(play.consortium.limits.of("share-delivery") + (1 << 20)), TO_SITE, play.consortium.limits)
    assert play.sites[A].stage == stage
