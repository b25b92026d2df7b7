"""What a session must not lose in a power cut, as bytes that somebody else puts on disk before a message leaves."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from ..errors import DecodeError
from ..messages import Advert, Agreement, OpenedShare, SurvivorSet, UnmaskAnswer
from .session import Digest, SessionId

VERSION = 1


class KeptSite(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A site's session from its agreement on: enough to answer again, and to unmask; the session's keys are gone.

    Attributes:
        version: of this form.
        session: the sum this is about.
        roster: the pinned roster's SHA-256.
        agreed: hashes of sharers, survivors and adverts that were signed.
        set_request, agreement: the survivor set that was signed, and the signature.
        opened: per sharer the one share that may be given for this set: of b for a survivor, of s for one that dropped.
            The other kind was forgotten when the set was signed.
        answer: what was given; None before.
    """

    version: int
    session: SessionId
    roster: Digest
    agreed: tuple[Digest, Digest, Digest]
    set_request: SurvivorSet
    agreement: Agreement
    opened: tuple[OpenedShare, ...]
    answer: UnmaskAnswer | None = None


class KeptCoordinator(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The coordinator's session from the survivor set on: enough to ask again, and to unmask.

    Attributes:
        version: of this form.
        session: the sum this is about.
        roster: the pinned roster's SHA-256.
        binding: hash of the adapter and settings that were sent out.
        adverts: of all who took part.
        sharers, survivors: in roster order.
        hashes: per sharer, 64 bytes for each advert: the signed hashes of its shares of b and of s.
        dropped: (site, stage, reason) so far.
        total: the masked running sum, uint32 little-endian.
    """

    version: int
    session: SessionId
    roster: Digest
    binding: Digest
    adverts: tuple[Advert, ...]
    sharers: tuple[str, ...]
    survivors: tuple[str, ...]
    hashes: tuple[bytes, ...]
    dropped: tuple[tuple[str, str, str], ...]
    total: bytes


Kept = TypeVar("Kept", KeptSite, KeptCoordinator)
_encoder = msgspec.msgpack.Encoder()


def dump(kept: KeptSite | KeptCoordinator) -> bytes:
    """The bytes to keep."""
    return _encoder.encode(kept)


def load(data: bytes, kind: type[Kept]) -> Kept:
    """What was kept.

    Raises:
        DecodeError: other bytes than `dump` gave, or of another version.
    """
    try:
        kept = msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
        raise DecodeError("the kept session is damaged") from None
    if kept.version != VERSION or dump(kept) != data:
        raise DecodeError("the kept session is of another version or damaged")
    return kept
