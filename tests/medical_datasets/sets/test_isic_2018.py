from __future__ import annotations

from pathlib import Path

import pytest
from wardround.medical_datasets.errors import TableError
from wardround.medical_datasets.sets.isic_2018 import ISIC_2018

from .skin_trees import by_stem, images, listed, one_hot, reasons, table

CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
TRUTH = "ISIC2018_Task3_Training_GroundTruth.csv"
GROUPINGS = "ISIC2018_Task3_Training_LesionGroupings.csv"


def tree(root: Path, folder: str = "") -> Path:
    ids = [f"ISIC_002430{index}" for index in range(7)]
    table(
        root / folder / TRUTH,
        ("image", *CLASSES),
        [(image, *one_hot(CLASSES, name)) for image, name in zip(ids, CLASSES, strict=True)],
    )
    images(root / "ISIC2018_Task3_Training_Input", [f"{image}.jpg" for image in ids])
    return root


@pytest.mark.parametrize("folder", ["", "ISIC2018_Task3_Training_GroundTruth"])
def test_one_hot_columns_in_their_own_order(tmp_path: Path, folder: str) -> None:
    root = tree(tmp_path, folder)
    rows = [(f"ISIC_002430{index}", f"HAM_{index // 2}", "histopathology") for index in range(7)]
    table(root / folder / GROUPINGS, ("image", "lesion_id", "diagnosis_confirm_type"), rows)
    listing = listed(ISIC_2018, root)
    assert ISIC_2018.class_names == CLASSES
    assert [item.label for item in listing.items] == list(range(7))
    assert [item.group for item in listing.items] == [f"lesion_id:HAM_{index // 2}" for index in range(7)]
    assert listing.items[0].cells["diagnosis_confirm_type"] == "histopathology"
    assert "diagnosis_confirm_type" in listing.columns


def test_without_the_groupings_groups_are_unknown(tmp_path: Path) -> None:
    assert {item.group for item in listed(ISIC_2018, tree(tmp_path)).items} == {None}


def test_an_image_missing_in_the_groupings_is_a_problem(tmp_path: Path) -> None:
    root = tree(tmp_path)
    table(root / GROUPINGS, ("image", "lesion_id"), [("ISIC_0024300", "HAM_1")])
    listing = listed(ISIC_2018, root)
    assert not listing.items
    (problem,) = listing.problems
    assert "6 of 7 rows have no row in ISIC2018_Task3_Training_LesionGroupings.csv" in str(problem)
    table(root / GROUPINGS, ("image", "lesion_id"), [("ISIC_0024300", "HAM_1"), ("ISIC_0024300.jpg", "HAM_2")])
    (problem,) = listed(ISIC_2018, root).problems
    assert "two rows have the same 'image'" in str(problem)
    assert "row 3, and row 2" in str(problem)


def test_one_hot_faults_are_collected_and_counted(tmp_path: Path) -> None:
    ids = [f"ISIC_002430{index}" for index in range(6)]
    cells = [
        one_hot(CLASSES, "MEL"),
        ["0.0"] * 7,
        ["0"] * 7,
        ["1", "1", "0", "0", "0", "0", "0"],
        ["0.5", "0.5", "0", "0", "0", "0", "0"],
        ["", "1", "0", "0", "0", "0", "0"],
    ]
    table(tmp_path / TRUTH, ("image", *CLASSES), [(image, *row) for image, row in zip(ids, cells, strict=True)])
    images(tmp_path / "ISIC2018_Task3_Training_Input", [f"{image}.jpg" for image in ids])
    listing = listed(ISIC_2018, tmp_path)
    assert [item.relative[-5:] for item in listing.items] == ["0.jpg"]
    assert all(isinstance(problem, TableError) for problem in listing.problems)
    words = [str(problem) for problem in listing.problems]
    assert len(words) == 3
    assert words[0].startswith("0 class columns of the row are 1; one image has one class (in 2 rows)")
    assert "row 3" in words[0]
    assert words[1].startswith("2 class columns of the row are 1")
    assert "something else than 0 and 1 (in 2 rows)" in words[2]
    assert "'0.5'" in words[2]
    assert set(reasons(listing)) == {f"{image}.jpg" for image in ids[1:]}


def test_images_of_other_tasks_are_named(tmp_path: Path) -> None:
    root = tree(tmp_path)
    images(root / "ISIC2018_Task3_Validation_Input", ["ISIC_0034321.jpg"])
    listing = listed(ISIC_2018, root)
    assert len(by_stem(listing)) == 7
    assert reasons(listing) == {"ISIC_0034321.jpg": f"not listed in {TRUTH}"}
