"""The site's side of one secure sum: five stages, each a message in and a message out.

Bonawitz et al. 2017, figure 4, active-adversary variant, with commitments to b, signed share hashes and one adapter
for all. No I/O, no clock, no hidden randomness. A refused request changes nothing and reveals nothing; an answered one
is answered again with the same message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, TypeVar

import msgspec
import numpy as np

from ..errors import DecodeError, DecryptionError, ProtocolError, Refusal, RosterError
from ..identity import Identity
from ..merkle import root_from_path
from ..messages import (
    Advert,
    AdvertList,
    Agreement,
    DeliveredShare,
    MaskedVector,
    Message,
    OpenedShare,
    SealedShare,
    SealedShares,
    ShareDelivery,
    SurvivorSet,
    UnmaskAnswer,
    UnmaskRequest,
)
from . import kept, shamir, statements
from . import primitives as p
from .memory import SurvivorMemory
from .packing import pack
from .roster import PinnedRoster
from .session import Binding, SessionId
from .session_secrets import SessionSecrets

Reply = TypeVar("Reply", bound=Message)


def _no_randomness(count: int) -> bytes:
    raise RuntimeError("a resumed session makes no secrets")


class SiteSession:
    """One site in one session.

    Args:
        roster: pinned; its ``confirmed`` sites count towards t and m.
        identity: this site's; must be the roster's key for ``site``.
        site: this site's name.
        session: the sum this is about.
        binding: hashes of the adapter and the settings that this site received.
        random: gives as many secret uniform bytes as asked (``os.urandom``).
        memory: survivor sets signed so far; shared by all sessions of a site in a study.
        keep: called with what must survive a power cut before an agreement or an answer is returned; it must have the
            bytes safely on disk, encrypted, when it returns. None keeps nothing (tests, measurements).

    Raises:
        RosterError: when roster, identity, site and session do not belong together.
    """

    def __init__(
        self,
        roster: PinnedRoster,
        identity: Identity,
        site: str,
        session: SessionId,
        binding: Binding,
        random: Callable[[int], bytes],
        memory: SurvivorMemory | None = None,
        keep: Callable[[bytes], None] | None = None,
    ) -> None:
        entry = roster.roster.index.get(site)
        if entry is None or roster.roster.sites[entry].public_key != identity.public_key.hex():
            raise RosterError(f"the roster does not list this identity as site {site}")
        if session.study != roster.roster.study:
            raise RosterError("the session belongs to another study than the roster")
        self._size = roster.roster.size(session.purpose)
        self._pinned, self._identity, self.site, self.session = roster, identity, site, session
        self._binding, self._random = binding, random
        self._memory = SurvivorMemory() if memory is None else memory
        self._keep_safe = keep
        self._context = statements.signing_context(roster, session)
        self._secrets: SessionSecrets | None = None
        self._answered: dict[str, tuple[Message | None, Message]] = {}
        self._adverts: dict[str, Advert] = {}
        self._adverts_digest = b""
        self._sharers: tuple[str, ...] = ()
        self._survivors: tuple[str, ...] = ()
        self._agreed: tuple[bytes, bytes, bytes] = (b"", b"", b"")
        self._opened: tuple[OpenedShare, ...] = ()
        self._kept: kept.KeptSite | None = None
        self.stage = "advertise"

    # --- stage 0 ---------------------------------------------------------------------------------------------------

    def advertise(self) -> Advert:
        """Two fresh key pairs (c: channel, s: masks) and a commitment to b, signed."""
        if self._again("advertise", None):
            return self._stored("advertise", Advert)
        cohort = self._pinned.roster.evaluation_cohort
        if self.session.purpose != "update" and self.site not in cohort:
            self._refuse("this site is not in the cohort of this sum", Refusal.WRONG_COHORT)
        self._secrets = secrets = SessionSecrets(self._random)
        parts = statements.advert_parts(
            secrets.channel.public_key().public_bytes_raw(),
            secrets.mask.public_key().public_bytes_raw(),
            p.commitment(self.session, self.site, secrets.b),
            self._binding.digest,
        )
        signature = self._sign(p.LABEL_ADVERT, *parts)
        advert = Advert(self.session, self.site, *parts, signature)
        return self._keep("advertise", None, advert, "share")

    # --- stage 1 ---------------------------------------------------------------------------------------------------

    def share(self, message: AdvertList) -> SealedShares:
        """Check every advert, split b and the private key of s, seal a pair of shares to each peer."""
        if self._again("share", message):
            return self._stored("share", SealedShares)
        names = tuple(advert.site for advert in message.adverts)
        statements.check_ordered(names, self._pinned, "share")
        for advert in message.adverts:
            statements.check_advert(advert, self._pinned, self.session, self._binding.digest, "share")
        own = self._stored("advertise", Advert)
        if own not in message.adverts:
            self._refuse("this site's advert is missing or changed", Refusal.SELF_MISSING)
        self._enough(names)

        secrets = self._live()
        points = [self._point(name) for name in names]
        threshold = self._pinned.roster.thresholds.t
        b_shares = shamir.split(secrets.b, threshold, points, self._random)
        s_shares = shamir.split(secrets.mask.private_bytes_raw(), threshold, points, self._random)
        sealed = []
        held = {}
        for advert, b_share, s_share in zip(message.adverts, b_shares, s_shares, strict=True):
            to = advert.site
            if to == self.site:
                box = b""
                held[to] = (b_share, s_share)
            else:
                keys = (own.channel_key, advert.channel_key)
                box = self._sealer(advert, self.site, to, keys).seal(b_share + s_share)
            b_hash = p.share_hash(self.session, self.site, to, "b", b_share)
            s_hash = p.share_hash(self.session, self.site, to, "s", s_share)
            sealed.append(SealedShare(to, box, b_hash, s_hash))
        digest = statements.adverts_digest(message.adverts)
        signature = self._sign(p.LABEL_SHARES, digest, statements.tree_of(sealed).root)
        secrets.held = held
        self._adverts = {advert.site: advert for advert in message.adverts}
        self._adverts_digest = digest
        return self._keep("share", message, SealedShares(self.session, self.site, tuple(sealed), signature), "mask")

    # --- stage 2 ---------------------------------------------------------------------------------------------------

    def mask(self, message: ShareDelivery, encoded: p.Words) -> MaskedVector:
        """Open the shares of all who shared, then mask: y = x + PRG(b) + sum_{v>u} PRG(s_uv) - sum_{v<u} PRG(s_uv).

        Args:
            message: the other sharers' boxes.
            encoded: array of shape (d,), uint32, little-endian; masked in place, so that the plain one is gone.
                Left alone when this request was answered before, because a key masks one vector, once.
        """
        if self._again("mask", message):
            return self._stored("mask", MaskedVector)
        dealers = tuple(delivered.site for delivered in message.shares)
        statements.check_ordered(dealers, self._pinned, "mask")
        if self.site in dealers:
            self._refuse("this site's own shares were delivered to it", Refusal.DUPLICATE_SITE, self.site)
        sharers = tuple(name for name in self._adverts if name in dealers or name == self.site)
        if len(sharers) != len(dealers) + 1:
            stranger = next(name for name in dealers if name not in self._adverts)
            self._refuse("shares from a site without advert", Refusal.UNKNOWN_SITE, stranger)
        self._enough(sharers)
        if encoded.dtype != np.dtype("<u4") or encoded.shape != (self._size,):
            self._refuse(f"a vector of shape {encoded.shape} instead of ({self._size},)", Refusal.WRONG_LENGTH)
        held = {delivered.site: self._open(delivered) for delivered in message.shares}

        secrets = self._live()
        pairs = {
            peer: p.pair_mask_key(secrets.mask, self._adverts[peer].mask_key, self.session, self.site, peer)
            for peer in dealers
        }
        higher = [key for peer, key in pairs.items() if self._point(peer) > self._point(self.site)]
        lower = [key for peer, key in pairs.items() if self._point(peer) < self._point(self.site)]
        self.stage = "failed"  # were anything to go wrong from here, the words could be masked already: no second time
        p.apply_masks(encoded, [p.self_mask_key(secrets.b, self.session, self.site), *higher], lower)
        vector = self._wire(encoded)
        check = p.checksum(self.session, self.site, vector)
        masked = MaskedVector(self.session, self.site, vector, check, self._sign(p.LABEL_VECTOR, check))
        secrets.held.update(held)
        self._sharers = sharers
        return self._keep("mask", message, masked, "agree")

    def _open(self, delivered: DeliveredShare) -> tuple[bytes, bytes]:
        """Check one dealer's signature and box; return its shares of b and s for this site."""
        dealer, names = delivered.site, tuple(self._adverts)
        mine = names.index(self.site)
        leaf = p.share_leaf(self.site, delivered.box, delivered.b_hash, delivered.s_hash)
        root = root_from_path(leaf, mine, len(names), delivered.path)
        if root is None:
            self._refuse("a share without a proof that its dealer signed it", Refusal.BAD_SIGNATURE, dealer)
        content = (self._adverts_digest, root)
        statements.check_dealing(dealer, content, delivered.signature, self._pinned, self.session, "mask")
        own, advert = self._stored("advertise", Advert), self._adverts[dealer]
        try:
            plain = self._sealer(advert, dealer, self.site, (advert.channel_key, own.channel_key)).open(delivered.box)
        except DecryptionError:
            self._refuse("a share that cannot be opened", Refusal.UNOPENABLE_SHARE, dealer)
        if len(plain) != 2 * shamir.SHARE_BYTES:
            self._refuse("a box that does not hold two shares", Refusal.DISHONEST_SHARE, dealer)
        b_share, s_share = plain[: shamir.SHARE_BYTES], plain[shamir.SHARE_BYTES :]
        if not (
            p.same(p.share_hash(self.session, dealer, self.site, "b", b_share), delivered.b_hash)
            and p.same(p.share_hash(self.session, dealer, self.site, "s", s_share), delivered.s_hash)
        ):
            self._refuse("a share that does not match its signed hash", Refusal.DISHONEST_SHARE, dealer)
        return b_share, s_share

    def _wire(self, masked: p.Words) -> bytes:
        """The vector's bytes, each block packed to its ring."""
        roster, parts, start = self._pinned.roster, [], 0
        for block in roster.blocks(self.session.purpose):
            parts.append(pack(masked[start : start + block.size], block.ring(len(roster.sites))))
            start += block.size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # --- stage 3 ---------------------------------------------------------------------------------------------------

    def agree(self, message: SurvivorSet) -> Agreement:
        """Sign the survivor set, together with the sharers and all adverts; one set, over all attempts."""
        if self._again("agree", message):
            return self._stored("agree", Agreement)
        statements.check_ordered(message.survivors, self._pinned, "agree")
        for name in message.survivors:
            if name not in self._sharers:
                self._refuse("a survivor that did not share", Refusal.UNKNOWN_SITE, name)
        if self.site not in message.survivors:
            self._refuse("this site is not among the survivors", Refusal.SELF_MISSING)
        self._enough(message.survivors)
        survivors = statements.names_digest(p.LABEL_SURVIVORS, message.survivors)
        held = self._live().held
        opened = tuple(
            OpenedShare(name, "b", held[name][0])
            if name in message.survivors
            else OpenedShare(name, "s", held[name][1])
            for name in self._sharers
        )
        sharers = statements.names_digest(p.LABEL_SHARERS, self._sharers)
        agreed = (sharers, survivors, self._adverts_digest)
        # On disk before the signature leaves: first that no other set will be signed, then what this one needs.
        self._memory.claim(self.session, self._binding, survivors)
        agreement = Agreement(self.session, self.site, self._sign(p.LABEL_AGREE, *agreed))
        digest = self._pinned.roster.digest
        self._kept = kept.KeptSite(kept.VERSION, self.session, digest, agreed, message, agreement, opened)
        self._save()
        # For this set only one kind of each share can be asked for; the other, and all keys, are gone from here on.
        self._secrets = None
        self._survivors, self._agreed, self._opened = message.survivors, agreed, opened
        return self._keep("agree", message, agreement, "unmask")

    # --- stage 4 ---------------------------------------------------------------------------------------------------

    def unmask(self, message: UnmaskRequest) -> UnmaskAnswer:
        """Give one share per sharer: of b where it survived, of s where it dropped. Never both, never twice.

        Signatures are checked until t of confirmed survivors hold; a wrong one before that is refused. Once given, the
        answer is given again to whatever asks for the same set, with these or more signatures.
        """
        answered = self._again("unmask", message, same_set=True)
        if message.survivors != self._survivors:
            self._refuse("another survivor set than the agreed one", Refusal.CHANGED_REQUEST)
        if answered:
            return self._stored("unmask", UnmaskAnswer)
        signers = tuple(agreement.site for agreement in message.agreements)
        statements.check_ordered(signers, self._pinned, "unmask")
        own, counted, threshold = self._stored("agree", Agreement), 0, self._pinned.roster.thresholds.t
        for agreement in message.agreements:
            if agreement.site not in self._survivors:
                self._refuse("a signature by a site that did not survive", Refusal.UNKNOWN_SITE, agreement.site)
            if counted == threshold:
                continue
            if agreement.site != self.site or agreement.signature != own.signature:
                statements.check_agreement(agreement, self._agreed, self._pinned, self.session, "unmask")
            counted += agreement.site in self._pinned.confirmed
        if counted < threshold:
            self._refuse(f"{counted} signatures of confirmed sites, fewer than t = {threshold}", Refusal.TOO_FEW)

        signature = self._sign(p.LABEL_ANSWER, *statements.answer_parts(self._opened))
        answer = UnmaskAnswer(self.session, self.site, self._opened, signature)
        if self._kept is not None:
            self._kept = msgspec.structs.replace(self._kept, answer=answer)
            self._save()
        return self._keep("unmask", message, answer, "done")

    # --- around the stages -----------------------------------------------------------------------------------------

    @classmethod
    def resume(
        cls,
        roster: PinnedRoster,
        identity: Identity,
        site: str,
        data: bytes,
        keep: Callable[[bytes], None] | None = None,
    ) -> SiteSession:
        """The session that was kept: it answers again what it answered, unmasks if it had not, and refuses the rest.

        Args:
            roster, identity, site, keep: as for a new session.
            data: what ``keep`` was last called with.

        Raises:
            DecodeError: damaged, or of another roster or site.
            RosterError: as for a new session.
        """
        known = kept.load(data, kept.KeptSite)
        if known.roster != roster.roster.digest or known.agreement.site != site:
            raise DecodeError("the kept session is of another roster or site")
        self = cls(roster, identity, site, known.session, Binding(b"", b""), _no_randomness, keep=keep)
        self._kept, self._opened, self._agreed = known, known.opened, known.agreed
        self._survivors = known.set_request.survivors
        self._keep("agree", known.set_request, known.agreement, "unmask")
        if known.answer is not None:
            self._keep("unmask", None, known.answer, "done")
        return self

    def erase(self) -> None:
        """Forget secrets and stored messages; every later request is refused."""
        self._secrets, self._kept, self._opened = None, None, ()
        self._answered.clear()
        self.stage = "done"

    def __repr__(self) -> str:
        return f"SiteSession({self.site}, {self.session}, stage {self.stage})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a session cannot be pickled or copied")

    def _point(self, name: str) -> int:
        return self._pinned.roster.index[name] + 1

    def _sealer(self, peer: Advert, sender: str, to: str, keys: tuple[bytes, bytes]) -> p.Sealer:
        secrets = self._live()
        if peer.site not in secrets.channels:
            secrets.channels[peer.site] = p.exchange(secrets.channel, peer.channel_key)
        return p.Sealer(secrets.channels[peer.site], self.session, sender, to, keys)

    def _save(self) -> None:
        if self._keep_safe is not None and self._kept is not None:
            self._keep_safe(kept.dump(self._kept))

    def _sign(self, label: bytes, *parts: bytes) -> bytes:
        return self._identity.sign(label, self._context, self.site, *parts)

    def _enough(self, names: tuple[str, ...]) -> None:
        statements.check_enough(names, self._pinned, self.session, self.stage)

    def _live(self) -> SessionSecrets:
        if self._secrets is None:
            self._refuse("the session's secrets are erased", Refusal.OUT_OF_ORDER)
        return self._secrets

    def _refuse(self, what: str, code: Refusal, site: str | None = None, stage: str = "") -> NoReturn:
        raise ProtocolError(what, code=code, stage=stage or self.stage, site=site)

    def _again(self, stage: str, request: Message | None, *, same_set: bool = False) -> bool:
        """True when this very request was answered; refuses another one, one too early or for another session."""
        if request is not None and getattr(request, "session", None) != self.session:
            self._refuse("a message of another session", Refusal.WRONG_SESSION)
        if stage in self._answered:
            if same_set or self._answered[stage][0] == request:
                return True
            self._refuse(f"stage {stage} was answered for another request", Refusal.CHANGED_REQUEST, stage=stage)
        if stage != self.stage:
            self._refuse(f"this site is at stage {self.stage}", Refusal.OUT_OF_ORDER, stage=stage)
        return False

    def _keep(self, stage: str, request: Message | None, reply: Reply, following: str) -> Reply:
        self._answered[stage] = (request, reply)
        self.stage = following
        return reply

    def _stored(self, stage: str, kind: type[Reply]) -> Reply:
        reply = self._answered[stage][1]
        if not isinstance(reply, kind):
            raise TypeError(f"stage {stage} holds a {type(reply).__name__}")
        return reply
