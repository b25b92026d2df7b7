"""What the gate asks a site's privacy budget before a masked vector leaves."""

from __future__ import annotations

from typing import Any, Protocol

from .errors import EgressRefusedError
from .secure_aggregation.session import SessionId

RULE = "budget.unaccounted"


class Accounted(Protocol):
    """The part of `differential_privacy.budget.Budget` that the gate needs.

    A protocol, so that a site without differential privacy loads no accountant.
    """

    def covers(self, study: str, key: str) -> bool:
        """Whether this release was charged and its one result fixed."""

    def statement(self, study: str, key: str) -> dict[str, Any]:
        """What the ledger says about the release and the study so far; has ``epsilon`` and ``delta``."""


def key_of(session: SessionId) -> str | None:
    """Name in the privacy budget of what a site gives into this sum, ``round-N``; None where it has none.

    A retry of a round masks the same update again, so all attempts have one name. A second update in one round would
    be another release, and no other purpose carries anything of a private study: nobody charged for those.
    """
    return f"round-{session.round}" if session.purpose == "update" and session.sequence == 0 else None


def check_accounted(budget: Accounted | None, session: SessionId, *, epsilon: float, delta: float | None) -> None:
    """Refuse a masked vector of a private study that the site's budget does not cover.

    Masks hide what a site sends, so no gate can see whether noise is in it; it can ask whether the release was charged.

    Args:
        budget: the site's; None covers nothing.
        session: the sum that the vector is for.
        epsilon, delta: the study's own limit.

    Raises:
        EgressRefusedError: rule ``budget.unaccounted``.
    """
    study, key = session.study.hex(), key_of(session)
    if budget is None or key is None:
        raise _unaccounted(f"nothing was charged to a privacy budget for {session}")
    if not budget.covers(study, key):
        raise _unaccounted(f"{key} was not charged to the privacy budget and its result fixed there")
    spent = budget.statement(study, key)
    for name, value, limit in (("epsilon", spent["epsilon"], epsilon), ("delta", spent["delta"], delta)):
        if limit is None or not value <= limit:
            raise _unaccounted(f"the study has spent {name} {value}, its limit is {limit}")


def _unaccounted(what: str) -> EgressRefusedError:
    remedy = "Charge the release and seal its result before it is masked; nothing else of a private study leaves."
    return EgressRefusedError(what, rule=RULE, remedy=remedy)
