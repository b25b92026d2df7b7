"""A finished run applied to new images: the model card decides classes, backbone, temperature and abstention."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..evaluation.arrays import softmax
from ..medical_datasets.pixels import read_rgb
from .adapter_file import read_adapter
from .backbone import load_backbone
from .errors import CheckpointError, RunFolderError
from .features import encode
from .methods.clip_inputs import clip_inputs
from .methods.method import SharedInputs
from .methods.table import method_of
from .results import CARD_CHECKSUM, card_checksum
from .run_folder import RunFolder
from .training import predict_logits


@dataclass(frozen=True, slots=True)
class ImageAnswer:
    """What the model says of one image.

    Attributes:
        path: the image.
        answer: the most probable class, or None where the model abstains or the image cannot be read.
        probabilities: calibrated, in class order, sum 1; None for an unreadable image.
        reason: why it cannot be read; empty otherwise.
    """

    path: Path
    answer: str | None
    probabilities: tuple[float, ...] | None
    reason: str
    classes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        named = None if self.probabilities is None else dict(zip(self.classes, self.probabilities, strict=True))
        return {
            "image": str(self.path),
            "answer": self.answer,
            "abstains": named is not None and self.answer is None,
            "probabilities": named,
            "error": self.reason or None,
        }


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers in the order of the images, and what to say about the model."""

    study: str
    classes: tuple[str, ...]
    temperature: float | None
    temperature_source: str
    synthetic: bool
    rows: tuple[ImageAnswer, ...]


def predict_images(root: Path, images: Sequence[Path], *, device: str = "auto") -> Answers:
    """Predict with the final adapter of the run in ``root``. Nothing is kept: features of these images are not cached.

    Raises:
        RunFolderError: the run is not finished.
        CheckpointError: adapter or card is damaged, or they do not belong together.
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
    with tempfile.TemporaryDirectory(prefix="wardround-predict-") as scratch:
        table = encode(list(images), backbone, cache=Path(scratch))
    inputs = torch.from_numpy(table.features)
    if method.consumes == "pixels":
        pictures = [backbone.prepare(read_rgb(images[index])) for index in table.kept]
        height, width = backbone.preprocessing.height, backbone.preprocessing.width
        inputs = torch.from_numpy(np.stack(pictures)) if pictures else torch.zeros((0, height, width, 3)).byte()
    logits = predict_logits(method, state, inputs, shared).numpy()
    probabilities = softmax(logits, card["temperature"] or 1.0)
    reasons = dict(table.skipped)
    read = {int(index): row for index, row in zip(table.kept, probabilities, strict=True)}
    rows = []
    for index, path in enumerate(images):
        if index not in read:
            rows.append(ImageAnswer(path, None, None, reasons.get(path, "unreadable"), classes))
            continue
        row = read[index]
        sure = float(row.max()) >= card["abstain_below"]
        answer = classes[int(row.argmax())] if sure else None
        rows.append(ImageAnswer(path, answer, tuple(float(p) for p in row), "", classes))
    return Answers(
        study.name,
        classes,
        card["temperature"],
        card.get("temperature_source", "none"),
        bool(card["synthetic"]),
        tuple(rows),
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
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise CheckpointError(
            "the model card is missing or damaged, or was edited",
            where=str(path),
            remedy="Restore it from a backup, or run again",
        )
    return card
