"""Errors in words that may be kept and shown: no path, no file's name, nothing quoted, no number of a patient."""

from __future__ import annotations

import os
import re
from collections.abc import Collection

from ...privacy.errors import PrivacyError
from ..errors import PlatformError

LONGEST = 240
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|‘[^’]*’|“[^”]*”|«[^»]*»")
_PATH = re.compile(r"\S*[/\\]\S*|\S+\.(?=\S*[A-Za-z])[A-Za-z0-9]{1,12}\b")
_LONG = re.compile(r"\b(?=\w*\d)\w*[\d_-][\w-]{4,}\b")
_COMMAND = re.compile(r"--[a-z-]+")
WITHHELD = "(…)"
ADMINISTRATIVE = frozenset(
    {
        "BudgetError",
        "CertificateError",
        "CheckpointError",
        "CourierError",
        "EgressRefusedError",
        "EnrolmentError",
        "FlareProcessError",
        "HomeError",
        "KeyStoreError",
        "KitError",
        "LedgerError",
        "MetricsError",
        "PolicyError",
        "RelayError",
        "RosterError",
        "RoundError",
        "RunFolderError",
        "RunningError",
        "ServiceError",
        "StatusError",
    }
)
"""Errors about keys, documents, processes and rounds; all others can be about a picture, a table or its groups."""


def scrubbed(text: str, known: Collection[str] = ()) -> str:
    """One line of words, with whatever could name a patient or a place taken out.

    What is taken out: quoted texts, paths and names of files, and words of five characters or more with a digit.

    Args:
        text: an error's own words.
        known: names that may stay, such as the sites'.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = _QUOTED.sub(lambda found: found[0] if found[0][1:-1] in known else WITHHELD, line)
    kept = [word if _core(word) in known else _without_names(word) for word in line.split(" ")]
    shown = re.sub(r"(\(…\)[ ,;]*){2,}", f"{WITHHELD} ", " ".join(kept)).strip()
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"


def words_of(error: BaseException, known: Collection[str] = ()) -> str:
    """What went wrong, in words that may be kept; of errors that can be about patients' files only what kind it is.

    Args:
        error: as it was raised. known: names that may stay.
    """
    kind = type(error).__name__
    if kind in ADMINISTRATIVE and isinstance(error, PlatformError | PrivacyError):
        return scrubbed(error.what, known)
    if isinstance(error, OSError):
        return f"the system says: {os.strerror(error.errno) if error.errno else kind}"
    return f"{kind}: its words may be about data; they are in the output of the process, and not kept here"


def _core(word: str) -> str:
    return word.strip(",.;:()[]'\"")


def _without_names(word: str) -> str:
    if _COMMAND.fullmatch(word):
        return word
    end = word[len(word.rstrip(",.;:")) :]
    body = word[: len(word) - len(end)]
    if _PATH.fullmatch(body) or _LONG.search(body):
        return WITHHELD + end
    return word
