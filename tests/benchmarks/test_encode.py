"""Encoding for size: memory over 10,000 images is asserted; seconds and shares of one run are only printed.

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
from PIL import Image

MOST_GROWTH_MB = 64.0  # from 2,000 to 10,000 images, above the rows of the table; what a decoder leaves behind varies
MOST_INDEX_GROWTH_MB = 64.0  # over 100,000 files; it is the database's pages and a few batches
# In a process of its own, so that the memory is of this work and not of the tests before it.
ENCODE = """\
import json, sys, time
from pathlib import Path
from wardround.platform.backbone import load_backbone
from wardround.platform.bench_encode import Memory, draw_files, read_all
from wardround.platform.features import default_workers, encode
root, images, threads = Path(sys.argv[1]), int(sys.argv[2]), default_workers()
paths = draw_files(root / "images", images, 224, 0)
backbone, memory = load_backbone(), Memory()
began, computed = time.perf_counter(), time.process_time()
table = encode(paths, backbone, cache=root / "cache", progress=memory.watch)
seconds, busy = time.perf_counter() - began, time.process_time() - computed
jpegs = [path for path in paths if path.suffix == ".jpg"]
began = time.perf_counter()
read_all(jpegs[:2000], threads)
print(json.dumps({
    "images": len(table.kept), "images_per_second": images / seconds, "cpu_share": busy / (seconds * threads),
    "at_a_fifth_mb": memory.base, "growth_mb": memory.growth, "rows_mb": table.features.nbytes / 1e6,
    "reader_images_per_second": len(jpegs[:2000]) / (time.perf_counter() - began),
}))
"""
INDEX = """\
import json, sys, time
from pathlib import Path
from wardround.medical_datasets.catalog import find_dataset, list_images, load_cohort
from wardround.medical_datasets.index import Index
from wardround.medical_datasets.listing import Wanted
from wardround.medical_datasets.reading import each
from wardround.platform.bench_encode import resident_mb
root = Path(sys.argv[1])
found = {}
began = time.perf_counter()
listing = list_images(find_dataset("brain-mri"), Wanted(root / "images"))
images = [item.image(listing.root) for item in listing.items]
found["list_s"] = time.perf_counter() - began
before = resident_mb()
with Index.open(root / "index") as index:
    for name in ("check_header", "content_hash"):
        began = time.perf_counter()
        answered = sum(not isinstance(answer, Exception) for answer in each(images, getattr(index, name)))
        index.flush()
        found[f"{name}_s"] = time.perf_counter() - began
        assert answered == len(images)
    growth = resident_mb() - before
    began = time.perf_counter()
    # Near-duplicates are grouped by pixels, which are read again each time.
    records = len(load_cohort("brain-mri", root / "images", reader=index).records)
    found["cohort_s"] = time.perf_counter() - began
    assert records == len(images)
    kept = index.counts()
print(json.dumps(found | {
    "images": len(images), "kept": kept.contents, "growth_mb": growth, "file_mb": kept.size / 1e6,
}))
"""


def measured(program: str, *words: object) -> dict[str, float]:
    ended = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True, timeout=1200, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    found: dict[str, float] = json.loads(ended.stdout)
    print(f"\n{os.cpu_count()} cores: " + ", ".join(f"{name} {value:.3g}" for name, value in found.items()))
    return found


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_memory_is_flat_over_ten_thousand_images(tmp_path: Path) -> None:
    found = measured(ENCODE, tmp_path, 10_000)
    assert found["images"] == 10_000
    assert found["growth_mb"] <= found["rows_mb"] + MOST_GROWTH_MB


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_a_hundred_thousand_files_are_indexed_once(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(100_000):
        folder = tmp_path / "images" / "Training" / ("glioma", "meningioma", "notumor", "pituitary")[number % 4]
        if number < 4:
            folder.mkdir(parents=True)
        coarse = Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8))
        coarse.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{number:06d}.jpg")
    time.sleep(2.1)  # an index keeps nothing of younger files
    first, second = measured(INDEX, tmp_path), measured(INDEX, tmp_path)
    for found in (first, second):
        assert found["images"] == found["kept"] == 100_000
        assert found["growth_mb"] <= MOST_INDEX_GROWTH_MB
    asked = ("check_header_s", "content_hash_s")
    total = [sum(found[name] for name in asked) for found in (first, second)]
    print(f"asked first {total[0]:.1f} s, again {total[1]:.1f} s: {total[0] / total[1]:.1f} times as fast")
