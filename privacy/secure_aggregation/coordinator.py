"""The coordinator's side of one secure sum: it feeds in what sites send and closes one stage after the other.

It adds masked vectors as they arrive and keeps one running sum, never a vector of one site. No I/O, no clock, no
randomness. A site whose message is refused is dropped, with stage and reason; the others go on while enough are left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from ..errors import EncodingError, ProtocolError, Refusal, RosterError
from ..messages import (
    Advert,
    AdvertList,
    Agreement,
    AgreeSignature,
    DeliveredShare,
    MaskedVector,
    RefusalNotice,
    SealedShares,
    ShareDelivery,
    SurvivorSet,
    ToCoordinator,
    UnmaskAnswer,
    UnmaskRequest,
)
from . import primitives as p
from . import shamir, statements
from .encoding import decode_sum
from .roster import PinnedRoster
from .session import Binding, SessionId

STAGES = ("advertise", "share", "mask", "agree", "unmask", "done")
_STAGE_OF = {
    Advert: "advertise",
    SealedShares: "share",
    MaskedVector: "mask",
    Agreement: "agree",
    UnmaskAnswer: "unmask",
}


@dataclass(frozen=True)
class SecureSum:
    """What a session releases.

    Attributes:
        ring: array of shape (d,), uint32; the sum of the survivors' encodings modulo 2^32.
        values: per block, array of shape (block.size,), float64; the sum of w_i x_i (or of x_i, unweighted blocks).
        survivors: the sites in the sum, in roster order.
        weight: sum of the survivors' weights; a weighted block's mean is ``values / weight``.
        dropped: sites not in the sum, with stage and reason.
    """

    ring: p.Words
    values: Mapping[str, NDArray[np.float64]]
    survivors: tuple[str, ...]
    weight: float
    dropped: Mapping[str, tuple[str, str]]


class CoordinatorSession:
    """One secure sum, as the coordinator sees it.

    Args:
        roster: pinned.
        session: the sum this is about.
        binding: hashes of the adapter and settings that were sent out.
        expected: sites that were asked to take part; None for all (or the evaluation cohort).

    Raises:
        RosterError: when roster and session do not belong together.
    """

    def __init__(
        self,
        roster: PinnedRoster,
        session: SessionId,
        binding: Binding,
        expected: Sequence[str] | None = None,
    ) -> None:
        if session.study != roster.roster.study:
            raise RosterError("the session belongs to another study than the roster")
        self._pinned, self._roster, self.session, self._binding = roster, roster.roster, session, binding
        everyone = self._roster.names if session.purpose == "update" else self._roster.evaluation_cohort
        self._members: tuple[str, ...] = tuple(everyone if expected is None else expected)
        statements.check_ordered(self._members, roster, "advertise")
        self._size = self._roster.size(session.purpose)
        self._seen: dict[tuple[str, str], bytes] = {}
        self._adverts: dict[str, Advert] = {}
        self._sealed: dict[str, SealedShares] = {}
        self._total: p.Words = np.zeros(self._size, dtype="<u4")
        self._masked: set[str] = set()
        self._agreed: tuple[bytes, ...] = ()
        self._agreements: dict[str, Agreement] = {}
        self._answers: dict[str, UnmaskAnswer] = {}
        self._sharers: tuple[str, ...] = ()
        self._survivors: tuple[str, ...] = ()
        self.dropped: dict[str, tuple[str, str]] = {}
        self.stage = "advertise"

    # --- what arrives ----------------------------------------------------------------------------------------------

    def feed(self, site: str, message: ToCoordinator) -> None:
        """Take one message that the transport says came from ``site``.

        An exact repetition is ignored. A refused message drops its site, unless the site had already been heard in
        this stage: then the first message stands.

        Raises:
            ProtocolError: why the message was refused; ``error.site`` may name another site than the sender.
        """
        if message.session != self.session:
            self._refuse("a message of another session", Refusal.WRONG_SESSION, site)
        if message.site != site:
            self._refuse("a message in another site's name", Refusal.BAD_SIGNATURE, site)
        if isinstance(message, RefusalNotice):
            reason = str(message.code) if not message.peer else f"{message.code} ({message.peer})"
            self.drop(site, reason)
            return
        stage = _STAGE_OF[type(message)]
        seen = self._seen.get((stage, site))
        if seen is not None:
            if seen == message.signature:
                return
            self._refuse("a second, different message in one stage", Refusal.CHANGED_REQUEST, site)
        if stage != self.stage or site not in self._members or site in self.dropped:
            self._refuse(f"a message of stage {stage} that is not awaited", Refusal.OUT_OF_ORDER, site)
        try:
            self._take(message)
        except ProtocolError as error:
            self.drop(site, str(error.code))
            raise
        self._seen[stage, site] = message.signature

    def _take(self, message: Advert | SealedShares | MaskedVector | Agreement | UnmaskAnswer) -> None:
        site = message.site
        if isinstance(message, Advert):
            statements.check_advert(message, self._pinned, self.session, self._binding.digest, self.stage)
            self._adverts[site] = message
        elif isinstance(message, SealedShares):
            if tuple(sealed.site for sealed in message.shares) != tuple(self._adverts):
                self._refuse("shares for other sites than the adverts'", Refusal.MALFORMED, site)
            if any(len(s.box) != (0 if s.site == site else 2 * shamir.SHARE_BYTES + 16) for s in message.shares):
                self._refuse("a box of another size", Refusal.WRONG_LENGTH, site)
            leaves = statements.leaves_of(message.shares)
            statements.check_dealing(site, leaves, message.signature, self._pinned, self.session, self.stage)
            self._sealed[site] = message
        elif isinstance(message, MaskedVector):
            statements.check_vector(message, self._pinned, self.session, self.stage)
            np.add(self._total, np.frombuffer(message.vector, dtype="<u4"), out=self._total)
            self._masked.add(site)
        elif isinstance(message, Agreement):
            statements.check_agreement(message, self._agreed, self._pinned, self.session, self.stage)
            self._agreements[site] = message
        else:
            self._check_answer(message)
            self._answers[site] = message

    def _check_answer(self, message: UnmaskAnswer) -> None:
        """Each opened share is the one that its dealer signed; otherwise the responder is named."""
        statements.check_answer(message, self._pinned, self.session, self.stage)
        wanted = [(name, "b" if name in self._survivors else "s") for name in self._sharers]
        if [(opened.site, opened.kind) for opened in message.shares] != wanted:
            self._refuse("an answer with other shares than asked for", Refusal.MALFORMED, message.site)
        place = list(self._adverts).index(message.site)
        for opened in message.shares:
            signed = self._sealed[opened.site].shares[place]
            given = p.share_hash(self.session, opened.site, message.site, opened.kind, opened.share)
            if not p.same(given, signed.b_hash if opened.kind == "b" else signed.s_hash):
                self._refuse("a share that is not the one its dealer signed", Refusal.DISHONEST_SHARE, message.site)

    def drop(self, site: str, reason: str) -> None:
        """Stop waiting for a site: it refused, was refused, or was silent. A vector already added stays in the sum."""
        if site in self._members:
            self.dropped.setdefault(site, (self.stage, reason))

    def waiting(self) -> frozenset[str]:
        """Sites whose message of this stage has neither arrived nor been given up."""
        heard: Mapping[str, Sequence[str] | set[str] | Mapping[str, object]] = {
            "advertise": self._adverts,
            "share": self._sealed,
            "mask": self._masked,
            "agree": self._agreements,
            "unmask": self._answers,
            "done": self._members,
        }
        return frozenset(self._members) - frozenset(heard[self.stage]) - frozenset(self.dropped)

    # --- closing a stage -------------------------------------------------------------------------------------------

    def close_advertise(self) -> dict[str, AdvertList]:
        """Adverts of all who take part, the same list to each."""
        self._close("advertise", self._adverts)
        self._adverts = {name: self._adverts[name] for name in self._members}
        message = AdvertList(self.session, tuple(self._adverts.values()))
        return dict.fromkeys(self._members, message)

    def close_share(self) -> dict[str, ShareDelivery]:
        """To each sharer, what the other sharers sealed for it."""
        self._close("share", self._sealed)
        self._sharers = self._members
        place = {name: i for i, name in enumerate(self._adverts)}
        leaves = {dealer: statements.leaves_of(self._sealed[dealer].shares) for dealer in self._sharers}
        deliveries = {}
        for to in self._sharers:
            rows = []
            for dealer in self._sharers:
                if dealer != to:
                    dealt = self._sealed[dealer]
                    own = dealt.shares[place[to]]
                    rows.append(
                        DeliveredShare(dealer, own.box, own.b_hash, own.s_hash, leaves[dealer], dealt.signature)
                    )
            deliveries[to] = ShareDelivery(self.session, tuple(rows))
        return deliveries

    def close_mask(self) -> dict[str, SurvivorSet]:
        """The survivors: whose vectors are in the running sum."""
        self._close("mask", self._masked)
        self._survivors = self._members
        self._agreed = (
            statements.names_digest(p.LABEL_SHARERS, self._sharers),
            statements.names_digest(p.LABEL_SURVIVORS, self._survivors),
            statements.adverts_digest(tuple(self._adverts.values())),
        )
        return dict.fromkeys(self._survivors, SurvivorSet(self.session, self._survivors))

    def close_agree(self) -> dict[str, UnmaskRequest]:
        """The signatures over the survivor set, to all who signed."""
        self._close("agree", self._agreements, self._roster.thresholds.t)
        signed = tuple(AgreeSignature(name, self._agreements[name].signature) for name in self._members)
        return dict.fromkeys(self._members, UnmaskRequest(self.session, self._survivors, signed))

    def finish(self) -> SecureSum:
        """Rebuild b of survivors and s of those who dropped, take their masks off, check the bound, decode.

        Raises:
            ProtocolError: TOO_FEW below t answers; DISHONEST_DEALER naming who dealt shares of something else than
                committed to; OUT_OF_BOUND when some vector was garbage. Nothing is released then.
        """
        self._close("unmask", self._answers, self._roster.thresholds.t)
        responders = self._members[: self._roster.thresholds.t]
        weights = shamir.weights_at_zero([self._roster.index[name] + 1 for name in responders])
        added: list[bytes] = []  # keys of masks that are in the sum with a plus
        subtracted: list[bytes] = []
        for i, site in enumerate(self._sharers):
            shares = [self._answers[name].shares[i].share for name in responders]
            try:
                secret = shamir.combine(shares, weights)
            except shamir.SecretTooLargeError:
                self._dishonest(site)
            if site in self._survivors:
                if not p.same(p.commitment(self.session, site, secret), self._adverts[site].commitment):
                    self._dishonest(site)
                added.append(p.self_mask_key(secret, self.session, site))
            else:
                self._pair_masks(site, secret, added, subtracted)
        total = self._total
        p.apply_masks(total, subtracted, added)
        survivors_weights = [self._roster.weight_of(name) for name in self._survivors]
        try:
            values = decode_sum(total, self._roster.blocks(self.session.purpose), survivors_weights)
        except EncodingError as error:
            raise ProtocolError(
                f"the sum is not released: {error.what} ({error.where})", code=Refusal.OUT_OF_BOUND, stage="finish"
            ) from None
        outside = {name: why for name, why in self.dropped.items() if name not in self._survivors}
        return SecureSum(total, values, self._survivors, sum(survivors_weights), outside)

    def _pair_masks(self, site: str, secret: bytes, added: list[bytes], subtracted: list[bytes]) -> None:
        """Keys of what the survivors added or subtracted for a site that shared and then dropped."""
        private = X25519PrivateKey.from_private_bytes(secret)
        if not p.same(private.public_key().public_bytes_raw(), self._adverts[site].mask_key):
            self._dishonest(site)
        for peer in self._survivors:
            key = p.pair_mask_key(private, self._adverts[peer].mask_key, self.session, site, peer)
            # A survivor added the mask it shares with a higher site and subtracted the one with a lower site.
            higher = self._roster.index[site] > self._roster.index[peer]
            (added if higher else subtracted).append(key)

    # --- around the stages -----------------------------------------------------------------------------------------

    def _close(self, stage: str, heard: Mapping[str, object] | set[str], least: int | None = None) -> None:
        """End a stage: who was not heard is dropped; refuses to go on with too few."""
        if self.stage != stage:
            self._refuse(f"stage {stage} cannot be closed now", Refusal.OUT_OF_ORDER, None)
        for name in self._members:
            if name not in heard:
                self.drop(name, "silent")
        members = tuple(name for name in self._members if name in heard)
        if least is None:
            statements.check_enough(members, self._pinned, self.session, stage)
        elif len(members) < least:
            self._refuse(f"{len(members)} sites answered, fewer than t = {least}", Refusal.TOO_FEW, None)
        self._members = members
        self.stage = STAGES[STAGES.index(stage) + 1]

    def _dishonest(self, dealer: str) -> NoReturn:
        raise ProtocolError(
            "all shares match their signed hashes, but rebuild another secret than the advertised one",
            code=Refusal.DISHONEST_DEALER,
            stage="finish",
            site=dealer,
        )

    def _refuse(self, what: str, code: Refusal, site: str | None) -> NoReturn:
        raise ProtocolError(what, code=code, stage=self.stage, site=site)

    def __repr__(self) -> str:
        return f"CoordinatorSession({self.session}, stage {self.stage})"
