"""Figures as a vector of integers that adds over sites, and back: which coordinate holds what.

A count is one coordinate. A sum of real numbers S >= 0 is two, exactly: its whole part, and its fraction in steps of
2^-bits. Both are integers below 2^bits, so a secure sum over integers carries them without rounding anew; the only
error is half a step a site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..arrays import FloatArray
from ..calibration.temperature import GRID_POINTS
from ..errors import InvalidPredictionsError
from ..reliability import N_BINS

Kind = Literal["count", "real"]
SCORE_BINS = 256
"""Bins of log odds behind AUROC: even from -16 to 16, the outer two open."""
SHARE_BINS = 200
"""Bins of validation probabilities: even from 0 to 1, behind prediction sets and the abstention threshold."""
OTHER, NOT_RECORDED = "other", "not recorded"
"""Levels that every subgroup column has beside those that the study names."""


@dataclass(frozen=True, slots=True)
class Field:
    """A named array within the vector.

    Attributes:
        name: what it holds. shape: of the array. kind: counts, or sums of real numbers, which are not negative.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind = "count"

    @property
    def numbers(self) -> int:
        """Entries of the array."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def size(self) -> int:
        """Coordinates in the vector."""
        return self.numbers * (2 if self.kind == "real" else 1)


@dataclass(frozen=True)
class VectorLayout:
    """Fields in the order of the vector.

    Attributes:
        fields: their names are different.
        bits: a count, a whole part and a fraction are each below 2^bits.
    """

    fields: tuple[Field, ...]
    bits: int

    @cached_property
    def size(self) -> int:
        """Coordinates of the vector."""
        return sum(field.size for field in self.fields)

    def pack(self, values: Mapping[str, FloatArray]) -> FloatArray:
        """One site's vector, float64 (size,), every entry an integer in [0, 2^bits).

        Args:
            values: an array for every field, by name, of its shape.

        Raises:
            InvalidPredictionsError: a field is missing, unknown or misshapen, or a value is negative, not finite, not
                whole where it is a count, or too large.
        """
        if set(values) != {field.name for field in self.fields}:
            raise InvalidPredictionsError(f"fields {sorted(values)} do not make up the vector")
        parts: list[FloatArray] = []
        for field in self.fields:
            given = np.asarray(values[field.name], dtype=np.float64)
            if given.shape != field.shape:
                raise InvalidPredictionsError(f"shape {given.shape} instead of {field.shape}", where=field.name)
            flat = given.ravel()
            if not (np.isfinite(flat).all() and (flat >= 0).all() and (flat < 2.0**self.bits - 1).all()):
                raise InvalidPredictionsError(
                    f"a value is negative, not finite, or not below {2**self.bits - 1}",
                    where=field.name,
                    remedy="So large a test set cannot be summed exactly; test on fewer images",
                )
            whole = np.floor(flat)
            if field.kind == "count":
                if (whole != flat).any():
                    raise InvalidPredictionsError("a count is not whole", where=field.name)
                parts.append(whole)
                continue
            fraction = np.rint((flat - whole) * 2.0**self.bits)
            carried = fraction == 2.0**self.bits
            parts += [whole + carried, np.where(carried, 0.0, fraction)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def unpack(self, vector: FloatArray) -> dict[str, FloatArray]:
        """Fields of a vector, or of a sum of vectors, float64, by name.

        Raises:
            InvalidPredictionsError: the vector has another size, or an entry is negative or not whole.
        """
        if vector.shape != (self.size,):
            raise InvalidPredictionsError(f"a vector of shape {vector.shape} instead of ({self.size},)")
        if not (np.isfinite(vector).all() and (vector >= 0).all() and (np.rint(vector) == vector).all()):
            raise InvalidPredictionsError("a coordinate of the vector is negative or not whole")
        found, start = {}, 0
        for field in self.fields:
            first = vector[start : start + field.numbers]
            if field.kind == "real":
                first = first + vector[start + field.numbers : start + field.size] * 2.0**-self.bits
            found[field.name] = first.reshape(field.shape).astype(np.float64)
            start += field.size
        return found


def bits_for(sites: int) -> int:
    """Bits of a coordinate so that so many vectors add up below 2^31; 24 for up to 127 sites.

    >>> bits_for(3), bits_for(127), bits_for(128)
    (24, 24, 23)
    """
    return min(24, (((2**31 - 1) // sites).bit_length()) - 1)


def temperature_layout(bits: int) -> VectorLayout:
    """What the federated temperature is fitted on: ``nll`` (64,), sums over ``n`` validation images."""
    return VectorLayout((Field("n", ()), Field("nll", (GRID_POINTS,), "real")), bits)


def evaluation_layout(classes: int, levels: Mapping[str, Sequence[str]], thresholds: int, bits: int) -> VectorLayout:
    """All figures of one evaluation; of K classes, B = 10 reliability bins, H = 256 score bins, T thresholds.

    Test images: ``confusion`` (K, K), rows truth; of the top label's bins ``bin_n``, ``bin_right``, ``bin_confidence``
    (B,), and the same before any temperature with ``raw_`` before the name; of each class's bins ``class_bin_n``,
    ``class_bin_hits``, ``class_bin_share`` (K, B); ``positives``, ``negatives`` (K, H) by log odds; ``acted`` and
    ``acted_rightly`` (K, T), images whose probability of a class reaches a threshold; ``brier``, ``raw_brier`` and
    ``nll``; of subgroup column i ``right_i``, ``total_i`` (L + 2, K): the study's levels, other, not recorded, by true
    class, and ``holders_i`` (L + 2,), sites that have any.

    Validation images: ``scores`` (200,), of `..calibration.conformal`, one image of a group, and ``class_scores``
    (K, 200), one of a group and class; ``answers`` and ``right_answers`` (200,), of `..calibration.abstention`, one
    image of a group.

    Args:
        classes: K. levels: of each subgroup column. thresholds: T. bits: of a coordinate.
    """
    k = classes
    fields = [
        Field("confusion", (k, k)),
        *(
            field
            for prefix in ("", "raw_")
            for field in (
                Field(f"{prefix}bin_n", (N_BINS,)),
                Field(f"{prefix}bin_right", (N_BINS,)),
                Field(f"{prefix}bin_confidence", (N_BINS,), "real"),
            )
        ),
        Field("class_bin_n", (k, N_BINS)),
        Field("class_bin_hits", (k, N_BINS)),
        Field("class_bin_share", (k, N_BINS), "real"),
        Field("positives", (k, SCORE_BINS)),
        Field("negatives", (k, SCORE_BINS)),
        Field("acted", (k, thresholds)),
        Field("acted_rightly", (k, thresholds)),
        *(Field(name, (), "real") for name in ("brier", "raw_brier", "nll")),
        Field("scores", (SHARE_BINS,)),
        Field("class_scores", (k, SHARE_BINS)),
        Field("answers", (SHARE_BINS,)),
        Field("right_answers", (SHARE_BINS,)),
    ]
    for number, given in enumerate(levels.values()):
        fields += [Field(f"{name}_{number}", (len(given) + 2, k)) for name in ("right", "total")]
        fields.append(Field(f"holders_{number}", (len(given) + 2,)))
    return VectorLayout(tuple(fields), bits)


def score_bin(log_odds: FloatArray) -> NDArray[np.int64]:
    """Bin of each log odds, int64 in [0, 256), same shape."""
    edges = np.linspace(-16.0, 16.0, SCORE_BINS - 1)
    return np.searchsorted(edges, log_odds, side="right").astype(np.int64)
