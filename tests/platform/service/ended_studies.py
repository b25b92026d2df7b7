"""Toy studies of three sites that have ended, as fixtures for what coordinator and sites write then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from wardround.platform import study_parts
from wardround.platform.consortium import Consortium, open_consortium
from wardround.platform.methods.table import method_of
from wardround.platform.own_data import OwnData
from wardround.platform.run_folder import RunFolder
from wardround.platform.simulation import simulate
from wardround.platform.site_side import SiteSide
from wardround.platform.study_data import StudyData

from ..toy_plan import stand_in

SUMS = {"evaluation": {"federated": True}, "rounds": 2}
PRIVATE = {
    "rounds": 2,
    "facmic": {"normalisation": "layer", "adaptation_weight": 0.1},
    "privacy": {"epsilon": 8.0, "delta": 1e-3, "class_noise": 5.0},
}


def toy_backbone(fingerprint: str) -> Any:
    """What stands for an encoder where features are drawn."""
    return SimpleNamespace(name="toy", weights="none", fingerprint=fingerprint, embed_dim=16)


def simulated(out: Path, study: Any, data: StudyData, backbone: Any) -> RunFolder:
    """The study, simulated to its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_parts, "load_backbone", lambda *_, **__: backbone)
        stand_in(patch, data)
        return simulate(study, out)


@contextmanager
def reopened(run: RunFolder, study: Any, data: StudyData, backbone: Any) -> Iterator[Consortium]:
    """Its consortium once more, standing after the last round."""
    with open_consortium(study, method_of(study), data, backbone.fingerprint, run) as consortium:
        yield consortium


def side_of(consortium: Consortium, name: str) -> SiteSide:
    """One site of it, as it stands on a machine of its own."""
    return SiteSide(
        consortium.sites[name],
        consortium.homes[name],
        consortium.ledgers[name],
        consortium.trainers[name],
        consortium.budgets.get(name),
        True,
    )


def own_part(data: StudyData, name: str) -> OwnData:
    """What one site has of the data."""
    return OwnData(replace(data, sites=tuple(site for site in data.sites if site.name == name), unseen=None), ())


def without_data(data: StudyData) -> Any:
    """What the coordinator has of it."""
    return replace(data.shared, reference=torch.zeros((0, data.shared.text.shape[1])), reference_labels=None)
