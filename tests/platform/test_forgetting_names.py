"""A patient of DICOM files is named by the identifier in them, though the study knows a digest of it alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from wardround.medical_datasets import index, pixels
from wardround.medical_datasets.cohort import ImageRef
from wardround.medical_datasets.readers.dicom import patient_group
from wardround.platform.config import Study
from wardround.platform.feature_cache import index_folder
from wardround.platform.forgetting import find_group
from wardround.platform.group_names import UnknownGroupError, meant_group
from wardround.platform.image_index import forget_images
from wardround.privacy.forgotten import Forgotten, Pending, Withdrawal, sorted_marks

from ..medical_datasets.pictures import pattern, save
from ..medical_datasets.readers.dicom_files import dataset, write

SEVENTEEN, OF_ISSUER = patient_group("17"), patient_group("17", "ST ELSEWHERE")
SOURCES = ("dicom-folder", "dicom-folder-2", "csv")


def of_source(group: str, name: str) -> str:
    column, _, value = group.partition(":")
    return f"{column}:{name}/{value}"


def meant(
    named: str,
    groups: Collection[str] | Mapping[str, ImageRef],
    forgotten: Forgotten,
    sources: Collection[str] = (),
) -> str:
    images = groups if isinstance(groups, Mapping) else {group: ImageRef(Path("nowhere.dcm")) for group in groups}
    return meant_group(named, images, forgotten, sources, "study.toml")


def withdrawn(home: Path, *groups: str) -> Forgotten:
    """A home that has withdrawn groups whose files are gone."""
    for group in groups:
        known = Forgotten.read(home).with_key()
        mark = known.group_mark(group)
        known.adding(
            Withdrawal(marks=sorted_marks([mark]), counted=()), Pending(entries=0, records=1, files=0, state=False)
        )
        Forgotten.read(home).becoming(None)
    return Forgotten.read(home)


def dicom(folder: Path, name: str, **tags: str) -> ImageRef:
    return ImageRef(write(dataset(np.arange(64, dtype=np.uint16).reshape(8, 8), bits=12, **tags), folder / name))


def test_an_identifier_stands_for_its_digest(tmp_path: Path) -> None:
    none = Forgotten.read(tmp_path)
    groups = {SEVENTEEN, OF_ISSUER, "patient_id:18"}
    assert meant("patient_id:17", groups, none) == SEVENTEEN
    assert meant("patient_id:17^^^ST ELSEWHERE", groups, none) == OF_ISSUER
    joined = of_source(SEVENTEEN, "dicom-folder")
    assert meant("patient_id:17", {joined}, none, SOURCES) == joined
    assert meant(SEVENTEEN, groups, none) == SEVENTEEN


def test_a_name_that_the_data_have_is_never_taken_for_an_identifier(tmp_path: Path) -> None:
    groups = {"patient_id:17", SEVENTEEN}
    assert meant("patient_id:17", groups, Forgotten.read(tmp_path)) == "patient_id:17"


def test_what_nobody_knows_stays_as_it_was_written(tmp_path: Path) -> None:
    for named in ("patient_id:19", "lesion_id:17", "patient_id:", "17", "patient_id:csv/19"):
        assert meant(named, {SEVENTEEN}, Forgotten.read(tmp_path), SOURCES) == named


def test_patients_of_two_sources_are_told_apart_by_the_source(tmp_path: Path) -> None:
    none = Forgotten.read(tmp_path)
    first, second = (of_source(SEVENTEEN, name) for name in SOURCES[:2])
    for groups in ({first, second}, {first, second, "patient_id:csv/17"}, {first, "patient_id:csv/17"}):
        with pytest.raises(UnknownGroupError) as refused:
            meant("patient_id:17", groups, none, SOURCES)
        assert set(refused.value.near) == groups
        assert "patient_id:SOURCE/" in refused.value.remedy
        assert "dicom-folder" in refused.value.remedy
        assert not any(group in str(refused.value) for group in groups)
    groups = {first, second, "patient_id:csv/17"}
    assert meant("patient_id:dicom-folder-2/17", groups, none, SOURCES) == second
    assert meant("patient_id:csv/17", groups, none, SOURCES) == "patient_id:csv/17"
    assert meant("patient:8", {"patient:csv/8"}, none, SOURCES) == "patient:csv/8"


def test_an_issuer_that_the_files_name_need_not_be_written(tmp_path: Path) -> None:
    none = Forgotten.read(tmp_path)
    image = dicom(tmp_path, "a.dcm", PatientID="17", IssuerOfPatientID="ST ELSEWHERE")
    other = dicom(tmp_path, "b.dcm", PatientID="18", IssuerOfPatientID="ST ELSEWHERE")
    third = dicom(tmp_path, "c.dcm", PatientID="17", IssuerOfPatientID="ANOTHER")
    groups = {OF_ISSUER: image, patient_group("18", "ST ELSEWHERE"): other, "lesion_id:1": ImageRef(tmp_path / "no")}
    assert meant("patient_id:17", groups, none) == OF_ISSUER
    assert meant("patient_id:19", groups, none) == "patient_id:19"
    with pytest.raises(UnknownGroupError, match="2 groups at this site may be meant") as refused:
        meant("patient_id:17", {**groups, patient_group("17", "ANOTHER"): third}, none)
    assert "^^^ISSUER" in refused.value.remedy
    joined = {of_source(group, name): image for name in SOURCES[:2] for group in (OF_ISSUER,)}
    with pytest.raises(UnknownGroupError, match="may be meant"):
        meant("patient_id:17", joined, none, SOURCES)
    assert meant("patient_id:dicom-folder/17", joined, none, SOURCES) == of_source(OF_ISSUER, "dicom-folder")


def test_a_patient_whose_files_are_gone_is_still_known_as_withdrawn(tmp_path: Path) -> None:
    known = withdrawn(tmp_path, SEVENTEEN)
    assert meant("patient_id:17", set(), known) == SEVENTEEN
    assert meant("patient_id:18", set(), known) == "patient_id:18"


def test_a_withdrawn_patient_of_a_joined_study_is_looked_for_in_every_source(tmp_path: Path) -> None:
    second = of_source(SEVENTEEN, "dicom-folder-2")
    known = withdrawn(tmp_path, second)
    assert meant("patient_id:17", set(), known, SOURCES) == second
    # Another source's patient 17 is here now, and is somebody else: nobody is withdrawn by mistake.
    with pytest.raises(UnknownGroupError, match="may be meant"):
        meant("patient_id:17", {of_source(SEVENTEEN, "dicom-folder")}, known, SOURCES)


def test_pictures_are_hashed_once_and_nothing_is_kept_of_who_withdrew(
    tmp_path: Path, toy_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ["path,label,patient,site"]
    for at in range(36):
        save(tmp_path / "images" / f"{at}.png", pattern(at, 32))
        rows.append(f"{at}.png,{'ab'[at // 3 % 2]},p{at},{'xyz'[at % 3]}")
    (tmp_path / "images" / "labels.csv").write_text("\n".join(rows))
    study = toy_study(
        method="fedclip",
        data={"dataset": "csv", "path": str(tmp_path / "images"), "classes": ["a", "b"]},
        sites={"partition": "column", "unseen": ""},
        reference={"source": "none"},
    )
    home, cache = tmp_path / "homes" / "x", tmp_path / "cache"
    home.mkdir(parents=True)
    held: Any = SimpleNamespace(
        folder=home, run=None, home=SimpleNamespace(site="x"), charged=(), studies={}, signed=[], ledger=nullcontext
    )
    hashed: list[ImageRef] = []
    read = pixels.content_hash
    monkeypatch.setattr(index, "RACY_NS", 0)  # else nothing is kept of files that were written just now
    monkeypatch.setattr(pixels, "content_hash", lambda image: hashed.append(image) or read(image))
    counts = []
    for _ in range(2):
        assert find_group(held, study, "patient:p3", cache).records == 1
        counts.append(len(hashed))
    assert counts == [12, 12]
    content = read(tmp_path / "images" / "3.png")
    assert content in index.indexed_contents(index_folder(cache))
    # As `forget` does it; looked for again, the picture is read and not remembered.
    known = Forgotten.read(home).with_key()
    marks = [known.group_mark("patient:p3"), known.image_mark(content)]
    pending = Pending(entries=0, records=1, files=0, state=False)
    known.adding(Withdrawal(marks=sorted_marks(marks), counted=()), pending)
    forget_images(cache, Forgotten.read(home))
    assert find_group(held, study, "patient:p3", cache).known
    assert len(hashed) == 13
    assert len(index.indexed_contents(index_folder(cache)) - {content}) == 11
    assert content not in index.indexed_contents(index_folder(cache))
