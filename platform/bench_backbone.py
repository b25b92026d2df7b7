"""What a frozen backbone knows about a folder of images before any federation: probe, neighbours, zero-shot, speed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score

from ..evaluation.intervals import Interval, accuracy_interval, balanced_accuracy_interval
from ..evaluation.probes import FOLDS, linear_probe, nearest_neighbours
from ..medical_datasets import pixels
from ..medical_datasets.catalog import find_dataset, load_cohort, recognise
from ..medical_datasets.classes import keep_classes
from ..medical_datasets.cohort import Cohort, Picture
from .backbone import Backbone, fixed_numerics
from .errors import PlatformError
from .features import Progress, encode

TIMED_IMAGES = 64
TIMED_TURNS = 5
_TWO = "a probe needs the images of two classes"


@dataclass(frozen=True, slots=True)
class BackboneBench:
    """Figures of one backbone on one folder.

    Attributes:
        backbone: its name; fingerprint: what a study pins.
        dataset: key of the data set whose classes and prompts were used; classes: those with images.
        missing: classes of the data set without an image that could be read.
        n: images; groups: of them; skipped: files that could not be read or that a table does not list.
        probe_accuracy, probe_balanced_accuracy: of the linear probe, 0..1.
        knn_accuracy: of the ten nearest neighbours, 0..1.
        zero_shot_balanced_accuracy: of the class prompts alone, over the classes with images, 0..1.
        ms_per_image: milliseconds for an image in the encoder, normalisation included; on one core of a CPU.
        device: "cpu" or "cuda", where that was.
        intervals: 95 % bootstrap by group of each figure but the last, by its name.
    """

    backbone: str
    fingerprint: str
    dataset: str
    classes: tuple[str, ...]
    missing: tuple[str, ...]
    n: int
    groups: int
    skipped: int
    probe_accuracy: float
    probe_balanced_accuracy: float
    knn_accuracy: float
    zero_shot_balanced_accuracy: float
    ms_per_image: float
    device: str
    intervals: dict[str, Interval]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``: an interval is [low, high], or null with the reason under "notes"."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "intervals"}
        spans = {name: None if span.low is None else [span.low, span.high] for name, span in self.intervals.items()}
        lists = {"classes": list(self.classes), "missing": list(self.missing)}
        return values | lists | {"intervals": spans, "notes": self.notes}

    @property
    def notes(self) -> list[str]:
        """What to know about the intervals: too few groups, or too narrow for few."""
        return sorted({span.note for span in self.intervals.values() if span.note})


def measure(
    folder: Path,
    backbone: Backbone,
    *,
    cache: Path,
    dataset: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    stage: Callable[[str], None] = lambda _: None,
) -> BackboneBench:
    """Probe a backbone on the images of a folder.

    Args:
        folder: class folders, with a groups.csv or metadata.csv where there is one.
        backbone: the frozen model.
        cache: of features, see ``features.default_cache``.
        dataset: key of the data set; None recognises it by the class folders.
        seed: of folds and intervals.
        progress: of the encoding.
        stage: told what begins.

    Raises:
        DataError: the folder cannot be read as the data set.
        PlatformError: no image could be read, fewer than two classes, or a class with fewer than three groups.
        BackboneError, CacheError: as ``features.encode``.
    """
    stage("reading the folder")
    cohort = _with_images(folder, dataset)
    stage("encoding")
    table = encode([record.image for record in cohort.records], backbone, cache=cache, progress=progress)
    # A class may have had only files that look sound and cannot be decoded.
    cohort = replace(cohort, records=tuple(cohort.records[at] for at in table.kept.tolist()))
    cohort = _without_empty(cohort, [record.label for record in cohort.records], folder)
    records = cohort.records
    labels = np.array([record.label for record in records], dtype=np.int64)
    groups = [record.group for record in records]
    names = cohort.dataset.class_names
    _enough(labels, groups, names, folder)
    stage("linear probe")
    probed = linear_probe(table.features, labels, groups, seed=seed)
    near = _one_hot(nearest_neighbours(table.features, labels, groups, seed=seed), len(names))
    prompts = backbone.encode_prompts([label.prompts for label in cohort.dataset.classes])
    shown = backbone.logit_scale * table.features.astype(np.float64) @ prompts.T
    stage("timing")
    milliseconds = _time_encoder([record.image for record in records[:TIMED_IMAGES]], backbone)

    def balanced(logits: NDArray[np.float64]) -> float:
        return float(balanced_accuracy_score(labels, logits.argmax(axis=1)))

    def span(kind: Callable[..., Interval], logits: NDArray[np.float64]) -> Interval:
        return kind(logits, labels, groups, np.random.default_rng([seed, 1]))

    return BackboneBench(
        backbone=backbone.name,
        fingerprint=backbone.fingerprint,
        dataset=cohort.dataset.key,
        classes=names,
        missing=tuple(name for name in find_dataset(cohort.dataset.key).class_names if name not in names),
        n=len(labels),
        groups=len(set(groups)),
        skipped=len(cohort.skipped) + len(table.skipped),
        probe_accuracy=float(np.mean(probed.argmax(axis=1) == labels)),
        probe_balanced_accuracy=balanced(probed),
        knn_accuracy=float(np.mean(near.argmax(axis=1) == labels)),
        zero_shot_balanced_accuracy=balanced(shown),
        ms_per_image=milliseconds,
        device=backbone.device.type,
        intervals={
            "probe_accuracy": span(accuracy_interval, probed),
            "probe_balanced_accuracy": span(balanced_accuracy_interval, probed),
            "knn_accuracy": span(accuracy_interval, near),
            "zero_shot_balanced_accuracy": span(balanced_accuracy_interval, shown),
        },
    )


def _with_images(folder: Path, key: str | None) -> Cohort:
    """The cohort over those classes of the data set that have an image that can be read."""
    if folder.is_file():
        raise PlatformError(
            f"{folder.name} is a file and no folder of images",
            where=str(folder),
            remedy="name the folder that holds the class folders, data.path in a study file",
        )
    chosen = recognise(folder) if key is None else find_dataset(key)
    cohort = load_cohort(chosen.key, folder, allow_empty=True)
    return _without_empty(cohort, [record.label for record in cohort.records], folder)


def _without_empty(cohort: Cohort, labels: list[int], folder: Path) -> Cohort:
    """Leave out the classes that no label names; what was skipped stays counted."""
    names = cohort.dataset.class_names
    found = sorted(set(labels))
    if len(found) == 1:
        raise PlatformError(f"only {names[found[0]]!r} has images", where=str(folder), remedy=_TWO)
    if not found:
        raise PlatformError("no image could be read", where=str(folder), remedy=f"see wardround data check {folder}")
    new_label = {label: at for at, label in enumerate(found)}
    return replace(
        cohort,
        dataset=keep_classes(cohort.dataset, [names[label] for label in found]),
        records=tuple(
            replace(record, label=new_label[record.label]) for record in cohort.records if record.label in new_label
        ),
    )


def _enough(labels: NDArray[np.int64], groups: list[str], names: tuple[str, ...], folder: Path) -> None:
    """Refuse, by name, what folds cannot be made of."""
    for at, name in enumerate(names):
        found = len({group for group, label in zip(groups, labels.tolist(), strict=True) if label == at})
        if found < FOLDS:
            raise PlatformError(
                f"the images of {name!r} form {found} group{'s' * (found != 1)} of related ones",
                where=str(folder),
                remedy=f"{FOLDS} folds need {FOLDS} groups of each class: add images, or move this class away",
            )


def _one_hot(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    return np.asarray(np.eye(classes)[labels], dtype=np.float64)


def _time_encoder(paths: Sequence[Picture], backbone: Backbone) -> float:
    """Milliseconds an image on one thread: the median turn over whole batches of prepared pictures."""
    rows = [torch.from_numpy(backbone.prepare(pixels.read_rgb(path))) for path in paths]
    while len(rows) < backbone.batch_size:  # the encoder always works on whole batches
        rows += rows
    whole = len(rows) // backbone.batch_size * backbone.batch_size
    pictures = torch.stack(rows[:whole])
    turns: list[float] = []
    for _ in range(TIMED_TURNS):
        with fixed_numerics():
            start = time.perf_counter()
            for at in range(0, whole, backbone.batch_size):
                backbone.encode_prepared(pictures[at : at + backbone.batch_size])
            turns.append(time.perf_counter() - start)
    return 1000.0 * statistics.median(turns) / whole
