"""What every kind of input has in common: strict keys, an answer of the product, and a value that may be claimed."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from wardround.privacy.secure_aggregation import primitives as p
from wardround.privacy.secure_aggregation.session import SessionId


class RefusedError(Exception):
    """A check of the product that answers false instead of raising; ``refusal`` is its name here."""

    def __init__(self, refusal: str) -> None:
        self.refusal = refusal
        super().__init__(refusal)


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a file without unknown keys."""


class Operation(Strict, frozen=True, tag_field="operation", kw_only=True):
    """An input. ``claimed`` is a value that the product must not agree with."""

    gives: ClassVar[tuple[str, ...]] = ()
    claimed: str = ""

    def run(self) -> dict[str, Any]:
        raise NotImplementedError

    def one(self, value: bytes) -> dict[str, Any]:
        """An output of one value, unless another one is claimed."""
        self.compare(value)
        return {self.gives[0]: value.hex()}

    def compare(self, value: bytes) -> None:
        if self.claimed and not p.same(bytes.fromhex(self.claimed), value):
            raise RefusedError("mismatch")


class Session(Strict, frozen=True):
    study: str
    round: int
    purpose: str
    sequence: int
    attempt: int

    @property
    def id(self) -> SessionId:
        return msgspec.convert([self.bytes_of_study, *self.numbers], SessionId)

    @property
    def bytes_of_study(self) -> bytes:
        return bytes.fromhex(self.study)

    @property
    def numbers(self) -> tuple[int, str, int, int]:
        return self.round, self.purpose, self.sequence, self.attempt


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


def private_key(text: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(raw(text))
