from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wardround.medical_datasets.cohort import ImageRef
from wardround.medical_datasets.grouping import (
    Groups,
    Told,
    age_band,
    complete_groups,
    group_of,
    isic_id,
    linked_groups,
    subgroups_of,
)
from wardround.medical_datasets.reading import DIRECT

from .pictures import save


@pytest.mark.parametrize(
    ("cells", "group"),
    [
        ({"patient": "7", "lesion_id": "L1"}, "patient:7"),
        ({"patient": "", "lesion_id": "L1", "isic_id": "I"}, "lesion_id:L1"),
        ({"lesion_id": "NaN", "isic_id": "I"}, "isic_id:I"),
        ({"near_duplicate_group": "0"}, "near_duplicate_group:0"),
        ({"label": "glioma"}, None),
        ({"patient": "Unknown", "patient_id": "n/a", "lesion_id": "?"}, None),
        ({"patient": "0"}, "patient:0"),
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


def similar(path: Path) -> str:
    return f"similar:{DIRECT.content_hash(ImageRef(path))[:32]}"


def test_known_groups_are_taken_without_reading(tmp_path: Path) -> None:
    assert complete_groups(_refs(tmp_path, ["gone.png", "away.png"]), ["a", "b"]) == Groups(("a", "b"))


def test_known_and_similar_are_joined_in_chains(tmp_path: Path) -> None:
    names = [f"{index}.png" for index in range(7)]
    for name, seed in zip(names, [1, 1, 2, 3, 3, 4, 5], strict=True):
        save(tmp_path / name, seed)
    (tmp_path / names[6]).write_bytes(b"damaged")
    known = [None, "b", "b", "a", "b", None, "z"]
    found = complete_groups(_refs(tmp_path, names), known)
    assert found.names == ("a", "a", "a", "a", "a", similar(tmp_path / "5.png"), None)
    assert [item.path.name for item in found.skipped] == ["6.png"]
    assert found.aliases == {"a": ("a", "b", similar(tmp_path / "0.png"))}


def test_groups_do_not_depend_on_the_folder(tmp_path: Path) -> None:
    found = []
    for folder in ("here", "there"):
        names = [f"{index}.png" for index in range(6)]
        for name, seed in zip(names, itertools.cycle([1, 2, 3]), strict=False):
            save(tmp_path / folder / name, seed)
        found.append(complete_groups(_refs(tmp_path / folder, names), [None] * 6))
    assert found[0] == found[1]
    assert found[0].names == tuple(similar(tmp_path / "here" / name) for name in names[:3]) * 2


def test_a_group_without_a_known_unit_keeps_a_name_when_pictures_are_added_or_renamed(tmp_path: Path) -> None:
    save(tmp_path / "m.png", 1)
    save(tmp_path / "n.png", 2)
    before = complete_groups(_refs(tmp_path, ["m.png", "n.png"]), [None, None])
    assert not before.aliases
    (tmp_path / "m.png").rename(tmp_path / "y.png")
    save(tmp_path / "a.jpg", 1, quality=85)
    added = complete_groups(_refs(tmp_path, ["a.jpg", "n.png", "y.png"]), [None, None, None])
    assert added.names[1] == before.names[1]
    hashes = sorted((similar(tmp_path / "a.jpg"), similar(tmp_path / "y.png")))
    assert added.names[0] == added.names[2] == hashes[0]
    assert added.aliases == {hashes[0]: tuple(hashes)}
    assert before.names[0] in added.aliases[hashes[0]]


def told(*rows: Mapping[str, str]) -> list[Told]:
    return [Told(group_of(cells), cells) for cells in rows]


@pytest.mark.parametrize(
    ("rows", "groups"),
    [
        # A patient that is filled in two rows of a lesion and blank in the third.
        (
            [
                {"patient_id": "P1", "lesion_id": "L1"},
                {"patient_id": "", "lesion_id": "L1"},
                {"patient_id": "P1", "lesion_id": "L2"},
                {"patient_id": "", "lesion_id": "L3"},
            ],
            ["patient_id:P1", "patient_id:P1", "patient_id:P1", "lesion_id:L3"],
        ),
        ([{"patient": "1"}, {"patient": "", "patient_id": "1"}], ["patient:1", "patient:1"]),
        # A second name of a patient links a row that has only that.
        ([{"patient": "1", "patient_id": "X"}, {"patient": "", "patient_id": "X"}], ["patient:1", "patient:1"]),
        # Names that every patient has: lesions counted within patients, and placeholders.
        (
            [{"patient": "1", "lesion_id": "1"}, {"patient": "2", "lesion_id": "1"}, {"patient": "", "lesion_id": "1"}],
            ["patient:1", "patient:2", "lesion_id:1"],
        ),
        ([{"patient": "1", "patient_id": "ward"}, {"patient": "2", "patient_id": "ward"}], ["patient:1", "patient:2"]),
        (
            [
                {"patient": "1", "near_duplicate_group": "0", "isic_id": "0", "lesion_id": "0"},
                {"patient": "2", "near_duplicate_group": "0", "isic_id": "0", "lesion_id": "unknown"},
                {"patient": "unknown", "lesion_id": "0"},
                {"patient": "na", "lesion_id": "unknown"},
                {"patient": "na", "lesion_id": "unknown"},
            ],
            ["patient:1", "patient:2", "lesion_id:0", None, None],
        ),
        # One picture under two patients is one group.
        (
            [{"patient": "2", "near_duplicate_group": "7"}, {"patient": "1", "near_duplicate_group": "7"}],
            ["patient:1", "patient:1"],
        ),
        ([{"lesion_id": "L", "isic_id": "I"}, {"lesion_id": "", "isic_id": "I"}], ["lesion_id:L", "lesion_id:L"]),
    ],
)
def test_rows_that_share_a_narrower_unit_are_one_group(rows: list[dict[str, str]], groups: list[str | None]) -> None:
    assert list(linked_groups(told(*rows))) == groups
    assert list(linked_groups(told(*rows[::-1]))) == groups[::-1]


CELL = st.sampled_from(["", "1", "2", "3", "unknown"])
ROW = st.fixed_dictionaries(
    dict.fromkeys(("patient", "patient_id", "lesion_id", "near_duplicate_group", "isic_id"), CELL)
)


@given(rows=st.lists(ROW, max_size=9))
def test_linked_groups_against_merging_until_nothing_changes(rows: list[dict[str, str]]) -> None:
    known = [{column: "" if value == "unknown" else value for column, value in row.items()} for row in rows]
    owner = [row["patient"] or row["patient_id"] for row in known]
    sets = [{index} for index in range(len(rows))]

    def merge(first: int, second: int) -> None:
        one, two = (next(each for each in sets if index in each) for index in (first, second))
        if one is not two:
            sets.remove(two)
            one |= two

    pairs = list(itertools.combinations(range(len(rows)), 2))
    for first, second in pairs:
        one, two = known[first], known[second]
        same_group = group_of(one) is not None and group_of(one) == group_of(two)
        alike = any(one[column] and one[column] == two[column] for column in ("near_duplicate_group", "isic_id"))
        if same_group or alike or (owner[first] and owner[first] == owner[second]):
            merge(first, second)
    part = {index: number for number, each in enumerate(sets) for index in each}
    for value in "123":
        of_lesion = [index for index, row in enumerate(known) if row["lesion_id"] == value]
        second_name = [i for i, row in enumerate(known) if row["patient_id"] == value and owner[i] != value]
        second_name += [i for i, row in enumerate(known) if row["patient"] == value and owner[i] != value]
        if len({part[index] for index in of_lesion if owner[index]}) < 2:
            for index in of_lesion[1:]:
                merge(of_lesion[0], index)
        if len({part[index] for index in second_name}) < 2:
            for index in [*second_name, *(i for i in range(len(rows)) if second_name and owner[i] == value)]:
                merge(second_name[0], index)
    groups = linked_groups(told(*rows))
    for first, second in pairs:
        together = any(first in each and second in each for each in sets)
        named = groups[first] is not None and groups[first] == groups[second]
        assert named == (together and groups[first] is not None)
    for each in sets:
        assert len({groups[index] for index in each}) == 1


def test_identifiers_that_differ_in_spelling_only_are_one_group_by_its_smallest_spelling() -> None:
    told = [
        Told(f"patient_id:{name}", {"patient_id": name})
        for name in ("p1", "P1", "mu\u0308ller", "M\u00fcller", "a  b", "A b", "007", "7", "7.0")
    ]
    assert linked_groups(told) == (
        "patient_id:P1", "patient_id:P1", "patient_id:M\u00fcller", "patient_id:M\u00fcller",
        "patient_id:A b", "patient_id:A b", "patient_id:007", "patient_id:7", "patient_id:7.0",
    )  # fmt: skip


def test_names_of_other_units_are_compared_alike() -> None:
    cells = [{"lesion_id": "L1"}, {"lesion_id": "l1"}, {"near_duplicate_group": "g"}, {"near_duplicate_group": "G"}]
    told = [Told(group_of(row), row) for row in cells]
    assert linked_groups(told) == ("lesion_id:L1",) * 2 + ("near_duplicate_group:G",) * 2


@pytest.mark.parametrize(
    ("written", "band"), [("40-59", "40-59"), ("60+", "60+"), ("Anna", "20-39"), ("born 1931", "20-39")]
)
def test_an_age_band_is_written_in_numbers_or_made_of_the_age(written: str, band: str) -> None:
    assert subgroups_of({"age_band": written, "age": "33"})["age_band"] == band
    if written[0].isalpha():
        assert "age_band" not in subgroups_of({"age_band": written})
