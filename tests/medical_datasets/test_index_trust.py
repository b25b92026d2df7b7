"""An index is used only where nobody else can have put anything into it; without it every answer is the file's."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from wardround.medical_datasets import pixels
from wardround.medical_datasets.errors import DataError
from wardround.medical_datasets.index import RACY_NS, Index, forget_contents
from wardround.medical_datasets.index_file import DATABASE, SECRET

from .pictures import save


def opened(folder: Path) -> Index:
    return Index.open(folder, now=lambda: time.time_ns() + RACY_NS)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return [save(tmp_path / "pictures" / f"{number}.png", number) for number in range(3)]


@pytest.fixture
def folder(tmp_path: Path, pictures: list[Path]) -> Path:
    """An index that knows the pictures."""
    with opened(tmp_path / "index") as index:
        for picture in pictures:
            index.content_hash(picture)
    return tmp_path / "index"


def answers(index: Index, pictures: list[Path]) -> bool:
    return [index.content_hash(each) for each in pictures] == [pixels.content_hash(each) for each in pictures]


def linked(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


def of_another(folder: Path) -> None:
    os.chown(folder, 12345, -1)


def link_of(name: str) -> Callable[[Path], None]:
    def work(folder: Path) -> None:
        target = folder.with_name("target")
        target.write_bytes((folder / name).read_bytes() if (folder / name).exists() else b"theirs")
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return work


def pipe(folder: Path) -> None:
    (folder / DATABASE).unlink()
    os.mkfifo(folder / DATABASE)


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (linked, "a link to another"),
        pytest.param(
            of_another,
            "another user",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder away"),
        ),
        (lambda folder: folder.chmod(0o770), "other users may write"),
        (lambda folder: folder.chmod(0o702), "other users may write"),
        (link_of(DATABASE), "is a link"),
        (link_of(f"{DATABASE}-wal"), "is a link"),
        (link_of(SECRET), "is a link"),
        (pipe, "no file"),
    ],
)
def test_what_others_can_change_is_not_used(
    folder: Path, pictures: list[Path], work: Callable[[Path], None], words: str
) -> None:
    work(folder)
    target = folder.with_name("target")
    before = target.read_bytes() if target.exists() else b""
    with opened(folder) as index:
        assert answers(index, pictures)
        (note,) = index.notes
    assert words in note
    assert note.endswith("every file is read anew")
    assert str(folder) not in note
    assert (target.read_bytes() if target.exists() else b"") == before


def test_what_cannot_be_forgotten_there_is_an_error(folder: Path, pictures: list[Path]) -> None:
    folder.chmod(0o777)
    with pytest.raises(DataError, match="cannot be read or changed"):
        forget_contents(folder, [pixels.content_hash(pictures[0])])
    folder.chmod(0o700)
    assert forget_contents(folder, [pixels.content_hash(pictures[0])]) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON images BEGIN DELETE FROM images; END",
        "CREATE TRIGGER t BEFORE DELETE ON images BEGIN SELECT RAISE(IGNORE); END",
        "CREATE VIEW v AS SELECT * FROM images",
        "CREATE TABLE other (content BLOB)",
        "CREATE INDEX i ON images (content)",
        "ALTER TABLE images ADD COLUMN more BLOB",
        "ALTER TABLE made ADD COLUMN more BLOB",
        "DROP TABLE images; CREATE VIEW images AS SELECT 1 AS key, 2 AS guard, 3 AS header, 4 AS content, 5 AS seal",
    ],
)
def test_a_database_with_anything_else_in_it_is_made_anew(folder: Path, pictures: list[Path], statement: str) -> None:
    connection = sqlite3.connect(folder / DATABASE)
    connection.executescript(statement)
    connection.close()
    with opened(folder) as index:
        assert answers(index, pictures)
        assert index.notes == ["the image index was damaged: it was removed and is made anew"]
    with opened(folder) as index:
        assert index.counts().images == 3
        assert index.notes == []
    connection = sqlite3.connect(folder / DATABASE)
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    assert names == {"made", "images", "sqlite_autoindex_images_1"}
