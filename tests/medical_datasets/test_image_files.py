from __future__ import annotations

import os
from pathlib import Path

import pytest
from wardround.medical_datasets.errors import DatasetLayoutError, TableError
from wardround.medical_datasets.image_files import ImageFiles, check_root, image_id
from wardround.medical_datasets.pixels import IMAGE_SUFFIXES
from wardround.medical_datasets.sets.ham10000 import HAM10000
from wardround.medical_datasets.tables import Row

ROW = Row(Path("t.csv"), 7, {})


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("ISIC_0000001", "isic_0000001"),
        ("ISIC_0000001.jpg", "isic_0000001"),
        ("a/b\\C.PNG", "c"),
        ("1.2.840.10008", "1.2.840.10008"),
        ("x.dcm", "x"),
        ("x.v2.jpeg", "x.v2"),
        ("", ""),
    ],
)
def test_image_id(name: str, key: str) -> None:
    assert image_id(name) == key


def test_files_are_found_wherever_they_lie(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/c/One.JPG", "two.png", "table.csv", "README", "LICENSE.txt", "notes.docx", ".hidden.png")
    touch(tmp_path, "__MACOSX/two.png", "Thumbs.db")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    files = ImageFiles(tmp_path, IMAGE_SUFFIXES)
    assert files.relatives == ["a/b/c/One.JPG", "two.png"]
    assert files.by_id("ONE", ROW) == ["a/b/c/One.JPG"]
    assert files.by_id("three", ROW) == []
    assert {item.path.name: item.reason for item in files.skipped} == {
        "gone.jpg": "not a regular file, or a link to nothing",
        "pipe.jpg": "not a regular file, or a link to nothing",
        "notes.docx": "not an image file",
    }


def test_links_to_other_disks_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "one.jpg")
    root = tmp_path / "data"
    root.mkdir()
    (root / "images").symlink_to(tmp_path / "elsewhere")
    (root / "again").symlink_to(root)
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "elsewhere")
    assert ImageFiles(root, IMAGE_SUFFIXES).relatives == ["images/one.jpg"]


def test_copies_of_one_size_follow_the_first_and_others_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "b/one.jpg", "a/one.png", "c/ONE.jpg", "a/one.dcm")
    files = ImageFiles(tmp_path, IMAGE_SUFFIXES | {".dcm"})
    assert files.by_id("one", ROW) == ["a/one.png", "b/one.jpg", "c/ONE.jpg", "a/one.dcm"]
    (tmp_path / "c/ONE.jpg").write_bytes(b"longer")
    with pytest.raises(TableError, match=r"an id has 3 files that differ.*row 7 \(a/one\.png"):
        files.by_id("one", ROW)
    with pytest.raises(TableError, match="names no image"):
        files.by_id("", ROW)


@pytest.mark.parametrize("name", ["/etc/one.jpg", "../one.jpg", "a/../../one.jpg", "C:\\one.jpg"])
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TableError, match="not a path below the data folder"):
        ImageFiles(tmp_path, IMAGE_SUFFIXES).by_path(name, ROW)


def test_paths_with_either_slash_and_of_any_kind(tmp_path: Path) -> None:
    touch(tmp_path, "a/one.jpg", "a/volume.nii.gz")
    files = ImageFiles(tmp_path, IMAGE_SUFFIXES)
    assert files.by_path("a\\one.jpg", ROW) == ["a/one.jpg"]
    assert files.by_path("./a/volume.nii.gz", ROW) == ["a/volume.nii.gz"]
    assert files.by_path("a/two.jpg", ROW) == []


def test_roots_that_are_no_folder(tmp_path: Path) -> None:
    touch(tmp_path, "file")
    with pytest.raises(DatasetLayoutError, match="is a file"):
        check_root(HAM10000, tmp_path / "file")
    with pytest.raises(DatasetLayoutError, match="does not exist"):
        check_root(HAM10000, tmp_path / "nowhere")
    with pytest.raises(DatasetLayoutError, match="cannot be listed"):
        ImageFiles(tmp_path / "nowhere", IMAGE_SUFFIXES)
