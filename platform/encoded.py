"""The images of a dealt-out cohort as features, each site's through its own camera where the study shifts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..medical_datasets import pixels
from ..medical_datasets.camera_shift import CameraShift
from ..medical_datasets.cohort import Picture, Skipped
from ..medical_datasets.reading import DIRECT, Reader
from .backbone import Backbone
from .cohorts import Index, StudyPlan
from .features import Progress, encode


@dataclass(frozen=True, slots=True)
class Encoded:
    """Features by record.

    Attributes:
        plan: the dealt-out cohort.
        features: (n, D) float32, one row a record that could be read.
        place: (records,) int64, the row of each record, or -1.
        contents: what each image is known by (:func:`pixels.content_hash`), hexadecimal, by record; empty where it
            could not be read.
        cameras: each record's camera.
        skipped: files that could not be decoded.
    """

    plan: StudyPlan
    features: NDArray[np.float32]
    place: Index
    contents: Sequence[str]
    cameras: Sequence[CameraShift]
    skipped: tuple[Skipped, ...]

    def readable(self, rows: Index) -> Index:
        """Those of ``rows`` that could be read."""
        return rows[self.place[rows] >= 0]

    def features_of(self, rows: Index) -> NDArray[np.float32]:
        """(n, D) float32 of readable records."""
        return self.features[self.place[rows]]

    def contents_of(self, rows: Index) -> list[str]:
        """Content hashes of records."""
        return [self.contents[row] for row in rows]

    def pictures_of(self, rows: Index, backbone: Backbone) -> NDArray[np.uint8]:
        """(n, H, W, 3) uint8 of readable records, at the backbone's size, through each one's camera."""
        height, width = backbone.preprocessing.height, backbone.preprocessing.width
        pictures = np.empty((len(rows), height, width, 3), dtype=np.uint8)
        for at, row in enumerate(rows):
            rgb = pixels.read_rgb(self.plan.cohort.records[row].image)
            pictures[at] = backbone.prepare(self.cameras[row](rgb))
        return pictures


def encode_plan(
    plan: StudyPlan,
    backbone: Backbone,
    shift: float,
    cache: Path,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
    without: Index | None = None,
    reader: Reader = DIRECT,
) -> Encoded:
    """Encode every record of a plan, or take it from the cache.

    Args:
        plan: who holds what.
        backbone: the frozen encoder.
        shift: strength of each site's own camera, 0..1; the reference set has the unchanged one.
        cache: folder of the feature cache; pictures through a camera are entries of their own.
        progress: called with (images done, images in all, images a second).
        note: told of cache entries that were damaged or stale and were made again.
        without: records that are neither read nor encoded, and have no row.
        reader: says what each image is known by.
    """
    records = plan.cohort.records
    left_out = np.zeros(len(records), dtype=bool)
    left_out[without if without is not None else []] = True
    total = len(records) - int(left_out.sum())
    place = np.full(len(records), -1, dtype=np.int64)
    contents = [""] * len(records)
    cameras = [CameraShift("", 0.0, False)] * len(records)
    parts: list[NDArray[np.float32]] = []
    skipped: list[Skipped] = []
    done = 0
    for camera, every in _cameras(plan, shift):
        rows = every[~left_out[every]]
        own: dict[str, str] = {}
        table = encode(
            [records[row].image for row in rows],
            backbone,
            cache=cache,
            progress=_counting(progress, done, total),
            read=_through(camera),
            hash_file=_hashing(camera, own, reader),
        )
        for at, row in enumerate(rows[table.kept]):
            contents[row] = own[table.hashes[at]]
        for row in rows:
            cameras[row] = camera
        place[rows[table.kept]] = sum(len(part) for part in parts) + np.arange(len(table.kept))
        parts.append(table.features)
        skipped += [Skipped(Path(str(image)), reason) for image, reason in table.skipped]
        done += len(rows)
        if note is not None:
            for issue in table.issues:
                note(f"feature cache: {issue.shard}: {issue.reason}; removed and made again")
    features = np.concatenate(parts) if parts else np.zeros((0, backbone.embed_dim), dtype=np.float32)
    return Encoded(plan, features, place, contents, cameras, tuple(skipped))


def _cameras(plan: StudyPlan, shift: float) -> Iterator[tuple[CameraShift, Index]]:
    """Every record once, by camera; one camera for all without a shift."""
    everything = np.arange(len(plan.cohort.records), dtype=np.int64)
    if shift == 0.0:
        yield CameraShift("", 0.0, False), everything
        return
    colour = not plan.cohort.dataset.grey
    left = np.ones(len(everything), dtype=bool)
    for site in (*plan.sites, *((plan.unseen,) if plan.unseen else ())):
        rows = np.sort(np.concatenate([site.train, site.validation, site.test]))
        left[rows] = False
        yield CameraShift(site.name, shift, colour), rows
    yield CameraShift("", 0.0, colour), everything[left]


def _through(camera: CameraShift) -> Callable[[Picture], NDArray[np.uint8]]:
    return lambda image: camera(pixels.read_rgb(image))


def _hashing(camera: CameraShift, own: dict[str, str], reader: Reader) -> Callable[[Picture], str]:
    """Names an entry of the cache by content and camera; remembers the content's own hash in ``own``."""

    def name(image: Picture) -> str:
        content = reader.content_hash(image)
        tag = camera.tag()
        key = sha256(f"{content} {tag}".encode()).hexdigest() if tag else content
        own[key] = content
        return key

    return name


def _counting(progress: Progress | None, done: int, total: int) -> Progress | None:
    return None if progress is None else lambda some, _, rate: progress(done + some, total, rate)
