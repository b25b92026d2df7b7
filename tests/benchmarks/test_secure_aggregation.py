"""The secure sum at its real size: what is exact is asserted, what is time is printed (`pytest -m slow -s`)."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

RUNS = [(3, 0, 32), (3, 1, 32), (8, 0, 32), (8, 1, 32), (8, 0, 16), (16, 0, 32), (16, 1, 32), (32, 0, 32), (32, 1, 32)]
LARGE = [(100, 0, 32), (100, 1, 32), (100, 10, 32)]


def bench(sites: int, dropouts: int, bits: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "wardround.platform.cli.app", "bench", "secure-aggregation", "--json"]
    options = ["--sites", str(sites), "--dropouts", str(dropouts), "--bits", str(bits)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=280, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    print(json.dumps({name: round(v, 3) if isinstance(v, float) and v > 1e-3 else v for name, v in figures.items()}))
    return figures


@pytest.mark.slow
@pytest.mark.parametrize(("sites", "dropouts", "bits"), RUNS + LARGE)
def test_the_sum_is_exact_and_the_upload_small(sites: int, dropouts: int, bits: int) -> None:
    figures = bench(sites, dropouts, bits)
    assert figures["bit_exact"]
    if bits == 32:
        assert figures["max_error"] <= 5e-7
        assert figures["bytes_up_ratio"] <= (1.01 if sites <= 32 else 1.03)
    else:
        assert figures["bytes_up_ratio"] <= 0.60
