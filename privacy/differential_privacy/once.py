"""A release that is made once: whoever asks again, also after a crash, gets the same bytes and no fresh noise."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from ..atomic import write_atomic
from ..errors import BudgetError
from .budget import Budget
from .budget_file import VOID
from .releases import Release, Unit


def released_once(
    budget: Budget,
    path: Path,
    *,
    study: str,
    key: str,
    release: Release,
    unit: Unit,
    limit: tuple[float, float],
    make: Callable[[], bytes],
) -> bytes:
    """Charge, compute, store and seal; or read back what was sealed.

    What a killed process stored but did not seal was never returned, so it is computed again, with fresh randomness and
    under the same charge. What is sealed is never computed again: a second result beside the first would tell an
    observer more than was paid for. A computation that fails is a result too, because whoever asked for it sees that it
    failed: it is sealed as void, and nothing else is made for that charge.

    Args:
        budget: the site's.
        path: where the result is kept; its folder exists, and nothing else is kept under this name.
        study, key, release, unit, limit: as `Budget.charge`.
        make: computes the result. It must draw fresh randomness each time, and nothing of what it computes may leave
            but through the bytes that it returns.

    Returns:
        The result; the same bytes for ever.

    Raises:
        BudgetError: as `Budget.charge` and `Budget.seal`; the result cannot be stored; a sealed one is gone or changed;
            the computation failed before.
        Exception: whatever ``make`` raises; the release is void then.
    """
    budget.charge(study, key, release, unit=unit, limit=limit)
    sealed = budget.sealed(study, key)
    if sealed is None:
        path.unlink(missing_ok=True)  # what a killed process left unsealed must not be taken for a result
        try:
            data = make()
        except (OSError, MemoryError):  # the machine's failures say nothing of its data
            raise
        except Exception:
            budget.seal(study, key, VOID)
            raise
        try:
            write_atomic(path, data)
        except OSError as error:
            raise BudgetError(
                f"the result of {key} cannot be stored: {error.strerror}",
                where=str(path),
                remedy="Nothing of it has left; once the disk takes it, the same charge covers another attempt.",
            ) from None
        budget.seal(study, key, hashlib.sha256(data).hexdigest())
        return data
    if sealed == VOID:
        raise BudgetError(
            f"{key} failed when it was computed, and is not computed again",
            where=str(path),
            remedy="The site goes on with the next round; its budget keeps the charge.",
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _lost(key, path, f"cannot be read: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != sealed:
        raise _lost(key, path, "is not the one that was sealed")
    return data


def _lost(key: str, path: Path, what: str) -> BudgetError:
    return BudgetError(
        f"the result of {key} {what}",
        where=str(path),
        remedy="Restore it from a backup. It cannot be computed again: that would be a second release.",
    )
