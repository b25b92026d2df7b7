"""Every class that a source without classes of its own holds is known before the study's map is judged."""

from __future__ import annotations

from pathlib import Path

import pytest
from wardround.medical_datasets.catalog import DATASETS
from wardround.medical_datasets.errors import UnknownClassError
from wardround.medical_datasets.listing import Wanted
from wardround.medical_datasets.source_labels import FOLDERS, TABLES, labels_there, unlike_names

from .pictures import pattern, save


def test_every_data_set_without_classes_has_a_way_to_tell_them() -> None:
    assert {key for key, data in DATASETS.items() if not data.classes} == TABLES | FOLDERS


@pytest.mark.parametrize("key", sorted(TABLES))
def test_a_table_says_them_in_its_order_and_one_spelling_each(tmp_path: Path, key: str) -> None:
    (tmp_path / "l.csv").write_text("path,label\n1,Mel\n2,nv\n3,MEL\n4,\n5,other thing\n")
    assert labels_there(DATASETS[key], Wanted(tmp_path, labels="l.csv"), ()) == ("Mel", "nv", "other thing")
    assert labels_there(DATASETS[key], Wanted(tmp_path), ()) == ()
    (tmp_path / "l.csv").write_text("path,label\n1,a\n2,+\n")
    with pytest.raises(UnknownClassError, match=r"'\+' has no letter") as refused:
        labels_there(DATASETS[key], Wanted(tmp_path, labels="l.csv"), ())
    assert "row 3" in refused.value.where


def test_class_folders_of_all_sites_are_told_from_what_lies_between(tmp_path: Path) -> None:
    for at, name in enumerate(
        (
            "north/train/mel/1.png",
            "north/test/Nv/1.png",
            "south/images/mel/1.png",
            "south/images/cyst/p1/1.png",
            "b/x/1",
        )
    ):
        save(tmp_path / f"{name.removesuffix('.png')}.png", pattern(at, 32))
    (tmp_path / "south" / "notes").mkdir()
    (tmp_path / "south" / "notes" / "read.txt").write_text("no picture")
    assert labels_there(DATASETS["domains"], Wanted(tmp_path), ("MEL",)) == ("x", "Nv", "mel", "cyst")


def test_data_sets_with_classes_of_their_own_are_not_looked_at(tmp_path: Path) -> None:
    assert labels_there(DATASETS["ham10000"], Wanted(tmp_path), ()) == ()
    assert labels_there(DATASETS["csv"], Wanted(tmp_path / "nowhere"), ()) == ()


def test_names_are_kept_once() -> None:
    assert unlike_names(("mel", "MEL", "", "No tumor", "no_tumor")) == ("mel", "No tumor")
