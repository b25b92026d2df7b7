"""A toy study without pictures: separable features at three sites and an unseen one, as fixtures.

Test modules are imported one by one (``--import-mode=importlib``), so they share helpers through fixtures:
``toy``, ``toy_data`` and ``toy_study`` are factories, ``BACKBONE`` is the fingerprint of the backbone that the toy's
features pretend to come from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from wardround.medical_datasets.cohort import ClassLabel, Cohort, Dataset, Record
from wardround.platform.config import Study
from wardround.platform.methods.facmic import Facmic
from wardround.platform.methods.method import SharedInputs
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
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) and key in values else value
    return parse_study(values, where=Path("/study.toml"))


def make_data(sites: int = 3, train: int = 24, seed: int = 0) -> StudyData:
    """Features around one centre per class; each site's centres are shifted."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(CLASSES, WIDTH))
    labels = tuple(ClassLabel(name, name.title(), (f"a picture of {name}",)) for name in ("ash", "beech", "cedar"))
    dataset = Dataset("toy", "Toy trees", "brain-mri", labels, "tree", "none", "none", "drawn")
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
    method: Facmic
    run: RunFolder


def make_toy(folder: Path, **changes: Any) -> Toy:
    """A toy study in ``folder``."""
    study = make_study(**changes)
    return Toy(study, make_data(), Facmic(), RunFolder.create(folder, study))


@pytest.fixture(name="BACKBONE")
def backbone_fingerprint() -> str:
    return BACKBONE


@pytest.fixture
def toy_study() -> Callable[..., Study]:
    """``toy_study(**changes)``: the parsed toy study file with the named keys changed."""
    return make_study


@pytest.fixture
def toy_data() -> Callable[..., StudyData]:
    """``toy_data(sites=3, train=24, seed=0)``: features, splits and reference set of the toy study."""
    return make_data


@pytest.fixture
def toy() -> Callable[..., Toy]:
    """``toy(folder, **changes)``: study, data, method and a fresh run folder at ``folder``."""
    return make_toy
