"""From a dealt-out cohort to features: what each site trains, validates and tests on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..medical_datasets.cohort import Cohort, Skipped
from .backbone import Backbone
from .cohorts import Index, SitePlan, StudyPlan, straddling_groups
from .errors import StudyFileError
from .features import encode
from .methods.method import SharedInputs, TrainingPart

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class Part:
    """One side of a site's split.

    Attributes:
        rows: (n,) int64 indices into the cohort's records; unreadable ones are already left out.
        features: (n, D) float32, unit-norm rows.
        labels: (n,) int64.
        groups: n group names.
    """

    rows: Index
    features: NDArray[np.float32]
    labels: Index
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def training(self) -> TrainingPart:
        """As tensors."""
        return TrainingPart(torch.from_numpy(self.features), torch.from_numpy(self.labels))


@dataclass(frozen=True, slots=True)
class SiteData:
    """What one site holds. For a site that takes no part, ``train`` and ``validation`` are empty.

    ``skipped`` counts its images that could not be decoded.
    """

    name: str
    train: Part
    validation: Part
    test: Part
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class StudyData:
    """Everything a simulation trains and tests on.

    Attributes:
        cohort: all records, those that could not be decoded included; the parts' ``rows`` point into it.
        sites: training sites in name order.
        unseen: the site that takes no part, or None.
        shared: prompts, logit scale and reference features.
        reference_n: number of reference images.
    """

    cohort: Cohort
    sites: tuple[SiteData, ...]
    unseen: SiteData | None
    shared: SharedInputs
    reference_n: int


def encode_study(
    plan: StudyPlan,
    backbone: Backbone,
    cache: Path,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> tuple[StudyData, tuple[Skipped, ...]]:
    """Encode every image once and hand each site its rows.

    Images that cannot be decoded are left out everywhere, counted and named in the second result. ``note`` is told of
    cache entries that were damaged or stale and were made again, and of groups that lie at several sites.

    Raises:
        StudyFileError: a training site is left with fewer than two training images or without test images, or none of
            the reference images can be read.
    """
    cohort = plan.cohort
    table = encode([record.path for record in cohort.records], backbone, cache=cache, progress=progress)
    if note is not None:
        for issue in table.issues:
            note(f"feature cache: {issue.shard}: {issue.reason}; removed and made again")
        shared_groups = straddling_groups(plan)
        if shared_groups:
            note(
                f"{shared_groups} groups of related images lie at more than one site or in the reference set as well: "
                "figures on test images may flatter the model"
            )
    place = np.full(len(cohort.records), -1, dtype=np.int64)
    place[table.kept] = np.arange(len(table.kept))
    labels = np.array([record.label for record in cohort.records], dtype=np.int64)

    def part(rows: Index) -> Part:
        kept = rows[place[rows] >= 0]
        return Part(
            rows=kept,
            features=table.features[place[kept]],
            labels=labels[kept],
            groups=tuple(cohort.records[i].group for i in kept),
        )

    def site_data(site: SitePlan) -> SiteData:
        lost = sum(int((place[rows] < 0).sum()) for rows in (site.train, site.validation, site.test))
        return SiteData(site.name, part(site.train), part(site.validation), part(site.test), lost)

    sites = tuple(site_data(site) for site in plan.sites)
    for site in sites:
        if len(site.train) < 2 or len(site.test) < 1:
            raise StudyFileError(
                f"site '{site.name}' is left with {len(site.train)} training and {len(site.test)} test images",
                where="sites",
                remedy="Use fewer sites, a larger sites.alpha, or more images",
            )
    unseen = None if plan.unseen is None else site_data(plan.unseen)
    reference = part(plan.reference)
    if len(plan.reference) and not len(reference):
        raise StudyFileError(
            f"none of the {len(plan.reference)} reference images can be read",
            where="reference",
            remedy="Mend them, or set reference.source = 'none' and facmic.adaptation_weight = 0",
        )
    text = backbone.encode_prompts([label.prompts for label in cohort.dataset.classes])
    shared = SharedInputs(
        text=torch.from_numpy(text), scale=backbone.logit_scale, reference=torch.from_numpy(reference.features)
    )
    skipped = cohort.skipped + tuple(Skipped(Path(path), reason) for path, reason in table.skipped)
    return StudyData(cohort, sites, unseen, shared, len(reference)), skipped
