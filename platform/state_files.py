"""Small state files of a site: read strictly, because starting from nothing could mean signing or sending twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import CheckpointError


def read_state(path: Path) -> dict[str, Any]:
    """A small state file; empty when it was never written.

    Raises:
        CheckpointError: it is damaged. Starting from nothing instead could sign a second survivor set.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise damaged(path)
    return content


def damaged(path: Path) -> CheckpointError:
    """The error for a state file that is gone or cannot be read."""
    return CheckpointError(
        "the site's state is damaged",
        where=str(path),
        remedy="Start a new study: an older copy would forget what this site has signed",
    )
