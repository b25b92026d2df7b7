"""The peer's round is a true round: its aggregate is the mean, and nothing is timed without it."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from wardround.platform.bench_flower import LARGEST_ERROR, STEP, measure_flower
from wardround.platform.errors import PlatformError


def draw(n: int, d: int) -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(7)
    return [generator.uniform(-8, 8, d).astype(np.float32) for _ in range(n)]


def need_flower() -> None:
    pytest.importorskip(
        "flwr", reason="Flower's round is not measured: flwr is missing; pip install 'wardround[bench]'"
    )


@pytest.mark.parametrize(("n", "threshold"), [(3, 2), (4, 3)])
def test_a_round_gives_the_mean(n: int, threshold: int) -> None:
    need_flower()
    measured = measure_flower(draw(n, 1000), threshold=threshold, repeats=2)
    assert measured.milliseconds > 0
    # Independent vectors cannot all be on the grid: an error of nothing would be a comparison with itself.
    assert 0.05 * STEP < measured.max_error <= LARGEST_ERROR
    assert measured.version == sys.modules["flwr"].__version__


def test_flowers_log_is_silent_and_put_back(capfd: pytest.CaptureFixture[str]) -> None:
    need_flower()
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        measure_flower(draw(3, 10), threshold=2)
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(before)
    assert capfd.readouterr() == ("", "")


def test_a_wrong_aggregate_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    need_flower()
    monkeypatch.setattr("wardround.platform.bench_flower.LARGEST_ERROR", 0.01 * STEP)
    with pytest.raises(PlatformError, match="away from the mean"):
        measure_flower(draw(3, 100), threshold=2)


def test_a_round_that_flower_halts_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    need_flower()
    from flwr.server.workflow import SecAggPlusWorkflow

    monkeypatch.setattr(SecAggPlusWorkflow, "unmask_stage", lambda *_: False)
    with pytest.raises(PlatformError, match="given up"):
        measure_flower(draw(3, 100), threshold=2)


def test_without_flower_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flwr", None)
    with pytest.raises(PlatformError, match="flwr") as refused:
        measure_flower(draw(3, 10), threshold=2)
    assert refused.value.remedy == "pip install 'wardround[bench]'"


@pytest.mark.parametrize(("n", "threshold", "repeats"), [(2, 2, 1), (3, 1, 1), (3, 3, 1), (3, 2, 0)])
def test_senseless_rounds_are_refused(n: int, threshold: int, repeats: int) -> None:
    with pytest.raises(PlatformError, match="cannot run SecAgg"):
        measure_flower(draw(n, 4), threshold=threshold, repeats=repeats)


@pytest.mark.parametrize(
    "odd",
    [
        np.zeros(4),
        np.zeros(5, dtype=np.float32),
        np.zeros((4, 1), dtype=np.float32),
        np.array([0, 0, np.nan, 0], dtype=np.float32),
        np.array([0, 0, 8.5, 0], dtype=np.float32),
    ],
    ids=["float64", "longer", "matrix", "nan", "clipped"],
)
def test_a_vector_that_would_come_out_wrong_is_refused(odd: NDArray[np.float32]) -> None:
    with pytest.raises(PlatformError) as refused:
        measure_flower([*draw(2, 4), odd], threshold=2)
    assert refused.value.where == "site 2"
