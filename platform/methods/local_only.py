"""Local only: each site trains an adapter on its own pictures and never exchanges anything: the lower bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .baseline import Baseline
from .method import Exchange


@dataclass(frozen=True, slots=True)
class LocalOnly(Baseline):
    """One adapter a site."""

    name: ClassVar[str] = "local-only"
    exchange: ClassVar[Exchange] = "alone"
