"""A toy study without pictures: separable features at three sites and an unseen one, as fixtures.

Test modules are imported one by one (``--import-mode=importlib``), so they share helpers through fixtures:
``toy``, ``toy_data`` and ``toy_study`` are factories, ``BACKBONE`` is the fingerprint of the backbone that the toy's
features pretend to come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from wardround.medical_datasets.class_folders import list_class_folders
from wardround.medical_datasets.cohort import ClassLabel, Cohort, Dataset, Record
from wardround.platform.adapters import state_of
from wardround.platform.assessment import assess_local_only, assess_shared, trained, zero_shot
from wardround.platform.backbone import Backbone
from wardround.platform.config import Study
from wardround.platform.methods.method import Method, SharedInputs
from wardround.platform.methods.table import method_of
from wardround.platform.preprocessing import Preprocessing
from wardround.platform.results import Results, Transmissions
from wardround.platform.run_folder import RunFolder
from wardround.platform.study_data import Part, SiteData, StudyData
from wardround.platform.study_file import parse_study

WIDTH, CLASSES = 16, 3
BACKBONE = "ab" * 32


def make_study(**changes: Any) -> Study:
    """A study file's values with the few keys it needs, and whatever is changed."""
    values: dict[str, Any] = {
        "name": "toy",
        "rounds": 3,
        "data": {"dataset": "brain-mri", "path": "nowhere"},
        "training": {"lr": 1e-3, "batch_size": 8},
        "evaluation": {"federated": False},  # two more sums a study, which test_figures_loop.py is about
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) and key in values else value
    return parse_study(values, where=Path("/study.toml"))


def make_data(sites: int = 3, train: int = 24, seed: int = 0) -> StudyData:
    """Features around one centre per class; each site's centres are shifted."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(CLASSES, WIDTH))
    labels = tuple(ClassLabel(name, name.title(), (f"a picture of {name}",)) for name in ("ash", "beech", "cedar"))
    dataset = Dataset(
        "toy", "Toy trees", "brain-mri", labels, (), "tree", "", (), "none", "none", "drawn", read=list_class_folders
    )
    records: list[Record] = []

    def part(site: str, count: int) -> Part:
        y = np.arange(count, dtype=np.int64) % CLASSES
        shift = generator.normal(size=WIDTH) * 0.3
        x = centres[y] + shift + generator.normal(size=(count, WIDTH)) * 0.5
        x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        rows = np.arange(len(records), len(records) + count, dtype=np.int64)
        groups = tuple(f"{site}-{row}" for row in rows)
        records.extend(
            Record(Path(f"{row}.png"), int(label), group, site)
            for row, label, group in zip(rows, y, groups, strict=True)
        )
        return Part(rows, x, y, groups)

    members = tuple(
        SiteData(name, part(name, train + 3 * i), part(name, 12), part(name, 12))
        for i, name in enumerate(f"site-{k + 1}" for k in range(sites))
    )
    unseen = SiteData("unseen", part("unseen", 0), part("unseen", 0), part("unseen", 12))
    reference = part("reference", 20)
    text = centres + generator.normal(size=centres.shape)
    text = (text / np.linalg.norm(text, axis=1, keepdims=True)).astype(np.float32)
    shared = SharedInputs(torch.from_numpy(text), 20.0, torch.from_numpy(reference.features))
    cohort = Cohort(dataset, Path("/nowhere"), tuple(records), synthetic=True)
    return StudyData(cohort, members, unseen, shared, 20)


@dataclass(frozen=True)
class Toy:
    """A toy study with its data and an empty run folder."""

    study: Study
    data: StudyData
    method: Method
    run: RunFolder


def make_toy(folder: Path, **changes: Any) -> Toy:
    """A toy study in ``folder``, with the method that it names."""
    study = make_study(**changes)
    return Toy(study, make_data(), method_of(study), RunFolder.create(folder, study))


def make_results(toy: Toy, *, unseen: bool = True, skipped: int = 0) -> Results:
    """What a finished run of ``toy`` would know, with untrained adapters in the place of trained ones."""
    data = toy.data if unseen else replace(toy.data, unseen=None)
    classes = data.cohort.dataset.class_names

    def model(seed: int) -> Any:
        return trained(toy.method, state_of(toy.method.new_module(data.shared, seed=seed)), data.shared)

    names = [site.name for site in data.sites]
    rounds = [
        {
            "round": number,
            "participants": names,
            "dropped": {},
            "seconds": {"total": 0.25 * number},
            "bytes_up": 1000 + number,
            "bytes_down": 2000 + number,
            "train_loss": 1.0 / number,
            "validation": {"balanced_accuracy": 0.5, "sites": {}},
        }
        for number in (1, 2, 3)
    ]
    backbone = SimpleNamespace(name="embedded", weights="shipped", fingerprint=BACKBONE, embed_dim=WIDTH)
    return Results(
        study=toy.study,
        backbone=backbone,  # type: ignore[arg-type]
        method=toy.method,
        data=data,
        federated=assess_shared(model(100), data, classes),
        zero_shot=assess_shared(zero_shot(data.shared), data, classes),
        local_only=assess_local_only({name: model(seed) for seed, name in enumerate(names)}, data, classes),
        rounds=rounds,
        sent={name: Transmissions(100 * (k + 1), 10 + k, 20 + k, f"{k}" * 64) for k, name in enumerate(names)},
        received=Transmissions(5000, 50, 90, "f" * 64),
        threshold=3,
        adapter_sha256="cd" * 32,
        seconds=12.3456,
        skipped=skipped,
    )


@pytest.fixture(scope="session", autouse=True)
def unguarded() -> Iterator[None]:
    """Commands that run in this process leave its umask and its memory as they are; `test_runtime` guards another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wardround.platform.service.runtime.guard_memory", lambda: None)
        yield


@pytest.fixture(name="BACKBONE", scope="session")
def backbone_fingerprint() -> str:
    return BACKBONE


@pytest.fixture(scope="session")
def toy_study() -> Callable[..., Study]:
    """``toy_study(**changes)``: the parsed toy study file with the named keys changed."""
    return make_study


@pytest.fixture(scope="session")
def toy_data() -> Callable[..., StudyData]:
    """``toy_data(sites=3, train=24, seed=0)``: features, splits and reference set of the toy study."""
    return make_data


@pytest.fixture(scope="session")
def toy() -> Callable[..., Toy]:
    """``toy(folder, **changes)``: study, data, method and a fresh run folder at ``folder``."""
    return make_toy


@pytest.fixture(scope="session")
def toy_results() -> Callable[..., Results]:
    """``toy_results(toy, unseen=True, skipped=0)``: what a finished run of that toy would know."""
    return make_results


def make_tiny_backbone(width: int) -> Backbone:
    """A real CLIP, as small as one can be, with random weights of seed 0."""
    config = {
        "embed_dim": width,
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1},
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.CLIP(**config)  # type: ignore[arg-type]
    return Backbone(
        model,
        lambda texts: torch.ones((len(texts), 8), dtype=torch.int64),
        name="tiny",
        weights="random",
        config=config,
        preprocessing=Preprocessing(16, 16, (0.5,) * 3, (0.25,) * 3),
        device=torch.device("cpu"),
    )


@pytest.fixture(scope="session")
def tiny_backbone() -> Callable[[int], Backbone]:
    """``tiny_backbone(width)``: an encoder that takes real pictures, in milliseconds."""
    return make_tiny_backbone
