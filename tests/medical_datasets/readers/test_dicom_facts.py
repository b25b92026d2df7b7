"""What leaves the tags of an image: facts for a loader, and no identifier."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage
from wardround.medical_datasets.readers.dicom import DicomFacts, facts, patient_group
from wardround.medical_datasets.readers.dicom_tags import accession_key

from .dicom_files import dataset, grey, write


def of(folder: Path, **elements: object) -> DicomFacts:
    return facts(write(dataset(grey((8, 8)), **elements), folder / "image.dcm"))


def test_everything_a_loader_asks_for(tmp_path: Path) -> None:
    found = of(
        tmp_path,
        SOPClassUID=CTImageStorage,
        PatientID=" MRN4711 ",
        IssuerOfPatientID="Spital",
        PatientName="Mustermann^Erika",
        PatientSex="F",
        PatientAge="045Y",
        PatientBirthDate="19561111",
        StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.4",
        SOPInstanceUID="1.2.5",
        AccessionNumber="A77",
        Modality="CT",
        ImageType=["ORIGINAL", "PRIMARY"],
        Manufacturer="Acme",
        ManufacturerModelName="Ring 3",
        InstitutionName="Spital am Berg",
        BodyPartExamined="CHEST",
        Laterality="L",
        ImageLaterality="R",
        BurnedInAnnotation="NO",
    )
    assert found == DicomFacts(
        group=patient_group("MRN4711", "Spital"),
        patient=patient_group("MRN4711"),
        accession=accession_key("A77"),
        study="1.2.3",
        series="1.2.4",
        instance="1.2.5",
        frames=1,
        modality="CT",
        burned_in="NO",
        identified=True,
        derived=False,
        body_part="CHEST",
        laterality="R",
        manufacturer="Acme",
        model="Ring 3",
        institution="Spital am Berg",
        sex="female",
        age="45",
    )
    for secret in ("MRN4711", "Mustermann", "19561111"):
        assert secret not in str(asdict(found))
        assert secret not in repr(found)
    for secret in ("1.2.3", "Spital am Berg"):
        assert secret not in repr(found)


def test_patient_group_is_a_labelled_digest() -> None:
    """The bytes are a contract: `site forget` finds a patient by them."""
    expected = hashlib.sha256(b"wardround dicom patient v1\n6:Spital\n7:MRN4711").hexdigest()[:32]
    assert patient_group("MRN4711", "Spital") == f"patient_id:{expected}"


@given(st.tuples(st.text(max_size=6), st.text(max_size=6)), st.tuples(st.text(max_size=6), st.text(max_size=6)))
def test_patient_groups_are_equal_only_for_the_same_patient(one: tuple[str, str], two: tuple[str, str]) -> None:
    same = [part.strip() for part in one] == [part.strip() for part in two]
    assert (patient_group(*one) == patient_group(*two)) == same


@pytest.mark.parametrize("missing", ["", "ANONYMOUS", "anon", "0", "000", "unknown", "N/A", "XXX"])
def test_without_a_patient_the_study_is_the_group(missing: str, tmp_path: Path) -> None:
    first = of(tmp_path, PatientID=missing, StudyInstanceUID="1.2.3")
    again = of(tmp_path, PatientID=missing, StudyInstanceUID="1.2.3")
    other = of(tmp_path, PatientID=missing, StudyInstanceUID="1.2.4")
    assert first.group is not None
    assert first.group.startswith("study:")
    assert "1.2.3" not in first.group
    assert first.group == again.group != other.group
    assert of(tmp_path, PatientID=missing, StudyInstanceUID="").group is None
    assert of(tmp_path, PatientID=missing).patient == ""


def test_a_pseudonym_with_a_number_is_still_a_patient(tmp_path: Path) -> None:
    assert of(tmp_path, PatientID="ANON0001").group == patient_group("ANON0001")


@pytest.mark.parametrize(
    ("name", "identified"),
    [
        ("Mustermann^Erika", True),
        ("", False),
        ("ANON^123", False),
        ("anonymised", False),
        ("0815", False),
        ("^^^^", False),
        ("Subject 12", False),
        ("Müller", True),
    ],
)
def test_names(name: str, identified: bool, tmp_path: Path) -> None:
    assert of(tmp_path, SpecificCharacterSet="ISO_IR 192", PatientName=name).identified == identified


@pytest.mark.parametrize(
    ("age", "born", "studied", "years"),
    [
        ("045Y", "", "", "45"),
        ("018M", "", "", "1"),
        ("010W", "", "", "0"),
        ("400D", "", "", "1"),
        ("", "19800615", "20200614", "39"),
        ("", "19800615", "20200615", "40"),
        ("", "20200615", "19800615", ""),
        ("", "", "20200615", ""),
        ("", "19800615", "", ""),
    ],
)
def test_age(age: str, born: str, studied: str, years: str, tmp_path: Path) -> None:
    assert of(tmp_path, PatientAge=age, PatientBirthDate=born, StudyDate=studied).age == years


def test_derived_images(tmp_path: Path) -> None:
    assert of(tmp_path).derived  # a secondary capture
    assert of(tmp_path, SOPClassUID=CTImageStorage, ImageType=["DERIVED", "SECONDARY", "MPR"]).derived
    assert not of(tmp_path, SOPClassUID=CTImageStorage).derived


@pytest.mark.parametrize(("tag", "said"), [("YES", "YES"), ("NO", "NO"), (None, ""), ("PERHAPS", "")])
def test_burned_in(tag: str | None, said: str, tmp_path: Path) -> None:
    elements = {} if tag is None else {"BurnedInAnnotation": tag}
    assert of(tmp_path, **elements).burned_in == said


def test_a_modality_that_is_no_term_is_not_passed_on(tmp_path: Path) -> None:
    assert of(tmp_path, Modality="MUSTERMANN").modality == ""
