"""The benchmark of the secure sum: that it measures the protocol it says, at a size where it takes no time."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner
from wardround.platform.bench_secure_aggregation import measure
from wardround.platform.cli.app import app
from wardround.platform.errors import PlatformError
from wardround.privacy.errors import ParameterError

KEYS = [
    "sites",
    "dim",
    "dropouts",
    "bits",
    "site_ms",
    "site_floor_ms",
    "site_ratio",
    "coordinator_ms",
    "coordinator_floor_ms",
    "coordinator_ratio",
    "round_ms",
    "bytes_up",
    "bytes_up_ratio",
    "max_error",
    "bit_exact",
]


@pytest.mark.parametrize(("sites", "dropouts"), [(3, 0), (3, 1), (8, 0), (8, 1), (8, 2), (16, 5)])
@pytest.mark.parametrize("bits", [32, 16, 10])
def test_the_sum_is_bit_exact_and_the_error_is_that_of_the_fixed_point(sites: int, dropouts: int, bits: int) -> None:
    figures = measure(sites, 999, dropouts, bits, repeats=1)
    assert figures.bit_exact
    step = 2.0**-20 if bits == 32 else 2.0**-6 / 2 ** (bits - 1) * 2
    assert figures.max_error <= (step / 2 if bits == 32 else step)
    for value in (figures.site_ms, figures.site_floor_ms, figures.coordinator_ms, figures.coordinator_floor_ms):
        assert value > 0
    assert figures.site_ratio == pytest.approx(figures.site_ms / figures.site_floor_ms)
    assert figures.round_ms > figures.site_ms + figures.coordinator_ms


def test_packed_bytes_are_the_ring_bits() -> None:
    full, packed = measure(8, 320_000, 0, 32, repeats=1), measure(8, 320_000, 0, 16, repeats=1)
    assert packed.bytes_up_ratio - full.bytes_up_ratio == pytest.approx((16 + 3) / 32 - 1, abs=1e-6)


def test_what_is_printed_for_scripts() -> None:
    done = CliRunner().invoke(
        app, ["bench", "secure-aggregation", "--sites", "4", "--dim", "500", "--dropouts", "1", "--json"]
    )
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert list(figures) == KEYS
    assert (figures["sites"], figures["dim"], figures["dropouts"], figures["bits"]) == (4, 500, 1, 32)


def test_a_table_for_people() -> None:
    done = CliRunner().invoke(app, ["bench", "secure-aggregation", "--sites", "3", "--dim", "500"])
    assert done.exit_code == 0, done.output
    for key in KEYS:
        assert key in done.output


def test_a_peer_gets_the_same_vectors_and_threshold() -> None:
    seen: list[object] = []

    def peer(vectors: list[np.ndarray], threshold: int) -> float:
        seen.extend([len(vectors), vectors[0].shape, threshold])
        return 1000.0

    figures = measure(5, 64, repeats=1, peer=peer)
    assert seen == [5, (64,), 4]
    assert figures.as_dict()["peer_ms"] == 1000.0
    assert figures.as_dict()["peer_ratio"] == pytest.approx(1000.0 / figures.round_ms)


@pytest.mark.parametrize("values", [(2, 10, 0), (3, 0, 0), (3, 10, 2), (8, 10, 3), (8, 10, -1)])
def test_what_cannot_be_measured_is_refused(values: tuple[int, int, int]) -> None:
    with pytest.raises(PlatformError) as refused:
        measure(*values, repeats=1)
    assert refused.value.remedy


def test_bits_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ParameterError, match="value bits"):
        measure(3, 10, 0, 30, repeats=1)
