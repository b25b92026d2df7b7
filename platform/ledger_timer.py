"""How long ledgers take within something larger: entries, syncs, receipts, batches, cosignatures, commitments."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

from ..privacy.egress_entries import Scribe
from ..privacy.ledger.coordinator_witness import CoordinatorWitness
from ..privacy.ledger.log import Ledger
from ..privacy.ledger.site_witness import SiteWitness

TIMED: tuple[tuple[type, tuple[str, ...]], ...] = (
    (Ledger, ("append", "append_key", "sync")),
    (Scribe, ("digest", "sent", "received", "refused", "failed")),
    (SiteWitness, ("receipt", "cosign", "keep")),
    (CoordinatorWitness, ("take", "batch", "cosigned")),
)


@dataclass
class LedgerTimer:
    """Seconds spent in what is timed; what calls another of it counts once."""

    seconds: float = 0.0
    _depth: int = 0

    def wrap(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        """A function that adds its time."""

        @wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began, self._depth = time.perf_counter(), self._depth + 1
            try:
                return inner(*args, **kwargs)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.perf_counter() - began

        return timed


@contextmanager
def timed_ledgers() -> Iterator[LedgerTimer]:
    """Time every ledger of this process; for benchmarks alone."""
    timer = LedgerTimer()
    before = [(kind, name, getattr(kind, name)) for kind, names in TIMED for name in names]
    try:
        for kind, name, inner in before:
            setattr(kind, name, timer.wrap(inner))
        yield timer
    finally:
        for kind, name, inner in before:
            setattr(kind, name, inner)
