"""The images behind one site's report: dealt out again, without withdrawn ones, and checked against the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..evaluation.arrays import group_codes
from ..evaluation.report_model import SiteReport
from ..medical_datasets import pixels
from ..medical_datasets.camera_shift import CameraShift
from ..medical_datasets.cohort import Cohort
from ..medical_datasets.errors import UnreadableImageError
from ..privacy.forgotten import Forgotten
from .backbone import Backbone
from .cohorts import Index, SitePlan, StudyPlan, deal
from .config import Study
from .errors import RunFolderError
from .image_index import image_index
from .methods.method import Method
from .run_folder import RunFolder
from .study_cohort import read_cohort
from .study_data import Progress, SiteData, StudyData, encode_study
from .study_split import kept_split
from .withdrawn import RecordMarks, Withdrawn, rows_of_site, withdrawn_records

_REMEDY = "Restore the study's data as they were when the run was made, or run the study again"


@dataclass(frozen=True, slots=True)
class SiteCases:
    """One site's images as its report counts them.

    Attributes:
        data: prompts and cohort; no other site's images were read.
        site: this site's parts; ``site.test`` and ``site.train`` are without withdrawn images.
        places: (len(site.test),) int64, where each test image stands in the report.
        withdrawn: images of the report that were withdrawn since.
        camera: through which this site's pictures go.
    """

    data: StudyData
    site: SiteData
    places: Index
    withdrawn: int
    camera: CameraShift

    def picture(self, row: int) -> NDArray[np.uint8]:
        """A record's picture as the model gets it: (H, W, 3) uint8, upright, through the site's camera."""
        return self.camera(pixels.read_rgb(self.data.cohort.records[row].image))


def read_site(
    run: RunFolder,
    study: Study,
    report: SiteReport,
    method: Method,
    backbone: Backbone,
    cache: Path,
    progress: Progress | None = None,
) -> SiteCases:
    """Read one site's images, training and test, and find each test image's place in the report.

    Only this site's files are opened.

    Args:
        run, study: the finished run. report: of the site. method, backbone: the study's.
        cache: the feature cache. progress: called with (images done, images in all, images a second).

    Raises:
        RunFolderError: the study's data are not those of the report.
        StudyFileError, DataError: the data cannot be read. HomeError: the list of withdrawn groups is damaged.
    """
    with image_index(study, cache, run.homes) as reader:
        plan = deal(study, read_cohort(study, run.phantoms, reader=reader), kept_split(run.split))
        withdrawn = withdrawn_records(run.homes, plan, study)
        dealt, alone = _alone(plan, report.site, withdrawn)
        out = _others_too(alone, withdrawn)
        data, _ = encode_study(study, method, alone, backbone, cache, progress, withdrawn=out, reader=reader)
    site = next(site for site in (*data.sites, *((data.unseen,) if data.unseen else ())) if site.name == report.site)
    colour = not plan.cohort.dataset.grey
    strength = study.sites.feature_shift
    camera = CameraShift(site.name, strength, colour) if strength else CameraShift("", 0.0, False)
    places, gone = _places(report, plan.cohort, dealt.test, site.test.rows, withdrawn, run.homes / site.name)
    return SiteCases(data, site, places, gone, camera)


def _alone(plan: StudyPlan, name: str, withdrawn: Withdrawn) -> tuple[SitePlan, StudyPlan]:
    """The site's part of a plan, and the plan without other sites and without a reference set."""
    nobody = plan.reference[:0]
    if plan.unseen is not None and plan.unseen.name == name:
        return plan.unseen, replace(plan, sites=(), reference=nobody)
    for site in plan.sites:
        if site.name == name:
            return site, replace(plan, sites=(site,), unseen=None, reference=nobody)
    raise RunFolderError(f"the study's data have no site '{name}'", where="sites", remedy=_REMEDY)


def _others_too(alone: StudyPlan, withdrawn: Withdrawn) -> Withdrawn:
    """What is withdrawn, and every record of another site: neither is opened or encoded."""
    own = np.concatenate([rows_of_site(site) for site in (*alone.sites, *((alone.unseen,) if alone.unseen else ()))])
    others = np.setdiff1d(np.arange(len(alone.cohort.records), dtype=np.int64), own)
    return replace(withdrawn, gone=np.union1d(withdrawn.gone, others))


def _places(
    report: SiteReport, cohort: Cohort, dealt: Index, readable: Index, withdrawn: Withdrawn, home: Path
) -> tuple[Index, int]:
    """Where the readable test images stand in the report, and how many of the report's were withdrawn since.

    The report was made at some time: what had been withdrawn by then is not in it, what was withdrawn later is. Times
    are tried from the latest back, and the report's labels and groups say which it was.
    """
    order = _order_of_withdrawal(home, cohort, dealt[np.isin(dealt, withdrawn.rows)])
    standing = set(readable.tolist())
    tried = []
    for time in range(max(order.values(), default=-1) + 1, -1, -1):
        rows = [row for row in dealt.tolist() if row in standing or order.get(row, -1) >= time]
        if _fits(report, cohort, rows):
            kept = [at for at, row in enumerate(rows) if row in standing]
            return np.array(kept, dtype=np.int64), len(rows) - len(kept)
        tried.append(len(rows))
    raise RunFolderError(
        f"the study's data are not those of the report of site '{report.site}': it has {len(report.federated.labels)} "
        f"test images, and the data give {tried[0]}"
        + (" with other labels or groups" if len(report.federated.labels) in tried else ""),
        where=report.site,
        remedy=_REMEDY,
    )


def _order_of_withdrawal(home: Path, cohort: Cohort, rows: Index) -> dict[int, int]:
    """For each withdrawn record that can be decoded, the number of the withdrawal that took it first."""
    if not len(rows):
        return {}
    known = Forgotten.read(home)
    order = {}
    marks = RecordMarks(known, cohort)
    for row in rows.tolist():
        held = known.holding(*marks.of(row))
        if held and _decodes(cohort, row):
            order[row] = known.withdrawals.index(held[0])
    return order


def _decodes(cohort: Cohort, row: int) -> bool:
    # An image that cannot be decoded was never in a report; of a withdrawn one nothing else is looked at or kept.
    try:
        pixels.read_rgb(cohort.records[row].image)
    except UnreadableImageError:
        return False
    return True


def _fits(report: SiteReport, cohort: Cohort, rows: list[int]) -> bool:
    records = [cohort.records[row] for row in rows]
    if tuple(record.label for record in records) != report.federated.labels:
        return False
    return tuple(group_codes([record.group for record in records], len(records)).tolist()) == report.federated.groups


def worded(progress: Callable[[str], None] | None, what: str) -> Callable[..., None] | None:
    """A progress callback that says how far ``what`` is."""
    return None if progress is None else lambda done, total, *_: progress(f"{what}: {done} of {total}")
