"""``wardround data split`` through its real entry point."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wardround.medical_datasets.split_file import read_split


def test_a_split_is_exported_for_people_and_scripts(cli: Any, images: Callable[..., Path], study_file: Any) -> None:
    images(40)
    path = study_file()
    ended = cli("data", "split", path, "--out", path.with_name("split.json"))
    assert ended.code == 0
    assert "site-1" in ended.out
    record = read_split(path.with_name("split.json"))
    assert record.sha256 in ended.out
    cli("data", "split", path, "--out", path.with_name("split.json")).assert_explains("another --out")
    cli("data", "split", path, "--out", path.with_name("nowhere") / "a.json").assert_explains("no such folder")
    other = json.loads(cli("data", "split", path, "--out", path.with_name("b.json"), "--json").out)
    assert other["sha256"] == read_split(path.with_name("b.json")).sha256 != record.sha256  # the salt is drawn
    assert sum(each["train"]["images"] for name, each in other["parts"].items() if name.startswith("site-")) > 60


def test_what_is_left_out_of_a_split_is_counted_and_named(
    cli: Any, images: Callable[..., Path], study_file: Any
) -> None:
    root = images(40)
    for at in range(3):
        (root / "glioma" / f"broken-{at}.png").write_bytes(b"no picture")
    path = study_file()
    ended = cli("data", "split", path, "--out", path.with_name("split.json"), "--json")
    assert json.loads(ended.out)["left_out"] == 3
    assert "3 files or rows were left out, 160 images are divided" in ended.err
    assert all(f"glioma/broken-{at}.png" in ended.err for at in range(3))
    (root / "glioma" / "000.png").rename(root / "glioma" / "kept.png")
    for at in range(3):
        (root / "glioma" / f"broken-{at}.png").unlink()
    assert "left out" not in cli("data", "split", path, "--out", path.with_name("other.json")).err
