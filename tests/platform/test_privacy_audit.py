"""The audit of a run's private training: through the real trainer, with lowered noise, and in a run's dossier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from wardround.platform.config import Study
from wardround.platform.errors import MethodError, RunFolderError
from wardround.platform.privacy_audit import RunAudit, audit_run, audit_study
from wardround.platform.run_folder import RunFolder
from wardround.platform.study_file import parse_study

# Canaries are told apart by their directions: in fewer dimensions they are in one another's way.
WIDE: dict[str, Any] = {"width": 256, "classes": 4, "epsilon": 1.0}
SMALL: dict[str, Any] = {"width": 64, "classes": 4, "epsilon": 1.0}


def study(method: str = "facmic", **changes: Any) -> Study:
    values: dict[str, Any] = {
        "name": "audited",
        "method": method,
        "data": {"dataset": "brain-mri", "path": "nowhere"},
        "training": {"lr": 1e-4},
        "privacy": {"epsilon": 1.0, "unit": "record"},
        **changes,
    }
    if method in ("facmic", "faa-clip"):
        values[method.replace("-", "_")] = {"normalisation": "layer"}
    return parse_study(values, where=Path("study.toml"))


@pytest.mark.parametrize("method", ["fedclip", "facmic", "faa-clip"])
def test_an_audit_goes_through_the_training_of_every_method_with_layers(method: str) -> None:
    found = audit_study(study(method), **SMALL, canaries=200, guesses=60, steps=40, sample_rate=0.15)
    assert found.bound.guesses == 60
    assert 0.0 <= found.bound.lower_bound <= 1.0 < found.bound.ceiling
    assert found.epsilon is not None
    assert 0.97 <= found.epsilon <= 1.0
    assert found.membership.members + found.membership.others <= 200
    assert (found.unmasked.rank, found.unmasked.others) == (1, 499)
    assert found.unmasked.cosine > 0.6
    assert abs(found.masked.cosine) < 0.5
    assert found.facts().gallery == 500


def test_lowered_noise_claims_nothing_and_is_found() -> None:
    found = audit_study(study(), **SMALL, divisor=8.0, canaries=400, guesses=100, steps=100, sample_rate=0.06)
    assert found.epsilon is None
    assert found.bound.lower_bound > 1.0


def test_prompts_cannot_be_audited_and_say_why() -> None:
    with pytest.raises(MethodError, match="canaries cannot be followed through the training of 'prompt-fl'"):
        audit_study(study("prompt-fl"), **SMALL)


def test_a_run_without_a_claim_is_refused(tmp_path: Path) -> None:
    plain = parse_study({"name": "plain", "data": {"dataset": "brain-mri", "path": "x"}}, where=tmp_path / "s.toml")
    RunFolder.create(tmp_path / "plain", plain)
    with pytest.raises(RunFolderError, match="without differential privacy"):
        audit_run(tmp_path / "plain")
    RunFolder.create(tmp_path / "begun", study())
    with pytest.raises(RunFolderError, match="not complete"):
        audit_run(tmp_path / "begun")
    with pytest.raises(MethodError, match="noise cannot be divided by 0"):
        audit_run(tmp_path / "begun", divisor=0.0)


def bounds(divisor: float) -> list[RunAudit]:
    return [audit_study(study(), **WIDE, divisor=divisor) for _ in range(5)]


@pytest.mark.slow
def test_five_runs_with_all_of_the_noise_stay_below_the_claim() -> None:
    assert all(found.bound.lower_bound <= 1.0 for found in bounds(1.0))


@pytest.mark.slow
@pytest.mark.parametrize(("divisor", "least"), [(4.0, 1.3), (8.0, 3.0)])
def test_five_runs_with_a_part_of_the_noise_are_found_out(divisor: float, least: float) -> None:
    assert all(found.bound.lower_bound > least for found in bounds(divisor))


@pytest.mark.slow
def test_five_runs_without_noise_reach_the_ceiling() -> None:
    assert all(found.bound.lower_bound >= 0.8 * found.bound.ceiling for found in bounds(float("inf")))
