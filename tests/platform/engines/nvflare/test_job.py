"""The one job: the same bytes for everybody, two classes, nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from wardround.platform.engines.nvflare.job import app_files, job_files, write_job

NVFLARE = "wardround.platform.engines.nvflare"


def test_only_the_meta_file_knows_study_and_sites(tmp_path: Path) -> None:
    one, other = job_files(bytes(32), ["b", "a"]), job_files(bytes([1]) * 32, ["c"])
    assert {name for name in one if one[name] != other[name]} == {"meta.json"}
    assert {f"app/{name}": data for name, data in app_files().items()}.items() <= one.items()
    assert json.loads(one["meta.json"])["deploy_map"] == {"app": ["server", "a", "b"]}
    folder = write_job(tmp_path / "job", bytes(32), ["a", "b"])
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == one


def test_it_names_two_classes_without_arguments() -> None:
    text = b"".join(app_files().values()).decode()
    classes = [part for part in text.split('"') if part.startswith("wardround.")]
    assert sorted(classes) == [f"{NVFLARE}.controller.RelayController", f"{NVFLARE}.executor.RelayExecutor"]
    assert text.count('"args":{}') == 2
    assert ".py" not in text


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("job", ("torch", "nvflare")),
        ("courier", ("torch", "nvflare.fuel", "nvflare.private")),
        ("site_relay", ("torch", "nvflare.fuel", "nvflare.private")),
        ("executor", ("torch", "open_clip", "sklearn", "matplotlib")),
        ("controller", ("torch", "open_clip", "sklearn", "matplotlib")),
    ],
)
def test_what_each_process_imports_stays_small(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {NVFLARE}.{module}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
