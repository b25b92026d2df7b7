from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from wardround.medical_datasets.cohort import ImageRef
from wardround.medical_datasets.grouping import age_band, complete_groups, group_of, isic_id, subgroups_of

from .pictures import save


@pytest.mark.parametrize(
    ("cells", "group"),
    [
        ({"patient": "7", "lesion_id": "L1"}, "patient:7"),
        ({"patient": "", "lesion_id": "L1", "isic_id": "I"}, "lesion_id:L1"),
        ({"lesion_id": "NaN", "isic_id": "I"}, "isic_id:I"),
        ({"near_duplicate_group": "0"}, "near_duplicate_group:0"),
        ({"label": "glioma"}, None),
    ],
)
def test_the_widest_filled_unit_is_the_group(cells: dict[str, str], group: str | None) -> None:
    assert group_of(cells) == group


@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("0", "0-19"),
        ("19.9", "0-19"),
        ("20", "20-39"),
        ("59", "40-59"),
        ("60", "60-79"),
        ("80", "80+"),
        ("130", "80+"),
        ("131", None),
        ("-1", None),
        ("nan", None),
        ("", None),
        ("old", None),
    ],
)
def test_age_bands(age: str, band: str | None) -> None:
    assert age_band(age) == band


def test_subgroups_leave_out_what_is_unknown() -> None:
    assert dict(subgroups_of({"sex": "M", "age": "", "age_approx": "45", "source": "unknown"})) == {
        "sex": "male",
        "age_band": "40-59",
    }
    assert dict(subgroups_of({"age_band": "60-79", "age": "20", "source": "bcn"})) == {
        "age_band": "60-79",
        "source": "bcn",
    }
    assert dict(subgroups_of({})) == {}


def test_isic_id_is_read_from_the_file_name_only() -> None:
    assert isic_id("ISIC_0000001/isic_0024468_downsampled.jpg") == "ISIC_0024468"
    assert isic_id("ISIC_0000001/a.jpg") is None


def _refs(root: Path, names: list[str]) -> list[ImageRef]:
    return [ImageRef(root / name) for name in names]


def test_known_groups_are_taken_without_reading(tmp_path: Path) -> None:
    assert complete_groups(_refs(tmp_path, ["gone.png", "away.png"]), ["a", "b"], ["gone.png", "away.png"]) == (
        ("a", "b"),
        (),
    )


def test_known_and_similar_are_joined_in_chains(tmp_path: Path) -> None:
    names = [f"{index}.png" for index in range(7)]
    for name, seed in zip(names, [1, 1, 2, 3, 3, 4, 5], strict=True):
        save(tmp_path / name, seed)
    (tmp_path / names[6]).write_bytes(b"damaged")
    known = [None, "b", "b", "a", "b", None, "z"]
    groups, skipped = complete_groups(_refs(tmp_path, names), known, names)
    assert groups == ("a", "a", "a", "a", "a", "similar:5.png", None)
    assert [item.path.name for item in skipped] == ["6.png"]


def test_groups_do_not_depend_on_the_folder(tmp_path: Path) -> None:
    found = []
    for folder in ("here", "there"):
        names = [f"{index}.png" for index in range(6)]
        for name, seed in zip(names, itertools.cycle([1, 2, 3]), strict=False):
            save(tmp_path / folder / name, seed)
        found.append(complete_groups(_refs(tmp_path / folder, names), [None] * 6, names))
    assert found[0] == found[1]
    assert found[0][0] == ("similar:0.png", "similar:1.png", "similar:2.png") * 2
