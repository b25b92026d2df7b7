"""A patient of DICOM files is named by the identifier in them, though the study knows a digest of it alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wardround.medical_datasets import index, pixels
from wardround.medical_datasets.catalog import DATASETS
from wardround.medical_datasets.cohort import Cohort, ImageRef, Record
from wardround.medical_datasets.readers.dicom import patient_group
from wardround.platform.cohorts import deal
from wardround.platform.config import Study
from wardround.platform.feature_cache import index_folder
from wardround.platform.forgetting import find_group
from wardround.platform.group_names import GroupNames, UnknownGroupError, is_withdrawn, meant_groups, names_of
from wardround.platform.image_index import forget_images
from wardround.platform.study_cohort import read_cohort
from wardround.platform.withdrawn import RecordMarks, check_left_out, withdrawn_records
from wardround.privacy.errors import HomeError
from wardround.privacy.forgotten import Forgotten, Pending, Withdrawal, sorted_marks

from ..medical_datasets.pictures import pattern, save
from ..medical_datasets.readers.dicom_files import dataset, write

SEVENTEEN, OF_ISSUER = patient_group("17"), patient_group("17", "ST ELSEWHERE")
COLUMNS = ("patient", "patient_id", "lesion_id")
SOURCES = ("dicom-folder", "dicom-folder-2", "csv")


def of_source(group: str, name: str) -> str:
    column, _, value = group.partition(":")
    return f"{column}:{name}/{value}"


def cohort_of(
    *groups: str, aliases: Mapping[str, tuple[str, ...]] | None = None, source: str = "", site: str = "x"
) -> Cohort:
    """A cohort with one record a group; each is of the source, or site, that its identifier begins with."""
    records = []
    for at, group in enumerate(groups):
        space = group.partition(":")[2].partition("/")[0]
        subgroups = {"source": space} if space in SOURCES else {}
        records.append(Record(Path(f"{at}.png"), 0, group, "x", subgroups))
    return Cohort(DATASETS["csv"], Path(), tuple(records), aliases=aliases or {})


def meant(
    named: str,
    groups: Collection[str] | Mapping[str, ImageRef],
    cohort: Cohort | None = None,
) -> set[str]:
    images = groups if isinstance(groups, Mapping) else {group: ImageRef(Path("nowhere.dcm")) for group in groups}
    names = GroupNames(cohort or cohort_of(*images))
    found = meant_groups(named, {group: [image] for group, image in images.items()}, names, SOURCES, "study.toml")
    assert list(found) == sorted(set(found))
    return set(found)


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


def left_out(home: Path, cohort: Cohort) -> bool:
    known = Forgotten.read(home)
    return bool(known.holding(*RecordMarks(known, cohort).of(0)))


def dicom(folder: Path, name: str, **tags: str) -> ImageRef:
    return ImageRef(write(dataset(np.arange(64, dtype=np.uint16).reshape(8, 8), bits=12, **tags), folder / name))


def test_an_identifier_stands_for_its_digest() -> None:
    groups = {SEVENTEEN, OF_ISSUER, "patient_id:18"}
    assert meant("patient_id:17", groups) == meant("patient:17", groups) == {SEVENTEEN}
    assert meant("patient_id:17^^^ST ELSEWHERE", groups) == {OF_ISSUER}
    assert meant(SEVENTEEN, groups) == {SEVENTEEN}
    joined = of_source(SEVENTEEN, "dicom-folder")
    assert meant("patient_id:17", {joined}) == {joined}


def test_one_identifier_at_a_site_is_one_patient_in_all_sources() -> None:
    first, second = (of_source(SEVENTEEN, name) for name in SOURCES[:2])
    groups = {first, second, "patient_id:csv/17", "patient_id:csv/18", "lesion_id:csv/17"}
    expected = {first, second, "patient_id:csv/17"}
    for named in ("patient_id:17", "patient:17", SEVENTEEN, first, "patient_id:dicom-folder/17", "patient_id:csv/17"):
        assert meant(named, groups) == expected, named
    assert meant("patient:8", {"patient:csv/8"}) == {"patient:csv/8"}
    assert meant("lesion_id:17", groups) == {"lesion_id:csv/17"}


def test_what_nobody_knows_is_nothing() -> None:
    for named in ("patient_id:19", "lesion_id:17", "patient_id:", "17", "patient_id:csv/19", ""):
        assert meant(named, {SEVENTEEN}) == set()


def test_an_issuer_that_the_files_name_is_asked_for_only_where_several_do(tmp_path: Path) -> None:
    image = dicom(tmp_path, "a.dcm", PatientID="17", IssuerOfPatientID="ST ELSEWHERE")
    other = dicom(tmp_path, "b.dcm", PatientID="18", IssuerOfPatientID="ST ELSEWHERE")
    third = dicom(tmp_path, "c.dcm", PatientID="17", IssuerOfPatientID="ANOTHER")
    plain = dicom(tmp_path, "d.dcm", PatientID="17")
    groups = {OF_ISSUER: image, patient_group("18", "ST ELSEWHERE"): other, "lesion_id:1": ImageRef(tmp_path / "no")}
    assert meant("patient_id:17", groups) == {OF_ISSUER}
    assert meant("patient_id:19", groups) == set()
    # An export that lost the issuer is of the same patient, and so are other sources.
    assert meant("patient_id:17", {**groups, SEVENTEEN: plain}) == {OF_ISSUER, SEVENTEEN}
    joined = {of_source(OF_ISSUER, name): image for name in SOURCES[:2]}
    assert meant("patient_id:17", joined) == meant("patient_id:dicom-folder/17", joined) == set(joined)
    another = patient_group("17", "ANOTHER")
    for more in ({}, {SEVENTEEN: plain}):
        with pytest.raises(UnknownGroupError, match="2 issuers have given this identifier") as refused:
            meant("patient_id:17", {**groups, another: third, **more})
        assert "^^^ISSUER" in refused.value.remedy
        assert set(refused.value.near) == {OF_ISSUER, another}
        assert not any(group in str(refused.value) for group in groups)
        assert meant("patient_id:17^^^ANOTHER", {**groups, another: third, **more}) == {another}


def test_a_patient_in_the_group_of_another_is_found_by_either_name(tmp_path: Path) -> None:
    cohort = cohort_of("patient_id:0", "patient_id:2", aliases={"patient_id:0": ("patient_id:0", "patient_id:1")})
    for named in ("patient_id:0", "patient:1", "patient_id:1"):
        assert meant(named, {"patient_id:0", "patient_id:2"}, cohort) == {"patient_id:0"}
    names = GroupNames(cohort)
    assert names.several("patient_id:0")
    assert not names.several("patient_id:2")
    # By the identifier in any file of the group, with an issuer.
    image, other = (dicom(tmp_path, f"{p}.dcm", PatientID=p, IssuerOfPatientID="A") for p in "56")
    five, six = (patient_group(p, "A") for p in "56")
    cohort = cohort_of(five, aliases={five: (five, six)})
    assert meant_groups("patient_id:6", {five: [image, other]}, GroupNames(cohort), (), "") == (five,)


def test_a_group_has_the_names_that_other_studies_give_it() -> None:
    digest = SEVENTEEN.partition(":")[2]
    plain = {f"{column}:{value}" for column in ("patient", "patient_id") for value in ("17", digest)}
    assert set(names_of(cohort_of("patient_id:17"), "patient_id:17")) == plain
    assert set(names_of(cohort_of("patient:17"), "patient:17")) == plain
    assert set(names_of(cohort_of(SEVENTEEN), SEVENTEEN)) == {f"patient:{digest}", SEVENTEEN}
    for cohort in (cohort_of("patient:csv/17"), cohort_of("patient:x/17")):  # a source, and a site
        assert plain < set(names_of(cohort, cohort.records[0].group))
    # A slash alone is no source.
    assert "patient:17" not in names_of(cohort_of("patient:2020/17"), "patient:2020/17")
    assert names_of(cohort_of("lesion_id:csv/3"), "lesion_id:csv/3") == ("lesion_id:3", "lesion_id:csv/3")
    for group in ("similar:ab", "amber-p000", "patient_id:", ""):
        assert names_of(cohort_of(group), group) == (group,)
    # The source of an alias has no image of its own.
    aliases = {"patient_id:csv/1": ("lesion_id:gone/7", "patient_id:csv/1")}
    assert "lesion_id:7" in names_of(cohort_of("patient_id:csv/1", aliases=aliases), "patient_id:csv/1")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("patient", "patient_id", "lesion_id")), st.sampled_from(("", *SOURCES)), st.integers(1, 4)
        ),
        min_size=1,
        max_size=8,
        unique=True,
    ),
    st.data(),
)
def test_groups_that_go_have_no_name_in_common_with_those_that_stay(
    drawn: list[tuple[str, str, int]], data: st.DataObject
) -> None:
    groups = [f"{column}:{source}/{number}" if source else f"{column}:{number}" for column, source, number in drawn]
    one, other = data.draw(st.sampled_from(groups)), data.draw(st.sampled_from(groups))
    names = GroupNames(cohort_of(*groups, aliases={one: tuple(sorted({one, other}))}))
    gone = set(names.together([data.draw(st.sampled_from(groups))], groups))
    of_gone = set().union(*map(names.of, gone))
    assert all(of_gone.isdisjoint(names.of(group)) for group in set(groups) - gone)
    # And no more than chains of common names reach, said slowly.
    reached = {min(gone)}
    for _ in groups:
        reached |= {g for g in groups if any(not names.of(g).isdisjoint(names.of(r)) for r in reached)}
    assert reached == gone


LATER = (
    "patient_id:17",
    "patient:17",
    SEVENTEEN,
    *(of_source(group, name) for group in ("patient_id:17", "patient:17", SEVENTEEN) for name in SOURCES),
    "patient_id:x/17",
)


@pytest.mark.parametrize("first", LATER)
def test_who_withdrew_stays_out_however_the_data_are_read_later(tmp_path: Path, first: str) -> None:
    home = tmp_path / "homes" / "x"
    home.mkdir(parents=True)
    withdrawn(home, *names_of(cohort_of(first), first))
    for later in LATER:
        cohort = cohort_of(later)
        assert left_out(home, cohort), later
        assert not left_out(home, cohort_of("patient_id:18"))
        with pytest.raises(HomeError):
            check_left_out(home, cohort, np.array([0]))
    assert is_withdrawn(GroupNames(cohort_of("a:1")).said(first, SOURCES), Forgotten.read(home))


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
    marks = [*map(known.group_mark, GroupNames(cohort_of("a")).of("patient:p3")), known.image_mark(content)]
    pending = Pending(entries=0, records=1, files=0, state=False)
    known.adding(Withdrawal(marks=sorted_marks(marks), counted=()), pending)
    forget_images(cache, Forgotten.read(home))
    assert find_group(held, study, "patient:p3", cache).known
    assert len(hashed) == 13
    assert len(index.indexed_contents(index_folder(cache)) - {content}) == 11
    assert content not in index.indexed_contents(index_folder(cache))


def of_home(home: Path) -> Any:
    """A home that stands still."""
    home.mkdir(parents=True, exist_ok=True)
    return SimpleNamespace(
        folder=home,
        run=None,
        home=SimpleNamespace(site=home.name),
        charged=(),
        studies={},
        signed=[],
        ledger=nullcontext,
    )


@pytest.mark.parametrize("sited", [True, False], ids=["one group", "a group a source"])
def test_a_patient_of_two_exports_of_one_hospital_goes_from_both_and_stays_out_when_they_are_read_otherwise(
    tmp_path: Path, toy_study: Callable[..., Study], sited: bool
) -> None:
    """A withdrawal while sources are joined, then a study of one folder, whose pictures are all new."""
    sites = ("x", "y", "z")
    for export in ("ct", "mr", "whole"):
        rows: dict[str, list[str]] = {site: ["path,label,patient,site"] for site in sites}
        for at in range(36):
            site = sites[at % 3]
            folder = tmp_path / export / ("" if export == "whole" else site)
            save(folder / f"{at}.png", pattern(at + 100 * len(export) + (export == "mr") * 50, 32))
            rows[site].append(f"{at}.png,{'ab'[at // 3 % 2]},p{at},{site}")
        if export == "whole":
            lines = [rows["x"][0], *(line for site in sites for line in rows[site][1:])]
            (tmp_path / export / "labels.csv").write_text("\n".join(lines).replace("patient", "patient_id"))
        else:
            for site in sites:
                (tmp_path / export / site / "labels.csv").write_text("\n".join(rows[site]))
    sources = [
        {"dataset": "csv", "path": f"{e}/{s}"} | ({"site": s} if sited else {}) for e in ("ct", "mr") for s in sites
    ]
    common: dict[str, Any] = {
        "method": "fedclip",
        "sites": {"partition": "column", "unseen": ""},
        "reference": {"source": "none"},
    }
    for each in sources:
        each["path"] = str(tmp_path / each["path"])
    joined = toy_study(
        data={"dataset": "csv", "path": "", "source": "joined", "classes": ["a", "b"], "sources": sources}, **common
    )
    alone = toy_study(data={"dataset": "csv", "path": str(tmp_path / "whole"), "classes": ["a", "b"]}, **common)
    held = of_home(tmp_path / "homes" / "x")
    found = find_group(held, joined, "patient_id:p3", tmp_path / "cache")
    assert (found.groups, found.records, found.joined) == (1 if sited else 2, 2, 0)
    assert not found.known
    withdrawn(held.folder, *found.names)
    for study, count in ((joined, 2), (alone, 1)):
        plan = deal(study, read_cohort(study, tmp_path))
        out = withdrawn_records(tmp_path / "homes", plan, study)
        gone = [plan.cohort.records[row] for row in out.rows.tolist()]
        assert [record.path.name for record in gone] == ["3.png"] * count
        for named in ("patient_id:p3", "patient:p3", "patient:x/p3"):
            assert find_group(held, study, named, tmp_path / "cache").known
        with pytest.raises(UnknownGroupError):
            find_group(held, study, "patient_id:p4", tmp_path / "cache")  # of site y


def test_a_patient_whom_likeness_put_into_the_group_of_another_is_withdrawn_by_his_own_name(
    tmp_path: Path, toy_study: Callable[..., Study]
) -> None:
    rows = ["path,label,patient_id,site"]
    for at in range(36):
        save(tmp_path / "images" / f"{at}.png", pattern(0 if at == 3 else at, 32), compress_level=1 + at % 2)
        rows.append(f"{at}.png,{'ab'[at // 3 % 2 * (at != 3)]},{'' if at == 9 else f'p{at}'},{'xyz'[at % 3]}")
    (tmp_path / "images" / "labels.csv").write_text("\n".join(rows))
    study = toy_study(
        method="fedclip",
        data={"dataset": "csv", "path": str(tmp_path / "images"), "classes": ["a", "b"]},
        sites={"partition": "column", "unseen": ""},
        reference={"source": "none"},
    )
    held, cache = of_home(tmp_path / "homes" / "x"), tmp_path / "cache"
    merged = {each.group for each in read_cohort(study, tmp_path).records if each.path.name in ("0.png", "3.png")}
    assert merged == {"patient_id:p0"}
    found = find_group(held, study, "patient_id:p3", cache)
    assert (found.groups, found.records, found.joined, found.known) == (1, 2, 2, False)
    # Had the other withdrawn before they were one, this one's name would be new.
    withdrawn(held.folder, *names_of(cohort_of("patient_id:p0"), "patient_id:p0"))
    assert not find_group(held, study, "patient_id:p3", cache).known
    withdrawn(held.folder, *found.names)
    assert find_group(held, study, "patient_id:p3", cache).known
    assert find_group(held, study, "patient_id:p0", cache).known
