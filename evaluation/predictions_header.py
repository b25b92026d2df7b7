"""The first line of a predictions file: which column is what, and what separates columns."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from .errors import InvalidPredictionsError

LABEL: Final = "label"
PREFIX: Final = "prob_"
GROUP: Final = "group"
SITE: Final = "site"
SPLIT: Final = "split"
DELIMITERS: Final = ",;\t"
SHOWN = 12
LONGEST = 60
LONGEST_CLASS = 100
"""Characters of a class's name, which every table of a report has to hold."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each part of a row stands; numbers count columns from 0.

    Attributes:
        names: of all columns, without spaces around them. delimiter: one of :data:`DELIMITERS`.
        label: the true class. probabilities: one a class, in the order of the header. classes: their names.
        group: patient, lesion or cluster; None where every image is its own. site, split: None where there is none.
        subgroups: as asked for.
    """

    names: tuple[str, ...]
    delimiter: str
    label: int
    probabilities: tuple[int, ...]
    classes: tuple[str, ...]
    group: int | None
    site: int | None
    split: int | None
    subgroups: tuple[int, ...]

    @property
    def unused(self) -> tuple[str, ...]:
        """Named columns that nothing is made of."""
        used = {self.label, *self.probabilities, self.group, self.site, self.split, *self.subgroups}
        return tuple(name for index, name in enumerate(self.names) if index not in used and name)


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The one of ``names`` that is most like ``name``, upper and lower case being the same; None if none is like it."""
    spellings: dict[str, str] = {}
    for known in names:
        spellings.setdefault(known.casefold(), known)
    near = difflib.get_close_matches(name.casefold(), spellings, n=1, cutoff=cutoff)
    return spellings[near[0]] if near else None


def shown(text: str) -> str:
    """A cell in quotation marks for a message: not too long for one, and nothing that a terminal would obey."""
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return f"'{''.join(c if c.isprintable() else c.encode('unicode_escape').decode('ascii') for c in text)}'"


def listed(names: Sequence[str]) -> str:
    """Names with commas between them, not more than a message can hold."""
    named = [shown(name)[1:-1] for name in names if name]
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    return (", ".join(named[:SHOWN]) or "none") + more


def read_header(line: str, *, where: str, groups: str | None, subgroups: Sequence[str]) -> Layout:
    """The layout that the first line describes.

    The delimiter is the one of comma, semicolon and tab that finds a column ``label``, then the most ``prob_`` columns,
    then the most columns; a comma where they are equal.

    Args:
        line: without byte-order mark. where: the file, for messages.
        groups: the column of groups; None for ``group`` where there is such a column.
        subgroups: columns to report by value.

    Raises:
        InvalidPredictionsError: no label column, fewer than two ``prob_`` columns, a name twice, or a wanted column
            that is missing, wanted twice, or has another use.
    """
    where = f"{where}, line 1"
    if line.strip().casefold().startswith("sep=") and len(line.strip()) <= len("sep=;"):
        raise InvalidPredictionsError(
            "the first line names a separator for a spreadsheet, and is no header",
            where=where,
            remedy="Remove that line",
        )
    names, delimiter = _split(line, where)
    place: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in place and name:
            raise InvalidPredictionsError(
                f"the column {shown(name)} stands twice in the header, as column {place[name] + 1} and {index + 1}",
                where=f"{where}, column {shown(name)}",
                remedy="Rename or remove one of them",
            )
        place[name] = index
    if LABEL not in place:
        raise InvalidPredictionsError(
            f"there is no column '{LABEL}'; the columns are {listed(names)}",
            where=where,
            remedy=_rename(LABEL, (name for name in names if not name.startswith(PREFIX)))
            or f"Name the column of the true class '{LABEL}'",
        )
    probabilities = tuple(index for index, name in enumerate(names) if name.startswith(PREFIX))
    classes = tuple(names[index][len(PREFIX) :].strip() for index in probabilities)
    _check_classes(classes, names, where)
    taken = {
        LABEL: "holds the true class",
        SPLIT: "says which part of the data a row is of",
        **{names[index]: "holds probabilities" for index in probabilities},
    }
    group = _wanted(groups, "--groups", place, taken, where) if groups is not None else place.get(GROUP)
    if group is not None:
        taken[names[group]] = "holds the groups"
    taken.setdefault(SITE, "holds the sites, which are reported without being asked for")
    chosen: list[int] = []
    for name in subgroups:
        chosen.append(_wanted(name, "--subgroups", place, taken, where))
        taken[name.strip()] = "is asked for twice"
    site = place.get(SITE)
    return Layout(
        names=names,
        delimiter=delimiter,
        label=place[LABEL],
        probabilities=probabilities,
        classes=classes,
        group=group,
        site=None if site == group else site,
        split=place.get(SPLIT),
        subgroups=tuple(chosen),
    )


def _split(line: str, where: str) -> tuple[tuple[str, ...], str]:
    if not line.strip():
        raise InvalidPredictionsError(
            "the first line is empty", where=where, remedy=f"Begin the file with a header: {LABEL},{PREFIX}CLASS,…"
        )
    best: tuple[tuple[bool, int, int], tuple[str, ...], str] | None = None
    for delimiter in DELIMITERS if line.count('"') % 2 == 0 else "":
        try:
            cells = next(csv.reader([line], delimiter=delimiter, strict=True))
        except csv.Error:
            continue  # another delimiter may fit; if none does, the error below says so
        names = tuple(cell.strip() for cell in cells)
        fit = (LABEL in names, sum(name.startswith(PREFIX) for name in names), len(names))
        if best is None or fit > best[0]:
            best = (fit, names, delimiter)
    if best is None:
        raise InvalidPredictionsError(
            "the header is not one line of CSV: a quotation mark is not closed, or stands within a cell",
            where=where,
            remedy="Export it again as CSV in UTF-8, with the names of the columns on one line",
        )
    return best[1], best[2]


def _rename(name: str, names: Iterable[str]) -> str:
    near = nearest(name, names)
    return f"Rename the column {shown(near)} to {shown(name)}" if near else ""


def _check_classes(classes: Sequence[str], names: Sequence[str], where: str) -> None:
    if not classes:
        odd = next((name for name in names if name.casefold().startswith(("prob", "p_"))), None)
        hint = f"Rename columns such as {shown(odd)}" if odd else "Add a column of probabilities for every class"
        raise InvalidPredictionsError(
            f"there is no column of probabilities; the columns are {listed(names)}",
            where=where,
            remedy=f"{hint}: the name is '{PREFIX}' and then the class as column '{LABEL}' writes it",
        )
    if len(classes) == 1:
        raise InvalidPredictionsError(
            f"there is one column of probabilities, {shown(PREFIX + classes[0])}; a model has two classes at least",
            where=where,
            remedy=f"Add the other class: of a model with one output p, '{PREFIX}' and its name, holding 1 - p",
        )
    for name in classes:
        if len(name) > LONGEST_CLASS:
            raise InvalidPredictionsError(
                f"the class {shown(name)} has a name of {len(name)} characters, more than {LONGEST_CLASS}",
                where=f"{where}, column {shown(PREFIX + name)}",
                remedy="Give it a short name; reports print it in every table",
            )
        if not name:
            raise InvalidPredictionsError(
                f"a column is named '{PREFIX}' without a class",
                where=f"{where}, column '{PREFIX}'",
                remedy="Write the class behind it",
            )
        if classes.count(name) > 1:  # 'prob_a' and 'prob_ a'
            raise InvalidPredictionsError(
                f"the class {shown(name)} has two columns of probabilities",
                where=f"{where}, column {shown(PREFIX + name)}",
                remedy="Rename or remove one of them",
            )


def _wanted(name: str, option: str, place: dict[str, int], taken: dict[str, str], where: str) -> int:
    name = name.strip()
    if not name or name not in place:
        near = nearest(name, (known for known in place if known not in taken and known))
        raise InvalidPredictionsError(
            f"{option}: there is no column {shown(name)}",
            where=where,
            remedy=f"Did you mean {shown(near)}?" if near else f"The columns are {listed(tuple(place))}",
        )
    if name in taken:
        raise InvalidPredictionsError(
            f"{option}: the column {shown(name)} {taken[name]}",
            where=f"{where}, column {shown(name)}",
            remedy="Leave it out, or name another column",
        )
    return place[name]
