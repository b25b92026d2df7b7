"""The in-process engine: carries sealed parcels between a coordinator and sites, in order, until none is left."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from ...privacy.egress import COORDINATOR, Sealed
from ..coordinator import Coordinator
from ..site_machine import Site

Tap = Callable[[str, str, bytes], None]
"""Sees (sender, receiver, exact bytes) of every parcel; for captures in tests and audits."""


def carry(
    coordinator: Coordinator, sites: Mapping[str, Site], parcels: Iterable[Sealed], tap: Tap | None = None
) -> None:
    """Deliver the coordinator's parcels, and everything that follows from them.

    Raises:
        TypeError: something other than a sealed parcel; only the egress gate makes those, so nothing else can travel.
        KeyError: a parcel for a site that is not there.
    """
    queue = deque((COORDINATOR, parcel) for parcel in parcels)
    while queue:
        sender, parcel = queue.popleft()
        if type(parcel) is not Sealed:
            raise TypeError(f"an engine carries sealed parcels only, not {type(parcel).__name__}")
        if tap is not None:
            tap(sender, parcel.peer, parcel.wire)
        if parcel.peer == COORDINATOR:
            queue.extend((COORDINATOR, answer) for answer in coordinator.handle(sender, parcel.wire))
        else:
            queue.extend((parcel.peer, answer) for answer in sites[parcel.peer].handle(parcel.wire))
