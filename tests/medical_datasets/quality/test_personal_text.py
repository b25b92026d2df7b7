from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.medical_datasets.quality.personal_text import in_column, in_names, in_text


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("glioma/DOE^JANE.dcm", "DICOM name"),
        ("DOE^JANE/1.png", "DICOM name"),
        ("a/jane.doe@example.org.png", "e-mail address"),
        ("a/1961-03-17.png", "date"),
        ("a/scan 17.03.1961.png", "date"),
        ("a/IMG_20240131_120000.jpg", "date"),
        ("p48213377/1.png", "long number"),
        ("a/MRN-482133.png", "long number"),
        ("a/482133779_1961-03-17_DOE^J.png", "DICOM name, date"),
        # What data sets call their own files.
        ("nevus/ISIC_0024468.jpg", ""),
        ("images/ISIC_0024468_downsampled.jpg", ""),
        ("PAT_1516_1765_530.png", ""),
        ("images/0123456789abcdef0123456789abcdef.jpg", ""),
        ("a/1.2.840.113619.2.55.3.604688119.971.1268058.dcm", ""),
        ("a/550e8400-e29b-41d4-a716-446655440000.png", ""),
        ("BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1n.nii.gz", ""),
        ("Training/glioma/Tr-gl_0010.jpg", ""),
        ("Training/glioma/gg (444).jpg", ""),
        ("glioma/doe_jane.png", ""),
        ("a/12345.png", ""),
        ("a/99999999.5.png", "long number"),
        ("a/2024-13-45.png", ""),
    ],
)
def test_names(name: str, kinds: str) -> None:
    assert in_names([name]) == [kinds]


def test_running_numbers_are_nobodys() -> None:
    assert set(in_names([f"images/{100000 + k}.png" for k in range(40)])) == {""}
    assert set(in_names([f"images/im{k:08d}.png" for k in range(0, 900, 11)])) == {""}
    scattered = [f"images/{k}.png" for k in (48213377, 11230045, 99120017)]
    assert in_names(scattered) == ["long number"] * 3


def test_one_number_among_a_running_row_is_found() -> None:
    names = [f"images/{100000 + k}.png" for k in range(40)]
    assert in_names([*names, "images/scan 48213377.png"])[-1] == "long number"


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("patient_name", "names"),
        ("name", "names"),
        ("surname", "names"),
        ("last name", "names"),
        ("date_of_birth", "dates of birth"),
        ("dob", "dates of birth"),
        ("birth-date", "dates of birth"),
        ("mrn", "patient numbers"),
        ("accession_number", "patient numbers"),
        ("home address", "addresses"),
        ("zip", "addresses"),
        ("phone_number", "telephone numbers or e-mail"),
        ("email", "telephone numbers or e-mail"),
        *[
            (column, "")
            for column in ("image_name", "class name", "file_name", "path", "label", "isic_id", "lesion_id")
        ],
        *[
            (column, "")
            for column in ("patient_id", "age_approx", "sex", "anatom_site_general", "fitspatrick", "source")
        ],
        *[
            (column, "")
            for column in ("diagnosis_name", "dataset", "capture_date", "background_father", "bcn_filename")
        ],
    ],
)
def test_columns(column: str, kind: str) -> None:
    assert in_column(column) == kind


def test_free_text() -> None:
    assert in_text("LEAD Technologies Inc. V1.01") == []
    assert in_text("CREATOR: gd-jpeg v1.0 (using IJG JPEG v62), quality = 90") == []
    assert in_text("DOE^JANE, born 17.03.1961, 48213377") == ["DICOM name", "date", "long number"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=8))
def test_any_names_have_an_answer_each(names: list[str]) -> None:
    assert len(in_names(names)) == len(names)
