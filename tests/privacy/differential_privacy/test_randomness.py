"""The secret stream: that it is AES, that its variates are normal far into the tail, and that nothing comes twice.

Statistical tests use fixed keys, so each either always passes or always fails.
"""

from __future__ import annotations

import copy
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from wardround.privacy.differential_privacy import randomness
from wardround.privacy.differential_privacy.randomness import SecretStream, fine_radius
from wardround.privacy.errors import MechanismError

KEY = bytes(range(32))
PAIRS = randomness._PAIRS


def key_stream(size: int) -> bytes:
    return Cipher(algorithms.AES(KEY), modes.CTR(bytes(16))).encryptor().update(bytes(size))


def drawn(count: int, key: bytes = KEY) -> np.ndarray:
    return SecretStream(key).normals(np.empty(count, dtype=np.float32))


@pytest.fixture(scope="module")
def million():
    return drawn(1_000_000).astype(np.float64)


def test_words_are_the_key_stream():
    stream, count = SecretStream(KEY), 2 * PAIRS + 5
    words = np.concatenate([stream.words(count), stream.words(3), stream.words(0)])
    assert words.tobytes() == key_stream(8 * (count + 3))


@pytest.mark.parametrize("count", [0, 1, 2, 7, 2 * PAIRS, 2 * PAIRS + 1, 4 * PAIRS + 6])
def test_normals_are_box_and_mullers_in_double_precision(count):
    expected, allowed, words = (
        np.empty(count),
        np.empty(count),
        np.frombuffer(key_stream(8 * (count + 1) + 400), dtype=np.uint32),
    )
    position = 0
    for start in range(0, count, 2 * PAIRS):
        size = min(2 * PAIRS, count - start)
        pairs = (size + 1) // 2
        high = words[position : position + pairs].astype(np.float64)
        angle = words[position + pairs : position + 2 * pairs].view(np.int32) * (math.pi * 2.0**-31)
        position += 2 * pairs
        uniform = (high + 0.5) * 2.0**-32
        for index in np.flatnonzero(high < 2**16):
            low = int(words[position : position + 2].view(np.uint64)[0]) >> 32
            uniform[index] = (high[index] * 2.0**32 + low + 0.5) * 2.0**-64
            position += 2
        radius = np.sqrt(-2.0 * np.log(uniform))
        both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
        expected[start : start + size] = both[:size]
        # Float32 rounds U to 2^-24 near 1, so the smallest radii are coarse: dr = dU / r.
        allowed[start : start + size] = np.tile(2e-6 + 1.5 * 2.0**-24 / radius, 2)[:size]
    assert (np.abs(drawn(count) - expected) <= allowed).all()


def test_the_array_that_is_given_is_filled_and_returned():
    out = np.full(11, np.nan, dtype=np.float32)
    assert SecretStream(KEY).normals(out) is out
    assert np.isfinite(out).all()
    part = np.zeros(20, dtype=np.float32)
    SecretStream(KEY).normals(part[5:16])
    np.testing.assert_array_equal(part[5:16], out)
    assert not part[:5].any()
    assert not part[16:].any()


@pytest.mark.parametrize("scale", [0.0, 1e-15, 0.03, 7.0, 1e15])
def test_a_scale_is_the_standard_deviation(scale):
    scaled = SecretStream(KEY).normals(np.empty(200_001, dtype=np.float32), scale)
    np.testing.assert_allclose(scaled, scale * drawn(200_001).astype(np.float64), rtol=2e-6, atol=2e-6 * scale)


@pytest.mark.parametrize("scale", [-1.0, 1e-16, 1e16, math.inf, math.nan])
def test_other_scales_are_refused(scale):
    with pytest.raises(MechanismError, match="standard deviation"):
        SecretStream().normals(np.empty(2, dtype=np.float32), scale)


@pytest.mark.parametrize(
    "out",
    [np.empty(4), np.empty((2, 2), dtype=np.float32), np.empty(8, dtype=np.float32)[::2]],
    ids=["64", "2d", "gaps"],
)
def test_other_arrays_are_refused(out):
    with pytest.raises(MechanismError, match="normals into"):
        SecretStream().normals(out)


def test_moments_are_those_of_a_normal(million):
    count = len(million)
    for power, (mean, variance) in {1: (0, 1), 2: (1, 2), 3: (0, 15), 4: (3, 96), 6: (15, 10_170)}.items():
        assert np.mean(million**power) == pytest.approx(mean, abs=4 * math.sqrt(variance / count)), power


def test_the_distribution_is_normal(million):
    assert stats.kstest(million, "norm").pvalue > 1e-3
    edges = np.array([-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5], dtype=float)
    seen = np.histogram(million, np.concatenate([[-np.inf], edges, [np.inf]]))[0]
    wanted = np.diff(stats.norm.cdf(np.concatenate([[-np.inf], edges, [np.inf]]))) * len(million)
    merged = wanted >= 5
    assert stats.chisquare([*seen[merged], seen[~merged].sum()], [*wanted[merged], wanted[~merged].sum()]).pvalue > 1e-3


def test_radius_and_angle_are_independent():
    pairs = drawn(2 * PAIRS).astype(np.float64).reshape(2, PAIRS)
    radius, angle = np.hypot(*pairs), np.arctan2(pairs[1], pairs[0])
    assert stats.kstest(radius**2, "chi2", args=(2,)).pvalue > 1e-3
    assert stats.kstest(angle, "uniform", args=(-math.pi, 2 * math.pi)).pvalue > 1e-3
    bands = np.quantile(radius, [0.25, 0.5, 0.75])
    table = np.histogram2d(np.digitize(radius, bands), angle, bins=(4, 8))[0]
    assert stats.chi2_contingency(table).pvalue > 1e-3
    assert abs(stats.spearmanr(pairs[0], pairs[1]).statistic) < 4 / math.sqrt(PAIRS)


def test_neighbours_are_not_correlated(million):
    for lag in (1, 2, 8, PAIRS, 2 * PAIRS):
        assert abs(np.mean(million[:-lag] * million[lag:])) < 4 / math.sqrt(len(million) - lag), lag


class Crafted(SecretStream):
    """Yields bytes that a test chose, then zeros."""

    def __init__(self, chosen: bytes) -> None:
        super().__init__(KEY)
        self.chosen = chosen

    def _fill(self, size: int) -> np.ndarray:
        piece, self.chosen = self.chosen[:size], self.chosen[size:]
        self._bytes[:size] = np.frombuffer(piece.ljust(size, b"\0"), dtype=np.uint8)
        return self._bytes[:size]


def test_the_tail_reaches_beyond_nine_deviations():
    # A radius word of 0 ends at 6.76 on its own. With 32 more zero bits it is 9.49, at angle 0.
    first, second = Crafted(b"").normals(np.empty(2, dtype=np.float32))
    assert first == pytest.approx(math.sqrt(-2 * math.log(2.0**-65)), rel=1e-6)
    assert first > 9.49
    assert second == 0.0


def test_finer_bits_decide_between_the_coarse_radii():
    # Radius words 5 and 70,000, angles 0, then the finer bits of the first one.
    for low in (0, 2**31, 2**32 - 1):
        chosen = np.array([5, 70_000, 0, 0, 123, low], dtype=np.uint32).tobytes()
        out = Crafted(chosen).normals(np.empty(4, dtype=np.float32))
        assert out[0] == pytest.approx(math.sqrt(-2 * math.log((5 + (low + 0.5) / 2**32) / 2**32)), rel=1e-6)
        assert out[1] == pytest.approx(math.sqrt(-2 * math.log(70_000.5 / 2**32)), rel=1e-6)
        assert not out[2:].any()


def test_the_largest_radius_word_gives_a_finite_radius():
    out = Crafted(np.array([2**32 - 1, 7], dtype=np.uint32).tobytes()).normals(np.empty(2, dtype=np.float32))
    assert np.isfinite(out).all()
    assert abs(out[0]) < 1e-3


def test_fine_radii_join_the_coarse_ones():
    last = fine_radius(np.array([2**16 - 1], dtype=np.uint32), np.array([2**32 - 1], dtype=np.uint64))
    assert last[0] == pytest.approx(math.sqrt(-2 * math.log(2.0**-16)), rel=1e-6)
    ladder = fine_radius(np.zeros(33, dtype=np.uint32), 2 ** np.arange(33, dtype=np.uint64) - 1)
    assert (np.diff(ladder) < 0).all()


def test_nothing_comes_twice():
    streams = [SecretStream() for _ in range(3)]
    words = np.concatenate([stream.words(5_000) for _ in range(4) for stream in streams])
    assert len(np.unique(words)) == len(words)
    calls = [stream.normals(np.empty(1_000, dtype=np.float32)).copy() for _ in range(2) for stream in streams]
    for one in range(6):
        for other in range(one):
            assert abs(np.corrcoef(calls[one], calls[other])[0, 1]) < 0.2


def test_a_given_key_repeats_and_another_one_does_not():
    np.testing.assert_array_equal(drawn(100), drawn(100))
    assert not np.isin(drawn(100), drawn(100, bytes(32))).any()
    with pytest.raises(MechanismError, match="31 bytes"):
        SecretStream(bytes(31))


def test_a_stream_shows_and_gives_nothing():
    stream = SecretStream(KEY)
    assert repr(stream) == "SecretStream()"
    assert KEY not in [value for value in vars(stream).values() if isinstance(value, bytes)]
    for copying in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(MechanismError, match="copied or stored"):
            copying(stream)


def test_a_forked_process_may_not_go_on(monkeypatch):
    stream = SecretStream()
    monkeypatch.setattr(randomness.os, "getpid", lambda: -1)
    with pytest.raises(MechanismError, match="forked"):
        stream.words(1)
    with pytest.raises(MechanismError, match="forked"):
        stream.normals(np.empty(1, dtype=np.float32))


@pytest.mark.parametrize("rate", [0.003, 0.3, 0.97])
def test_poisson_sample_counts_are_binomial(rate):
    stream, units, draws = SecretStream(KEY), 400, 3_000
    samples = [stream.include(units, rate) for _ in range(draws)]
    counts = np.bincount([len(sample) for sample in samples], minlength=units + 1)
    law = stats.binom(units, rate).pmf(np.arange(units + 1)) * draws
    common = law >= 5
    seen, wanted = [*counts[common], counts[~common].sum()], [*law[common], law[~common].sum()]
    assert stats.chisquare(seen, wanted).pvalue > 1e-3
    each = np.bincount(np.concatenate(samples), minlength=units)
    spread = ((each - draws * rate) ** 2).sum() / (draws * rate * (1 - rate))
    assert 1e-3 < stats.chi2(units).cdf(spread) < 0.999


def test_a_poisson_sample_is_sorted_and_of_int64():
    sample = SecretStream(KEY).include(1_000, 0.5)
    assert sample.dtype == np.int64
    assert (np.diff(sample) > 0).all()
    assert SecretStream(KEY).include(0, 0.5).shape == (0,)


def test_rates_of_0_and_1():
    assert len(SecretStream().include(1_000, 0.0)) == 0
    np.testing.assert_array_equal(SecretStream().include(7, 1.0), np.arange(7))


@settings(max_examples=200)
@given(st.floats(0, 1, exclude_max=True) | st.floats(0, 1e-15))
def test_the_probability_is_never_above_the_rate(rate):
    # The largest word that is drawn: what lies below it are the words that draw, out of 2^64.
    threshold = math.floor(Fraction(rate) * 2**64)
    words = [word for word in (threshold - 1, threshold) if word >= 0]
    sample = Crafted(np.array(words, dtype=np.uint64).tobytes()).include(len(words), rate)
    assert len(sample) == len(words) - 1
    assert Fraction(threshold, 2**64) <= Fraction(rate)


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan, math.inf])
def test_other_rates_are_refused(rate):
    with pytest.raises(MechanismError, match="sample rate"):
        SecretStream().include(3, rate)


def test_subsets_are_uniform():
    stream = SecretStream(KEY)
    subsets = [tuple(stream.subset(5, 2).tolist()) for _ in range(5_000)]
    seen = {subset: subsets.count(subset) for subset in set(subsets)}
    assert len(seen) == 10
    assert all(first < second for first, second in seen)
    assert stats.chisquare(list(seen.values())).pvalue > 1e-3
    np.testing.assert_array_equal(stream.subset(3, 3), np.arange(3))
    np.testing.assert_array_equal(stream.subset(3, 9), np.arange(3))
    assert len(stream.subset(3, 0)) == 0
