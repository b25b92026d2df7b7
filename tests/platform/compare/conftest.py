"""Made-up cells, so that aggregation and storage are tested without training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from wardround.platform.compare.cells import CellRecord, CellResult
from wardround.platform.compare.grid import PlannedCell, Request, plan_grid
from wardround.platform.config import Study
from wardround.platform.study_file import parse_study

FILE = Path("/study.toml")
SITES, GROUPS = ("site-1", "site-2", "site-3"), 8


def make_request(*methods: str, changes: dict[str, Any] | None = None, **more: Any) -> Request:
    """A comparison of a study that is never run."""
    values = {"name": "small", "rounds": 3, "data": {"dataset": "brain-mri", "path": "nowhere"}, **(changes or {})}
    study: Study = parse_study(values, where=FILE)
    return Request(study, FILE, methods, **more)


def _answers(rng: np.random.Generator, skill: float, place: str, seed: int) -> dict[str, Any]:
    split = np.random.default_rng([seed, len(place), *place.encode()])
    groups = np.repeat(np.arange(GROUPS), split.integers(1, 4, GROUPS))
    labels = split.integers(0, 3, GROUPS)[groups]
    return {
        "labels": labels.tolist(),
        "groups": [f"{place}-{seed}-{group}" for group in groups],
        "correct": (rng.random(len(groups)) < skill).astype(float).tolist(),
    }


def make_result(cell: PlannedCell, skill: float, **changes: Any) -> dict[str, Any]:
    """What a cell could have come to; the same test images for all cells of a seed and fold."""
    key = cell.key
    rng = np.random.default_rng([key.seed, *f"{key.method} {key.variant} {key.fold}".encode()])

    def figures() -> dict[str, float | None]:
        names = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "ece", "brier")
        return {"n": 10, **{name: float(rng.uniform(0.3, 0.9)) for name in names}, "temperature": None}

    sites = [name for name in (*SITES, "unseen") if name != key.fold]
    federated = cell.method.exchange == "federated"
    result = {
        "method": key.method,
        "options": {"depth": 5},
        "exchange": cell.method.exchange,
        "consumes": cell.method.consumes,
        "rounds": cell.rounds,
        "transductive": False,
        "sites": {name: figures() for name in sites},
        "unseen": {key.fold: figures()},
        "answers": {
            "sites": {name: _answers(rng, skill, name, key.seed) for name in sites},
            "unseen": {key.fold: _answers(rng, skill, f"all of {key.fold}", key.seed)},
        },
        "curve": [
            {"round": i, "train_loss": 1.0 / i, "balanced_accuracy": float(rng.uniform(0.3, 0.9))}
            for i in range(1, cell.rounds + 1)
        ],
        "traffic": {
            "bytes_up": 9000 if federated else 0,
            "bytes_down": 0,
            "up_per_site_round": 1000.0 + key.seed if federated else 0.0,
            "parameters": {"adapter": 250} if federated else {},
        },
        "seconds": 2.0 + key.seed,
    }
    return {**result, **changes}


def make_record(cell: PlannedCell, skill: float = 0.6, **changes: Any) -> CellRecord:
    """As it would be read from disk."""
    result = msgspec.convert(make_result(cell, skill, **changes), type=CellResult)
    return CellRecord(1, "0.1.0", cell.study.digest(), cell.study.model_dump(mode="json"), "ab" * 32, "cd" * 32, result)


@pytest.fixture(scope="session")
def request_of() -> Callable[..., Request]:
    """``request_of(*methods, changes={}, **more)``: what is compared, on a study that is never run."""
    return make_request


@pytest.fixture(scope="session")
def result_of() -> Callable[..., dict[str, Any]]:
    """``result_of(cell, skill, **changes)``: what :func:`run_cell` could have returned."""
    return make_result


@pytest.fixture(scope="session")
def record_of() -> Callable[..., CellRecord]:
    """``record_of(cell, skill=0.6, **changes)``: a finished cell."""
    return make_record


@pytest.fixture(scope="session")
def cells_of() -> Callable[[Request], tuple[PlannedCell, ...]]:
    """``cells_of(request)``: its grid."""
    return lambda request: plan_grid(request)
