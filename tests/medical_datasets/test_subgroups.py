from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wardround.medical_datasets.joined import Source, join
from wardround.medical_datasets.listing import Wanted
from wardround.medical_datasets.sets.csv_listed import CSV_LISTED
from wardround.medical_datasets.subgroups import plain_subgroups

from .pictures import save


def rows(column: str, levels: Sequence[str]) -> list[dict[str, str]]:
    return [{column: level, "sex": "female"} for level in levels]


def test_common_levels_stay_as_they_are() -> None:
    given = rows("source", ["a"] * 3 + ["b"] * 4 + ["c"])
    kept = plain_subgroups(given)
    assert list(kept.rows) == given
    assert kept.notes == ()


def test_a_column_of_many_or_rare_levels_is_dropped_whole() -> None:
    many = plain_subgroups(rows("source", [f"s{number}" for number in range(31) for _ in range(3)]))
    rare = plain_subgroups(rows("device", ["a"] * 9 + ["b", "c"]))
    for kept, words in ((many, "31 levels, more than 30"), (rare, "2 of 3 levels have fewer than 3 images")):
        assert all(dict(row) == {"sex": "female"} for row in kept.rows)
        (note,) = kept.notes
        assert words in note
    assert plain_subgroups(rows("source", [f"s{number}" for number in range(30) for _ in range(3)])).notes == ()


def test_a_long_level_is_dropped_alone_and_no_note_says_it() -> None:
    long = "a note about a patient that somebody wrote"
    assert len(long) > 40
    kept = plain_subgroups(rows("source", [*["a"] * 3, *[long] * 3, *["b" * 40] * 3]))
    assert [row.get("source") for row in kept.rows] == ["a"] * 3 + [None] * 3 + ["b" * 40] * 3
    assert kept.notes == ("source: 1 levels of more than 40 characters are left out",)


def test_our_own_levels_may_be_rare_and_columns_of_the_study_stay() -> None:
    given = [{"sex": "male", "age_band": "40-59", "source": "ham"}]
    assert list(plain_subgroups(given, fixed=("source",)).rows) == given


def test_names_of_people_do_not_reach_a_joined_cohort(tmp_path: Path) -> None:
    sources = []
    for name in ("north", "south"):
        root = tmp_path / name
        rows = ["path,label,patient,sex,source,age_band"]
        for number in range(4):
            save(root / f"{number}.png", number + len(sources) * 4)
            rows.append(f"{number}.png,{'ill' if number % 2 else 'well'},p{number},f,Dr {name} {number},Anna {number}")
        (root / "labels.csv").write_text("\n".join(rows))
        listing = CSV_LISTED.read(CSV_LISTED, Wanted(root, ("ill", "well")))
        sources.append(Source(name, listing, (0, 1)))
    cohort = join(sources[0].listing.dataset, sources)
    assert [dict(record.subgroups) for record in cohort.records] == [
        {"sex": "female", "source": name} for name in ("north", "south") for _ in range(4)
    ]
