from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from wardround.medical_datasets.errors import DatasetLayoutError, EmptyClassError
from wardround.medical_datasets.listing import Listing, Wanted
from wardround.medical_datasets.loading import cohort_of
from wardround.medical_datasets.pixels import read_rgb
from wardround.medical_datasets.sets.brats import BRATS, edition_of, subject_of

SHAPE = (16, 14, 20)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # as BraTS has it


def save(path: Path, values: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, LPS), path)


def case(root: Path, name: str, *, enhancing: int = 4, leave_out: str = "", where: slice = slice(5, 13)) -> None:
    """A case in the layout of 2021, or of 2023 where the name says so; ``where.start`` has most of the tumour."""
    seed = sum(map(ord, name))
    brain = np.zeros(SHAPE, dtype=np.int16)
    brain[2:14, 2:12, 1:19] = np.random.default_rng(seed).integers(200, 900, size=(12, 10, 18))
    seg = np.zeros(SHAPE, dtype=np.uint8)
    seg[4:10, 4:9, where] = 2
    seg[4:10, 9, where][:, :1] = enhancing
    if "BraTS-" in name:
        kinds, join = ("t1n", "t1c", "t2w", "t2f", "seg"), "-"
    else:
        kinds, join = ("flair", "t1", "t1ce", "t2", "seg"), "_"
    for kind in kinds:
        if kind != leave_out:
            save(root / name / f"{name}{join}{kind}.nii.gz", seg if kind == "seg" else brain)


def listed(root: Path, slices: int = 1) -> Listing:
    return BRATS.read(BRATS, Wanted(root=root, slices=slices))


def test_subjects() -> None:
    assert subject_of("BraTS2021_00000") == "BraTS2021_00000"
    assert subject_of("BraTS-GLI-00005-000") == subject_of("BraTS-GLI-00005-101") == "BraTS-GLI-00005"
    assert subject_of("BraTS20_Training_001") == "BraTS20_Training_001"


def test_layout_of_2021(tmp_path: Path) -> None:
    case(tmp_path, "BraTS2021_00000")
    case(tmp_path, "BraTS2021_00002", where=slice(3, 5))
    listing = listed(tmp_path, slices=3)
    found = [(item.relative, item.part, item.group) for item in listing.items]
    first = "BraTS2021_00000/BraTS2021_00000_t1ce.nii.gz"
    other = "BraTS2021_00002/BraTS2021_00002_t1ce.nii.gz"
    assert found == [
        (first, "axial=12", "patient_id:BraTS2021_00000"),
        (first, "axial=5", "patient_id:BraTS2021_00000"),
        (first, "axial=8", "patient_id:BraTS2021_00000"),
        (other, "axial=3", "patient_id:BraTS2021_00002"),
        (other, "axial=4", "patient_id:BraTS2021_00002"),
    ]
    assert not listing.skipped
    assert not listing.problems
    cohort = cohort_of(listing)
    assert cohort.dataset.class_names == ("glioma",)
    assert {record.site for record in cohort.records} == {None}
    assert read_rgb(cohort.records[0].image).shape == (14, 16, 3)


def test_layout_of_2023_with_two_examinations_of_a_patient(tmp_path: Path) -> None:
    data = tmp_path / "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData"
    for name in ("BraTS-GLI-00000-000", "BraTS-GLI-00000-001", "BraTS-GLI-00002-000"):
        case(data, name, enhancing=3)
    records = cohort_of(listed(tmp_path)).records
    assert [record.image.part for record in records] == ["axial=5"] * 3
    assert [record.path.name for record in records] == [
        "BraTS-GLI-00000-000-t1c.nii.gz",
        "BraTS-GLI-00000-001-t1c.nii.gz",
        "BraTS-GLI-00002-000-t1c.nii.gz",
    ]
    assert records[0].group == records[1].group == "patient_id:BraTS-GLI-00000" != records[2].group


def test_cases_that_give_nothing_are_named(tmp_path: Path) -> None:
    case(tmp_path, "BraTS2021_00000")
    case(tmp_path, "BraTS2021_00001", leave_out="seg")
    case(tmp_path, "BraTS2021_00003", leave_out="t1ce")
    case(tmp_path, "BraTS2021_00004", where=slice(0, 0))  # no tumour
    case(tmp_path, "BraTS2021_00005")
    seg = tmp_path / "BraTS2021_00005" / "BraTS2021_00005_seg.nii.gz"
    seg.write_bytes(seg.read_bytes()[:60])
    case(tmp_path, "BraTS-MEN-00004-000", enhancing=3)
    case(tmp_path, "BraTS-MET-00004-000", enhancing=3)
    save(tmp_path / "BraTS2021_00000" / "W39_1998.09.19_Segm.nii", np.zeros(SHAPE, dtype=np.uint8))
    (tmp_path / "name_mapping.csv").write_text("a,b\n")
    listing = listed(tmp_path)
    reasons = {item.path.name: item.reason for item in listing.skipped}
    assert reasons.pop("W39_1998.09.19_Segm.nii").startswith("its name is no case")
    by_case = {name[:19].rstrip("_flairt12seg-"): reason for name, reason in reasons.items()}
    assert len(reasons) == len(by_case) == 6
    words = " | ".join(reason for _, reason in sorted(by_case.items()))
    for expected in (
        "no segmentation",
        "no contrast-enhanced T1",
        "has no tumour",
        "unpacked",
        "a meningioma",
        "a metastasis",
    ):
        assert expected in words
    assert [record.path.parent.name for record in cohort_of(listing).records] == ["BraTS2021_00000"]


def test_one_class_cannot_be_asked_for_by_name(tmp_path: Path) -> None:
    case(tmp_path, "BraTS2021_00000")
    with pytest.raises(EmptyClassError):
        BRATS.read(BRATS, Wanted(root=tmp_path, classes=("glioma",)))


def test_two_editions_in_one_folder_are_refused(tmp_path: Path) -> None:
    case(tmp_path, "BraTS2021_00000")
    case(tmp_path, "BraTS-GLI-00000-000", enhancing=3)
    with pytest.raises(DatasetLayoutError, match="same patients under other names"):
        cohort_of(listed(tmp_path))


def test_2020_and_2021_in_one_folder_are_refused(tmp_path: Path) -> None:
    case(tmp_path, "BraTS2021_00000")
    case(tmp_path, "BraTS20_Training_001")
    with pytest.raises(DatasetLayoutError, match="cases of 2020 and of 2021"):
        cohort_of(listed(tmp_path))


@pytest.mark.parametrize(
    ("name", "edition"),
    [
        ("BraTS20_Training_001", "2020"),
        ("BraTS2021_00000_t1ce.nii.gz", "2021"),
        ("Brats18_CBICA_AAB_1", "2018"),
        ("BraTS-GLI-00000-000-t1c.nii.gz", "2023 or later"),
        ("BraTS-MEN-00000-000", ""),
        ("xBraTS2021_00000", ""),
        ("ISIC_2021_1", ""),
    ],
)
def test_editions(name: str, edition: str) -> None:
    assert edition_of(name) == edition


def test_folders_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(DatasetLayoutError, match="does not exist"):
        listed(tmp_path / "gone")
    save(tmp_path / "scan.nii.gz", np.ones(SHAPE, dtype=np.int16))
    assert [item.path.name for item in listed(tmp_path).skipped] == ["scan.nii.gz"]
    with pytest.raises(DatasetLayoutError, match="named as BraTS does"):
        cohort_of(listed(tmp_path))


def test_the_signature_tells_the_set(tmp_path: Path) -> None:
    case(tmp_path / "a", "BraTS2021_00000")
    case(tmp_path / "b" / "deeper", "BraTS-GLI-00000-000")
    for folder in ("a", "b"):
        assert any(any((tmp_path / folder).glob(pattern)) for pattern in BRATS.signature)
