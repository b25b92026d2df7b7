"""From a study to who holds which record: sites, parts, and the public reference set. No pixels are read here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..medical_datasets.cohort import Cohort
from ..medical_datasets.split_record import SplitRecord
from ..medical_datasets.splits import dirichlet_sites
from ..medical_datasets.stable_splits import extend_sites
from ..privacy.egress import COORDINATOR
from .config import NAME, Study
from .errors import StudyFileError
from .study_cohort import phantom_study
from .study_split import (
    NOTHING_SHARED,
    check_owners,
    known_split,
    record_split,
    reference_rows,
    rule_of,
    shared_sides,
    sites_of_groups,
    split_site,
)
from .training import derive_seed

Index = NDArray[np.int64]
MINIMUM_SITES = 3


@dataclass(frozen=True, slots=True)
class SitePlan:
    """Which records of the cohort a site holds: disjoint index arrays into ``cohort.records``."""

    name: str
    train: Index
    validation: Index
    test: Index


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """A cohort dealt out.

    Attributes:
        cohort: all records of the study.
        sites: the training sites, at least three, in name order.
        unseen: the site that takes no part; all its records are test records. None when the study has none.
        reference: records of the public set; their labels are read with ``reference.labels_known`` only. May be empty.
        notes: what was done about groups that lie at several sites, for whoever runs the study.
    """

    cohort: Cohort
    sites: tuple[SitePlan, ...]
    unseen: SitePlan | None
    reference: Index
    notes: tuple[str, ...] = ()


def deal(study: Study, cohort: Cohort, kept: SplitRecord | None = None) -> StudyPlan:
    """Assign every record to a site and part, or to the reference set; by group, so that nothing leaks.

    A group that the data give to several training sites is on one side at all of them. Of the unseen site, images of
    groups that training sites have too are left out, because they are not unseen.

    Args:
        study: how.
        cohort: the records.
        kept: a former split whose groups keep their places, as that of a run that goes on; None: that of the study's
            split file, where it names one.

    Raises:
        StudyFileError: a site that the study names is not in the data, or fewer than three sites are left.
        SplitError: too few groups, or the former split does not fit.
    """
    labels = np.array([record.label for record in cohort.records], dtype=np.int64)
    groups = np.array([record.group for record in cohort.records], dtype=object)
    everything = np.arange(len(labels), dtype=np.int64)
    known = kept or known_split(study, cohort.dataset)
    reference, rest = _reference(study, cohort, labels, groups, everything, known)
    owners = _owners(study, cohort, labels, groups, rest, known)
    names = sorted(set(owners.tolist()))
    unseen_name = study.sites.left_out or _unseen_name(study)
    if unseen_name and unseen_name not in names and (study.sites.left_out or study.sites.partition == "column"):
        raise StudyFileError(
            f"'{unseen_name}' is no site of the data",
            where="sites.left_out" if study.sites.left_out else "sites.unseen",
            remedy=f"Set it to one of: {', '.join(names)}",
        )
    training = [name for name in names if name != unseen_name]
    if len(training) < MINIMUM_SITES:
        raise StudyFileError(
            f"{len(training)} training site(s): {', '.join(training) or 'none'}; a federation needs at least "
            f"{MINIMUM_SITES}, or the sum would show single sites",
            where="sites",
            remedy="Add sites, or partition = 'dirichlet' with count = 3",
        )
    _check_names(names)
    trains = owners != unseen_name
    seed = derive_seed(study.name, "split", "", study.seed) % 2**31
    of_training = (labels[rest[trains]], groups[rest[trains]].tolist(), owners[trains].tolist())
    shared = shared_sides(study, *of_training, seed, known, cohort.aliases)

    sites = tuple(
        _site_plan(study, cohort, name, rest[owners == name], labels, groups, known, shared) for name in training
    )
    notes = [_reuse(known, cohort)] if known is not None and kept is None else []
    if shared:
        notes.append(f"{len(shared)} groups of related images lie at several sites: each is on one side at all of them")
    empty = np.zeros(0, dtype=np.int64)
    unseen = None
    if unseen_name in names:
        away = rest[~trains]
        seen = set(groups[rest[trains]].tolist())
        familiar = np.array([group in seen for group in groups[away].tolist()], dtype=bool)
        unseen = SitePlan(unseen_name, empty, empty, away[~familiar])
        if familiar.any():
            notes.append(
                f"{int(familiar.sum())} images of {unseen_name} are of groups that a training site has too, and are "
                "left out: they are not unseen"
            )
    if study.reference.source == "unseen":
        reference = empty if unseen is None else unseen.test
    return StudyPlan(cohort, sites, unseen, reference, tuple(notes))


def _site_plan(
    study: Study,
    cohort: Cohort,
    name: str,
    rows: Index,
    labels: Index,
    groups: NDArray[np.object_],
    known: SplitRecord | None = None,
    shared: Mapping[str, int] = NOTHING_SHARED,
) -> SitePlan:
    """One site's rows in three parts."""
    seed = derive_seed(study.name, "split", name, study.seed) % 2**31
    of_site = (labels[rows], groups[rows].tolist(), seed, known)
    split = split_site(study, name, *of_site, aliases=cohort.aliases, shared=shared)
    return SitePlan(name, rows[split.train], rows[split.validation], rows[split.test])


def deal_site(study: Study, cohort: Cohort, name: str) -> StudyPlan:
    """The plan of a site that sees its own records alone: those that :func:`deal` gives it, where no group is shared.

    Args:
        study: how.
        cohort: the site's records and, where the study has one, those of the public reference site.
        name: the site.

    Raises:
        StudyFileError: the reference set's site has no record.
        SplitError: too few groups.
    """
    labels = np.array([record.label for record in cohort.records], dtype=np.int64)
    groups = np.array([record.group for record in cohort.records], dtype=object)
    everything = np.arange(len(labels), dtype=np.int64)
    reference = everything[:0]
    if study.reference.source == "site":
        reference = _reference(study, cohort, labels, groups, everything, None)[0]
    rows = everything[np.array([record.site == name for record in cohort.records], dtype=bool)]
    return StudyPlan(cohort, (_site_plan(study, cohort, name, rows, labels, groups),), None, reference)


def plan_split(study: Study, plan: StudyPlan) -> SplitRecord:
    """The whole split of a plan, to be exported; a split file that the study names lends its salt."""
    known = known_split(study, plan.cohort.dataset)
    return record_split(
        study,
        plan.cohort,
        [(site.name, site.train, site.validation, site.test) for site in plan.sites],
        unseen=None if plan.unseen is None else (plan.unseen.name, plan.unseen.test),
        reference=plan.reference,
        salt=None if known is None else bytes.fromhex(known.salt),
    )


def _reuse(known: SplitRecord, cohort: Cohort) -> str:
    """How far a split file fits the data, in words."""
    groups = {record.group for record in cohort.records}
    found = sum(bool(known.places_of(group, cohort.aliases)) for group in groups)
    return f"split file: {found} groups keep their places, {len(groups) - found} are new and were dealt out"


def reference_overlap(plan: StudyPlan) -> int:
    """Groups of the public reference set that a site has as well."""
    held = [rows for site in plan.sites for rows in (site.train, site.validation, site.test)]
    held += [] if plan.unseen is None else [plan.unseen.test]
    records = plan.cohort.records
    of_sites = {records[row].group for rows in held for row in rows.tolist()}
    return len({records[row].group for row in plan.reference.tolist()} & of_sites)


def _reference(
    study: Study,
    cohort: Cohort,
    labels: Index,
    groups: NDArray[np.object_],
    everything: Index,
    known: SplitRecord | None,
) -> tuple[Index, Index]:
    source = study.reference.source
    if source in ("none", "unseen", "class-means"):
        return everything[:0], everything
    if source == "site":
        if study.reference.site == (study.sites.left_out or _unseen_name(study)):
            raise StudyFileError(
                f"'{study.reference.site}' is the site that takes no part, and cannot be the reference set as well",
                where="reference.site",
                remedy="Name another site; or, for a transductive run, set reference.source = 'unseen' and "
                "reference.transductive = true",
            )
        chosen = np.array([record.site == study.reference.site for record in cohort.records])
        if not chosen.any():
            raise _unknown_site("reference.site", study.reference.site, cohort)
        return everything[chosen], everything[~chosen]
    if known is not None:
        chosen = reference_rows(known, groups.tolist(), cohort.aliases)
        return everything[chosen], everything[~chosen]
    share = study.reference.fraction
    seed = derive_seed(study.name, "reference", study.seed) % 2**31
    rule = rule_of(study)
    split = rule(labels, groups.tolist(), (1.0 - share, share / 2, share / 2), seed)
    return np.sort(np.concatenate([split.validation, split.test])), split.train


def _owners(
    study: Study,
    cohort: Cohort,
    labels: Index,
    groups: NDArray[np.object_],
    rest: Index,
    known: SplitRecord | None,
) -> NDArray[np.object_]:
    """Site name of each record of ``rest``."""
    if study.data.source == "phantoms" or study.sites.partition == "column":
        owners = [cohort.records[i].site for i in rest]
        if None in owners:
            raise StudyFileError(
                f"partition = 'column', but {owners.count(None)} of {len(owners)} images name no site",
                where=str(cohort.records[rest[owners.index(None)]].image),
                remedy="Fill the table's column of sites, or use a folder a site, or partition = 'dirichlet'",
            )
        unseen = _unseen_name(study)
        if unseen and unseen not in owners:
            raise _unknown_site("sites.unseen", unseen, cohort)
        if known is not None:
            check_owners(known, groups[rest].tolist(), [owner or "" for owner in owners], cohort.aliases)
        return np.array(owners, dtype=object)
    count = study.sites.count + (1 if study.sites.unseen else 0)
    seed = derive_seed(study.name, "sites", study.seed) % 2**31
    names = [f"site-{i + 1}" for i in range(study.sites.count)] + [study.sites.unseen]
    if known is None:
        index = dirichlet_sites(labels[rest], groups[rest].tolist(), count, study.sites.alpha, seed)
    else:
        former = sites_of_groups(known, groups[rest].tolist(), names, cohort.aliases)
        index = extend_sites(labels[rest], groups[rest].tolist(), former, count, seed)
    return np.array([names[i] for i in index], dtype=object)


def _unseen_name(study: Study) -> str:
    """The unseen site's name; phantoms have one of their own, which the key's default stands for."""
    default = type(study.sites).model_fields["unseen"].default
    if study.data.source == "phantoms":
        own = phantom_study(study).unseen
        if study.sites.unseen not in (default, own):
            raise StudyFileError(
                f"'{study.sites.unseen}' is not the phantoms' unseen site",
                where="sites.unseen",
                remedy=f"Leave the key out, or write '{own}'",
            )
        return own
    return study.sites.unseen


def _check_names(names: Sequence[str]) -> None:
    """Site names become folders, ledger entries and signed content."""
    for name in names:
        if not NAME.fullmatch(name) or name == COORDINATOR:
            raise StudyFileError(
                f"'{name}' cannot be a site's name",
                where="sites",
                remedy="Name it otherwise: a-z, 0-9, dot, dash, underscore; 'coordinator' is taken",
            )


def _unknown_site(key: str, name: str, cohort: Cohort) -> StudyFileError:
    known: Sequence[str] = sorted({record.site for record in cohort.records if record.site})
    return StudyFileError(
        f"'{name}' is no site of the data", where=key, remedy=f"Set it to one of: {', '.join(known) or 'none there'}"
    )


def check_subgroups(study: Study, cohort: Cohort) -> list[str]:
    """Refuse a column of ``evaluation.subgroups`` that no image has; say which values no image has.

    Raises:
        StudyFileError: names the column, and the nearest one that there is.
    """
    notes = []
    for column, levels in study.evaluation.levels.items():
        found = {record.subgroups[column] for record in cohort.records if column in record.subgroups}
        if not found:
            there = sorted({name for record in cohort.records for name in record.subgroups})
            near = difflib.get_close_matches(column, there, n=1, cutoff=0.5)
            raise StudyFileError(
                f"no image has a subgroup column '{column}'" + (f"; did you mean '{near[0]}'?" if near else ""),
                where="evaluation.subgroups",
                remedy=f"Columns are {', '.join(there)}" if there else "These data have no subgroup columns",
            )
        for level in levels:
            if level not in found:
                near = difflib.get_close_matches(level, sorted(found), n=1, cutoff=0.5)
                meant = f"; did you mean '{near[0]}'?" if near else ""
                notes.append(f"evaluation.subgroups: no image has {column} = '{level}'{meant}")
    return notes
