"""Pooled: one adapter trained on all sites' pictures in one place, as if pictures could travel: the upper bound.

A simulation can do it; hospitals cannot, which is why there is a federation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .baseline import Baseline
from .method import Exchange


@dataclass(frozen=True, slots=True)
class Pooled(Baseline):
    """One adapter for all."""

    name: ClassVar[str] = "pooled"
    exchange: ClassVar[Exchange] = "pooled"
