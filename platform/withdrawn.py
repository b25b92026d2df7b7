"""Images that sites have withdrawn: where a study's records are dealt out, these go into no part of any site.

A study whose roster was signed before a withdrawal has told everybody how many images, or patients, a site trains on.
That number stays for the study: if it fell, the roster would not be the signed one, and two sums would show whose
update changed. The images themselves are gone from training, validation and test all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..medical_datasets import pixels
from ..medical_datasets.cohort import Cohort, Picture
from ..medical_datasets.errors import UnreadableImageError
from ..privacy.errors import HomeError
from ..privacy.forgotten import FORGOTTEN_FILE, Forgotten
from .cohorts import Index, SitePlan, StudyPlan
from .config import Study
from .group_names import GroupNames, is_withdrawn

_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Records that are left out, as indices into the cohort's.

    Attributes:
        gone: withdrawn before the study was begun: they count nowhere.
        kept_in_number: withdrawn since: the roster counts those of the training part.
        notes: for people: site and number of images, no names.
    """

    gone: Index
    kept_in_number: Index
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> Index:
        """All of them."""
        return np.concatenate([self.gone, self.kept_in_number])

    def others(self, rows: Index) -> Index:
        """Those of ``rows`` that are not withdrawn."""
        return rows[~np.isin(rows, self.rows)]

    def counted(self, cohort: Cohort, rows: Index) -> NDArray[np.bool_]:
        """Which of a training part's rows, (n,) bool, are withdrawn and in the roster's number all the same.

        A picture that cannot be decoded was never in that number; whether it can is looked at, and nothing is kept.
        """
        return np.array([row in self.kept_in_number and _decodes(cohort, row) for row in rows], dtype=bool)


NOTHING = Withdrawn(_NONE, _NONE)


def withdrawn_records(homes: Path, plan: StudyPlan, study: Study) -> Withdrawn:
    """What the sites of a plan have withdrawn, by their homes.

    Args:
        homes: folder of the sites' homes; they need not be there.
        plan: who holds what.
        study: whose plan it is.

    Raises:
        HomeError: a list of withdrawn groups is damaged or gone; nothing may be trained then.
    """
    if not homes.is_dir():
        return NOTHING
    lists = {home.name: Forgotten.read(home) for home in sorted(homes.iterdir()) if home.is_dir()}
    lists = {name: known for name, known in lists.items() if known.withdrawals}
    if not lists:
        return NOTHING
    gone: list[int] = []
    kept: list[int] = []
    notes = []
    for site in plan.sites:
        if site.name in lists:
            here = _marked(lists[site.name], plan.cohort, site, study.digest())
            gone += [row for row, counted in here.items() if not counted]
            kept += [row for row, counted in here.items() if counted]
            if here:
                notes.append(f"{site.name}: {len(here)} images of withdrawn groups are left out")
    return Withdrawn(np.array(gone, dtype=np.int64), np.array(kept, dtype=np.int64), tuple(notes))


def withdrawn_of_site(home: Path, plan: StudyPlan, site: SitePlan, study: Study) -> Withdrawn:
    """What one site has withdrawn, by its own home.

    Raises:
        HomeError: its list of withdrawn groups is damaged or gone.
    """
    known = Forgotten.read(home)
    if not known.withdrawals:
        return NOTHING
    here = _marked(known, plan.cohort, site, study.digest())
    gone = np.array([row for row, counted in here.items() if not counted], dtype=np.int64)
    kept = np.array([row for row, counted in here.items() if counted], dtype=np.int64)
    notes = (f"{site.name}: {len(here)} images of withdrawn groups are left out",) if here else ()
    return Withdrawn(gone, kept, notes)


def check_left_out(home: Path, cohort: Cohort, rows: Index) -> None:
    """Refuse rows of a site, whatever they are for, if its home says that one of them was withdrawn.

    Raises:
        HomeError: one was, or the home's list is damaged or gone.
    """
    known = Forgotten.read(home)
    if not known.withdrawals:
        return
    names, groups = GroupNames(cohort), {cohort.records[row].group for row in rows}
    if any(is_withdrawn(names.of(group), known) for group in groups):
        raise HomeError(
            "images of a withdrawn group were about to be used",
            where=str(home / FORGOTTEN_FILE),
            remedy="Start again: withdrawn groups are left out when the data are read",
        )


def rows_of_site(site: SitePlan) -> Index:
    """All records of a site."""
    return np.concatenate([site.train, site.validation, site.test])


class RecordMarks:
    """By which marks a home's list of withdrawals may know the records of a cohort: all names, and the content.

    Args:
        known: the list; it has withdrawals.
        cohort: the records.
    """

    def __init__(self, known: Forgotten, cohort: Cohort) -> None:
        self._known, self._cohort, self._names = known, cohort, GroupNames(cohort)
        self._of_group: dict[str, list[str]] = {}

    def of(self, row: int) -> list[str]:
        """Those of one record; its file is read."""
        record = self._cohort.records[row]
        marks = self._of_group.get(record.group)
        if marks is None:
            marks = [self._known.group_mark(name) for name in self._names.of(record.group)]
            self._of_group[record.group] = marks
        content = content_of(record.image)
        return [*marks, self._known.image_mark(content)] if content else marks


def _marked(known: Forgotten, cohort: Cohort, site: SitePlan, study: str) -> dict[int, bool]:
    """The site's withdrawn records, and whether the study's roster counts them."""
    found = {}
    marks = RecordMarks(known, cohort)
    for row in rows_of_site(site).tolist():
        held = known.holding(*marks.of(row))
        if held:
            found[row] = all(study in each.counted for each in held)
    return found


def content_of(image: Picture) -> str:
    """What an image is known by, :func:`pixels.content_hash`; empty where it cannot be read."""
    try:
        return pixels.content_hash(image)
    except UnreadableImageError:
        return ""


def _decodes(cohort: Cohort, row: int) -> bool:
    try:
        pixels.read_rgb(cohort.records[row].image)
    except UnreadableImageError:
        return False
    return True
