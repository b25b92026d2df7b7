"""What a round of FACMIC costs on cached features, whole: training, secure sum, ledgers, validation, checkpoint.

Features are drawn, not encoded: a round never touches pixels, so what they show makes no difference to its time.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..medical_datasets.cohort import Cohort, Record
from ..medical_datasets.sets.brain_mri import BRAIN_MRI
from .config import Study
from .federation import federate
from .ledger_timer import LedgerTimer, timed_ledgers
from .methods.method import SharedInputs
from .methods.table import method_of
from .run_folder import RunFolder
from .study_data import Part, SiteData, StudyData
from .study_file import parse_study
from .terms import start_state
from .training import train_locally
from .watching import Silent

SITES, IMAGES, HELD_OUT, REFERENCE = 3, 950, 120, 300  # three hospitals; held out is each of validation and test
FINGERPRINT = "0" * 64


@dataclass(frozen=True, slots=True)
class RoundBench:
    """Medians over the rounds after the first.

    Attributes:
        method: what was trained.
        sites, images, width: training sites, training images of each, feature width.
        rounds: how many were measured.
        round_ms: a whole round in this process, all sites one after the other, milliseconds.
        training_ms: the sites' training alone, without anything sent, milliseconds.
        overhead_ratio: round over training; >= about 1.
        bytes_up: wire bytes that one site sends in one round, mean.
        bytes_ratio: those over the update as plain float32.
        ledger_ms: of a round, all sites' and the coordinator's ledgers: entries, syncs, cosigning, commitments.
        ledger_share: those over the round.
    """

    method: str
    sites: int
    images: int
    width: int
    rounds: int
    round_ms: float
    training_ms: float
    overhead_ratio: float
    bytes_up: float
    bytes_ratio: float
    ledger_ms: float
    ledger_share: float

    def as_dict(self) -> dict[str, str | int | float]:
        """The figures under the names that ``--json`` prints."""
        return asdict(self)


def measure(*, rounds: int = 6, images: int = IMAGES, width: int = 512, seed: int = 0) -> RoundBench:
    """Run a study of drawn features, and the same training alone.

    Args:
        rounds: at least 2; the first is left out, because it warms caches.
        images: training images of each site.
        width: of the features.
        seed: of the features.
    """
    values = {"name": "bench-round", "rounds": rounds, "data": {"dataset": BRAIN_MRI.key, "path": "none"}}
    study = parse_study(values, where=Path("bench.toml"))
    method, data = method_of(study), _drawn(images, width, seed)
    with tempfile.TemporaryDirectory(prefix="wardround-bench-") as folder:
        run = RunFolder.create(Path(folder) / "run", study)
        with timed_ledgers() as timer:
            clock = _Clock(timer)
            federated = federate(study, method, data, FINGERPRINT, run, clock)
        sent = statistics.mean(sent.bytes_sent for sent in federated.sent.values()) / rounds
    alone = _train_alone(study, data, rounds)
    plain = 4 * sum(federated.parameters.values())
    spent = [end - begun for begun, end in itertools.pairwise(clock.ends)]
    whole, training = statistics.median(spent), statistics.median(alone[1:])
    return RoundBench(
        method=method.name,
        sites=SITES,
        images=images,
        width=width,
        rounds=rounds - 1,
        round_ms=1e3 * whole,
        training_ms=1e3 * training,
        overhead_ratio=whole / training,
        bytes_up=sent,
        bytes_ratio=sent / plain,
        ledger_ms=1e3 * statistics.median(end - begun for begun, end in itertools.pairwise(clock.ledgers)),
        ledger_share=statistics.median(end - begun for begun, end in itertools.pairwise(clock.ledgers)) / whole,
    )


class _Clock(Silent):
    """Notes when each round was over, checkpoint included: from one to the next is a whole round."""

    def __init__(self, timer: LedgerTimer) -> None:
        self.ends: list[float] = []
        self.ledgers: list[float] = []
        self._timer = timer

    def round_done(self, record: Mapping[str, Any], total: int) -> None:
        """Note the time, and what ledgers took of it so far."""
        self.ends.append(time.perf_counter())
        self.ledgers.append(self._timer.seconds)


def _train_alone(study: Study, data: StudyData, repeats: int) -> list[float]:
    """Seconds of every site's training of one round, without consortium, ledger or masks."""
    method = method_of(study)
    start, seconds = start_state(study, method, data.shared), []
    for number in range(repeats):
        began = time.perf_counter()
        for site in data.sites:
            train_locally(method, start, site.train.training(), data.shared, study.training, seed=number)
        seconds.append(time.perf_counter() - began)
    return seconds


def _drawn(images: int, width: int, seed: int) -> StudyData:
    draw = np.random.default_rng(seed)
    classes = len(BRAIN_MRI.classes)

    def unit(count: int) -> NDArray[np.float32]:
        rows = draw.normal(size=(count, width))
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)

    records: list[Record] = []

    def part(count: int) -> Part:
        labels = (np.arange(count) % classes).astype(np.int64)
        rows = np.arange(len(records), len(records) + count)
        groups = tuple(str(row) for row in rows.tolist())
        records.extend(Record(Path(name), int(label), name) for name, label in zip(groups, labels, strict=True))
        return Part(rows, unit(count), labels, groups)

    sites = tuple(SiteData(f"site-{i + 1}", part(images), part(HELD_OUT), part(HELD_OUT)) for i in range(SITES))
    shared = SharedInputs(torch.from_numpy(unit(classes)), 100.0, torch.from_numpy(unit(REFERENCE)))
    return StudyData(Cohort(BRAIN_MRI, Path("none"), tuple(records), synthetic=True), sites, None, shared, REFERENCE)
