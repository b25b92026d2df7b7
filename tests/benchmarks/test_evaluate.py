"""A report for a million predictions: that it is written, in at most 4 GB, is asserted; seconds are only printed.

Seconds are of the machine and decide nothing; memory is of the program. Run by `pytest -m slow -s`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROWS, CLASSES, A_PATIENT = 1_000_000, ("glioma", "meningioma", "notumor", "pituitary"), 4
MOST_GIGABYTES = 4.0
# In a process of its own, so that the peak is of the command and not of the tests before it.
MEASURED = """\
import json, resource, sys
from wardround.platform.cli.app import main
try:
    main()
except SystemExit as leaving:
    code = leaving.code or 0
else:
    code = 0
used = resource.getrusage(resource.RUSAGE_SELF)
peak = used.ru_maxrss * 1024 / 1e9  # Linux counts in units of 1024 bytes
print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime, "gigabytes": peak}), file=sys.stderr)
raise SystemExit(code)
"""


def write(path: Path) -> None:
    generator = np.random.default_rng(0)
    k = len(CLASSES)
    labels = np.repeat(generator.integers(0, k, ROWS // A_PATIENT), A_PATIENT)
    z = 1.5 * generator.normal(size=(ROWS, k)) + 2 * np.eye(k)[labels]
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    sexes = ("female", "male", "male", "female", "")
    with path.open("w", encoding="utf-8") as stream:
        stream.write(",".join(["label", *(f"prob_{name}" for name in CLASSES), "group", "site", "sex"]) + "\n")
        for i, (label, row) in enumerate(zip(labels.tolist(), p.tolist(), strict=True)):
            patient = i // A_PATIENT
            cells = ",".join(f"{value:.6f}" for value in row)
            stream.write(f"{CLASSES[label]},{cells},p{patient},site-{patient % 3},{sexes[patient % 5]}\n")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_million_predictions(tmp_path: Path) -> None:
    write(tmp_path / "million.csv")
    words = ["evaluate", "million.csv", "--subgroups", "sex", "--html", "report.html", "--json"]
    began = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, *words],
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "WARDROUND_DEBUG": "0"},
    )
    seconds = time.perf_counter() - began
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert (found["n"], found["figures"]["n_groups"]) == (ROWS, ROWS // A_PATIENT)
    assert (tmp_path / "report.html").stat().st_size > 10_000
    spent = {"seconds": seconds, **json.loads(ended.stderr.splitlines()[-1])}
    assert 0.1 < spent["gigabytes"] <= MOST_GIGABYTES
    sizes = {path.suffix[1:]: path.stat().st_size for path in tmp_path.glob("report.*")}
    print(json.dumps({**{key: round(value, 2) for key, value in spent.items()}, "bytes": sizes}))
