"""A study's split as a file: made from a plan, found again, and extended when images were added.

The file names groups by marks (see :mod:`..medical_datasets.split_record`), so it is pseudonymous patient data and
stays where the images are. Each site keeps its own part in its state; that part's SHA-256 stands in the ledger's entry
that opens the study.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..medical_datasets.cohort import Cohort, Dataset
from ..medical_datasets.errors import SplitError
from ..medical_datasets.split_file import read_split, write_split
from ..medical_datasets.split_record import NO_ALIASES, REFERENCE, SIDES, Aliases, SplitRecord
from ..medical_datasets.splits import Split, split_by_group, split_of_sides
from ..medical_datasets.stable_splits import extend_split, stable_split
from ..privacy.errors import HomeError
from .config import Study

Index = NDArray[np.int64]
SPLIT_FILE: Final = "split.json"
"""A site's own part of the split, in its state of a study."""
NOTHING_SHARED: Final[Mapping[str, int]] = MappingProxyType({})


def known_split(study: Study, dataset: Dataset) -> SplitRecord | None:
    """The split that the study names, or None.

    Raises:
        SplitError: it cannot be read, or is of other data or classes.
    """
    if not study.data.split_file:
        return None
    return read_split(Path(study.data.split_file), dataset=dataset.key, classes=dataset.class_names)


def rule_of(study: Study) -> Callable[[Index, Sequence[str], tuple[float, float, float], int], Split]:
    """The study's rule: (labels, groups, fractions, seed) -> split."""
    return stable_split if study.data.rule == "stable" else split_by_group


def split_site(
    study: Study,
    name: str,
    labels: Index,
    groups: Sequence[str],
    seed: int,
    known: SplitRecord | None = None,
    *,
    aliases: Aliases = NO_ALIASES,
    shared: Mapping[str, int] = NOTHING_SHARED,
) -> Split:
    """Divide one site's records: groups that a former split knows keep their sides.

    Args:
        study: gives the fractions and the rule.
        name: the site.
        labels, groups: of its records.
        seed: of the rule.
        known: the former split, or None.
        aliases: names of groups that have several.
        shared: sides of groups that other sites have as well, from :func:`shared_sides`.

    Raises:
        SplitError: there are too few groups; it names the site.
    """
    former = known.known_sides(name, groups, aliases) if known is not None and name in known.sites else {}
    fixed = {group: shared[group] for group in dict.fromkeys(groups) if group in shared} | former
    rest = np.array([group not in fixed for group in groups], dtype=bool)
    try:
        if not fixed:
            return rule_of(study)(labels, groups, study.data.split, seed)
        own = list(itertools.compress(groups, rest.tolist()))
        if former or len(set(own)) < len(SIDES):
            return extend_split(labels, groups, fixed, study.data.split, seed)
        part = rule_of(study)(labels[rest], own, study.data.split, seed)
    except SplitError as error:
        raise SplitError(error.what, where=f"site '{name}'", remedy=error.remedy) from None
    sides = np.array([fixed.get(group, -1) for group in groups], dtype=np.int64)
    rows = np.flatnonzero(rest)
    for side, indices in enumerate((part.train, part.validation, part.test)):
        sides[rows[indices]] = side
    return split_of_sides(sides)


def shared_sides(
    study: Study,
    labels: Index,
    groups: Sequence[str],
    sites: Sequence[str],
    seed: int,
    known: SplitRecord | None = None,
    aliases: Aliases = NO_ALIASES,
) -> dict[str, int]:
    """One side for each group that the data give to several training sites: what one trains on, none tests on.

    A simulation can see that a patient is at two hospitals; hospitals that may not compare patients cannot.

    Args:
        study: gives the fractions and the rule.
        labels, groups, sites: of every record at a training site.
        seed: of the rule.
        known, aliases: as in :func:`split_site`.
    """
    places: dict[str, set[str]] = defaultdict(set)
    for group, site in zip(groups, sites, strict=True):
        places[group].add(site)
    several = {group for group, found in places.items() if len(found) > 1}
    sides: dict[str, int] = {}
    for name in sorted(known.sites) if known is not None else ():
        sides = (known.known_sides(name, several, aliases) if known is not None else {}) | sides
    new = np.array([group in several and group not in sides for group in groups], dtype=bool)
    fresh = list(itertools.compress(groups, new.tolist()))
    if len(set(fresh)) < len(SIDES):
        return sides | dict.fromkeys(fresh, 0)
    split = rule_of(study)(labels[new], fresh, study.data.split, seed)
    for side, rows in enumerate((split.train, split.validation, split.test)):
        sides |= dict.fromkeys((fresh[row] for row in rows.tolist()), side)
    return sides


def reference_rows(known: SplitRecord, groups: Sequence[str], aliases: Aliases = NO_ALIASES) -> NDArray[np.bool_]:
    """Which records are of the former split's public reference set."""
    place = ("", REFERENCE)
    inside = {group: place in known.places_of(group, aliases) for group in dict.fromkeys(groups)}
    return np.array([inside[group] for group in groups], dtype=bool)


def sites_of_groups(
    known: SplitRecord, groups: Iterable[str], names: Sequence[str], aliases: Aliases = NO_ALIASES
) -> dict[str, int]:
    """Index into ``names`` of the site of each group that the former split knows.

    Raises:
        SplitError: the former split has other sites than ``names``.
    """
    former = {*known.sites, *((known.unseen[0],) if known.unseen else ())}
    if former != {name for name in names if name}:
        raise SplitError(
            f"the split file has the sites {', '.join(sorted(former))}; the study has {', '.join(filter(None, names))}",
            where="data.split_file",
            remedy="Use the count and the names that the split was made with, or make a new split",
        )
    number = {name: at for at, name in enumerate(names)}
    places = {group: known.places_of(group, aliases) for group in dict.fromkeys(groups)}
    return {group: number[found[0][0]] for group, found in places.items() if found and found[0][0] in number}


def check_owners(
    known: SplitRecord, groups: Sequence[str], owners: Sequence[str], aliases: Aliases = NO_ALIASES
) -> None:
    """Refuse a group that the data now give to a site where the former split does not have it.

    Raises:
        SplitError: says how many, and between which sites one of them moved.
    """
    moved = []
    for group, owner in dict.fromkeys(zip(groups, owners, strict=True)):
        places = known.places_of(group, aliases)
        if places and owner not in {site for site, _ in places}:
            moved.append((places[0][0] or REFERENCE, owner))
    if moved:
        before, now = moved[0]
        raise SplitError(
            f"{len(moved)} groups are at another site than in the split, the first was at {before} and is at {now}",
            where="data.split_file",
            remedy="Restore the sites of these images, or make a new split",
        )


def record_split(
    study: Study,
    cohort: Cohort,
    sites: Iterable[tuple[str, Index, Index, Index]],
    *,
    unseen: tuple[str, Index] | None = None,
    reference: Index | None = None,
    salt: bytes | None = None,
) -> SplitRecord:
    """What a split is written down as.

    Args:
        study: gives rule, fractions and seed.
        cohort: the records.
        sites: name, and records in training, validation and test.
        unseen, reference: records likewise.
        salt: of a former record that this one continues; None draws a new one.
    """

    def groups(rows: Index) -> list[str]:
        return [cohort.records[row].group for row in rows.tolist()]

    return SplitRecord.of(
        dataset=cohort.dataset.key,
        classes=cohort.dataset.class_names,
        rule=study.data.rule,
        ratios=study.data.split,
        seed=study.seed,
        sites={name: (groups(train), groups(validation), groups(test)) for name, train, validation, test in sites},
        unseen=None if unseen is None else (unseen[0], groups(unseen[1])),
        reference=() if reference is None else groups(reference),
        salt=salt,
        aliases=cohort.aliases,
    )


def own_split(
    study: Study, cohort: Cohort, name: str, parts: tuple[Index, Index, Index], salt: bytes | None
) -> SplitRecord:
    """The split of what one site has: records in training, validation and test."""
    return record_split(study, cohort, [(name, *parts)], salt=salt)


def kept_split(path: Path) -> SplitRecord | None:
    """A split file of our own that may not be there, as in a run of an earlier version.

    Raises:
        SplitError: it is damaged.
    """
    return read_split(path) if path.exists() else None


def check_unchanged(known: SplitRecord, cohort: Cohort, sites: Iterable[tuple[str, Index]], where: Path) -> None:
    """Refuse images of groups that a run that goes on did not begin with.

    Args:
        known: the split that the run began with.
        cohort: the images that there are now.
        sites: name and records of each training site.
        where: the file of ``known``, for the message.

    Raises:
        HomeError: names each site and its number of new groups.
    """
    new = []
    for name, rows in sites:
        groups = {cohort.records[row].group for row in rows.tolist()}
        count = sum(all(site != name for site, _ in known.places_of(group, cohort.aliases)) for group in groups)
        new += [f"{count} at {name}"] if count else []
    if new:
        raise HomeError(
            f"images of groups that this run did not begin with were added since: {', '.join(new)}",
            where=str(where),
            remedy="Take them out again to go on, or start a new run; data.split_file keeps the old sides in it",
        )


def keep_split(state: Path, own: Callable[[bytes | None], SplitRecord], whole: SplitRecord | None, ledger: str) -> str:
    """Write a site's part of the split into its state of the study, or hold its images against what is there.

    Images may go while a study is under way, as those of a patient who withdraws. None may be added and none may
    change its side, because the ledger says which split was trained on.

    Args:
        state: the site's state of the study.
        own: the split of the images that the site has now, under a salt; None draws one.
        whole: the site's part of the study's whole split, where that is known.
        ledger: what the ledger's entry that opened the study says of the split; empty: nothing.

    Returns:
        SHA-256 of the file, hexadecimal.

    Raises:
        HomeError: the file is gone or is not the ledger's, or a group is new or on another side.
        SplitError: the file is damaged. OSError: it cannot be written.
    """
    path = state / SPLIT_FILE
    if not path.exists():
        if ledger:
            raise HomeError(
                "the site's part of the split is gone, which its ledger names",
                where=str(path),
                remedy="Restore it from a backup, or start a new run",
            )
        return write_split(whole or own(None), path)
    kept = read_split(path)
    if ledger not in ("", kept.sha256):
        raise HomeError(
            "the site's part of the split is not the one that its ledger names",
            where=str(path),
            remedy="Restore it from a backup, or start a new run",
        )
    now = own(bytes.fromhex(kept.salt))
    changed = 0
    for name, part in now.sites.items():
        for side in SIDES:
            changed += len(set(getattr(part, side)) - set(getattr(kept.sites[name], side)))
    if changed:
        raise HomeError(
            f"{changed} groups of images are new or on another side of the split than when the study began",
            where=str(path),
            remedy="Restore the images that the study began with, or start a new run",
        )
    return kept.sha256
