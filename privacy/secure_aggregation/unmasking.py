"""The end of a secure sum: secrets from shares, masks off the running sum, and the checks before it is released."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from ..errors import EncodingError, ProtocolError, Refusal
from ..messages import Advert
from . import primitives as p
from . import shamir
from .encoding import decode_sum
from .roster import PinnedRoster
from .session import SessionId


@dataclass(frozen=True)
class SecureSum:
    """What a session releases.

    Attributes:
        ring: array of shape (d,), uint32; the sum of the survivors' encodings: signed numbers in two's complement.
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


def unmask_sum(
    total: p.Words,
    pinned: PinnedRoster,
    session: SessionId,
    adverts: Mapping[str, Advert],
    sharers: Sequence[str],
    survivors: Sequence[str],
    answers: Mapping[str, bytes],
) -> dict[str, NDArray[np.float64]]:
    """Take the masks off ``total`` in place and decode it.

    Args:
        total: array of shape (d,), uint32; the survivors' masked vectors, added.
        pinned, session: what the sum is about.
        adverts: of all sharers at least.
        sharers, survivors: in roster order.
        answers: of exactly t sites, their opened shares joined in the order of the sharers, 33 bytes each, each checked
            against its signed hash.

    Returns:
        Per block, an array of shape (block.size,), float64.

    Raises:
        ProtocolError: DISHONEST_DEALER, naming who dealt shares of something else than it advertised; OUT_OF_BOUND.
    """
    roster = pinned.roster
    weights = shamir.weights_at_zero([roster.index[name] + 1 for name in answers])
    added: list[bytes] = []  # keys of masks that are in the sum with a plus
    subtracted: list[bytes] = []
    alive = frozenset(survivors)
    for i, site in enumerate(sharers):
        place = slice(i * shamir.SHARE_BYTES, (i + 1) * shamir.SHARE_BYTES)
        try:
            secret = shamir.combine([shares[place] for shares in answers.values()], weights)
        except shamir.SecretTooLargeError:
            _dishonest(site)
        if site in alive:
            if not p.same(p.commitment(session, site, secret), adverts[site].commitment):
                _dishonest(site)
            added.append(p.self_mask_key(secret, session, site))
            continue
        private = X25519PrivateKey.from_private_bytes(secret)
        if not p.same(private.public_key().public_bytes_raw(), adverts[site].mask_key):
            _dishonest(site)
        for peer in survivors:
            key = p.pair_mask_key(private, adverts[peer].mask_key, session, site, peer)
            # A survivor added the mask it shares with a higher site and subtracted the one with a lower site.
            (added if roster.index[site] > roster.index[peer] else subtracted).append(key)
    p.apply_masks(total, subtracted, added)
    blocks = roster.blocks(session.purpose)
    try:
        return decode_sum(total, blocks, [roster.weight_of(name) for name in survivors], len(roster.sites))
    except EncodingError as error:
        raise ProtocolError(
            f"the sum is not released: {error.what} ({error.where})", code=Refusal.OUT_OF_BOUND, stage="finish"
        ) from None


def _dishonest(dealer: str) -> NoReturn:
    raise ProtocolError(
        "all shares match their signed hashes, but rebuild another secret than the advertised one",
        code=Refusal.DISHONEST_DEALER,
        stage="finish",
        site=dealer,
    )
