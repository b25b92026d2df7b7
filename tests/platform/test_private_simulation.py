"""Whole studies under differential privacy: what leaves, what is spent, and what stops a site."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from wardround.evaluation.report_json import dossier_from_json
from wardround.platform import study_parts
from wardround.platform.errors import RoundError, StudyFileError
from wardround.platform.privacy_audit import audit_run
from wardround.platform.privacy_figures import run_privacy
from wardround.platform.simulation import simulate
from wardround.platform.watching import Silent
from wardround.privacy.errors import BudgetError

from .toy_plan import stand_in

PRIVATE: dict[str, Any] = {
    "facmic": {"normalisation": "layer", "adaptation_weight": 0.1},
    "privacy": {"epsilon": 8.0, "delta": 1e-3, "class_noise": 5.0},
}


class Killed(BaseException):
    """Like SIGKILL, for everything that would catch an exception."""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, toy_data: Callable[..., Any], BACKBONE: str) -> Any:
    """The toy's features in the place of images and a backbone."""
    data = toy_data()
    backbone = SimpleNamespace(name="toy", weights="none", fingerprint=BACKBONE, embed_dim=16)
    monkeypatch.setattr(study_parts, "load_backbone", lambda *arguments, **options: backbone)
    stand_in(monkeypatch, data)
    return data


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_nothing_without_noise_leaves_and_everything_is_paid_for_first(
    world: Any, toy_study: Callable[..., Any], tmp_path: Path
) -> None:
    study, parcels = toy_study(**PRIVATE), []
    run = simulate(study, tmp_path / "run", tap=lambda sender, peer, wire: parcels.append((sender, wire)))
    summary = json.loads(run.summary.read_bytes())
    for site in world.sites:
        own = summary["sites"][site.name]
        assert own["delta"] == 1e-3
        assert 7.8 < own["epsilon"] <= 8.0
        ledger = entries(run.site(site.name) / "ledger.jsonl")
        paid = [(entry["rule"], entry["stage"]) for entry in ledger if entry["kind"] == "budget"]
        wanted = ["class-sums", *(f"round-{n}" for n in range(1, study.rounds + 1))]
        assert paid == [(key, stage) for key in wanted for stage in ("charge", "seal")]
        vectors = [place for place, entry in enumerate(ledger) if entry["message_type"] == "masked-vector"]
        seals = [place for place, entry in enumerate(ledger) if entry["stage"] == "seal"][1:]
        assert len(vectors) == study.rounds
        assert all(seal < vector for seal, vector in zip(seals, vectors, strict=True))
        assert all(ledger[place]["dp"]["unit"] == "patient" for place in vectors)
        assert not list((run.homes / site.name).glob("state/*/class-sums.safetensors"))  # the study is over
    assert all(record["train_loss"] is None for record in run.read_rounds())
    roster = json.loads((run.homes / "site-1" / "state" / study.digest() / "roster.json").read_bytes())
    assert [block["name"] for block in roster["vectors"]["update"]] == ["adapter"]
    assert roster["differential_privacy"] is True
    assert [site["samples"] for site in roster["sites"]] == [len(set(site.train.groups)) for site in world.sites]
    card = json.loads(run.card.read_bytes())
    assert (card["unit"], card["delta"]) == ("patient", 1e-3)
    assert card["epsilon"] == max(own["epsilon"] for own in summary["sites"].values())
    assert parcels


@pytest.mark.parametrize("moment", [3, 14, 23])
def test_a_killed_run_goes_on_and_spends_nothing_twice(
    world: Any, toy_study: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Killed in the middle of some budget's write: before its file, or between file and ledger."""
    from wardround.privacy.differential_privacy import budget as place

    study, calls, real = toy_study(**PRIVATE), [0], place.write_atomic

    def dying(path: Path, data: bytes) -> None:
        calls[0] += 1
        if calls[0] == moment and moment % 2:
            raise Killed
        real(path, data)
        if calls[0] == moment:
            raise Killed

    monkeypatch.setattr(place, "write_atomic", dying)
    with pytest.raises(Killed):
        simulate(study, tmp_path / "run")
    monkeypatch.setattr(place, "write_atomic", real)
    run = simulate(study, tmp_path / "run", resume=True)
    for site in run_privacy(run, study):
        assert site.epsilon <= 8.0
        assert [release.key for release in site.releases] == ["class-sums", "round-1", "round-2", "round-3"]


def test_a_budget_that_was_edited_deleted_or_put_back_stops_the_run(
    world: Any, toy_study: Callable[..., Any], tmp_path: Path
) -> None:
    study = toy_study(**PRIVATE)
    seen: list[bytes] = []

    class Stopping(Silent):
        def round_done(self, record: Any, total: int) -> None:
            seen.append((tmp_path / "run" / "homes" / "site-1" / "budget.json").read_bytes())
            if record["round"] == 2:
                raise Killed

    with pytest.raises(Killed):
        simulate(study, tmp_path / "run", watcher=Stopping())
    budget = tmp_path / "run" / "homes" / "site-1" / "budget.json"
    right = budget.read_bytes()
    for wrong in (seen[0], right.replace(b'"steps":3', b'"steps":1'), b"{}", None):
        budget.unlink(missing_ok=True)
        if wrong is not None:
            assert wrong != right
            budget.write_bytes(wrong)
        with pytest.raises(BudgetError):
            simulate(study, tmp_path / "run", resume=True)
    budget.write_bytes(right)
    assert simulate(study, tmp_path / "run", resume=True).summary.is_file()


def test_a_sites_own_cap_is_asked_before_the_first_release(
    world: Any, toy_study: Callable[..., Any], tmp_path: Path
) -> None:
    study = toy_study(**PRIVATE, retries=0)
    with pytest.raises(RoundError, match="would exceed the privacy budget of this site"):
        _with_cap(study, tmp_path / "run", 3.0)
    ledger = entries(tmp_path / "run" / "homes" / "site-1" / "ledger.jsonl")
    assert not [entry for entry in ledger if entry["kind"] == "budget"]
    assert not [entry for entry in ledger if entry["message_type"] == "masked-vector"]


def _with_cap(study: Any, out: Path, most: float) -> None:
    """Run a study whose first site has a cap of its own, lower than what the study will spend."""
    from wardround.platform import opening

    real = opening.default_policy_toml

    def capped(role: Any, **more: Any) -> str:
        return real(role, **more).replace("[budget]", f"[budget]\nmaximum_epsilon = {most}", 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "default_policy_toml", capped)
        # The gate would refuse by the study's own figure first: here the cap over all studies is what is looked at.
        patch.setattr("wardround.privacy.egress_rules._check_budget", lambda *arguments: None)
        simulate(study, out)


def test_delta_must_suit_the_number_of_units(world: Any, toy_study: Callable[..., Any], tmp_path: Path) -> None:
    study = toy_study(**{**PRIVATE, "privacy": {"epsilon": 8.0, "delta": 0.05}})
    with pytest.raises(StudyFileError, match=r"delta = 0\.05 with 24 training units"):
        simulate(study, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_audit_is_recorded_in_the_dossier(world: Any, toy_study: Callable[..., Any], tmp_path: Path) -> None:
    run = simulate(toy_study(**PRIVATE), tmp_path / "run")
    settings = {"canaries": 100, "guesses": 30, "steps": 20, "sample_rate": 0.2}
    audit_run(run.root, divisor=4.0, **settings)
    assert dossier_from_json((run.root / "dossier.json").read_bytes()).audit is None
    found = audit_run(run.root, **settings)
    dossier = dossier_from_json((run.root / "dossier.json").read_bytes())
    assert dossier.audit == found.facts()
    assert json.loads((run.root / "privacy-audit.json").read_bytes()) == json.loads(msgspec.json.encode(found))
    assert "What attacks measured" in run.index.read_text()
