"""What is no picture is refused with one error, whatever is wrong with it, in any number of threads."""

from __future__ import annotations

import io
import logging
import os
import traceback
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import (
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    MediaStorageDirectoryStorage,
    RLELossless,
    RTStructureSetStorage,
)
from wardround.medical_datasets.cohort import ImageRef
from wardround.medical_datasets.errors import UnreadableImageError
from wardround.medical_datasets.readers import dicom_file
from wardround.medical_datasets.readers.dicom import check_header, facts, is_dicom, read_rgb

from .dicom_files import dataset, encapsulated, grey, item, write

SECRETS = ("Mustermann", "MUSTERMANN", "19561111", "MRN4711", "Spital am Berg")


def planted(**elements: object) -> dict[str, object]:
    """Identifiers in every element that a reader meets."""
    return {
        "PatientName": "Mustermann^Erika",
        "PatientBirthDate": "19561111",
        "PatientID": "MRN4711",
        "InstitutionName": "Spital am Berg",
        **elements,
    }


def refusal(path: Path, part: str = "") -> UnreadableImageError:
    """The error of a file, which both entrances raise."""
    with pytest.raises(UnreadableImageError) as by_header:
        check_header(ImageRef(path, part))
    with pytest.raises(UnreadableImageError) as by_pixels:
        read_rgb(ImageRef(path, part))
    assert by_header.value.what == by_pixels.value.what
    assert by_header.value.where == str(ImageRef(path, part))
    shown = "".join(traceback.format_exception(by_pixels.value)).replace(str(path), "")
    assert not any(secret in shown for secret in SECRETS)
    return by_header.value


@pytest.mark.parametrize(
    ("sop", "modality", "words"),
    [
        (BasicTextSRStorage, "SR", "it is a Basic Text SR Storage object of modality SR"),
        (RTStructureSetStorage, "RTSTRUCT", "it is a RT Structure Set Storage object of modality RTSTRUCT"),
        ("1.2.3.4.5.4711", "MUSTERMANN", "the file holds no pixels"),
    ],
)
def test_objects_without_pixels(sop: str, modality: str, words: str, tmp_path: Path) -> None:
    made = dataset(grey(), **planted(SOPClassUID=sop, Modality=modality), PixelData=None)
    error = refusal(write(made, tmp_path / "a.dcm"))
    assert words in error.what
    with pytest.raises(UnreadableImageError, match="holds no pixels"):
        facts(tmp_path / "a.dcm")


def test_dicomdir(tmp_path: Path) -> None:
    made = dataset(grey(), PixelData=None)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = MediaStorageDirectoryStorage
    assert "DICOMDIR" in refusal(write(made, tmp_path / "DICOMDIR")).what


@pytest.mark.parametrize("content", [b"", b"x", b"\x89PNG\r\n\x1a\n" + bytes(300), bytes(1000), os.urandom(1) * 500])
def test_other_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    refusal(path)
    assert not is_dicom(path)


def test_a_table_and_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_text("path,label\n" * 50, encoding="utf-8")
    refusal(tmp_path / "a.dcm")
    assert "No such file" in refusal(tmp_path / "b.dcm").what
    os.mkfifo(tmp_path / "c.dcm")
    assert "regular file" in refusal(tmp_path / "c.dcm").what


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"Rows": None}, "Rows is missing"),
        ({"Rows": 0}, "no pixels"),
        ({"Rows": 65535, "Columns": 65535}, "more than the limit"),
        ({"SamplesPerPixel": 2}, "photometric interpretation is not read with 2"),
        ({"PhotometricInterpretation": "RGB"}, "photometric interpretation is not read with 1"),
        ({"PhotometricInterpretation": "MUSTERMANN"}, "photometric interpretation is not read with 1"),
        ({"BitsStored": 9}, "make no sense"),
        ({"BitsAllocated": 16}, "truncated"),
        ({"NumberOfFrames": 2}, "truncated|frames"),
        ({"PixelData": b"\1\2\3\4"}, "truncated: 4 of 768 bytes"),
    ],
)
def test_impossible_headers(elements: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=words):
        check_header(ImageRef(write(dataset(grey(), **planted(**elements)), tmp_path / "a.dcm")))
    refusal(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    "elements",
    [
        {"VOILUTSequence": item(LUTDescriptor=[100, 0, 8], LUTData=b"abcd")},
        {"WindowCenter": 5, "WindowWidth": 5, "VOILUTFunction": "MUSTERMANN"},
        {"PhotometricInterpretation": "PALETTE COLOR"},
        {
            "PhotometricInterpretation": "PALETTE COLOR",
            "RedPaletteColorLookupTableDescriptor": [256, 0, 8],
            "RedPaletteColorLookupTableData": b"ab",
            "GreenPaletteColorLookupTableData": b"ab",
            "BluePaletteColorLookupTableData": b"ab",
        },
    ],
)
def test_damage_that_only_the_pixels_meet(elements: dict[str, object], tmp_path: Path) -> None:
    made = dataset(grey(), **planted())
    for keyword, value in elements.items():
        if keyword.endswith("LUTSequence"):
            value[0]["LUTData"].VR = "OW"  # type: ignore[index]
        setattr(made, keyword, value)
    path = write(made, tmp_path / "a.dcm")
    check_header(ImageRef(path))
    with pytest.raises(UnreadableImageError):
        read_rgb(ImageRef(path))


def test_frames_are_named_and_counted(tmp_path: Path) -> None:
    path = write(dataset(grey((3, 8, 8))), tmp_path / "a.dcm")
    assert "the file holds 3 frames" in refusal(path).what
    assert "no frame 3" in refusal(path, "frame=3").what
    for part in ("frame=-1", "frame=x", "axial=1", "frame=1.0", "frame=²"):
        assert "not frame=K" in refusal(path, part).what
    assert facts(path).frames == 3
    single = write(dataset(grey()), tmp_path / "b.dcm")
    assert (read_rgb(ImageRef(single, "frame=0")) == read_rgb(ImageRef(single))).all()


def test_truncated_files_at_every_length(tmp_path: Path) -> None:
    whole = write(dataset(grey((8, 8))), tmp_path / "whole.dcm").read_bytes()
    path = tmp_path / "cut.dcm"
    for length in range(0, len(whole), 5):
        path.write_bytes(whole[:length])
        with pytest.raises(UnreadableImageError):
            read_rgb(ImageRef(path))


def test_deflated_files_are_bounded_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(dataset(np.zeros((512, 512), np.uint8), syntax=DeflatedExplicitVRLittleEndian), tmp_path / "a.dcm")
    read_rgb(ImageRef(path))
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    assert "do not end" in refusal(path).what
    path.write_bytes(whole)
    monkeypatch.setattr(dicom_file, "_MAX_INFLATED", 1000)
    assert "inflates to more than 1000" in refusal(path).what
    path.write_bytes(whole.replace(b"UL\x04\x00", b"UL\x08\x00", 1))
    assert "meta information has no length" in refusal(path).what
    assert zlib.compress(whole)  # the file itself was not changed by reading


def variants() -> list[bytes]:
    """Valid files of several kinds, as bytes."""
    made = [
        dataset(grey((16, 16)), **planted(WindowCenter=[5, 9], WindowWidth=[100, 3], RescaleSlope=2)),
        dataset(grey((16, 16, 3))),
        dataset(
            grey((2, 8, 8), high=4096, dtype=np.uint16),
            bits=12,
            SharedFunctionalGroupsSequence=item(FrameVOILUTSequence=item(WindowCenter=900, WindowWidth=800)),
        ),
        dataset(grey((16, 16)), syntax=DeflatedExplicitVRLittleEndian),
    ]
    for syntax in (RLELossless, JPEGLSLossless):
        made.append(dataset(grey((16, 16))))
        made[-1].compress(syntax)
    out = io.BytesIO()
    Image.fromarray(grey((16, 16))).save(out, "JPEG")
    made.append(encapsulated(grey((16, 16)), [out.getvalue()], syntax=JPEGBaseline8Bit))
    files = []
    for each in made:
        buffer = io.BytesIO()
        each.save_as(buffer, enforce_file_format=True)
        files.append(buffer.getvalue())
    return files


VARIANTS = variants()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.integers(0, len(VARIANTS) - 1),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.one_of(st.none(), st.floats(0, 1)),
    header=st.booleans(),
)
@example(kind=0, edits=[(0.0, 0)], cut=None, header=True)
def test_any_damage_ends_in_a_picture_or_in_one_error(
    tmp_path: Path, kind: int, edits: list[tuple[float, int]], cut: float | None, header: bool
) -> None:
    data = bytearray(VARIANTS[kind])
    for place, value in edits:
        first = 132 if header else 0
        data[first + int(place * (len(data) - first - 1))] = value
    if cut is not None:
        del data[int(cut * len(data)) :]
    path = tmp_path / "a.dcm"
    path.write_bytes(data)
    said = ""
    for look in (lambda: read_rgb(ImageRef(path)), lambda: check_header(ImageRef(path)), lambda: facts(path)):
        try:
            look()
        except UnreadableImageError as error:
            said += "".join(traceback.format_exception(error))
    assert not any(secret in said for secret in SECRETS)


def odd(folder: Path) -> Path:
    """A file whose elements pydicom warns of: a bad character set, bad numbers of frames, values too long."""
    made = dataset(grey(), PixelData=grey().tobytes() + b"\0" * 10)
    made.add_new(0x00080005, "CS", "ISO_IR 100")
    made.add_new(0x00280008, "IS", "0")
    made.add_new(0x00080060, "CS", "MR")
    path = write(made, folder / "odd.dcm")
    long = b"\x10\x00\x40\x00CS\x14\x00" + b"mustermann$$$$$$$$$$"  # PatientSex of 20 characters
    long += b"\x10\x00\x10\x10AS\x06\x00" + b"45 yrs"
    data = path.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 999")
    at = data.index(b"\x28\x00\x02\x00US")
    path.write_bytes(data[:at] + long + data[at:])
    return path


def test_odd_values_neither_warn_nor_fail_nor_reach_a_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    path = odd(tmp_path)
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        read_rgb(ImageRef(path))
        check_header(ImageRef(path))
        assert facts(path).sex == ""
    assert not seen
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_warnings_as_errors_in_many_threads(tmp_path: Path) -> None:
    """Other threads change the filters all the while, which must not make a good file unreadable."""
    path = odd(tmp_path)
    expected = read_rgb(ImageRef(path)).tobytes()

    def work(number: int) -> bool:
        if number % 8 == 0:
            dicom_file.quiet()
        facts(path)
        return read_rgb(ImageRef(path)).tobytes() == expected

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(80)))
    ours = [entry for entry in warnings.filters if entry[3] is not None and "pydicom" in str(entry[3])]
    assert len(ours) == 1


def test_other_warnings_stay_errors(tmp_path: Path) -> None:
    read_rgb(ImageRef(odd(tmp_path)))
    with pytest.raises(UserWarning, match="ours"):
        warnings.warn("ours", UserWarning, stacklevel=1)
