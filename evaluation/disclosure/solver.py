"""Whether two values remain for every small count, by whole-number programmes over everything that is published.

A count is *pinned* when every set of images that could lie behind the published material gives it the same value, and
that value is from 1 to 10 (of a difference between two reports: from -10 to 10 but not 0). Zero may be known, and so
may what is above 10, though bands rarely allow it.

The solver collects solutions. As soon as two of them differ in a count, or one gives it a value that is not small, the
count is safe; for those that are left it looks for a smaller and for a larger value, first near a solution that it has,
then everywhere. Every solution is a set of images that nobody can exclude (see `constraints`). When a search ends
without an answer the count is taken as pinned: the error is on the safe side. Limits are numbers of nodes and of tries,
never seconds, so that the answer is the same on every machine and for everybody who repeats it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from ..arrays import FloatArray
from ..errors import EvaluationError
from .bands import SMALL
from .system import MANY, System

NODES = 2000
WALKS = 4
NEAR = (1.0, 3.0)
SEED = 20
INFEASIBLE = 2
Accepts = Callable[[FloatArray], bool]


def anything(_solution: FloatArray) -> bool:
    """Accept every solution."""
    return True


class UndecidedError(EvaluationError):
    """The search for other counts ended at its limit; what is asked about is then taken as not safe."""


class Search:
    """A search for solutions of a system that differ in every watched count.

    Args:
        system: see there. accepts: whether a solution can lie behind the published scores too; solutions that it
            refuses are not counted.
    """

    def __init__(self, system: System, accepts: Accepts = anything) -> None:
        self._low, self._high = np.array(system.low), np.array(system.high)
        self._names = [name for name, _ in system.watched]
        self._watched = system.matrix([terms for _, terms in system.watched])
        self._rows = system.matrix([terms for terms, _, _ in system.rows])
        self._least = np.array([least for _, least, _ in system.rows])
        self._most = np.array([most for _, _, most in system.rows])
        self._aims: list[LinearConstraint] = []
        if system.aims:
            aims = system.matrix([terms for terms, _, _ in system.aims])
            ends = [np.array([aim[end] for aim in system.aims], dtype=np.float64) for end in (1, 2)]
            self._aims.append(LinearConstraint(aims, *ends))
        self._accepts = accepts
        self._random = np.random.default_rng(SEED)
        self._solutions: list[FloatArray] = []
        self._smallest = np.full(len(self._names), np.inf)
        self._largest = np.full(len(self._names), -np.inf)

    def pinned(self) -> str | None:
        """Name of the first watched count without a second value; the empty text where there is none.

        None where the system has no solution at all.

        Raises:
            UndecidedError: not one solution was accepted, and it could not be shown that there is none.
        """
        self._collect()
        if not self._solutions and self._solve(np.zeros(len(self._low)), self._low, self._high) is None:
            return None
        for place in range(len(self._names)):
            if self._open(place):
                self._separate(place)
            if self._open(place):
                if not self._solutions:
                    raise UndecidedError("the search for other counts ended at its limit")
                return self._names[place]
        return ""

    def _collect(self) -> None:
        """Some solutions of all kinds: near the middle of all bands, small, large, and at random."""
        everything = slice(None)
        bounded = self._high < MANY
        middle = (self._low + self._high) / 2
        for reach in (1.0, 2.0, 4.0):
            low = np.where(bounded, np.maximum(self._low, np.floor(middle - reach)), self._low)
            high = np.where(bounded, np.minimum(self._high, np.ceil(middle + reach)), self._high)
            for _ in range(2):
                self._add(self._random.normal(size=len(middle)), low, high)
                if not self._open(everything):
                    return
        for objective in (np.ones(len(middle)), -np.ones(len(middle))):
            self._add(objective, self._low, self._high)
        for _ in range(WALKS):
            if not self._open(everything):
                return
            self._add(self._random.normal(size=len(middle)), self._low, self._high)

    def _separate(self, place: int) -> None:
        """Look for solutions in which this count is smaller or larger than in those that are there."""
        wanted = np.asarray(self._watched[[place]].todense()).ravel()
        # The published scores often leave room for one image more or less, and not for five.
        for start in self._solutions[:3]:
            for reach in NEAR:
                low, high = np.maximum(self._low, start - reach), np.minimum(self._high, start + reach)
                for step in (1.0, -1.0):
                    blur = self._random.normal(size=len(start))
                    self._add(blur, low, high, (wanted, float(wanted @ start) + step))
                    if not self._open(place):
                        return
        for start in self._solutions[:3]:
            for reach in NEAR:
                low, high = np.maximum(self._low, start - reach), np.minimum(self._high, start + reach)
                for sign in (1.0, -1.0):
                    # A random choice among equals: the same end of the count with other counts around it.
                    blur = self._random.uniform(-1e-3, 1e-3, size=len(start))
                    self._add(sign * wanted + blur, low, high)
                    if not self._open(place):
                        return
        for sign in (1.0, -1.0):
            self._add(sign * wanted, self._low, self._high)
            if not self._open(place):
                return

    def _add(
        self, objective: FloatArray, low: FloatArray, high: FloatArray, equal: tuple[FloatArray, float] | None = None
    ) -> None:
        extra = list(self._aims)
        if equal is not None:
            extra.append(LinearConstraint(equal[0][None, :], equal[1], equal[1]))
        try:
            solution = self._solve(objective, low, high, extra)
        except UndecidedError:
            return  # a search that ended without an answer adds nothing, so the count stays open
        if solution is not None and self._accepts(solution):
            self._solutions.append(solution)
            values = np.asarray(self._watched @ solution, dtype=np.float64)
            self._smallest = np.minimum(self._smallest, values)
            self._largest = np.maximum(self._largest, values)

    def _open(self, place: int | slice) -> bool:
        """Whether this count, or any of these, is still known and small, as far as solutions tell."""
        if not self._solutions:
            return True
        low, high = self._smallest[place], self._largest[place]
        return bool(np.any((low == high) & (np.abs(low) >= 1) & (np.abs(low) <= SMALL)))

    def _solve(
        self, objective: FloatArray, low: FloatArray, high: FloatArray, extra: Sequence[LinearConstraint] = ()
    ) -> FloatArray | None:
        """The solution with the least objective within these bounds, whole numbers; None where there is none."""
        constraints = [LinearConstraint(self._rows, self._least, self._most)] if len(self._least) else []
        constraints += extra
        found = milp(
            objective,
            integrality=np.ones(len(low)),
            bounds=Bounds(low, high),
            constraints=constraints,
            options={"node_limit": NODES},
        )
        if found.status == INFEASIBLE:
            return None
        if found.x is None:
            raise UndecidedError("the search for other counts ended at its limit")
        # What is whole, or fulfils a row, only within a tolerance is no set of images.
        solution: FloatArray = np.rint(found.x).astype(np.float64)
        value = self._rows @ solution
        inside = (solution >= low).all() and (solution <= high).all()
        if not (inside and (value >= self._least - 1e-6).all() and (value <= self._most + 1e-6).all()):
            raise UndecidedError("the search for other counts ended at its limit")
        return solution
