from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wardround.medical_datasets.errors import DatasetLayoutError
from wardround.medical_datasets.listing import Wanted
from wardround.medical_datasets.readers.dicom import patient_group
from wardround.medical_datasets.sets.isic_2020 import ISIC_2020, second_copies

from ..readers.dicom_files import dataset, grey, write
from .skin_trees import by_stem, images, listed, reasons, table

V1 = (
    "image_name",
    "patient_id",
    "sex",
    "age_approx",
    "anatom_site_general_challenge",
    "diagnosis",
    "benign_malignant",
    "target",
)
ROWS = (
    ("ISIC_2637011", "IP_7279968", "male", "45.0", "head/neck", "unknown", "benign", "0"),
    ("ISIC_0015719", "IP_3075186", "female", "45.0", "upper extremity", "unknown", "benign", "0"),
    ("ISIC_0052212", "IP_2842074", "female", "50.0", "lower extremity", "melanoma", "malignant", "1"),
    ("ISIC_0068279", "IP_6890425", "", "", "", "unknown", "benign", "0"),
    ("ISIC_0074268", "IP_8723313", "female", "55.0", "torso", "nevus", "benign", "0"),
)


def tree(root: Path, name: str = "ISIC_2020_Training_GroundTruth.csv") -> Path:
    table(root / name, V1, ROWS)
    images(root / "train", [f"{row[0]}.jpg" for row in ROWS])
    return root


@pytest.mark.parametrize("name", ["train.csv", "ISIC_2020_Training_GroundTruth.csv"])
def test_patients_are_the_groups(tmp_path: Path, name: str) -> None:
    items = by_stem(listed(ISIC_2020, tree(tmp_path, name)))
    assert {stem: (ISIC_2020.class_names[item.label], item.group) for stem, item in items.items()} == {
        row[0]: (row[6], f"patient_id:{row[1]}") for row in ROWS
    }
    assert dict(items["ISIC_0052212"].subgroups) == {
        "sex": "female",
        "age_band": "40-59",
        "localisation": "lower extremity",
    }


def test_version_two_wins_and_its_blank_patient_falls_back_to_the_lesion(tmp_path: Path) -> None:
    root = tree(tmp_path)
    columns = (*V1[:2], "lesion_id", *V1[2:])
    rows = [(row[0], "" if row is ROWS[0] else row[1], f"IL_{index}", *row[2:]) for index, row in enumerate(ROWS)]
    table(root / "ISIC_2020_Training_GroundTruth_v2.csv", columns, rows)
    listing = listed(ISIC_2020, root)
    assert by_stem(listing)["ISIC_2637011"].group == "lesion_id:IL_0"
    assert "lesion_id" in listing.columns


def test_published_duplicates_are_left_out_by_name(tmp_path: Path) -> None:
    root = tree(tmp_path)
    pairs = [
        ("ISIC_2637011", "ISIC_0015719"),
        ("ISIC_0015719", "ISIC_0074268"),
        ("ISIC_9999999", "ISIC_0068279"),  # the first is not in the table: nothing is lost
    ]
    table(root / "ISIC_2020_Training_Duplicates.csv", ("image_name_1", "image_name_2"), pairs)
    listing = listed(ISIC_2020, root)
    assert set(by_stem(listing)) == {"ISIC_2637011", "ISIC_0052212", "ISIC_0068279"}
    reason = "a duplicate by ISIC_2020_Training_Duplicates.csv"
    assert reasons(listing) == {"ISIC_0015719.jpg": reason, "ISIC_0074268.jpg": reason}


def test_the_jpeg_is_read_where_there_is_a_dicom_file_too(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "dicom").mkdir()
    for name in ("ISIC_2637011.dcm", "ISIC_0015719.DCM"):
        (root / "dicom" / name).write_bytes(b"\0" * 128 + b"DICM")
    (root / "train" / "ISIC_0015719.jpg").unlink()
    listing = listed(ISIC_2020, root)
    items = by_stem(listing)
    assert items["ISIC_2637011"].relative == "train/ISIC_2637011.jpg"
    assert items["ISIC_0015719"].relative == "dicom/ISIC_0015719.DCM"
    assert reasons(listing) == {"ISIC_2637011.dcm": "a copy of another file of its name"}


def test_tags_of_dicom_images_count(tmp_path: Path) -> None:
    root = tree(tmp_path)
    rows = [(*ROWS[0][:1], "", *ROWS[0][2:]), (*ROWS[1][:1], "", *ROWS[1][2:]), ROWS[2]]
    table(root / "ISIC_2020_Training_GroundTruth.csv", V1, rows)
    for name, tags in (
        ("ISIC_2637011", {"PatientID": "IP_1"}),
        ("ISIC_0015719", {"PatientID": "IP_1"}),
        ("ISIC_0052212", {"PatientID": "IP_2842074", "BurnedInAnnotation": "YES"}),
    ):
        (root / "train" / f"{name}.jpg").unlink()
        write(dataset(grey((8, 8)), **tags), root / "train" / f"{name}.dcm")
    listing = listed(ISIC_2020, root)
    assert {item.group for item in listing.items} == {patient_group("IP_1")}
    assert len(listing.items) == 2
    assert "burned into" in reasons(listing)["ISIC_0052212.dcm"]
    everything = ISIC_2020.read(ISIC_2020, Wanted(root, burned_in=True))
    assert {item.group for item in everything.items} == {patient_group("IP_1"), "patient_id:IP_2842074"}


def test_an_image_without_patient_and_lesion_has_no_group(tmp_path: Path) -> None:
    root = tree(tmp_path)
    table(root / "ISIC_2020_Training_GroundTruth.csv", V1, [(*ROWS[0][:1], "", *ROWS[0][2:]), *ROWS[1:]])
    assert by_stem(listed(ISIC_2020, root))["ISIC_2637011"].group is None


def test_contradicting_columns_are_a_problem(tmp_path: Path) -> None:
    root = tree(tmp_path)
    table(root / "ISIC_2020_Training_GroundTruth.csv", V1, [(*ROWS[0][:-1], "1"), (*ROWS[2][:-1], "1.0")])
    listing = listed(ISIC_2020, root)
    (problem,) = listing.problems
    assert "contradict" in str(problem)
    assert "row 2" in str(problem)
    assert [item.relative for item in listing.items] == ["train/ISIC_0052212.jpg"]


def test_no_table_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetLayoutError, match=r"looked for ISIC_2020_Training_GroundTruth_v2\.csv"):
        listed(ISIC_2020, tmp_path)


NAMES = st.sampled_from("abcdefgh")


@given(pairs=st.lists(st.tuples(NAMES, NAMES), max_size=12), there=st.frozensets(NAMES))
def test_one_of_every_set_of_copies_stays(pairs: list[tuple[str, str]], there: frozenset[str]) -> None:
    dropped = second_copies(pairs, there)
    assert dropped <= there
    sets = [{name} for name in there]  # slow oracle: merge until nothing changes
    for first, second in pairs:
        if first in there and second in there:
            touched = [each for each in sets if first in each or second in each]
            sets = [each for each in sets if each not in touched] + [set().union(*touched)]
    assert all(len(each - dropped) == 1 for each in sets)


def test_the_first_of_a_pair_stays() -> None:
    names = frozenset("abc")
    assert second_copies([("a", "b")], names) == {"b"}
    assert second_copies([("a", "b"), ("b", "a")], names) == {"b"}
    assert second_copies([("a", "b"), ("b", "c")], names) == {"b", "c"}
