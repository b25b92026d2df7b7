"""What is found and what is left out adds up, and a file that was never a picture is no damaged one."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid
from wardround.medical_datasets.catalog import DATASETS, list_images
from wardround.medical_datasets.listing import Wanted
from wardround.medical_datasets.quality.check import check, check_listing
from wardround.medical_datasets.quality.report import QualityReport, finding, images

from ..pictures import pattern, save
from .dicom_files import dicom


def codes(report: QualityReport) -> dict[str, tuple[str, int]]:
    return {problem.code: (problem.severity, problem.count) for problem in report.problems}


def without_pixels(path: Path, sop: str) -> None:
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = sop
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dcmwrite(path, file, enforce_file_format=True)


def export(root: Path, count: int) -> list[str]:
    root.mkdir(exist_ok=True)
    for number in range(count):
        dicom(root / f"IM{number}", pattern(number, 80)[:, :, 0], PatientID="ANON", StudyInstanceUID=f"1.2.{number}")
    return ["path,label", *(f"IM{number},{'ab'[number % 2]}" for number in range(count))]


def test_an_index_and_a_report_are_no_damaged_pictures_and_a_cut_one_is(tmp_path: Path) -> None:
    lines = export(tmp_path, 20)
    without_pixels(tmp_path / "DICOMDIR", MediaStorageDirectoryStorage)
    without_pixels(tmp_path / "SR0", "1.2.840.10008.5.1.4.1.1.88.33")  # Comprehensive SR
    without_pixels(tmp_path / "MR0", "1.2.840.10008.5.1.4.1.1.4")  # MR Image, cut before its pixels
    (tmp_path / "IM19").write_bytes((tmp_path / "IM19").read_bytes()[:-100])
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    report = check(tmp_path)
    found = codes(report)
    (unreadable,) = [problem for problem in report.problems if problem.code == "unreadable"]
    assert {name.split(":")[0] for name in unreadable.names} == {"IM19", "MR0"}
    (others,) = [problem for problem in report.problems if problem.code == "other-files"]
    assert others.severity == "info"
    assert {name.split(":")[0] for name in others.names} == {"DICOMDIR", "SR0"}
    assert report.images == report.readable + found["unreadable"][1] == 21


@pytest.mark.parametrize(("extra", "code"), [(2, "other-files"), (3, "files-without-row")])
def test_many_files_without_a_row_are_a_warning(tmp_path: Path, extra: int, code: str) -> None:
    lines = export(tmp_path, 20 + extra)
    (tmp_path / "labels.csv").write_text("\n".join(lines[: 1 + 20]), encoding="utf-8")
    report = check(tmp_path)
    assert codes(report)[code] == ("info" if code == "other-files" else "warning", extra)
    assert {"other-files", "files-without-row"} & codes(report).keys() == {code}


def test_a_truncated_volume_is_unreadable(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    lines = ["path,label,patient"]
    for number in range(4):
        voxels = generator.integers(1, 200, (70, 70, 5)).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / f"v{number}.nii.gz")
        lines.append(f"v{number}.nii.gz,{'ab'[number % 2]},P{number}")
    whole = (tmp_path / "v3.nii.gz").read_bytes()
    (tmp_path / "v3.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "v2.nii.gz").write_bytes(gzip.compress(gzip.decompress((tmp_path / "v2.nii.gz").read_bytes())[:2000]))
    nib.save(nib.Nifti1Image(np.zeros((70, 70, 5), np.int16), np.eye(4)), tmp_path / "v0.nii.gz")
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    report = check(tmp_path)
    assert report.dataset == "nifti-folder"
    (unreadable,) = [problem for problem in report.problems if problem.code == "unreadable"]
    assert {name.split(":")[0] for name in unreadable.names} == {"v2.nii.gz", "v3.nii.gz"}
    assert (report.images, report.readable) == (3, 1)
    (others,) = [problem for problem in report.problems if problem.code == "other-files"]
    assert others.names == ("v0.nii.gz: the mask, or the volume, is empty",)
    assert others.message.startswith("1 file or row left out")


def test_plurals() -> None:
    assert finding("info", "c", "file or row", "left", images(["a", "b"])).message == "2 files or rows left"
    assert finding("info", "c", "file or row", "left", images(["a"])).message == "1 file or row left"
    assert finding("info", "c", "image", "left", images([])).message == "0 images left"


def test_classes_that_nobody_named_are_those_that_are_there(tmp_path: Path) -> None:
    lines = ["path,label"]
    for seed in range(6):
        save(tmp_path / "table" / f"{seed}.png", seed)
        lines.append(f"{seed}.png,{('Nevus', 'nevus', 'melanoma')[seed % 3]}")
        for site in ("one", "two"):
            save(tmp_path / "sites" / site / ("dog", "cat")[seed % 2] / f"{seed}.png", seed)
    (tmp_path / "table" / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    report = check(tmp_path / "table")
    assert report.counts == {"Nevus": {"all": 4}, "melanoma": {"all": 2}}
    assert codes(report)["classes-not-named"] == ("info", 1)
    report = check(tmp_path / "sites")
    assert (report.dataset, report.images) == ("domains", 12)
    assert report.counts["cat"] == {"one": 3, "two": 3}
    assert codes(report)["classes-not-named"] == ("info", 1)
    (tmp_path / "table" / "labels.csv").write_text("path,label\n0.png,a\n", encoding="utf-8")
    assert check(tmp_path / "table").exit_code == 1


def test_where_classes_are_named_they_are_taken(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1)
    save(tmp_path / "b.png", 2)
    (tmp_path / "labels.csv").write_text("path,label\na.png,x\nb.png,y\n", encoding="utf-8")
    report = check_listing(list_images(DATASETS["csv"], Wanted(tmp_path, ("y", "x"))))
    assert list(report.counts) == ["y", "x"]
    assert "classes-not-named" not in codes(report)
