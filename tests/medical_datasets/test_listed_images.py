from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.medical_datasets.errors import EmptyClassError, TableError, UnknownClassError
from wardround.medical_datasets.listed_images import (
    Entry,
    Labels,
    LeftOut,
    Understand,
    list_rows,
    list_table,
)
from wardround.medical_datasets.listing import Listing, Wanted
from wardround.medical_datasets.sets.ham10000 import HAM10000
from wardround.medical_datasets.tables import Row, Table


def make_table(*rows: tuple[str, str], path: str = "t.csv") -> Table:
    columns = ("image", "label")
    return Table(
        Path(path),
        columns,
        tuple(Row(Path(path), at, dict(zip(columns, row, strict=True))) for at, row in enumerate(rows, start=2)),
    )


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def read(root: Path, *rows: tuple[str, str], classes: tuple[str, ...] | None = None, by: str = "id") -> Listing:
    wanted = Wanted(root, classes)
    labels = Labels(HAM10000, wanted)

    def understand(row: Row) -> Entry | LeftOut:
        if row.cells["label"] == "out":
            return LeftOut(row.cells["image"], "left out by rule")
        label = labels.of(row.cells["label"], row, row.cells["image"])
        return label if isinstance(label, LeftOut) else Entry(row.cells["image"], label, group="lesion_id:1")

    return list_rows(HAM10000, wanted, make_table(*rows), understand, by="path" if by == "path" else "id")


def test_rows_and_files_meet(tmp_path: Path) -> None:
    touch(tmp_path, "p/a.jpg", "q/B.JPG", "q/c.png", "q/d.png")
    listing = read(tmp_path, ("b", "mel"), ("A.jpg", "nv"), ("c", "out"))
    assert [(item.relative, item.label, item.where) for item in listing.items] == [
        ("p/a.jpg", 5, "t.csv, row 3"),
        ("q/B.JPG", 4, "t.csv, row 2"),
    ]
    assert listing.items[0].cells == {"image": "A.jpg", "label": "nv"}
    assert listing.items[0].group == "lesion_id:1"
    assert [(item.path.name, item.reason) for item in listing.skipped] == [
        ("c.png", "left out by rule"),
        ("d.png", "not listed in t.csv"),
    ]
    assert not listing.problems
    assert listing.columns == ("image", "label")


def test_paths_must_match_whole(tmp_path: Path) -> None:
    touch(tmp_path, "p/a.jpg", "q/a.jpg")
    listing = read(tmp_path, ("p\\a.jpg", "mel"), ("q/a.jpg", "nv"), ("r/a.jpg", "nv"), by="path")
    assert [item.relative for item in listing.items] == ["p/a.jpg", "q/a.jpg"]
    (problem,) = listing.problems
    assert "1 of 3 rows name an image that is not there, the first is 'r/a.jpg'" in str(problem)


def test_two_spellings_of_one_image_are_two_rows_for_it(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (problem,) = read(tmp_path, ("a", "mel"), ("A.JPG", "mel")).problems
    assert "two rows name one image" in str(problem)
    assert "t.csv, row 3, and row 2 (a.jpg)" in str(problem)


def test_parts_of_one_file_are_images_of_their_own(tmp_path: Path) -> None:
    touch(tmp_path, "v.mat")
    rows = make_table(("v.mat", "1"), ("v.mat", "2"), ("v.mat", "02"))

    def understand(row: Row) -> Entry:
        return Entry("v.mat", 0, part=f"frame={row.cells['label']}")

    listing = list_rows(HAM10000, Wanted(tmp_path), rows, understand, suffixes=frozenset({".mat"}))
    assert [item.name for item in listing.items] == ["v.mat#frame=1", "v.mat#frame=2"]
    assert len(listing.problems) == 1


def test_faults_of_equal_words_are_one_problem_with_a_count(tmp_path: Path) -> None:
    rows = [(f"i{index}", "melanom") for index in range(40)] + [("x", "")]
    listing = read(tmp_path, *rows)
    assert [type(problem) for problem in listing.problems] == [UnknownClassError, TableError]
    assert listing.problems[0].what == "the label 'melanom' is no class of HAM10000 pigmented skin lesions (in 40 rows)"
    assert listing.problems[0].where == "t.csv, row 2"
    assert "did you mean 'mel'" in listing.problems[0].remedy


def test_naming_the_classes_leaves_other_labels_out_but_not_misspelt_ones(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    rows = (("a", "mel"), ("b", "wart"), ("c", "melanomma"), ("d", "dermatofibrom"), ("e", "bcc"))
    listing = read(tmp_path, *rows, classes=("melanoma", "nv"))
    assert [item.relative for item in listing.items] == ["a.jpg"]
    reasons = {item.path.name: item.reason for item in listing.skipped}
    assert reasons["b.jpg"] == "the class 'wart' is none of the classes asked for"
    assert reasons["d.jpg"] == "the class 'dermatofibrom' is none of the classes asked for"
    (problem,) = listing.problems
    assert "'melanomma'" in str(problem)
    assert len(read(tmp_path, *rows).problems) == 4  # three labels, and e is not there
    with pytest.raises(UnknownClassError, match="did you mean 'mel'"):
        read(tmp_path, *rows, classes=("melanomma", "nv"))
    with pytest.raises(EmptyClassError):
        read(tmp_path, *rows, classes=("mel",))


def test_earlier_problems_come_first(tmp_path: Path) -> None:
    early = TableError("early")
    listing = list_rows(
        HAM10000, Wanted(tmp_path), make_table(("a", "mel")), lambda row: Entry("a", 0), problems=[early]
    )
    assert listing.problems[0] is early
    assert len(listing.problems) == 2


NAMES = st.sampled_from(["a", "b", "c", "d"])
FILES = st.frozensets(st.tuples(st.sampled_from(["", "p/", "q/r/"]), NAMES, st.sampled_from([".jpg", ".PNG"])))
ROWS = st.lists(st.tuples(NAMES, st.sampled_from(["mel", "nv", "bcc", "out", "?"])), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(files=FILES, rows=ROWS, some=st.booleans())
def test_every_file_and_row_is_accounted_for(
    files: frozenset[tuple[str, str, str]], rows: list[tuple[str, str]], some: bool
) -> None:
    """Against a search of all files for every row."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths = sorted("".join(parts) for parts in files)
        touch(root, *paths)
        kept = {"mel", "nv"} if some else {"mel", "nv", "bcc"}
        listing = read(root, *rows, classes=("mel", "nv") if some else None)
        expected, missing, refused, named = [], 0, False, set()
        seen: set[str] = set()
        for name, label in rows:
            owned = sorted(path for path in paths if Path(path).stem == name)
            if (label == "?" and not some) or name in seen:
                refused = True
                continue
            seen.add(name)
            named |= set(owned)
            if label not in kept:
                continue
            if owned:
                expected.append((owned[0], HAM10000.class_index(label)))
            else:
                missing += 1
        assert [(item.relative, item.label) for item in listing.items] == sorted(expected)
        assert bool(listing.problems) == (refused or missing > 0)
        skipped = Counter(item.path.relative_to(root).as_posix() for item in listing.skipped)
        assert all(count == 1 for count in skipped.values())
        assert set(paths) - named <= set(skipped)
        assert not skipped.keys() & {item.relative for item in listing.items}


def test_list_table_collects_what_is_wrong_inside_and_raises_what_is_not_there(tmp_path: Path) -> None:
    def understanding(table: Table) -> tuple[Table, Understand]:
        return table, lambda row: Entry(row.cells["image"], 0)

    (tmp_path / "t.csv").write_bytes("image,label\nä".encode("latin-1"))
    listing = list_table(HAM10000, Wanted(tmp_path), ("t.csv",), ("image",), understanding)
    (problem,) = listing.problems
    assert "UTF-8" in str(problem)
    assert not listing.items
    with pytest.raises(UnknownClassError):
        list_table(HAM10000, Wanted(tmp_path, ("x", "y")), ("t.csv",), ("image",), understanding)
