"""The plan of a site: sampling, steps and noise from public numbers, and units that are units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.medical_datasets.cohort import Cohort
from wardround.platform import private_plan
from wardround.platform.config import Study
from wardround.platform.errors import StudyFileError
from wardround.platform.private_plan import PrivatePlan, check_units, plan_of, units_of
from wardround.platform.study_data import Part, StudyData
from wardround.privacy.differential_privacy.accountant import epsilon_of
from wardround.privacy.differential_privacy.releases import Release
from wardround.privacy.errors import AccountError

from .private_steps import KINDS, private_study

Data = Callable[..., StudyData]


def planned(units: int = 60, *, sigma: float | None = 1.5, **changes: Any) -> PrivatePlan:
    return plan_of(private_study(**changes), units, noise_multiplier=sigma)


# --- sampling and steps ----------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(units=st.integers(1, 5000), batch=st.integers(1, 512), epochs=st.integers(1, 5), rounds=st.integers(1, 50))
def test_rate_batch_and_steps_follow_from_public_numbers(units: int, batch: int, epochs: int, rounds: int) -> None:
    plan = planned(units, rounds=rounds, training={"batch_size": batch, "local_epochs": epochs})
    assert plan.sample_rate == min(1.0, batch / units)
    assert plan.expected_batch == min(batch, units) == pytest.approx(plan.sample_rate * units)
    assert plan.steps == epochs * math.ceil(units / batch)
    assert (plan.units, plan.rounds) == (units, rounds)
    assert plan.round == Release("training", 1.5, plan.sample_rate, plan.steps)
    assert plan.planned == (Release("training", 1.5, plan.sample_rate, plan.steps * rounds),)


@pytest.mark.parametrize(
    ("units", "changes"),
    [
        (60, {}),
        (40, {"training": {"batch_size": 64}, "rounds": 20}),  # fewer units than a batch: nothing is sampled
        (200, {**KINDS["facmic"], "rounds": 5, "privacy": {"epsilon": 1.0}}),
        (
            200,
            {
                **KINDS["facmic"],
                "rounds": 12,
                "training": {"batch_size": 256},
                "privacy": {"alignment": "per-record", "fourier_every": 4},
            },
        ),
    ],
    ids=["fedclip", "unsampled", "class sums", "fourier sums"],
)
def test_the_noise_spends_the_epsilon_and_no_more(units: int, changes: dict[str, Any]) -> None:
    study = private_study(**changes)
    plan = plan_of(study, units)
    privacy = study.privacy
    spent = epsilon_of(plan.planned, privacy.delta)
    assert 0.98 * privacy.epsilon < spent <= privacy.epsilon
    # Charged round by round, as a site does it, the last round is still within the limit.
    charged = [release for _, _, release in plan.beside] + [plan.round] * study.rounds
    assert epsilon_of(charged, privacy.delta) <= privacy.epsilon
    assert epsilon_of([*charged, plan.round], privacy.delta) > privacy.epsilon


def test_a_begun_study_keeps_its_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> float:
        raise AssertionError("searched")

    monkeypatch.setattr(private_plan, "noise_multiplier_for", never)
    assert planned(sigma=0.75).noise_multiplier == 0.75


@pytest.mark.parametrize(("units", "delta"), [(1000, 1e-3), (1001, 1e-3), (20, 0.09), (10**6, 1e-5)])
def test_a_delta_that_lets_a_unit_out_is_refused(units: int, delta: float) -> None:
    with pytest.raises(StudyFileError, match=f"{units} training units") as caught:
        planned(units, privacy={"delta": delta})
    assert caught.value.where == "privacy.delta"
    assert "1 / units" in caught.value.remedy
    use = float(caught.value.remedy.rsplit(" ", 1)[1].rstrip("."))
    assert 0 < use * units <= 0.11
    assert planned(units, privacy={"delta": use}).units == units


def test_a_delta_just_under_one_over_units_is_taken() -> None:
    assert planned(999, privacy={"delta": 1e-3}).units == 999


def test_releases_beside_gradients_that_cost_more_than_epsilon_are_refused() -> None:
    loud = {**KINDS["facmic"], "privacy": {"epsilon": 0.5, "class_noise": 1.0}}
    with pytest.raises(AccountError, match="what is released beside them costs") as caught:
        planned(60, sigma=None, **loud)
    assert "noisier" in caught.value.remedy


# --- what is released beside gradients -------------------------------------------------------------------------------


SUMS = [(1, "class-sums", Release("class-sums", 10.0 / math.sqrt(2.0), 1.0, 1))]


@pytest.mark.parametrize(
    ("kind", "beside"),
    [
        ("fedclip", []),
        ("facmic", SUMS),
        ("facmic, off", []),
        ("faa-clip", SUMS),
        ("faa-clip by record", []),
        ("prompt-fl", []),
    ],
)
def test_class_sums_are_released_where_adaptation_needs_them(kind: str, beside: list[Any]) -> None:
    plan = planned(**KINDS[kind])
    assert list(plan.beside) == beside
    assert plan.fourier_due(3) == ""


def test_fourier_sums_come_every_few_rounds_and_cost_together_what_one_would() -> None:
    changes = {**KINDS["facmic by record"], "rounds": 11, "privacy": {"alignment": "per-record", "fourier_every": 4}}
    plan = planned(**changes)
    assert [(at, key) for at, key, _ in plan.beside] == [
        (1, "class-sums"),
        (1, "fourier-1"),
        (5, "fourier-5"),
        (9, "fourier-9"),
    ]
    assert [plan.fourier_due(number) for number in (1, 4, 5, 8, 9, 11)] == [
        "fourier-1",
        "fourier-1",
        "fourier-5",
        "fourier-5",
        "fourier-9",
        "fourier-9",
    ]
    fourier = [release for _, _, release in plan.beside[1:]]
    assert epsilon_of(fourier, 1e-5) == pytest.approx(epsilon_of([Release("fourier-sums", 10.0, 1.0, 1)], 1e-5))
    assert plan.planned[:4] == tuple(release for _, _, release in plan.beside)


# --- units -----------------------------------------------------------------------------------------------------------


def part(groups: Sequence[str]) -> Part:
    count = len(groups)
    return Part(
        np.arange(count), np.zeros((count, 4), dtype=np.float32), np.zeros(count, dtype=np.int64), tuple(groups)
    )


GROUPS = ("patient:a", "patient:b", "patient:a", "patient:c", "patient:b", "patient:a")


@pytest.mark.parametrize("unit", ["patient", "lesion"])
def test_units_are_groups(unit: str) -> None:
    units = units_of(private_study(privacy={"unit": unit}), part(GROUPS))
    assert units.count == 3
    assert units.owners.tolist() == [0, 1, 0, 2, 1, 0]


def test_units_are_images_where_records_are_protected() -> None:
    units = units_of(private_study(), part(GROUPS))
    assert units.count == 6
    assert units.owners.tolist() == list(range(6))


def regrouped(data: StudyData, name: Callable[[str, int], str], **changes: Any) -> StudyData:
    """The toy's data with other groups: ``name`` gets the site and the number of the record."""
    records = tuple(replace(record, group=name(record.site, row)) for row, record in enumerate(data.cohort.records))
    cohort = replace(data.cohort, records=records, **{"synthetic": False, **changes})

    def of(own: Part) -> Part:
        return replace(own, groups=tuple(records[row].group for row in own.rows))

    sites = tuple(replace(site, train=of(site.train)) for site in data.sites)
    reference = tuple(row for row, record in enumerate(records) if record.site == "reference")
    return replace(data, cohort=cohort, sites=sites, reference_rows=reference)


def keyed(cohort: Cohort, key: str) -> dict[str, Any]:
    return {"dataset": replace(cohort.dataset, group_key=key)}


def notes(study: Study, data: StudyData) -> list[str]:
    return list(check_units(study, data))


BY_PATIENT = private_study(privacy={"unit": "patient"})
BY_LESION = private_study(privacy={"unit": "lesion"})
BY_RECORD = private_study()


@pytest.mark.parametrize("column", ["patient", "patient_id"])
def test_patients_of_a_table_are_units(toy_data: Data, column: str) -> None:
    assert notes(BY_PATIENT, regrouped(toy_data(), lambda site, row: f"{column}:{site}-{row // 2}")) == []


def test_lesions_of_a_table_are_units_and_no_patients(toy_data: Data) -> None:
    data = toy_data()
    data = regrouped(data, lambda site, row: f"lesion_id:{site}-{row}", **keyed(data.cohort, "lesion"))
    assert notes(BY_LESION, data) == []
    with pytest.raises(StudyFileError, match="the patient of 81 of 81 training images is not known") as caught:
        notes(BY_PATIENT, data)
    assert caught.value.where == "privacy.unit"
    assert caught.value.remedy == "Use privacy.unit = 'lesion'"


@pytest.mark.parametrize("name", ["similar:x/{row}.png", "near_duplicate_group:{row}", "isic_id:ISIC_{row:07}"])
@pytest.mark.parametrize("study", [BY_PATIENT, BY_LESION], ids=["patient", "lesion"])
def test_images_that_look_alike_are_no_people(toy_data: Data, study: Study, name: str) -> None:
    data = toy_data()
    key = keyed(data.cohort, "near-duplicate group")
    data = regrouped(data, lambda site, row: name.format(row=row), **key)
    with pytest.raises(StudyFileError, match=r"is not known.*groups them by near-duplicate group") as caught:
        notes(study, data)
    assert "privacy.unit = 'record'" in caught.value.remedy
    assert "Add the column" in caught.value.remedy
    assert notes(BY_RECORD, data) == []


def test_one_image_without_a_patient_is_enough_to_refuse(toy_data: Data) -> None:
    data = toy_data()
    last = int(data.sites[1].train.rows[-1])
    data = regrouped(data, lambda site, row: f"similar:{row}" if row == last else f"patient:{row}")
    with pytest.raises(StudyFileError, match="the patient of 1 of 81 training images"):
        notes(BY_PATIENT, data)


def test_only_training_images_need_a_unit(toy_data: Data) -> None:
    data = toy_data()
    trained = {int(row) for site in data.sites for row in site.train.rows}
    data = regrouped(data, lambda site, row: f"patient:{row}" if row in trained else f"similar:{row}")
    assert notes(BY_PATIENT, data) == []


def test_phantoms_have_patients_and_no_lesions(toy_data: Data) -> None:
    assert notes(BY_PATIENT, toy_data()) == []
    with pytest.raises(StudyFileError, match="the lesion of 81") as caught:
        notes(BY_LESION, toy_data())
    assert caught.value.remedy == "Use privacy.unit = 'patient'"


@pytest.mark.parametrize("study", [BY_PATIENT, BY_RECORD], ids=["patient", "record"])
def test_somebody_in_the_reference_set_and_in_training_is_refused(toy_data: Data, study: Study) -> None:
    data = regrouped(toy_data(), lambda site, row: f"patient:{site}-{row}")
    first = data.cohort.records[int(data.sites[0].train.rows[0])].group
    guest = data.reference_rows[3]
    data = regrouped(data, lambda site, row: first if row == guest else f"patient:{site}-{row}")
    with pytest.raises(StudyFileError, match="1 groups of training images are in the reference set too") as caught:
        notes(study, data)
    assert caught.value.where == "reference"
    assert "other people" in caught.value.remedy


def test_somebody_at_two_sites_is_noted(toy_data: Data) -> None:
    data = toy_data()
    first, second = (int(site.train.rows[0]) for site in data.sites[:2])
    data = regrouped(data, lambda site, row: "patient:both" if row in (first, second) else f"patient:{row}")
    (note,) = notes(BY_PATIENT, data)
    assert note.startswith("1 groups of images lie at several sites")
    assert "its own epsilon" in note
