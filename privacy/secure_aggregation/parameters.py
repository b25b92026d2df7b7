"""Threshold, minimum cohort, collusion bound and blocks, each refused at set-up when it does not hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ParameterError

MIN_SITES = 3
MAX_SITES = 1000
MIN_COHORT = 3
RING_BITS = 32


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
        m: fewest sites that a sum may be over; 3 <= m <= n.
    """

    n: int
    t: int
    m: int

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
        if not MIN_COHORT <= self.m <= self.n:
            raise ParameterError(
                f"minimum cohort m = {self.m} with n = {self.n} sites",
                remedy=f"Choose between {MIN_COHORT} and {self.n}.",
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
    n: int, *, t: int | None = None, m: int | None = None, colluding: int | None = None
) -> Thresholds:
    """Fill in what is left out, and reach the asked-for collusion bound with the smallest t and m that do.

    Raises:
        ParameterError: where the given values do not hold, or no t and m reach ``colluding``.
    """
    if n < MIN_SITES:
        return Thresholds(n, t or 0, m or 0)
    asked = Thresholds(n, default_threshold(n) if t is None else t, MIN_COHORT if m is None else m)
    if colluding is None or asked.colluding >= colluding:
        return asked
    for wider in range(asked.t if t is None else t, (n if t is None else t) + 1):
        for cohort in range(asked.m, (n if m is None else m) + 1):
            if collusion_bound(n, wider, cohort) >= colluding:
                return Thresholds(n, wider, cohort)
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
    """

    name: str
    size: int
    clip: float
    fraction_bits: int = 20
    weighted: bool = True

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

    def limit(self, weight: float) -> int:
        """Largest absolute encoding of one site with this weight: floor(weight * clip * 2^f) + 1."""
        return math.floor(weight * self.clip * 2.0**self.fraction_bits) + 1


def check_blocks(blocks: Sequence[Block], n: int, w_max: float, ring_bits: int = RING_BITS) -> None:
    """Refuse blocks whose sum over n sites could wrap around the ring.

    Requires n * (floor(w_max * clip * 2^f) + 1) < 2^(ring - 1) per block, so that the signed sum is unambiguous.

    Raises:
        ParameterError: names the block and the largest clip that would fit.
    """
    if not blocks:
        raise ParameterError("a vector without blocks")
    if len({block.name for block in blocks}) != len(blocks):
        raise ParameterError("two blocks of one vector have the same name")
    half = 2 ** (ring_bits - 1)
    for block in blocks:
        weight = w_max if block.weighted else 1.0
        if n * block.limit(weight) >= half:
            largest = (half // n - 2) / (weight * 2.0**block.fraction_bits)
            digits = 10.0 ** (5 - math.floor(math.log10(largest)))
            largest = math.floor(largest * digits) / digits  # rounded down, so that the advice itself fits
            raise ParameterError(
                f"{n} sites with weights up to {weight:g}, clip {block.clip:g} and {block.fraction_bits} fractional"
                f" bits overflow the {ring_bits}-bit ring",
                where=f"block {block.name}",
                remedy=f"Use a clip of at most {largest:.6g}, or fewer fractional bits.",
            )


def total_size(blocks: Sequence[Block]) -> int:
    """Number of coordinates of a vector made of these blocks."""
    return sum(block.size for block in blocks)
