"""The round benchmark on a small study: its figures are of one run, and its bytes are those of the wire."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner
from wardround.platform import bench_round
from wardround.platform.cli.app import app

SMALL = {"rounds": 2, "images": 12, "width": 16}


def test_the_figures_fit_one_another() -> None:
    figures = bench_round.measure(**SMALL)
    assert (figures.method, figures.sites, figures.images, figures.width, figures.rounds) == ("facmic", 3, 12, 16, 1)
    assert figures.round_ms > figures.training_ms > 0
    assert figures.overhead_ratio == pytest.approx(figures.round_ms / figures.training_ms)
    # adapter 16 * 16 * 2 + 16 * 4, BatchNorm 32, loss 1: the vector, and what is said around it
    numbers = 2 * 16 * 16 + 4 * 16 + 2 * 16 + 1
    assert figures.bytes_up == pytest.approx(4 * numbers * figures.bytes_ratio)
    assert figures.bytes_up > 4 * numbers


def test_equal_seeds_draw_equal_features() -> None:
    one, other, another = (bench_round._drawn(12, 16, seed) for seed in (0, 0, 1))
    assert (one.sites[0].train.features == other.sites[0].train.features).all()
    assert (one.sites[0].train.features != another.sites[0].train.features).any()


def test_the_command_prints_them_for_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = bench_round.measure
    monkeypatch.setattr(bench_round, "measure", lambda: measure(**SMALL))
    result = CliRunner().invoke(app, ["bench", "round", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout).keys() == measure(**SMALL).as_dict().keys()
