"""Threshold, minimum cohort, collusion bound and blocks, each refused at set-up when it does not hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ParameterError

MIN_SITES = 3
MAX_SITES = 1000
MIN_COHORT = 3
MIN_COHORT_WITH_NOISE = 2
RING_BITS = 32
VALUE_BITS = range(8, 25)
"""Value bits of a packed block: fewer carry nothing, more save nothing."""


def default_threshold(n: int) -> int:
    """floor(2n/3) + 1 for n >= 4, and 2 at n = 3."""
    return 2 if n == MIN_SITES else 2 * n // 3 + 1


def collusion_bound(n: int, t: int, m: int) -> int:
    """How many sites may collude with the coordinator and still learn only the sum of the others.

    c = min(2t - n - 1, t - 1, max(t, m) - 2), the first term dropped when max(t, m) = n. Two survivor sets, one with
    site A and one without, would give both kinds of A's shares: c dishonest sites may sign both, so 2t - n - 1 honest
    ones must be too few; t - 1 cannot rebuild a secret; a sum over max(t, m) sites still hides two honest ones. When
    max(t, m) = n only the whole roster may be summed, so there are no two sets.
    """
    terms = [t - 1, max(t, m) - 2]
    if max(t, m) < n:
        terms.append(2 * t - n - 1)
    return min(terms)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Who must stay for a sum to be released.

    Attributes:
        n: sites in the roster, 3..1000.
        t: signatures and shares that unmask a sum; n/2 < t <= n.
        m: fewest sites that a sum may be over; 3 <= m <= n, or 2 <= m where every site adds noise.
        private: whether every site's training is differentially private; only then may a sum be over two sites.
    """

    n: int
    t: int
    m: int
    private: bool = False

    def __post_init__(self) -> None:
        if not MIN_SITES <= self.n <= MAX_SITES:
            raise ParameterError(
                f"a study has {self.n} sites", remedy=f"Between {MIN_SITES} and {MAX_SITES} sites must take part."
            )
        if not self.n < 2 * self.t <= 2 * self.n:
            raise ParameterError(
                f"threshold t = {self.t} with n = {self.n} sites; it must be more than half and at most all",
                remedy=f"Use {default_threshold(self.n)} (the default) or leave it out.",
            )
        fewest = MIN_COHORT_WITH_NOISE if self.private else MIN_COHORT
        if not fewest <= self.m <= self.n:
            raise ParameterError(
                f"minimum cohort m = {self.m} with n = {self.n} sites",
                remedy=f"Choose between {fewest} and {self.n}.",
            )

    @property
    def least(self) -> int:
        """max(t, m): the fewest sites that may share, mask or survive."""
        return max(self.t, self.m)

    @property
    def colluding(self) -> int:
        """The collusion bound c; see `collusion_bound`."""
        return collusion_bound(self.n, self.t, self.m)


def choose_thresholds(
    n: int,
    *,
    t: int | None = None,
    m: int | None = None,
    colluding: int | None = None,
    private: bool = False,
) -> Thresholds:
    """Fill in what is left out, and reach the asked-for collusion bound with the smallest t and m that do.

    Args:
        n: sites.
        t, m: threshold and minimum cohort; None for the default, which may be raised.
        colluding: how many colluding sites must be withstood; None for what the defaults give.
        private: whether every site's training is differentially private.

    Raises:
        ParameterError: where the given values do not hold, or no t and m reach ``colluding``.
    """
    if n < MIN_SITES:
        return Thresholds(n, t or 0, m or 0, private)
    asked = Thresholds(n, default_threshold(n) if t is None else t, MIN_COHORT if m is None else m, private)
    if colluding is None or asked.colluding >= colluding:
        return asked
    for wider in range(asked.t if t is None else t, (n if t is None else t) + 1):
        for cohort in range(asked.m, (n if m is None else m) + 1):
            if collusion_bound(n, wider, cohort) >= colluding:
                return Thresholds(n, wider, cohort, private)
    raise ParameterError(
        f"{n} sites cannot withstand {colluding} colluding ones with t = {t or 'any'} and m = {m or 'any'}",
        remedy=f"At most {max(n - 2, 0)} is possible, with t = m = {n}; or enrol more sites.",
    )


@dataclass(frozen=True, slots=True)
class Block:
    """A named stretch of the vector with its own fixed point.

    Attributes:
        name: lower-case name, unique in its vector.
        size: number of coordinates, > 0.
        clip: largest absolute value of a coordinate before weighting, > 0.
        fraction_bits: f; the step is 2^-f before weighting.
        weighted: whether coordinates are multiplied by the site's weight (in a weighted study); counts are not.
        bits: value bits, 8..24, of a block that is packed on the wire; 32 for the full ring.
    """

    name: str
    size: int
    clip: float
    fraction_bits: int = 20
    weighted: bool = True
    bits: int = RING_BITS

    def __post_init__(self) -> None:
        where = f"block {self.name}"
        if not self.name or len(self.name) > 64:
            raise ParameterError("a block has no name, or one of more than 64 characters", where=where)
        if self.size <= 0:
            raise ParameterError(f"a size of {self.size}", where=where)
        if not 0 < self.clip < 2.0**RING_BITS:  # NaN and infinity too; a larger one would overflow in `limit`
            raise ParameterError(
                f"a clip of {self.clip}", where=where, remedy="It must be finite, positive and below 2^32."
            )
        if not 0 <= self.fraction_bits <= 30:
            raise ParameterError(f"{self.fraction_bits} fractional bits", where=where, remedy="Use 0..30.")
        if self.bits != RING_BITS and self.bits not in VALUE_BITS:
            raise ParameterError(
                f"{self.bits} value bits",
                where=where,
                remedy=f"Use {VALUE_BITS.start}..{VALUE_BITS.stop - 1} to pack, or {RING_BITS} for the full ring.",
            )

    @property
    def packed(self) -> bool:
        """Whether the block has a ring of its own, with fewer than 32 bits."""
        return self.bits != RING_BITS

    @property
    def value_limit(self) -> int:
        """Largest absolute encoding that the block's bits can carry: 2^(bits - 1) - 1."""
        return (1 << (self.bits - 1)) - 1

    def ring(self, sites: int) -> int:
        """Bits of a ring element: 32, or bits + ceil(log2 n), in which n values of ``bits`` bits cannot wrap."""
        return self.bits + (sites - 1).bit_length() if self.packed else RING_BITS

    def limit(self, weight: float) -> int:
        """Largest absolute encoding at this weight: floor(weight * clip * 2^f) + 1, or the most that the bits hold."""
        return min(self.reach(weight), self.value_limit)

    def reach(self, weight: float) -> int:
        """floor(weight * clip * 2^f) + 1: how far rounding can get, whatever the bits hold."""
        return math.floor(weight * self.clip * 2.0**self.fraction_bits) + 1


def check_blocks(blocks: Sequence[Block], n: int, w_max: float) -> None:
    """Refuse blocks whose sum over n sites could wrap around the ring, or whose values do not fit their bits.

    Requires n * (floor(w_max * clip * 2^f) + 1) < 2^(ring - 1) per block of the full ring, so that the signed sum is
    unambiguous. A packed block's ring holds n values of its bits by its size; there, floor(w_max * clip * 2^f) must be
    at most 2^(bits - 1) - 1, or the largest coordinates would be cut below the clip.

    Raises:
        ParameterError: names the block and the largest clip that would fit.
    """
    if not blocks:
        raise ParameterError("a vector without blocks")
    if len({block.name for block in blocks}) != len(blocks):
        raise ParameterError("two blocks of one vector have the same name")
    for block in blocks:
        weight = w_max if block.weighted else 1.0
        where = f"block {block.name}"
        setting = (
            f"{n} sites with weights up to {weight:g}, clip {block.clip:g} and {block.fraction_bits} fractional bits"
        )
        if block.packed:
            if block.ring(n) >= RING_BITS:
                raise ParameterError(
                    f"{block.bits} value bits and {n} sites need a ring of {block.ring(n)} bits, as much as no packing",
                    where=where,
                    remedy=f"Use fewer bits, or {RING_BITS} for the full ring.",
                )
            largest = block.value_limit / (weight * 2.0**block.fraction_bits)
            if block.reach(weight) > block.value_limit + 1:
                raise ParameterError(
                    f"{setting} overflow {block.bits} value bits", where=where, remedy=_clip_remedy(largest)
                )
        elif n * block.reach(weight) >= 2 ** (RING_BITS - 1):
            largest = (2 ** (RING_BITS - 1) // n - 2) / (weight * 2.0**block.fraction_bits)
            raise ParameterError(
                f"{setting} overflow the {RING_BITS}-bit ring", where=where, remedy=_clip_remedy(largest)
            )


def _clip_remedy(largest: float) -> str:
    digits = 10.0 ** (5 - math.floor(math.log10(largest)))
    largest = math.floor(largest * digits) / digits  # rounded down, so that the advice itself fits
    return f"Use a clip of at most {largest:.6g}, or fewer fractional bits."


def total_size(blocks: Sequence[Block]) -> int:
    """Number of coordinates of a vector made of these blocks."""
    return sum(block.size for block in blocks)
