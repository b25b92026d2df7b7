"""Field types of messages, and the pieces that are no message themselves."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from .secure_aggregation.session import Digest

MAX_SITES = 1000
MAX_DEPTH = 10
"""Levels of a tree over at most 1000 sites and the coordinator."""
MAX_RECEIVED = 1024
"""Wire hashes in one receipt; what is beyond comes in the next."""
MAX_STEPS = 64
"""Hashes of a consistency proof between ledgers of at most 2^32 entries."""
SITE_PATTERN = r"\A[a-z0-9][a-z0-9._-]{0,63}\Z"  # \Z, because $ would let a newline follow
SiteName = Annotated[str, msgspec.Meta(pattern=SITE_PATTERN, max_length=64)]
PublicKey = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
Share = Annotated[bytes, msgspec.Meta(min_length=33, max_length=33)]
Path = Annotated[bytes, msgspec.Meta(max_length=32 * MAX_DEPTH)]
Consistency = Annotated[bytes, msgspec.Meta(max_length=32 * MAX_STEPS)]
Hashes = Annotated[tuple[Digest, ...], msgspec.Meta(max_length=MAX_RECEIVED)]
Seconds = Annotated[int, msgspec.Meta(ge=0, lt=2**40)]
Box = Annotated[bytes, msgspec.Meta(max_length=82)]
"""A sealed pair of shares: 2 x 33 bytes and a 16-byte tag; empty where a site keeps its own share."""


class _Part(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A piece of a message that is no message itself."""


class SealedShare(_Part, frozen=True):
    """One recipient's shares of one dealer's two secrets.

    Attributes:
        site: the recipient.
        box: both shares sealed to it; empty where the recipient is the dealer.
        b_hash: hash of the share of b, checked when it is opened.
        s_hash: hash of the share of s.
    """

    site: SiteName
    box: Box
    b_hash: Digest
    s_hash: Digest


class DeliveredShare(_Part, frozen=True):
    """What one dealer sealed for the receiving site, with what is needed to check the dealer's signature.

    Attributes:
        site: the dealer.
        box, b_hash, s_hash: as the dealer's `SealedShare` for the receiving site.
        path: inclusion path of this share in the dealer's tree, 32 bytes a step, from the leaf's sibling up.
        signature: the dealer's, over all adverts and the root of the tree.
    """

    site: SiteName
    box: Box
    b_hash: Digest
    s_hash: Digest
    path: Path
    signature: Signature


class AgreeSignature(_Part, frozen=True):
    """One site's signature over the survivor set."""

    site: SiteName
    signature: Signature


class OpenedShare(_Part, frozen=True):
    """One share given to the coordinator: of b for a survivor, of s for a site that dropped; never both."""

    site: SiteName
    kind: Literal["b", "s"]
    share: Share


class LogHead(_Part, frozen=True):
    """Root of a ledger whose size is known, its ledger key, and this key's signature over the checkpoint's note."""

    root: Digest
    key: PublicKey
    signature: Signature


class SiteCosignature(_Part, frozen=True):
    """One site's cosignature of a batch, and when it made it, in seconds since 1970."""

    site: SiteName
    time: Seconds
    signature: Signature


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of everything that can be sent."""
