"""What a network costs a round: three hospitals as processes over FLARE on loopback, and the study in one process.

Seconds are of the machine; on one with two cores the processes share them, as the sites of one process do. Run by
`pytest -m slow -s tests/benchmarks/test_consortium.py`.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nvflare")

from wardround.platform.service.consortium_demo import Demo, released
from wardround.platform.service.demo_view import Screen
from wardround.platform.simulation import simulate
from wardround.platform.study_file import load_study
from wardround.platform.watching import Silent

MOST_OVERHEAD = 1.5  # seconds a round, at three sites, with no other work on the machine
ROUNDS = 6
STUDY = f"""\
name = "overhead"
rounds = {ROUNDS}
[data]
dataset = "brain-mri"
source = "phantoms"
images_per_site = 240
[sites]
count = 3
[reference]
source = "class-means"
"""


class Clock(Silent):
    """When each round was over, its checkpoint included."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def round_done(self, record: Mapping[str, Any], total: int) -> None:
        self.ends.append(time.perf_counter())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_round_over_the_network_costs_little_more(tmp_path: Path) -> None:
    study = tmp_path / "overhead.toml"
    study.write_text(STUDY)
    with tempfile.TemporaryDirectory(prefix="wardround-bench-") as sockets:
        demo = Demo(tmp_path / "out", study, Screen(), Path(sockets))
        with demo.commands:
            demo.enrol()
            demo.finish(*demo.start())
    clock = Clock()
    alone = simulate(
        load_study(demo.consortium / "study.toml"), tmp_path / "alone", watcher=clock, cache=demo.out / "cache"
    )
    assert alone.adapter.read_bytes() == demo.run.adapter.read_bytes()
    network, process = (median(released(run.read_rounds())) for run in (demo.run, alone))
    wholes = steps(ends_of(demo.consortium / "logs" / "events.jsonl")), steps(clock.ends)
    print(
        f"\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians of {ROUNDS - 1} rounds in seconds"
        f"\nfrom start to release: {network:.2f} over FLARE, {process:.2f} in process, {network - process:+.2f}"
        f"\nfrom round to round, with cosigning: {wholes[0]:.2f} over FLARE, {wholes[1]:.2f} in process, "
        f"{wholes[0] - wholes[1]:+.2f}"
    )
    assert network - process <= MOST_OVERHEAD
    assert wholes[0] - wholes[1] <= MOST_OVERHEAD


def median(records: list[Mapping[str, Any]]) -> float:
    """Seconds of a round, the first left out."""
    return statistics.median(record["seconds"]["total"] for record in records[1:])


def steps(ends: list[float]) -> float:
    """Seconds from the end of a round to that of the next."""
    return statistics.median(after - before for before, after in itertools.pairwise(ends))


def ends_of(log: Path) -> list[float]:
    """When the coordinator had done each round."""
    events = [json.loads(line) for line in log.read_text().splitlines()]
    return [datetime.fromisoformat(each["time"]).timestamp() for each in events if each["event"] == "round-done"]
