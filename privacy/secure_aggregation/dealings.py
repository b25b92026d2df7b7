"""What the coordinator holds of the sealed shares: per dealer a few byte strings, because there are n (n - 1) shares.

A Python object a share would cost several times its 146 bytes. Boxes go when they were handed on; the signed hashes
stay until the shares of the kind that is asked for were opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..errors import ProtocolError, Refusal
from ..merkle import Tree
from ..messages import DeliveredShare, SealedShares, ShareDelivery, UnmaskAnswer
from . import primitives as p
from .roster import PinnedRoster
from .session import SessionId
from .shamir import SHARE_BYTES

BOX_BYTES = 2 * SHARE_BYTES + p.TAG_BYTES
_HASH = 32


class Dealings:
    """Sealed shares of all dealers of one session.

    Attributes:
        signatures: per dealer that was heard, its signature over all adverts and the root of its tree.
    """

    def __init__(self, roster: PinnedRoster, session: SessionId) -> None:
        self._roster, self._session = roster, session
        self.signatures: dict[str, bytes] = {}
        self._boxes: dict[str, bytes] = {}
        self._hashes: dict[str, bytes] = {}
        self._trees: dict[str, Tree] = {}

    def add(self, message: SealedShares, tree: Tree) -> None:
        """Take in what one dealer sent; signature and sizes are checked already."""
        dealer = message.site
        self.signatures[dealer] = message.signature
        # The dealer's own box is empty; in its place stand zeros, so that every box is found by its position.
        self._boxes[dealer] = b"".join(share.box or bytes(BOX_BYTES) for share in message.shares)
        self._hashes[dealer] = b"".join(share.b_hash + share.s_hash for share in message.shares)
        self._trees[dealer] = tree

    def deliveries(self, sharers: Sequence[str], listed: Sequence[str]) -> Iterator[tuple[str, ShareDelivery]]:
        """For each sharer what the others sealed for it, one delivery at a time.

        Args:
            sharers: who shared, in roster order.
            listed: the sites of the advert list, whose order that of each dealer's shares is.
        """
        place = {name: i for i, name in enumerate(listed)}
        for to in sharers:
            at = place[to]
            rows = tuple(self._row(dealer, at) for dealer in sharers if dealer != to)
            yield to, ShareDelivery(self._session, rows)

    def _row(self, dealer: str, at: int) -> DeliveredShare:
        box = self._boxes[dealer][at * BOX_BYTES : (at + 1) * BOX_BYTES]
        hashes = self._hashes[dealer][2 * at * _HASH : 2 * (at + 1) * _HASH]
        path = self._trees[dealer].path(at)
        return DeliveredShare(dealer, box, hashes[:_HASH], hashes[_HASH:], path, self.signatures[dealer])

    def forget_boxes(self, sharers: Sequence[str]) -> None:
        """Keep the hashes alone, and of sharers only: the boxes are with their recipients."""
        self._boxes.clear()
        self._trees.clear()
        self._hashes = {dealer: self._hashes[dealer] for dealer in sharers}

    def hashes_of(self, sharers: Sequence[str]) -> tuple[bytes, ...]:
        """Per sharer its signed hashes, b's and s's for each listed site in turn."""
        return tuple(self._hashes[dealer] for dealer in sharers)

    def restore(self, sharers: Sequence[str], hashes: Sequence[bytes]) -> None:
        """Take back what `hashes_of` gave."""
        self._hashes = dict(zip(sharers, hashes, strict=True))

    def check_opened(self, answer: UnmaskAnswer, at: int) -> None:
        """Refuse a share that is not the one its dealer signed.

        Args:
            answer: of the site at place ``at`` of the advert list.

        Raises:
            ProtocolError: DISHONEST_SHARE, naming the responder.
        """
        places = {
            "b": slice(2 * at * _HASH, (2 * at + 1) * _HASH),
            "s": slice((2 * at + 1) * _HASH, 2 * (at + 1) * _HASH),
        }
        for opened in answer.shares:
            signed = self._hashes[opened.site][places[opened.kind]]
            given = p.share_hash(self._session, opened.site, answer.site, opened.kind, opened.share)
            if not p.same(given, signed):
                raise ProtocolError(
                    "a share that is not the one its dealer signed",
                    code=Refusal.DISHONEST_SHARE,
                    stage="unmask",
                    site=answer.site,
                )
