"""The coordinator's side of one secure sum: it feeds in what sites send and closes one stage after the other.

It adds masked vectors as they arrive and keeps one running sum, never a vector of one site. No I/O, no clock, no
randomness. A site whose message is refused is dropped, with stage and reason; the others go on while enough are left.
From the survivor set on, what was heard can be kept and taken up again: `snapshot`, `resume`, `revive`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

import numpy as np

from ..errors import DecodeError, ProtocolError, Refusal, RosterError
from ..messages import (
    Advert,
    AdvertList,
    Agreement,
    AgreeSignature,
    MaskedVector,
    RefusalNotice,
    SealedShares,
    ShareDelivery,
    SurvivorSet,
    ToSession,
    UnmaskAnswer,
    UnmaskRequest,
)
from . import kept, statements
from . import primitives as p
from .dealings import BOX_BYTES, Dealings
from .packing import add_packed, split_wire
from .roster import PinnedRoster
from .session import Binding, SessionId
from .unmasking import SecureSum, unmask_sum

STAGES = ("advertise", "share", "mask", "agree", "unmask", "done")
_STAGE_OF = {
    Advert: "advertise",
    SealedShares: "share",
    MaskedVector: "mask",
    Agreement: "agree",
    UnmaskAnswer: "unmask",
}


# Given up for silence since the set was named: whoever speaks after all is heard.
_ONLY_SILENT = tuple((stage, why) for stage in ("agree", "unmask") for why in ("silent", "timeout"))
# What a site answers that has no such session any more, or signed another set; being asked again changes nothing.
_LOST = (str(Refusal.OUT_OF_ORDER), str(Refusal.WRONG_SESSION), str(Refusal.SECOND_SURVIVOR_SET))


class CoordinatorSession:
    """One secure sum, as the coordinator sees it.

    Args:
        roster: pinned.
        session: the sum this is about.
        binding: hashes of the adapter and settings that were sent out.
        expected: sites that were asked to take part; None for all (or the evaluation cohort).
        survivors: the set that sites have signed for this round in an earlier attempt; they sign no other, so a sum
            over another one is given up before anybody is asked to. None when none was signed.

    Attributes:
        dropped: site -> (stage, reason), in the order in which they went.
        accused: dealer -> sites that could not open or check its shares. A claim, not a proof.

    Raises:
        RosterError: when roster and session do not belong together.
    """

    def __init__(
        self,
        roster: PinnedRoster,
        session: SessionId,
        binding: Binding | bytes,
        expected: Sequence[str] | None = None,
        survivors: tuple[str, ...] | None = None,
    ) -> None:
        if session.study != roster.roster.study:
            raise RosterError("the session belongs to another study than the roster")
        self._pinned, self._roster, self.session = roster, roster.roster, session
        self._binding = binding if isinstance(binding, bytes) else binding.digest
        everyone = self._roster.names if session.purpose == "update" else self._roster.evaluation_cohort
        self._members: tuple[str, ...] = tuple(everyone if expected is None else expected)
        self._only = survivors
        statements.check_ordered(self._members, roster, "advertise")
        self._seen: dict[tuple[str, str], bytes] = {}
        self._adverts: dict[str, Advert] = {}
        self._adverts_digest = b""
        self._dealings = Dealings(roster, session)
        self._total: p.Words = np.zeros(self._roster.size(session.purpose), dtype="<u4")
        self._masked: set[str] = set()
        self._agreed: tuple[bytes, ...] = ()
        self._agreements: dict[str, Agreement] = {}
        self._answers: dict[str, bytes] = {}  # a site's opened shares joined, in the order of the sharers
        self._sharers: tuple[str, ...] = ()
        self._survivors: tuple[str, ...] = ()
        self.dropped: dict[str, tuple[str, str]] = {}
        self.accused: dict[str, set[str]] = {}
        self.stage = "advertise"

    # --- what arrives ----------------------------------------------------------------------------------------------

    def feed(self, site: str, message: ToSession) -> bool:
        """Take one message that the transport says came from ``site``.

        An exact repetition is ignored. A refused message drops its site, unless the site had already been heard in
        this stage: then the first message stands.

        Returns:
            Whether the message was new and counts.

        Raises:
            ProtocolError: why the message was refused; ``error.site`` may name another site than the sender.
        """
        if message.session != self.session:
            self._refuse("a message of another session", Refusal.WRONG_SESSION, site)
        if message.site != site:
            self._refuse("a message in another site's name", Refusal.BAD_SIGNATURE, site)
        if isinstance(message, RefusalNotice):
            return self._refused(message)
        stage = _STAGE_OF[type(message)]
        seen = self._seen.get((stage, site))
        if seen is not None:
            if seen == message.signature:
                return False
            self._refuse("a second, different message in one stage", Refusal.CHANGED_REQUEST, site)
        late = stage == "agree" and self.stage == "unmask"  # a signature that comes late is as good as the others
        given_up = site in self.dropped and not (self.answerable and self.dropped[site] in _ONLY_SILENT)
        if (stage != self.stage and not late) or site not in self._members or given_up:
            self._refuse(f"a message of stage {stage} that is not awaited", Refusal.OUT_OF_ORDER, site)
        self.dropped.pop(site, None)
        try:
            self._take(message)
        except ProtocolError as error:
            self.drop(site, str(error.code))
            raise
        self._seen[stage, site] = message.signature
        return True

    def _refused(self, notice: RefusalNotice) -> bool:
        """A site does not go on; where it names a dealer, the dealer is accused. Of another stage it is late."""
        if notice.stage not in ((self.stage, "start") if self.stage == "advertise" else (self.stage,)):
            return False
        reason = str(notice.code) if not notice.peer else f"{notice.code} ({notice.peer})"
        if notice.site in self.waiting():
            blames = notice.code in (Refusal.UNOPENABLE_SHARE, Refusal.DISHONEST_SHARE)
            if blames and notice.peer in self._roster.index and notice.peer != notice.site:
                self.accused.setdefault(notice.peer, set()).add(notice.site)
        self.drop(notice.site, reason)
        return False

    def _take(self, message: Advert | SealedShares | MaskedVector | Agreement | UnmaskAnswer) -> None:
        site = message.site
        if isinstance(message, Advert):
            statements.check_advert(message, self._pinned, self.session, self._binding, self.stage)
            self._adverts[site] = message
        elif isinstance(message, SealedShares):
            if tuple(sealed.site for sealed in message.shares) != tuple(self._adverts):
                self._refuse("shares for other sites than the adverts'", Refusal.MALFORMED, site)
            if any(len(s.box) != (0 if s.site == site else BOX_BYTES) for s in message.shares):
                self._refuse("a box of another size", Refusal.WRONG_LENGTH, site)
            tree = statements.tree_of(message.shares)
            content = (self._adverts_digest, tree.root)
            statements.check_dealing(site, content, message.signature, self._pinned, self.session, self.stage)
            self._dealings.add(message, tree)
        elif isinstance(message, MaskedVector):
            statements.check_vector(message, self._pinned, self.session, self.stage)
            self._add(message.vector)
            self._masked.add(site)
        elif isinstance(message, Agreement):
            statements.check_agreement(message, self._agreed, self._pinned, self.session, self.stage)
            self._agreements[site] = message
        else:
            statements.check_answer(message, self._pinned, self.session, self.stage)
            wanted = [(name, "b" if name in self._survivors else "s") for name in self._sharers]
            if [(opened.site, opened.kind) for opened in message.shares] != wanted:
                self._refuse("an answer with other shares than asked for", Refusal.MALFORMED, site)
            self._dealings.check_opened(message, list(self._adverts).index(site))
            self._answers[site] = b"".join(opened.share for opened in message.shares)

    def _add(self, vector: bytes) -> None:
        start, sites = 0, len(self._roster.sites)
        blocks = self._roster.blocks(self.session.purpose)
        for block, part in zip(blocks, split_wire(vector, blocks, sites), strict=True):
            add_packed(part, block.ring(sites), self._total[start : start + block.size])
            start += block.size

    def drop(self, site: str, reason: str) -> None:
        """Stop waiting for a site: it refused, was refused, or was silent. A vector already added stays in the sum."""
        if site in self._members:
            self.dropped.setdefault(site, (self.stage, reason))

    def waiting(self) -> frozenset[str]:
        """Sites whose message of this stage has neither arrived nor been given up."""
        asked = self._agreements if self.stage == "unmask" else self._members
        return frozenset(asked) - frozenset(self._heard()) - frozenset(self.dropped)

    def _heard(self) -> Sequence[str] | set[str] | Mapping[str, object]:
        heard: Mapping[str, Sequence[str] | set[str] | Mapping[str, object]] = {
            "advertise": self._adverts,
            "share": self._dealings.signatures,
            "mask": self._masked,
            "agree": self._agreements,
            "unmask": self._answers,
            "done": self._members,
        }
        return heard[self.stage]

    # --- closing a stage -------------------------------------------------------------------------------------------

    def close_advertise(self) -> dict[str, AdvertList]:
        """Adverts of all who take part, the same list to each."""
        self._close("advertise", self._adverts)
        self._adverts = {name: self._adverts[name] for name in self._members}
        self._adverts_digest = statements.adverts_digest(tuple(self._adverts.values()))
        message = AdvertList(self.session, tuple(self._adverts.values()))
        return dict.fromkeys(self._members, message)

    def close_share(self) -> Iterator[tuple[str, ShareDelivery]]:
        """To each sharer, what the other sharers sealed for it; made one by one, as they are asked for."""
        self._close("share", self._dealings.signatures)
        self._sharers = self._members
        return self._dealings.deliveries(self._sharers, tuple(self._adverts))

    def close_mask(self) -> dict[str, SurvivorSet]:
        """The survivors: whose vectors are in the running sum. Keep `snapshot` before these leave."""
        if self._only is not None and tuple(name for name in self._members if name in self._masked) != self._only:
            self._refuse("this round's survivor set was signed already, and is another", Refusal.SECOND_SURVIVOR_SET)
        self._close("mask", self._masked)
        self._survivors = self._members
        self._dealings.forget_boxes(self._sharers)
        self._set_agreed()
        return self._survivor_sets(self._survivors)

    def _set_agreed(self) -> None:
        self._agreed = (
            statements.names_digest(p.LABEL_SHARERS, self._sharers),
            statements.names_digest(p.LABEL_SURVIVORS, self._survivors),
            statements.adverts_digest(tuple(self._adverts.values())),
        )

    def _survivor_sets(self, to: Sequence[str]) -> dict[str, SurvivorSet]:
        return dict.fromkeys(to, SurvivorSet(self.session, self._survivors))

    def close_agree(self) -> dict[str, UnmaskRequest]:
        """The signatures over the survivor set, to all who signed. Survivors that sign later can still answer."""
        self._close("agree", self._agreements, self._roster.thresholds.t)
        return self.request(tuple(name for name in self._members if name in self._agreements))

    def request(self, to: Sequence[str]) -> dict[str, UnmaskRequest]:
        """The request for shares, with every signature that has come."""
        signed = tuple(
            AgreeSignature(name, self._agreements[name].signature)
            for name in self._survivors
            if name in self._agreements
        )
        return dict.fromkeys(to, UnmaskRequest(self.session, self._survivors, signed))

    def finish(self) -> SecureSum:
        """Rebuild b of survivors and s of those who dropped, take their masks off, check the bound, decode.

        Raises:
            ProtocolError: TOO_FEW below t answers; DISHONEST_DEALER naming who dealt shares of something else than
                committed to; OUT_OF_BOUND when some vector was garbage. Nothing is released then.
        """
        self._close("unmask", self._answers, self._roster.thresholds.t)
        heard = [name for name in self._members if name in self._answers]
        answers = {name: self._answers[name] for name in heard[: self._roster.thresholds.t]}
        # Whoever is not heard in the last two stages is in the sum all the same.
        outside = {name: why for name, why in self.dropped.items() if name not in self._survivors}
        values = unmask_sum(
            self._total, self._pinned, self.session, self._adverts, self._sharers, self._survivors, answers
        )
        weight = sum(self._roster.weight_of(name) for name in self._survivors)
        return SecureSum(self._total, values, self._survivors, weight, outside)

    # --- interrupted and taken up again ----------------------------------------------------------------------------

    @property
    def survivors(self) -> tuple[str, ...]:
        """The survivor set; empty before it is named."""
        return self._survivors

    @property
    def answerable(self) -> bool:
        """Whether this session can still release: its set is named, and only signatures or answers are missing."""
        return self.stage in ("agree", "unmask")

    @property
    def hopeless(self) -> bool:
        """Whether so many survivors have lost this session that asking again cannot reach t."""
        lost = {name for name, (stage, why) in self.dropped.items() if stage in ("agree", "unmask") and why in _LOST}
        left = [name for name in self._members if name in self._heard() or name not in lost]
        counted = [name for name in left if name in self._pinned.confirmed or self.stage == "unmask"]
        return len(counted) < self._roster.thresholds.t

    def revive(self) -> dict[str, SurvivorSet | UnmaskRequest]:
        """Wait again for the survivors that were given up since the set was named; returns what they are asked.

        Only in the stages agree and unmask, where a silent site loses nothing by being asked again: it gives the
        answer that it stored.
        """
        if not self.answerable:
            self._refuse("this session cannot be taken up again", Refusal.OUT_OF_ORDER)
        missing = [name for name in self._members if name not in self._heard()]
        for name in missing:
            self.dropped.pop(name, None)
        unsigned = [name for name in missing if name not in self._agreements]
        signed = [name for name in missing if name in self._agreements]
        return {**self._survivor_sets(unsigned), **self.request(signed)}

    def snapshot(self) -> bytes:
        """What must be on disk before the survivor set leaves; no secret but what sites sent to this coordinator."""
        if not self._survivors:
            self._refuse("no survivor set is named", Refusal.OUT_OF_ORDER)
        return kept.dump(
            kept.KeptCoordinator(
                kept.VERSION,
                self.session,
                self._roster.digest,
                self._binding,
                tuple(self._adverts.values()),
                self._sharers,
                self._survivors,
                self._dealings.hashes_of(self._sharers),
                tuple((name, stage, reason) for name, (stage, reason) in self.dropped.items()),
                self._total.tobytes(),
            )
        )

    @classmethod
    def resume(cls, roster: PinnedRoster, data: bytes) -> CoordinatorSession:
        """The session of a `snapshot`, at stage agree; signatures and answers are then fed again, as they were kept.

        Raises:
            DecodeError: damaged.
            RosterError: of another roster.
        """
        known = kept.load(data, kept.KeptCoordinator)
        if known.roster != roster.roster.digest:
            raise RosterError("the kept session is of another roster")
        if len(known.total) != 4 * roster.roster.size(known.session.purpose):
            raise DecodeError("the kept sum has another length")
        self = cls(roster, known.session, known.binding, known.survivors)
        self._adverts = {advert.site: advert for advert in known.adverts}
        self._sharers, self._survivors = known.sharers, known.survivors
        self._dealings.restore(known.sharers, known.hashes)
        self.dropped = {name: (stage, reason) for name, stage, reason in known.dropped}
        self._total = np.frombuffer(known.total, dtype="<u4").copy()
        self._set_agreed()
        self.stage = "agree"
        return self

    # --- around the stages -----------------------------------------------------------------------------------------

    def _close(self, stage: str, heard: Mapping[str, object] | set[str], least: int | None = None) -> None:
        """End a stage: who was not heard is dropped; refuses to go on with too few, and then stays in the stage."""
        if self.stage != stage:
            self._refuse(f"stage {stage} cannot be closed now", Refusal.OUT_OF_ORDER)
        for name in self.waiting():
            self.drop(name, "silent")
        members = tuple(name for name in self._members if name in heard)
        if least is None:
            statements.check_enough(members, self._pinned, self.session, stage)
            self._members = members
        else:
            # Only confirmed sites' signatures count at a site; survivors stay members, to be asked again or to be late.
            counted = sum(1 for name in members if name in self._pinned.confirmed or stage == "unmask")
            if counted < least:
                self._refuse(f"{counted} sites answered, fewer than t = {least}", Refusal.TOO_FEW)
        self.stage = STAGES[STAGES.index(stage) + 1]

    def _refuse(self, what: str, code: Refusal, site: str | None = None) -> NoReturn:
        raise ProtocolError(what, code=code, stage=self.stage, site=site)

    def __repr__(self) -> str:
        return f"CoordinatorSession({self.session}, stage {self.stage})"
