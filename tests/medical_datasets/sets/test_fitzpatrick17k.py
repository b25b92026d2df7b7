from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from wardround.medical_datasets.cohort import Dataset
from wardround.medical_datasets.loading import cohort_of
from wardround.medical_datasets.sets.fitzpatrick17k import FITZPATRICK17K, FITZPATRICK17K_NINE

from ..pictures import pattern, save
from .skin_trees import listed, reasons, table

COLUMNS = (
    "md5hash",
    "fitzpatrick_scale",
    "fitzpatrick_centaur",
    "label",
    "nine_partition_label",
    "three_partition_label",
    "qc",
    "url",
    "url_alphanum",
)
ROWS = (
    ("3", "drug induced pigmentary changes", "inflammatory", "non-neoplastic", ""),
    ("-1", "melanoma", "malignant melanoma", "malignant", "1 Diagnostic"),
    ("6", "dermatofibroma", "benign dermal", "benign", "2 Characteristic"),
    ("1", "psoriasis", "inflammatory", "non-neoplastic", "3 Wrongly labelled"),
    ("2", "mycosis fungoides", "malignant cutaneous lymphoma", "malignant", "5 Potentially"),
)
HASHES = [hashlib.md5(bytes([index]), usedforsecurity=False).hexdigest() for index in range(5)]


def tree(root: Path) -> Path:
    rows = [
        (name, scale, scale, label, nine, three, qc, f"http://atlas.invalid/{name}?a=1,b=2", f"{name}.jpg")
        for name, (scale, label, nine, three, qc) in zip(HASHES, ROWS, strict=True)
    ]
    table(root / "fitzpatrick17k.csv", COLUMNS, rows)
    for seed, name in enumerate(HASHES):
        save(root / "data" / "finalfitz17k" / f"{name}.jpg", pattern(seed, 32, colour=True))
    return root


@pytest.mark.parametrize("dataset", [FITZPATRICK17K, FITZPATRICK17K_NINE], ids=lambda dataset: dataset.key)
def test_both_partitions(tmp_path: Path, dataset: Dataset) -> None:
    listing = listed(dataset, tree(tmp_path))
    assert not listing.problems
    items = {Path(item.relative).stem: item for item in listing.items}
    column = 3 if dataset is FITZPATRICK17K else 2
    kept = [index for index in range(5) if index != 3]
    assert {name: dataset.class_names[item.label] for name, item in items.items()} == {
        HASHES[index]: ROWS[index][column] for index in kept
    }
    assert {name: item.subgroups.get("skin_type") for name, item in items.items()} == dict(
        zip([HASHES[index] for index in kept], ["III", None, "VI", "II"], strict=True)
    )
    assert {item.group for item in items.values()} == {None}
    assert reasons(listing) == {f"{HASHES[3]}.jpg": "wrongly labelled by its column qc"}


def test_pictures_that_repeat_become_one_group(tmp_path: Path) -> None:
    root = tree(tmp_path)
    folder = root / "data" / "finalfitz17k"
    (folder / f"{HASHES[4]}.jpg").write_bytes((folder / f"{HASHES[1]}.jpg").read_bytes())
    records = cohort_of(listed(FITZPATRICK17K, root)).records
    groups = {record.path.stem: record.group for record in records}
    assert groups[HASHES[4]] == groups[HASHES[1]]
    assert len(set(groups.values())) == 3


def test_one_hash_twice_is_a_problem(tmp_path: Path) -> None:
    root = tree(tmp_path)
    path = root / "fitzpatrick17k.csv"
    lines = path.read_bytes().split(b"\r\n")
    path.write_bytes(b"\r\n".join([*lines[:2], lines[1], *lines[2:]]))
    (problem,) = listed(FITZPATRICK17K, root).problems
    assert "two rows name one image" in str(problem)
    assert "row 3, and row 2" in str(problem)
