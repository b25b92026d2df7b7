from __future__ import annotations

import base64
import io
import os
import re
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from wardround.medical_datasets.catalog import DATASETS, list_images
from wardround.medical_datasets.listing import Wanted
from wardround.medical_datasets.quality.check import check_listing
from wardround.platform.data_check import Checked
from wardround.platform.data_check_page import (
    LOCAL_ONLY,
    MADE_BY,
    SHOWN,
    TITLES,
    check_page,
    check_target,
    write_page,
)
from wardround.platform.errors import PlatformError

from .foreign_pictures import foreign

ROOT = Path(__file__).resolve().parents[2]
NASTY = 'a"><script>alert(1)</script>&amp;<b>_x.png'


def tree(root: Path, *, leaks: int = 3) -> Path:
    """A small MRI set with a fault of many kinds."""
    for seed in range(32):
        split, name = ("Training", "Testing")[seed % 4 == 0], DATASETS["brain-mri"].class_names[seed % 3]
        path = root / split / name / f"{seed:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(foreign("popcorn", seed)).save(path)
    for seed in range(leaks):
        Image.fromarray(foreign("popcorn", 100 + seed)).save(root / "Training" / "glioma" / f"leak{seed}.png")
        Image.fromarray(foreign("popcorn", 100 + seed)).save(
            root / "Testing" / "glioma" / f"leak{seed}.jpg", quality=60
        )
    (root / "Training" / "glioma" / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    Image.fromarray(np.dstack([foreign("popcorn", 9)[:, :, 0], *np.zeros((2, 128, 128), np.uint8)])).save(
        root / "Training" / "glioma" / NASTY.replace("/", "∕")
    )
    (root / "Training" / "ependymoma").mkdir()
    Image.fromarray(foreign("popcorn", 55)).save(root / "Training" / "ependymoma" / "e.png")
    return root


def checked(root: Path, name: str = "") -> Checked:
    listing = list_images(DATASETS["brain-mri"], Wanted(root))
    return Checked(listing, check_listing(listing, name=name))


def test_the_page_shows_findings_with_pictures_and_names(tmp_path: Path) -> None:
    source = checked(tree(tmp_path))
    page = check_page([source], "images")
    assert page == check_page([source], "images")
    assert LOCAL_ONLY in page.replace("&#39;", "'")
    assert MADE_BY.decode() in page
    for problem in source.report.problems:
        assert TITLES[problem.code] in page
        assert problem.code in page
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)" width="(\d+)" height="(\d+)"', page)
    assert len(pictures) >= 2 * 3 + 2
    for data, width, height in pictures:
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.size == (int(width), int(height))
            assert max(picture.size) <= 96
    assert "no picture" in page  # of the broken file
    assert "<script" not in page
    assert "alert(1)&lt;" in page
    assert "http" not in re.sub(r"http-equiv", "", page)


def test_what_is_beyond_the_pictures_is_listed_by_name(tmp_path: Path) -> None:
    root = tree(tmp_path, leaks=0)
    for seed in range(SHOWN + 5):
        (root / "Testing" / "glioma" / f"cut{seed:03d}.jpg").write_bytes(b"")
    page = check_page([checked(root)], "images")
    assert page.count("the file is empty (0 bytes)") == SHOWN + 5
    assert "6 more by name" in page  # the broken one as well


def test_several_sources_stand_one_after_another(tmp_path: Path) -> None:
    page = check_page([checked(tree(tmp_path / "a"), "first"), checked(tree(tmp_path / "b"), "second")], "study.toml")
    assert page.index(">first<") < page.index(">second<")
    anchors = re.findall(r' id="([^"]+)"', page)
    assert len(anchors) == len(set(anchors))
    assert all(target in anchors for target in re.findall(r'href="#([^"]+)"', page))


def test_every_code_has_a_title() -> None:
    files = [*(ROOT / "medical_datasets" / "quality").glob("*.py"), ROOT / "platform" / "data_check.py"]
    source = "".join(path.read_text() for path in files)
    codes = set(re.findall(r'"(?:error|warning|info)", "([a-z-]+)"', source))
    codes |= set(re.findall(r'"([a-z]+-confounded)"', source)) | {"colour-images", "grey-images"}
    codes |= {"unknown-class", "table", "layout", "no-class-folder"}
    codes -= {"warning"}  # the list of severities
    assert codes == set(TITLES)


def test_the_file_is_the_owners_and_replaces_only_its_like(tmp_path: Path) -> None:
    source = checked(tree(tmp_path / "images"))
    target = tmp_path / "check.html"
    old = os.umask(0)
    try:
        write_page(target, [source], "images")
    finally:
        os.umask(old)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    first = target.read_bytes()
    write_page(target, [source], "images")
    assert target.read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["check.html", "images"]


def test_foreign_files_are_not_written_over(tmp_path: Path) -> None:
    letter = tmp_path / "letter.html"
    letter.write_text("<title>Dear Jane</title>", encoding="utf-8")
    dangling = tmp_path / "link.html"
    dangling.symlink_to(tmp_path / "gone")
    for path, words in (
        (letter, "no page of an earlier check"),
        (dangling, "no page of an earlier check"),
        (tmp_path, "a folder"),
        (tmp_path / "no" / "a.html", "no such folder"),
        (Path(os.devnull), "a device"),
    ):
        with pytest.raises(PlatformError, match=words):
            check_target(path)
    assert letter.read_text(encoding="utf-8") == "<title>Dear Jane</title>"
