"""A check that fails by an error is a finding as well, and the others go on."""

from __future__ import annotations

from collections.abc import Callable

from ...medical_datasets.errors import DataError
from ...privacy.errors import PrivacyError
from ..doctor import Check
from ..errors import PlatformError


def guarded(name: str, check: Callable[[], Check], remedy: str) -> Check:
    """What a check finds.

    Args:
        name: of the check, for a finding that is an error. check: makes the finding.
        remedy: of an error that names none.
    """
    try:
        return check()
    except (PlatformError, PrivacyError, DataError) as error:
        found = f"{error.what} ({error.where})" if error.where else error.what
        return Check(name, False, found, error.remedy or remedy)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        return Check(name, False, f"{error.strerror or type(error).__name__}{place}", remedy)
    except (ImportError, RuntimeError) as error:
        return Check(name, False, f"{type(error).__name__}: {error}", "Install Wardround again in a new environment")
