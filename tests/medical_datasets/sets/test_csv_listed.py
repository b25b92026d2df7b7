from __future__ import annotations

import unicodedata
from pathlib import Path

import nibabel
import numpy as np
import pytest
from wardround.medical_datasets.errors import DatasetLayoutError, EmptyClassError, TableError, UnknownClassError
from wardround.medical_datasets.listing import Listing, Wanted
from wardround.medical_datasets.loading import cohort_of
from wardround.medical_datasets.readers.dicom import patient_group
from wardround.medical_datasets.sets.csv_listed import CSV_LISTED

from ..pictures import save
from ..readers.dicom_files import dataset, grey, write


def table(root: Path, *lines: str, name: str = "labels.csv") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def read(root: Path, *classes: str, labels: str = "labels.csv") -> Listing:
    return CSV_LISTED.read(CSV_LISTED, Wanted(root, classes or ("ill", "well"), labels))


def reasons(listing: Listing) -> dict[str, str]:
    return {skipped.path.relative_to(listing.root).as_posix(): skipped.reason for skipped in listing.skipped}


def test_rows_become_items(tmp_path: Path) -> None:
    save(tmp_path / "x/1.png", 1)
    save(tmp_path / "2.jpg", 2)
    save(tmp_path / "3.tif", 3)
    table(
        tmp_path,
        "Path;Label;Patient;Site;Split;Sex;Age;Source",
        "x\\1.png;ill;17;north;Training;F;44;scanner A",
        "2.jpg;WELL;18;south;val;;;",
        "3.tif;unsure;19;south;test;M;9;",
    )
    listing = read(tmp_path)
    assert not listing.problems
    assert listing.dataset.class_names == ("ill", "well")
    second, first = listing.items
    assert (first.relative, first.label, first.group, first.site, first.split) == (
        "x/1.png", 0, "patient:17", "north", "train",
    )  # fmt: skip
    assert dict(first.subgroups) == {"sex": "female", "age_band": "40-59", "source": "scanner A"}
    assert (second.label, second.group, second.site, second.split) == (1, "patient:18", "south", "validation")
    assert reasons(listing) == {"3.tif": "the class 'unsure' is none of the classes asked for"}
    assert "site" in listing.columns
    cohort = cohort_of(listing)
    assert [record.site for record in cohort.records] == ["south", "north"]


def test_the_order_of_labels_is_the_studys(tmp_path: Path) -> None:
    save(tmp_path / "1.png", 1)
    table(tmp_path, "path,label", "1.png,ill")
    assert read(tmp_path, "well", "ill").items[0].label == 1


def test_labels_that_are_alike_are_other_classes(tmp_path: Path) -> None:
    for number in (2, 3, 4):
        save(tmp_path / f"{number}.png", number)
    table(tmp_path, "path,label", "2.png,grade 2", "3.png,grade 3", "4.png,grade 4")
    listing = read(tmp_path, "grade_2", "grade_4")
    assert not listing.problems
    assert [item.relative for item in listing.items] == ["2.png", "4.png"]
    assert list(reasons(listing)) == ["3.png"]


def test_paths_start_from_the_tables_folder(tmp_path: Path) -> None:
    save(tmp_path / "site/a/1.png", 1)
    save(tmp_path / "1.png", 2)
    table(tmp_path, "path,label", "a/1.png,ill", name="site/list.csv")
    listing = read(tmp_path, labels="site/list.csv")
    assert [item.relative for item in listing.items] == ["site/a/1.png"]
    assert reasons(listing) == {"1.png": "not listed in list.csv"}


@pytest.mark.parametrize("written", ["../outside.png", "a/../../outside.png", "/etc/passwd", "C:\\a.png"])
def test_a_path_outside_the_tables_folder_is_a_problem(tmp_path: Path, written: str) -> None:
    save(tmp_path / "outside.png", 1)
    root = tmp_path / "data"
    save(root / "1.png", 2)
    table(root, "path,label", "1.png,ill", f"{written},well")
    (problem,) = read(root).problems
    assert isinstance(problem, TableError)
    assert "not a path below the table's folder" in str(problem)
    assert "row 3" in str(problem)
    assert f"'{written}'" in str(problem)  # backslashes are not doubled


@pytest.mark.parametrize("written", ["x" * 300 + ".png", "a\0b.png", "a/" * 3000 + "1.png"])
def test_what_can_be_no_files_name_is_a_problem_of_its_row(tmp_path: Path, written: str) -> None:
    save(tmp_path / "1.png", 1)
    table(tmp_path, "path,label", "1.png,ill", f"{written},well")
    (problem,) = read(tmp_path).problems
    assert "row 3" in problem.where
    assert "an image that is not there" in problem.what


def test_an_empty_path_and_a_table_of_another_folder_are_explained(tmp_path: Path) -> None:
    save(tmp_path / "deep/1.png", 1)
    table(tmp_path, "path,label", ",ill")
    assert read(tmp_path).problems[0].what == "the row names no file"
    table(tmp_path, "path,label", "1.png,ill")
    assert "the first is '1.png'; the folder holds 'deep/1.png'" in read(tmp_path).problems[0].what


def test_a_misspelt_label_is_a_problem_that_says_what_was_meant(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / f"{number}.png", number)
    table(tmp_path, "path,label", "0.png,benign", "1.png,maligant", "2.png,malignant", "3.png,inflamed")
    (problem,) = read(tmp_path, "benign", "malignant").problems
    assert isinstance(problem, UnknownClassError)
    assert "row 3" in problem.where
    assert problem.what.startswith("the label 'maligant' is no class")
    assert problem.remedy == "did you mean 'malignant'? correct the rows, or remove them"


def test_without_classes_in_the_study_a_check_sees_those_of_the_table(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", number)
    table(tmp_path, "path,label", "0.png,well", "1.png,Ill", "2.png,ill")
    listing = CSV_LISTED.read(CSV_LISTED, Wanted(tmp_path))
    assert [type(problem) for problem in listing.problems] == [EmptyClassError]
    assert listing.dataset.class_names == ("Ill", "well")
    assert [item.label for item in listing.items] == [1, 0, 0]


def test_names_of_files_are_found_in_either_unicode_form(tmp_path: Path) -> None:
    save(tmp_path / unicodedata.normalize("NFD", "Süd/ä.png"), 1)
    table(tmp_path, "path,label", unicodedata.normalize("NFC", "Süd/ä.png") + ",ill")
    listing = read(tmp_path)
    assert not listing.problems
    assert not listing.skipped
    assert (tmp_path / listing.items[0].relative).is_file()


def test_one_picture_is_taken_once_however_its_part_is_written(tmp_path: Path) -> None:
    write(dataset(grey((8, 8)), PatientID="A"), tmp_path / "1.dcm")
    write(dataset(np.stack([grey((8, 8))] * 9), PatientID="B"), tmp_path / "9.dcm")
    save(tmp_path / "1.png", 1)
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 6), dtype=np.int16), np.eye(4)), tmp_path / "v.nii")
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 1), dtype=np.int16), np.eye(4)), tmp_path / "flat.nii")
    same = {
        "1.dcm": ("", "frame=0", "frame=00"),
        "9.dcm": ("frame=5", "frame=05"),
        "1.png": ("", "frame=0"),
        "v.nii": ("axial=5", "axial=05", "axial=5,volume=0", "axial=5,volume=00"),
        "flat.nii": ("", "axial=0", "volume=0", "axial=0,volume=0"),
        "a.npz": ("train_images/5", "train_images/05"),
    }
    (tmp_path / "a.npz").write_bytes(b"x")
    for name, spellings in same.items():
        for spelling in spellings:
            table(tmp_path, "path,label,part", f'{name},ill,"{spellings[0]}"', f'{name},ill,"{spelling}"')
            listing = read(tmp_path)
            assert [item.part for item in listing.items] == [spellings[0]], (name, spelling)
            assert [problem.what for problem in listing.problems] == ["two rows name one image"], (name, spelling)
            table(tmp_path, "path,label,part", f'{name},ill,"{spelling}"')
            assert [item.part for item in read(tmp_path).items] == [spellings[0]], (name, spelling)
    table(tmp_path, "path,label,part", "v.nii,ill,axial=0", "v.nii,ill,coronal=0", "9.dcm,ill,frame=0")
    assert [item.part for item in read(tmp_path).items] == ["frame=0", "axial=0", "coronal=0"]
    table(tmp_path, "path,label,part", "1.png,ill,frame=1")
    assert "the part 'frame=1' of an ordinary picture" in read(tmp_path).problems[0].what


def test_names_of_people_in_a_subgroup_column_do_not_reach_the_cohort(tmp_path: Path) -> None:
    rows = []
    for number in range(8):
        save(tmp_path / f"{number}.png", number)
        rows.append(f"{number}.png,{'ill' if number % 2 else 'well'},p{number},Dr Name{number},Anna {number}")
    table(tmp_path, "path,label,patient,source,age_band", *rows)
    assert [dict(record.subgroups) for record in cohort_of(read(tmp_path)).records] == [{}] * 8


def test_other_formats_are_listed_by_path(tmp_path: Path) -> None:
    names = ["1.dcm", "2.nii.gz", "3.mat", "4.IMA", "5.npz", "6"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "other.dcm").write_bytes(b"x")
    table(tmp_path, "path,label,part", *(f"{name},ill,{'frame=2' if name == '1.dcm' else ''}" for name in names))
    listing = read(tmp_path)
    assert not listing.problems
    assert [(item.relative, item.part) for item in listing.items] == [
        (name, "frame=2" if name == "1.dcm" else "") for name in names
    ]
    assert reasons(listing)["other.dcm"] == "not listed in labels.csv"


def test_frames_of_one_file_are_several_images(tmp_path: Path) -> None:
    (tmp_path / "1.dcm").write_bytes(b"x")
    table(tmp_path, "path,label,part,patient_id", "1.dcm,ill,frame=1,p", "1.dcm,well,frame=2,p")
    listing = read(tmp_path)
    assert not listing.problems
    assert [(item.name, item.label) for item in listing.items] == [("1.dcm#frame=1", 0), ("1.dcm#frame=2", 1)]


def test_unknown_patients_are_joined_by_likeness(tmp_path: Path) -> None:
    save(tmp_path / "1.png", 1)
    save(tmp_path / "2.jpg", 1, quality=80)
    save(tmp_path / "3.png", 3)
    table(tmp_path, "path,label,patient_id", "1.png,ill,p", "2.jpg,well,", "3.png,well,unknown")
    group = [record.group for record in cohort_of(read(tmp_path)).records]
    assert group[:2] == ["patient_id:p", "patient_id:p"]
    assert group[2].startswith("similar:")


def test_a_patient_counts_for_every_row_of_a_lesion(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        save(tmp_path / f"{number}.png", number)
    table(tmp_path, "path,label,patient_id,lesion_id", "1.png,unsure,p,L", "2.png,well,,L", "3.png,ill,,M")
    # Row 2 is left out for its class, and yet tells the patient.
    assert [item.group for item in read(tmp_path).items] == ["patient_id:p", "lesion_id:M"]


def test_slices_of_a_volume_are_one_group_and_members_of_an_archive_are_not(tmp_path: Path) -> None:
    for name in ("1.nii.gz", "2.nii", "3.npz"):
        (tmp_path / name).write_bytes(b"x")
    table(
        tmp_path,
        "path,label,part,patient",
        "1.nii.gz,ill,axial=1,",
        "1.nii.gz,well,axial=2,unknown",
        "2.nii,ill,axial=1,",
        "2.nii,well,axial=2,p",
        "3.npz,ill,images/0,",
        "3.npz,well,images/1,",
    )
    assert [item.group for item in read(tmp_path).items] == [
        "volume:1.nii.gz", "volume:1.nii.gz", "patient:p", "patient:p", None, None,
    ]  # fmt: skip


def test_one_file_of_two_patients_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "1.nii").write_bytes(b"x")
    table(tmp_path, "path,label,part,patient", "1.nii,ill,axial=1,p", "1.nii,ill,axial=2,", "1.nii,well,axial=3,q")
    (problem,) = read(tmp_path).problems
    assert isinstance(problem, TableError)
    assert "two patients" in problem.what
    assert "row 2" in problem.where
    assert "row 4" in problem.where


def test_tags_of_dicom_files_tell_the_patient_and_burned_in_text(tmp_path: Path) -> None:
    for name, tags in {
        "1.dcm": {"PatientID": "A", "StudyInstanceUID": "1.2.1"},
        "2": {"PatientID": "A", "StudyInstanceUID": "1.2.2"},
        "3.dcm": {"PatientID": "", "StudyInstanceUID": "1.2.3"},
        "4.dcm": {"PatientID": "", "StudyInstanceUID": "1.2.3"},
        "5.dcm": {"PatientID": "B", "BurnedInAnnotation": "YES"},
        "6.dcm": {"PatientID": "C"},
        "7.dcm": {"PatientID": "C"},
    }.items():
        write(dataset(grey((8, 8)), **tags), tmp_path / name)
    rows = [f"{name},ill," for name in ("1.dcm", "2", "3.dcm", "4.dcm", "5.dcm")]
    table(tmp_path, "path,label,patient", *rows, "6.dcm,well,named", "7.dcm,well,")
    listing = read(tmp_path)
    group = {item.relative: item.group for item in listing.items}
    assert group["1.dcm"] == group["2"] == patient_group("A")
    assert group["3.dcm"] == group["4.dcm"]
    assert str(group["3.dcm"]).startswith("study:")
    assert group["6.dcm"] == group["7.dcm"] == "patient:named"
    assert "burned into" in reasons(listing)["5.dcm"]
    taken = CSV_LISTED.read(CSV_LISTED, Wanted(tmp_path, ("ill", "well"), burned_in=True))
    assert {item.relative: item.group for item in taken.items}["5.dcm"] == patient_group("B")


def test_files_that_lack_the_patient_or_the_issuer_belong_to_the_others_of_their_study(tmp_path: Path) -> None:
    for name, tags in {
        "1.dcm": {"PatientID": "A", "IssuerOfPatientID": "N", "StudyInstanceUID": "1.2.1"},
        "2.dcm": {"PatientID": "", "StudyInstanceUID": "1.2.1"},
        "3.dcm": {"PatientID": "A", "StudyInstanceUID": "1.2.3"},
        "4.dcm": {"PatientID": "B", "IssuerOfPatientID": "N"},
        "5.dcm": {"PatientID": "B", "IssuerOfPatientID": "S"},
    }.items():
        write(dataset(grey((8, 8)), **tags), tmp_path / name)
    table(tmp_path, "path,label", *(f"{number}.dcm,ill" for number in range(1, 6)))
    group = [item.group for item in read(tmp_path).items]
    assert len(set(group[:3])) == 1
    assert group[3:] == [patient_group("B", "N"), patient_group("B", "S")]


def test_frames_of_a_file_without_any_name_are_one_group(tmp_path: Path) -> None:
    made = dataset(np.stack([grey((8, 8))] * 3), PatientID="", StudyInstanceUID="")
    write(made, tmp_path / "1.dcm")
    table(tmp_path, "path,label,part", "1.dcm,ill,frame=0", "1.dcm,well,frame=2")
    assert [item.group for item in read(tmp_path).items] == ["volume:1.dcm"] * 2


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("path,label", "1.png,ill", "1.png,well"), "two rows name one image.*row 3, and row 2"),
        (("path,label", "1.png,ill", "9.png,well"), "1 of 2 rows name an image that is not there.*9.png"),
        (("path,label", "1.png,"), "names no class.*row 2"),
        (("path,label,split", "1.png,ill,later"), "the split 'later'.*row 2"),
    ],
)
def test_rows_that_say_nothing_sensible_are_problems(tmp_path: Path, lines: tuple[str, ...], words: str) -> None:
    save(tmp_path / "1.png", 1)
    listing = read(table(tmp_path, *lines))
    with pytest.raises(TableError, match=words):
        raise listing.problems[0]


def test_tables_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "1.png", 1)
    with pytest.raises(DatasetLayoutError, match=r"no table 'labels\.csv'.*key labels"):
        read(tmp_path)
    for labels in ("../labels.csv", "/etc/labels.csv"):
        with pytest.raises(DatasetLayoutError, match="not below the data folder"):
            read(tmp_path, labels=labels)
    with pytest.raises(DatasetLayoutError, match="does not exist"):
        read(tmp_path / "none")
    table(tmp_path, "file,label", "1.png,ill")
    with pytest.raises(TableError, match="no column 'path'"):
        read(tmp_path)
    table(tmp_path, "path,label", "1.png,ill")
    with pytest.raises(EmptyClassError, match='classes = \\["ill"\\]'):
        cohort_of(CSV_LISTED.read(CSV_LISTED, Wanted(tmp_path)))
    with pytest.raises(EmptyClassError, match="the study names 1"):
        CSV_LISTED.read(CSV_LISTED, Wanted(tmp_path, ("ill",)))
