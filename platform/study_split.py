"""A study's split as a file: made from a plan, found again, and extended when images were added.

The file names groups by marks (see :mod:`..medical_datasets.split_record`), so it is pseudonymous patient data and
stays where the images are. Each site keeps its own part in its state; that part's SHA-256 stands in the ledger's entry
that opens the study.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..medical_datasets.cohort import Cohort, Dataset
from ..medical_datasets.errors import SplitError
from ..medical_datasets.split_file import read_split, write_split
from ..medical_datasets.split_record import REFERENCE, SplitRecord
from ..medical_datasets.splits import Split, split_by_group
from ..medical_datasets.stable_splits import extend_split, stable_split
from ..privacy.errors import HomeError
from .config import Study

Index = NDArray[np.int64]
SPLIT_FILE: Final = "split.json"
"""A site's own part of the split, in its state of a study."""


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
    study: Study, name: str, labels: Index, groups: Sequence[str], seed: int, known: SplitRecord | None
) -> Split:
    """Divide one site's records: groups that a former split knows keep their sides.

    Args:
        study: gives the fractions and the rule.
        name: the site.
        labels, groups: of its records.
        seed: of the rule.
        known: the former split, or None.

    Raises:
        SplitError: there are too few groups; it names the site.
    """
    sides = known.known_sides(name, groups) if known is not None and name in known.sites else {}
    try:
        if sides:
            return extend_split(labels, groups, sides, study.data.split, seed)
        return rule_of(study)(labels, groups, study.data.split, seed)
    except SplitError as error:
        raise SplitError(error.what, where=f"site '{name}'", remedy=error.remedy) from None


def reference_rows(known: SplitRecord, groups: Sequence[str]) -> NDArray[np.bool_]:
    """Which records are of the former split's public reference set."""
    place = ("", REFERENCE)
    inside = {group: place in known.places_of(group) for group in dict.fromkeys(groups)}
    return np.array([inside[group] for group in groups], dtype=bool)


def sites_of_groups(known: SplitRecord, groups: Iterable[str], names: Sequence[str]) -> dict[str, int]:
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
    places = {group: known.places_of(group) for group in dict.fromkeys(groups)}
    return {group: number[found[0][0]] for group, found in places.items() if found and found[0][0] in number}


def check_owners(known: SplitRecord, groups: Sequence[str], owners: Sequence[str]) -> None:
    """Refuse a group that the data now give to a site where the former split does not have it.

    Raises:
        SplitError: says how many, and one of them.
    """
    moved = []
    for group, owner in dict.fromkeys(zip(groups, owners, strict=True)):
        places = known.places_of(group)
        if places and owner not in {site for site, _ in places}:
            moved.append((group, places[0][0] or REFERENCE, owner))
    if moved:
        group, before, now = moved[0]
        raise SplitError(
            f"{len(moved)} groups are at another site than in the split file; {group!r} was at {before}, is at {now}",
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
    )


def keep_split(state: Path, study: Study, cohort: Cohort, name: str, parts: tuple[Index, Index, Index]) -> str:
    """Write a site's part of the split into its state of the study, or hold the parts against what is there.

    Images may go while a study is under way, as those of a patient who withdraws. None may be added and none may
    change its side, because the ledger says which split was trained on.

    Returns:
        SHA-256 of the file, hexadecimal.

    Raises:
        HomeError: a group is new or on another side. SplitError: the file is damaged. OSError: it cannot be written.
    """
    path = state / SPLIT_FILE
    if not path.exists():
        return write_split(record_split(study, cohort, [(name, *parts)]), path)
    kept = read_split(path, dataset=cohort.dataset.key, classes=cohort.dataset.class_names)
    groups = [cohort.records[row].group for rows in parts for row in rows.tolist()]
    sides = [side for side, rows in enumerate(parts) for _ in range(len(rows))]
    before = kept.known_sides(name, groups)
    changed = {group for group, side in zip(groups, sides, strict=True) if before.get(group) != side}
    if changed:
        raise HomeError(
            f"{len(changed)} groups of images at site '{name}' are new or on another side of the split than when the "
            "study began",
            where=str(path),
            remedy="Restore the images that the study began with, or start a new run",
        )
    return kept.sha256
