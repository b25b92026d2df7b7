from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import BasicTextSRStorage
from wardround.medical_datasets.dicom_labels import DicomImage
from wardround.medical_datasets.dicom_patients import with_patients
from wardround.medical_datasets.errors import DatasetLayoutError, TableError
from wardround.medical_datasets.listing import Item, Listing, Wanted
from wardround.medical_datasets.loading import cohort_of
from wardround.medical_datasets.readers.dicom import DicomFacts, is_dicom, patient_group
from wardround.medical_datasets.sets import dicom_folder
from wardround.medical_datasets.sets.dicom_folder import DICOM_FOLDER

from ..readers.dicom_files import dataset, grey, write

CLASSES = ("normal", "nodule")
SECRETS = ("Mustermann", "19561111", "MRN4711", "A77")


def put(root: Path, name: str, number: int, **elements: object) -> Path:
    """An image of patient ``P<number>`` with easy identifiers."""
    made = dataset(
        grey((8, 8)),
        **{
            "PatientID": f"P{number}",
            "StudyInstanceUID": f"1.2.{number}",
            "SeriesInstanceUID": f"1.3.{number}",
            "SOPInstanceUID": f"1.4.{number}",
            "AccessionNumber": f"ACC{number}",
            **elements,
        },
    )
    return write(made, root / name)


def table(root: Path, *lines: str, name: str = "labels.csv") -> None:
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def listed(root: Path, classes: tuple[str, ...] | None = CLASSES, **options: object) -> Listing:
    return DICOM_FOLDER.read(DICOM_FOLDER, Wanted(root, classes, **options))  # type: ignore[arg-type]


def two(root: Path) -> None:
    put(root, "a/1.dcm", 1, Manufacturer="Acme", ManufacturerModelName="Ring", PatientSex="F", PatientAge="045Y")
    put(root, "b/IM0001", 2, InstitutionName="North", BodyPartExamined="CHEST")


def skipped(listing: Listing) -> dict[str, str]:
    return {each.path.name: each.reason for each in listing.skipped}


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("path", ("a/1.dcm", "b/IM0001")),
        ("path", ("a\\1.dcm", "./b/IM0001")),
        ("sop_instance_uid", ("1.4.1", "1.4.2")),
        ("SOPInstanceUID", ("1.4.1", "1.4.2")),
        ("SeriesInstanceUID", ("1.3.1", "1.3.2")),
        ("study_instance_uid", ("1.2.1", "1.2.2")),
        ("AccessionNumber", ("ACC1", "ACC2")),
        ("patient_id", ("P1", "P2")),
        ("PatientID", ("P1", "P2")),
    ],
)
def test_every_key_finds_its_image(column: str, values: tuple[str, str], tmp_path: Path) -> None:
    two(tmp_path)
    table(tmp_path, f"{column},label", f"{values[0]},nodule", f"{values[1]},normal")
    found = listed(tmp_path)
    assert not found.problems
    assert not found.skipped
    assert [(item.relative, item.label, item.part) for item in found.items] == [("a/1.dcm", 1, ""), ("b/IM0001", 0, "")]
    assert [item.group for item in found.items] == [patient_group("P1"), patient_group("P2")]
    assert found.dataset.class_names == CLASSES
    cohort = cohort_of(found)
    assert [record.label for record in cohort.records] == [1, 0]
    assert found.items[0].subgroups == {"sex": "female", "age_band": "40-59", "device": "Acme Ring"}


def test_the_most_specific_of_several_keys_counts_and_the_patient_column_names_the_patient(tmp_path: Path) -> None:
    two(tmp_path)
    table(tmp_path, "patient_id,path,label", "X,a/1.dcm,nodule", "X,b/IM0001,normal")
    found = listed(tmp_path)
    assert not found.problems
    assert {item.group for item in found.items} == {patient_group("X")}


def test_a_series_labels_all_its_images(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path, f"{number}.dcm", number, SeriesInstanceUID="1.3.9")
    table(tmp_path, "series_instance_uid,label", "1.3.9,nodule", "1.3.9,nodule")
    found = listed(tmp_path)
    assert not found.problems
    assert [item.label for item in found.items] == [1, 1, 1]


def test_columns_win_over_tags_and_sites_come_from_a_column(tmp_path: Path) -> None:
    two(tmp_path)
    table(
        tmp_path,
        "path;label;site;patient;sex;age",
        "a/1.dcm;nodule;west;MRN4711;M;12",
        "b/IM0001;normal;east;MRN4711;F;70",
    )
    first, second = listed(tmp_path).items
    assert (first.site, second.site) == ("west", "east")
    assert first.group == second.group == patient_group("MRN4711")
    assert first.subgroups == {"sex": "male", "age_band": "0-19", "device": "Acme Ring"}
    assert "MRN4711" not in str(first)


def test_institution_is_a_site_only_where_it_is_named(tmp_path: Path) -> None:
    for number in range(2):
        put(tmp_path, f"{number}.dcm", number, InstitutionName=f"House {number}")
    table(tmp_path, "path,label", "0.dcm,nodule", "1.dcm,normal")
    found = listed(tmp_path)
    assert [item.site for item in found.items] == [None, None]
    assert [record.site for record in cohort_of(found, site_column="InstitutionName").records] == ["House 0", "House 1"]


def test_files_that_give_no_image_are_named_with_a_reason(tmp_path: Path) -> None:
    two(tmp_path)
    put(tmp_path, "unlisted.dcm", 3)
    put(tmp_path, "burned.dcm", 4, BurnedInAnnotation="YES")
    put(tmp_path, "report.dcm", 5, SOPClassUID=BasicTextSRStorage, Modality="SR", PixelData=None)
    put(tmp_path, "other.dcm", 6)
    put(tmp_path, "odd.jpg", 7)
    (tmp_path / "broken.dcm").write_bytes(put(tmp_path, "whole.dcm", 8).read_bytes()[:400])
    (tmp_path / "whole.dcm").unlink()
    (tmp_path / "notes.txt").write_text("nothing", encoding="utf-8")
    (tmp_path / "gone.dcm").symlink_to(tmp_path / "nowhere")
    table(
        tmp_path,
        "path,label",
        "a/1.dcm,nodule",
        "b/IM0001,normal",
        "burned.dcm,nodule",
        "other.dcm,fracture",
        "broken.dcm,nodule",
    )
    found = listed(tmp_path)
    assert not found.problems
    reasons = skipped(found)
    assert "not listed in labels.csv" in reasons["unlisted.dcm"]
    assert "BurnedInAnnotation" in reasons["burned.dcm"]
    assert "Basic Text SR" in reasons["report.dcm"]
    assert "'fracture' is none of the classes" in reasons["other.dcm"]
    assert "name it *.dcm" in reasons["odd.jpg"]
    assert reasons["broken.dcm"]
    assert reasons["notes.txt"] == "not a DICOM file"
    assert "link to nothing" in reasons["gone.dcm"]
    assert len(found.items) == 2
    assert len(reasons) == 8
    assert len(listed(tmp_path, burned_in=True).items) == 3


@pytest.mark.parametrize(
    ("lines", "words", "row"),
    [
        (["path,label", "a/1.dcm,nodule", "c.dcm,normal", "d.dcm,normal"], "2 of 3 rows have no image", "row 3"),
        (["path,label", "a/1.dcm,nodule", "a/1.dcm,normal"], "'label' says something else", "row 3"),
        (["path,label,site", "a/1.dcm,nodule,x", "a/1.dcm,nodule,y"], "'site' says something else", "row 3"),
        (["path,label,patient", "a/1.dcm,nodule,x", "b/IM0001,normal,"], "names no patient in 1 of 2", "row 3"),
        (["path,label", "a/1.dcm,nodul"], "'nodul' is no class", "row 2"),
        (["path,label", "a/1.dcm,"], "'label' is empty", "row 2"),
        (["path,label", ",nodule"], "'path' is empty", "row 2"),
        (["path,label,frame", "a/1.dcm,nodule,1"], "frame '1' is not one of the 1", "row 2"),
        (["path,label,frame", "a/1.dcm,nodule,x"], "frame 'x'", "row 2"),
    ],
)
def test_rows_that_contradict_are_problems(lines: list[str], words: str, row: str, tmp_path: Path) -> None:
    two(tmp_path)
    table(tmp_path, *lines)
    found = listed(tmp_path)
    assert len(found.problems) == 1
    assert words in found.problems[0].what
    assert row in found.problems[0].where
    assert found.problems[0].remedy


def test_one_image_in_two_files(tmp_path: Path) -> None:
    put(tmp_path, "1.dcm", 1)
    put(tmp_path, "copy.dcm", 1)
    table(tmp_path, "path,label", "1.dcm,nodule", "copy.dcm,nodule")
    found = listed(tmp_path)
    assert [item.relative for item in found.items] == ["1.dcm"]
    assert "the same image as 1.dcm" in skipped(found)["copy.dcm"]
    table(tmp_path, "path,label", "1.dcm,nodule", "copy.dcm,normal")
    assert "two labels" in listed(tmp_path).problems[0].what


def test_frames(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(dataset(grey((5, 8, 8))), tmp_path / f"{name}.dcm")
    table(tmp_path, "path,label,frame", "a.dcm,nodule,4", "a.dcm,normal,0", "b.dcm,nodule,")
    found = listed(tmp_path)
    assert not found.problems
    assert [(item.name, item.label) for item in found.items] == [
        ("a.dcm#frame=0", 0),
        ("a.dcm#frame=4", 1),
        ("b.dcm#frame=2", 1),
    ]
    assert len(cohort_of(found).records) == 3


def test_without_classes_the_labels_are_offered_and_listed(tmp_path: Path) -> None:
    two(tmp_path)
    table(tmp_path, "path,label", "a/1.dcm,nodule", "b/IM0001,normal")
    found = listed(tmp_path, classes=None)
    assert 'classes = ["nodule", "normal"]' in found.problems[0].remedy
    assert [item.label for item in found.items] == [0, 1]  # so that a check can look at them all the same


def test_folder_and_table_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetLayoutError, match="does not exist"):
        listed(tmp_path / "none")
    with pytest.raises(TableError, match="no table of labels"):
        listed(tmp_path)
    table(tmp_path, "file,label", "a,b")
    with pytest.raises(TableError, match="no column says which image"):
        listed(tmp_path)
    table(tmp_path, "SOPInstanceUIDs,label", "a,b")
    with pytest.raises(TableError) as refused:
        listed(tmp_path)
    assert "did you mean 'sopinstanceuid'?" in refused.value.remedy
    table(tmp_path, "path,class", "a,b", name="other.csv")
    with pytest.raises(TableError, match="label"):
        listed(tmp_path, labels="other.csv")


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two(tmp_path)
    table(tmp_path, "path,label", "a/1.dcm,nodule")
    scandir = os.scandir

    def deny(folder: str) -> object:
        if str(folder).endswith(denied):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", deny)
    denied = "/b"
    found = listed(tmp_path)
    assert not found.problems
    assert skipped(found) == {"b": "the folder cannot be listed (Permission denied)"}
    assert [each.relative for each in found.items] == ["a/1.dcm"]
    denied = str(tmp_path)
    with pytest.raises(DatasetLayoutError, match="Permission denied"):
        listed(tmp_path)


def test_pipes_loops_and_linked_folders_do_not_hold_a_listing_up(tmp_path: Path) -> None:
    two(tmp_path)
    os.mkfifo(tmp_path / "x.dcm")
    (tmp_path / "round.dcm").symlink_to(tmp_path / "round.dcm")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    table(tmp_path, "path,label", "a/1.dcm,nodule", "b/IM0001,normal")
    found = listed(tmp_path)
    assert not found.problems
    assert len(found.items) == 2
    reasons = skipped(found)
    assert set(reasons) == {"x.dcm", "round.dcm", "up"}
    assert "not a regular file" in reasons["x.dcm"]
    assert "links are not followed" in reasons["up"]


def test_files_that_vanish_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two(tmp_path)
    put(tmp_path, "c.dcm", 3)
    table(tmp_path, "path,label", "a/1.dcm,nodule", "b/IM0001,normal", "c.dcm,normal")
    found = listed(tmp_path)
    (tmp_path / "c.dcm").unlink()
    cohort = cohort_of(found)
    assert [each.path.name for each in cohort.skipped] == ["c.dcm"]
    put(tmp_path, "c.dcm", 3)
    monkeypatch.setattr(dicom_folder, "is_dicom", lambda path: is_dicom(path) and (path.name != "c.dcm" or gone(path)))
    again = listed(tmp_path)
    assert not again.problems
    assert "cannot be read" in skipped(again)["c.dcm"]


def gone(path: Path) -> bool:
    path.unlink()
    return True


def groups(found: Listing) -> list[str | None]:
    assert not found.problems
    return [item.group for item in found.items]


def halves(root: Path, *images: dict[str, object]) -> None:
    """Images ``0.dcm`` …, each with a row."""
    for number, elements in enumerate(images):
        put(root, f"{number}.dcm", number, **elements)
    table(root, "path,label", *(f"{number}.dcm,{CLASSES[number % 2]}" for number in range(len(images))))


def test_a_study_is_of_one_patient_though_half_of_its_files_do_not_say_whose(tmp_path: Path) -> None:
    of = {"StudyInstanceUID": "1.2.9"}
    halves(
        tmp_path,
        {**of, "PatientID": "P1"},
        {**of, "PatientID": ""},
        {**of, "PatientID": "anonymous"},
        {"PatientID": "P1", "StudyInstanceUID": "1.2.8"},
        {"PatientID": "", "StudyInstanceUID": "1.2.7"},
        {"PatientID": "", "StudyInstanceUID": "1.2.7"},
        {"PatientID": "", "StudyInstanceUID": None},
    )
    found = groups(listed(tmp_path))
    assert found[:4] == [patient_group("P1")] * 4
    assert found[4] == found[5]
    assert str(found[4]).startswith("study:")
    assert found[6] is None


def test_an_image_without_a_row_says_whose_its_study_is(tmp_path: Path) -> None:
    put(tmp_path, "a.dcm", 1, StudyInstanceUID="1.2.9", PatientID="")
    put(tmp_path, "b.dcm", 2, StudyInstanceUID="1.2.9", PatientID="P1")
    put(tmp_path, "c.dcm", 3)
    table(tmp_path, "path,label", "a.dcm,nodule", "c.dcm,normal")
    assert groups(listed(tmp_path)) == [patient_group("P1"), patient_group("P3")]


def test_a_missing_issuer_is_that_of_the_same_patient(tmp_path: Path) -> None:
    halves(
        tmp_path,
        {"PatientID": "P1", "IssuerOfPatientID": "A"},
        {"PatientID": "P1"},
        {"PatientID": "P2", "IssuerOfPatientID": "A"},
        {"PatientID": "P2", "IssuerOfPatientID": "B"},
        {"PatientID": "P3"},
    )
    assert groups(listed(tmp_path)) == [
        patient_group("P1", "A"),
        patient_group("P1", "A"),
        patient_group("P2", "A"),
        patient_group("P2", "B"),
        patient_group("P3"),
    ]


def test_of_two_issuers_the_study_says_which_or_it_is_a_problem(tmp_path: Path) -> None:
    halves(
        tmp_path,
        {"PatientID": "P2", "IssuerOfPatientID": "A", "StudyInstanceUID": "1.2.9"},
        {"PatientID": "P2", "IssuerOfPatientID": "B"},
        {"PatientID": "P2", "StudyInstanceUID": "1.2.9"},
    )
    assert groups(listed(tmp_path)) == [patient_group("P2", each) for each in "ABA"]
    put(tmp_path, "2.dcm", 2, PatientID="P2", StudyInstanceUID="1.2.7")
    (problem,) = listed(tmp_path).problems
    assert "1 images could be of several patients" in problem.what
    assert "'2.dcm'" in problem.what
    assert "row 4" in problem.where


def test_a_study_of_two_patients_is_a_problem_that_names_files_and_rows(tmp_path: Path) -> None:
    of = {"StudyInstanceUID": "1.2.9"}
    halves(tmp_path, {**of, "PatientID": "MRN4711"}, {**of, "PatientID": ""}, {**of, "PatientID": "MRN4712"})
    problems = listed(tmp_path).problems
    words = " ".join(str(problem) for problem in problems)
    assert "1 studies" in words
    assert "'0.dcm' and '2.dcm'" in words
    assert "row 2 and" in words
    assert "'1.dcm'" in words  # whose it is cannot be told
    assert "MRN" not in words
    table(tmp_path, "path,label,patient", "0.dcm,nodule,X", "1.dcm,normal,X", "2.dcm,nodule,X")
    assert groups(listed(tmp_path)) == [patient_group("X")] * 3
    table(tmp_path, "path,label,patient", "0.dcm,nodule,X", "1.dcm,normal,Y", "2.dcm,nodule,X")
    (problem,) = listed(tmp_path).problems
    assert "'0.dcm' and '1.dcm'" in problem.what


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["", "P", "Q"]), st.sampled_from(["", "A", "B"]), st.sampled_from(["", "1", "2"])),
        min_size=1,
        max_size=8,
    )
)
def test_no_study_is_in_two_groups(images: list[tuple[str, str, str]]) -> None:
    found = []
    for number, (patient, issuer, study) in enumerate(images):
        group = patient_group(patient, issuer) if patient else f"study:{study}" if study else None
        tags = DicomFacts(group=group, patient=patient_group(patient) if patient else "", study=study)
        found.append(DicomImage(f"{number}.dcm", tags))
    items, problems = with_patients([Item(image.relative, 0, where="row 2") for image in found], found)
    if problems:
        return
    for one, first in zip(images, items, strict=True):
        for other, second in zip(images, items, strict=True):
            if one[2] and one[2] == other[2]:
                assert first.group == second.group
            if one[0] and one[:2] == other[:2]:
                assert first.group == second.group
            if one[0] and one[1] and one[0] == other[0] and other[1] not in ("", one[1]):
                assert first.group != second.group


def test_old_files_without_preamble_are_found(tmp_path: Path) -> None:
    write(dataset(grey((8, 8)), SOPInstanceUID="1.4.1"), tmp_path / "IM1", preamble=False)
    table(tmp_path, "sop_instance_uid,label", "1.4.1,nodule")
    found = listed(tmp_path)
    assert not found.problems
    assert [item.relative for item in found.items] == ["IM1"]


def test_identifiers_do_not_pass_the_loader(tmp_path: Path) -> None:
    people = {
        "PatientID": "MRN4711",
        "PatientName": "Mustermann^Erika",
        "PatientBirthDate": "19561111",
        "AccessionNumber": "A77",
    }
    put(tmp_path, "1.dcm", 1, **people)
    put(tmp_path, "2.dcm", 2, **people)
    put(tmp_path, "3.dcm", 3, **people, BurnedInAnnotation="YES")
    put(tmp_path, "4.dcm", 4, **people, PixelData=None)
    put(tmp_path, "5.dcm", 5, **people, Rows=0)
    lines = [f"{number}.dcm,{CLASSES[number % 2]},MRN4711,A77" for number in range(1, 6)]
    table(tmp_path, "path,label,patient_id,accession_number", *lines)
    found = listed(tmp_path)
    cohort = cohort_of(found)
    assert len(cohort.records) == 2
    assert len({record.group for record in cohort.records}) == 1
    shown = repr((found, cohort, [str(problem) for problem in found.problems]))
    assert not any(secret in shown for secret in SECRETS)


def test_misspelt_labels_and_labels_that_are_alike(tmp_path: Path) -> None:
    two(tmp_path)
    table(tmp_path, "path,label", "a/1.dcm,grade_2", "b/IM0001,grade_3")
    found = DICOM_FOLDER.read(DICOM_FOLDER, Wanted(tmp_path, ("grade_2", "grade_4")))
    assert not found.problems
    assert [item.reason for item in found.skipped] == ["the label 'grade_3' is none of the classes asked for"]
    table(tmp_path, "path,label", "a/1.dcm,nodul", "b/IM0001,normal")
    (problem,) = listed(tmp_path).problems
    assert "row 2" in problem.where
    assert problem.remedy == "did you mean 'nodule'? correct the rows, or remove them"


def test_a_patient_spelt_in_two_ways_and_numbers_as_excel_writes_them(tmp_path: Path) -> None:
    two(tmp_path)
    table(tmp_path, "path,label,patient", "a/1.dcm,nodule,p 1", "b/IM0001,normal,P  1")
    assert [item.group for item in listed(tmp_path).items] == [patient_group("P  1")] * 2
    table(tmp_path, "patient_id,label", "1000.0,nodule", "1001.0,normal")
    (problem,) = listed(tmp_path).problems
    assert "Excel" in problem.remedy
    assert "1000" not in str(problem)
    table(tmp_path, "path,label", "z.dcm,nodule")
    assert "it has 'z.dcm', and the first file 'a/1.dcm'" in listed(tmp_path).problems[0].what


@pytest.mark.parametrize("labels", ["../labels.csv", "/etc/labels.csv"])
def test_the_table_lies_below_the_folder(tmp_path: Path, labels: str) -> None:
    with pytest.raises(DatasetLayoutError, match="not below the data folder"):
        DICOM_FOLDER.read(DICOM_FOLDER, Wanted(tmp_path, CLASSES, labels))
