"""The case review of a finished run: the right pictures beside the right answers, without those who withdrew."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from wardround.evaluation.calibration.calibrator import Calibrator
from wardround.evaluation.calibration.conformal import Thresholds
from wardround.evaluation.report_json import site_report_from_json, to_json
from wardround.evaluation.report_model import SiteReport
from wardround.medical_datasets import pixels
from wardround.medical_datasets.camera_shift import CameraShift
from wardround.platform import case_review, dossier, study_parts
from wardround.platform.backbone import Backbone
from wardround.platform.case_pictures import small_picture
from wardround.platform.case_review import build_cases
from wardround.platform.cases_file import cases_file, remove_cases
from wardround.platform.cohorts import SitePlan, StudyPlan, deal
from wardround.platform.demo_study import demo_study_values
from wardround.platform.errors import CheckpointError, PlatformError, RunFolderError
from wardround.platform.forgetting import find_group, forget
from wardround.platform.held_home import hold
from wardround.platform.run_folder import RunFolder
from wardround.platform.simulation import simulate
from wardround.platform.study_cohort import read_cohort
from wardround.platform.study_file import parse_study

SITE = "amber"


@dataclass(frozen=True)
class World:
    """A finished run of phantoms with a cache of its own."""

    run: RunFolder
    cache: Path

    @property
    def plan(self) -> StudyPlan:
        _, study = RunFolder.open(self.run.root)
        return deal(study, read_cohort(study, self.run.phantoms))

    @property
    def site(self) -> SitePlan:
        return next(site for site in self.plan.sites if site.name == SITE)

    @property
    def report(self) -> SiteReport:
        return site_report_from_json((self.run.site(SITE) / "report.json").read_bytes())

    def write_report(self, report: SiteReport) -> None:
        (self.run.site(SITE) / "report.json").write_bytes(to_json(report))

    def build(self, site: str = SITE, **options: Any) -> str:
        path = build_cases(self.run, site, cache=self.cache, **{"maps": 2, **options})
        assert path == cases_file(self.run, site)
        return path.read_text(encoding="utf-8")

    def forget(self, patient: str) -> None:
        _, study = RunFolder.open(self.run.root)
        with hold(self.run.homes / SITE) as held:
            forget(held, find_group(held, study, patient, self.cache), self.cache)

    def copy(self, to: Path) -> World:
        shutil.copytree(self.run.root, to / "run", ignore=shutil.ignore_patterns("cases.html"))
        return World(RunFolder(to / "run"), self.cache)

    def picture(self, row: int, side: int = 224) -> str:
        """A record's address on the page, in the slow way."""
        path = self.plan.cohort.records[row].path
        return small_picture(CameraShift(SITE, 0.5, False)(pixels.read_rgb(path)), side).uri


def tokens(texts: list[str]) -> torch.Tensor:
    """Eight tokens of each sentence, drawn by its letters."""
    drawn = [np.random.default_rng(list(text.encode())).integers(1, 50, 8) for text in texts]
    return torch.from_numpy(np.array(drawn, dtype=np.int64))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Callable[[int], Backbone]) -> Iterator[World]:
    """One round of a small study whose pictures are shifted by site, with an encoder of milliseconds."""
    folder = tmp_path_factory.mktemp("cases")
    values = demo_study_values("brain", method="facmic", sites=3, rounds=1, seed=3)
    values["data"]["images_per_site"] = 24
    values["sites"]["feature_shift"] = 0.5
    backbone = tiny_backbone(16)
    backbone._tokenizer = tokens  # else all classes have one prompt, and every answer is the same
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_parts, "load_backbone", lambda *_, **__: backbone)
        patch.setattr(case_review, "load_backbone", lambda *_, **__: backbone)
        patch.setattr(dossier, "build_pages", lambda *_: [])  # the other pages are not looked at here
        run = simulate(parse_study(values, where=Path("study")), folder / "run", cache=folder / "cache")
        yield World(run, folder / "cache")


@pytest.fixture
def world(finished: World, tmp_path: Path) -> World:
    return finished.copy(tmp_path)


def articles(page: str) -> dict[int, str]:
    """The page's images by number."""
    found = re.findall(r'<article.*?data-record="(\d+)".*?</article>', page, re.DOTALL)
    parts = re.findall(r"<article.*?</article>", page, re.DOTALL)
    return {int(number): part for number, part in zip(found, parts, strict=True)}


def test_each_answer_stands_beside_its_picture_and_its_nearest_training_images(finished: World) -> None:
    page = finished.build()
    assert cases_file(finished.run, SITE).stat().st_mode & 0o777 == 0o600
    assert page == finished.build()
    report, site = finished.report, finished.site
    found = articles(page)
    assert sorted(found) == list(range(len(report.federated.labels))) == list(range(len(site.test)))
    assert page.count('class="small-map"') == 2
    logits, labels, groups = report.federated.arrays(4)
    z = logits / (report.federated.temperature or 1.0)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    assert float(np.ptp(z, axis=1).max()) > 0.1  # answers differ, so that a swap would be seen
    for at, row in enumerate(site.test.tolist()):
        assert found[at].count(finished.picture(row)) == 1
        assert (
            f'data-truth="{labels[at]}" data-called="{p[at].argmax()}" data-confidence="{p[at].max():.6f}"' in found[at]
        )
        assert f"patient {groups[at]}" in found[at]
    names = [label.clinical_name for label in report.classes]
    for part in list(found.values())[:3]:
        near = re.findall(r'<img src="([^"]+)"[^>]*alt="Training image (\d+): ([^"]+)"', part)
        assert len(near) == 3
        for uri, number, name in near:
            row = int(site.train[int(number)])
            assert uri == finished.picture(row, 112)
            assert name == names[finished.plan.cohort.records[row].label]


def test_nothing_on_the_page_names_a_file_or_a_patient(finished: World) -> None:
    page = re.sub(r"base64,[A-Za-z0-9+/=]+", "", finished.build())
    for record in finished.plan.cohort.records:
        assert record.path.name not in page
        assert record.group not in page
    assert str(finished.run.root) not in page


def test_other_sites_files_are_not_opened(finished: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: set[Path] = set()
    read = pixels.read_rgb
    monkeypatch.setattr(pixels, "read_rgb", lambda path: (opened.add(path), read(path))[1])
    build_cases(finished.run, SITE, maps=0, cache=tmp_path / "fresh")
    records = finished.plan.cohort.records
    assert opened
    assert {record.site for record in records if record.image in opened} == {SITE}


def test_the_unseen_site_has_a_page_without_training_images(finished: World) -> None:
    unseen = finished.plan.unseen
    assert unseen is not None
    page = finished.build(unseen.name)
    assert len(articles(page)) == len(unseen.test)
    assert "took no part in training" in page
    assert "This site has no training images." in page


def test_a_long_test_set_is_cut_and_the_page_says_so(finished: World) -> None:
    page = finished.build(most=3, maps=1)
    assert len(articles(page)) == 3
    total = len(finished.site.test)
    assert f"The page shows 3 of {total} test images and leaves out {total - 3}" in page


def test_patients_who_withdrew_after_the_run_are_not_on_the_page(world: World) -> None:
    records, site = world.plan.cohort.records, world.site
    before = articles(world.build())
    tested = records[int(site.test[0])].group
    learned = records[int(site.train[0])].group
    for patient in (tested, learned):
        world.forget(patient)
    assert not cases_file(world.run, SITE).exists()  # the patient may have been on it
    page = world.build()
    after = articles(page)
    gone = [at for at, row in enumerate(site.test.tolist()) if records[row].group == tested]
    assert gone
    assert sorted(after) == [at for at in sorted(before) if at not in gone]
    assert f"Left out: {len(gone)} image" in page
    for row, record in enumerate(records):
        if record.group in (tested, learned):
            assert record.site != SITE or world.picture(row) not in page
    head = re.compile(r"data-confidence=\"[0-9.]+\"")
    assert all(head.findall(after[at]) == head.findall(before[at]) for at in after)


def test_a_report_made_between_two_withdrawals_is_matched(world: World) -> None:
    records, test = world.plan.cohort.records, world.site.test.tolist()
    names = list(dict.fromkeys(records[row].group for row in test))
    world.forget(names[0])
    kept = [at for at, row in enumerate(test) if records[row].group != names[0]]
    report = world.report
    _, labels, groups = report.federated.arrays(4)

    def without(given: Any) -> Any:
        z, _, _ = given.arrays(4)
        return type(given).from_arrays(
            z[kept], labels[kept], groups[kept].tolist(), temperature=given.temperature, source=given.temperature_source
        )

    world.write_report(
        replace(report, federated=without(report.federated), local_only=None, zero_shot=None, columns=())
    )
    assert sorted(articles(world.build())) == list(range(len(kept)))
    world.forget(names[-1])
    left = [k for k, at in enumerate(kept) if records[test[at]].group != names[-1]]
    assert sorted(articles(world.build())) == left != list(range(len(kept)))


def test_other_data_than_the_reports_are_refused(world: World) -> None:
    report = world.report
    labels = (*report.federated.labels[1:], report.federated.labels[0])
    assert labels != report.federated.labels
    other = replace(report.federated, labels=labels)
    world.write_report(replace(report, federated=other, local_only=None, zero_shot=None, columns=()))
    with pytest.raises(RunFolderError, match="with other labels or groups"):
        world.build()
    short = replace(
        report.federated,
        logits=report.federated.logits[:-1],
        labels=report.federated.labels[:-1],
        groups=report.federated.groups[:-1],
    )
    world.write_report(replace(report, federated=short, local_only=None, zero_shot=None, columns=()))
    with pytest.raises(RunFolderError, match=f"has {len(labels) - 1} test images, and the data give {len(labels)}"):
        world.build()
    assert not cases_file(world.run, SITE).exists()


def test_answers_that_the_pictures_do_not_give_are_refused_but_for_a_model_of_the_sites_own(world: World) -> None:
    report = world.report
    turned = replace(report.federated, logits=tuple(tuple(-5 * z for z in row) for row in report.federated.logits))
    world.write_report(replace(report, federated=turned))
    with pytest.raises(RunFolderError, match="do not give the answers of its report"):
        world.build()
    summary = json.loads(world.run.summary.read_bytes())
    summary["sites"][SITE]["personal"] = True
    world.run.summary.write_text(json.dumps(summary))
    page = world.build()
    assert "maps are of the shared model" in page


def test_the_reports_calibration_makes_sets_and_abstentions(world: World) -> None:
    sets = Thresholds(0.9, 0.3, (0.3,) * 4, 40, (10,) * 4)
    calibrator = Calibrator("temperature", "site", 4, 40, parameters=2.0, sets=sets, abstain_below=0.99)
    world.write_report(replace(world.report, calibrator=calibrator.to_dict()))
    page = world.build()
    assert "Calibration: temperature 2, this site&#39;s." in page
    p = calibrator.probabilities(np.array(world.report.federated.logits))
    inside = calibrator.in_set(p)
    assert inside is not None
    labels = np.array(world.report.federated.labels)
    found = articles(page)
    for at, row in enumerate(inside):
        assert (" data-misses" in found[at]) == (not row[labels[at]])
        assert found[at].count("<small>in set</small>") == row.sum()
        assert ('data-outcome="abstained"' in found[at]) == (p[at].max() < 0.99)


def _without_calibration(run: RunFolder) -> None:
    (run.site(SITE) / "calibration.json").unlink()


@pytest.mark.parametrize(
    ("harm", "error", "said"),
    [
        (lambda run: run.summary.unlink(), RunFolderError, "the run is not finished"),
        (lambda run: shutil.rmtree(run.site(SITE)), RunFolderError, "has no report of a site 'amber'. .*Its sites are"),
        (lambda run: run.adapter.write_bytes(run.adapter.read_bytes()[:-9]), CheckpointError, "adapter"),
        (lambda run: (_without_calibration(run), run.card.write_text("[]")), PlatformError, "damaged"),
    ],
)
def test_a_run_that_cannot_be_shown_is_refused(
    world: World, harm: Callable[[RunFolder], Any], error: type[Exception], said: str
) -> None:
    report = world.report
    world.write_report(replace(report, calibrator=None, abstain_below=None))
    harm(world.run)
    with pytest.raises(error, match=said):
        world.build()
    assert not cases_file(world.run, SITE).exists()


def test_a_report_of_another_adapter_is_refused(world: World) -> None:
    report = world.report
    world.write_report(replace(report, provenance=replace(report.provenance, model_hash="0" * 64)))
    with pytest.raises(CheckpointError, match="report is of another adapter"):
        world.build()


def test_the_page_can_be_removed(world: World) -> None:
    assert not remove_cases(world.run, SITE)
    world.build(maps=0)
    assert remove_cases(world.run, SITE)
    assert not cases_file(world.run, SITE).exists()


def test_pictures_on_the_page_can_be_decoded(finished: World) -> None:
    from io import BytesIO

    from PIL import Image

    found = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", finished.build(maps=0))
    assert len(found) == 4 * len(finished.site.test)
    for data in set(found):
        with Image.open(BytesIO(base64.b64decode(data))) as picture:
            assert max(picture.size) <= 224
