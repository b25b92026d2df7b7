"""Run folders of toy studies with all their ledgers, made by the real simulation without pictures and baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from wardround.platform import opening, simulation, study_parts
from wardround.platform.simulation import simulate

from ..toy_plan import stand_in

Edit = Callable[[str], str]


def make_run(
    out: Path,
    toy_study: Callable[..., Any],
    data: Any,
    backbone: str,
    *,
    edits: Mapping[int, Edit] | None = None,
    **values: Any,
) -> Path:
    """A complete run.

    Args:
        out: new. toy_study: the fixture. data: from ``toy_data``. backbone: ``BACKBONE``.
        edits: by place of a site, from 0, what is changed in its policy.
        values: of the study.
    """
    toy = SimpleNamespace(name="toy", weights="none", fingerprint=backbone, embed_dim=16)
    real, made = opening.default_policy_toml, []

    def policy(*arguments: Any, **options: Any) -> str:
        made.append(1)
        return (edits or {}).get(len(made) - 1, str)(real(*arguments, **options))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_parts, "load_backbone", lambda *_, **__: toy)
        stand_in(patch, data)
        nothing = {"federated": None, "zero_shot": None, "local_only": None}
        patch.setattr(simulation, "assess_study", lambda *_: nothing)
        patch.setattr(simulation, "write_results", lambda run, *_: run.summary.write_text("{}"))
        patch.setattr(opening, "default_policy_toml", policy)
        simulate(toy_study(**values), out)
    return out
