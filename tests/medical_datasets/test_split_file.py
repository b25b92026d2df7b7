from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.medical_datasets import split_file
from wardround.medical_datasets.errors import SplitError
from wardround.medical_datasets.split_file import SitePart, SplitRecord, mark_of, parse, read_split, write_split
from wardround.medical_datasets.stable_splits import extend_split, stable_split

SALT = bytes(range(16))
GROUPS = [f"patient_id:{name}" for name in ("ann", "bob", "cem", "dan", "eve", "fay", "gus", "hal", "ida", "jon")]


def record(**changes: Any) -> SplitRecord:
    return SplitRecord.of(
        **{
            "dataset": "brain-mri",
            "classes": ("glioma", "notumor"),
            "rule": "stable",
            "ratios": (0.6, 0.2, 0.2),
            "seed": 7,
            "sites": {"north": (GROUPS[:2], GROUPS[2:3], GROUPS[3:4]), "south": (GROUPS[4:5], [], GROUPS[5:7])},
            "unseen": ("west", GROUPS[7:9]),
            "reference": GROUPS[9:],
            "salt": SALT,
            **changes,
        }
    )


@st.composite
def records(draw: st.DrawFn) -> tuple[SplitRecord, list[str]]:
    names = draw(st.lists(st.text("GJKQWXYZäß\ud800", min_size=5, max_size=12), max_size=24, unique=True))
    where = [draw(st.integers(0, 10)) for _ in names]

    def at(place: int) -> list[str]:
        return [name for name, each in zip(names, where, strict=True) if each == place]

    sites = {f"site-{k}": (at(3 * k), at(3 * k + 1), at(3 * k + 2)) for k in range(3)}
    made = SplitRecord.of(
        dataset=draw(st.sampled_from(["isic", "csv"])),
        classes=draw(st.lists(st.text("abcä é", min_size=1, max_size=4), min_size=2, max_size=4, unique=True)),
        rule=draw(st.sampled_from(["stable", "balanced"])),
        ratios=draw(st.sampled_from([(0.8, 0.1, 0.1), (1 / 3, 1 / 3, 1 / 3), (1, 0, 0), (0.7, 0.0, 0.3)])),
        seed=draw(st.integers(-(2**53) + 1, 2**53 - 1)),
        sites=sites,
        unseen=draw(st.sampled_from([None, ("far", at(9))])),
        reference=at(10),
        salt=draw(st.binary(min_size=16, max_size=16)),
    )
    return made, names


@settings(max_examples=80, deadline=None)
@given(records())
def test_round_trip_without_any_name(drawn: tuple[SplitRecord, list[str]]) -> None:
    made, names = drawn
    data = made.to_bytes()
    assert data == rfc8785.dumps(json.loads(data))
    again = parse(data, "file")
    assert again == made
    assert again.to_bytes() == data
    assert again.sha256 == made.sha256
    text = data.decode()
    for name in names:
        assert name not in text
        assert made.places_of(name) == again.places_of(name)


@settings(max_examples=150, deadline=None)
@given(records(), st.data())
def test_a_changed_byte_is_refused(drawn: tuple[SplitRecord, list[str]], data: st.DataObject) -> None:
    good = drawn[0].to_bytes()
    bad = bytearray(good)
    at = data.draw(st.integers(0, len(good) - 1))
    bad[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SplitError):
        parse(bytes(bad), "file")


def test_every_bit_of_a_small_file() -> None:
    good = record()
    data = good.to_bytes()
    for at in range(len(data)):
        bad = bytearray(data)
        bad[at] ^= 1 << at % 8
        with pytest.raises(SplitError):
            parse(bytes(bad), "f")
    for end in range(0, len(data), 7):
        with pytest.raises(SplitError):
            parse(data[:end], "f")


def test_the_form_stays_the_same() -> None:
    """Files of this version must be read for ever, and ledgers name them by their hash."""
    assert mark_of(SALT, "patient_id:ann") == "39584ce94d081b00117c766d2e31b344"
    made = record(unseen=None, reference=())
    told = json.loads(made.to_bytes())
    assert told.pop("checksum") == hashlib.sha256(rfc8785.dumps(told)).hexdigest()
    assert told == {
        "format": "wardround-split-1",
        "dataset": "brain-mri",
        "classes": ["glioma", "notumor"],
        "rule": "stable",
        "ratios": [0.6, 0.2, 0.2],
        "seed": 7,
        "salt": SALT.hex(),
        "sites": {
            "north": {
                "train": sorted(mark_of(SALT, name) for name in GROUPS[:2]),
                "validation": [mark_of(SALT, GROUPS[2])],
                "test": [mark_of(SALT, GROUPS[3])],
            },
            "south": {
                "train": [mark_of(SALT, GROUPS[4])],
                "validation": [],
                "test": sorted(mark_of(SALT, name) for name in GROUPS[5:7]),
            },
        },
        "unseen": None,
        "reference": [],
    }


def test_groups_are_found_at_their_places() -> None:
    made = record()
    assert made.places_of(GROUPS[0]) == (("north", "train"),)
    assert made.places_of(GROUPS[2]) == (("north", "validation"),)
    assert made.places_of(GROUPS[5]) == (("south", "test"),)
    assert made.places_of(GROUPS[7]) == (("west", "test"),)
    assert made.places_of(GROUPS[9]) == (("", "reference"),)
    assert made.places_of("patient_id:zoe") == ()


def test_a_group_at_two_sites_is_kept_at_both() -> None:
    made = record(sites={"north": (GROUPS[:1], [], []), "south": ([], [], GROUPS[:1])})
    assert made.places_of(GROUPS[0]) == (("north", "train"), ("south", "test"))
    assert made.of_site("south").places_of(GROUPS[0]) == (("south", "test"),)
    assert parse(made.to_bytes(), "f") == made


def test_a_site_keeps_its_own_part_only() -> None:
    made = record()
    north, west = made.of_site("north"), made.of_site("west")
    assert north.places_of(GROUPS[0]) == (("north", "train"),)
    assert [north.places_of(name) for name in GROUPS[4:]] == [()] * 6
    assert north.salt == made.salt
    assert len({north.sha256, west.sha256, made.sha256}) == 3
    assert west.places_of(GROUPS[8]) == (("west", "test"),)
    assert (west.sites, west.reference) == ({}, ())
    assert parse(north.to_bytes(), "f") == north
    assert parse(west.to_bytes(), "f") == west
    with pytest.raises(SplitError, match=r"no training site 'east'.*north, south"):
        made.of_site("east")


def test_salts_are_drawn_and_hide_equal_groups() -> None:
    first, second = record(salt=None), record(salt=None)
    assert first.salt != second.salt
    assert not set(first.reference) & set(second.reference)


def test_a_split_is_used_again_and_extended() -> None:
    generator = np.random.default_rng(0)
    labels, groups = generator.integers(0, 3, 60), [f"lesion_id:{k}" for k in generator.integers(0, 40, 60)]
    split = stable_split(labels, groups, seed=1)
    named = tuple([groups[row] for row in rows] for rows in (split.train, split.validation, split.test))
    made = record(sites={"north": named}, unseen=None, reference=())
    more = [*groups, "lesion_id:new"]
    known = made.known_sides("north", more)
    assert set(known) == set(groups)
    same = extend_split(labels, groups, known, seed=1)
    assert all((a == b).all() for a, b in zip(_sides(split), _sides(same), strict=True))
    grown = extend_split(np.append(labels, 0), more, known, seed=1)
    for before, after in zip(_sides(split), _sides(grown), strict=True):
        assert set(before.tolist()) <= set(after.tolist())


def test_a_group_of_several_names_is_found_by_any_of_them() -> None:
    aliases = {"similar:a": ("similar:a", "similar:b")}
    made = record(sites={"north": (["similar:a"], ["patient_id:1"], [])}, aliases=aliases)
    # The image that gave the name is gone; then another one joined, whose name comes first.
    assert made.known_sides("north", ["similar:b"]) == {"similar:b": 0}
    assert made.known_sides("north", ["similar:0"], {"similar:0": ("similar:0", "similar:a")}) == {"similar:0": 0}
    assert made.known_sides("north", ["similar:0"], {"similar:0": ("similar:0", "similar:c")}) == {}
    torn = {"patient_id:1": ("patient_id:1", "similar:b")}
    with pytest.raises(SplitError, match="1 groups at 'north' join images that are on different sides"):
        made.known_sides("north", ["patient_id:1"], torn)


def _sides(split: Any) -> tuple[Any, Any, Any]:
    return split.train, split.validation, split.test


def changed(**values: Any) -> bytes:
    return rfc8785.dumps({**json.loads(record().to_bytes()), **values})


MARK, OTHER = "0" * 32, "1" * 32


def part(train: list[str], test: list[str]) -> dict[str, dict[str, list[str]]]:
    return {"north": {"train": train, "validation": [], "test": test}}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no split file"),
        (b"PK\x03\x04", "no split file"),
        (b"\xff\xfe{}", "no split file"),
        (b"[" * 100_000, "no split file"),
        (b"{}", "missing required field `format`"),
        (changed(format="wardround-split-2"), "'wardround-split-2', not 'wardround-split-1'.*version of Wardround"),
        (changed(note="x"), "unknown field `note`"),
        (changed(sites={"north": {"train": [], "validation": [], "test": [], "more": []}}), "unknown field `more`"),
        (changed(sites={"north": {"train": []}}), "missing required field"),
        (changed(sites=part([MARK], [MARK])), "two sides.*north"),
        (changed(sites=part([MARK, MARK], [])), "not rising.*north"),
        (changed(sites=part([OTHER, MARK], [])), "not rising"),
        (changed(sites=part([MARK[1:]], [])), "not 32 digits"),
        (changed(sites=part([MARK[1:] + "A"], [])), "not 32 digits"),
        (changed(sites=part([MARK + "\n"], [])), "not 32 digits"),
        (changed(sites={"": {"train": [], "validation": [], "test": []}}), "site's name"),
        (changed(reference=[OTHER, MARK]), "not rising.*reference"),
        (changed(unseen={"a": [], "b": []}), "2 unseen sites"),
        (changed(unseen={}), "0 unseen sites"),
        (changed(unseen={"north": []}), "cannot be unseen"),
        (changed(rule="random"), "Invalid enum value"),
        (changed(ratios=[0.5, 0.4, 0.4]), "sum 1"),
        (changed(ratios=[1.0, 0.0]), "no split file"),
        (changed(seed=1.5), "no split file"),
        (changed(salt="00"), "salt"),
        (changed(classes=["a", "a"]), "twice"),
        (changed(dataset=""), "data set's key"),
        (record().to_bytes() + b"\n", "was changed after it was written"),
        (record().to_bytes().replace(b'"seed":7', b'"seed":7,"seed":7'), "was changed after it was written"),
        (record().to_bytes().replace(b'"seed":7', b'"seed": 7'), "was changed after it was written"),
    ],
)
def test_files_that_are_no_split_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(SplitError, match=words) as refused:
        parse(data, "split.json")
    assert "split.json" in str(refused.value)
    assert refused.value.remedy


def test_a_split_of_other_data_is_refused() -> None:
    data = record().to_bytes()
    assert parse(data, "f", dataset="brain-mri", classes=["glioma", "notumor"]) == record()
    with pytest.raises(SplitError, match="of the data set 'brain-mri', the study uses 'isic'"):
        parse(data, "f", dataset="isic")
    with pytest.raises(SplitError, match="glioma, notumor; the study has notumor, glioma"):
        parse(data, "f", classes=["notumor", "glioma"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: record(sites={"north": (GROUPS[:1], GROUPS[:1], [])}), "two sides"),
        (lambda: record(reference=[""]), "group name is empty"),
        (lambda: record(seed=2**53), "2\\^53"),
        (lambda: record(salt=b"short"), "salt"),
        (lambda: record(ratios=(0.5, 0.5, float("nan"))), "three numbers"),
        (lambda: record(rule="other"), "no rule 'other'"),
        (lambda: record(classes=("a", "b\n")), "no name"),
        (lambda: record(sites={"nor\nth": ([], [], [])}), "site's name"),
        (
            lambda: SplitRecord("d", ("a", "b"), "stable", (1, 0, 0), 0, SALT.hex(), {"n": SitePart(("x",))}),
            "32 digits",
        ),
    ],
)
def test_records_that_cannot_be_written_are_refused(make: Callable[[], SplitRecord], words: str) -> None:
    with pytest.raises(SplitError, match=words):
        make()


def test_files_are_written_whole_and_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "split.json"
    assert write_split(record(), path) == record().sha256
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_split(path, dataset="brain-mri") == record()
    assert os.listdir(tmp_path) == ["split.json"]

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(split_file.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_split(record(seed=8), path)
    monkeypatch.undo()
    assert read_split(path) == record()
    assert os.listdir(tmp_path) == ["split.json"]
    with pytest.raises(SplitError, match=r"cannot be read .*none\.json"):
        read_split(tmp_path / "none.json")
    with pytest.raises(SplitError, match="cannot be read"):
        read_split(tmp_path)
