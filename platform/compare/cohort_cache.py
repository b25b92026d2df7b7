"""Cohorts of a comparison: each list of images is read, or drawn, once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from ...medical_datasets.catalog import DATASETS
from ...medical_datasets.cohort import Cohort, Dataset
from ...privacy.atomic import canonical_json
from ..config import Study
from ..study_cohort import phantom_study, read_cohort

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

    def of(self, study: Study, progress: Callable[[int, int], None] | None = None) -> Cohort:
        """The cohort of one cell's study; studies of the same images share it.

        Raises:
            StudyFileError, DataError: as :func:`..cohorts.read_cohort`.
        """
        key = self._key(study)
        if key not in self._read:
            self._read[key] = read_cohort(study, self._phantoms / key[:16], progress)
        return self._read[key]

    def digest(self, study: Study) -> str:
        """SHA-256, hexadecimal, of which images there are, with label, group and site; of phantoms, of their plan."""
        if study.data.source == "phantoms":
            return self._key(study)
        cohort = self.of(study)
        return hashlib.sha256(
            canonical_json(
                [
                    [os.path.relpath(str(record.image), cohort.root), record.label, record.group, record.site]
                    for record in cohort.records
                ]
            )
        ).hexdigest()

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
        return hashlib.sha256(canonical_json([data, study.sites.column])).hexdigest()
