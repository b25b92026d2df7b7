"""What a site gives away under differential privacy: the only thing a mechanism tells the accountant."""

from __future__ import annotations

import enum
import math
from typing import Literal, get_args

import msgspec

from ..errors import MechanismError

Kind = Literal["training", "class-sums", "fourier-sums"]
"""training: noisy gradients; class-sums: noisy sums and counts of features by class; fourier-sums: the same of random
Fourier features."""
Unit = Literal["patient", "lesion", "record"]
"""What one (epsilon, delta) protects: everything that one patient, one lesion or one record gave to training."""


class Relation(enum.StrEnum):
    """Which two training sets must look alike.

    ZERO_OUT: one unit's records give nothing, while its slot stays, so the number of units is public and the same in
    both. Poisson samples and sums normalised by a constant then have the same figures as adding or removing one unit
    (dp-accounting calls the relation REPLACE_SPECIAL). Replacing a unit's records by others costs up to twice as much.
    """

    ZERO_OUT = "zero-out"


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Poisson-sampled Gaussian mechanisms, all alike, one after the other.

    Each of the steps draws every unit with probability `sample_rate`, sums what the drawn units give and adds Gaussian
    noise. A sum over all units is a sample rate of 1 and one step.

    Attributes:
        kind: what was released; it has no influence on epsilon.
        noise_multiplier: standard deviation of the noise / joint L2 sensitivity of the sum; > 0, finite, no unit.
        sample_rate: probability that a unit is drawn in a step; 0 < q <= 1.
        steps: number of noisy sums; >= 1.

    Raises:
        MechanismError: a value outside its range.
    """

    kind: Kind
    noise_multiplier: float
    sample_rate: float
    steps: int

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise MechanismError(
                f"a release of kind {self.kind!r}", remedy=f"Legal kinds: {', '.join(get_args(Kind))}."
            )
        if not (_is_number(self.noise_multiplier) and self.noise_multiplier > 0):
            raise MechanismError(
                f"a noise multiplier of {self.noise_multiplier!r}",
                remedy="It must be a finite number above 0: without noise there is no privacy to account for.",
            )
        if not (_is_number(self.sample_rate) and 0 < self.sample_rate <= 1):
            raise MechanismError(
                f"a sample rate of {self.sample_rate!r}", remedy="It must be a probability above 0 and at most 1."
            )
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise MechanismError(f"{self.steps!r} steps", remedy="Give a whole number of at least 1.")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
