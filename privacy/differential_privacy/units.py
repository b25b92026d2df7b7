"""Which training records belong to which unit of protection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import MechanismError
from .randomness import SecretStream


@dataclass(frozen=True, eq=False)
class Units:
    """The rows of a training part by the unit that owns them.

    Attributes:
        owners: (n,) int64, the unit of each row, in 0..count-1; read-only.
        count: number of units, >= 1. It is public and stays the same when a unit's records are withdrawn, so a unit
            without rows is legal.

    Raises:
        MechanismError: no unit, or a row of an unknown one.
    """

    owners: NDArray[np.int64]
    count: int
    _order: NDArray[np.int64] = field(init=False, repr=False)
    _starts: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        owners = np.array(self.owners, dtype=np.int64)  # a copy: nobody else can change it
        if owners.ndim != 1 or self.count < 1:
            raise MechanismError(
                f"{self.count} units for rows of shape {owners.shape}", remedy="Give one unit to each row, at least one"
            )
        if len(owners) and not (owners.min() >= 0 and owners.max() < self.count):
            raise MechanismError(
                f"rows of units {owners.min()} to {owners.max()} of {self.count}", remedy="Units count from 0"
            )
        starts = np.zeros(self.count + 1, dtype=np.int64)
        np.cumsum(np.bincount(owners, minlength=self.count), out=starts[1:])
        for name, value in (("owners", owners), ("_order", np.argsort(owners, kind="stable")), ("_starts", starts)):
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    @classmethod
    def of_groups(cls, names: Sequence[str]) -> Units:
        """One unit for each distinct name, e.g. of a patient; the names themselves are not kept.

        Args:
            names: the group of each row, at least one row; units are numbered by first appearance.

        Raises:
            MechanismError: no row.
        """
        numbers: dict[str, int] = {}
        owners = [numbers.setdefault(name, len(numbers)) for name in names]
        return cls(np.array(owners, dtype=np.int64), len(numbers))

    @classmethod
    def records(cls, n: int) -> Units:
        """Every one of `n` >= 1 rows is a unit of its own."""
        return cls(np.arange(n, dtype=np.int64), n)

    def rows_of(
        self, chosen: NDArray[np.int64], most: int, stream: SecretStream
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of a sample of units, at most `most` of each; a unit with more gives a uniform choice of them.

        Args:
            chosen: (m,) int64, distinct units, e.g. of :meth:`.randomness.SecretStream.include`; may be empty.
            most: rows of a unit in one step, >= 1.
            stream: draws the rows of units with more.

        Returns:
            The rows, (r,) int64, and for each its unit's position in ``chosen``, (r,) int64, ascending.

        Raises:
            MechanismError: ``most`` below 1, or units that are unknown or named twice.
        """
        chosen = np.asarray(chosen, dtype=np.int64)
        if most < 1:
            raise MechanismError(f"at most {most} rows of a unit", remedy="Allow at least one")
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < self.count):
            raise MechanismError(f"units {chosen.min()} to {chosen.max()} of {self.count}", remedy="Units count from 0")
        if len(np.unique(chosen)) != len(chosen):
            raise MechanismError("a unit was chosen twice", remedy="A Poisson sample holds a unit at most once")
        sizes = self._starts[chosen + 1] - self._starts[chosen]
        positions = np.repeat(np.arange(len(chosen), dtype=np.int64), sizes)
        first = np.cumsum(sizes) - sizes  # where each unit's rows start in what is returned
        within = np.arange(len(positions), dtype=np.int64) - first[positions]
        rows = self._order[self._starts[chosen][positions] + within]
        if not len(sizes) or sizes.max() <= most:
            return rows, positions
        # Rows of a unit in random order, of which the first ones stay: a uniform subset of each.
        shuffled = np.lexsort((stream.words(len(rows)), positions))
        kept = np.sort(shuffled[within < most])
        return rows[kept], positions[kept]
