"""Where a site's case review page lies, and how it goes: it holds patients' pictures, so it must be easy to remove."""

from __future__ import annotations

from pathlib import Path

from ..privacy.atomic import sync_folder
from .run_folder import RunFolder

CASES_FILE = "cases.html"


def cases_file(run: RunFolder, site: str) -> Path:
    """RUN/sites/<site>/cases.html."""
    return run.site(site) / CASES_FILE


def remove_cases(run: RunFolder, site: str) -> bool:
    """Remove the page, durably; whether there was one. A patient who withdraws may be on it.

    Raises:
        OSError: it cannot be removed.
    """
    path = cases_file(run, site)
    if not path.exists():
        return False
    path.unlink()
    sync_folder(path.parent)
    return True
