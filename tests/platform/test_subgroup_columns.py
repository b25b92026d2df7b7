"""Subgroup columns of a study against the data: a misspelt column is refused, a misspelt value is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from wardround.medical_datasets.cohort import Cohort
from wardround.platform.cohorts import check_subgroups
from wardround.platform.errors import StudyFileError

Make = Callable[..., Any]


@pytest.fixture
def cohort(toy_data: Make) -> Cohort:
    made: Cohort = toy_data().cohort
    sexes = ("female", "male")
    records = tuple(
        replace(record, subgroups=MappingProxyType({"sex": sexes[i % 2]})) for i, record in enumerate(made.records)
    )
    return replace(made, records=records)


def test_columns_and_values_that_are_there_say_nothing(toy_study: Make, cohort: Cohort) -> None:
    assert check_subgroups(toy_study(), cohort) == []
    assert check_subgroups(toy_study(evaluation={"subgroups": ["sex: female, male"]}), cohort) == []


def test_a_column_that_no_image_has_is_refused_with_the_nearest(toy_study: Make, cohort: Cohort) -> None:
    with pytest.raises(StudyFileError, match="'sx'; did you mean 'sex'") as refused:
        check_subgroups(toy_study(evaluation={"subgroups": ["sx: female, male"]}), cohort)
    assert refused.value.where == "evaluation.subgroups"
    assert "sex" in refused.value.remedy


def test_a_value_that_no_image_has_is_told(toy_study: Make, cohort: Cohort) -> None:
    (note,) = check_subgroups(toy_study(evaluation={"subgroups": ["sex: femal, male"]}), cohort)
    assert "sex = 'femal'" in note
    assert "did you mean 'female'" in note
