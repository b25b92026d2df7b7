from __future__ import annotations

from pathlib import Path

from wardround.medical_datasets.sets.isic_folders import ISIC

from .skin_trees import by_stem, images, listed, table


def test_train_and_test_folders_with_the_optional_table(tmp_path: Path) -> None:
    images(tmp_path / "Train" / "melanoma", ["ISIC_0000001.jpg"])
    images(tmp_path / "Train" / "nevus", ["ISIC_0000002.jpg"])
    images(tmp_path / "Test" / "squamous cell carcinoma", ["ISIC_0000003.jpg"])
    rows = [
        ("Train/melanoma/ISIC_0000001.jpg", "melanoma", "ISIC_0000001", "HAM_7", "ham10000"),
        ("Train/nevus/ISIC_0000002.jpg", "nevus", "ISIC_0000002", "", "bcn"),
        ("Test/squamous cell carcinoma/ISIC_0000003.jpg", "squamous cell carcinoma", "ISIC_0000003", "", ""),
    ]
    table(tmp_path / "metadata.csv", ("path", "label", "isic_id", "lesion_id", "source"), rows)
    items = by_stem(listed(ISIC, tmp_path))
    assert {stem[-1]: (item.split, item.group) for stem, item in items.items()} == {
        "1": ("train", "lesion_id:HAM_7"),
        "2": ("train", "isic_id:ISIC_0000002"),
        "3": ("test", "isic_id:ISIC_0000003"),
    }
    assert ISIC.class_names[items["ISIC_0000003"].label] == "squamous cell carcinoma"
