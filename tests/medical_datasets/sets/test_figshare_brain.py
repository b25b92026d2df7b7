from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from wardround.medical_datasets.errors import DatasetLayoutError, UnknownClassError
from wardround.medical_datasets.listing import Listing, Wanted
from wardround.medical_datasets.loading import cohort_of
from wardround.medical_datasets.sets.brain_mri import BRAIN_MRI
from wardround.medical_datasets.sets.figshare_brain import FIGSHARE_BRAIN


def write_slice(path: Path, label: int, patient: str, seed: int) -> Path:
    """A slice as the set has it: int16, column by column, patient as UTF-16 code units."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 2000, size=(24, 20)).astype(np.int16)
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("cjdata")
        group["image"] = values.T
        group["label"] = np.array([[float(label)]])
        if patient:
            group["PID"] = np.array([[ord(letter)] for letter in patient], dtype=np.uint16)
        else:
            group.create_dataset("PID", data=np.zeros((1, 2), dtype=np.uint64)).attrs["MATLAB_empty"] = np.uint8(1)
        group["tumorBorder"] = np.arange(8.0)[:, None]
        group["tumorMask"] = (values > 1500).T.astype(np.uint8)
    return path


def tree(root: Path) -> Path:
    """Two of the four unpacked archives, with what lies beside them."""
    first, second = root / "brainTumorDataPublic_1-766", root / "brainTumorDataPublic_767-1532"
    write_slice(first / "1.mat", 1, "100360", 1)
    write_slice(first / "2.mat", 1, "100360", 2)
    write_slice(first / "10.mat", 3, "MR025463A", 3)
    write_slice(second / "767.mat", 2, "112649", 4)
    with h5py.File(root / "cvind.mat", "w") as file:
        file["cvind"] = np.ones((1, 3064))
    (root / "README.txt").write_text("This brain tumor dataset ...")
    return root


def listed(root: Path, classes: tuple[str, ...] | None = None) -> Listing:
    return FIGSHARE_BRAIN.read(FIGSHARE_BRAIN, Wanted(root=root, classes=classes))


def test_classes_are_those_of_brain_mri_in_a_fixed_order() -> None:
    assert FIGSHARE_BRAIN.class_names == ("glioma", "meningioma", "pituitary")
    assert all(label in BRAIN_MRI.classes for label in FIGSHARE_BRAIN.classes)
    assert FIGSHARE_BRAIN.grey


def test_the_published_layout(tmp_path: Path) -> None:
    listing = listed(tree(tmp_path))
    assert [(item.relative, item.label, item.group) for item in listing.items] == [
        ("brainTumorDataPublic_1-766/1.mat", 1, "patient_id:100360"),
        ("brainTumorDataPublic_1-766/10.mat", 2, "patient_id:MR025463A"),
        ("brainTumorDataPublic_1-766/2.mat", 1, "patient_id:100360"),
        ("brainTumorDataPublic_767-1532/767.mat", 0, "patient_id:112649"),
    ]
    assert not listing.skipped  # cvind.mat and the text are passed over
    assert not listing.problems
    cohort = cohort_of(listing)
    assert [record.label for record in cohort.records] == [1, 2, 1, 0]
    assert {record.site for record in cohort.records} == {None}


def test_files_in_the_root_itself(tmp_path: Path) -> None:
    for number, label in enumerate((1, 2, 3), start=1):
        write_slice(tmp_path / f"{number}.mat", label, "7", number)
    assert [record.label for record in cohort_of(listed(tmp_path)).records] == [1, 0, 2]


def test_kept_classes(tmp_path: Path) -> None:
    cohort = cohort_of(listed(tree(tmp_path), ("pituitary_tumor", "glioma")), classes=["pituitary_tumor", "glioma"])
    assert cohort.dataset.class_names == ("glioma", "pituitary")
    assert [record.label for record in cohort.records] == [1, 0]
    with pytest.raises(UnknownClassError, match="notumor"):
        listed(tmp_path, ("notumor", "glioma"))


def test_damaged_files_are_named_and_unknown_labels_refused(tmp_path: Path) -> None:
    tree(tmp_path)
    broken = write_slice(tmp_path / "more" / "99.mat", 1, "5", 9)
    broken.write_bytes(broken.read_bytes()[:700])
    (tmp_path / "more" / "brainTumorDataPublic_1533-2298.zip").write_bytes(b"PK")
    listing = listed(tmp_path)
    assert sorted(item.path.name for item in listing.skipped) == ["99.mat", "brainTumorDataPublic_1533-2298.zip"]
    assert len(cohort_of(listing).records) == 4
    write_slice(tmp_path / "more" / "5000.mat", 4, "5", 9)
    assert [problem.what.split(";")[0] for problem in listed(tmp_path).problems] == ["cjdata/label is 4"]
    with pytest.raises(UnknownClassError, match=r"5000\.mat"):
        cohort_of(listed(tmp_path))


def test_a_slice_without_a_patient_is_compared_with_all_others(tmp_path: Path) -> None:
    tree(tmp_path)
    write_slice(tmp_path / "copy" / "3000.mat", 1, "", 1)  # the picture of 1.mat
    write_slice(tmp_path / "copy" / "3001.mat", 1, "", 77)
    groups = {record.path.name: record.group for record in cohort_of(listed(tmp_path)).records}
    assert groups["3000.mat"] == groups["1.mat"] == groups["2.mat"] == "patient_id:100360"
    assert groups["3001.mat"].startswith("similar:")


def test_empty_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(DatasetLayoutError, match="does not exist"):
        listed(tmp_path / "gone")
    (tmp_path / "cvind.mat").write_bytes(b"")
    with pytest.raises(DatasetLayoutError, match=r"no \.mat file"):
        cohort_of(listed(tmp_path))
