from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from wardround.medical_datasets.errors import DatasetLayoutError, TableError
from wardround.medical_datasets.folders import ImageFile
from wardround.medical_datasets.own_tables import find_table, join_rows
from wardround.medical_datasets.sets.ham10000 import HAM10000
from wardround.medical_datasets.tables import Table, read_table, read_tables, rows_by_image


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def a_table(path: Path, text: str) -> Table:
    return read_table(write(path, text), ("image",))


def test_tables_are_found_in_the_order_of_the_patterns(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "sub/c.csv"):
        write(tmp_path / name, "x")
    (tmp_path / "folder.csv").mkdir()
    assert find_table(HAM10000, tmp_path, ("none.csv", "sub/*.csv", "*.csv")).name == "c.csv"
    assert find_table(HAM10000, tmp_path, ("[ab].csv",)).name == "a.csv"
    with pytest.raises(DatasetLayoutError, match=r"is not there; looked for folder\.csv"):
        find_table(HAM10000, tmp_path, ("folder.csv",))


def test_joined_cells(tmp_path: Path) -> None:
    table = a_table(tmp_path / "t.csv", "image,label\na,mel\nb,nv\n")
    side = a_table(tmp_path / "m.csv", "IMAGE;sex;label\nB.jpg;male;other\na;female;\nc;;\n")
    joined = join_rows(table, side, "image")
    assert [dict(row.cells) for row in joined.rows] == [
        {"image": "a", "label": "mel", "sex": "female"},
        {"image": "b", "label": "nv", "sex": "male"},
    ]
    assert [row.number for row in joined.rows] == [2, 3]
    assert {row.table.name for row in joined.rows} == {"t.csv"}
    assert joined.columns == ("image", "label", "sex")


def test_rows_without_a_partner_and_doubled_keys_are_refused(tmp_path: Path) -> None:
    table = a_table(tmp_path / "t.csv", "image,label\na,mel\nb,nv\n")
    with pytest.raises(TableError, match=r"1 of 2 rows have no row in m\.csv, the first is 'b'.*row 3"):
        join_rows(table, a_table(tmp_path / "m.csv", "image,sex\na,male\n"), "image")
    with pytest.raises(TableError, match=r"two rows have the same 'image'.*row 3, and row 2"):
        join_rows(table, a_table(tmp_path / "m.csv", "image,sex\na,male\nA.jpg,male\n"), "image")


@pytest.mark.parametrize("header", ["image,label,image", "image,Label, label "])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(TableError, match=r"two columns '(image|label)'"):
        a_table(tmp_path / "t.csv", header + "\n1,a,b\n")
    assert a_table(tmp_path / "t.csv", "image,label,,\n1,a,,\n").rows[0].cells["label"] == "a"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"the table is empty\. .*t\.csv\. write the columns image$"),
        (b"image,label\n", r"a header and no rows.*write a row for every image$"),
        (b"image,label\na\n", r"1 cells, the header 2.*row 2\. add what is missing"),
        (b"image,label\na,b,c\n", r"3 cells, the header 2.*row 2\. put quotes"),
        (b"image,label\na,b\nS\xfcd,b\n", r"not UTF-8\. .*line 3\. save it as UTF-8, which Excel calls 'CSV UTF-8"),
        ("image,label\nä,b\n".encode("utf-16"), r"UTF-16 text, and not UTF-8.*Excel"),
        (b'image,label\na,b\nc,"d\n', r"not valid CSV.*row 3\. look for a quote"),
        (b"picture,label\na,b\n", r"no column 'image'.*add a column 'image'$"),
    ],
)
def test_tables_that_cannot_be_read_say_what_to_do(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(TableError, match=words):
        read_table(path, ("image",))


def test_a_table_that_is_not_needed_can_be_removed(tmp_path: Path) -> None:
    write(tmp_path / "groups.csv", "path,near_duplicate_group\n")
    with pytest.raises(TableError, match="or remove the table"):
        read_tables(tmp_path)


def test_tables_beside_images_find_names_in_either_unicode_form_and_survive_names_of_no_file(tmp_path: Path) -> None:
    relative = unicodedata.normalize("NFD", "nv/ä.jpg")
    table = read_table(
        write(tmp_path / "t.csv", f"path,label\n{unicodedata.normalize('NFC', relative)},nv\n"), ("path",)
    )
    assert list(rows_by_image([table], [ImageFile(relative, 5)], tmp_path, HAM10000)) == [relative]
    table = read_table(write(tmp_path / "t.csv", f"path,label\n{'x' * 300},nv\n"), ("path",))
    with pytest.raises(TableError, match="a file that does not exist"):
        rows_by_image([table], [], tmp_path, HAM10000)
