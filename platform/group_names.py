"""By which names a group of images may be met: what one study calls a patient, another may call otherwise.

A withdrawal is kept as marks of names, and must be found again when the same data are read in another way: joined with
others or alone, with ``patient`` or ``patient_id`` as the column, as a table or as DICOM files, which give a digest of
the identifier, and whatever is found to belong together then. So a group has all of these names at once.

A home is one site's, so equal identifiers in a home are taken for one patient, whichever source they come from. That
may leave out too much, where two sources at one site count their patients alike; too little would train on somebody
who withdrew.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from ..medical_datasets.cohort import Cohort, ImageRef
from ..medical_datasets.errors import UnreadableImageError
from ..medical_datasets.grouping import PATIENT_COLUMNS
from ..privacy.forgotten import Forgotten
from .errors import PlatformError

_DIGEST: Final = re.compile(r"[0-9a-f]{32}")
_ISSUED_BY: Final = "^^^"


class UnknownGroupError(PlatformError):
    """The site's data have no such group, or it cannot be told which one is meant.

    Attributes:
        near: names of groups that are like it. They name patients: for the local terminal only, in no log.
    """

    def __init__(
        self,
        study: str,
        near: tuple[str, ...],
        what: str = "the study's data at this site have no such group",
        remedy: str = "Give the group as the data's table names it, with its prefix (patient_id:…, lesion_id:…); of "
        "DICOM files patient_id: and the identifier in them, with its issuer as in patient_id:17^^^ISSUER if the files "
        "are gone",
    ) -> None:
        self.near = near
        super().__init__(what, where=study, remedy=remedy)


class GroupNames:
    """The names of a cohort's groups, by group.

    Args:
        cohort: whose groups they are.
    """

    def __init__(self, cohort: Cohort) -> None:
        self._aliases = cohort.aliases
        spaces = {space for each in cohort.records for space in (each.subgroups.get("source"), each.site)}
        self._spaces = frozenset(space for space in spaces if space)
        self._known: dict[str, frozenset[str]] = {}

    def of(self, group: str) -> frozenset[str]:
        """Its name and every alias, each also without the source or site before the identifier, with both columns of
        patients, and with the digest that DICOM files would have of the identifier."""
        found = self._known.get(group)
        if found is None:
            every = self._aliases.get(group, (group,))
            # The source of an alias may have no image of its own left; in a joined cohort each name has one before it.
            joined = any(_space(name) in self._spaces for name in every)
            spaces = self._spaces.union(map(_space, every)) if joined else self._spaces
            found = self._known[group] = frozenset(
                spelling for name in (group, *every) for spelling in spellings(name, spaces)
            )
        return found

    def said(self, named: str, sources: Collection[str] = ()) -> frozenset[str]:
        """The same of what a person wrote, who may name any of a study's sources."""
        return self.of(named) | spellings(named, self._spaces.union(sources))

    def several(self, group: str) -> bool:
        """Whether the group joins images of several names, which cannot be told apart."""
        return len(self._aliases.get(group, ())) > 1

    def together(self, found: Iterable[str], groups: Iterable[str]) -> tuple[str, ...]:
        """Those of ``groups`` that have a name in common with one of ``found``, directly or in chains; rising."""
        left, reached, names = set(groups), set(found), set[str]()
        while reached:
            left -= reached
            names.update(*map(self.of, reached))
            reached = {group for group in left if not names.isdisjoint(self.of(group))}
        return tuple(sorted(set(groups) - left))


def names_of(cohort: Cohort, group: str) -> tuple[str, ...]:
    """All names of one group, rising; of many groups ask :class:`GroupNames`."""
    return tuple(sorted(GroupNames(cohort).of(group)))


def spellings(name: str, spaces: Collection[str]) -> frozenset[str]:
    """One name in all ways in which studies write it.

    Args:
        name: ``column:identifier`` or ``column:SPACE/identifier``; a name of another form stays alone.
        spaces: names of sources and sites.
    """
    column, _, value = name.partition(":")
    if not value:
        return frozenset({name})
    space = _space(name)
    values = {value, value.removeprefix(f"{space}/")} - {""} if space and space in spaces else {value}
    if column not in PATIENT_COLUMNS:
        return frozenset(f"{column}:{each}" for each in values)
    from ..medical_datasets.readers.dicom import patient_group

    for each in tuple(values):
        if not _DIGEST.fullmatch(each):
            identifier, _, issuer = each.partition(_ISSUED_BY)
            values.add(patient_group(identifier, issuer).partition(":")[2])
    return frozenset(f"{column}:{each}" for column in PATIENT_COLUMNS for each in values)


def meant_groups(
    named: str, groups: Mapping[str, Sequence[ImageRef]], names: GroupNames, sources: Collection[str], where: str
) -> tuple[str, ...]:
    """All groups that a person means: by a name of theirs, or by a patient's identifier, of which DICOM gives a digest.

    ``patient_id:17`` stands for the patient of that identifier at the site, in whichever sources, and whoever issued
    it; ``patient_id:17^^^ISSUER`` is asked for where several issuers have one. What has a name in common with any of
    them goes with them, for it could not be told apart later.

    Args:
        named: as the person wrote it.
        groups: those at the site, each with its images.
        names: of the cohort's groups.
        sources: names of the sources of a joined study, and of the sites that they are of.
        where: the study's file, for messages.

    Returns:
        The groups, rising; empty where there is none.

    Raises:
        UnknownGroupError: several issuers have given the identifier to patients of this site.
    """
    said = names.said(named, sources)
    found = {group for group in groups if not said.isdisjoint(names.of(group))}
    column, _, value = named.partition(":")
    if column in PATIENT_COLUMNS and value and _ISSUED_BY not in value and not _DIGEST.fullmatch(value):
        # Without issuers all are found by name already; with them, the files say whose number it is.
        issued: dict[str, set[str]] = {}
        for group, images in groups.items():
            for image in images if names.several(group) else images[:1]:
                alone, whole = _patient_in(image)
                if alone in said and whole != alone:
                    issued.setdefault(whole, set()).add(group)
        if len(issued) > 1:
            near = sorted(set().union(*issued.values()))
            raise UnknownGroupError(
                where,
                tuple(near),
                f"{len(issued)} issuers have given this identifier to patients at this site",
                "Add the issuer of the identifier, as in patient_id:17^^^ISSUER, or give the group's full name",
            )
        found.update(*issued.values())
    return names.together(found, groups)


def is_withdrawn(names: Iterable[str], forgotten: Forgotten) -> bool:
    """Whether a home has withdrawn a group of any of these names."""
    return bool(forgotten.withdrawals) and bool(forgotten.holding(*map(forgotten.group_mark, names)))


def _space(name: str) -> str:
    """What stands before the identifier, a source or a site; empty: nothing."""
    space, slash, _ = name.partition(":")[2].partition("/")
    return space if slash else ""


def _patient_in(image: ImageRef) -> tuple[str, str]:
    """The groups of the identifier in a DICOM file, without its issuer and with it; empty: none, or another file."""
    from ..medical_datasets.readers.dicom import facts, is_dicom

    try:
        found = facts(image.path) if is_dicom(image.path) else None
    except UnreadableImageError:
        found = None
    return (found.patient, found.group or "") if found is not None else ("", "")
