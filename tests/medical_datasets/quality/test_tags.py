from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin
from wardround.medical_datasets.cohort import ImageRef
from wardround.medical_datasets.quality.tags import Tags, of_file, of_picture

from ..pictures import pattern
from .dicom_files import dicom


def saved(kind: str, **options: object) -> Tags:
    stream = io.BytesIO()
    Image.fromarray(pattern(1)).save(stream, kind, **options)
    data = stream.getvalue()
    with Image.open(io.BytesIO(data)) as picture:
        return of_picture(picture, data)


def exif(**entries: object) -> Image.Exif:
    made = Image.Exif()
    for tag, value in entries.items():
        if tag == "gps":
            made.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 0.0)})
        elif tag in ("owner", "serial"):
            made.get_ifd(0x8769)[{"owner": 0xA430, "serial": 0xA431}[tag]] = value
        else:
            made[{"artist": 0x013B, "description": 0x010E, "make": 0x010F, "model": 0x0110}[tag]] = value
    return made


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_a_plain_picture_tells_nothing(kind: str) -> None:
    assert saved(kind) == Tags()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_is_told_by_kind(kind: str) -> None:
    made = exif(artist="Dr Doe", gps=True, owner="St Elsewhere", serial="0815", make="Derma", model="Scope 2")
    found = saved(kind, exif=made)
    assert set(found.kinds) == {"artist", "GPS position", "camera owner", "camera serial number"}
    assert found.device == "Derma Scope 2"
    assert saved(kind, exif=exif(description="Scanned")).kinds == ()
    assert saved(kind, exif=exif(description="DOE^JANE")).kinds == ("DICOM name in a comment",)
    assert saved(kind, exif=exif(artist=" ")).kinds == ()


def test_comments_of_jpeg_and_text_of_png() -> None:
    assert saved("JPEG", comment=b"DOE^JANE 1961-03-17").kinds == ("DICOM name in a comment", "date in a comment")
    assert saved("JPEG", comment=b"File written by a program 5.2").kinds == ()
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "Dr Doe")
    text.add_itxt("Comment", "jane.doe@example.org")
    assert saved("PNG", pnginfo=text).kinds == ("artist", "e-mail address in a comment")
    plain = PngImagePlugin.PngInfo()
    plain.add_text("Software", "a program")
    assert saved("PNG", pnginfo=plain).kinds == ()


def test_dicom_tells_of_names_burned_in_text_and_device(tmp_path: Path) -> None:
    assert of_file(dicom(tmp_path / "a.dcm")) == Tags()
    named = of_file(dicom(tmp_path / "b.dcm", PatientName="Doe^Jane", Manufacturer="Maker", ManufacturerModelName="X1"))
    assert named == Tags(("patient's name",), "", "Maker X1")
    planted = {
        "PatientName": "Doe^Jane",
        "PatientID": "MRN-0815",
        "PatientBirthDate": "19610317",
        "PatientAddress": "Elm Street 1",
        "AccessionNumber": "A4711",
        "InstitutionName": "Nagoya Hospital",
        "OperatorsName": "Roe^Rick",
        "DeviceSerialNumber": "S9",
    }
    every = of_file(dicom(tmp_path / "all.dcm", **planted))
    assert every.kinds == (
        "patient's name",
        "patient's identifier",
        "date of birth",
        "patient's address or telephone",
        "accession number",
        "institution",
        "name of staff",
        "device serial number",
    )
    assert not any(value in repr(every) for value in planted.values())
    emptied = {name: "ANONYMIZED" for name in planted if "Date" not in name} | {"PatientBirthDate": "19000101"}
    assert of_file(dicom(tmp_path / "none.dcm", **emptied)).kinds == ()
    pseudonym = of_file(dicom(tmp_path / "p.dcm", PatientID="S-17", PatientIdentityRemoved="YES"))
    assert pseudonym.kinds == ()
    assert of_file(dicom(tmp_path / "c.dcm", BurnedInAnnotation="YES")).burned_in == "yes"
    assert of_file(dicom(tmp_path / "d.dcm", secondary="yes")).burned_in == "unsaid"
    assert of_file(dicom(tmp_path / "e.dcm", secondary="yes", BurnedInAnnotation="NO")).burned_in == ""


def test_other_files_and_damaged_ones_tell_nothing(tmp_path: Path) -> None:
    assert of_file(ImageRef(tmp_path / "a.nii.gz")) == Tags()
    (tmp_path / "b.dcm").write_bytes(b"no DICOM")
    assert of_file(ImageRef(tmp_path / "b.dcm")) == Tags()
