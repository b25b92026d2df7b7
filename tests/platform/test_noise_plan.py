"""How much noise an epsilon needs: the study's own plan, at sites of every size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from wardround.platform.config import Study
from wardround.platform.errors import StudyFileError
from wardround.platform.noise_plan import bare_study, noise_plan
from wardround.platform.private_plan import plan_of
from wardround.platform.study_file import parse_study
from wardround.privacy.differential_privacy.accountant import epsilon_of
from wardround.privacy.differential_privacy.releases import Release


def study_of(method: str, **values: Any) -> Study:
    data = {"dataset": "brain-mri", "source": "phantoms"}
    return parse_study({"name": "plan", "method": method, "data": data, **values}, where=Path("study"))


def test_a_cell_is_the_plan_of_a_site_of_that_size() -> None:
    study = study_of("fedclip", rounds=3, training={"batch_size": 64})
    told: list[tuple[int, int]] = []
    planned = noise_plan(study, (8.0,), (40, 300), lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    assert (planned.rounds, planned.batch, planned.epochs, planned.delta) == (3, 64, 1, 1e-5)
    assert (planned.beside, planned.beside_epsilon, planned.problem) == ((), 0.0, "")
    private = study.model_copy(update={"privacy": study.privacy.model_copy(update={"epsilon": 8.0})})
    for cell, rate, steps, batch in zip(planned.cells, (1.0, 64 / 300), (3, 15), (40, 64), strict=True):
        assert cell.noise_multiplier == plan_of(private, cell.units).noise_multiplier
        assert cell.noise_to_signal == cell.noise_multiplier / batch
        assert (cell.sample_rate, cell.steps, cell.why) == (rate, steps, "")
        assert epsilon_of([Release("training", cell.noise_multiplier, rate, steps)], 1e-5) <= 8.0


def test_what_is_released_beside_gradients_is_listed_with_its_cost() -> None:
    privacy = {"epsilon": 4.0, "alignment": "per-record", "class_noise": 5.0}
    study = study_of("facmic", rounds=6, facmic={"normalisation": "layer"}, privacy=privacy)
    planned = noise_plan(study, (0.1, 8.0), (20,))
    assert [row.key for row in planned.beside] == ["class-sums", "fourier-1", "fourier-6"]
    assert planned.beside_epsilon == planned.beside[-1].epsilon_after
    assert [row.epsilon_after for row in planned.beside] == sorted(row.epsilon_after for row in planned.beside)
    assert all(
        row.cost == epsilon_of([release], 1e-5) for row, release in zip(planned.beside, _beside(study), strict=True)
    )
    none, some = planned.cells
    assert (none.noise_multiplier, none.noise_to_signal, none.steps) == (None, None, 6)
    assert "leaves nothing of epsilon 0.1" in none.why
    alone = noise_plan(study_of("fedclip", rounds=6), (8.0,), (20,)).cells[0]
    assert some.noise_multiplier is not None
    assert alone.noise_multiplier is not None
    assert some.noise_multiplier > alone.noise_multiplier  # a part of the epsilon is spent


def _beside(study: Study) -> list[Release]:
    return [release for _, _, release in plan_of(study, 1, noise_multiplier=1.0).beside]


def test_more_units_than_delta_allows_is_said_in_the_cell() -> None:
    cell = noise_plan(study_of("fedclip"), (8.0,), (200_000,)).cells[0]
    assert (cell.noise_multiplier, cell.steps) == (None, 0)
    assert cell.why.startswith("delta = 1e-05 with 200000 training units")


def test_the_bare_study_releases_gradients_alone() -> None:
    assert not bare_study().private
    assert noise_plan(bare_study(), (8.0,), (20,)).beside == ()


def test_a_study_that_cannot_be_private_says_why() -> None:
    assert "normalisation = 'layer'" in noise_plan(study_of("facmic"), (8.0,), (20,)).problem
    for method in ("pooled", "local-only", "zero-shot"):
        with pytest.raises(StudyFileError, match="nothing leaves a site"):
            noise_plan(study_of(method), (8.0,), (20,))
