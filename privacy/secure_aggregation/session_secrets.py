"""The secrets of one session at one site."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey


class SessionSecrets:
    """Key material of one session. It cannot be shown or pickled, and is dropped as soon as it is not needed."""

    __slots__ = ("b", "channel", "channels", "held", "mask")

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self.channel = X25519PrivateKey.from_private_bytes(random(32))
        self.mask = X25519PrivateKey.from_private_bytes(random(32))
        self.b = random(32)
        self.channels: dict[str, bytes] = {}  # peer -> X25519 secret of both channel keys, used in both directions
        self.held: dict[str, tuple[bytes, bytes]] = {}  # dealer -> its shares of b and of s for this site

    def __repr__(self) -> str:
        return "<session secrets>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("session secrets cannot be pickled or copied")
