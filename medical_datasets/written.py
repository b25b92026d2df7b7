"""What people write in tables and as names of folders: how identifiers, classes and paths are compared and shown."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Final

from .cohort import Dataset, normalise_name

_DRIVE: Final = re.compile(r"[A-Za-z]:(?:/|$)")
# What tells classes of one name apart: a number, a letter or a Roman number that stands alone.
_MARK: Final = re.compile(r"\d+|(?<![a-z])(?:[a-z]|[ivx]+)(?![a-z])")


def composed(text: str) -> str:
    """The text in Unicode's form NFC, because macOS writes file names in another one than tables have."""
    return unicodedata.normalize("NFC", text)


def same_id(written: str) -> str:
    """An identifier as it is compared: equal for spellings that differ in case, Unicode form and spaces only.

    Digits are kept as they are: ``007``, ``7`` and ``7.0`` are three identifiers.
    """
    if written.isascii():
        return " ".join(written.lower().split())
    folded = unicodedata.normalize("NFD", written).casefold()  # canonical caseless matching, Unicode 3.13, D145
    return " ".join(composed(folded).split())


def misspelt_class(name: str, dataset: Dataset, kept: Collection[int] | None = None) -> str | None:
    """The class that a name, which is none, is probably a misspelling of; None: it is the name of something else.

    Similarity is at least 0.8 after :func:`.cohort.normalise_name`. Names with other numbers, or other single letters
    or Roman numbers between their words, are other classes: ``grade_2`` and ``grade_3``, ``type A`` and ``type B``; so
    are names of which one holds the other and three letters more: ``non-melanoma`` and ``melanoma``.

    Args:
        name: as written.
        dataset: with the classes.
        kept: labels that count; None: all.
    """
    plain, marks = normalise_name(name), _marks(name)
    spellings = {
        normalise_name(spelling): label.name
        for index, label in enumerate(dataset.classes)
        if kept is None or index in kept
        for spelling in (label.name, *label.aliases)
        if _marks(spelling) == marks
    }
    alike = sorted(spelling for spelling in spellings if not _holds(plain, spelling) and not _holds(spelling, plain))
    near = difflib.get_close_matches(plain, alike, n=1, cutoff=0.8)
    return spellings[near[0]] if near else None


def _marks(name: str) -> list[str]:
    return _MARK.findall(composed(name).lower())


def _holds(long: str, short: str) -> bool:
    return short in long and len(long) - len(short) > 2


def path_below(written: str) -> PurePosixPath | None:
    """A path with either kind of slash, below the folder that it starts from; None: it is empty, absolute or leaves.

    Nothing is looked up, and links are not resolved.
    """
    plain = written.replace("\\", "/")
    path = PurePosixPath(plain)
    if not path.parts or path.is_absolute() or ".." in path.parts or _DRIVE.match(plain):
        return None
    return path


def quoted(text: str) -> str:
    """A text in quotes for a message: as ``repr``, control characters escaped, but with single backslashes."""
    return repr(text).replace("\\\\", "\\")
