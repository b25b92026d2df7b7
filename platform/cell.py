"""One cell of a comparison: one method in one study, from features to figures, without a dossier.

A federated method really runs: homes, rounds under secure aggregation, ledgers. So its bytes are those on the wire.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..evaluation.metrics import figures
from ..medical_datasets.cohort import Cohort
from .adapters import State
from .assessment import Assessment, Predictor, assess_local_only, assess_shared, trained, zero_shot
from .baselines import train_alone, train_pooled
from .calibration import carries_temperature
from .config import Study
from .federation import assess_federated, federate
from .marks import looks_at_reference
from .methods.method import Method
from .run_folder import RunFolder
from .study_data import Part, StudyData
from .watching import Watcher

Curve = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was sent, by the ledgers of both sides; all 0 where nothing is exchanged.

    Attributes:
        bytes_up: wire bytes that left all sites.
        bytes_down: wire bytes that left the coordinator.
        up_per_site_round: bytes that left one site in one round, mean over sites and rounds.
        parameters: float32 numbers of one update, by block.
    """

    bytes_up: int = 0
    bytes_down: int = 0
    up_per_site_round: float = 0.0
    parameters: Mapping[str, int] | None = None


def run_cell(
    study: Study,
    method: Method,
    data: StudyData,
    backbone: str,
    run: Callable[[], RunFolder],
    watch: Watcher,
) -> dict[str, Any]:
    """Train and measure one method.

    Args:
        study: resolved: this method, this seed, this site left out.
        method: of the study.
        data: the study's data, encoded as the method consumes it.
        backbone: fingerprint of the frozen CLIP.
        run: makes or opens the run folder of a federated method, locked by the caller's process; not called for others.
        watch: told of the progress.

    Returns:
        ``method``, ``options``, ``exchange``, ``consumes``, ``rounds``, ``transductive``, ``seconds``; ``sites`` and
        ``unseen``, by name the figures of :mod:`..evaluation.metrics` on test parts, each at its temperature;
        ``answers``, with ``sites`` and ``unseen`` by name: lists of ``labels``, ``groups`` (see :func:`group_numbers`)
        and ``correct``, one entry a test image, ``correct`` in 0..1: the share of models that are right where there
        are several (local-only on the unseen site);
        ``curve``, a list of ``round``, ``train_loss`` and ``balanced_accuracy`` over the validation parts of all
        sites; ``traffic``: ``bytes_up``, ``bytes_down``, ``up_per_site_round``, ``parameters`` by block.

    Raises:
        MethodError: a site cannot train.
        PrivacyError, RoundError, CheckpointError: with everything done so far kept in the run folder.
    """
    began = time.monotonic()
    classes = data.cohort.dataset.class_names
    curve: Curve = []
    traffic, earlier = Traffic(), 0.0
    models: Mapping[str, Predictor] = {}
    if method.exchange == "nothing":
        assessment = assess_shared(zero_shot(data.shared), data, classes)
    elif method.exchange == "alone":
        models = _train_each(study, method, data, curve, watch)
        assessment = assess_local_only(
            models, data, classes, consumes=method.consumes, calibrated=study.calibration.method == "federated-head"
        )
    elif method.exchange == "pooled":
        watch.stage("rounds")
        state = train_pooled(study, method, data, lambda *now: _note(curve, study, method, data, watch, *now))
        predict, calibrated = trained(method, state, data.shared), carries_temperature(state)
        assessment = assess_shared(predict, data, classes, consumes=method.consumes, calibrated=calibrated)
    else:
        # A comparison looks at predictions itself, and counts the bytes of training alone.
        plain = study.evaluation.model_copy(update={"federated": False})
        federated = federate(study.model_copy(update={"evaluation": plain}), method, data, backbone, run(), watch)
        assessment = assess_federated(method, data, federated, looks=True)
        earlier = federated.earlier
        curve = [
            {
                "round": record["round"],
                "train_loss": record["train_loss"],
                "balanced_accuracy": record["validation"]["balanced_accuracy"],
            }
            for record in federated.records
        ]
        up = sum(sent.bytes_sent for sent in federated.sent.values())
        each = up / len(federated.sent) / max(1, len(federated.records))
        traffic = Traffic(up, federated.received.bytes_sent, each, federated.parameters)
    return {
        "method": method.name,
        "options": method.options(),
        "exchange": method.exchange,
        "consumes": method.consumes,
        "rounds": len(curve),
        "transductive": data.transductive and looks_at_reference(study),
        "sites": {name: prediction.figures.as_dict() for name, prediction in assessment.sites.items()},
        "unseen": _unseen(data, assessment),
        "answers": _answers(study, method, data, assessment, models),
        "curve": curve,
        "traffic": {
            "bytes_up": traffic.bytes_up,
            "bytes_down": traffic.bytes_down,
            "up_per_site_round": traffic.up_per_site_round,
            "parameters": dict(traffic.parameters or {}),
        },
        "seconds": round(time.monotonic() - began + earlier, 3),
    }


def _train_each(study: Study, method: Method, data: StudyData, curve: Curve, watch: Watcher) -> dict[str, Predictor]:
    """A model a site; the curve is the mean over sites of each model's figures on its own validation part."""
    watch.stage("sites alone")
    models: dict[str, Predictor] = {}
    losses: dict[int, list[float]] = {}
    scores: dict[int, list[float]] = {}
    for number, site in enumerate(data.sites):

        def note(at: int, state: State, loss: float, validation: Part = site.validation) -> None:
            losses.setdefault(at, []).append(loss)
            logits = trained(method, state, data.shared)(validation.inputs(method.consumes))
            score = figures(logits, validation.labels, classes=data.cohort.dataset.class_names).balanced_accuracy
            if score is not None:
                scores.setdefault(at, []).append(score)

        part, held_out = site.train.training(method.consumes), site.validation.training(method.consumes)
        state = train_alone(study, method, site.name, part, held_out, data.shared, note)
        models[site.name] = trained(method, state, data.shared)
        watch.progress(number + 1, len(data.sites), "sites")
    for at in sorted(losses):
        mean = float(np.mean(scores[at])) if scores.get(at) else None
        curve.append({"round": at, "train_loss": float(np.mean(losses[at])), "balanced_accuracy": mean})
    return models


def _note(
    curve: Curve, study: Study, method: Method, data: StudyData, watch: Watcher, at: int, state: State, loss: float
) -> None:
    """A round of the pooled model on its curve."""
    predict = trained(method, state, data.shared)
    logits = np.concatenate([predict(site.validation.inputs(method.consumes)) for site in data.sites])
    labels = np.concatenate([site.validation.labels for site in data.sites])
    score = figures(logits, labels, classes=data.cohort.dataset.class_names).balanced_accuracy
    curve.append({"round": at, "train_loss": loss, "balanced_accuracy": score})
    watch.progress(at, study.rounds, "rounds")


def group_numbers(study: Study, cohort: Cohort) -> dict[str, str]:
    """A number in digits for each group: names of groups are names of patients, and tests need to tell them apart only.

    They are counted in the order of the cohort's records, so that one group has one number in all cells of the same
    images. Phantoms, which each seed draws anew, keep their names: nobody is called so.
    """
    names = dict.fromkeys(each.group for each in cohort.records)
    if study.data.source == "phantoms":
        return {name: name for name in names}
    return {name: str(number) for number, name in enumerate(names)}


def _unseen(data: StudyData, assessment: Assessment) -> dict[str, Any]:
    if data.unseen is None or assessment.unseen is None:
        return {}
    return {data.unseen.name: assessment.unseen.figures.as_dict()}


def _answers(
    study: Study, method: Method, data: StudyData, assessment: Assessment, models: Mapping[str, Predictor]
) -> dict[str, dict[str, Any]]:
    numbers = group_numbers(study, data.cohort)
    sites = {}
    for site in data.sites:
        right = assessment.sites[site.name].logits.argmax(axis=1) == site.test.labels
        sites[site.name] = _answer(site.test, numbers, right.astype(float).tolist())
    unseen = {}
    if data.unseen is not None and assessment.unseen is not None:
        part = data.unseen.test
        if models:
            inputs = part.inputs(method.consumes)
            rights = [predict(inputs).argmax(axis=1) == part.labels for predict in models.values()]
            correct = np.mean(rights, axis=0)
        else:
            correct = (assessment.unseen.logits.argmax(axis=1) == part.labels).astype(float)
        unseen[data.unseen.name] = _answer(part, numbers, correct.tolist())
    return {"sites": sites, "unseen": unseen}


def _answer(part: Part, numbers: Mapping[str, str], correct: Sequence[float]) -> dict[str, Any]:
    groups = [numbers[name] for name in part.groups]
    return {"labels": part.labels.tolist(), "groups": groups, "correct": list(correct)}
