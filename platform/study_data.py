"""From a dealt-out cohort to features: what each site trains, validates and tests on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..medical_datasets.cohort import Cohort, Skipped
from ..medical_datasets.reading import DIRECT, Reader
from .backbone import Backbone
from .cohorts import Index, SitePlan, StudyPlan, check_subgroups, reference_overlap
from .config import Study
from .encoded import Encoded, encode_plan
from .errors import StudyFileError
from .methods.clip_inputs import clip_inputs
from .methods.method import Consumes, Method, SharedInputs, TrainingPart
from .training import derive_seed
from .withdrawn import NOTHING, Withdrawn

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class Part:
    """One side of a site's split.

    Attributes:
        rows: (n,) int64 indices into the cohort's records; unreadable ones are already left out.
        features: (n, D) float32, unit-norm rows.
        labels: (n,) int64.
        groups: n group names.
        pictures: (n, H, W, 3) uint8 at the backbone's size, for methods that train on pictures; else None.
        withdrawn: groups of images that the site is counted with, but that were withdrawn since: one name an image.
            They have no row, and nothing of them is in the arrays.

    ``len`` is the number that the site is counted with in the roster: rows and withdrawn images.
    """

    rows: Index
    features: NDArray[np.float32]
    labels: Index
    groups: tuple[str, ...]
    pictures: NDArray[np.uint8] | None = None
    withdrawn: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels) + len(self.withdrawn)

    def inputs(self, consumes: Consumes) -> Tensor:
        """What a method takes: (n, D) float32 features, or (n, H, W, 3) uint8 pictures."""
        if consumes == "features":
            return torch.from_numpy(self.features)
        if self.pictures is None:
            raise ValueError("this part was encoded without its pictures")
        return torch.from_numpy(self.pictures)

    def training(self, consumes: Consumes = "features") -> TrainingPart:
        """As tensors."""
        return TrainingPart(self.inputs(consumes), torch.from_numpy(self.labels))


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
        transductive: whether images that are tested on are in the reference set.
        reference_rows: records of the reference set.
    """

    cohort: Cohort
    sites: tuple[SiteData, ...]
    unseen: SiteData | None
    shared: SharedInputs
    reference_n: int
    transductive: bool = False
    reference_rows: tuple[int, ...] = ()


def encode_study(
    study: Study,
    method: Method,
    plan: StudyPlan,
    backbone: Backbone,
    cache: Path,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
    withdrawn: Withdrawn = NOTHING,
    reader: Reader = DIRECT,
) -> tuple[StudyData, tuple[Skipped, ...]]:
    """Encode every image once and hand each site its rows.

    Images that cannot be decoded are left out everywhere, counted and named in the second result. ``note`` is told of
    cache entries that were damaged or stale and were made again, and of groups that lie at several sites. Withdrawn
    images are not encoded; those of them that the site is counted with leave their number in its training part.

    Raises:
        StudyFileError: a class has no prompt, a subgroup column is in no record, a training site is left with too few
            training images or without test images, none of the reference images can be read, or some are tested on and
            the study does not say so.
    """
    cohort = plan.cohort
    for label in cohort.dataset.classes:
        if not label.prompts or not all(prompt.strip() for prompt in label.prompts):
            raise StudyFileError(
                f"class '{label.name}' has no prompt, or an empty one",
                where=f"data set '{cohort.dataset.key}'",
                remedy="Every class needs at least one sentence that describes it",
            )
    for told in check_subgroups(study, cohort):
        if note is not None:
            note(told)
    if note is not None:
        for told in (*cohort.notes, *plan.notes):
            note(told)
        if study.reference.source != "unseen" and (overlap := reference_overlap(plan)):
            note(
                f"{overlap} groups of related images are in the reference set and at a site as well: figures on test "
                "images may flatter the model"
            )
    encoded = encode_plan(plan, backbone, study.sites.feature_shift, cache, progress, note, withdrawn.rows, reader)
    labels = np.array([record.label for record in cohort.records], dtype=np.int64)
    with_pictures = method.consumes == "pixels"

    def part(rows: Index, *, pictures: bool = with_pictures) -> Part:
        kept = encoded.readable(rows)
        return Part(
            rows=kept,
            features=encoded.features_of(kept),
            labels=labels[kept],
            groups=tuple(cohort.records[i].group for i in kept),
            pictures=encoded.pictures_of(kept, backbone) if pictures else None,
        )

    def site_data(site: SitePlan) -> SiteData:
        here = [withdrawn.others(rows) for rows in (site.train, site.validation, site.test)]
        lost = sum(len(rows) - len(encoded.readable(rows)) for rows in here)
        # What is drawn, and how many, is as it was when the roster counted them.
        counted = site.train[(encoded.place[site.train] >= 0) | withdrawn.counted(cohort, site.train)]
        chosen = _subset(study, site.name, counted, labels)
        gone = tuple(cohort.records[i].group for i in chosen if encoded.place[i] < 0)
        return SiteData(site.name, replace(part(chosen), withdrawn=gone), part(here[1]), part(here[2]), lost)

    sites = tuple(site_data(site) for site in plan.sites)
    for site, dealt in zip(sites, plan.sites, strict=True):
        if len(site.train) < 2 or (len(site.test) < 1 and len(withdrawn.others(dealt.test)) == len(dealt.test)):
            raise StudyFileError(
                f"site '{site.name}' is left with {len(site.train)} training and {len(site.test)} test images",
                where="sites",
                remedy="Raise data.max_train_images"
                if 0 < study.data.max_train_images < 2
                else "Use fewer sites, a larger sites.alpha, or more images",
            )
    unseen = None if plan.unseen is None else site_data(plan.unseen)
    reference = part(plan.reference, pictures=False)
    if len(plan.reference) and not len(reference):
        raise StudyFileError(
            f"none of the {len(plan.reference)} reference images can be read",
            where="reference",
            remedy="Mend them, or set reference.source = 'none' and the method's adaptation_weight = 0",
        )
    tested = [site.test.rows for site in (*sites, *((unseen,) if unseen else ()))]
    transductive = _overlaps(study, encoded, reference.rows, np.concatenate(tested))
    if note is not None and (doubled := _doubled(encoded, sites, unseen)):
        note(
            f"{doubled} pictures that are validated or tested on are byte for byte training pictures as well, under "
            "other patients or lesions: figures flatter the model; wardround data check names them"
        )
    shared = _shared(study, method, cohort, backbone, reference)
    skipped = cohort.skipped + encoded.skipped
    rows = tuple(int(row) for row in reference.rows)
    return StudyData(cohort, sites, unseen, shared, len(reference), transductive, rows), skipped


def _shared(study: Study, method: Method, cohort: Cohort, backbone: Backbone, reference: Part) -> SharedInputs:
    classes = cohort.dataset.classes
    prompts = [label.prompts for label in classes]
    needs_clip = method.consumes == "pixels" or method.name == "prompt-fl"
    return SharedInputs(
        text=torch.from_numpy(backbone.encode_prompts(prompts)),
        scale=backbone.logit_scale,
        reference=torch.from_numpy(reference.features),
        reference_labels=torch.from_numpy(reference.labels) if study.reference.labels_known else None,
        clip=clip_inputs(backbone, prompts, [label.clinical_name for label in classes]) if needs_clip else None,
    )


def _subset(study: Study, site: str, rows: Index, labels: Index) -> Index:
    """At most ``data.max_train_images`` of a site's training rows, each class in proportion; drawn by the seed."""
    most = study.data.max_train_images
    if most == 0 or len(rows) <= most:
        return rows
    rows = np.sort(rows)  # whatever order they come in, the seed alone decides
    draw = np.random.default_rng(derive_seed(study.name, "training subset", site, study.seed))
    names, counts = np.unique(labels[rows], return_counts=True)
    exact = counts * most / len(rows)
    share = np.floor(exact).astype(np.int64)
    share[np.argsort(share - exact, kind="stable")[: most - int(share.sum())]] += 1
    chosen = [draw.choice(rows[labels[rows] == c], size=k, replace=False) for c, k in zip(names, share, strict=True)]
    return np.sort(np.concatenate(chosen))


def _doubled(encoded: Encoded, sites: Sequence[SiteData], unseen: SiteData | None) -> int:
    """Pictures outside training whose content is trained on at some site."""
    trained = {content for site in sites for content in encoded.contents_of(site.train.rows)}
    held = [part for site in sites for part in (site.validation, site.test)]
    held += [] if unseen is None else [unseen.test]
    return sum(content in trained for part in held for content in encoded.contents_of(part.rows))


def _overlaps(study: Study, encoded: Encoded, reference: Index, tested: Index) -> bool:
    """Whether images of the reference set are tested on; refused unless the study says so.

    Raises:
        StudyFileError: names how many, and the first one.
    """
    contents = set(encoded.contents_of(tested))
    doubled = [
        row for row, content in zip(reference, encoded.contents_of(reference), strict=True) if content in contents
    ]
    if doubled and not study.reference.transductive:
        raise StudyFileError(
            f"{len(doubled)} images of the reference set are tested on as well, by content",
            where=str(encoded.plan.cohort.records[doubled[0]].image),
            remedy="Take the duplicates out (wardround data check names them), or set reference.transductive = true, "
            "which marks every figure of the run as transductive",
        )
    return bool(doubled)
