"""Stepping over elements finds what pydicom finds, or leaves the file to it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    RLELossless,
)
from wardround.medical_datasets.cohort import ImageRef
from wardround.medical_datasets.errors import UnreadableImageError
from wardround.medical_datasets.readers import dicom_scan
from wardround.medical_datasets.readers.dicom import DicomFacts, check_header, facts
from wardround.medical_datasets.readers.dicom_walk import Walked, walk

from .dicom_files import dataset, grey, item, write

PLAIN = {
    "PatientID": "MRN4711",
    "IssuerOfPatientID": "Spital",
    "PatientName": "Mustermann^Erika=x",
    "PatientSex": "F",
    "PatientBirthDate": "19561111",
    "StudyDate": "20200101",
    "AccessionNumber": "A77 ",
    "ImageType": ["DERIVED", "PRIMARY"],
    "Manufacturer": "Acme",
    "BurnedInAnnotation": "NO",
}


def walked(path: Path) -> Walked | None:
    with path.open("rb") as file:
        return walk(file, dicom_scan._WALKED)


def by_pydicom(path: Path, monkeypatch: pytest.MonkeyPatch) -> DicomFacts | str:
    with monkeypatch.context() as patched:
        patched.setattr(dicom_scan, "walk", lambda *_: None)
        return outcome(path)


def outcome(path: Path) -> DicomFacts | str:
    try:
        return facts(path)
    except UnreadableImageError as refused:
        return refused.what


def nested(undefined: bool) -> Dataset:
    """An image with sequences in sequences, of written or undefined length, before and after what is asked for."""
    inner = item(CodeValue="1", PatientID="someone else", Rows=7)
    outer = item(PurposeOfReferenceCodeSequence=inner, ReferencedSOPInstanceUID="1.2.3")
    made = dataset(grey(), **PLAIN, ReferencedImageSequence=outer)
    made.add_new(0x00400275, "SQ", item(ScheduledProcedureStepDescription="x"))
    for at in (made[0x00081140], made[0x00081140].value[0][0x0040A170], made[0x00400275]):
        at.is_undefined_length = undefined
        at.value[0].is_undefined_length_sequence_item = undefined
    return made


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("undefined", [False, True])
def test_ordinary_files_are_walked(
    syntax: Any, undefined: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = nested(undefined)
    made.file_meta.TransferSyntaxUID = syntax
    made.add_new(0x00090010, "LO", "PRIVATE")
    made.add_new(0x00091001, "OB", bytes(20_000))  # the header does not end in the first block
    path = write(made, tmp_path / "a.dcm")
    found = walked(path)
    assert found is not None
    assert found.syntax == syntax
    assert (found.elements["Rows"], found.elements["PatientID"]) == (24, ["MRN4711 "])
    assert facts(path) == by_pydicom(path, monkeypatch)
    assert facts(path).derived


def test_a_compressed_file_of_several_frames_is_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataset(grey((3, 8, 8)))
    made.compress(RLELossless)
    path = write(made, tmp_path / "a.dcm")
    assert walked(path) is not None
    assert facts(path).frames == 3
    assert facts(path) == by_pydicom(path, monkeypatch)


@pytest.mark.parametrize(
    "elements",
    [
        {"PatientName": "Müller^Jörg", "SpecificCharacterSet": "ISO_IR 100"},
        {"PatientName": "Yamada^\x1b$B;3ED\x1b(B", "SpecificCharacterSet": ["", "ISO 2022 IR 87"]},
        {"Rows": b"SS"},
        {"Private": bytes(1 << 18)},
    ],
)
def test_what_is_unusual_is_left_to_pydicom(
    elements: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = dataset(grey((1, 8, 8)), **{k: v for k, v in elements.items() if k not in ("Private", "Rows")})
    if "Private" in elements:
        made.add_new(0x00090010, "LO", "PRIVATE")
        made.add_new(0x00091001, "OB", elements["Private"])
    path = write(made, tmp_path / "a.dcm")
    if "Rows" in elements:
        path.write_bytes(path.read_bytes().replace(b"\x28\0\x10\0US", b"\x28\0\x10\0" + elements["Rows"]))
    assert walked(path) is None
    assert isinstance(by_pydicom(path, monkeypatch), DicomFacts)
    assert facts(path) == by_pydicom(path, monkeypatch)


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_rare_syntaxes_are_left_to_pydicom(syntax: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(dataset(grey(), syntax=syntax, **PLAIN), tmp_path / "a.dcm")
    assert walked(path) is None
    assert facts(path) == by_pydicom(path, monkeypatch)
    old = write(dataset(grey(), **PLAIN), tmp_path / "old.dcm", preamble=False)
    assert walked(old) is None
    assert facts(old).group == facts(path).group


def test_what_is_no_picture_is_left_to_pydicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataset(grey(), PixelData=None)
    assert walked(write(made, tmp_path / "a.dcm")) is None
    made = dataset(grey())
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = MediaStorageDirectoryStorage
    path = write(made, tmp_path / "b.dcm")
    assert walked(path) is None
    assert "DICOMDIR" in str(by_pydicom(path, monkeypatch))
    (tmp_path / "c.dcm").write_bytes(b"")
    assert walked(tmp_path / "c.dcm") is None


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(128, 900), value=st.integers(0, 255), cut=st.integers(0, 900), damage=st.booleans())
def test_damaged_files_do_not_make_other_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, value: int, cut: int, damage: bool
) -> None:
    raw = bytearray(write(nested(undefined=True), tmp_path / "whole.dcm").read_bytes())
    if damage:
        raw[at] = value
    else:
        del raw[cut:]
    path = tmp_path / "damaged.dcm"
    path.write_bytes(raw)
    found = walked(path)
    if found is None:
        assert outcome(path) == by_pydicom(path, monkeypatch)
        return
    other = by_pydicom(path, monkeypatch)
    if isinstance(other, DicomFacts):
        assert outcome(path) == other


def test_a_header_found_sound_is_not_read_again_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(dataset(grey((3, 8, 8))), tmp_path / "a.dcm")
    facts(path)
    with monkeypatch.context() as patched:
        patched.setattr("wardround.medical_datasets.readers.dicom.opened", lambda *_: pytest.fail("read again"))
        check_header(ImageRef(path, "frame=2"))
        for part, words in (("frame=3", "no frame 3"), ("", "holds 3 frames"), ("axial=1", "not frame=K")):
            with pytest.raises(UnreadableImageError, match=words):
                check_header(ImageRef(path, part))
    write(dataset(grey((2, 8, 8))), path)
    with pytest.raises(UnreadableImageError, match="no frame 2"):
        check_header(ImageRef(path, "frame=2"))
    path.unlink()
    with pytest.raises(UnreadableImageError, match="cannot be read"):
        check_header(ImageRef(path, "frame=2"))


def test_a_header_that_is_no_picture_is_refused_after_its_facts_were_read(tmp_path: Path) -> None:
    path = write(dataset(grey(), Rows=0), tmp_path / "a.dcm")
    assert facts(path).frames == 1
    with pytest.raises(UnreadableImageError, match="no pixels"):
        check_header(ImageRef(path))


def test_what_is_remembered_of_headers_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_scan, "_MAX_SOUND", 3)
    monkeypatch.setattr(dicom_scan, "_sound", type(dicom_scan._sound)())
    paths = [write(dataset(grey((8, 8))), tmp_path / f"{number}.dcm") for number in range(5)]
    for path in paths:
        facts(path)
    assert [dicom_scan.sound_frames(path) for path in paths] == [None, None, 1, 1, 1]


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    os.mkfifo(path)
    said: list[str] = []

    def ask() -> None:
        said.append(str(outcome(path)))
        with pytest.raises(UnreadableImageError, match="not a regular file"):
            check_header(ImageRef(path))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert said == ["it is not a regular file"]
