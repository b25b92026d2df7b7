from __future__ import annotations

from pathlib import Path

import pytest
from wardround.medical_datasets.sets.derm7pt import DERM7PT, GROUPS

from .skin_trees import images, listed, table

COLUMNS = [
    "case_num",
    "diagnosis",
    "seven_point_score",
    "pigment_network",
    "streaks",
    "pigmentation",
    "regression_structures",
    "dots_and_globules",
    "blue_whitish_veil",
    "vascular_structures",
    "level_of_diagnostic_difficulty",
    "elevation",
    "location",
    "sex",
    "clinic",
    "derm",
    "case_id",
    "notes",
    "management",
]
DIAGNOSES = [diagnosis for group in GROUPS.values() for diagnosis in group]


def tree(root: Path, meta: str = "meta") -> Path:
    rows = []
    for index, diagnosis in enumerate(DIAGNOSES):
        cells = {
            "case_num": str(index + 1),
            "diagnosis": diagnosis,
            "location": "Lower limbs",
            "sex": "female",
            "clinic": f"NEL/Nel{2 * index:03d}.jpg",
            "derm": f"NEL/Nel{2 * index + 1:03d}.jpg",
            "notes": "raised, pink" if index == 3 else "",
        }
        rows.append([cells.get(column, "") for column in COLUMNS])
    table(root / meta / "meta.csv", COLUMNS, rows)
    for name, split in (("train", range(10)), ("valid", range(10, 15)), ("test", range(15, 20))):
        table(root / meta / f"{name}_indexes.csv", ("indexes",), [[str(index)] for index in split])
    images(root / "images" / "NEL", [f"Nel{index:03d}.jpg" for index in range(2 * len(DIAGNOSES))])
    return root


@pytest.mark.parametrize("meta", ["meta", "."])
def test_dermoscopic_images_in_five_groups_with_the_supplied_split(tmp_path: Path, meta: str) -> None:
    assert len(DIAGNOSES) == 20
    listing = listed(DERM7PT, tree(tmp_path, meta))
    assert not listing.problems
    assert len(listing.items) == 20
    for index, item in enumerate(listing.items):
        assert item.relative == f"images/NEL/Nel{2 * index + 1:03d}.jpg"
        assert DIAGNOSES[index] in GROUPS[DERM7PT.class_names[item.label]]
        assert item.group == f"lesion_id:derm7pt-{index + 1}"
        assert item.split == ("train" if index < 10 else "validation" if index < 15 else "test")
        assert dict(item.subgroups) == {"sex": "female", "localisation": "lower limbs"}
    assert listing.items[3].cells["notes"] == "raised, pink"
    assert {skipped.reason for skipped in listing.skipped} == {
        "the clinical photograph of a case; its dermoscopic image is read"
    }
    assert len(listing.skipped) == 20


def test_without_the_lists_there_is_no_split(tmp_path: Path) -> None:
    root = tree(tmp_path)
    for path in root.glob("meta/*_indexes.csv"):
        path.unlink()
    assert {item.split for item in listed(DERM7PT, root).items} == {None}


@pytest.mark.parametrize(
    ("indexes", "words"),
    [
        (["0", "20"], "the index '20' is no row of meta.csv"),
        (["1.5"], "the index '1.5' is no row"),
        (["10"], "the index '10' is in two parts"),
    ],
)
def test_faulty_lists_are_a_problem(tmp_path: Path, indexes: list[str], words: str) -> None:
    root = tree(tmp_path)
    table(root / "meta" / "train_indexes.csv", ("indexes",), [[index] for index in indexes])
    listing = listed(DERM7PT, root)
    (problem,) = listing.problems
    assert words in str(problem)
    assert not listing.items


def test_an_unknown_diagnosis_is_a_problem(tmp_path: Path) -> None:
    root = tree(tmp_path)
    text = (root / "meta" / "meta.csv").read_bytes().replace(b"clark nevus", b"spitzoid tumour")
    (root / "meta" / "meta.csv").write_bytes(text)
    listing = listed(DERM7PT, root)
    (problem,) = listing.problems
    assert "'spitzoid tumour' is no class" in str(problem)
    assert len(listing.items) == 19
