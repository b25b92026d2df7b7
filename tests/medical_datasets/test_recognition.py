"""Folders that have no known file and no known class folder are told by a bounded look inside."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from wardround.medical_datasets import recognition
from wardround.medical_datasets.catalog import recognise
from wardround.medical_datasets.errors import DatasetLayoutError
from wardround.medical_datasets.recognition import domain_classes

from .pictures import brain_tree, save
from .quality.dicom_files import dicom


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def archive(root: Path, patients: int = 3) -> Path:
    """Files as an archive exports them: no suffix, no DICOMDIR."""
    for number in range(patients):
        folder = root / f"PAT{number:02d}" / "ST0" / "SE0"
        folder.mkdir(parents=True)
        dicom(folder / "IM0", PatientID=f"P{number}")
    return root


def mat(path: Path, group: str = "cjdata") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        made = file.create_group(group)
        made["image"] = np.zeros((8, 8), np.int16)
        made["label"] = np.array([[1.0]])
        made["PID"] = np.array([[49], [50]], np.uint16)


@pytest.mark.parametrize(
    "lines",
    [("patient_id,label", "P0,a", "P1,b", "P2,b"), ("path,label", "PAT00/ST0/SE0/IM0,a", "PAT01/ST0/SE0/IM0,b")],
)
def test_an_archives_export_with_a_table(tmp_path: Path, lines: tuple[str, ...]) -> None:
    write(archive(tmp_path) / "labels.csv", *lines)
    assert recognise(tmp_path).key == "dicom-folder"
    (tmp_path / "labels.csv").rename(tmp_path / "mine.csv")
    assert recognise(tmp_path, "mine.csv").key == "dicom-folder"
    assert recognise(tmp_path).key == "dicom-folder"  # which then says what its table has to be


def test_tables_of_paths_and_of_volumes(tmp_path: Path) -> None:
    save(tmp_path / "csv" / "pictures" / "a.png", 1)
    write(tmp_path / "csv" / "labels.csv", "path,label", "pictures/a.png,x", "gone.png,y")
    assert recognise(tmp_path / "csv").key == "csv"
    dicom(tmp_path / "csv" / "b", PatientID="P1")
    write(tmp_path / "csv" / "labels.csv", "path,label", "pictures/a.png,x", "b,y")
    assert recognise(tmp_path / "csv").key == "csv"
    write(tmp_path / "nifti" / "labels.csv", "path;label", "a.nii.gz;x", "b\\c.NII;y")
    assert recognise(tmp_path / "nifti").key == "nifti-folder"
    write(tmp_path / "bare" / "deep" / "a.nii.gz", "x")
    assert recognise(tmp_path / "bare").key == "nifti-folder"


def test_figshare_by_what_its_files_hold(tmp_path: Path) -> None:
    mat(tmp_path / "yes" / "part" / "17.mat")
    assert recognise(tmp_path / "yes").key == "figshare-brain"
    mat(tmp_path / "no" / "17.mat", "other")
    with pytest.raises(DatasetLayoutError):
        recognise(tmp_path / "no")


@pytest.mark.parametrize("between", ["", "train/"])
def test_domains(tmp_path: Path, between: str) -> None:
    for seed, name in enumerate(("dog", "cat", "Elephant")):
        for site in ("photo", "sketch", "cartoon"):
            if (site, name) != ("cartoon", "cat"):
                save(tmp_path / site / f"{between}{name}" / "a.jpg", seed)
    save(tmp_path / "photo" / f"{between}alone" / "a.jpg", 9)
    assert recognise(tmp_path).key == "domains"
    assert domain_classes(tmp_path) == ["Elephant", "cat", "dog"]


def test_parts_of_a_split_are_no_domains(tmp_path: Path) -> None:
    for part in ("Training", "Testing"):
        for seed, name in enumerate(("dog", "cat")):
            save(tmp_path / part / name / "a.jpg", seed)
    with pytest.raises(DatasetLayoutError):
        recognise(tmp_path)


def test_class_folders_come_before_a_table_and_one_by_chance_after(tmp_path: Path) -> None:
    root = brain_tree(tmp_path / "brain", per_class=1)
    write(root / "labels.csv", "path,label", "Training/glioma/image(0).jpg,glioma")
    assert recognise(root).key == "brain-mri"
    archive(tmp_path / "one")
    (tmp_path / "one" / "glioma").mkdir()
    dicom(tmp_path / "one" / "glioma" / "x", PatientID="P9")
    write(tmp_path / "one" / "labels.csv", "patient_id,label", "P0,a", "P9,b")
    assert recognise(tmp_path / "one").key == "dicom-folder"


def test_only_the_first_files_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    def asked(path: Path) -> bool:
        opened.append(path)
        return False

    monkeypatch.setattr(recognition, "is_dicom", asked)
    for number in range(200):
        write(tmp_path / f"folder{number % 9}" / f"f{number}", "nothing")
    with pytest.raises(DatasetLayoutError):
        recognise(tmp_path)
    assert 0 < len(opened) <= 64


def test_the_remedy_names_the_options(tmp_path: Path) -> None:
    save(tmp_path / "cats" / "tabby" / "a.jpg", 1)
    with pytest.raises(DatasetLayoutError, match="tabby") as caught:
        recognise(tmp_path / "cats")
    for words in ("--dataset KEY", "data.dataset", "--labels FILE", "path and label"):
        assert words in caught.value.remedy


@pytest.mark.parametrize("name", ["nope", "labels.csv", "a.png"])
def test_nothing_and_a_file_are_no_brain_mri(tmp_path: Path, name: str) -> None:
    if name != "nope":
        write(tmp_path / name, "path,label")
    with pytest.raises(DatasetLayoutError) as caught:
        recognise(tmp_path / name)
    assert ("does not exist" if name == "nope" else "this is a file") in caught.value.what
    assert "brain" not in str(caught.value).lower().replace(str(tmp_path).lower(), "")
