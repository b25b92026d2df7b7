"""The audit of a run's private training: through the real trainer, with lowered noise, and in a run's dossier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from wardround.platform import private_training
from wardround.platform.config import Study
from wardround.platform.errors import MethodError, RunFolderError
from wardround.platform.methods.fedclip import FedClip
from wardround.platform.methods.method import SharedInputs, TrainingPart
from wardround.platform.methods.private_records import FaaClipJointly
from wardround.platform.privacy_audit import RunAudit, audit_run, audit_study
from wardround.platform.private_plan import PrivatePlan
from wardround.platform.private_training import PrivateWork, private_form, train_privately
from wardround.platform.run_folder import RunFolder
from wardround.platform.study_file import parse_study
from wardround.platform.terms import start_state
from wardround.privacy.differential_privacy.randomness import SecretStream
from wardround.privacy.differential_privacy.units import Units

# Canaries are told apart by their directions: in fewer dimensions they are in one another's way.
WIDE: dict[str, Any] = {"width": 256, "classes": 4, "epsilon": 1.0}
SMALL: dict[str, Any] = {"width": 64, "classes": 4, "epsilon": 1.0}


def study(method: str = "facmic", **changes: Any) -> Study:
    values: dict[str, Any] = {
        "name": "audited",
        "method": method,
        "data": {"dataset": "brain-mri", "path": "nowhere"},
        # With weight decay the update of an image that is sure already shows the weights, not the image.
        "training": {"lr": 1e-4, "weight_decay": 0.0},
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
    for hidden in (found.masked, found.private):  # the middle of nine: chance is 250
        assert abs(hidden.cosine) < 0.3
        assert 10 < hidden.rank < 490
    assert found.facts().gallery == 500


def test_lowered_noise_claims_nothing_and_is_found() -> None:
    found = audit_study(study(), **SMALL, divisor=8.0, canaries=400, guesses=100, steps=100, sample_rate=0.06)
    assert found.epsilon is None
    assert 0.97 <= found.full_epsilon <= 1.0
    assert found.bound.lower_bound > 1.0


def test_without_noise_nothing_is_hidden_and_json_can_say_so() -> None:
    off = float("inf")
    found = audit_study(study(), **SMALL, divisor=off, canaries=400, guesses=100, steps=100, sample_rate=0.06)
    assert found.noise_multiplier == 0.0
    assert found.bound.lower_bound >= 0.5 * found.bound.ceiling  # in 64 dimensions canaries are in one another's way
    assert found.as_dict()["divisor"] is None
    json.dumps(found.as_dict(), allow_nan=False)


def test_canaries_are_scored_by_the_loss_of_an_average_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    # What is looked for must be the gradient that training clips: the weight of adaptation depends on the batch.
    seen: set[int] = set()
    real = FaaClipJointly.losses

    def losses(self: Any, module: Any, batch: Any, shared: Any, alignment: Any, expected: int) -> Any:
        seen.add(expected)
        return real(self, module, batch, shared, alignment, expected)

    monkeypatch.setattr(FaaClipJointly, "losses", losses)
    monkeypatch.setattr(private_training, "PROBED", 30)  # the probe of the form has a batch of its own
    by_record = study("faa-clip", privacy={"epsilon": 1.0, "unit": "record", "alignment": "per-record"})
    audit_study(by_record, **SMALL, canaries=200, guesses=60, steps=3, sample_rate=0.15)
    assert seen == {30}


def test_the_auditor_sees_sums_before_they_are_projected() -> None:
    # Nobody is in the training: what is seen is noise alone, in every direction, and two are kept of it.
    private = study("fedclip", privacy={"epsilon": 1.0, "unit": "record", "directions": 2, "clip": 0.5})
    rows = torch.nn.functional.normalize(torch.randn(40, 32, generator=torch.Generator().manual_seed(0)), dim=1)
    method, shared = FedClip(), SharedInputs(rows[:4], 20.0, rows[4:])
    plan, empty = PrivatePlan(10, 0.5, 5.0, 1, 1, 3.0, ()), Units(np.zeros(0, dtype=np.int64), 10)
    nobody, seen = TrainingPart(rows[:0], torch.zeros(0, dtype=torch.int64)), {}
    train_privately(
        PrivateWork(private_form(method, private), empty, plan, 0.5, 1),
        method,
        start_state(private, method, shared),
        nobody,
        shared,
        private,
        seed=0,
        stream=SecretStream(bytes(32)),
        observer=lambda step, module, sums: seen.update({name: value.clone() for name, value in sums.items()}),
    )
    weight = seen["adapter.project_in.weight"]
    assert torch.linalg.matrix_rank(weight) == 32
    assert float(weight.std()) == pytest.approx(3.0 * 0.5, rel=0.1)


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
    for divisor in (0.0, 0.5, float("nan")):
        with pytest.raises(MethodError, match="noise cannot be divided by"):
            audit_run(tmp_path / "begun", divisor=divisor)


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
