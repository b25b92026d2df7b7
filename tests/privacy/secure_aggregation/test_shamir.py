"""Shamir sharing: any t shares rebuild, fewer fit every secret, wrong ones are refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.privacy.errors import ParameterError
from wardround.privacy.secure_aggregation import shamir

from ..conftest import randomness


def is_probable_prime(n: int) -> bool:
    """Miller-Rabin with the first forty primes as bases."""
    d, r = n - 1, 0
    while d % 2 == 0:
        d, r = d // 2, r + 1
    bases = [b for b in range(2, 180) if all(b % q for q in range(2, b))][:40]
    for base in bases:
        x = pow(base, d, n)
        if x in (1, n - 1):
            continue
        if all((x := x * x % n) != n - 1 for _ in range(r - 1)):
            return False
    return True


def test_the_field_is_the_next_prime_above_2_to_the_256():
    assert is_probable_prime(shamir.PRIME)
    assert not any(is_probable_prime(2**256 + k) for k in range(1, 297, 2))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_t_shares_rebuild_the_secret(data):
    secret = data.draw(st.binary(min_size=32, max_size=32))
    points = data.draw(st.lists(st.integers(1, 1000), min_size=1, max_size=12, unique=True))
    t = data.draw(st.integers(1, len(points)))
    shares = dict(zip(points, shamir.split(secret, t, points, randomness("s")), strict=True))
    chosen = data.draw(st.permutations(points))[:t]
    assert shamir.combine([shares[x] for x in chosen], shamir.weights_at_zero(chosen)) == secret


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, (1).to_bytes(32, "big")])
def test_extreme_secrets(secret):
    shares = shamir.split(secret, 3, [1, 2, 3, 4], randomness("x"))
    assert shamir.combine(shares[1:], shamir.weights_at_zero([2, 3, 4])) == secret


def test_shares_against_the_polynomial_written_out():
    draw = randomness("p")
    coefficients = draw(96)
    high, low = (int.from_bytes(coefficients[i : i + 48], "big") % shamir.PRIME for i in (0, 48))
    shares = shamir.split(b"\5" * 32, 3, [1, 7, 9], randomness("p"))
    secret = int.from_bytes(b"\5" * 32, "big")
    expected = [(high * x * x + low * x + secret) % shamir.PRIME for x in (1, 7, 9)]
    assert [int.from_bytes(share, "big") for share in shares] == expected


def test_fewer_than_t_shares_fit_every_secret():
    """With t - 1 shares given, each candidate secret has a polynomial through them: nothing is learnt."""
    shares = shamir.split(b"\7" * 32, 3, [1, 2, 3], randomness("f"))
    y1, y2 = (int.from_bytes(share, "big") for share in shares[:2])
    for guess in (0, 1, 2**255):
        # Newton's form through (0, guess), (1, y1), (2, y2): degree 2, so a valid sharing of the guess
        a = (y1 - guess) % shamir.PRIME
        b = (y2 - 2 * y1 + guess) * pow(2, -1, shamir.PRIME) % shamir.PRIME
        values = [(guess + a * x + b * x * (x - 1)) % shamir.PRIME for x in (1, 2, 3)]
        assert values[:2] == [y1, y2]
        third = values[2].to_bytes(33, "big")
        rebuilt = shamir.combine([*shares[:2], third], shamir.weights_at_zero([1, 2, 3]))
        assert rebuilt == guess.to_bytes(32, "big")


def test_a_value_beyond_256_bits_is_a_typed_error():
    too_large = (2**256 + 5).to_bytes(33, "big")
    with pytest.raises(shamir.SecretTooLargeError, match="more than 256 bits"):
        shamir.combine([too_large], [1])
    with pytest.raises(shamir.SecretTooLargeError, match="no element"):
        shamir.combine([b"\xff" * 33], [1])


@pytest.mark.parametrize(
    ("secret", "t", "points"),
    [(bytes(31), 2, [1, 2]), (bytes(32), 3, [1, 2]), (bytes(32), 0, [1]), (bytes(32), 1, [0]), (bytes(32), 1, [2, 2])],
)
def test_bad_arguments(secret, t, points):
    with pytest.raises(ParameterError):
        shamir.split(secret, t, points, randomness("b"))


def test_weights_refuse_equal_points():
    with pytest.raises(ParameterError, match="distinct"):
        shamir.weights_at_zero([1, 1])


def test_a_short_draw_is_refused_because_it_would_lower_the_threshold():
    with pytest.raises(ParameterError, match="fewer bytes"):
        shamir.split(bytes(32), 3, [1, 2, 3], lambda count: bytes(count - 48))
