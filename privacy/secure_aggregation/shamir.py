"""Shamir secret sharing over the integers modulo the prime 2^256 + 297 (Shamir 1979)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..errors import ParameterError

PRIME = 2**256 + 297
"""The smallest prime above 2^256, so that every 32-byte secret is a field element."""

SHARE_BYTES = 33
_DRAW_BYTES = 48


class SecretTooLargeError(ParameterError):
    """A rebuilt value is no 32-byte secret: some share that went into it was wrong."""


def split(secret: bytes, threshold: int, points: Sequence[int], random: Callable[[int], bytes]) -> list[bytes]:
    """Shares of a secret, one for each point.

    Args:
        secret: 32 bytes.
        threshold: shares that rebuild it, 1..len(points); fewer say nothing about it.
        points: distinct, non-zero; point 0 is the secret itself.
        random: gives as many uniform bytes as asked; called once.

    Returns:
        Shares of 33 bytes, big-endian, in the order of the points.
    """
    if len(secret) != 32:
        raise ParameterError(f"a secret of {len(secret)} bytes instead of 32")
    if not 1 <= threshold <= len(points):
        raise ParameterError(f"threshold {threshold} for {len(points)} shares")
    if len(set(points)) != len(points) or not all(0 < x < PRIME for x in points):
        raise ParameterError("share points are not distinct and non-zero")
    # 384 random bits reduced modulo a 257-bit prime are within 2^-127 of uniform, without rejection sampling.
    drawn = random(_DRAW_BYTES * (threshold - 1))
    if len(drawn) != _DRAW_BYTES * (threshold - 1):
        # A polynomial of lower degree would still work, and fewer than threshold shares would rebuild the secret.
        raise ParameterError("the source of randomness gave fewer bytes than asked")
    coefficients = [
        int.from_bytes(drawn[i : i + _DRAW_BYTES], "big") % PRIME for i in range(0, len(drawn), _DRAW_BYTES)
    ]
    constant = int.from_bytes(secret, "big")
    shares = []
    for x in points:
        value = 0
        for coefficient in coefficients:
            # Not reduced at each step: points are small, so the value grows by a few bits, which costs less.
            value = value * x + coefficient
        shares.append(((value * x + constant) % PRIME).to_bytes(SHARE_BYTES, "big"))
    return shares


def weights_at_zero(points: Sequence[int]) -> list[int]:
    """Lagrange weights L_i(0): the secret is the sum of share_i * L_i(0). Same for all secrets with these points."""
    if len(set(points)) != len(points) or not points or not all(0 < x < PRIME for x in points):
        raise ParameterError("share points are not distinct and non-zero")
    product = math.prod(points)
    weights = []
    for x in points:
        # L_x(0) = prod of other / (other - x) over all other points; the whole product is divided by x exactly.
        denominator = math.prod(other - x for other in points if other != x) % PRIME
        weights.append(product // x * pow(denominator, -1, PRIME) % PRIME)
    return weights


def combine(shares: Sequence[bytes], weights: Sequence[int]) -> bytes:
    """The secret, from exactly threshold shares and the weights of their points.

    Raises:
        SecretTooLargeError: when the value does not fit 32 bytes, or a share is no field element.
    """
    if len(shares) != len(weights):
        raise ParameterError(f"{len(shares)} shares and {len(weights)} weights")
    total = 0
    for share, weight in zip(shares, weights, strict=True):
        value = int.from_bytes(share, "big")
        if len(share) != SHARE_BYTES or value >= PRIME:
            raise SecretTooLargeError("a share is no element of the field")
        total += value * weight
    total %= PRIME
    if total >= 2**256:
        raise SecretTooLargeError("the rebuilt value has more than 256 bits")
    return total.to_bytes(32, "big")
