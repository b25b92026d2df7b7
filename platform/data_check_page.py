"""The page of ``wardround data check``: findings with small pictures. Local only: it shows patients and names files.

One file, readable by its owner alone. It loads nothing, runs nothing and sends nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..evaluation.cases.model import Picture
from ..evaluation.page_parts import plural
from ..evaluation.rendering import environment, style
from ..medical_datasets.errors import UnreadableImageError
from ..medical_datasets.pixels import IMAGE_SUFFIXES, read_rgb
from ..medical_datasets.quality.report import SEVERITIES, Entry, Problem
from ..privacy.atomic import write_atomic
from .case_pictures import small_picture
from .data_check import Checked
from .errors import PlatformError

LOCAL_ONLY: Final = "This page shows patients' pictures and file names. Do not send it on."
MADE_BY: Final = b'<meta name="generator" content="Wardround data check">'
"""In every page of this command, and in no other file that a person would miss."""
SHOWN: Final = 60  # entries of a finding that are shown with pictures
TOGETHER: Final = 4  # pictures of one entry that are shown
SIDE: Final = 96
TITLES: Final = {
    "blank-images": "Pictures that show nothing",
    "burned-in": "Text burned into the picture",
    "burned-in-unknown": "Perhaps text burned into the picture",
    "classes-not-named": "Classes are for the study to name",
    "colour-images": "Colour where there should be none",
    "device-confounded": "The device tells the class",
    "empty-class": "A class without a readable image",
    "exact-duplicates": "Stored more than once",
    "files-without-row": "Many files without a row in the table",
    "foreign-not-looked-for": "Foreign pictures were not looked for",
    "format-confounded": "Format or size tells the class",
    "grey-images": "Grey where there should be colour",
    "groups-across-sites": "One group at several sites",
    "groups-across-splits": "One group in several splits",
    "identifiers-in-files": "Identifying entries inside files",
    "identifiers-in-names": "Identifying names of files",
    "identifiers-in-tables": "Identifying columns",
    "ids-alike": "One identifier in several spellings",
    "imbalance": "Classes of unequal size",
    "layout": "Folders are not as expected",
    "lesion-of-two-patients": "A lesion of two patients",
    "missing-class": "A class without images",
    "near-duplicates-across-classes": "Alike, in different classes",
    "near-duplicates-across-sites": "Alike, at different sites",
    "near-duplicates-across-splits": "Alike, in different splits",
    "no-class-folder": "No class was recognised",
    "odd-aspect": "Very long or very tall",
    "odd-size": "Much larger or smaller than the rest",
    "other-files": "Left out",
    "same-image-two-classes": "One picture in two classes",
    "same-image-two-groups": "One picture of two patients or lesions",
    "site-confounded": "The site tells the class",
    "small-images": "Small pictures",
    "source-confounded": "The source tells the class",
    "table": "A table contradicts the folders",
    "tiny-class": "A class with few images",
    "unknown-class": "A folder or label that is no class",
    "unlike-the-rest": "Unlike the rest",
    "unreadable": "Cannot be read",
}
"""What each code is called on the page."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture of an entry; None: it cannot be read."""

    name: str
    picture: Picture | None


@dataclass(frozen=True, slots=True)
class Shots:
    """One entry with its pictures; ``more``: pictures of it that are not shown."""

    shots: tuple[Shot, ...]
    note: str
    more: int


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding as the page shows it."""

    title: str
    problem: Problem
    anchor: str
    shown: tuple[Shots, ...]
    listed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SourceView:
    """One checked folder as the page shows it; ``rows``: class name, counts by column, and all of them."""

    title: str
    about: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...], int], ...]
    totals: tuple[int, ...]
    findings: tuple[Finding, ...]


def check_target(path: Path) -> None:
    """Refuse, before anything is looked at, a name that cannot be written or would cost the reader a file.

    Raises:
        PlatformError: the folder is missing, or the name is that of a folder, a device or a file of another kind.
    """
    if not path.parent.is_dir():
        raise PlatformError("there is no such folder", where=str(path.parent), remedy="Make it, or give --html another")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PlatformError(
            "this user may not write to the folder", where=str(path.parent), remedy="Give --html another place"
        )
    if path.is_dir():
        raise PlatformError("this is a folder", where=str(path), remedy="Give --html the name of a file in it")
    if path.exists() and not path.is_file():
        raise PlatformError("this is no file but a device", where=str(path), remedy="Give --html the name of a file")
    if (path.exists() or path.is_symlink()) and not _is_ours(path):
        raise PlatformError(
            "this file exists and is no page of an earlier check; it is not written over",
            where=str(path),
            remedy="Give --html another name, or move the file away",
        )


def write_page(path: Path, checked: Sequence[Checked], title: str) -> None:
    """Write the page, whole or not at all, mode 0600.

    Raises:
        PlatformError: as :func:`check_target`; or it cannot be written, as on a full disk: nothing is left of it then.
    """
    check_target(path)
    page = check_page(checked, title).encode()
    try:
        write_atomic(path, page, mode=0o600)
    except OSError as problem:
        raise PlatformError(
            f"the page of {len(page):,} bytes cannot be written ({problem.strerror or type(problem).__name__})",
            where=str(path),
            remedy="Free some space, or give --html another place; what was found is printed without it",
        ) from problem


def check_page(checked: Sequence[Checked], title: str) -> str:
    """The page as HTML; the same files and findings give the same bytes.

    Args:
        checked: a source or several.
        title: what was checked, e.g. the folder's name.
    """
    problems = [problem for each in checked for problem in each.report.problems]
    images = sum(each.report.images for each in checked)
    readable = sum(each.report.readable for each in checked)
    leaks = [each.report.test_in_train for each in checked if each.report.test_in_train is not None]
    leak = (sum(pair[0] for pair in leaks), sum(pair[1] for pair in leaks))
    counts = {severity: sum(problem.severity == severity for problem in problems) for severity in SEVERITIES}
    tiles = [
        ("Images", f"{images:,}", "all readable" if readable == images else f"{images - readable:,} unreadable"),
        ("Groups", f"{sum(each.report.groups for each in checked):,}", "of related images"),
        ("Errors", f"{counts['error']:,}", "to mend before training"),
        ("Warnings", f"{counts['warning']:,}", "to look at"),
        *(
            [("Leaking", f"{leak[0]:,}", f"of {leak[1]:,} test images are like one outside the test part")]
            if leaks
            else []
        ),
    ]
    return (
        environment()
        .get_template("data_check.html.j2")
        .render(
            title=title,
            tiles=tiles,
            sources=[_view(each, at, alone=len(checked) == 1) for at, each in enumerate(checked)],
            synthetic=any(each.report.synthetic for each in checked),
            local_only=LOCAL_ONLY,
            generator=MADE_BY.decode(),
            words={"error": "Error", "warning": "Warning", "info": "Known"},
            style=style("report.css", "data_check.css"),
        )
    )


def _is_ours(path: Path) -> bool:
    with suppress(OSError):
        return MADE_BY in path.read_bytes()[:4096]
    return False


def _view(checked: Checked, at: int, *, alone: bool) -> SourceView:
    report = checked.report
    columns = tuple(sorted({part for counts in report.counts.values() for part in counts}))
    rows = tuple(
        (name, tuple(counts.get(column, 0) for column in columns), sum(counts.values()))
        for name, counts in report.counts.items()
    )
    thumbnails = _Thumbnails(checked)
    return SourceView(
        title=checked.listing.dataset.title if alone else report.name,
        about=f"{report.dataset} · {plural(report.images, 'image')} · {checked.listing.root}",
        columns=columns,
        rows=rows,
        totals=tuple(sum(row[1][k] for row in rows) for k in range(len(columns))),
        findings=tuple(
            _finding(problem, f"f{at}-{number}", thumbnails) for number, problem in enumerate(report.problems)
        ),
    )


def _finding(problem: Problem, anchor: str, thumbnails: _Thumbnails) -> Finding:
    pictured = [entry for entry in problem.entries if thumbnails.has(entry)]
    shown = pictured[:SHOWN]
    left = [entry for entry in problem.entries if not thumbnails.has(entry)] + pictured[SHOWN:]
    return Finding(
        title=TITLES[problem.code],
        problem=problem,
        anchor=anchor,
        shown=tuple(thumbnails.of(entry) for entry in shown),
        listed=tuple(entry.line for entry in left),
    )


class _Thumbnails:
    """Small pictures of a source's images, each made once."""

    def __init__(self, checked: Checked) -> None:
        self._root = checked.listing.root
        self._items = {item.name: item for item in checked.listing.items}
        self._made: dict[str, Picture | None] = {}

    def has(self, entry: Entry) -> bool:
        """Whether any image of the entry is a picture, or should be one."""
        return any(name in self._items or Path(name).suffix.lower() in IMAGE_SUFFIXES for name in entry.images)

    def of(self, entry: Entry) -> Shots:
        """The first few pictures of an entry."""
        return Shots(tuple(self._shots(entry)), entry.note, len(entry.images) - TOGETHER)

    def _shots(self, entry: Entry) -> Iterator[Shot]:
        for name in entry.images[:TOGETHER]:
            if name not in self._made:
                self._made[name] = self._picture(name)
            yield Shot(name, self._made[name])

    def _picture(self, name: str) -> Picture | None:
        # Images of folders that are no class are in no list of items.
        item = self._items.get(name)
        try:
            return small_picture(read_rgb(item.image(self._root) if item else self._root / name), SIDE)
        except UnreadableImageError:
            return None
