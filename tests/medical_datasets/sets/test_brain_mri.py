from __future__ import annotations

from pathlib import Path

import pytest
from wardround.medical_datasets.catalog import recognise
from wardround.medical_datasets.cohort import normalise_name
from wardround.medical_datasets.errors import UnknownClassError
from wardround.medical_datasets.listing import Wanted
from wardround.medical_datasets.loading import cohort_of
from wardround.medical_datasets.sets.brain_mri import BRAIN_MRI

from ..pictures import brain_tree, save


@pytest.mark.parametrize("variant", ["plain", "tumor"])
@pytest.mark.parametrize("wrapper", ["", "archive"])
def test_both_kaggle_layouts(tmp_path: Path, variant: str, wrapper: str) -> None:
    brain_tree(tmp_path / wrapper, 2, variant=variant)
    assert recognise(tmp_path) is BRAIN_MRI
    listing = BRAIN_MRI.read(BRAIN_MRI, Wanted(tmp_path))
    assert not listing.problems
    assert len(listing.items) == 16
    for item in listing.items:
        part, folder, _ = item.relative.removeprefix("archive/").split("/")
        assert normalise_name(folder).startswith(BRAIN_MRI.class_names[item.label])
        assert item.split == {"Training": "train", "Testing": "test"}[part]
        assert item.site is None
        assert item.group is None


def test_alphabetical_order_is_not_label_order() -> None:
    """no_tumor sorts after meningioma in both variants, but folders of a variant sort differently with a prefix."""
    assert BRAIN_MRI.class_names == ("glioma", "meningioma", "notumor", "pituitary")
    assert [BRAIN_MRI.class_index(name) for name in ("no_tumor", "pituitary_tumor", "Glioma Tumour")] == [2, 3, 0]


def test_groups_csv_gives_the_groups(tmp_path: Path) -> None:
    brain_tree(tmp_path, 1, variant="tumor")
    lines = ["path,label,split,near_duplicate_group"]
    for part in ("Training", "Testing"):
        for number, name in enumerate(("glioma", "meningioma", "no", "pituitary")):
            label = "notumor" if name == "no" else name
            lines.append(f"{part}/{name}_tumor/image(0).jpg,{label},{part},{number}")
    (tmp_path / "groups.csv").write_text("\n".join(lines) + "\n")
    cohort = cohort_of(BRAIN_MRI.read(BRAIN_MRI, Wanted(tmp_path)))
    assert len(cohort.records) == 8
    assert {record.group for record in cohort.records} == {f"near_duplicate_group:{k}" for k in range(4)}


def test_without_a_table_a_copy_in_testing_joins_its_original(tmp_path: Path) -> None:
    brain_tree(tmp_path, 2)
    save(tmp_path / "Testing/glioma/copy.jpg", 0, quality=70)  # the first picture of Training
    cohort = cohort_of(BRAIN_MRI.read(BRAIN_MRI, Wanted(tmp_path)))
    group = {record.path.relative_to(tmp_path).as_posix(): record.group for record in cohort.records}
    assert group["Testing/glioma/copy.jpg"] == group["Training/glioma/image(0).jpg"]
    assert len(set(group.values())) == 16


def test_a_folder_of_another_class_is_a_problem(tmp_path: Path) -> None:
    brain_tree(tmp_path, 1)
    save(tmp_path / "Training/popcorn/1.jpg", 77)
    (problem,) = BRAIN_MRI.read(BRAIN_MRI, Wanted(tmp_path)).problems
    assert isinstance(problem, UnknownClassError)
    assert "popcorn" in str(problem)


def test_codes_are_of_the_tumours_only() -> None:
    codes = {label.name: {code.system: code.code for code in label.codes} for label in BRAIN_MRI.classes}
    assert codes == {
        "glioma": {"SNOMED CT": "393564001", "ICD-O-3": "9380/3"},
        "meningioma": {"SNOMED CT": "302820008", "ICD-O-3": "9530/0"},
        "notumor": {},
        "pituitary": {"SNOMED CT": "254956000", "ICD-O-3": "8272/0"},
    }
