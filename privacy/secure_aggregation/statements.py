"""What each signature of a session says, and the checks that both sides make alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import ProtocolError, Refusal
from ..identity import SigningContext, verifies
from ..merkle import Tree
from ..messages import (
    Advert,
    Agreement,
    AgreeSignature,
    MaskedVector,
    OpenedShare,
    RefusalNotice,
    SealedShare,
    UnmaskAnswer,
)
from . import primitives as p
from .packing import padding_is_zero, split_wire
from .roster import PinnedRoster
from .session import SessionId, transcript


def signing_context(pinned: PinnedRoster, session: SessionId) -> SigningContext:
    """Study, roster and session: the part that all statements of one session share."""
    return SigningContext(pinned.roster.study, pinned.roster.digest, session.to_bytes())


def names_digest(label: bytes, names: Iterable[str]) -> bytes:
    """Hash of an ordered list of sites."""
    return p.digest(label, *(name.encode() for name in names))


def advert_parts(
    channel_key: bytes, mask_key: bytes, commitment: bytes, binding: bytes
) -> tuple[bytes, bytes, bytes, bytes]:
    """What an advert's signature covers, beside context and signer."""
    return (channel_key, mask_key, commitment, binding)


def adverts_digest(adverts: Sequence[Advert]) -> bytes:
    """Hash over all adverts of a session, signatures included."""
    rows = (
        transcript(a.site.encode(), a.channel_key, a.mask_key, a.commitment, a.binding, a.signature) for a in adverts
    )
    return p.digest(p.LABEL_ADVERTS, *rows)


def tree_of(shares: Iterable[SealedShare]) -> Tree:
    """The tree over a dealer's sealed shares, in their order; the dealer signs its root."""
    return Tree([p.share_leaf(s.site, s.box, s.b_hash, s.s_hash) for s in shares])


def answer_parts(shares: Iterable[OpenedShare]) -> tuple[bytes, ...]:
    """What an unmask answer's signature covers, beside context and signer."""
    return tuple([p.name_part(s.site) + p.KIND_PARTS[s.kind] + transcript(s.share) for s in shares])


def refusal(session: SessionId, site: str, error: ProtocolError, pinned: PinnedRoster) -> RefusalNotice:
    """The message that tells the coordinator of an error: code, stage of the refused request and peer, no text."""
    peer = error.site if error.site is not None and error.site in pinned.roster.index else ""
    return RefusalNotice(session, site, error.code, error.stage, peer)  # type: ignore[arg-type]


def check_ordered(names: Sequence[str], pinned: PinnedRoster, stage: str) -> None:
    """Refuse sites that are unknown, listed twice or out of roster order.

    Raises:
        ProtocolError: UNKNOWN_SITE, DUPLICATE_SITE or MALFORMED, naming the site.
    """
    index = pinned.roster.index
    seen: set[str] = set()
    for name in names:
        if name not in index:
            raise ProtocolError("a site that is not in the roster", code=Refusal.UNKNOWN_SITE, stage=stage, site=name)
        if name in seen:
            raise ProtocolError("a site is listed twice", code=Refusal.DUPLICATE_SITE, stage=stage, site=name)
        seen.add(name)
    positions = [index[name] for name in names]
    if positions != sorted(positions):
        raise ProtocolError("sites are not in roster order", code=Refusal.MALFORMED, stage=stage)


def check_enough(names: Iterable[str], pinned: PinnedRoster, session: SessionId, stage: str) -> None:
    """Refuse a set of sites over which no sum may be released.

    Only sites with a confirmed fingerprint count towards max(t, m). A sum that is no update has one cohort per study:
    two cohorts one site apart would give that site's own figures.

    Raises:
        ProtocolError: TOO_FEW or WRONG_COHORT.
    """
    present = tuple(names)
    least = pinned.roster.thresholds.least
    counted = sum(1 for name in present if name in pinned.confirmed)
    if counted < least:
        raise ProtocolError(
            f"{counted} confirmed sites, fewer than max(t, m) = {least}", code=Refusal.TOO_FEW, stage=stage
        )
    if session.purpose != "update" and present != pinned.roster.evaluation_cohort:
        raise ProtocolError(
            f"a sum for {session.purpose} must be over exactly the roster's cohort",
            code=Refusal.WRONG_COHORT,
            stage=stage,
        )


def check_advert(advert: Advert, pinned: PinnedRoster, session: SessionId, binding: bytes, stage: str) -> None:
    """Refuse an advert of another session, not signed by its site, for another adapter, or with a low-order key.

    Raises:
        ProtocolError: WRONG_SESSION, UNKNOWN_SITE, BAD_SIGNATURE, OTHER_ADAPTER or LOW_ORDER_KEY, naming the site.
    """
    site = advert.site
    if advert.session != session:
        raise ProtocolError("an advert of another session", code=Refusal.WRONG_SESSION, stage=stage, site=site)
    key = pinned.keys.get(site)
    if key is None:
        raise ProtocolError("a site that is not in the roster", code=Refusal.UNKNOWN_SITE, stage=stage, site=site)
    parts = advert_parts(advert.channel_key, advert.mask_key, advert.commitment, advert.binding)
    if not verifies(key, advert.signature, p.LABEL_ADVERT, signing_context(pinned, session), site, *parts):
        raise ProtocolError("an advert with a wrong signature", code=Refusal.BAD_SIGNATURE, stage=stage, site=site)
    if not p.same(advert.binding, binding):
        raise ProtocolError(
            "an advert for another adapter or other settings", code=Refusal.OTHER_ADAPTER, stage=stage, site=site
        )
    if p.is_low_order(advert.channel_key) or p.is_low_order(advert.mask_key):
        raise ProtocolError("a key of low order", code=Refusal.LOW_ORDER_KEY, stage=stage, site=site)


def check_dealing(
    dealer: str,
    content: tuple[bytes, bytes],
    signature: bytes,
    pinned: PinnedRoster,
    session: SessionId,
    stage: str,
) -> None:
    """Refuse sealed shares that the dealer has not signed; ``content`` is the digest of all adverts and the root.

    Raises:
        ProtocolError: BAD_SIGNATURE, naming the dealer.
    """
    context = signing_context(pinned, session)
    if not verifies(pinned.keys[dealer], signature, p.LABEL_SHARES, context, dealer, *content):
        raise ProtocolError("shares with a wrong signature", code=Refusal.BAD_SIGNATURE, stage=stage, site=dealer)


def check_agreement(
    agreement: Agreement | AgreeSignature,
    content: tuple[bytes, ...],
    pinned: PinnedRoster,
    session: SessionId,
    stage: str,
) -> None:
    """Refuse a signature that is not over exactly this content.

    Raises:
        ProtocolError: BAD_SIGNATURE, naming the signer.
    """
    site, context = agreement.site, signing_context(pinned, session)
    if not verifies(pinned.keys[site], agreement.signature, p.LABEL_AGREE, context, site, *content):
        raise ProtocolError(
            "an agreement over another survivor set, or forged", code=Refusal.BAD_SIGNATURE, stage=stage, site=site
        )


def check_vector(message: MaskedVector, pinned: PinnedRoster, session: SessionId, stage: str) -> None:
    """Refuse a masked vector of another length, damaged, or not signed by its site.

    Raises:
        ProtocolError: WRONG_LENGTH, CORRUPTED or BAD_SIGNATURE, naming the site.
    """
    site, context = message.site, signing_context(pinned, session)
    if len(message.vector) != pinned.roster.wire_size(session.purpose):
        raise ProtocolError("a vector of another length", code=Refusal.WRONG_LENGTH, stage=stage, site=site)
    blocks, sites = pinned.roster.blocks(session.purpose), len(pinned.roster.sites)
    for block, part in zip(blocks, split_wire(message.vector, blocks, sites), strict=True):
        if not padding_is_zero(part, block.size, block.ring(sites)):
            raise ProtocolError("a vector with content in its padding", code=Refusal.MALFORMED, stage=stage, site=site)
    if not p.same(p.checksum(session, site, message.vector), message.checksum):
        raise ProtocolError("a vector damaged on the way", code=Refusal.CORRUPTED, stage=stage, site=site)
    if not verifies(pinned.keys[site], message.signature, p.LABEL_VECTOR, context, site, message.checksum):
        raise ProtocolError("a vector with a wrong signature", code=Refusal.BAD_SIGNATURE, stage=stage, site=site)


def check_answer(message: UnmaskAnswer, pinned: PinnedRoster, session: SessionId, stage: str) -> None:
    """Refuse an unmask answer that its site has not signed.

    Raises:
        ProtocolError: BAD_SIGNATURE, naming the site.
    """
    site, context = message.site, signing_context(pinned, session)
    parts = answer_parts(message.shares)
    if not verifies(pinned.keys[site], message.signature, p.LABEL_ANSWER, context, site, *parts):
        raise ProtocolError("an answer with a wrong signature", code=Refusal.BAD_SIGNATURE, stage=stage, site=site)
