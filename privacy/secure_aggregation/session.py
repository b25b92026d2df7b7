"""Names of secure sums, and the unambiguous byte strings that everything is hashed, derived and signed over."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, get_args

import msgspec

Purpose = Literal["update", "evaluation", "class-means", "temperature"]
"""What a secure sum is for. ``update`` may lose sites; every other purpose has one fixed cohort per study."""

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)

Counter = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


_LENGTHS = tuple(size.to_bytes(4, "big") for size in range(256))  # a sum needs thousands of short transcripts


def transcript(*parts: bytes) -> bytes:
    """Join ``parts`` so that no other list of parts gives the same bytes.

    Each part is preceded by its length, 4 bytes big-endian. Plain concatenation would let ("ab", "c") pass for
    ("a", "bc"), and a signature over one meaning for a signature over another.
    """
    if len(parts) == 1:
        return len(parts[0]).to_bytes(4, "big") + parts[0]
    pieces: list[bytes] = []
    for part in parts:
        size = len(part)
        pieces.append(_LENGTHS[size] if size < len(_LENGTHS) else size.to_bytes(4, "big"))
        pieces.append(part)
    return b"".join(pieces)


class SessionId(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One secure sum. It is in every KDF info, signature and AEAD header, so nothing of one fits another.

    Attributes:
        study: the study's SHA-256, 32 bytes.
        round: a site takes part from 1 on; the round whose global adapter the sum belongs to.
        purpose: what is summed.
        sequence: from 0; tells several sums of one purpose in one round apart.
        attempt: from 0; a retry is another session with fresh keys.
    """

    study: Digest
    round: Counter
    purpose: Purpose
    sequence: Counter = 0
    attempt: Counter = 0

    def to_bytes(self) -> bytes:
        """The bytes that stand for this session inside a transcript."""
        return _session_bytes(self)

    def __str__(self) -> str:
        return f"{self.study.hex()[:12]}/{self.round}/{self.purpose}/{self.sequence}/{self.attempt}"


@lru_cache(maxsize=64)
def _session_bytes(session: SessionId) -> bytes:
    return transcript(
        session.study,
        session.round.to_bytes(4, "big"),
        session.purpose.encode(),
        session.sequence.to_bytes(4, "big"),
        session.attempt.to_bytes(4, "big"),
    )


@dataclass(frozen=True, slots=True)
class Binding:
    """What a site was given to train on. Sites whose digests differ never enter one sum.

    Otherwise a coordinator could hand a dead adapter to all but one site and read that one (Pasquini, Francati and
    Ateniese 2022, model inconsistency).

    Attributes:
        adapter: SHA-256 of the global adapter's bytes as received.
        settings: SHA-256 of the round settings' bytes as received; these carry no attempt and no deadline.
    """

    adapter: bytes
    settings: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 over both, 32 bytes: the value that every advert of a session signs."""
        return hashlib.sha256(transcript(b"wardround/v1/binding", self.adapter, self.settings)).digest()


def bind(adapter: bytes, settings: bytes) -> Binding:
    """Hash what was received; about 0.5 ms per megabyte, so done once on receipt."""
    return Binding(hashlib.sha256(adapter).digest(), hashlib.sha256(settings).digest())
