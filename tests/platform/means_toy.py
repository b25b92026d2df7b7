"""Toy studies that align to class means, and what their tests have in common."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from wardround.medical_datasets.cohort import Record
from wardround.platform.adapter_file import dump_adapter, parse_adapter
from wardround.platform.class_means import CLASS_MEANS
from wardround.platform.consortium import Consortium, open_consortium
from wardround.platform.engines.local import carry
from wardround.platform.federation import Federated, federate
from wardround.platform.site_machine import Site
from wardround.platform.study_data import Part, SiteData, StudyData
from wardround.platform.watching import Silent
from wardround.privacy.egress import COORDINATOR
from wardround.privacy.messages import (
    TO_COORDINATOR,
    TO_SITE,
    Limits,
    Message,
    RefusalNotice,
    decode,
    encode,
)

LARGE = Limits(100, 10**7, 10**7)
ALIGNED = {"reference": {"source": "class-means"}}
NAME = "site-1"
WIDTH = 16
EVEN = ((8, 8, 8), (9, 9, 9), (10, 10, 10))  # training images of each site, by class: what the toy has anyway
Opener = Callable[..., Any]


@dataclass
class Notes(Silent):
    texts: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.texts.append(text)


def with_counts(data: StudyData, counts: tuple[tuple[int, ...], ...]) -> StudyData:
    """The toy's data with so many training images of each site and class, and no reference set."""
    records, sites = list(data.cohort.records), []
    for site, own in zip(data.sites, counts, strict=True):
        generator = np.random.default_rng(sum(own))
        labels = np.repeat(np.arange(len(own)), own).astype(np.int64)
        x = generator.normal(size=(len(labels), WIDTH)) * 0.3 + np.eye(len(own), WIDTH)[labels]
        x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        rows = np.arange(len(records), len(records) + len(labels), dtype=np.int64)
        groups = tuple(f"{site.name}-{row}" for row in rows)
        of_rows = zip(rows, labels, groups, strict=True)
        records += [Record(Path(f"{row}.png"), int(label), group, site.name) for row, label, group in of_rows]
        sites.append(SiteData(site.name, Part(rows, x, labels, groups), site.validation, site.test))
    shared = replace(data.shared, reference=torch.zeros((0, WIDTH)))
    return replace(
        data, cohort=replace(data.cohort, records=tuple(records)), sites=tuple(sites), shared=shared, reference_n=0
    )


@dataclass
class Made:
    """One toy study in one folder; opened as often as wanted."""

    toy: Any
    data: StudyData
    backbone: str

    @contextmanager
    def open(self, data: StudyData | None = None, clock: Any = None) -> Iterator[Consortium]:
        clocks = {} if clock is None else {"clock": clock}
        with open_consortium(
            self.toy.study, self.toy.method, data or self.data, self.backbone, self.toy.run, **clocks
        ) as consortium:
            yield consortium

    def run(self, tap: Any = None, watch: Any = None) -> Federated:
        return federate(self.toy.study, self.toy.method, self.data, self.backbone, self.toy.run, watch or Silent(), tap)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.data.cohort.dataset.class_names)

    def state(self, site: str = NAME) -> Path:
        (folder,) = self.toy.run.homes.glob(f"{site}/state/*")
        return folder


def builder(toy: Callable[..., Any], toy_data: Callable[..., Any], folder: Path, backbone: str) -> Callable[..., Made]:
    """``make(name="run", counts=EVEN, **changes)``: a study that aligns to class means, not opened yet."""

    def make(name: str = "run", counts: tuple[tuple[int, ...], ...] = EVEN, **changes: Any) -> Made:
        made = toy(folder / name, **{**ALIGNED, "rounds": 2, **changes})
        return Made(made, with_counts(toy_data(sites=len(counts)), counts), backbone)

    return make


def sum_means(consortium: Consortium, tap: Any = None) -> None:
    assert consortium.coordinator.means_due
    carry(consortium.coordinator, consortium.sites, consortium.coordinator.begin(), tap)
    carry(consortium.coordinator, consortium.sites, consortium.coordinator.commit(), tap)
    assert not consortium.coordinator.means_due


def whole_round(consortium: Consortium, tap: Any = None) -> None:
    number = consortium.coordinator.info.round
    carry(consortium.coordinator, consortium.sites, consortium.coordinator.begin(), tap)
    carry(consortium.coordinator, consortium.sites, consortium.coordinator.commit(), tap)
    assert consortium.coordinator.info.round == number + 1


def hold(consortium: Consortium, tag: str, name: str = NAME) -> bytes:
    """Begin, and carry until a message of type ``tag`` is due at the site; that one is not delivered but returned."""
    queue = deque((COORDINATOR, parcel) for parcel in consortium.coordinator.begin())
    while queue:
        sender, parcel = queue.popleft()
        if parcel.peer == name and parcel.tag == tag:
            return parcel.wire
        if parcel.peer == COORDINATOR:
            queue.extend((COORDINATOR, answer) for answer in consortium.coordinator.handle(sender, parcel.wire))
        else:
            queue.extend((parcel.peer, answer) for answer in consortium.sites[parcel.peer].handle(parcel.wire))
    raise AssertionError(f"no {tag} came")


def reply(parcels: Any) -> Message | None:
    assert len(parcels) <= 1
    return decode(parcels[0].wire, TO_COORDINATOR, LARGE) if parcels else None


def refusal(parcels: Any) -> RefusalNotice:
    message = reply(parcels)
    assert isinstance(message, RefusalNotice), message
    return message


def changed(wire: bytes, **fields: Any) -> bytes:
    """A message of the coordinator with other fields; those of the session by their names."""
    message: Any = decode(wire, TO_SITE, LARGE)
    of_session = {key: fields.pop(key) for key in list(fields) if key in ("round", "purpose", "sequence", "attempt")}
    session = msgspec.structs.replace(message.session, **of_session)
    return encode(msgspec.structs.replace(message, session=session, **fields))


def with_means(wire: bytes, change: Callable[[torch.Tensor], torch.Tensor]) -> bytes:
    """A start or study-end whose class means are others."""
    message: Any = decode(wire, TO_SITE, LARGE)
    tensors, info = parse_adapter(message.adapter, where="test")
    tensors[CLASS_MEANS] = change(tensors[CLASS_MEANS].clone())
    return encode(msgspec.structs.replace(message, adapter=dump_adapter(tensors, info)))


def swapped(means: torch.Tensor) -> torch.Tensor:
    return means[[1, 0, 2]]


def files_of(site: Site) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in site.folder.iterdir() if path.suffix == ".json"}
