"""Images of a comparison are read once, through the index; another split file makes another list of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from wardround.medical_datasets import pixels
from wardround.medical_datasets.cohort import Picture
from wardround.medical_datasets.errors import SplitError
from wardround.medical_datasets.split_file import write_split
from wardround.platform.cohorts import deal, plan_split
from wardround.platform.compare.cohort_cache import CohortCache
from wardround.platform.config import Study
from wardround.platform.study_file import parse_study

from ...medical_datasets.pictures import pattern, save


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Study]:
    """A joined study of one table, whose class map to ISIC 2019 is exact or not."""
    rows = ["lesion_id,image_id,dx,dx_type,age,sex,localization,dataset"]
    for at in range(90):
        rows.append(f"HAM_{at:07d},ISIC_{30000 + at:07d},{('akiec', 'nv')[at % 2]},histo,45,male,back,rosendahl")
        save(tmp_path / "ham" / f"ISIC_{30000 + at:07d}.jpg", pattern(at, 32, colour=True))
    (tmp_path / "ham" / "HAM10000_metadata.csv").write_text("\n".join(rows))
    source = {"dataset": "ham10000", "path": "ham", "exclude": ["bcc", "bkl", "df", "mel", "vasc"]}

    def make(**data: object) -> Study:
        whole = {"dataset": "isic-2019", "source": "joined", "classes": ["AK", "NV"], "sources": [source], **data}
        values = {"name": "toy", "method": "fedclip", "data": whole, "reference": {"source": "none"}}
        return parse_study(values, where=tmp_path / "study.toml")

    return make


class Counting:
    """A reader that counts."""

    def __init__(self) -> None:
        self.headers = 0

    def check_header(self, image: Picture, /) -> None:
        self.headers += 1
        pixels.check_header(image)

    content_hash = staticmethod(pixels.content_hash)
    read_grey_thumbnail = staticmethod(pixels.read_grey_thumbnail)


def test_headers_are_asked_of_the_reader_once_and_notes_are_passed_on(
    study: Callable[..., Study], tmp_path: Path
) -> None:
    cohorts, reader, notes = CohortCache(tmp_path / "phantoms"), Counting(), list[str]()
    for _ in range(2):
        cohorts.of(study(), reader=reader, note=notes.append)
        cohorts.digest(study(), reader=reader, note=notes.append)
    assert reader.headers == 90
    (told,) = notes
    assert "class map of data.sources.0" in told
    assert "'akiec' -> isic-2019 'AK'" in told


def test_another_split_file_is_another_list_of_images(study: Callable[..., Study], tmp_path: Path) -> None:
    cohorts = CohortCache(tmp_path / "phantoms")
    plain = study()
    record = plan_split(plain, deal(plain, cohorts.of(plain)))
    digests = {cohorts.digest(plain)}
    write_split(record, tmp_path / "a.json")
    named = study(split_file="a.json")
    assert named.digest() == plain.digest()
    digests.add(cohorts.digest(named))
    (tmp_path / "a.json").rename(tmp_path / "b.json")
    digests.add(cohorts.digest(study(split_file="b.json")))  # the place of the file is nothing
    assert len(digests) == 2
    write_split(plan_split(plain, deal(plain, cohorts.of(plain))), tmp_path / "c.json")  # with another salt
    digests.add(cohorts.digest(study(split_file="c.json")))
    digests.add(cohorts.digest(study(split_file="c.json", split_rule="balanced")))
    assert len(digests) == 4
    with pytest.raises(SplitError):
        cohorts.digest(study(split_file="nowhere.json"))
