"""Toy studies without pictures: what stands in a simulation for reading, dealing and encoding them."""

from __future__ import annotations

import numpy as np
import pytest
from wardround.platform import simulation
from wardround.platform.cohorts import SitePlan, StudyPlan
from wardround.platform.study_data import SiteData, StudyData


def plan_of(data: StudyData) -> StudyPlan:
    """The plan that a study's data came from."""

    def site(each: SiteData) -> SitePlan:
        return SitePlan(each.name, each.train.rows, each.validation.rows, each.test.rows)

    unseen = None if data.unseen is None else site(data.unseen)
    reference = np.array(data.reference_rows, dtype=np.int64)
    return StudyPlan(data.cohort, tuple(site(each) for each in data.sites), unseen, reference)


def stand_in(patch: pytest.MonkeyPatch, data: StudyData) -> None:
    """Let a simulation have these data, whatever its study says."""
    patch.setattr(simulation, "read_cohort", lambda *_, **__: data.cohort)
    patch.setattr(simulation, "deal", lambda *_: plan_of(data))
    patch.setattr(simulation, "encode_study", lambda *_: (data, ()))
