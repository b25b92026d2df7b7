from __future__ import annotations

from pathlib import Path

import pytest
from wardround.medical_datasets.folders import scan
from wardround.medical_datasets.sets.brain_mri import BRAIN_MRI

from .pictures import save


@pytest.mark.parametrize(
    ("above", "site", "split"),
    [
        ([""], None, None),
        (["Training"], None, "train"),
        (["archive"], None, None),
        (["archive/Testing"], None, "test"),
        (["Training", "Testing", "val"], None, "train"),
        (["a", "b"], "a", None),
        (["data/a", "data/b"], "a", None),
        (["a/train", "b/test"], "a", "train"),
        (["train/a", "train/b", "test/a"], "a", "train"),
        (["north/ward-1", "south/ward-1"], "north-ward-1", None),
    ],
)
def test_folders_above_a_class(tmp_path: Path, above: list[str], site: str | None, split: str | None) -> None:
    for folder in above:
        save(tmp_path / folder / "glioma" / "a.png", 1)
    image = scan(tmp_path, BRAIN_MRI).images
    first = next(each for each in image if each.relative == f"{above[0]}/glioma/a.png".lstrip("/"))
    assert (first.site, first.split) == (site, split)


def test_nothing_is_opened(tmp_path: Path) -> None:
    path = save(tmp_path / "glioma" / "a.png", 1)
    path.write_bytes(b"")
    found = scan(tmp_path, BRAIN_MRI)
    assert [(each.relative, each.label) for each in found.images] == [("glioma/a.png", 0)]
    assert found.class_folders == {0: ("glioma",)}
