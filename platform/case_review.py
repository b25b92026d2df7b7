"""The case review page of one site, from a finished run and the study's data. Local only: it holds pictures.

The page is a file of mode 0600 beside the site's report. No message is made of it: nothing here touches the egress
gate, and no type of message could carry it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..evaluation.arrays import FloatArray, IntArray
from ..evaluation.calibration.calibrator import Calibrator, Source
from ..evaluation.cases.choosing import Judged, mapped, shown
from ..evaluation.cases.model import Case, CaseReview, Neighbour, OcclusionMap
from ..evaluation.cases.nearest import nearest, similarities
from ..evaluation.cases.page import cases_page
from ..evaluation.report_json import site_report_from_json
from ..evaluation.report_model import SiteReport
from ..privacy.atomic import write_atomic
from .adapter_file import read_adapter
from .assessment import trained
from .attention_maps import attention_maps
from .backbone import Backbone, load_backbone
from .case_data import SiteCases, read_site, worded
from .case_pictures import NEAR_SIDE, seen_box, small_picture
from .cases_file import cases_file
from .config import Study
from .errors import CheckpointError, RunFolderError
from .features import default_cache
from .methods.table import method_of
from .run_folder import RunFolder
from .site_calibration import calibration_file, read_site_calibration

MAPS, MOST, NEAREST = 24, 200, 3
CONFIDENT = 0.8
_FAR = 0.05
"""Logits that differ by more than this share of the largest are of another model or picture; devices differ by less."""
Say = Callable[[str], None]


def build_cases(
    run: RunFolder,
    site: str,
    *,
    maps: int = MAPS,
    most: int = MOST,
    device: str = "auto",
    confident: float = CONFIDENT,
    cache: Path | None = None,
    say: Say | None = None,
) -> Path:
    """Write ``sites/<site>/cases.html``, readable by its owner alone.

    Args:
        run: a finished run. site: one of its sites, training or unseen.
        maps: attention maps at most; each costs 49 encodings. most: test images on the page at most.
        device: where pictures are encoded; ``"auto"``: as the study says.
        confident: an error from this probability on is called confident, 0..1.
        cache: feature cache; None for WARDROUND_CACHE or its default.
        say: told how far it is.

    Raises:
        RunFolderError: the run is not finished, has no such site, or its data are not those of the report.
        CheckpointError: adapter or calibration.json are damaged, or of another model than the report.
        BackboneError, StudyFileError, DataError, HomeError: backbone, data or list of withdrawn groups cannot be read.
        EvaluationError: report.json is damaged, or the calibration in it.
    """
    study, report = _finished(run, site)
    method = method_of(study)
    wanted = study.backbone
    backbone = load_backbone(
        wanted.name,
        wanted.weights or None,
        device=study.device if device == "auto" else device,
        allow_random=wanted.allow_random,
    )
    state, _ = read_adapter(run.adapter, study=study.digest(), backbone=backbone.fingerprint)
    if hashlib.sha256(run.adapter.read_bytes()).hexdigest() != report.provenance.model_hash:
        raise CheckpointError(
            "the site's report is of another adapter",
            where=str(run.site(site) / "report.json"),
            remedy="Restore both from one backup, or run again",
        )
    personal = _personal(run, site)
    calibrator = calibrator_of(run, study, report, personal=personal)
    cases = read_site(run, study, report, method, backbone, cache or default_cache(), worded(say, "images"))
    stated = _stated(report, cases, calibrator)
    predict = trained(method, state, cases.data.shared)

    def answer(inputs: Tensor) -> FloatArray:
        return calibrator.probabilities(predict(inputs))

    if not personal:
        _check_answers(report, cases, predict(cases.site.test.inputs(method.consumes)))
    judged = stated.judged(confident)
    page = shown(judged, most, report.seed)
    chosen = mapped(judged, page, maps, report.seed)
    made = attention_maps(
        [backbone.prepare(cases.picture(int(row))) for row in cases.site.test.rows[chosen]],
        [int(called) for called in stated.probabilities[chosen].argmax(axis=1)],
        backbone,
        answer,
        consumes=method.consumes,
        progress=worded(say, "maps"),
    )
    near, typical = _neighbours(cases, page)
    drawn = _cases(cases, stated, backbone, page, dict(zip(chosen.tolist(), made, strict=True)), near)
    target = cases_file(run, site)
    write_atomic(
        target,
        cases_page(
            CaseReview(
                study=report.study,
                method=report.method,
                site=report.site,
                role=report.role,
                dataset=report.dataset,
                synthetic=report.synthetic,
                marks=report.marks,
                classes=report.classes,
                group_key=report.flow.group_key,
                calibration=calibrator.words + ("" if calibrator.calibrated else ", not calibrated"),
                coverage=None if calibrator.sets is None else calibrator.sets.nominal,
                abstain_below=calibrator.abstain_below,
                confident=confident,
                counts=judged.counts(),
                cases=drawn,
                withdrawn=cases.withdrawn,
                shared_map=personal,
                typical=typical,
                training=len(cases.site.train.rows),
            )
        ).encode(),
        mode=0o600,
    )
    return target


def calibrator_of(run: RunFolder, study: Study, report: SiteReport, *, personal: bool) -> Calibrator:
    """What the site's answers are made with: the report's own calibration, else the site's file, else a temperature.

    Args:
        personal: whether the report is of the site's own model, which a file made for ``model/`` does not fit.

    Raises:
        EvaluationError: the report's calibration is damaged. CheckpointError: the site's file is.
        RunFolderError: the model card cannot be read.
    """
    classes = len(report.classes)
    if report.calibrator is not None:
        return Calibrator.from_dict(report.calibrator)
    if calibration_file(run, report.site).is_file() and not personal:
        return read_site_calibration(
            run, report.site, study_hash=study.digest(), adapter_sha256=report.provenance.model_hash
        )
    floor = report.abstain_below
    if floor is None:
        floor = float(_json(run.card).get("abstain_below", 0.0))
    temperature, source = report.federated.temperature, report.federated.temperature_source
    if temperature is None:
        return Calibrator("none", "model" if source == "model" else "none", classes, None, abstain_below=floor)
    whose: Source = "site" if source == "site" else "federated"
    return Calibrator("temperature", whose, classes, None, parameters=temperature, abstain_below=floor)


def _finished(run: RunFolder, site: str) -> tuple[Study, SiteReport]:
    _, study = RunFolder.open(run.root)
    if not run.summary.is_file():
        raise RunFolderError(
            "the run is not finished",
            where=str(run.root),
            remedy="Finish it first: wardround run STUDY.toml --out RUN --resume",
        )
    known = sorted(path.parent.name for path in run.root.glob("sites/*/report.json"))
    if site not in known:
        raise RunFolderError(
            f"the run has no report of a site '{site}'",
            where=str(run.root / "sites"),
            remedy=f"Its sites are {', '.join(known) or 'none'}",
        )
    return study, site_report_from_json((run.site(site) / "report.json").read_bytes())


def _personal(run: RunFolder, site: str) -> bool:
    """Whether the site's answers are of a model of its own, which is not in ``model/``."""
    sites = _json(run.summary).get("sites", {})
    return bool(sites.get(site, {}).get("personal", False))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"a file of the run cannot be read ({type(error).__name__})",
            where=str(path),
            remedy="Restore it from a backup, or run again",
        ) from None
    if not isinstance(content, dict):
        raise RunFolderError("a file of the run is damaged", where=str(path), remedy="Restore it from a backup")
    return content


@dataclass(frozen=True, slots=True)
class _Stated:
    """What the report says of each test image that is still there: (n, K), (n, K) or None, (n,), (n,) and (n,)."""

    probabilities: FloatArray
    sets: NDArray[np.bool_] | None
    answers: NDArray[np.bool_]
    labels: IntArray
    groups: IntArray

    def judged(self, confident: float) -> Judged:
        """What became of each."""
        right: NDArray[np.bool_] = self.probabilities.argmax(axis=1) == self.labels
        held = None if self.sets is None else self.sets[np.arange(len(self.labels)), self.labels]
        return Judged(
            confidence=self.probabilities.max(axis=1),
            right=right,
            abstains=~self.answers,
            misses=None if held is None else ~held,
            confident=confident,
        )


def _stated(report: SiteReport, cases: SiteCases, calibrator: Calibrator) -> _Stated:
    logits, labels, groups = report.federated.arrays(len(report.classes))
    probabilities = calibrator.probabilities(logits[cases.places])
    return _Stated(
        probabilities,
        calibrator.in_set(probabilities),
        calibrator.answers(probabilities),
        labels[cases.places],
        groups[cases.places],
    )


def _check_answers(report: SiteReport, cases: SiteCases, found: FloatArray) -> None:
    """Refuse pictures that do not give the report's logits: they would stand beside answers to other pictures."""
    stated = report.federated.arrays(len(report.classes))[0][cases.places]
    # A constant added to all logits of an image says nothing, and does not repeat exactly on another device.
    stated, found = (z - z.mean(axis=1, keepdims=True) for z in (stated, found))
    far = np.abs(found - stated).max(axis=1) > _FAR * max(1.0, float(np.abs(stated).max()))
    if far.any():
        raise RunFolderError(
            f"{int(far.sum())} of {len(far)} test images of site '{report.site}' do not give the answers of its report",
            where=f"test image {int(cases.places[np.flatnonzero(far)[0]])}",
            remedy="The pictures were changed since the run: restore them, or run the study again",
        )


def _cases(
    cases: SiteCases,
    stated: _Stated,
    backbone: Backbone,
    page: IntArray,
    made: Mapping[int, OcclusionMap],
    near: Mapping[int, tuple[Neighbour, ...]],
) -> tuple[Case, ...]:
    drawn = []
    for at in page.tolist():
        picture = cases.picture(int(cases.site.test.rows[at]))
        drawn.append(
            Case(
                record=int(cases.places[at]),
                group=int(stated.groups[at]),
                truth=int(stated.labels[at]),
                probabilities=tuple(stated.probabilities[at].tolist()),
                abstains=not stated.answers[at],
                members=None if stated.sets is None else tuple(np.flatnonzero(stated.sets[at]).tolist()),
                picture=small_picture(picture),
                seen=seen_box(backbone.preprocessing, *picture.shape[:2]),
                nearest=near[at],
                map=made.get(at),
            )
        )
    return tuple(drawn)


def _neighbours(cases: SiteCases, page: IntArray) -> tuple[dict[int, tuple[Neighbour, ...]], float | None]:
    """Nearest training images of each test image on the page, and the median cosine of all pairs."""
    train = cases.site.train
    if not len(train.rows) or not len(page):
        return dict.fromkeys(page.tolist(), ()), None
    queries = cases.site.test.features[page]
    found, cosines = nearest(queries, train.features, NEAREST)
    pictures = {at: small_picture(cases.picture(int(train.rows[at])), NEAR_SIDE) for at in np.unique(found).tolist()}
    near = {
        at: tuple(
            Neighbour(int(k), int(train.labels[k]), float(cosine), pictures[int(k)])
            for k, cosine in zip(ks, row, strict=True)
        )
        for at, ks, row in zip(page.tolist(), found, cosines, strict=True)
    }
    return near, float(np.median(similarities(queries, train.features)))
