"""Findings on what identifies a patient beside the pixels: names of files, columns of tables, entries inside files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from .looks import Look
from .personal_text import in_column, in_names
from .report import Entry, Problem, finding, images


def identifier_problems(looks: Sequence[Look], names: Sequence[str], columns: Sequence[str]) -> Iterator[Problem]:
    """What may identify patients, by kind; values are never reported, but for names of files.

    Args:
        looks: readable images, with what their files say beside the pixels.
        names: of all images, readable or not.
        columns: of the tables, in lower case.
    """
    named = [Entry((name,), kinds) for name, kinds in zip(names, in_names(names), strict=True) if kinds]
    if named:
        message = (
            "with a name that may identify a patient; names stay on this machine, "
            "but rename files and folders before anybody else gets them"
        )
        yield finding("warning", "identifiers-in-names", "image", message, named)
    found = [Entry(note=f"{column}: {kind}") for column in columns if (kind := in_column(column))]
    if found:
        message = "of a table whose name says that it identifies patients; Wardround needs none: remove it"
        yield finding("warning", "identifiers-in-tables", "column", message, found)
    inside = [Entry((look.name,), ", ".join(look.tags.kinds)) for look in looks if look.tags.kinds]
    if inside:
        kinds = Counter(kind for look in looks for kind in dict.fromkeys(look.tags.kinds))
        told = ", ".join(f"{kind} in {count:,}" for kind, count in kinds.most_common())
        message = (
            f"with entries that identify a person, a device or a place ({told}); entries go no further than the "
            "reader, but remove them before anybody else gets the files"
        )
        yield finding("warning", "identifiers-in-files", "file", message, inside)
    burned = [look.name for look in looks if look.tags.burned_in == "yes"]
    if burned:
        message = "said to have text burned into the picture; look at each before a study takes it"
        yield finding("warning", "burned-in", "image", message, images(burned))
    unsaid = [look.name for look in looks if look.tags.burned_in == "unsaid"]
    if unsaid:
        message = (
            "captured from a screen or processed, and silent about text burned into the picture; look at them, "
            "a patient's name may stand there"
        )
        yield finding("warning", "burned-in-unknown", "image", message, images(unsaid))
