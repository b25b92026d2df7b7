"""A study of several sources through the real entry point: the multi-source skin-cancer study in small."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from wardround.platform.errors import StudyFileError
from wardround.platform.study_cohort import read_cohort
from wardround.platform.study_file import load_study
from wardround.platform.watching import left_out

from ...medical_datasets.readers.dicom_files import dataset, write
from ...medical_datasets.sets.skin_trees import images, one_hot, table

HAM = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization", "dataset")
ISIC = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
PAD = ("patient_id", "lesion_id", "age", "gender", "fitspatrick", "diagnostic", "img_id")
HEAD = """name = "skin"
rounds = 1
method = "fedclip"
[data]
dataset = "isic-2019"
source = "joined"
classes = ["MEL", "NV", "BCC"]
[[data.sources]]
dataset = "ham10000"
path = "ham"
exclude = ["akiec", "bkl", "df", "vasc"]
[[data.sources]]
dataset = "isic-2019"
path = "isic"
site = "barcelona"
exclude = ["AK", "BKL", "DF", "VASC", "SCC"]
[[data.sources]]
dataset = "pad-ufes-20"
path = "pad"
site = "vitoria"
map = {{ MEL = "MEL", NEV = "NV", BCC = "BCC" }}
{pad}
[sites]
partition = "column"
unseen = ""
[reference]
source = "none"
"""
PAD_EXCLUDES = 'exclude = ["ACK", "SCC", "SEK"]'


@pytest.fixture
def joined(tmp_path: Path) -> Callable[..., Path]:
    """The study and its three folders; 24 pictures a site, two of HAM10000 in ISIC 2019 as well."""
    ham, isic, pad = [], [], []
    for at in range(48):
        image, dx = f"ISIC_{24306 + at:07d}", ("mel", "nv", "bcc")[at % 3]
        source = ("vidir_modern", "rosendahl")[at % 2]
        ham.append([f"HAM_{at // 2:07d}", image, dx, "histo", "45", "male", "back", source])
    ham.append(["HAM_0009999", "ISIC_0029999", "vasc", "histo", "45", "male", "back", "rosendahl"])
    twins = [(ham[0][1], "MEL", "HAM_0000000"), (ham[1][1], "NV", "HAM_0000000")]
    own = [(f"ISIC_{60000 + at:07d}", ("MEL", "NV", "BCC")[at % 3], f"BCN_{at:07d}") for at in range(24)]
    for image, name, lesion in (*twins, *own):
        isic.append(([image, *one_hot(ISIC, name)], [image, "50", "back", lesion, "female"]))
    for at in range(24):
        pad.append([f"PAT_{at}", str(at), "60", "FEMALE", "2.0", ("MEL", "NEV", "BCC")[at % 3], f"PAT_{at}_{at}_1.png"])
    table(tmp_path / "ham" / "HAM10000_metadata.csv", HAM, ham)
    images(tmp_path / "ham" / "HAM10000_images_part_1", [f"{row[1]}.jpg" for row in ham])
    table(tmp_path / "isic" / "ISIC_2019_Training_GroundTruth.csv", ("image", *ISIC), [truth for truth, _ in isic])
    columns = ("image", "age_approx", "anatom_site_general", "lesion_id", "sex")
    table(tmp_path / "isic" / "ISIC_2019_Training_Metadata.csv", columns, [meta for _, meta in isic])
    images(tmp_path / "isic" / "ISIC_2019_Training_Input", [f"{truth[0]}.jpg" for truth, _ in isic])
    table(tmp_path / "pad" / "metadata.csv", PAD, pad)
    images(tmp_path / "pad" / "imgs_part_1", [row[-1] for row in pad])

    def make(pad: str = PAD_EXCLUDES) -> Path:
        path = tmp_path / "study.toml"
        path.write_text(HEAD.format(pad=pad))
        return path

    return make


def test_sources_become_one_cohort_with_sites_of_their_own(joined: Callable[..., Path]) -> None:
    cohort = read_cohort(load_study(joined()), Path())
    assert cohort.dataset.class_names == ("MEL", "NV", "BCC")
    sites = {site: [each for each in cohort.records if each.site == site] for site in {r.site for r in cohort.records}}
    assert {site: len(records) for site, records in sites.items()} == {
        "vidir_modern": 24,
        "rosendahl": 24,
        "barcelona": 24,
        "vitoria": 24,
    }
    assert {record.subgroups["source"] for record in sites["vitoria"]} == {"pad-ufes-20"}
    # The same ISIC image in two sources is one picture, and is left out by name in the second.
    twins = [skip for skip in cohort.skipped if "ISIC_2019" in str(skip.path)]
    assert sorted(skip.path.stem for skip in twins) == ["ISIC_0024306", "ISIC_0024307"]
    (vascular,) = [skip for skip in cohort.skipped if skip.path.stem == "ISIC_0029999"]
    assert "vasc" in vascular.reason
    labels = {record.path.name: cohort.dataset.class_names[record.label] for record in sites["vitoria"]}
    assert labels["PAT_0_0_1.png"] == "MEL"
    assert labels["PAT_1_1_1.png"] == "NV"


def test_a_joined_study_runs_from_end_to_end(cli: Any, joined: Callable[..., Path], tmp_path: Path) -> None:
    ended = cli("run", joined(), "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_bytes())
    assert set(summary["sites"]) == {"barcelona", "rosendahl", "vidir_modern", "vitoria"}
    again = load_study(tmp_path / "run" / "study.toml")
    assert [source.dataset for source in again.data.sources] == ["ham10000", "isic-2019", "pad-ufes-20"]
    assert again.digest() == load_study(joined()).digest()
    assert "left out" in ended.err


def test_a_class_that_no_map_settles_is_refused_with_the_line_to_write(cli: Any, joined: Callable[..., Path]) -> None:
    ended = cli("data", "split", joined(pad='exclude = ["ACK"]'), "--out", "nowhere.json")
    ended.assert_explains("SCC", "SEK", "exclude", "data.sources.2")


def test_a_folder_that_moved_is_the_same_study(joined: Callable[..., Path], tmp_path: Path) -> None:
    study = load_study(joined())
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (moved / "study.toml").write_text(joined().read_text())
    assert load_study(moved / "study.toml").digest() == study.digest()


CLINIC = """name = "skin"
rounds = 1
method = "fedclip"
[data]
dataset = "isic-2019"
source = "joined"
classes = ["MEL", "NV"]
[[data.sources]]
dataset = "{key}"
path = "clinic"
{more}
[reference]
source = "none"
"""


def clinic(folder: Path, key: str, *labels: str) -> None:
    """One picture a label and patient, in the layout of a data set without classes of its own."""
    rows = [("path", "label", "patient")]
    for at, label in enumerate(labels):
        if key == "domains":
            images(folder / f"site_{at % 2}" / label, [f"{at}.png"])
        elif key == "dicom-folder":
            pixels = np.random.default_rng(at).integers(0, 4000, (32, 32), dtype=np.uint16)
            write(dataset(pixels, bits=12, PatientID=f"p{at}"), folder / f"{at}.dcm")
            rows.append((f"{at}.dcm", label, f"p{at}"))
        elif key == "nifti-folder":
            volume = np.random.default_rng(at).integers(0, 4000, (16, 16, 9), dtype=np.int16)
            folder.mkdir(exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / f"{at}.nii.gz")
            rows.append((f"{at}.nii.gz", label, f"p{at}"))
        else:
            images(folder / f"f{at}", [f"{at}.png"])
            rows.append((f"f{at}/{at}.png", label, f"p{at}"))
    if key != "domains":
        table(folder / "labels.csv", rows[0], rows[1:])


@pytest.mark.parametrize("key", ["csv", "domains", "dicom-folder", "nifti-folder"])
def test_a_class_of_a_source_without_classes_of_its_own_is_not_dropped(tmp_path: Path, key: str) -> None:
    clinic(tmp_path / "clinic", key, "melanoma", "nv", "cyst", "wart")

    def read(more: str) -> Any:
        (tmp_path / "study.toml").write_text(CLINIC.format(key=key, more=more))
        return read_cohort(load_study(tmp_path / "study.toml"), Path())

    with pytest.raises(StudyFileError, match="'cyst', 'wart' of") as refused:
        read('map = { melanoma = "MEL" }')
    assert refused.value.where == "data.sources.0"
    assert 'exclude = ["cyst", "wart"]' in refused.value.remedy
    with pytest.raises(StudyFileError, match=f"'wort' is no class of {key}") as refused:
        read('exclude = ["cyst", "wart", "wort"]')
    assert "did you mean 'wart'?" in refused.value.remedy
    cohort = read('exclude = ["cyst", "wart"]')
    assert sorted(cohort.dataset.class_names[each.label] for each in cohort.records) == ["MEL", "NV"]
    reasons = [skip.reason for skip in cohort.skipped if "left out by the class map" in skip.reason]
    assert len(reasons) == 2
    assert len(read('map = { cyst = "NV", wart = "NV" }').records) == 4


@pytest.mark.parametrize("key", ["csv", "domains", "dicom-folder", "nifti-folder"])
def test_a_map_to_an_equal_name_is_no_second_name(tmp_path: Path, key: str) -> None:
    clinic(tmp_path / "clinic", key, "mel", "Nv", "nv", "mel")
    for more in ('map = { mel = "MEL" }', 'map = { MEL = "MEL", NV = "NV" }', ""):
        (tmp_path / "study.toml").write_text(CLINIC.format(key=key, more=more))
        cohort = read_cohort(load_study(tmp_path / "study.toml"), Path())
        assert sorted(each.label for each in cohort.records) == [0, 0, 1, 1]


def test_a_source_may_hold_one_class_alone(tmp_path: Path) -> None:
    clinic(tmp_path / "clinic", "csv", "mel", "mel")
    clinic(tmp_path / "other", "csv", "nv", "nv")
    more = '[[data.sources]]\ndataset = "csv"\npath = "other"'
    (tmp_path / "study.toml").write_text(CLINIC.format(key="csv", more=more))
    cohort = read_cohort(load_study(tmp_path / "study.toml"), Path())
    assert sorted(each.label for each in cohort.records) == [0, 0, 1, 1]
    assert {each.subgroups["source"] for each in cohort.records} == {"csv", "csv-2"}


def test_the_sites_of_isic_2019_can_be_used(joined: Callable[..., Path]) -> None:
    path = joined()
    path.write_text(path.read_text().replace('site = "barcelona"\n', ""))
    sites = {record.site for record in read_cohort(load_study(path), Path()).records}
    assert sites == {"vidir_modern", "rosendahl", "bcn20000", "vitoria"}


def test_a_site_that_cannot_be_a_name_is_refused_with_the_one_to_write(cli: Any, joined: Callable[..., Path]) -> None:
    path = joined()
    path.write_text(path.read_text().replace('"barcelona"', '"St Mary"'))
    cli("data", "split", path, "--out", "nowhere.json").assert_explains("data.sources.1.site", "'st_mary'")


def test_twins_in_thousands_are_told_in_few_lines_to_a_person(joined: Callable[..., Path]) -> None:
    path = joined()
    text = path.read_text()
    # Every picture of the first source is in the second, too: one line for each class, and none for each picture.
    again = text[text.index("[[data.sources]]") : text.index('[[data.sources]]\ndataset = "isic-2019"')]
    path.write_text(text.replace(again, again + again))
    skipped = read_cohort(load_study(path), Path()).skipped
    twins = [(skip.path, skip.reason) for skip in skipped if "the same picture" in skip.reason]
    assert len(twins) > 48
    assert len(list(left_out(twins, brief=False))) == len(twins)
    assert len(list(left_out(twins, brief=True))) <= 4
