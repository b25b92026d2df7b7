from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wardround.medical_datasets.errors import TableError
from wardround.medical_datasets.sets.skin_rows import (
    fitzpatrick_type,
    one_hot,
    patient_or_lesion,
    skin_subgroups,
    supplied_split,
)
from wardround.medical_datasets.tables import Row

NAMES = ("a", "b", "c")


@given(cells=st.lists(st.sampled_from(["0", "1", "0.0", "1.0", "0.5", "", "nan", "x", "-1"]), min_size=3, max_size=3))
def test_one_hot_accepts_exactly_one_one_among_zeros(cells: list[str]) -> None:
    row = Row(Path("t.csv"), 2, dict(zip(NAMES, cells, strict=True)))
    plain = [{"0": "0", "0.0": "0", "1": "1", "1.0": "1"}.get(cell, "?") for cell in cells]
    if "?" not in plain and plain.count("1") == 1:
        assert one_hot(row, NAMES) == NAMES[plain.index("1")]
    else:
        with pytest.raises(TableError, match=r"t\.csv, row 2"):
            one_hot(row, NAMES)


@pytest.mark.parametrize(
    ("cells", "group"),
    [
        ({"patient_id": "P", "lesion_id": "L"}, "patient_id:P"),
        ({"patient_id": "", "lesion_id": "L"}, "lesion_id:L"),
        ({"lesion_id": "nan"}, None),
        ({"patient_id": "unknown", "lesion_id": "", "isic_id": "ISIC_0000001", "near_duplicate_group": "1"}, None),
    ],
)
def test_a_blank_lesion_is_no_group(cells: dict[str, str], group: str | None) -> None:
    assert patient_or_lesion(cells) == group


@pytest.mark.parametrize(
    ("written", "kind"),
    [("1", "I"), ("3.0", "III"), ("6", "VI"), ("-1", None), ("0", None), ("7", None), ("2.5", None), ("", None)],
)
def test_skin_types(written: str, kind: str | None) -> None:
    assert fitzpatrick_type(written) == kind


@pytest.mark.parametrize("written", ["nan", "inf", "-inf", "III"])
def test_skin_types_that_are_no_number(written: str) -> None:
    assert fitzpatrick_type(written) is None


def test_subgroups_under_other_names() -> None:
    cells = {"gender": "MALE", "years": "81", "region": "Face", "fst": "2", "sex": "female"}
    found = skin_subgroups(cells, sex="gender", age="years", place="region", skin_type="fst", source="clinic")
    assert dict(found) == {
        "sex": "male",
        "age_band": "80+",
        "localisation": "face",
        "skin_type": "II",
        "source": "clinic",
    }
    assert dict(skin_subgroups({"region": "Unknown", "sex": "?"}, place="region")) == {}


def test_supplied_splits() -> None:
    assert [supplied_split(name) for name in ("train", "VAL", "valid", "Test", "fold 3", "")] == [
        "train",
        "validation",
        "validation",
        "test",
        None,
        None,
    ]
