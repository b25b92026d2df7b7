"""Cohorts of a comparison: each list of images is read, or drawn, once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from ...medical_datasets.catalog import DATASETS
from ...medical_datasets.cohort import Cohort, Dataset
from ...medical_datasets.reading import DIRECT, Reader
from ...privacy.atomic import canonical_json
from ..config import Study
from ..data_checks import takes_sites
from ..study_cohort import phantom_study, read_cohort
from ..study_split import known_split

WHICH_IMAGES = {"dataset", "source", "path", "classes", "prompts", "labels", "slices", "burned_in", "sources"}
"""Keys of a study's data that decide which images there are, and as what they are read."""


class CohortCache:
    """Reads cohorts on demand and keeps them.

    Args:
        phantoms: where generated images lie, a folder for each population.
    """

    def __init__(self, phantoms: Path) -> None:
        self._phantoms = phantoms
        self._read: dict[str, Cohort] = {}

    def of(
        self,
        study: Study,
        progress: Callable[[int, int], None] | None = None,
        *,
        reader: Reader = DIRECT,
        note: Callable[[str], None] = lambda _: None,
    ) -> Cohort:
        """The cohort of one cell's study; studies of the same images share it.

        Args:
            study, progress, reader, note: see :func:`..study_cohort.read_cohort`.

        Raises:
            StudyFileError, DataError: as :func:`..study_cohort.read_cohort`.
        """
        key = self._key(study)
        if key not in self._read:
            self._read[key] = read_cohort(study, self._phantoms / key[:16], progress, reader=reader, note=note)
        return self._read[key]

    def digest(self, study: Study, *, reader: Reader = DIRECT, note: Callable[[str], None] = lambda _: None) -> str:
        """SHA-256, hexadecimal, of which images there are, with label, group and site; of phantoms, of their plan.

        The split file that a study names is in no hash of the study, for its place is each machine's own, so what is
        in it counts here, with the rule by which new groups are dealt.

        Raises:
            StudyFileError, DataError: as :meth:`of`. SplitError: the split file cannot be read, or is of other data.
        """
        if study.data.source == "phantoms":
            return self._key(study)
        cohort = self.of(study, reader=reader, note=note)
        images: object = [
            [os.path.relpath(str(record.image), cohort.root), record.label, record.group, record.site]
            for record in cohort.records
        ]
        known = known_split(study, cohort.dataset)
        if known is not None:
            images = {"images": images, "split_file": known.sha256, "split_rule": study.data.rule}
        return hashlib.sha256(canonical_json(images)).hexdigest()

    def sites(self, study: Study) -> tuple[str, ...]:
        """Names of sites that a folder's images came with."""
        if study.data.source == "phantoms":
            return ()
        return tuple(sorted({record.site for record in self.of(study).records if record.site}))

    def dataset(self, study: Study) -> Dataset:
        """With the classes that the study keeps; nothing is drawn for it."""
        return DATASETS[study.data.dataset] if study.data.source == "phantoms" else self.of(study).dataset

    @staticmethod
    def _key(study: Study) -> str:
        if study.data.source == "phantoms":
            return phantom_study(study).plan_hash()
        data = study.data.model_dump(mode="json", include=WHICH_IMAGES)
        return hashlib.sha256(canonical_json([data, study.sites.column, takes_sites(study)])).hexdigest()
