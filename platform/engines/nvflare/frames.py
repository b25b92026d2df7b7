"""What the relays tell each other: the frames on the Unix sockets and inside FLARE's messages. There are no others.

The payload of a frame is what the egress gate sealed, or nothing: no free text, no name of a file, no exception.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from ....privacy.message_types import SITE_PATTERN
from ...errors import PlatformError

MAX_FRAME = 256 * 1024 * 1024
"""Largest frame in bytes; the largest message of a study is one adapter or one masked vector."""

FRAME_BYTES = 1024
"""More than what a frame adds to the messages in it, and a controller to a frame."""

MAX_ANSWERS = 16
"""The most messages that a site may answer one parcel with."""

PARCEL_BYTES = 16
KEY_BYTES = 16
NO_KEY = bytes(KEY_BYTES)
"""What a frame begins with before its sender was given a key: only a `Beat` may."""

ParcelId = Annotated[bytes, msgspec.Meta(min_length=PARCEL_BYTES, max_length=PARCEL_BYTES)]
"""Random number of one delivery: only the site that it was made for knows it, so only that site can answer it."""

SiteName = Annotated[str, msgspec.Meta(pattern=SITE_PATTERN)]
SiteNames = Annotated[tuple[SiteName, ...], msgspec.Meta(max_length=4096)]
JobName = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9-]{1,64}\Z")]
Wires = Annotated[tuple[bytes, ...], msgspec.Meta(max_length=MAX_ANSWERS)]


class RelayError(PlatformError):
    """A relay's socket cannot be made or used, its other end is gone, or it sent something that is no frame."""


class Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of every frame: a msgpack array of the tag and the fields."""


# --- through FLARE, between the controller and an executor; the first two also between executor and site process -----


class Hand(Frame, frozen=True, tag="hand"):
    """A parcel for the site."""

    parcel: ParcelId
    wire: bytes


class Answer(Frame, frozen=True, tag="answer"):
    """What the site answers a parcel with: sealed messages, in order; often none."""

    parcel: ParcelId
    wires: Wires


class Dropped(Frame, frozen=True, tag="dropped"):
    """The site process ended, or refused to go on, before it answered this parcel."""

    parcel: ParcelId


class Beat(Frame, frozen=True, tag="beat"):
    """The executor is there; ``live`` says whether the site process is."""

    live: bool


class Receipt(Frame, frozen=True, tag="receipt"):
    """Reply to any of the frames above; ``taken`` is false where no site process could be given the parcel.

    ``key`` is in the controller's replies only, and is what all further frames between the two begin with. FLARE
    routes a reply by a random number that nobody else knows, but lets one hospital write another name as the origin of
    a request; so whoever has the key is the one that was spoken to.
    """

    taken: bool
    key: Annotated[bytes, msgspec.Meta(max_length=KEY_BYTES)] = b""


class Stop(Frame, frozen=True, tag="stop"):
    """The job ends: take nothing more, and do not come back. Also to a relay whose place another one took."""


# --- between the controller and the coordinator process --------------------------------------------------------------


class Joined(Frame, frozen=True, tag="joined"):
    """The first frame of a controller: the job that it belongs to."""

    job: JobName


class Reach(Frame, frozen=True, tag="reach"):
    """All sites whose process the job reaches now, and those where only the process is missing."""

    sites: SiteNames
    waiting: SiteNames


class Deliver(Frame, frozen=True, tag="deliver"):
    """A parcel, and the site that it is for."""

    parcel: ParcelId
    site: SiteName
    wire: bytes


class Answered(Frame, frozen=True, tag="answered"):
    """A parcel was delivered, and the site answered it."""

    parcel: ParcelId
    site: SiteName
    wires: Wires


class Lost(Frame, frozen=True, tag="lost"):
    """A parcel could not be delivered, or whoever should have answered it is gone."""

    parcel: ParcelId
    site: SiteName


# --- between the coordinator process and the process that speaks to FLARE's administration ----------------------------


class Submit(Frame, frozen=True, tag="submit"):
    """Submit the job in this folder."""

    folder: str


class Submitted(Frame, frozen=True, tag="submitted"):
    """The job's name in FLARE."""

    job: JobName


class Abort(Frame, frozen=True, tag="abort"):
    """End this job."""

    job: JobName


class Poll(Frame, frozen=True, tag="poll"):
    """Ask which clients are connected, and whether this job (empty: none) still runs."""

    job: str


class Client(Frame, frozen=True):
    """A client of FLARE's server: ``seen`` is when it was last heard, in seconds since 1970 on the server's clock."""

    name: SiteName
    seen: float


class Polled(Frame, frozen=True, tag="polled"):
    """Clients, and FLARE's status of the job (empty where none was asked for)."""

    clients: Annotated[tuple[Client, ...], msgspec.Meta(max_length=4096)]
    status: str


class Done(Frame, frozen=True, tag="done"):
    """What was asked for is done."""


class Failed(Frame, frozen=True, tag="failed"):
    """What was asked for could not be done: ``unreachable`` (no server) or ``refused`` (the server said no)."""

    reason: str


TO_SITE = (Hand, Stop)
FROM_SITE = (Answer, Dropped, Stop)
TO_EXECUTOR = (Hand, Beat, Stop)
TO_CONTROLLER = (Answer, Dropped, Beat)
FROM_COURIER = (Deliver, Stop)
TO_COURIER = (Joined, Reach, Answered, Lost)
TO_ADMIN = (Submit, Abort, Poll)
FROM_ADMIN = (Submitted, Polled, Done, Failed)

_encoder = msgspec.msgpack.Encoder()


class Codec:
    """Writes frames, and reads those of the given kinds only.

    Args:
        kinds: the frames that may arrive.
    """

    def __init__(self, kinds: tuple[type[Frame], ...]) -> None:
        union = kinds[0]
        for kind in kinds[1:]:
            union = union | kind  # type: ignore[assignment]
        self._decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(union)

    @staticmethod
    def encode(frame: Frame) -> bytes:
        """The bytes of a frame."""
        return _encoder.encode(frame)

    def decode(self, data: bytes | bytearray | memoryview) -> Frame:
        """Read one frame strictly.

        Raises:
            RelayError: for anything that is not one of the expected frames. It never quotes the bytes.
        """
        try:
            return self._decoder.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError, MemoryError):
            raise RelayError("a relay received something that is no frame of its kind") from None
