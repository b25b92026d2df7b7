"""Every message that can cross the wire, and the strict codec for them. There are no others.

A message is a msgpack array: its tag, then its fields in the order below. One message has exactly one byte string:
`decode` refuses any other encoding of the same content. See docs/protocol.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import msgspec

from .errors import DecodeError, Refusal
from .ledger_messages import Batch, Cosignature, Cosigned, Receipt
from .message_types import (
    MAX_DEPTH,
    MAX_RECEIVED,
    MAX_SITES,
    MAX_STEPS,
    SITE_PATTERN,
    AgreeSignature,
    DeliveredShare,
    LogHead,
    Message,
    OpenedShare,
    PublicKey,
    SealedShare,
    Signature,
    SiteCosignature,
    SiteName,
)
from .secure_aggregation.session import Digest, SessionId

__all__ = [  # what comes from the modules beside this one
    "MAX_DEPTH",
    "MAX_RECEIVED",
    "SITE_PATTERN",
    "AgreeSignature",
    "Batch",
    "Cosignature",
    "Cosigned",
    "DeliveredShare",
    "LogHead",
    "Message",
    "OpenedShare",
    "Receipt",
    "SealedShare",
    "SiteCosignature",
]

# --- coordinator to site -------------------------------------------------------------------------------------------


class RoundStart(Message, frozen=True, tag="round-start"):
    """Opens a session: the global adapter (safetensors) and the round's settings (canonical JSON)."""

    session: SessionId
    adapter: bytes
    settings: bytes


class AdvertList(Message, frozen=True, tag="advert-list"):
    """The adverts of all who take part, in roster order."""

    session: SessionId
    adverts: Annotated[tuple[Advert, ...], msgspec.Meta(max_length=MAX_SITES)]


class ShareDelivery(Message, frozen=True, tag="share-delivery"):
    """What the other sharers sealed for the receiving site, in roster order."""

    session: SessionId
    shares: Annotated[tuple[DeliveredShare, ...], msgspec.Meta(max_length=MAX_SITES)]


class SurvivorSet(Message, frozen=True, tag="survivor-set"):
    """The sites whose masked vectors are in the sum, in roster order."""

    session: SessionId
    survivors: Annotated[tuple[SiteName, ...], msgspec.Meta(max_length=MAX_SITES)]


class UnmaskRequest(Message, frozen=True, tag="unmask-request"):
    """The survivor set again, with the signatures that it got."""

    session: SessionId
    survivors: Annotated[tuple[SiteName, ...], msgspec.Meta(max_length=MAX_SITES)]
    agreements: Annotated[tuple[AgreeSignature, ...], msgspec.Meta(max_length=MAX_SITES)]


class RoundEnd(Message, frozen=True, tag="round-end"):
    """Closes a session. ``adapter_sha256`` is the new global adapter's; all zero when none was made."""

    session: SessionId
    status: Literal["released", "aborted"]
    adapter_sha256: Digest


class StudyEnd(Message, frozen=True, tag="study-end"):
    """Closes a study: the final global adapter (safetensors; empty when the study was aborted)."""

    study: Digest
    status: Literal["completed", "aborted"]
    adapter: bytes


# --- site to coordinator -------------------------------------------------------------------------------------------


class Advert(Message, frozen=True, tag="advert"):
    """Two fresh X25519 keys, a commitment to b and the hash of what the site received, signed."""

    session: SessionId
    site: SiteName
    channel_key: PublicKey
    mask_key: PublicKey
    commitment: Digest
    binding: Digest
    signature: Signature


class SealedShares(Message, frozen=True, tag="sealed-shares"):
    """A dealer's shares for every site of the advert list (itself too, with an empty box), in its order."""

    session: SessionId
    site: SiteName
    shares: Annotated[tuple[SealedShare, ...], msgspec.Meta(max_length=MAX_SITES)]
    signature: Signature


class MaskedVector(Message, frozen=True, tag="masked-vector"):
    """The masked encoding, blocks of uint32 words, with a signed checksum against damage on the way."""

    session: SessionId
    site: SiteName
    vector: bytes
    checksum: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    signature: Signature


class Agreement(Message, frozen=True, tag="agreement"):
    """A site's signature over sharers, survivors and adverts."""

    session: SessionId
    site: SiteName
    signature: Signature


class UnmaskAnswer(Message, frozen=True, tag="unmask-answer"):
    """One share per sharer, in roster order, signed."""

    session: SessionId
    site: SiteName
    shares: Annotated[tuple[OpenedShare, ...], msgspec.Meta(max_length=MAX_SITES)]
    signature: Signature


class RefusalNotice(Message, frozen=True, tag="refusal"):
    """A site does not go on. A code, the stage and the peer it concerns (or empty): never free text."""

    session: SessionId
    site: SiteName
    code: Refusal
    stage: Literal["start", "advertise", "share", "mask", "agree", "unmask", "witness"]
    peer: Annotated[str, msgspec.Meta(pattern=r"\A([a-z0-9][a-z0-9._-]{0,63})?\Z")]


ToSite = RoundStart | AdvertList | ShareDelivery | SurvivorSet | UnmaskRequest | RoundEnd | Batch | Cosigned | StudyEnd
ToSession = Advert | SealedShares | MaskedVector | Agreement | UnmaskAnswer | RefusalNotice
ToCoordinator = ToSession | Receipt | Cosignature
AnyMessage = ToSite | ToCoordinator
TO_SITE: tuple[type[Message], ...] = get_args(ToSite)
TO_COORDINATOR: tuple[type[Message], ...] = get_args(ToCoordinator)
BY_TAG: dict[str, type[Message]] = {str(kind.__struct_config__.tag): kind for kind in TO_SITE + TO_COORDINATOR}
STAGE: dict[str, str] = {
    "round-start": "start",
    "advert": "advertise",
    "advert-list": "share",
    "sealed-shares": "share",
    "share-delivery": "mask",
    "masked-vector": "mask",
    "survivor-set": "agree",
    "agreement": "agree",
    "unmask-request": "unmask",
    "unmask-answer": "unmask",
    "round-end": "end",
    "study-end": "end",
    "receipt": "witness",
    "batch": "witness",
    "cosignature": "witness",
    "cosigned": "witness",
    "refusal": "refusal",
}


# What a refusal can be about: `start` is the round's opening, or a session that the site does not have.
REFUSED_AT = ("start", "advertise", "share", "mask", "agree", "unmask", "witness")


def tag_of(message: Message | type[Message]) -> str:
    """The wire name of a message's type, e.g. ``masked-vector``."""
    return str(message.__struct_config__.tag)


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest message of each type, in bytes, known from roster and study before anything is decoded.

    Attributes:
        sites: number of sites in the roster.
        vector_bytes: of the longest masked vector of any purpose.
        adapter_bytes: largest global adapter.
        settings_bytes: largest round settings.
    """

    sites: int
    vector_bytes: int
    adapter_bytes: int
    settings_bytes: int = 65_536

    def of(self, tag: str) -> int:
        """Largest wire size of a message type; a fixed head room covers tag, session and signatures."""
        head, n = 512, self.sites
        sizes = {
            "round-start": self.adapter_bytes + self.settings_bytes,
            "advert-list": n * 512,
            "share-delivery": n * (384 + 32 * MAX_DEPTH),
            "survivor-set": n * 80,
            "unmask-request": n * 256,
            "round-end": 0,
            "study-end": self.adapter_bytes,
            "advert": 0,
            "sealed-shares": n * 256,
            "masked-vector": self.vector_bytes,
            "agreement": 0,
            "unmask-answer": n * 128,
            "receipt": 34 * MAX_RECEIVED + 32 * MAX_STEPS,
            "batch": 34 * MAX_RECEIVED + 32 * (MAX_STEPS + 2 * MAX_DEPTH),
            "cosignature": 0,
            "cosigned": (n + 1) * 192,
            "refusal": 0,
        }
        return head + sizes[tag]


_encoder = msgspec.msgpack.Encoder()
_decoders = {tag: msgspec.msgpack.Decoder(kind) for tag, kind in BY_TAG.items()}


def encode(message: Message) -> bytes:
    """The wire bytes of a message."""
    return _encoder.encode(message)


def _peek_tag(data: bytes) -> str:
    """Tag of a message by its first bytes alone: a short msgpack array whose first item is a short string."""
    if len(data) < 2 or data[0] & 0xF0 != 0x90 or data[1] & 0xE0 != 0xA0:
        raise DecodeError("the bytes are no message")
    tag = data[2 : 2 + (data[1] & 0x1F)].decode("ascii", errors="replace")
    if tag not in BY_TAG:
        raise DecodeError("the message type is unknown")
    return tag


def decode(data: bytes, expected: Iterable[type[Message]], limits: Limits) -> Message:
    """Read a message strictly.

    Type and size are checked on the first bytes, before anything is decoded; then every field by type, range and
    length; then that encoding the result gives ``data`` back, so that a message has one encoding and one hash.

    Args:
        data: bytes from the other side, untrusted.
        expected: the types that may arrive at this moment.
        limits: the largest size of each type.

    Raises:
        DecodeError: for anything else. It never quotes the bytes.
    """
    tag = _peek_tag(data)
    if BY_TAG[tag] not in tuple(expected):
        raise DecodeError(f"a message of type {tag} is not expected now")
    limit = limits.of(tag)
    if len(data) > limit:
        raise DecodeError(f"a message of type {tag} has {len(data)} bytes, more than the {limit} allowed")
    try:
        message = _decoders[tag].decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError, MemoryError):
        raise DecodeError(f"a message of type {tag} is malformed") from None
    if _encoder.encode(message) != data:
        raise DecodeError(f"a message of type {tag} is not in canonical form")
    return message


def schema_of(message: Message) -> list[dict[str, object]]:
    """What a message holds, for the ledger: name, dtype, shape and bytes of each field, never a value."""
    rows: list[dict[str, object]] = []
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if isinstance(value, bytes):
            words = tag_of(message) == "masked-vector" and name == "vector"
            dtype, shape = ("uint32", [len(value) // 4]) if words else ("bytes", [len(value)])
            rows.append({"name": name, "dtype": dtype, "shape": shape, "nbytes": len(value)})
        elif isinstance(value, tuple):
            size = len(_encoder.encode(value))
            rows.append({"name": name, "dtype": "list", "shape": [len(value)], "nbytes": size})
        else:
            rows.append({"name": name, "dtype": "scalar", "shape": [], "nbytes": len(_encoder.encode(value))})
    return rows


def sha256_hex(data: bytes) -> str:
    """SHA-256 as lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()
