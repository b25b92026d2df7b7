from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from wardround.medical_datasets.errors import DatasetLayoutError, EmptyClassError, TableError, UnknownClassError
from wardround.medical_datasets.listing import Listing, Wanted
from wardround.medical_datasets.loading import cohort_of
from wardround.medical_datasets.pixels import read_rgb
from wardround.medical_datasets.sets.nifti_folder import NIFTI_FOLDER

CLASSES = ("stroke", "haemorrhage")


def save(path: Path, values: NDArray[Any] | int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(values, int):
        shape = (10, 12, 16)
        array = np.zeros(shape, dtype=np.int16)
        array[1:9, 1:11, 2:14] = np.random.default_rng(values).integers(20, 80, size=(8, 10, 12))
        values = array
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    return path


def table(root: Path, *lines: str, name: str = "labels.csv") -> None:
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def listed(root: Path, classes: tuple[str, ...] | None = CLASSES, **options: Any) -> Listing:
    return NIFTI_FOLDER.read(NIFTI_FOLDER, Wanted(root=root, classes=classes, **options))


def test_a_hospitals_export(tmp_path: Path) -> None:
    for seed, name in enumerate(["a/ct1.nii.gz", "a/ct2.nii", "b/ct3.nii.gz"]):
        save(tmp_path / name, seed)
    mask = np.zeros((10, 12, 16), dtype=np.uint8)
    mask[3:5, 3:5, 11:13] = 1
    save(tmp_path / "masks" / "ct1.nii.gz", mask)
    table(
        tmp_path,
        "Path;Label;Patient_ID;Mask;Slice;Axis;Site;Sex;Age",
        "a/ct1.nii.gz;stroke;P-7;masks/ct1.nii.gz;;;north;F;61",
        "a/ct2.nii;Haemorrhage;P-8;;5;coronal;south;m;40",
        "b/ct3.nii.gz;stroke;;;;;;;",
    )
    listing = listed(tmp_path, slices=2)
    assert not listing.problems
    assert not listing.skipped
    found = [(i.relative, i.part, i.label, i.group, i.site, dict(i.subgroups)) for i in listing.items]
    assert found == [
        ("a/ct1.nii.gz", "axial=11", 0, "patient_id:P-7", "north", {"sex": "female", "age_band": "60-79"}),
        ("a/ct1.nii.gz", "axial=12", 0, "patient_id:P-7", "north", {"sex": "female", "age_band": "60-79"}),
        ("a/ct2.nii", "coronal=5", 1, "patient_id:P-8", "south", {"sex": "male", "age_band": "40-59"}),
        ("b/ct3.nii.gz", "axial=6", 0, "volume:b/ct3.nii.gz", None, {}),
        ("b/ct3.nii.gz", "axial=9", 0, "volume:b/ct3.nii.gz", None, {}),
    ]
    assert listing.dataset.class_names == CLASSES
    cohort = cohort_of(listing)
    assert [read_rgb(record.image).shape for record in cohort.records] == [
        (12, 10, 3),
        (12, 10, 3),
        (16, 10, 3),
        (12, 10, 3),
        (12, 10, 3),
    ]
    assert {item.where for item in listing.items} == {f"{tmp_path / 'labels.csv'}, row {row}" for row in (2, 3, 4)}


def test_single_slices_and_volumes_of_four_dimensions(tmp_path: Path) -> None:
    save(tmp_path / "flat.nii", np.arange(30, dtype=np.int16).reshape(6, 5))
    save(tmp_path / "many.nii.gz", np.random.default_rng(0).integers(1, 99, size=(6, 5, 8, 3)).astype(np.int16))
    table(
        tmp_path, "path,label,volume,slice", "flat.nii,stroke,,", "many.nii.gz,haemorrhage,2,", "many.nii.gz,stroke,1,3"
    )
    assert [(item.relative, item.part, item.group) for item in listed(tmp_path).items] == [
        ("flat.nii", "", "volume:flat.nii"),
        ("many.nii.gz", "axial=3,volume=1", "volume:many.nii.gz"),
        ("many.nii.gz", "axial=4,volume=2", "volume:many.nii.gz"),
    ]


def test_slices_are_chosen_in_the_plane_and_volume_of_the_row(tmp_path: Path) -> None:
    values = np.zeros((10, 12, 16, 2), dtype=np.int16)
    values[2:8, 2:5, 2:14, 0] = 7
    values[2:8, 7:10, 2:14, 1] = 7
    save(tmp_path / "a.nii", values)
    mask = np.zeros((10, 12, 16), dtype=np.uint8)
    mask[3:5, 6, 11:13] = 1
    save(tmp_path / "m.nii", mask)
    table(
        tmp_path,
        "path,label,axis,volume,mask",
        "a.nii,stroke,coronal,,",
        "a.nii,stroke,coronal,1,",
        "a.nii,haemorrhage,coronal,,m.nii",
    )
    found = {item.part: item.label for item in listed(tmp_path).items}
    assert found == {"coronal=3": 0, "coronal=8,volume=1": 0, "coronal=6": 1}


def test_a_patient_of_one_row_is_that_of_the_file(tmp_path: Path) -> None:
    for name in ("a.nii", "b.nii", "c.nii"):
        save(tmp_path / name, ord(name[0]))
    rows = ["a.nii,stroke,P,3", "a.nii,haemorrhage,,4", "b.nii,stroke,unknown,3", "b.nii,stroke,,4", "c.nii,stroke,P,5"]
    table(tmp_path, "path,label,patient,slice", *rows)
    listing = listed(tmp_path)
    assert not listing.problems
    assert [item.group for item in listing.items] == [
        "patient:P", "patient:P", "volume:b.nii", "volume:b.nii", "patient:P",
    ]  # fmt: skip


def test_one_file_of_two_patients_is_refused(tmp_path: Path) -> None:
    for name in ("a.nii", "b.nii"):
        save(tmp_path / name, ord(name[0]))
    rows = ["a.nii,stroke,P,3", "a.nii,haemorrhage,Q,4", "b.nii,stroke,P,3", "b.nii,stroke,R,4", "b.nii,stroke,P,5"]
    table(tmp_path, "path,label,patient,slice", *rows)
    with pytest.raises(TableError, match=r"two patients \(2 files\)") as caught:
        cohort_of(listed(tmp_path))
    assert "row 2; " in caught.value.where
    assert "row 3 (a.nii)" in caught.value.where


def test_a_study_has_to_name_the_classes(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", 1)
    table(tmp_path, "path,label", "a.nii,stroke", "a.nii,haemorrhage")
    listing = listed(tmp_path, None)
    with pytest.raises(EmptyClassError, match=r'classes = \["haemorrhage", "stroke"\]'):
        cohort_of(listing)
    assert listing.dataset.class_names == ("haemorrhage", "stroke")  # a check can look on
    with pytest.raises(EmptyClassError):
        listed(tmp_path, ("stroke",))


def test_other_labels_are_left_out_by_name_unless_misspelt(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        save(tmp_path / f"{name}.nii", ord(name))
    table(tmp_path, "path,label", "a.nii,stroke", "b.nii,haemorrhage", "c.nii,tumour", "d.nii,tumour")
    listing = listed(tmp_path)
    assert [(item.path.name, item.reason) for item in listing.skipped] == [
        ("c.nii", "the class 'tumour' is none of the classes asked for"),
        ("d.nii", "the class 'tumour' is none of the classes asked for"),
    ]
    assert len(cohort_of(listing).records) == 2
    table(tmp_path, "path,label", "a.nii,strooke", "b.nii,haemorrhage")
    with pytest.raises(UnknownClassError, match="did you mean 'stroke'"):
        cohort_of(listed(tmp_path))


def test_unreadable_and_unlisted_files_are_named(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        save(tmp_path / f"{name}.nii.gz", ord(name))
    broken = save(tmp_path / "broken.nii.gz", 9)
    broken.write_bytes(broken.read_bytes()[:200])
    save(tmp_path / "void.nii", np.zeros((4, 4, 4), dtype=np.int16))
    save(tmp_path / "small.nii", np.ones((3, 3, 3), dtype=np.uint8))
    table(
        tmp_path,
        "path,label,mask,slice",
        "a.nii.gz,stroke,,",
        "b.nii.gz,haemorrhage,,99",
        "broken.nii.gz,stroke,,",
        "void.nii,stroke,,",
        "c.nii.gz,haemorrhage,small.nii,",
    )
    save(tmp_path / "extra.nii", 5)
    (tmp_path / "scan.mha").write_bytes(b"x")
    listing = listed(tmp_path)
    reasons = {item.path.name: item.reason for item in listing.skipped}
    assert sorted(reasons) == ["broken.nii.gz", "c.nii.gz", "extra.nii", "scan.mha", "void.nii"]
    assert "unpacked" in reasons["broken.nii.gz"]
    assert "the mask has" in reasons["c.nii.gz"]
    assert reasons["extra.nii"] == "not listed in labels.csv"
    assert "is empty" in reasons["void.nii"]
    cohort = cohort_of(listing, allow_empty=True)
    assert [record.path.name for record in cohort.records] == ["a.nii.gz"]
    assert "there is no axial slice 99" in {item.reason.split(";")[0] for item in cohort.skipped}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("gone.nii,stroke,,,,", "no NIfTI file"),
        ("../a.nii,stroke,,,,", "not a path below"),
        ("/etc/passwd,stroke,,,,", "not a path below"),
        ("labels.csv,stroke,,,,", "no NIfTI file"),
        ("a.nii,stroke,gone.nii,,,", "'mask' names"),
        ("a.nii,stroke,,three,,", "'slice' holds"),
        ("a.nii,stroke,,-1,,", "'slice' holds"),
        ("a.nii,stroke,,1,oblique,", "the axis 'oblique' is none"),
        ("a.nii,stroke,,,,1.5", "'volume' holds"),
        ("a.nii,,,,,", "names no class"),
        ("b.nii,haemorrhage,,,,0", "a slice that row 2 gives too"),
        ("./b.nii,stroke,,8,axial,", "a slice that row 2 gives too"),
    ],
)
def test_rows_that_are_refused(tmp_path: Path, row: str, words: str) -> None:
    save(tmp_path / "a.nii", 1)
    save(tmp_path / "b.nii", 2)
    table(tmp_path, "path,label,mask,slice,axis,volume", "b.nii,haemorrhage,,,,", row)
    listing = listed(tmp_path)
    assert len(listing.items) == 1
    with pytest.raises(TableError, match=words) as caught:
        cohort_of(listing)
    assert "row 3" in caught.value.where


def test_tables(tmp_path: Path) -> None:
    with pytest.raises(DatasetLayoutError, match="does not exist"):
        listed(tmp_path / "gone")
    with pytest.raises(DatasetLayoutError, match=r"no table 'labels\.csv'"):
        listed(tmp_path)
    save(tmp_path / "a.nii", 1)
    table(tmp_path, "file,label", "a.nii,stroke")
    with pytest.raises(TableError, match="no column 'path'"):
        cohort_of(listed(tmp_path))
    table(tmp_path, "path,label,ward", "a.nii,stroke,W3", name="mine.csv")
    records = cohort_of(listed(tmp_path, labels="mine.csv"), site_column="ward", allow_empty=True).records
    assert [record.site for record in records] == ["W3"]


def test_one_slice_is_taken_once_and_the_table_lies_below_the_folder(tmp_path: Path) -> None:
    save(tmp_path / "flat.nii", np.arange(30, dtype=np.int16).reshape(6, 5))
    table(tmp_path, "path,label,axis,slice", "flat.nii,stroke,,", "flat.nii,haemorrhage,axial,0")
    listing = listed(tmp_path)
    assert [item.part for item in listing.items] == [""]
    assert "a slice that row 2 gives too" in listing.problems[0].what
    for labels in ("../labels.csv", "/etc/labels.csv", "C:\\labels.csv"):
        with pytest.raises(DatasetLayoutError, match="not below the data folder"):
            listed(tmp_path, labels=labels)


def test_a_file_whose_name_is_in_another_unicode_form_is_the_rows(tmp_path: Path) -> None:
    save(tmp_path / unicodedata.normalize("NFD", "ä.nii"), 1)
    table(tmp_path, "path,label", unicodedata.normalize("NFC", "ä.nii") + ",stroke", "x" * 300 + ".nii,stroke")
    listing = listed(tmp_path)
    assert len(listing.items) == 1
    assert not listing.skipped
    assert ["row 3" in problem.where for problem in listing.problems] == [True]
