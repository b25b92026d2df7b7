"""A finished run applied to new images: the model card decides classes, backbone, calibration and abstention.

A site can use its own calibration instead of the card's: the same model, made honest on that site's validation images.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..evaluation.arrays import FloatArray
from ..evaluation.calibration.calibrator import Calibrator
from ..evaluation.errors import EvaluationError
from ..medical_datasets.cohort import picture_named
from ..medical_datasets.pixels import read_rgb
from .adapter_file import read_adapter
from .backbone import load_backbone
from .errors import CheckpointError, RunFolderError
from .features import encode
from .methods.clip_inputs import clip_inputs
from .methods.method import SharedInputs
from .methods.table import method_of
from .model_card import CARD_CHECKSUM, card_checksum
from .run_folder import RunFolder
from .site_calibration import calibration_file, read_site_calibration
from .training import predict_logits

CALIBRATION = "calibration"
"""Key of the model card that holds the federation's calibration."""


@dataclass(frozen=True, slots=True)
class ImageAnswer:
    """What the model says of one image.

    Attributes:
        path: the image.
        answer: the most probable class, or None where the model abstains or the image cannot be read.
        probabilities: calibrated, in class order, sum 1; None for an unreadable image.
        classes: names in class order.
        prediction_set: classes that cannot be ruled out, in class order; may be empty. None where the image cannot be
            read, and where the calibration has no thresholds.
        reason: why there is no answer: why the model abstains, or why the image cannot be read; empty otherwise.
    """

    path: Path
    answer: str | None
    probabilities: tuple[float, ...] | None
    classes: tuple[str, ...]
    prediction_set: tuple[str, ...] | None = None
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        named = None if self.probabilities is None else dict(zip(self.classes, self.probabilities, strict=True))
        abstains = named is not None and self.answer is None
        return {
            "image": str(self.path),
            "answer": self.answer,
            "abstains": abstains,
            "reason": self.reason if abstains else None,
            "probabilities": named,
            "prediction_set": None if self.prediction_set is None else list(self.prediction_set),
            "error": self.reason if named is None else None,
        }


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers in the order of the images, and what to say about the model.

    Attributes:
        study: its name. classes: in class order.
        calibrator: what made logits into these answers.
        site: whose calibration that is; None: the federation's.
        synthetic: whether the model was trained on phantoms.
        rows: one an image. note: why the federation's probabilities are not calibrated; empty where they are.
    """

    study: str
    classes: tuple[str, ...]
    calibrator: Calibrator
    site: str | None
    synthetic: bool
    rows: tuple[ImageAnswer, ...]
    note: str = ""


def predict_images(root: Path, images: Sequence[Path], *, device: str = "auto", site: str | None = None) -> Answers:
    """Predict with the final adapter of the run in ``root``. Nothing is kept: features of these images are not cached.

    Args:
        root: a finished run folder. images: files, or FILE#PART for one picture of a file that holds several.
        device: where images are encoded.
        site: whose calibration is applied; None: that of the model card.

    Raises:
        RunFolderError: the run is not finished, or has no calibration of that site.
        CheckpointError: adapter, card or calibration is damaged, or they do not belong together.
        BackboneError: the backbone's weights cannot be had.
    """
    run, study = RunFolder.open(root)
    if not run.summary.is_file():
        raise RunFolderError(
            "the run is not finished",
            where=str(root),
            remedy="Finish it first: wardround run STUDY.toml --out RUN --resume",
        )
    card = _read_card(run.card)
    if site is None:
        calibrator = _calibrator(card)
    else:
        calibrator = read_site_calibration(run, site, study_hash=study.digest(), adapter_sha256=card["adapter_sha256"])
        _check_classes(calibrator, card, calibration_file(run, site))
    backbone = load_backbone(
        study.backbone.name, study.backbone.weights or None, device=device, allow_random=study.backbone.allow_random
    )
    state, _ = read_adapter(run.adapter, study=study.digest(), backbone=backbone.fingerprint)
    if hashlib.sha256(run.adapter.read_bytes()).hexdigest() != card["adapter_sha256"]:
        raise CheckpointError(
            "the model card belongs to another adapter",
            where=str(run.card),
            remedy="Restore both from one backup, or run again",
        )
    classes = tuple(label["name"] for label in card["classes"])
    names = [label["clinical_name"] for label in card["classes"]]
    text = backbone.encode_prompts([label["prompts"] for label in card["classes"]])
    method = method_of(study)
    clip = clip_inputs(backbone, [label["prompts"] for label in card["classes"]], names)
    shared = SharedInputs(torch.from_numpy(text), backbone.logit_scale, torch.zeros((0, text.shape[1])), clip=clip)
    pictures = [picture_named(image) for image in images]
    with tempfile.TemporaryDirectory(prefix="wardround-predict-") as scratch:
        table = encode(pictures, backbone, cache=Path(scratch))
    inputs = torch.from_numpy(table.features)
    if method.consumes == "pixels":
        prepared = [backbone.prepare(read_rgb(pictures[index])) for index in table.kept]
        height, width = backbone.preprocessing.height, backbone.preprocessing.width
        inputs = torch.from_numpy(np.stack(prepared)) if prepared else torch.zeros((0, height, width, 3)).byte()
    logits = predict_logits(method, state, inputs, shared).numpy()
    read = dict(
        zip(table.kept.tolist(), answers_of([images[i] for i in table.kept], logits, classes, calibrator), strict=True)
    )
    reasons = dict(table.skipped)
    rows = [
        read.get(index) or ImageAnswer(path, None, None, classes, reason=reasons.get(pictures[index], "unreadable"))
        for index, path in enumerate(images)
    ]
    note = "" if site else str(card.get("calibration_note", ""))
    return Answers(study.name, classes, calibrator, site, bool(card["synthetic"]), tuple(rows), note)


def answers_of(
    paths: Sequence[Path], logits: FloatArray, classes: tuple[str, ...], calibrator: Calibrator
) -> Iterator[ImageAnswer]:
    """One answer for each row of logits, (n, K)."""
    probabilities = calibrator.probabilities(logits)
    answered, sets = calibrator.answers(probabilities), calibrator.in_set(probabilities)
    for index, (path, row) in enumerate(zip(paths, probabilities, strict=True)):
        best = int(row.argmax())
        held = (
            None if sets is None else tuple(name for name, inside in zip(classes, sets[index], strict=True) if inside)
        )
        reason = "" if answered[index] else below(float(row[best]), calibrator.abstain_below)
        answer = classes[best] if answered[index] else None
        yield ImageAnswer(path, answer, tuple(map(float, row)), classes, held, reason)


def below(top: float, threshold: float) -> str:
    """Why the model abstains, with as many digits as it takes to tell the two numbers apart.

    >>> below(0.41, 0.5), below(0.4996, 0.5)
    ('top probability .41 is below .50', 'top probability .4996 is below .5000')
    """
    pair = next(
        (pair for digits in range(2, 17) if (pair := [f"{v:.{digits}f}" for v in (top, threshold)])[0] != pair[1]),
        [repr(top), repr(threshold)],
    )
    return "top probability {} is below {}".format(*(text.removeprefix("0") for text in pair))


def _calibrator(card: Mapping[str, Any]) -> Calibrator:
    """The card's calibration; of a card of an earlier version, which has none, its temperature and its threshold."""
    content, temperature = card.get(CALIBRATION), card["temperature"]
    # Under this key an earlier version kept the study's settings, which have no kind.
    if isinstance(content, Mapping) and "kind" in content:
        return Calibrator.from_dict(content)
    within = temperature is None and card.get("temperature_source") == "model"
    return Calibrator(
        kind="none" if temperature is None else "temperature",
        source="federated" if temperature is not None else "model" if within else "none",
        classes=len(card["classes"]),
        n=None,
        parameters=None if temperature is None else float(temperature),
        abstain_below=float(card["abstain_below"]),
    )


def _check_classes(calibrator: Calibrator, card: Mapping[str, Any], path: Path) -> None:
    if calibrator.classes != len(card["classes"]):
        raise CheckpointError(
            f"a calibration of {calibrator.classes} classes for a model of {len(card['classes'])}",
            where=str(path),
            remedy="Restore model and calibration from one backup, or run again",
        )


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card: dict[str, Any] = json.loads(path.read_bytes())
        temperature, floor = card["temperature"], card["abstain_below"]
        named = all(
            isinstance(label["name"], str) and label["prompts"] and isinstance(label["clinical_name"], str)
            for label in card["classes"]
        )
        complete = named and len(card["classes"]) >= 2 and {"adapter_sha256", "synthetic"} <= card.keys()
        whole = card.get(CARD_CHECKSUM) == card_checksum(card)
        sound = whole and complete and (temperature is None or temperature > 0) and 0 <= floor < 1
        sound = sound and _calibrator(card).classes == len(card["classes"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EvaluationError):
        sound = False
    if not sound:
        raise CheckpointError(
            "the model card is missing or damaged, or was edited",
            where=str(path),
            remedy="Restore it from a backup, or run again",
        )
    return card
