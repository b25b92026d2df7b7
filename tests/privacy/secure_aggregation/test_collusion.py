"""What c colluding sites and the coordinator can do together, played out: nothing at c, everything at c + 1.

The coalition pools all that its members hold: their session keys, the shares dealt to them, and whatever honest sites
answer. Honest sites run the product's code, each on its own, and talk to the coalition only by its messages.
"""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from wardround.privacy.errors import ProtocolError
from wardround.privacy.messages import AgreeSignature, SurvivorSet, UnmaskRequest
from wardround.privacy.secure_aggregation import primitives as p
from wardround.privacy.secure_aggregation import shamir, statements
from wardround.privacy.secure_aggregation.parameters import Block, choose_thresholds

from ..conftest import Consortium, Play

TARGET = "site-000"


class Coalition:
    """The coordinator and the last ``colluders`` sites, after all masked vectors have come."""

    def __init__(self, n: int, colluders: int, size: int = 5) -> None:
        self.play = Consortium(n, blocks=(Block("update", size, 1.0),)).play()
        self.words = self.play.words(n)
        names = list(self.play.sites)
        self.corrupt, self.honest = names[n - colluders :], names[: n - colluders]
        self.vectors: dict[str, np.ndarray] = {}
        play = self.play
        play.advertise()
        play.stage("share")
        # Corrupt sites hold their keys for as long as they like; honest ones forget what they need no longer.
        self.pool: dict[str, dict[str, dict[int, bytes]]] = {name: {"b": {}, "s": {}} for name in names}
        for name, request in play.out["mask"].items():
            message = play.sites[name].mask(request, self.words[name].copy())
            self.vectors[name] = np.frombuffer(message.vector, dtype="<u4")
            play.coordinator.feed(name, message)
        for name in self.corrupt:
            for dealer, (b_share, s_share) in play.sites[name]._secrets.held.items():
                self._learn(dealer, "b", name, b_share)
                self._learn(dealer, "s", name, s_share)

    def _learn(self, dealer: str, kind: str, holder: str, share: bytes) -> None:
        self.pool[dealer][kind][self.play.consortium.roster.index[holder] + 1] = share

    def ask_for_two_sets(self) -> None:
        """Show the full set to one part of the honest sites, the set without the target to the others."""
        names, threshold = tuple(self.play.sites), self.play.consortium.roster.thresholds.t
        full, without = names, tuple(name for name in names if name != TARGET)
        others = [name for name in self.honest if name != TARGET]
        # The target signs only a set with itself in it; the rest are split so that the smaller set gets what it needs.
        needed = max(0, threshold - len(self.corrupt))
        for survivors, shown in ((without, others[:needed]), (full, [TARGET, *others[needed:]])):
            signatures = []
            for name in shown:
                try:
                    signed = self.play.sites[name].agree(SurvivorSet(self.play.coordinator.session, survivors))
                except ProtocolError:
                    continue
                signatures.append(AgreeSignature(name, signed.signature))
            signatures += [self._corrupt_signature(name, survivors) for name in self.corrupt if name in survivors]
            signatures.sort(key=lambda row: names.index(row.site))
            request = UnmaskRequest(self.play.coordinator.session, survivors, tuple(signatures))
            for name in shown:
                try:
                    answer = self.play.sites[name].unmask(request)
                except ProtocolError:
                    continue
                for opened in answer.shares:
                    self._learn(opened.site, opened.kind, name, opened.share)

    def _corrupt_signature(self, name: str, survivors: tuple[str, ...]) -> AgreeSignature:
        consortium, site = self.play.consortium, self.play.sites[name]
        content = (
            statements.names_digest(p.LABEL_SHARERS, tuple(self.play.sites)),
            statements.names_digest(p.LABEL_SURVIVORS, survivors),
            site._adverts_digest,
        )
        context = statements.signing_context(consortium.pinned, self.play.coordinator.session)
        return AgreeSignature(name, consortium.identities[name].sign(p.LABEL_AGREE, context, name, *content))

    def secret(self, dealer: str, kind: str) -> bytes | None:
        """What the pooled shares rebuild; None while there are fewer than t."""
        threshold, shares = self.play.consortium.roster.thresholds.t, self.pool[dealer][kind]
        if len(shares) < threshold:
            return None
        points = sorted(shares)[:threshold]
        return shamir.combine([shares[x] for x in points], shamir.weights_at_zero(points))

    def read_target(self) -> np.ndarray | None:
        """The target's plain words, if both its secrets can be rebuilt."""
        b, s = self.secret(TARGET, "b"), self.secret(TARGET, "s")
        if b is None or s is None:
            return None
        session, roster = self.play.coordinator.session, self.play.consortium.roster
        private = X25519PrivateKey.from_private_bytes(s)
        plus, minus = [p.self_mask_key(b, session, TARGET)], []
        for peer, advert in self.play.sites[TARGET]._adverts.items():
            if peer != TARGET:
                key = p.pair_mask_key(private, advert.mask_key, session, TARGET, peer)
                (plus if roster.index[peer] > roster.index[TARGET] else minus).append(key)
        plain = self.vectors[TARGET].copy()
        p.apply_masks(plain, minus, plus)
        return plain


SIZES = [n for n in range(4, 13) if choose_thresholds(n).least < n]


@pytest.mark.parametrize("n", SIZES)
def test_c_colluding_sites_get_one_kind_of_share_of_an_honest_site(n):
    coalition = Coalition(n, choose_thresholds(n).colluding)
    coalition.ask_for_two_sets()
    assert coalition.read_target() is None
    for name in coalition.honest:
        assert coalition.secret(name, "b") is None or coalition.secret(name, "s") is None


@pytest.mark.parametrize(
    "n", [n for n in SIZES if choose_thresholds(n).colluding == 2 * choose_thresholds(n).t - n - 1]
)
def test_one_more_reads_an_honest_sites_vector_so_the_bound_is_tight(n):
    coalition = Coalition(n, choose_thresholds(n).colluding + 1)
    coalition.ask_for_two_sets()
    read = coalition.read_target()
    assert read is not None
    assert read.tolist() == coalition.words[TARGET].tolist()


def test_where_only_the_whole_roster_may_be_summed_the_sum_itself_gives_the_last_honest_site_away():
    """n = 3: c = 1, because two sites can take their own vectors off the sum."""
    assert choose_thresholds(3).colluding == 1
    play: Play = Consortium(3).play()
    words = play.words()
    total = play.whole(words).ring
    alone = total - words["site-001"] - words["site-002"]
    assert alone.tolist() == words["site-000"].tolist()
    with_one = total - words["site-001"]
    assert with_one.tolist() == (words["site-000"] + words["site-002"]).tolist()


@pytest.mark.parametrize("n", [5, 8, 10])
def test_what_c_colluders_can_take_off_a_vector_leaves_it_masked(n):
    """With all their keys, honest vectors less the masks that are shared with them still look uniform."""
    coalition = Coalition(n, choose_thresholds(n).colluding, size=40_000)
    coalition.ask_for_two_sets()
    session, roster = coalition.play.coordinator.session, coalition.play.consortium.roster
    for name in coalition.honest[:2]:
        rest, plus, minus = coalition.vectors[name].copy(), [], []
        for peer in coalition.corrupt:
            secrets = coalition.play.sites[peer]._secrets
            advert = coalition.play.sites[peer]._adverts[name]
            key = p.pair_mask_key(secrets.mask, advert.mask_key, session, name, peer)
            (plus if roster.index[peer] > roster.index[name] else minus).append(key)
        p.apply_masks(rest, minus, plus)
        b = coalition.secret(name, "b")
        if b is not None:
            p.apply_masks(rest, [], [p.self_mask_key(b, session, name)])
        difference = rest - coalition.words[name]
        counts = np.bincount(difference.view(np.uint8), minlength=256)
        expected = difference.size * 4 / 256
        assert ((counts - expected) ** 2 / expected).sum() < 400  # 255 degrees of freedom: once in 10^8


def test_the_released_sum_is_the_same_however_honest_sites_share_it_out():
    sums = []
    for shift in (0, 12345):
        play = Consortium(5).play()
        words = play.words(5)
        first, second = list(words)[:2]
        words[first] = words[first] + np.uint32(shift)
        words[second] = words[second] - np.uint32(shift)
        sums.append(play.whole(words).ring.tolist())
    assert sums[0] == sums[1]
