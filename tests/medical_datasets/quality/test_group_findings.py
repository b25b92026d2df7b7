from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wardround.medical_datasets.catalog import DATASETS, list_images
from wardround.medical_datasets.listing import Item, Wanted
from wardround.medical_datasets.quality.check import check_listing
from wardround.medical_datasets.quality.groups import id_problems, plain_id, shared_pictures
from wardround.medical_datasets.quality.looks import Look
from wardround.medical_datasets.quality.report import Problem

from ..pictures import pattern, save


def items(*rows: dict[str, str]) -> list[Item]:
    return [Item(f"{number}.png", 0, cells=row) for number, row in enumerate(rows)]


def found(problems: Sequence[Problem]) -> dict[str, tuple[str, ...]]:
    return {problem.code: problem.names for problem in problems}


@pytest.mark.parametrize(
    ("one", "other"), [("007", "7"), ("7.0", "7"), ("7.", "7"), ("P-007", "p-7"), ("HAM_0000118", "ham_118")]
)
def test_ids_that_spreadsheets_change_are_alike(one: str, other: str) -> None:
    assert plain_id(one) == plain_id(other)
    said = found(list(id_problems(items({"patient_id": one}, {"patient_id": other}, {"patient_id": one}))))
    assert said == {"ids-alike": ("0.png = 1.png: 2 spellings in the column patient_id",)}


@pytest.mark.parametrize(
    ("one", "other"), [("70", "7"), ("7.5", "75"), ("P1", "P11"), ("1.0.2", "1.2"), ("7.01", "7.1"), ("0", "")]
)
def test_other_ids_are_not(one: str, other: str) -> None:
    assert plain_id(one) != plain_id(other)
    assert found(list(id_problems(items({"patient": one}, {"patient": other})))) == {}


@given(st.integers(0, 10**9), st.integers(0, 5), st.booleans(), st.sampled_from(["", "P", "site-"]))
def test_a_number_is_alike_however_it_is_padded(number: int, zeros: int, point: bool, before: str) -> None:
    written = f"{before}{'0' * zeros}{number}" + (".0" if point and not before else "")
    assert plain_id(written.upper()) == plain_id(f"{before}{number}")


def test_columns_are_compared_by_themselves_and_placeholders_are_none() -> None:
    rows = items({"patient": "1", "lesion_id": "01"}, {"patient": "Unknown"}, {"patient": "unknown"}, {"patient": "1"})
    assert found(list(id_problems(rows))) == {}


def test_a_lesion_of_two_patients() -> None:
    rows = items(
        {"patient_id": "A", "lesion_id": "L1"},
        {"patient_id": "B", "lesion_id": "L1"},
        {"patient_id": "B", "lesion_id": "L2"},
        {"patient_id": "b", "lesion_id": "L2"},
        {"patient_id": "", "lesion_id": "L2"},
    )
    said = found(list(id_problems(rows)))
    assert said["lesion-of-two-patients"] == ("0.png = 1.png: 2 patients",)
    assert "L1" not in str(said)


def look(name: str, group: str | None) -> Look:
    return Look(Item(name, 0, group=group), "digest", False, 8, 8)


def test_pictures_of_two_known_units_are_said() -> None:
    looks = [
        look("a", "patient:1"),
        look("b", "patient:2"),
        look("c", "lesion_id:3"),
        look("d", None),
        look("e", "near_duplicate_group:1"),
        look("f", "patient:1"),
    ]
    every = np.array([(i, j) for i in range(6) for j in range(i + 1, 6)])
    (problem,) = shared_pictures(looks, every)
    assert (problem.severity, problem.code) == ("warning", "same-image-two-groups")
    assert set(problem.names) == {"a = b", "a = c", "b = c", "b = f", "c = f"}
    assert list(shared_pictures(looks, np.array([(0, 5), (0, 3), (3, 4)]))) == []


def test_in_a_folder(tmp_path: Path) -> None:
    lines = ["path,label,patient_id,lesion_id"]
    for seed in range(64):
        save(tmp_path / f"{seed}.png", pattern(seed, colour=True))
        lines.append(f"{seed}.png,{'ab'[seed % 2]},P{seed:03d},L{seed}")
    save(tmp_path / "again.jpg", pattern(4, colour=True), quality=70)
    (tmp_path / "copy.png").write_bytes((tmp_path / "6.png").read_bytes())
    lines += ["again.jpg,a,P7,L4", "copy.png,a,P900,L900"]
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    report = check_listing(list_images(DATASETS["csv"], Wanted(tmp_path)))
    said = found(report.problems)
    assert said["ids-alike"] == ("7.png = again.jpg: 2 spellings in the column patient_id",)
    assert set(said["lesion-of-two-patients"]) == {"4.png = again.jpg: 2 patients"}
    assert set(said["same-image-two-groups"]) == {"4.png = again.jpg", "6.png = copy.png"}
